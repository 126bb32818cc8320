//! A made-up run of two minutes with three faults, the same every time: what the report's snapshots and the picture in
//! the README are made from.

use std::collections::BTreeMap;

use chaos::fault::Evidence;
use harness::report::*;
use harness::verdict::{Criterion, Kind, Outcome, Verdict};

/// A run in which everything held.
pub fn valid() -> RunReport {
    let criteria = criteria();
    RunReport {
        schema: SCHEMA.into(),
        run: RunInfo {
            id: "20261121-093000-7f3a".into(),
            title: "Soak, 2 min, three faults".into(),
            why: "Under steady load Redis refuses, Postgres falls silent and NATS is cut off; nothing acknowledged may be lost".into(),
            command: "harness soak --duration 2m --backend process".into(),
            seed: 7,
            started: "2026-11-21T09:30:00Z".into(),
            duration_s: 120.0,
            host: Host { os: "Debian GNU/Linux 12".into(), kernel: "6.1.0".into(), cores: 2, memory_bytes: 8 << 30 },
        },
        environment: EnvironmentInfo {
            backend: "process".into(),
            backend_reason: "asked for by --backend process".into(),
            server: "fraiseql-server 0.1.0, release build of this workspace".into(),
            services: vec![
                service("postgres", "17.2", &[("fsync", "on"), ("synchronous_commit", "on")]),
                service("redis", "8.0.1", &[("appendonly", "yes"), ("appendfsync", "always")]),
                service("nats", "2.11.1", &[("jetstream", "file")]),
            ],
        },
        verdict: Verdict::of(&criteria),
        criteria,
        load: Some(LoadFigures {
            profile: "soak".into(),
            scheduled: 60_000,
            released: 60_000,
            answered: 59_988,
            dropped: 12,
            target_rate: 500.0,
            achieved_rate: 499.9,
            wake_lag_p50_ms: 0.71,
            wake_lag_p99_ms: 1.62,
            generator_cpu_seconds: 9.4,
            server_cpu_seconds: Some(31.8),
            other_cpu_share: 0.021,
        }),
        classes: classes(),
        seconds: (0..120).map(second).collect(),
        samples: [(
            "runtime.anonymous_bytes".to_owned(),
            (0..120).map(|s| (f64::from(s), memory(s))).collect(),
        )]
        .into(),
        health: health(),
        faults: faults(),
        anomalies: vec![],
        anomalies_omitted: 0,
        objectives: Objectives { p95_ms: Some(100.0), p99_ms: Some(200.0) },
        replay: "cargo run --release -p harness -- soak --duration 2m --seed 7 --backend process".into(),
    }
}

/// The same run with an acknowledged order that is lost and a fault that did not bite.
pub fn violated() -> RunReport {
    let mut report = valid();
    let lost = &mut report.criteria[0];
    lost.outcome = Outcome::Fail;
    lost.detail = "12 861 writes, 12 790 acknowledged, 12 789 values found: 1 lost".into();
    lost.proof = vec![
        "lost k-004711: `k-004711` was acknowledged to op 33120, but is not found".into(),
        "  op 33120 by 811: 66.251 s to 66.259 s, key k-004711, ok 200 019aa-17|pending|25.00".into(),
    ];
    let evidence = report.criteria.iter_mut().find(|c| c.name == "evidence nats-cut#1").expect("is there");
    evidence.outcome = Outcome::Inconclusive("the fault did not bite, so nothing was tested".into());
    evidence.detail = "swallowed bytes 0 of at least 100".into();
    report.faults[2].bit = false;
    report.faults[2].evidence = Evidence::default();
    report.anomalies = vec![AnomalyReport {
        invariant: "no-acked-write-lost".into(),
        kind: "lost".into(),
        key: "k-004711".into(),
        at_s: Some(66.259),
        explanation: "`k-004711` was acknowledged to op 33120,\nbut is not found <anywhere>".into(),
        operations: vec!["op 33120 by 811: 66.251 s to 66.259 s, key k-004711, ok 200".into()],
    }];
    report.verdict = Verdict::of(&report.criteria);
    report
}

fn service(name: &str, version: &str, settings: &[(&str, &str)]) -> ServiceInfo {
    let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    ServiceInfo { name: name.into(), version: version.into(), settings: settings.collect::<BTreeMap<_, _>>() }
}

fn criterion(name: &str, kind: Kind, detail: &str) -> Criterion {
    Criterion { name: name.into(), kind, outcome: Outcome::Pass, detail: detail.into(), proof: vec![] }
}

fn criteria() -> Vec<Criterion> {
    use Kind::{Invariant, Residue, Slo, Validity};
    let mut all = vec![
        criterion(
            "no-acked-write-lost",
            Invariant,
            "12 861 writes, 12 790 acknowledged, 12 812 values found: no contradiction",
        ),
        criterion(
            "one-order-per-key",
            Invariant,
            "12 240 keys, 618 of them used more than once, 12 240 effects: no contradiction",
        ),
        criterion(
            "invoice-exactly-once",
            Invariant,
            "4 286 requests for 4 280 keys, 4 280 effects: no contradiction",
        ),
        criterion(
            "event-at-least-once",
            Invariant,
            "12 240 events expected, 12 251 delivered, 11 repetitions: no contradiction",
        ),
        criterion("p95", Slo, "4.2 ms outside the fault windows, wanted less than 100 ms"),
        criterion("p99", Slo, "11.8 ms outside the fault windows, wanted less than 200 ms"),
        criterion("recovery redis-refused#1", Slo, "back 1 s after the healing (budget 10 s)"),
        criterion("recovery postgres-silent#1", Slo, "back 2 s after the healing (budget 10 s)"),
        criterion("recovery nats-cut#1", Slo, "back at once (budget 10 s)"),
        criterion("achieved-rate", Validity, "499.9/s of 500/s"),
        criterion("evidence redis-refused#1", Validity, "refused >= 1, reset >= 1"),
        criterion("evidence postgres-silent#1", Validity, "live connections >= 2, swallowed bytes >= 100"),
        criterion("evidence nats-cut#1", Validity, "live connections >= 1, swallowed bytes >= 100"),
        criterion(
            "nothing-left-behind",
            Residue,
            "no process, container, folder or fault of this run is left",
        ),
    ];
    let leak = Outcome::NotJudged("needs 10 min, this run had 2 min".into());
    all.insert(9, Criterion { outcome: leak, ..criterion("memory-leak", Slo, "") });
    all
}

