//! Which step follows from what was seen. Pure: state, facts and time in, change out.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Error, Plan};
use crate::migration::rollout::plan::OnFailure;
use crate::migration::strategy::{Health, MigrationPhase};

/// Whether it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Steps are taken and watched.
    Running,
    /// Until somebody says `advance`: the last step was good.
    Waiting,
    /// Until somebody says `advance`: the last step was not good and was taken back.
    Paused,
    /// Off for everybody.
    RolledBack,
    /// Over.
    Complete,
}

impl Status {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Running, Self::Waiting, Self::Paused, Self::RolledBack, Self::Complete];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::RolledBack => "rolled_back",
            Self::Complete => "complete",
        }
    }
}

/// A step that is being watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// To how many of a hundred; 0 for the canary users.
    pub to: u8,
    /// Since when.
    pub began: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
}

/// A rollout as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// What it is to do.
    pub plan: Plan,
    /// What is done.
    pub phase: MigrationPhase,
    /// Whether it moves.
    pub status: Status,
    /// Why it does not, or what it waits for; empty when there is nothing to say.
    pub reason: String,
    /// What is being watched.
    pub step: Option<Step>,
}

/// What happens to the flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlagChange {
    /// Nothing.
    Keep,
    /// On for these users in any case, and for no others so.
    Users(Vec<String>),
    /// On for so many of a hundred.
    Percentage(u8),
    /// Off for everybody.
    Off,
}

/// A change of a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What it is then.
    pub next: Rollout,
    /// What happens to the flag at the same time.
    pub flag: FlagChange,
    /// What it is called in the history.
    pub event: &'static str,
}

/// What is known about the service.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// How those do whom the flag is on for; before the first step, those whom it is off for.
    pub health: Health,
    /// A migration of the plan that is not in place.
    pub missing: Option<String>,
}

/// The word of a phase.
pub const fn word(phase: MigrationPhase) -> &'static str {
    match phase {
        MigrationPhase::Deploy => "deploy",
        MigrationPhase::Migrate => "migrate",
        MigrationPhase::Canary => "canary",
        MigrationPhase::Rollout { .. } => "rollout",
        MigrationPhase::Cleanup => "cleanup",
        MigrationPhase::Complete => "complete",
    }
}

/// The percentage that a phase has reached.
pub const fn percentage(phase: MigrationPhase) -> u8 {
    match phase {
        MigrationPhase::Rollout { percentage } => percentage,
        MigrationPhase::Cleanup | MigrationPhase::Complete => 100,
        MigrationPhase::Deploy | MigrationPhase::Migrate | MigrationPhase::Canary => 0,
    }
}

/// The phase of a word and a percentage.
pub fn phase_of(word: &str, percentage: u8) -> Option<MigrationPhase> {
    Some(match word {
        "deploy" => MigrationPhase::Deploy,
        "migrate" => MigrationPhase::Migrate,
        "canary" => MigrationPhase::Canary,
        "rollout" => MigrationPhase::Rollout { percentage },
        "cleanup" => MigrationPhase::Cleanup,
        "complete" => MigrationPhase::Complete,
        _ => return None,
    })
}

impl Rollout {
    /// At its beginning, with the flag off.
    pub fn start(plan: Plan) -> Change {
        let status = if plan.manual { Status::Waiting } else { Status::Running };
        let next = Self { plan, phase: MigrationPhase::Deploy, status, reason: String::new(), step: None };
        Change { next, flag: FlagChange::Off, event: "started" }
    }

    /// Whether a look needs to know how the service does.
    pub fn needs_health(&self) -> bool {
        self.status == Status::Running && (self.step.is_some() || self.phase == MigrationPhase::Migrate)
    }

    /// What follows from a look at the service; `None` when nothing does yet.
    pub fn look(&self, seen: &Seen, now: DateTime<Utc>) -> Option<Change> {
        if self.status != Status::Running {
            return None;
        }
        match (self.phase, self.step) {
            (MigrationPhase::Deploy, _) => Some(self.reached(MigrationPhase::Migrate, "deployed")),
            (MigrationPhase::Migrate, _) => self.migrated(seen),
            (MigrationPhase::Canary | MigrationPhase::Rollout { .. }, Some(step)) => {
                self.watched(step, seen, now)
            }
            (MigrationPhase::Canary, None) if self.plan.canary_users.is_empty() => {
                Some(self.reached(MigrationPhase::Rollout { percentage: 0 }, "canary_left_out"))
            }
            (MigrationPhase::Canary, None) => {
                let flag = FlagChange::Users(self.plan.canary_users.clone());
                Some(self.begun(0, self.plan.canary_watch, flag, "canary_began", now))
            }
            (MigrationPhase::Rollout { percentage }, None) => {
                let next = self.plan.step_after(percentage)?;
                let flag = FlagChange::Percentage(next.percentage);
                Some(self.begun(next.percentage, next.watch, flag, "step_began", now))
            }
            (MigrationPhase::Cleanup | MigrationPhase::Complete, _) => None,
        }
    }

