//! Claim: judging a long run costs little beside running it. A two-hour soak at 500/s is 3.6 million operations; the
//! checkers and the history file are measured per operation, at sizes that show whether the cost grows faster than them.

use std::collections::BTreeMap;

use chaos::checker::{Validity, acked_writes, exactly_once, idempotency};
use chaos::history::{
    ClassId, Complete, Entry, Header, Invoke, OpId, Operation, Outcome, Record, VERSION, Writer, read,
};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SIZES: [u64; 2] = [10_000, 100_000];

/// Every hundredth key is sent twice, every thousandth operation ends unknown.
fn operations(count: u64) -> Vec<Operation> {
    (0..count)
        .map(|n| Operation {
            op: OpId(n),
            process: (n % 200) as u32,
            class: ClassId(2),
            intended_ns: n * 2_000_000,
            invoked_ns: n * 2_000_000 + 50_000,
            completed_ns: Some(n * 2_000_000 + 3_000_000),
            key: format!("run-7-{:08}", if n % 100 == 1 { n - 1 } else { n }),
            value: format!("order-{:08}", if n % 100 == 1 { n - 1 } else { n }),
            outcome: if n % 1_000 == 999 { Outcome::Unknown } else { Outcome::Ok },
            code: "200".into(),
            answer: "pending|10.00".into(),
        })
        .collect()
}

fn checkers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checker");
    for size in SIZES {
        let operations = operations(size);
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut effects = Vec::new();
        for operation in operations.iter().filter(|o| o.op.0 % 100 != 1) {
            found.insert(operation.key.clone(), vec![operation.value.clone()]);
            effects.push((operation.key.clone(), operation.value.clone()));
        }
        // A measurement of a check that finds nothing wrong only if that is what it finds.
        assert_eq!(acked_writes::check("b", &operations, &found).validity, Validity::Valid);
        assert_eq!(idempotency::check(&operations, &effects).validity, Validity::Valid);
        assert_eq!(exactly_once::check(&operations, &effects).validity, Validity::Valid);
        group.throughput(Throughput::Elements(size)).sample_size(20);
        group.bench_function(BenchmarkId::new("acked_writes", size), |bench| {
            bench.iter(|| acked_writes::check("b", &operations, &found));
        });
        group.bench_function(BenchmarkId::new("idempotency", size), |bench| {
            bench.iter(|| idempotency::check(&operations, &effects));
        });
        group.bench_function(BenchmarkId::new("exactly_once", size), |bench| {
            bench.iter(|| exactly_once::check(&operations, &effects));
        });
    }
    group.finish();
}

fn entries(count: u64) -> Vec<Entry> {
    operations(count)
        .into_iter()
        .flat_map(|o| {
            let invoke = Invoke {
                op: o.op,
                process: o.process,
                class: o.class,
                intended_ns: o.intended_ns,
                key: o.key,
                value: o.value,
            };
            let complete = Complete { op: o.op, outcome: o.outcome, code: o.code, answer: o.answer };
            [
                Entry { at_ns: o.invoked_ns, record: Record::Invoke(invoke) },
                Entry { at_ns: o.invoked_ns + 3_000_000, record: Record::Complete(complete) },
            ]
        })
        .collect()
}

fn history(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("history.bin");
    let header = Header {
        version: VERSION,
        run: "bench".into(),
        seed: 7,
        started_unix_ms: 0,
        classes: vec!["products".into(), "order".into(), "createOrder".into()],
    };
    let size = SIZES[1];
    let entries = entries(size);
    let mut group = criterion.benchmark_group("history");
    group.throughput(Throughput::Elements(size)).sample_size(20);
    group.bench_function("write", |bench| {
        bench.iter_batched(
            || Writer::create(&path, &header).expect("history file"),
            |mut writer| {
                for entry in &entries {
                    writer.append(entry).expect("append");
                }
                writer.flush().expect("flush");
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("read", |bench| {
        bench.iter(|| {
            let history = read(&path).expect("read back");
            assert_eq!(history.operations.len() as u64, size);
        });
    });
    group.finish();
}

criterion_group!(benches, checkers, history);
criterion_main!(benches);
