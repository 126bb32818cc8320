//! `GET /events`: what happens on the proxies as server-sent events, one JSON object each, until the client goes.
//!
//! A client that reads too slowly loses the oldest events and is told how many (`event: missed`); nothing waits for it.
//! Without news a comment is sent now and then, so that both sides notice a connection that is dead.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::reply::Reply;
use crate::proxy::{Event, Registry};

/// Longest silence.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The stream ends with `cancel`.
pub(super) fn reply(registry: &Registry, cancel: &CancellationToken) -> Reply {
    // Subscribed here: what happens after the answer's first byte is not missed.
    let reader = Reader { events: registry.events(), cancel: cancel.clone() };
    let texts = stream::unfold((true, reader), |(first, mut reader)| async move {
        let text = if first { ": listening\n\n".to_owned() } else { reader.next().await? };
        Some((Ok(Frame::data(Bytes::from(text))), (false, reader)))
    });
    Reply::event_stream(StreamBody::new(texts).boxed_unsync())
}

struct Reader {
    events: Receiver<Event>,
    cancel: CancellationToken,
}

impl Reader {
    async fn next(&mut self) -> Option<String> {
        let news = self.cancel.run_until_cancelled(timeout(KEEP_ALIVE, self.events.recv())).await?;
        match news {
            Ok(Ok(event)) => text(&event),
            Ok(Err(RecvError::Lagged(count))) => {
                Some(format!("event: missed\ndata: {{\"missed\":{count}}}\n\n"))
            }
            Ok(Err(RecvError::Closed)) => None,
            Err(_) => Some(": nothing new\n\n".to_owned()),
        }
    }
}

/// The event under its name; its JSON is one line.
fn text(event: &Event) -> Option<String> {
    let json = serde_json::to_value(event).ok()?;
    let name = json.get("event")?.as_str()?;
    Some(format!("event: {name}\ndata: {json}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::event::{How, What};

    #[test]
    fn an_event_is_its_name_and_one_line_of_json() {
        let what = What::Ended { how: How::Reset, bytes_upstream: 54, bytes_downstream: 5, lasted_us: 217 };
        let event = Event { at_us: 1_700_000_000_000_000, proxy: "redis".into(), connection: Some(3), what };
        let wanted = "event: ended\ndata: {\"at_us\":1700000000000000,\"proxy\":\"redis\",\"connection\":3,\
            \"event\":\"ended\",\"how\":\"reset\",\"bytes_upstream\":54,\"bytes_downstream\":5,\"lasted_us\":217}\n\n";
        assert_eq!(text(&event).as_deref(), Some(wanted));
    }
}