    /// Goes on, where it waits for that.
    ///
    /// # Errors
    /// When it does not wait.
    pub fn advance(&self) -> Result<Change, Error> {
        let (phase, status) = match (self.status, self.phase) {
            (Status::Waiting, MigrationPhase::Cleanup) => (MigrationPhase::Complete, Status::Complete),
            (Status::Waiting | Status::Paused, phase) => (phase, Status::Running),
            (Status::Running, _) => {
                return Err(Error::refused("it is running: it goes on by itself when the step was watched"));
            }
            (Status::RolledBack, _) => return Err(Error::refused("it was rolled back: start it again")),
            (Status::Complete, _) => return Err(Error::refused("it is complete")),
        };
        let event = if phase == MigrationPhase::Complete { "completed" } else { "advanced" };
        let next = Self { phase, status, reason: String::new(), step: None, ..self.clone() };
        Ok(Change { next, flag: FlagChange::Keep, event })
    }

    /// Off for everybody, whatever is going on. Can be repeated.
    ///
    /// # Errors
    /// When the old code may be gone, unless it is forced.
    pub fn rollback(&self, reason: &str, force: bool) -> Result<Change, Error> {
        if matches!(self.phase, MigrationPhase::Cleanup | MigrationPhase::Complete) && !force {
            return Err(Error::refused(format!(
                "it is in {}: the old code may be gone; --force (\"force\": true) turns the flag off all the same",
                word(self.phase)
            )));
        }
        Ok(self.off(reason.to_owned()))
    }

    fn off(&self, reason: String) -> Change {
        let (phase, status) = (MigrationPhase::Deploy, Status::RolledBack);
        let next = Self { phase, status, reason, step: None, ..self.clone() };
        Change { next, flag: FlagChange::Off, event: "rolled_back" }
    }

    fn reached(&self, phase: MigrationPhase, event: &'static str) -> Change {
        // The last one is a change of the code, which nobody here can see.
        let waits = self.plan.manual || phase == MigrationPhase::Cleanup;
        let status = if waits { Status::Waiting } else { Status::Running };
        let next = Self { phase, status, reason: String::new(), step: None, ..self.clone() };
        Change { next, flag: FlagChange::Keep, event }
    }

    fn begun(
        &self,
        to: u8,
        watch: std::time::Duration,
        flag: FlagChange,
        event: &'static str,
        now: DateTime<Utc>,
    ) -> Change {
        let watch = TimeDelta::from_std(watch).unwrap_or(TimeDelta::MAX);
        let until = now.checked_add_signed(watch).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let step = Some(Step { to, began: now, until });
        Change { next: Self { step, reason: String::new(), ..self.clone() }, flag, event }
    }

    /// Says what it waits for, once.
    fn told(&self, reason: String) -> Option<Change> {
        let next = Self { reason, ..self.clone() };
        (next.reason != self.reason).then_some(Change { next, flag: FlagChange::Keep, event: "waits" })
    }

    fn migrated(&self, seen: &Seen) -> Option<Change> {
        if let Some(missing) = &seen.missing {
            return Some(self.failed(format!("Database migration is not applied: {missing}")));
        }
        match &seen.health {
            // Who begins while it burns cannot tell the feature's fire from the old one.
            Health::Unhealthy { .. } => Some(self.failed(failure("migrate", &seen.health))),
            Health::Unknown => self.told(self.too_few("with the flag off")),
            Health::Healthy => Some(self.reached(MigrationPhase::Canary, "migrated")),
        }
    }

    fn watched(&self, step: Step, seen: &Seen, now: DateTime<Utc>) -> Option<Change> {
        let name = if self.phase == MigrationPhase::Canary {
            "canary".to_owned()
        } else {
            format!("rollout_{}%", step.to)
        };
        match &seen.health {
            Health::Unhealthy { .. } => Some(self.failed(failure(&name, &seen.health))),
            Health::Healthy | Health::Unknown if now < step.until => None,
            Health::Healthy => Some(match self.phase {
                MigrationPhase::Canary => {
                    self.reached(MigrationPhase::Rollout { percentage: 0 }, "canary_passed")
                }
                _ if step.to >= 100 => self.reached(MigrationPhase::Cleanup, "step_passed"),
                _ => self.reached(MigrationPhase::Rollout { percentage: step.to }, "step_passed"),
            }),
            Health::Unknown => {
                let patience = TimeDelta::from_std(self.plan.patience).unwrap_or(TimeDelta::MAX);
                let late = step.until.checked_add_signed(patience).is_some_and(|end| now >= end);
                if late {
                    Some(self.failed(failure(&name, &seen.health)))
                } else {
                    self.told(self.too_few("with the flag on"))
                }
            }
        }
    }

    fn too_few(&self, of_whom: &str) -> String {
        format!("waits for at least {} requests {of_whom}", self.plan.samples_min)
    }

    /// What a step turned on is off again.
    fn failed(&self, reason: String) -> Change {
        if self.plan.on_failure == OnFailure::Rollback {
            return self.off(reason);
        }
        let flag = match (self.phase, self.step) {
            (_, None) => FlagChange::Keep,
            (MigrationPhase::Rollout { percentage }, Some(_)) => FlagChange::Percentage(percentage),
            (_, Some(_)) => FlagChange::Users(Vec::new()),
        };
        let next = Self { status: Status::Paused, reason, step: None, ..self.clone() };
        Change { next, flag, event: "paused" }
    }
}

fn failure(phase: &str, health: &Health) -> String {
    let why = match health {
        Health::Unhealthy { metric, value, threshold } => {
            format!("{metric} is {value:.4}, allowed is {threshold:.4}")
        }
        Health::Unknown | Health::Healthy => "too few requests to judge".to_owned(),
    };
    format!("Health check failed in phase: {phase}: {why}")
}
