//! A child process that can be killed, frozen and started again, and that never outlives the harness.
//!
//! Children are made by one thread that lives as long as the harness, because PR_SET_PDEATHSIG is bound to the thread
//! that forked. Each child is in the run's ledger with its start time before anything is asked of it, and has a process
//! group of its own, so that Ctrl-C on the terminal reaches the harness alone.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use chaos::fault::memory::Pressure;
use chaos::fault::process::ProcessHandle;
use chaos::ledger::Holding;
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::account::Account;
use crate::environment::{Control, log_tail, wait};
use crate::run::Run;

const GONE_WITHIN: Duration = Duration::from_secs(5);
const LISTENS_WITHIN: Duration = Duration::from_secs(30);

/// How to start a program.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// The word for it in the ledger and in messages.
    pub role: String,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(String, OsString)>,
    pub folder: PathBuf,
    /// Standard output; appended to.
    pub log: PathBuf,
    /// Standard error, when it has a file of its own.
    pub error_log: Option<PathBuf>,
    /// Who it runs as, when not as the harness.
    pub account: Option<Account>,
    /// The signal that asks it to end soon.
    pub stop_signal: Signal,
}

/// A launched program.
pub(crate) struct Supervised {
    run: Run,
    launch: Launch,
    /// Where it listens; `None` for programs that run to their end.
    address: Option<SocketAddr>,
    current: Mutex<Option<Current>>,
    pressure: Mutex<Option<Pressure>>,
}

#[derive(Clone)]
struct Current {
    handle: ProcessHandle,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Supervised {
    pub fn spawn(run: &Run, launch: Launch, address: Option<SocketAddr>) -> anyhow::Result<Supervised> {
        let (run, current, pressure) = (run.clone(), Mutex::new(None), Mutex::new(None));
        let supervised = Supervised { run, launch, address, current, pressure };
        supervised.spawn_again()?;
        Ok(supervised)
    }

    fn spawn_again(&self) -> anyhow::Result<()> {
        let mut child = spawn_on_thread(command(&self.launch)?)
            .with_context(|| format!("run {}", self.launch.program.display()))?;
        let pid = i32::try_from(child.id()).context("pid out of range")?;
        // The child cannot have been reaped yet, so its start time is there even if it has already ended.
        let handle = ProcessHandle::of(pid).context("read the start time of the child")?;
        let holding = self.holding(handle);
        if let Err(error) = self.run.ledger().open(holding.clone()) {
            // Unknown to the ledger it must not live; the ledger's error says why the start failed.
            report(handle.kill_tree());
            return Err(error).context("write the ledger");
        }
        let (sender, exit) = watch::channel(None);
        let run = self.run.clone();
        std::thread::Builder::new().name(format!("wait {}", self.launch.role)).spawn(move || match child
            .wait()
        {
            Ok(status) => {
                if let Err(error) = run.ledger().close(holding) {
                    tracing::warn!("process {pid} ended and its ledger entry stays open: {error}");
                }
                sender.send_replace(Some(status));
            }
            Err(error) => tracing::warn!("wait for process {pid}: {error}"),
        })?;
        *self.current.lock() = Some(Current { handle, exit });
        Ok(())
    }

    fn holding(&self, handle: ProcessHandle) -> Holding {
        Holding::Process { pid: handle.pid, start_ticks: handle.start_ticks, role: self.launch.role.clone() }
    }

    fn current(&self) -> anyhow::Result<Current> {
        self.current.lock().clone().with_context(|| format!("{} was never started", self.launch.role))
    }

    /// Waits for its end; `None` when `within` is over first.
    pub async fn ended(&self, within: Duration) -> Option<ExitStatus> {
        let mut exit = self.current.lock().as_ref()?.exit.clone();
        let status = tokio::time::timeout(within, exit.wait_for(Option::is_some)).await.ok()?.ok()?;
        *status
    }

    /// Ends the tree at once; for destructors.
    pub fn kill_now(&self) {
        if let Some(current) = &*self.current.lock()
            && current.exit.borrow().is_none()
        {
            report(current.handle.kill_tree());
            current.handle.wait_gone(GONE_WITHIN);
        }
    }

    fn running(&self) -> bool {
        self.current.lock().as_ref().is_some_and(|current| current.exit.borrow().is_none())
    }

    /// Waits for its first accepted connection; the error has the end of its log.
    pub async fn wait_until_it_listens(&self) -> anyhow::Result<()> {
        let Some(address) = self.address else { return Ok(()) };
        let listens = wait::until(LISTENS_WITHIN, Duration::from_millis(10), || async {
            if !self.running() {
                return Ok(false);
            }
            tokio::net::TcpStream::connect(address).await.map(|_| true).map_err(|error| error.to_string())
        })
        .await;
        match listens {
            Ok(true) => Ok(()),
            Ok(false) => bail!("{} ended at once{}", self.launch.role, log_tail(&self.launch.log, 15)),
            Err(last) => bail!("{} does not listen on {address}: {last}", self.launch.role),
        }
    }
}

#[async_trait]
impl Control for Supervised {
    async fn kill(&self) -> anyhow::Result<u64> {
        let current = self.current()?;
        let killed = tokio::task::spawn_blocking(move || current.handle.kill_tree()).await??;
        if self.ended(GONE_WITHIN).await.is_none() {
            bail!("{} (pid {}) survived SIGKILL", self.launch.role, current.handle.pid);
        }
        Ok(killed)
    }

