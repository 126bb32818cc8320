//! Turns many loads of single keys into few loads of many.
//!
//! Promises: keys that are asked for within [`WINDOW`] of the first of them go to the batch function together, at most
//! [`BATCH_SIZE`] a call, and a full batch goes at once. A key is asked for once: who asks for it again waits for, or
//! has, the same answer, also when that is "there is none". A batch that fails, panics or is cancelled ends for all who
//! wait for it and is not remembered; one that nobody waits for any more is dropped.
//! A loader belongs to one request: it never forgets by itself, and what it holds was read with the caller's rights.

pub mod metrics;
mod window;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use self::metrics::LoaderSeries;

/// Keys of one call of the batch function, at most.
pub const BATCH_SIZE: usize = 100;

/// How long a batch that is not full waits for further keys.
pub const WINDOW: Duration = Duration::from_micros(100);

/// Why a key could not be loaded. Loading it again asks again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error<E> {
    /// The batch function failed.
    #[error("could not load a batch")]
    Batch(#[source] E),
    /// The batch function panicked, or the runtime is being shut down.
    #[error("a batch was given up before it was loaded")]
    GivenUp,
}

type Found<K, V> = Arc<HashMap<K, V>>;
/// Empty until the batch is loaded; closed without a result when it never will be.
type Answer<K, V, E> = watch::Receiver<Option<Result<Found<K, V>, E>>>;
type BatchFn<K, V, E> = dyn Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, E>> + Send + Sync;

/// A loader of `V` by `K` for one request. Clones share everything.
pub struct DataLoader<K, V, E = Infallible> {
    loader: Arc<Loader<K, V, E>>,
}

struct Loader<K, V, E> {
    batch_fn: Arc<BatchFn<K, V, E>>,
    state: Mutex<State<K, V, E>>,
    series: LoaderSeries,
}

struct State<K, V, E> {
    slots: HashMap<K, Slot<K, V, E>>,
    open: Option<Open<K, V, E>>,
    batches: u64,
}

/// Where the answer to a key is, or will be.
struct Slot<K, V, E> {
    batch: u64,
    answer: Answer<K, V, E>,
}

/// The batch that collects keys.
struct Open<K, V, E> {
    batch: u64,
    keys: Vec<K>,
    answer: Answer<K, V, E>,
    full: oneshot::Sender<Vec<K>>,
}

impl<K, V> DataLoader<K, V>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A loader whose batch function answers those keys that it finds, and cannot fail.
    pub fn new<F, Fut>(batch_fn: F) -> Self
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = HashMap<K, V>> + Send + 'static,
    {
        Self::fallible(move |keys| batch_fn(keys).map(Ok))
    }

    /// The value of a key, `None` where there is none.
    ///
    /// # Panics
    /// When the batch function did: "there is none" would be a lie.
    pub async fn load(&self, key: K) -> Option<V> {
        certain(self.try_load(key).await)
    }

    /// The values of several keys, in their order.
    ///
    /// # Panics
    /// As [`load`](Self::load).
    pub async fn load_many(&self, keys: impl IntoIterator<Item = K>) -> Vec<Option<V>> {
        certain(self.try_load_many(keys).await)
    }
}

fn certain<T>(result: Result<T, Error<Infallible>>) -> T {
    match result {
        Ok(value) => value,
        Err(Error::Batch(never)) => match never {},
        Err(Error::GivenUp) => panic!("the batch function of a loader panicked"),
    }
}

impl<K, V, E> DataLoader<K, V, E>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// A loader whose batch function may fail, which all who wait for the batch are told.
    pub fn fallible<F, Fut>(batch_fn: F) -> Self
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<HashMap<K, V>, E>> + Send + 'static,
    {
        let batch_fn = Arc::new(move |keys| batch_fn(keys).boxed());
        let state = Mutex::new(State { slots: HashMap::new(), open: None, batches: 0 });
        Self { loader: Arc::new(Loader { batch_fn, state, series: LoaderSeries::default() }) }
    }

    /// The same loader, empty, which counts into `series`.
    pub fn counted(self, series: LoaderSeries) -> Self {
        let batch_fn = self.loader.batch_fn.clone();
        let state = Mutex::new(State { slots: HashMap::new(), open: None, batches: 0 });
        Self { loader: Arc::new(Loader { batch_fn, state, series }) }
    }

    /// The value of a key, `None` where there is none.
    ///
    /// # Errors
    /// [`Error`] when its batch was not loaded.
    pub async fn try_load(&self, key: K) -> Result<Option<V>, Error<E>> {
        let mut answer = self.loader.ask(&key);
        read(&mut answer, &key).await
    }

    /// The values of several keys, in their order.
    ///
    /// # Errors
    /// [`Error`] when one of their batches was not loaded.
    pub async fn try_load_many(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<V>>, Error<E>> {
        let asked: Vec<_> = keys.into_iter().map(|key| (self.loader.ask(&key), key)).collect();
        let mut values = Vec::with_capacity(asked.len());
        for (mut answer, key) in asked {
            values.push(read(&mut answer, &key).await?);
        }
        Ok(values)
    }

    /// Forgets all answers, so that a later load asks again. Who waits already still gets an answer.
    #[expect(clippy::unused_async, reason = "callers await it, and a shared cache behind it would wait")]
    pub async fn clear(&self) {
        let mut state = self.loader.state.lock();
        // A batch that still collects will ask after this, so its answers are as good as new ones.
        let open = state.open.as_ref().map(|open| open.batch);
        self.loader.retain(&mut state, |slot| Some(slot.batch) == open);
    }

    /// Keys that the loader holds, asked for or answered.
    pub fn len(&self) -> usize {
        self.loader.state.lock().slots.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

async fn read<K: Hash + Eq, V: Clone, E: Clone>(
    answer: &mut Answer<K, V, E>,
    key: &K,
) -> Result<Option<V>, Error<E>> {
    match answer.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(Ok(found))) => Ok(found.get(key).cloned()),
        Ok(Some(Err(error))) => Err(Error::Batch(error.clone())),
        Ok(None) | Err(_) => Err(Error::GivenUp),
    }
}

