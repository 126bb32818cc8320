//! The report of a run, made of its evidence. Pure but for the host's description.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::judge;
use super::runner::{Evidence, Job};
use super::timeline::Act;
use crate::load;
use crate::observe::latency::{Latencies, quantile_ms};
use crate::observe::recorder::Second;
use crate::report::{
    ANOMALIES_MAX, AnomalyReport, ClassFigures, EnvironmentInfo, FaultReport, HealthChange, Host,
    LoadFigures, Objectives, RunInfo, RunReport, SCHEMA, SecondPoint, ServiceInfo,
};
use crate::run::Run;
use crate::verdict::Verdict;

const SECOND_NS: u64 = 1_000_000_000;

/// Everything that a person or a tool is told about the run; `started` is RFC 3339.
pub fn report(run: &Run, job: &Job, evidence: &Evidence, started: String) -> RunReport {
    let began_ns = evidence.load.as_ref().map_or(0, |load| load.started_ns);
    let axis = Axis { began_ns };
    let (anomalies, anomalies_omitted) = anomalies(evidence, began_ns);
    RunReport {
        schema: SCHEMA.into(),
        run: RunInfo {
            id: run.id().into(),
            title: job.title.clone(),
            why: job.why.clone(),
            command: job.command.clone(),
            seed: run.seed(),
            started,
            duration_s: run.now_ns() as f64 / 1e9,
            host: host(),
        },
        environment: environment(evidence),
        verdict: Verdict::of(&evidence.criteria),
        criteria: evidence.criteria.clone(),
        load: load_figures(job, evidence),
        classes: classes(&evidence.windows),
        seconds: axis.seconds(job, &evidence.windows),
        samples: axis.samples(&evidence.samples),
        health: axis.health(&evidence.health),
        faults: evidence
            .done
            .iter()
            .filter(|done| done.injected_ns.is_some())
            .map(|done| axis.fault(&job.timeline.acts[done.act], done, evidence))
            .collect(),
        anomalies,
        anomalies_omitted,
        objectives: Objectives {
            p95_ms: Some(job.plan.profile.slo.p95.as_secs_f64() * 1e3),
            p99_ms: Some(job.plan.profile.slo.p99.as_secs_f64() * 1e3),
        },
        replay: format!("{} --seed {}", without_seed(&job.command), run.seed()),
    }
}

/// Times of the run's clock as seconds from the start of the load.
struct Axis {
    began_ns: u64,
}

impl Axis {
    fn at(&self, ns: u64) -> f64 {
        (ns as f64 - self.began_ns as f64) / 1e9
    }

    fn seconds(&self, job: &Job, windows: &[Second]) -> Vec<SecondPoint> {
        let first = self.began_ns / SECOND_NS;
        let within = |second: &&Second| second.second >= first;
        let point = |second: &Second| {
            let number = second.second - first;
            let merged = Latencies::merged(second.latencies());
            let sum =
                |of: fn(&crate::observe::recorder::ClassSecond) -> u64| second.classes.iter().map(of).sum();
            SecondPoint {
                second: u32::try_from(number).unwrap_or(u32::MAX),
                target: job.plan.schedule.due_by(std::time::Duration::from_secs(number + 1)) as f64
                    - job.plan.schedule.due_by(std::time::Duration::from_secs(number)) as f64,
                ok: second.ok(),
                fail: sum(|c| c.fail),
                unknown: sum(|c| c.unknown),
                dropped: second.dropped,
                p50_ms: quantile_ms(&merged, 0.5),
                p95_ms: quantile_ms(&merged, 0.95),
                p99_ms: quantile_ms(&merged, 0.99),
            }
        };
        windows.iter().filter(within).map(point).collect()
    }

    fn samples(&self, samples: &BTreeMap<String, Vec<(u64, f64)>>) -> BTreeMap<String, Vec<(f64, f64)>> {
        let points = |points: &Vec<(u64, f64)>| {
            points.iter().map(|(at, value)| (self.at(*at), *value)).filter(|(at, _)| *at >= 0.0).collect()
        };
        samples.iter().map(|(name, all)| (name.clone(), points(all))).collect()
    }

    /// States that held when the load began are shown at its start.
    fn health(&self, changes: &[(u64, String, String)]) -> Vec<HealthChange> {
        let change = |(at, subject, state): &(u64, String, String)| HealthChange {
            at_s: self.at(*at).max(0.0),
            subject: subject.clone(),
            state: state.clone(),
        };
        changes.iter().map(change).collect()
    }

