//! Waiting for a condition with a deadline, keeping the last reason why it did not hold.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Asks `check` every `step` until it gives a value. Each ask is itself cut at two seconds, so that a silent peer does
/// not eat the deadline; the error is the last reason.
pub(crate) async fn until<T, F, Fut>(within: Duration, step: Duration, mut check: F) -> Result<T, String>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + within;
    loop {
        let last = match tokio::time::timeout(Duration::from_secs(2), check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => reason,
            Err(_) => "no answer within 2 s".to_owned(),
        };
        if Instant::now() + step > deadline {
            return Err(last);
        }
        tokio::time::sleep(step).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_reason_is_kept_when_time_is_up() {
        let mut asked = 0;
        let result: Result<(), String> = until(Duration::from_secs(1), Duration::from_millis(100), || {
            asked += 1;
            let reason = format!("try {asked}");
            async move { Err(reason) }
        })
        .await;
        assert_eq!(result, Err("try 11".to_owned()));
    }
}