fn classes() -> Vec<ClassFigures> {
    let class = |class: &str, ok, fail, unknown, dropped, p: [f64; 4]| ClassFigures {
        class: class.into(),
        ok,
        fail,
        unknown,
        dropped,
        p50_ms: p[0],
        p95_ms: p[1],
        p99_ms: p[2],
        max_ms: p[3],
    };
    vec![
        class("products", 17_031, 0, 112, 4, [1.31, 3.9, 12.4, 2011.0]),
        class("order", 12_744, 9, 86, 3, [1.12, 3.4, 11.0, 2008.0]),
        class("createOrder", 12_790, 0, 71, 3, [2.75, 7.8, 31.5, 2024.0]),
        class("updateOrderStatus", 8_501, 31, 54, 2, [2.41, 7.1, 28.8, 2019.0]),
        class("requestInvoice", 8_540, 0, 22, 0, [1.88, 5.2, 19.1, 2012.0]),
    ]
}

/// A cheap noise between 0 and 1 that is the same everywhere.
fn noise(second: u32, salt: u32) -> f64 {
    let mixed = (second.wrapping_mul(2_654_435_761) ^ salt.wrapping_mul(40_503)).wrapping_mul(2_246_822_519);
    f64::from(mixed >> 8) / f64::from(1u32 << 24)
}

fn second(s: u32) -> SecondPoint {
    let silent = (60..63).contains(&s);
    let after = s == 63;
    let unknown = if silent {
        310
    } else if after {
        24
    } else {
        0
    };
    let dropped = if silent { 4 } else { 0 };
    let fail = (noise(s, 1) * 1.4) as u64;
    let slow = if silent {
        380.0
    } else if after {
        12.0
    } else if (25..40).contains(&s) {
        1.5
    } else {
        1.0
    };
    let ms = |base: f64, salt| Some((base * slow * (0.85 + 0.45 * noise(s, salt)) * 100.0).round() / 100.0);
    SecondPoint {
        second: s,
        target: 500.0,
        ok: 500 - unknown - dropped - fail,
        fail,
        unknown,
        dropped,
        p50_ms: ms(1.6, 2),
        p95_ms: ms(4.1, 3),
        p99_ms: ms(9.7, 4).map(|v: f64| v.min(2020.0)),
    }
}

fn memory(s: u32) -> f64 {
    let warm = 1.0 - (-f64::from(s) / 25.0).exp();
    (38.0 + 21.0 * warm + 1.2 * noise(s, 9)).round() * 1_048_576.0
}

fn health() -> Vec<HealthChange> {
    let change = |at_s, subject: &str, state: &str| HealthChange {
        at_s,
        subject: subject.into(),
        state: state.into(),
    };
    vec![
        change(0.0, "health", "healthy"),
        change(0.0, "ready", "ready"),
        change(26.5, "health", "degraded"),
        change(42.0, "health", "healthy"),
        change(61.5, "health", "unhealthy"),
        change(61.5, "ready", "not ready"),
        change(64.5, "health", "healthy"),
        change(64.5, "ready", "ready"),
        change(87.0, "health", "degraded"),
        change(102.0, "health", "healthy"),
    ]
}

fn faults() -> Vec<FaultReport> {
    let fault =
        |id: &str, kind: &str, target: &str, from: f64, to: f64, back: f64, wanted: &[&str], evidence| {
            FaultReport {
                id: id.into(),
                kind: kind.into(),
                target: target.into(),
                injected_s: from,
                healed_s: Some(to),
                verified_gone: true,
                recovery_budget_s: 10.0,
                recovered_s: Some(back),
                // Only the outbox took a while.
                drained_s: Some(if target == "nats" { to + 3.4 } else { to }),
                evidence,
                wanted: wanted.iter().map(|w| (*w).to_owned()).collect(),
                bit: true,
            }
        };
    let none = Evidence::default();
    vec![
        fault(
            "redis-refused#1",
            "refuse",
            "redis",
            25.0,
            40.0,
            41.0,
            &["refused >= 1", "reset >= 1"],
            Evidence { refused: 412, reset: 20, connections: 20, ..none },
        ),
        fault(
            "postgres-silent#1",
            "blackhole",
            "postgres",
            60.0,
            63.0,
            65.0,
            &["live connections >= 2", "swallowed bytes >= 100"],
            Evidence { connections: 38, swallowed_bytes: 181_220, ..none },
        ),
        fault(
            "nats-cut#1",
            "blackhole",
            "nats",
            85.0,
            100.0,
            100.0,
            &["live connections >= 1", "swallowed bytes >= 100"],
            Evidence { connections: 1, swallowed_bytes: 42_117, ..none },
        ),
    ]
}