    async fn pause(&self) -> anyhow::Result<u64> {
        let current = self.current()?;
        Ok(tokio::task::spawn_blocking(move || current.handle.stop_tree()).await??)
    }

    async fn resume(&self) -> anyhow::Result<u64> {
        let current = self.current()?;
        Ok(tokio::task::spawn_blocking(move || current.handle.continue_tree()).await??)
    }

    async fn start(&self) -> anyhow::Result<u64> {
        if self.running() {
            bail!("{} is running", self.launch.role);
        }
        self.spawn_again()?;
        self.wait_until_it_listens().await?;
        Ok(1)
    }

    async fn terminate(&self, grace: Duration) -> anyhow::Result<bool> {
        let current = self.current()?;
        if !self.running() {
            return Ok(true);
        }
        let stop_signal = self.launch.stop_signal;
        let asked = tokio::task::spawn_blocking(move || {
            // What is frozen cannot handle a signal.
            current.handle.continue_tree()?;
            current.handle.signal(stop_signal)
        });
        asked.await??;
        Ok(self.ended(grace).await.is_some())
    }

    async fn alive(&self) -> bool {
        self.running()
    }

    async fn press_memory(&self, percent: u32) -> anyhow::Result<u64> {
        let current = self.current()?;
        let pressure = Pressure::on(current.handle, percent)?;
        let (used, limit, role) = (pressure.used, pressure.limit, &self.launch.role);
        tracing::info!("{role} uses {used} of {limit} bytes that its data may take now");
        *self.pressure.lock() = Some(pressure);
        Ok(1)
    }

    async fn release_memory(&self) -> anyhow::Result<u64> {
        let pressure = self.pressure.lock().take();
        let pressure =
            pressure.with_context(|| format!("the memory of {} is not scarce", self.launch.role))?;
        pressure.release()?;
        Ok(1)
    }

    fn pid(&self) -> Option<i32> {
        self.current.lock().as_ref().filter(|current| current.exit.borrow().is_none()).map(|c| c.handle.pid)
    }
}

/// For callers that have no one to return an error to.
fn report(killed: Result<u64, chaos::fault::process::Error>) {
    if let Err(error) = killed {
        tracing::warn!("kill a process tree: {error}");
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.kill_now();
    }
}

fn command(launch: &Launch) -> anyhow::Result<Command> {
    let append = |path: &PathBuf| {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        OpenOptions::new().create(true).append(true).open(path)
    };
    let log = append(&launch.log).with_context(|| format!("open {}", launch.log.display()))?;
    let error_log = match &launch.error_log {
        Some(path) => append(path).with_context(|| format!("open {}", path.display()))?,
        None => log.try_clone()?,
    };
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.arguments)
        .envs(launch.environment.iter().map(|(key, value)| (key, value)))
        .current_dir(&launch.folder)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(error_log)
        .process_group(0);
    if let Some(account) = &launch.account {
        command.uid(account.uid).gid(account.gid);
    }
    let harness = std::process::id();
    let die_with_harness = move || {
        // SAFETY: prctl with these arguments touches only the calling process's own attribute.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        // The harness may have died before the line above.
        if std::os::unix::process::parent_id() != harness {
            return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: the closure makes two system calls and does not allocate, so it is safe between fork and exec. It runs
    // after the change of user, which would clear the attribute.
    unsafe { command.pre_exec(die_with_harness) };
    Ok(command)
}

type Spawn = (Command, mpsc::SyncSender<std::io::Result<Child>>);

fn spawn_on_thread(command: Command) -> anyhow::Result<Child> {
    static SPAWNER: OnceLock<Option<mpsc::Sender<Spawn>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Spawn>();
        let thread = std::thread::Builder::new().name("spawner".into()).spawn(move || {
            for (mut command, answer) in requests {
                // The asker waits for the answer; it is gone only when its thread is.
                drop(answer.send(command.spawn()));
            }
        });
        thread.ok().map(|_| sender)
    });
    let (answer, child) = mpsc::sync_channel(1);
    spawner.as_ref().context("no thread for starting processes")?.send((command, answer))?;
    Ok(child.recv().context("the thread that starts processes is gone")??)
}
