//! Acts a plan of faults out: in the ledger first, injected on time, healed, and checked from outside that it is gone.
//!
//! A fault heals when its time is over, when the run is cancelled, and when anything here is dropped. What could not be
//! injected or healed is in the result, never passed over.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use chaos::fault::Evidence;
use chaos::history::{FaultPhase, FaultRecord};
use chaos::ledger::Holding;
use chaos::proxy::LinkFault;
use tokio::time::Instant;

use super::rollout::Rollout;
use super::timeline::{Act, Plan};
use super::{Fault, Inject};
use crate::environment::link::{Acting, Link};
use crate::environment::stub::Stub;
use crate::environment::{Control, Environment, ServiceName};
use crate::observe::Recorder;
use crate::run::Run;

/// How long a healed link or process may take until it answers a connection again.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// What became of one act.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// Index into [`Plan::acts`].
    pub act: usize,
    /// On the run's clock; `None`: the run ended before its time came, or it could not be injected.
    pub injected_ns: Option<u64>,
    pub healed_ns: Option<u64>,
    pub verified_gone: bool,
    pub evidence: Evidence,
    /// False where nobody counts: the evidence then says nothing.
    pub counted: bool,
    /// What went wrong while injecting, healing or verifying.
    pub trouble: Option<String>,
}

/// Acts the plan out; times count from `start`. Returns when the last fault is healed or the run is cancelled.
pub async fn act_out(
    run: &Run,
    environment: &Environment,
    recorder: &Recorder,
    plan: &Plan,
    start: Instant,
) -> Vec<Done> {
    let acts = plan.acts.iter().enumerate().map(|(index, act)| async move {
        let stage = Stage { run, environment, recorder, act };
        stage.play(index, start).await
    });
    futures::future::join_all(acts).await
}

/// One act and what it needs.
struct Stage<'a> {
    run: &'a Run,
    environment: &'a Environment,
    recorder: &'a Recorder,
    act: &'a Act,
}

/// A fault that acts now. Dropping it heals the network kinds; a process that was stopped or killed is brought back by
/// [`Stage::heal`], and at the latest removed with the environment.
enum Active {
    OnLink(Acting),
    Process {
        control: Arc<dyn Control>,
        touched: u64,
    },
    Rollout(Rollout),
    /// The schedule of the load has it: from this time on.
    Surge {
        since_ns: u64,
    },
    /// A stand-in fails; it had failed so often before.
    OnStub {
        stub: Arc<Stub>,
        before: u64,
    },
}