impl<K, V, E> Loader<K, V, E>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    fn ask(self: &Arc<Self>, key: &K) -> Answer<K, V, E> {
        let mut state = self.state.lock();
        if let Some(slot) = state.slots.get(key) {
            return slot.answer.clone();
        }
        let (mut open, task) = match state.open.take() {
            Some(open) => (open, None),
            None => {
                state.batches += 1;
                let (open, task) = self.open(state.batches);
                (open, Some(task))
            }
        };
        open.keys.push(key.clone());
        let (batch, answer) = (open.batch, open.answer.clone());
        state.slots.insert(key.clone(), Slot { batch, answer: answer.clone() });
        self.series.entries.inc();
        if open.keys.len() < BATCH_SIZE {
            state.open = Some(open);
        } else {
            // Refused only where the task is gone, and then whoever waits for it is told so.
            drop(open.full.send(open.keys));
        }
        drop(state);
        if let Some((batch, when_full)) = task {
            // Not under the lock: a runtime that is being shut down drops the task at once, which takes the lock.
            tokio::spawn(batch.run(when_full));
        }
        answer
    }

    /// A new batch, with the task that will load it.
    #[expect(clippy::type_complexity, reason = "the two ends of one batch, named nowhere else")]
    fn open(self: &Arc<Self>, number: u64) -> (Open<K, V, E>, (Batch<K, V, E>, oneshot::Receiver<Vec<K>>)) {
        let (sender, answer) = watch::channel(None);
        let (full, when_full) = oneshot::channel();
        let batch = Batch { loader: Arc::downgrade(self), number, sender };
        (Open { batch: number, keys: Vec::new(), answer, full }, (batch, when_full))
    }

    fn retain(&self, state: &mut State<K, V, E>, keep: impl Fn(&Slot<K, V, E>) -> bool) {
        let before = state.slots.len();
        state.slots.retain(|_, slot| keep(slot));
        self.series.entries.dec_by((before - state.slots.len()) as i64);
    }
}

/// The task of one batch. Unless it ends with an answer, its keys can be asked for again.
struct Batch<K, V, E>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Weak, so that a loader that is dropped drops what it asked for.
    loader: Weak<Loader<K, V, E>>,
    number: u64,
    sender: watch::Sender<Option<Result<Found<K, V>, E>>>,
}

impl<K, V, E> Batch<K, V, E>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    async fn run(self, mut when_full: oneshot::Receiver<Vec<K>>) {
        let full = tokio::select! {
            biased;
            full = &mut when_full => full.ok(),
            () = window::pass(WINDOW) => None,
        };
        let keys = match full.or_else(|| self.close()) {
            Some(keys) => keys,
            // It became full in the last moment, or the loader is gone.
            None => match when_full.await {
                Ok(keys) => keys,
                Err(_) => return,
            },
        };
        let Some(call) = self.call(keys) else { return };
        let result = tokio::select! {
            result = call => result,
            () = self.sender.closed() => return,
        };
        if result.is_err() {
            self.forget();
        }
        self.sender.send_replace(Some(result.map(Arc::new)));
    }

    /// Ends the collecting, unless the batch is full.
    fn close(&self) -> Option<Vec<K>> {
        let loader = self.loader.upgrade()?;
        let open = loader.state.lock().open.take_if(|open| open.batch == self.number)?;
        Some(open.keys)
    }

    fn call(&self, keys: Vec<K>) -> Option<BoxFuture<'static, Result<HashMap<K, V>, E>>> {
        let loader = self.loader.upgrade()?;
        loader.series.batches.inc();
        loader.series.keys.inc_by(keys.len() as u64);
        Some((loader.batch_fn)(keys))
    }

    fn forget(&self) {
        if let Some(loader) = self.loader.upgrade() {
            let mut state = loader.state.lock();
            state.open.take_if(|open| open.batch == self.number);
            loader.retain(&mut state, |slot| slot.batch != self.number);
        }
    }
}

impl<K, V, E> Drop for Batch<K, V, E>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        // Before the sender is dropped, so that nobody finds a batch that will never be loaded.
        if self.sender.borrow().is_none() {
            self.forget();
        }
    }
}

impl<K, V, E> Drop for Loader<K, V, E> {
    fn drop(&mut self) {
        self.series.entries.dec_by(self.state.get_mut().slots.len() as i64);
    }
}

impl<K, V, E> Clone for DataLoader<K, V, E> {
    fn clone(&self) -> Self {
        Self { loader: self.loader.clone() }
    }
}

impl<K, V, E> fmt::Debug for DataLoader<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataLoader").field("keys", &self.loader.state.lock().slots.len()).finish()
    }
}

#[cfg(test)]
mod tests;
