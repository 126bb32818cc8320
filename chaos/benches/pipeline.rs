//! Claim: a way without effects costs a check and no copy, and an effect costs what it does, not what it might do. One
//! chunk of 16 KiB goes through a pipeline in each iteration; compare the groups with one another within one run.

use std::sync::Arc;
use std::time::Duration;

use chaos::fault::Direction;
use chaos::seed;
use chaos::toxic::clients::Clients;
use chaos::toxic::effect::{Common, Effect, Kind, Marks};
use chaos::toxic::pipeline::{Pipeline, Step};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::time::Instant;

const CHUNK: [u8; 16 * 1024] = [7; 16 * 1024];

fn pipeline(kinds: &[Kind], now: Instant) -> Pipeline {
    let rng = seed::stream(7, &["bench"]);
    let mut pipeline = Pipeline::new(Direction::Downstream, rng, Arc::<Marks>::default());
    let effect = |(id, kind): (usize, &Kind)| {
        Arc::new(Effect {
            id: id as u64 + 1,
            generation: 0,
            kind: kind.clone(),
            direction: Direction::Downstream,
            toxicity: 1.0,
            clients: Clients::default(),
            common: Arc::new(Common::new(now)),
            touched: Arc::default(),
        })
    };
    pipeline.apply(&kinds.iter().enumerate().map(effect).collect::<Vec<_>>(), now);
    pipeline
}

/// Takes a chunk in and writes it out, `later` after it came.
fn pass(pipeline: &mut Pipeline, now: Instant, later: Duration) -> usize {
    if pipeline.transparent() {
        return CHUNK.len();
    }
    pipeline.receive(&CHUNK, now);
    let mut written = 0;
    let mut at = now + later;
    while written < CHUNK.len() {
        match pipeline.step(at) {
            Step::Write(size) => {
                pipeline.wrote(size, at);
                written += size;
            }
            Step::Wait(Some(until)) => at = until,
            step => panic!("nothing here ends a connection: {step:?}"),
        }
    }
    written
}

fn chunks(criterion: &mut Criterion) {
    let cases = [
        ("transparent", vec![]),
        ("noop", vec![Kind::Noop]),
        (
            "latency",
            vec![Kind::Latency { delay: Duration::from_millis(100), jitter: Duration::from_millis(10) }],
        ),
        ("bandwidth", vec![Kind::Bandwidth { bytes_per_second: 100_000_000 }]),
        ("slicer", vec![Kind::Slicer { average: 1_000, variation: 100, delay: Duration::ZERO }]),
    ];
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Bytes(CHUNK.len() as u64));
    for (name, kinds) in cases {
        let mut now = Instant::now();
        let mut pipeline = pipeline(&kinds, now);
        group.bench_function(name, |bench| {
            bench.iter(|| {
                now += Duration::from_millis(1);
                pass(&mut pipeline, now, Duration::from_millis(200))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, chunks);
criterion_main!(benches);