impl Stage<'_> {
    async fn play(&self, index: usize, start: Instant) -> Done {
        let mut done = Done {
            act: index,
            injected_ns: None,
            healed_ns: None,
            verified_gone: false,
            evidence: Evidence::default(),
            counted: true,
            trouble: None,
        };
        if !self.wait_until(start + self.act.inject).await {
            done.trouble = Some("the run ended before its time came".into());
            return done;
        }
        if let Err(error) = self.perform(start, &mut done).await {
            done.trouble = Some(format!("{error:#}"));
        }
        done
    }

    async fn perform(&self, start: Instant, done: &mut Done) -> anyhow::Result<()> {
        self.run.ledger().open(self.holding()).context("write the fault into the ledger")?;
        // A fault acts from here on: a SIGTERM begins the drain, and this call returns when that is over.
        let began_ns = self.run.now_ns();
        let active = match self.inject().await {
            Ok(active) => active,
            Err(error) => {
                self.run.ledger().close(self.holding()).context("write into the ledger")?;
                return Err(error.context("inject"));
            }
        };
        done.injected_ns = Some(began_ns);
        let evidence = active.evidence(self.recorder).await.context("read the evidence")?;
        self.record(FaultPhase::Injected, evidence);
        done.counted = active.counts();
        self.wait_until(start + self.act.heal).await;
        done.evidence = self.heal(active).await.context("heal")?;
        done.healed_ns = Some(self.run.now_ns());
        self.record(FaultPhase::Healed, done.evidence);
        self.verify_gone().await.context("verify that it is gone")?;
        self.record(FaultPhase::VerifiedGone, done.evidence);
        done.verified_gone = true;
        self.run.ledger().close(self.holding()).context("write into the ledger")
    }

    async fn inject(&self) -> anyhow::Result<Active> {
        match &self.fault().inject {
            Inject::Network(fault) => self.strike(&LinkFault::Network(fault.clone())).await,
            Inject::Wire(fault) => self.strike(&LinkFault::Wire(fault.clone())).await,
            Inject::Kill => {
                let control = self.control()?;
                let touched = control.kill().await?;
                Ok(Active::Process { control, touched })
            }
            Inject::Pause => {
                let control = self.control()?;
                let touched = control.pause().await?;
                Ok(Active::Process { control, touched })
            }
            Inject::Surge { .. } => Ok(Active::Surge { since_ns: self.run.now_ns() }),
            Inject::Memory { used_percent } => {
                let control = self.control()?;
                let touched = control.press_memory(*used_percent).await?;
                Ok(Active::Process { control, touched })
            }
            Inject::Answer { status, at_once } => {
                let stub = self.stub()?;
                let before = stub.calls().failed;
                if *at_once {
                    stub.fail_together(*status, Instant::now() + (self.act.heal - self.act.inject));
                } else {
                    stub.fail_with(Some(*status));
                }
                Ok(Active::OnStub { stub, before })
            }
            Inject::Rollout { plan } => {
                let server = self.environment.server().base_url();
                Ok(Active::Rollout(Rollout::start(&server, self.run.seed(), plan).await?))
            }
            Inject::Terminate { grace } => {
                let control = self.control()?;
                if !control.terminate(*grace).await? {
                    bail!("it ignored SIGTERM for {}", humantime::format_duration(*grace));
                }
                Ok(Active::Process { control, touched: 1 })
            }
        }
    }

    async fn strike(&self, fault: &LinkFault) -> anyhow::Result<Active> {
        Ok(Active::OnLink(self.link()?.inject(fault).await?))
    }

    async fn heal(&self, active: Active) -> anyhow::Result<Evidence> {
        match active {
            Active::OnLink(acting) => acting.heal().await,
            Active::Surge { .. } => active.evidence(self.recorder).await,
            Active::OnStub { ref stub, .. } => {
                stub.fail_with(None);
                active.evidence(self.recorder).await
            }
            Active::Rollout(rollout) => rollout.ended().await,
            Active::Process { control, touched } => {
                match self.fault().inject {
                    Inject::Pause => control.resume().await?,
                    Inject::Memory { .. } => control.release_memory().await?,
                    _ => control.start().await?,
                };
                Ok(Evidence { processes: touched, ..Evidence::default() })
            }
        }
    }

    /// From outside: the link takes connections and holds no fault of ours, the process is there.
    async fn verify_gone(&self) -> anyhow::Result<()> {
        match &self.fault().inject {
            Inject::Network(_) | Inject::Wire(_) => {
                let healed = tokio::time::timeout(GONE_WITHIN, self.link()?.verify_healed());
                healed.await.context("it took too long")?
            }
            // A rollout's end was its healing.
            Inject::Surge { .. } | Inject::Answer { .. } | Inject::Rollout { .. } => Ok(()),
            Inject::Kill | Inject::Pause | Inject::Memory { .. } | Inject::Terminate { .. } => {
                let alive = self.control()?.alive().await;
                alive.then_some(()).ok_or_else(|| anyhow!("{} is not running", self.fault().target))
            }
        }
    }

    fn link(&self) -> anyhow::Result<&Link> {
        let target = &self.fault().target;
        let service = ServiceName::ALL.into_iter().find(|name| name.as_str() == target);
        let service = service.ok_or_else(|| anyhow!("no link leads to `{target}`"))?;
        Ok(self.environment.link(service))
    }

    fn stub(&self) -> anyhow::Result<Arc<Stub>> {
        let target = &self.fault().target;
        self.environment.stub(target).ok_or_else(|| anyhow!("nobody stands in for `{target}`"))
    }

    fn control(&self) -> anyhow::Result<Arc<dyn Control>> {
        let target = &self.fault().target;
        self.environment.control(target).ok_or_else(|| {
            anyhow!("`{target}` was not started by this run: a process fault cannot act on it")
        })
    }

    fn fault(&self) -> &Fault {
        &self.act.fault
    }

    fn holding(&self) -> Holding {
        Holding::Fault {
            id: self.act.id.clone(),
            kind: self.fault().inject.kind().into(),
            target: self.fault().target.clone(),
        }
    }

    fn record(&self, phase: FaultPhase, evidence: Evidence) {
        self.recorder.fault(FaultRecord {
            id: self.act.id.clone(),
            kind: self.fault().inject.kind().into(),
            target: self.fault().target.clone(),
            phase,
            evidence,
        });
    }

    /// False when the run was cancelled first.
    async fn wait_until(&self, at: Instant) -> bool {
        tokio::select! {
            () = self.run.cancel().cancelled() => false,
            () = tokio::time::sleep_until(at) => true,
        }
    }
}

impl Active {
    fn counts(&self) -> bool {
        match self {
            Active::OnLink(acting) => acting.counts(),
            Active::Process { .. } | Active::Surge { .. } | Active::OnStub { .. } | Active::Rollout(_) => {
                true
            }
        }
    }

    async fn evidence(&self, recorder: &Recorder) -> anyhow::Result<Evidence> {
        match self {
            Active::OnStub { stub, before } => {
                let acted = stub.calls().failed.saturating_sub(*before);
                Ok(Evidence { acted, matched: acted, ..Evidence::default() })
            }
            Active::Surge { since_ns } => {
                let mut found = Evidence::default();
                for second in recorder.windows().iter().filter(|second| second.end_ns() > *since_ns) {
                    found.arrivals += second.started + second.dropped;
                    found.refused += second.classes.iter().map(|class| class.fail).sum::<u64>();
                }
                Ok(found)
            }
            Active::OnLink(acting) => acting.evidence().await,
            Active::Rollout(rollout) => rollout.evidence().await,
            Active::Process { touched, .. } => Ok(Evidence { processes: *touched, ..Evidence::default() }),
        }
    }
}
