//! What a run concludes, and the exit code that says so. What could not run is never a pass.

use serde::{Deserialize, Serialize};

/// How one criterion came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result", content = "reason")]
pub enum Outcome {
    Pass,
    Fail,
    /// It ran, and the facts do not decide it.
    Inconclusive(String),
    /// It needs more than this run was asked to give (a leak verdict needs ten minutes); does not spoil a pass.
    NotJudged(String),
    /// It did not run.
    NotRun(String),
}

/// What a criterion is about; decides the exit code when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Safety: nothing acknowledged is lost, nothing happens twice. Exit 1.
    Invariant,
    /// Service level, degraded behaviour inside a fault window, recovery budget, leak, slow-down. Exit 2.
    Slo,
    /// Whether the run can be judged at all: the rate was reached, each fault bit, neighbours were quiet. Exit 3.
    Validity,
    /// Nothing of the run is left behind. Exit 5.
    Residue,
}

/// One line of the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Criterion {
    /// Stable, lower case: `no-acked-write-lost`, `p95`, `achieved-rate`, `evidence redis-refused`.
    pub name: String,
    pub kind: Kind,
    pub outcome: Outcome,
    /// One sentence with the figures: what was found and what was wanted.
    pub detail: String,
    /// Further lines that prove a failure (operations, samples), bounded by the writer.
    pub proof: Vec<String>,
}

/// The conclusion of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Valid,
    InvariantViolated,
    SloMissed,
    Inconclusive,
    NotRun,
    Residue,
}

impl Verdict {
    /// The worst criterion decides: a violated invariant, then residue, then a missed SLO, then what is inconclusive
    /// or did not run. No criteria at all is `NotRun`.
    pub fn of(criteria: &[Criterion]) -> Verdict {
        let failed = |kind| criteria.iter().any(|c| c.kind == kind && c.outcome == Outcome::Fail);
        if failed(Kind::Invariant) {
            Verdict::InvariantViolated
        } else if failed(Kind::Residue) {
            Verdict::Residue
        } else if failed(Kind::Validity)
            || criteria
                .iter()
                .any(|c| matches!(c.outcome, Outcome::Inconclusive(_)) && c.kind == Kind::Validity)
        {
            Verdict::Inconclusive
        } else if failed(Kind::Slo) {
            Verdict::SloMissed
        } else if criteria.iter().any(|c| matches!(c.outcome, Outcome::Inconclusive(_))) {
            Verdict::Inconclusive
        } else if criteria.is_empty() || criteria.iter().any(|c| matches!(c.outcome, Outcome::NotRun(_))) {
            Verdict::NotRun
        } else {
            Verdict::Valid
        }
    }

    /// Exit code of the process: 0 valid, 1 invariant violated, 2 SLO or recovery budget missed, 3 inconclusive or not
    /// run, 4 bad file (never a verdict: see `cli`), 5 residue.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Valid => 0,
            Verdict::InvariantViolated => 1,
            Verdict::SloMissed => 2,
            Verdict::Inconclusive | Verdict::NotRun => 3,
            Verdict::Residue => 5,
        }
    }

    /// The verdict as a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Verdict::Valid => "valid: every invariant held and every objective was met",
            Verdict::InvariantViolated => "invalid: an invariant was violated",
            Verdict::SloMissed => "missed: an objective or a recovery budget was not met",
            Verdict::Inconclusive => "inconclusive: the run cannot be judged",
            Verdict::NotRun => "not run: a part that was asked for did not run",
            Verdict::Residue => "residue: something of the run was left behind",
        }
    }
}

/// Exit code for a scenario, profile or configuration file that cannot be used.
pub const EXIT_BAD_FILE: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn criterion(kind: Kind, outcome: Outcome) -> Criterion {
        Criterion { name: "x".into(), kind, outcome, detail: String::new(), proof: vec![] }
    }

    #[test]
    fn nothing_checked_is_not_a_pass() {
        assert_eq!(Verdict::of(&[]), Verdict::NotRun);
    }

    #[test]
    fn a_lost_write_outweighs_everything() {
        let criteria = [
            criterion(Kind::Slo, Outcome::Fail),
            criterion(Kind::Validity, Outcome::Fail),
            criterion(Kind::Invariant, Outcome::Fail),
        ];
        assert_eq!(Verdict::of(&criteria), Verdict::InvariantViolated);
        assert_eq!(Verdict::of(&criteria[..2]), Verdict::Inconclusive);
        assert_eq!(Verdict::of(&criteria[..1]), Verdict::SloMissed);
    }

    #[test]
    fn not_run_never_passes_and_not_judged_does_not_spoil() {
        let pass = criterion(Kind::Slo, Outcome::Pass);
        assert_eq!(
            Verdict::of(&[pass.clone(), criterion(Kind::Slo, Outcome::NotRun("no engine".into()))]),
            Verdict::NotRun
        );
        assert_eq!(
            Verdict::of(&[pass, criterion(Kind::Slo, Outcome::NotJudged("needs 10 min".into()))]),
            Verdict::Valid
        );
    }
}
