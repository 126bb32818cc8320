//! Loaders with batch functions that count, fail, panic and hang.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use proptest::prelude::*;

use super::metrics::LoaderMetrics;
use super::*;
use crate::observability::metrics::Metrics;

type Calls = Arc<Mutex<Vec<Vec<u32>>>>;

/// Finds twice the key for keys that are even.
fn double(keys: &[u32]) -> HashMap<u32, u32> {
    keys.iter().filter(|key| *key % 2 == 0).map(|key| (*key, key * 2)).collect()
}

fn found(key: u32) -> Option<u32> {
    key.is_multiple_of(2).then_some(key * 2)
}

fn counting() -> (DataLoader<u32, u32>, Calls) {
    let calls = Calls::default();
    let told = calls.clone();
    let loader = DataLoader::new(move |keys: Vec<u32>| {
        let found = double(&keys);
        told.lock().push(keys);
        async { found }
    });
    (loader, calls)
}

/// Fails, panics or hangs as long as it is told to.
fn failing(fails: impl Fn() -> bool + Send + Sync + 'static, how: How) -> DataLoader<u32, u32, &'static str> {
    let fails = Arc::new(fails);
    DataLoader::fallible(move |keys: Vec<u32>| {
        let fails = fails.clone();
        async move {
            match how {
                How::Fail if fails() => Err("no"),
                How::Panic if fails() => panic!("a defect in a batch function"),
                How::Hang if fails() => std::future::pending().await,
                _ => Ok(double(&keys)),
            }
        }
    })
}

#[derive(Clone, Copy)]
enum How {
    Fail,
    Panic,
    Hang,
}

/// True once.
fn once() -> impl Fn() -> bool + Send + Sync {
    let first = AtomicBool::new(true);
    move || first.swap(false, Ordering::Relaxed)
}

#[tokio::test]
async fn the_first_load_of_a_key_has_its_value() {
    let (loader, _) = counting();
    assert_eq!(loader.load(4).await, Some(8));
    assert_eq!(loader.load(5).await, None);
}

#[tokio::test]
async fn so_many_loads_at_once_are_three_calls() {
    let (loader, calls) = counting();
    let values = join_all((0..250).map(|key| loader.load(key))).await;
    assert_eq!(values, (0..250).map(found).collect::<Vec<_>>());
    let sizes: Vec<_> = calls.lock().iter().map(Vec::len).collect();
    assert_eq!(sizes, [100, 100, 50]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn loads_from_many_threads_get_each_their_value_and_no_call_is_too_large() {
    let (loader, calls) = counting();
    let loads = (0..1_000).map(|n| {
        let loader = loader.clone();
        tokio::spawn(async move { (n, loader.load(n % 500).await) })
    });
    for load in join_all(loads).await {
        let (n, value) = load.expect("no panic");
        assert_eq!(value, found(n % 500));
    }
    let mut asked: Vec<_> = calls.lock().concat();
    assert!(calls.lock().iter().all(|keys| keys.len() <= BATCH_SIZE));
    asked.sort_unstable();
    assert_eq!(asked, (0..500).collect::<Vec<_>>(), "each key is asked for once");
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_does_not_wait_for_the_window_and_another_does() {
    let (loader, calls) = counting();
    let start = tokio::time::Instant::now();
    loader.load_many(0..100).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    loader.load(100).await;
    let waited = start.elapsed();
    assert!(waited >= WINDOW && waited <= Duration::from_millis(2), "{waited:?}");
    assert_eq!(calls.lock().len(), 2);
}

#[tokio::test]
async fn a_key_is_asked_for_once_also_when_there_is_no_value() {
    let (loader, calls) = counting();
    assert_eq!(loader.load_many([2, 3, 2, 3]).await, [Some(4), None, Some(4), None]);
    let twin = loader.clone();
    assert_eq!((twin.load(2).await, twin.load(3).await), (Some(4), None));
    assert_eq!(*calls.lock(), [[2, 3]]);
    assert_eq!(loader.len(), 2);
}

#[tokio::test]
async fn after_clear_a_key_is_asked_for_again() {
    let (loader, calls) = counting();
    loader.load(2).await;
    loader.clear().await;
    assert!(loader.is_empty());
    loader.load(2).await;
    assert_eq!(*calls.lock(), [[2], [2]]);
}

#[tokio::test]
async fn what_is_loaded_before_clear_reaches_who_waited_and_nobody_else() {
    let (asked, gate) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let (tell, wait) = (asked.clone(), gate.clone());
    let answers = Arc::new(Mutex::new(vec!["new", "old"]));
    let loader = DataLoader::new(move |keys: Vec<u32>| {
        let answer = answers.lock().pop().expect("two calls");
        tell.add_permits(1);
        let wait = wait.clone();
        async move {
            wait.acquire().await.expect("open").forget();
            keys.into_iter().map(|key| (key, answer)).collect()
        }
    });
    let waiting = tokio::spawn({
        let loader = loader.clone();
        async move { loader.load(1).await }
    });
    asked.acquire().await.expect("open").forget();
    loader.clear().await;
    let later = tokio::spawn({
        let loader = loader.clone();
        async move { loader.load(1).await }
    });
    asked.acquire().await.expect("open").forget();
    gate.add_permits(2);
    assert_eq!(waiting.await.expect("no panic"), Some("old"));
    assert_eq!(later.await.expect("no panic"), Some("new"));
    assert_eq!(loader.load(1).await, Some("new"), "the old answer did not come back");
}

#[tokio::test]
async fn a_failure_is_told_to_all_of_its_batch_and_not_remembered() {
    let loader = failing(once(), How::Fail);
    for result in join_all((0..10).map(|key| loader.try_load(key))).await {
        assert_eq!(result, Err(Error::Batch("no")));
    }
    assert!(loader.is_empty());
    assert_eq!(loader.try_load_many([2, 3]).await, Ok(vec![Some(4), None]));
}

#[tokio::test]
async fn a_panic_lets_nobody_wait_and_is_not_remembered() {
    let loader = failing(once(), How::Panic);
    for result in join_all((0..10).map(|key| loader.try_load(key))).await {
        assert_eq!(result, Err(Error::GivenUp));
    }
    assert!(loader.is_empty());
    assert_eq!(loader.try_load(2).await, Ok(Some(4)));
}

#[tokio::test]
async fn a_plain_load_passes_the_panic_on() {
    let loader: DataLoader<u32, u32> = DataLoader::new(|_| async { panic!("a defect in a batch function") });
    let load = tokio::spawn(async move { loader.load(1).await });
    assert!(load.await.expect_err("not None").is_panic());
}

#[test]
fn a_runtime_that_ends_lets_nobody_wait() {
    let loader = failing(|| true, How::Hang);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let handle = runtime.handle().clone();
    let waiting = {
        let _entered = handle.enter();
        let mut load = Box::pin(loader.try_load(1));
        assert!(load.as_mut().now_or_never().is_none(), "it hangs");
        runtime.shutdown_background();
        futures::executor::block_on(load)
    };
    assert_eq!(waiting, Err(Error::GivenUp));
    // No task runs any more, and asking again must not hang either.
    let _entered = handle.enter();
    assert_eq!(futures::executor::block_on(loader.try_load(1)), Err(Error::GivenUp));
}

#[tokio::test]
async fn a_batch_that_nobody_waits_for_is_dropped() {
    let dropped = Arc::new(tokio::sync::Notify::new());
    struct Tells(Arc<tokio::sync::Notify>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (tells, begun) = (dropped.clone(), Arc::new(tokio::sync::Notify::new()));
    let begins = begun.clone();
    let loader: DataLoader<u32, u32> = DataLoader::new(move |_| {
        let (tells, begins) = (Tells(tells.clone()), begins.clone());
        async move {
            let _tells = tells;
            begins.notify_one();
            std::future::pending().await
        }
    });
    tokio::select! {
        _ = loader.load(1) => panic!("it hangs"),
        () = begun.notified() => {}
    }
    drop(loader);
    tokio::time::timeout(Duration::from_secs(10), dropped.notified()).await.expect("it is dropped");
}

#[tokio::test]
async fn the_gauge_shows_what_live_loaders_hold() {
    let metrics = Metrics::new();
    let series = metrics.area(LoaderMetrics::register).loader("users");
    let (first, second) = (counting().0.counted(series.clone()), counting().0.counted(series.clone()));
    first.load_many(0..150).await;
    second.load_many(0..10).await;
    let text = metrics.classic();
    for line in [
        "dataloader_cache_entries{loader=\"users\"} 160",
        "dataloader_batches_total{loader=\"users\"} 3",
        "dataloader_keys_total{loader=\"users\"} 160",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is missing:\n{text}");
    }
    first.clear().await;
    assert_eq!(series.entries.get(), 10);
    drop(second);
    assert_eq!(series.entries.get(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Rounds of loads at a time, with a clear between some of them: values are right, and within a stretch without
    /// a clear each key is asked for once, in as few calls as fit.
    #[test]
    fn each_key_is_asked_for_once_in_full_batches(
        rounds in proptest::collection::vec((proptest::collection::vec(0..400_u32, 0..300), any::<bool>()), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let (loader, calls) = counting();
            let mut held = BTreeSet::new();
            for (keys, clear) in rounds {
                calls.lock().clear();
                let values = join_all(keys.iter().map(|key| loader.load(*key))).await;
                assert_eq!(values, keys.iter().map(|key| found(*key)).collect::<Vec<_>>());
                let new: BTreeSet<_> = keys.into_iter().filter(|key| !held.contains(key)).collect();
                let mut asked = calls.lock().concat();
                asked.sort_unstable();
                assert_eq!(asked, new.iter().copied().collect::<Vec<_>>());
                assert_eq!(calls.lock().len(), new.len().div_ceil(BATCH_SIZE));
                held.extend(new);
                assert_eq!(loader.len(), held.len());
                if clear {
                    loader.clear().await;
                    held.clear();
                }
            }
        });
    }
}
