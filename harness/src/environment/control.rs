//! What can be done to a part of an environment from outside: end it, freeze it, bring it back at the same address.

use std::time::Duration;

use async_trait::async_trait;

/// A process (with its descendants) or a container. Every call but `terminate` and `alive` returns how many processes
/// were seen to change state; zero means that nothing happened.
#[async_trait]
pub trait Control: Send + Sync {
    /// SIGKILL to the whole tree; returns when it is gone.
    async fn kill(&self) -> anyhow::Result<u64>;
    /// Freezes the whole tree: connections stay open and nobody answers.
    async fn pause(&self) -> anyhow::Result<u64>;
    /// Ends a pause.
    async fn resume(&self) -> anyhow::Result<u64>;
    /// Starts it again with the same arguments, data and address; returns when it listens. An error when it runs.
    async fn start(&self) -> anyhow::Result<u64>;
    /// Asks it to end (SIGTERM, or the service's own quick form) and waits `grace`; false when it is still there.
    async fn terminate(&self, grace: Duration) -> anyhow::Result<bool>;
    async fn alive(&self) -> bool;
    /// Makes memory scarce: what the main process uses now becomes this share of what it may, in percent.
    async fn press_memory(&self, _percent: u32) -> anyhow::Result<u64> {
        anyhow::bail!("its memory cannot be limited from here")
    }
    /// Ends that.
    async fn release_memory(&self) -> anyhow::Result<u64> {
        anyhow::bail!("its memory cannot be limited from here")
    }
    /// Pid of the main process on this machine; `None` for containers and for what does not run.
    fn pid(&self) -> Option<i32> {
        None
    }
    /// The first processes, as this machine counts, of all that works for it: the service's own, and for a container
    /// also the engine's forwarder of its port and its file system where those are processes.
    async fn host_pids(&self) -> Vec<i32> {
        self.pid().into_iter().collect()
    }
}