    fn fault(&self, act: &Act, done: &super::injector::Done, evidence: &Evidence) -> FaultReport {
        FaultReport {
            id: act.id.clone(),
            kind: act.fault.inject.kind().into(),
            target: act.fault.target.clone(),
            injected_s: done.injected_ns.map_or(0.0, |ns| self.at(ns)),
            healed_s: done.healed_ns.map(|ns| self.at(ns)),
            verified_gone: done.verified_gone,
            recovery_budget_s: act.budget.as_secs_f64(),
            recovered_s: evidence.recovered.get(&act.id).copied().flatten().map(|ns| self.at(ns)),
            drained_s: evidence.drained.get(&act.id).copied().flatten().map(|ns| self.at(ns)),
            evidence: done.evidence,
            wanted: act.fault.evidence.sentences(),
            bit: act.fault.evidence.missing(&done.evidence).is_empty(),
        }
    }
}

fn anomalies(evidence: &Evidence, began_ns: u64) -> (Vec<AnomalyReport>, u64) {
    let operations = evidence.history.as_ref().map_or(&[][..], |history| &history.operations);
    let total: usize = evidence.findings.iter().map(|finding| finding.anomalies.len()).sum();
    let mut listed: Vec<AnomalyReport> = evidence
        .findings
        .iter()
        .flat_map(|finding| judge::witnesses(finding, operations, began_ns))
        .collect();
    listed.truncate(ANOMALIES_MAX);
    let omitted = u64::try_from(total - listed.len()).unwrap_or(u64::MAX);
    (listed, omitted)
}

fn environment(evidence: &Evidence) -> EnvironmentInfo {
    let Some(facts) = &evidence.environment else {
        return EnvironmentInfo {
            backend: "none".into(),
            backend_reason: "no environment came up".into(),
            server: "not started".into(),
            services: vec![],
        };
    };
    let service = |(name, version, settings): &(String, String, BTreeMap<String, String>)| ServiceInfo {
        name: name.clone(),
        version: version.clone(),
        settings: settings.clone(),
    };
    EnvironmentInfo {
        backend: facts.backend.clone(),
        backend_reason: facts.reason.clone(),
        server: facts.server.clone(),
        services: facts.services.iter().map(service).collect(),
    }
}

fn load_figures(job: &Job, evidence: &Evidence) -> Option<LoadFigures> {
    let outcome = evidence.load.as_ref()?;
    let seconds = (outcome.ended_ns.saturating_sub(outcome.started_ns)) as f64 / 1e9;
    let cpu = evidence.samples.get("runtime.cpu_seconds").and_then(|points| {
        // A restarted process counts from zero again.
        (points.len() > 1).then(|| points.windows(2).map(|pair| (pair[1].1 - pair[0].1).max(0.0)).sum())
    });
    Some(LoadFigures {
        profile: job.plan.profile.name.clone(),
        scheduled: outcome.scheduled,
        released: outcome.released,
        answered: outcome.answered,
        dropped: outcome.dropped,
        target_rate: outcome.scheduled as f64 / seconds.max(0.001),
        achieved_rate: outcome.started as f64 / seconds.max(0.001),
        wake_lag_p50_ms: outcome.wake_lag_p50_ms,
        wake_lag_p99_ms: outcome.wake_lag_p99_ms,
        generator_cpu_seconds: outcome.generator_cpu_seconds,
        server_cpu_seconds: cpu,
        other_cpu_share: outcome.other_cpu_share,
    })
}

fn classes(windows: &[Second]) -> Vec<ClassFigures> {
    let figures = |(index, name): (usize, &&str)| {
        let of = || windows.iter().filter_map(|second| second.classes.get(index));
        let merged: Histogram<u64> = Latencies::merged(of().map(|class| &class.latency));
        let quantile = |q| quantile_ms(&merged, q).unwrap_or(0.0);
        ClassFigures {
            class: (*name).to_owned(),
            ok: of().map(|c| c.ok).sum(),
            fail: of().map(|c| c.fail).sum(),
            unknown: of().map(|c| c.unknown).sum(),
            dropped: of().map(|c| c.dropped).sum(),
            p50_ms: quantile(0.5),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            max_ms: merged.max() as f64 / 1e3,
        }
    };
    load::CLASSES.iter().enumerate().map(figures).filter(|class| class.total() > 0).collect()
}

fn host() -> Host {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("unknown");
        line.trim().trim_matches('"').to_owned()
    };
    let kilobytes: u64 =
        field(&read("/proc/meminfo"), "MemTotal:").trim_end_matches(" kB").parse().unwrap_or(0);
    Host {
        os: field(&read("/etc/os-release"), "PRETTY_NAME="),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        cores: std::thread::available_parallelism().map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: kilobytes * 1024,
    }
}

/// A command without its `--seed`, so that the replay names the seed that was used.
fn without_seed(command: &str) -> String {
    let mut words = command.split_whitespace();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "--seed" {
            words.next();
        } else if !word.starts_with("--seed=") {
            kept.push(word);
        }
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replay_names_one_seed() {
        assert_eq!(without_seed("harness soak --seed 4 --duration 2m"), "harness soak --duration 2m");
        assert_eq!(without_seed("harness soak --seed=4"), "harness soak");
    }
}
