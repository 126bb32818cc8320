//! Properties of the pipeline under paused or made-up time.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::seed;
use crate::toxic::clients::Clients;
use crate::toxic::distribution::Distribution;
use crate::toxic::effect::Common;

fn effect(id: u64, kind: Kind) -> Arc<Effect> {
    Arc::new(Effect {
        id,
        generation: 0,
        kind,
        direction: Direction::Both,
        toxicity: 1.0,
        clients: Clients::default(),
        common: Arc::new(Common::new(Instant::now())),
        touched: Arc::default(),
    })
}

fn pipeline() -> Pipeline {
    Pipeline::new(Direction::Upstream, seed::stream(1, &["test"]), Arc::new(Marks::default()))
}

/// Writes whatever may go out at `now`.
fn drain(pipeline: &mut Pipeline, now: Instant) -> (Vec<u8>, Step) {
    let mut out = Vec::new();
    loop {
        match pipeline.step(now) {
            Step::Write(size) => {
                assert!(size > 0, "an empty write makes no progress");
                out.extend_from_slice(&pipeline.head()[..size]);
                pipeline.wrote(size, now);
            }
            step => return (out, step),
        }
    }
}

/// Writes until nothing is left, moving the time on as the pipeline asks; the bytes, the time it took, the last step.
fn run(pipeline: &mut Pipeline, mut now: Instant) -> (Vec<u8>, Duration, Step) {
    let start = now;
    let mut out = Vec::new();
    loop {
        let (bytes, step) = drain(pipeline, now);
        out.extend(bytes);
        match step {
            Step::Wait(Some(at)) => now = at,
            step => return (out, now - start, step),
        }
    }
}

#[test]
fn latency_delays_from_arrival_and_its_removal_delivers_at_once() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    let latency = effect(1, Kind::Latency { delay: Duration::from_millis(100), jitter: Duration::ZERO });
    pipe.apply(std::slice::from_ref(&latency), start);
    pipe.receive(b"a", start);
    pipe.receive(b"b", start + Duration::from_millis(40));
    let (out, step) = drain(&mut pipe, start + Duration::from_millis(99));
    assert_eq!((out.len(), step), (0, Step::Wait(Some(start + Duration::from_millis(100)))));
    assert_eq!(drain(&mut pipe, start + Duration::from_millis(100)).0, b"a");
    pipe.apply(&[], start + Duration::from_millis(101));
    assert_eq!(drain(&mut pipe, start + Duration::from_millis(101)).0, b"b");
    assert_eq!(latency.touched.evidence().delayed_bytes, 2);
    assert_eq!(latency.touched.evidence().connections, 1);
}

#[test]
fn two_latencies_add_up() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    let of = |id, millis| {
        effect(id, Kind::Latency { delay: Duration::from_millis(millis), jitter: Duration::ZERO })
    };
    pipe.apply(&[of(1, 30), of(2, 12)], start);
    pipe.receive(b"x", start);
    assert_eq!(run(&mut pipe, start), (b"x".to_vec(), Duration::from_millis(42), Step::Wait(None)));
}

#[test]
fn silence_swallows_what_waits_and_what_comes_and_outlives_its_fault() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    let latency = effect(1, Kind::Latency { delay: Duration::from_secs(1), jitter: Duration::ZERO });
    pipe.apply(std::slice::from_ref(&latency), start);
    pipe.receive(b"waiting", start);
    let silence = effect(2, Kind::Silence);
    pipe.apply(&[latency, silence.clone()], start);
    pipe.receive(b"new", start);
    pipe.apply(&[], start);
    pipe.receive(b"later", start);
    assert_eq!(drain(&mut pipe, start + Duration::from_secs(9)), (vec![], Step::Wait(None)));
    assert_eq!(silence.touched.evidence().swallowed_bytes, 15);
    pipe.receive_end(Finish::Close, start);
    assert_eq!(pipe.step(start), Step::Gone);
}

#[test]
fn hold_keeps_bytes_and_the_end_back_until_it_is_removed() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    let hold = effect(1, Kind::Hold);
    pipe.apply(std::slice::from_ref(&hold), start);
    pipe.receive(b"kept", start);
    pipe.receive_end(Finish::Close, start);
    assert_eq!(drain(&mut pipe, start + Duration::from_secs(60)), (vec![], Step::Wait(None)));
    pipe.apply(&[], start);
    assert_eq!(drain(&mut pipe, start), (b"kept".to_vec(), Step::Fin));
    assert_eq!(hold.touched.evidence().delayed_bytes, 4);
}

#[test]
fn hold_stops_reading_when_its_queue_is_full() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    pipe.apply(&[effect(1, Kind::Hold)], start);
    let mut taken = 0;
    while pipe.wants_input() {
        pipe.receive(&[0; 1000], start);
        taken += 1000;
    }
    assert!((QUEUE_HELD / 2..=QUEUE_HELD).contains(&taken), "{taken}");
}

#[test]
fn limit_data_passes_exactly_its_bytes_and_counts_on_when_it_is_raised() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    let limit = effect(1, Kind::LimitData { bytes: 100 });
    pipe.apply(std::slice::from_ref(&limit), start);
    pipe.receive(&[7; 60], start);
    assert_eq!(drain(&mut pipe, start).0.len(), 60);
    let raised = Arc::new(Effect {
        id: 1,
        generation: 1,
        kind: Kind::LimitData { bytes: 150 },
        direction: Direction::Both,
        toxicity: 1.0,
        clients: Clients::default(),
        common: limit.common.clone(),
        touched: limit.touched.clone(),
    });
    pipe.apply(&[raised], start);
    pipe.receive(&[7; 500], start);
    let (out, step) = drain(&mut pipe, start);
    assert_eq!((out.len(), step), (90, Step::End(Finish::Close)));
}

#[test]
fn timeout_counts_from_the_last_chunk_and_its_removal_closes() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    let timeout = effect(1, Kind::Timeout { after: Some(Duration::from_millis(300)) });
    pipe.apply(std::slice::from_ref(&timeout), start);
    pipe.receive(b"dropped", start + Duration::from_millis(200));
    assert_eq!(
        pipe.step(start + Duration::from_millis(400)),
        Step::Wait(Some(start + Duration::from_millis(500)))
    );
    assert_eq!(pipe.step(start + Duration::from_millis(500)), Step::End(Finish::Close));
    let (mut pipe, never) = (pipeline(), effect(2, Kind::Timeout { after: None }));
    pipe.apply(&[never], start);
    assert_eq!(pipe.step(start + Duration::from_secs(3600)), Step::Wait(None));
    pipe.apply(&[], start);
    assert_eq!(pipe.step(start), Step::End(Finish::Close));
}

#[test]
fn toxicity_zero_does_nothing_at_all() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    for (id, kind) in [(1, Kind::ResetPeer { after: Duration::ZERO }), (2, Kind::LimitData { bytes: 0 })] {
        let harmless = Effect {
            id,
            generation: 0,
            kind,
            direction: Direction::Both,
            toxicity: 0.0,
            clients: Clients::default(),
            common: Arc::new(Common::new(start)),
            touched: Arc::default(),
        };
        pipe.apply(&[Arc::new(harmless)], start);
    }
    pipe.receive(b"through", start);
    pipe.receive_end(Finish::Close, start);
    assert_eq!(drain(&mut pipe, start), (b"through".to_vec(), Step::Fin));
}

#[test]
fn bandwidth_zero_lets_nothing_pass_and_loses_nothing() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    pipe.apply(&[effect(1, Kind::Bandwidth { bytes_per_second: 0 })], start);
    pipe.receive(b"kept", start);
    assert_eq!(drain(&mut pipe, start + Duration::from_secs(5)), (vec![], Step::Wait(None)));
    pipe.apply(&[], start);
    assert_eq!(drain(&mut pipe, start).0, b"kept");
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let millis = |max: u64| (0..max).prop_map(Duration::from_millis);
    prop_oneof![
        (millis(50), millis(50)).prop_map(|(delay, jitter)| Kind::Latency { delay, jitter }),
        (1_000_u64..10_000_000).prop_map(|bytes_per_second| Kind::Bandwidth { bytes_per_second }),
        (0_u64..200, 0_u64..400, millis(3)).prop_map(|(average, variation, delay)| Kind::Slicer {
            average,
            variation,
            delay
        }),
        millis(50).prop_map(|delay| Kind::SlowClose { delay }),
        (0_u64..2000, millis(30)).prop_map(|(after, lasts)| Kind::Stall { after, lasts: Some(lasts) }),
        (millis(20), millis(20)).prop_map(|(up, down)| Kind::Flap { up, down }),
        (1_000_u64..10_000_000).prop_map(|bytes_per_second| Kind::SharedBandwidth { bytes_per_second }),
        (millis(20), millis(20))
            .prop_map(|(mean, deviation)| { Kind::LatencyDrawn(Distribution::Normal { mean, deviation }) }),
        Just(Kind::Stall { after: 700, lasts: None }),
        Just(Kind::Corrupt { rate_ppm: 0 }),
        Just(Kind::Duplicate { rate_ppm: 0 }),
        Just(Kind::Truncate { bytes: u64::MAX }),
        Just(Kind::Hold),
        Just(Kind::Noop),
    ]
}

#[test]
fn a_stall_keeps_back_what_follows_its_bytes_and_the_end_and_goes_on_in_time() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    let stall = effect(1, Kind::Stall { after: 4, lasts: Some(Duration::from_millis(500)) });
    pipe.apply(std::slice::from_ref(&stall), start);
    pipe.receive(b"headtail", start);
    pipe.receive_end(Finish::Close, start);
    let until = Step::Wait(Some(start + Duration::from_millis(500)));
    assert_eq!(drain(&mut pipe, start), (b"head".to_vec(), until));
    assert_eq!(stall.touched.evidence().delayed_bytes, 4);
    assert_eq!(run(&mut pipe, start), (b"tail".to_vec(), Duration::from_millis(500), Step::Fin));
}

#[test]
fn a_stall_without_end_goes_on_when_it_is_removed() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    pipe.apply(&[effect(1, Kind::Stall { after: 0, lasts: None })], start);
    pipe.receive(b"kept", start);
    pipe.receive_end(Finish::Close, start);
    assert_eq!(drain(&mut pipe, start + Duration::from_secs(60)), (vec![], Step::Wait(None)));
    pipe.apply(&[], start);
    assert_eq!(drain(&mut pipe, start), (b"kept".to_vec(), Step::Fin));
}

#[test]
fn a_flapping_link_passes_bytes_and_the_end_only_while_it_is_up() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    let millis = Duration::from_millis;
    let flap = effect(1, Kind::Flap { up: millis(100), down: millis(50) });
    let since = flap.common.since;
    pipe.apply(std::slice::from_ref(&flap), start);
    pipe.receive(b"a", since + millis(99));
    assert_eq!(drain(&mut pipe, since + millis(99)).0, b"a");
    pipe.receive(b"b", since + millis(100));
    pipe.receive_end(Finish::Close, since + millis(100));
    let up_again = Step::Wait(Some(since + millis(150)));
    assert_eq!(drain(&mut pipe, since + millis(120)), (vec![], up_again));
    assert_eq!(flap.touched.evidence().delayed_bytes, 1);
    assert_eq!(drain(&mut pipe, since + millis(150)), (b"b".to_vec(), Step::Fin));
    pipe = pipeline();
    pipe.apply(&[flap], start);
    pipe.receive_end(Finish::Close, since + millis(260));
    assert_eq!(pipe.step(since + millis(260)), Step::Wait(Some(since + millis(300))));
    assert_eq!(pipe.step(since + millis(300)), Step::Fin);
}

#[test]
fn truncation_passes_exactly_its_bytes_and_the_end() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    let truncate = effect(1, Kind::Truncate { bytes: 6 });
    pipe.apply(std::slice::from_ref(&truncate), start);
    for part in [&b"0123"[..], b"4567", b"89"] {
        pipe.receive(part, start);
    }
    assert_eq!(drain(&mut pipe, start), (b"012345".to_vec(), Step::Wait(None)));
    assert_eq!(truncate.touched.evidence().swallowed_bytes, 4);
    pipe.receive_end(Finish::Close, start);
    assert_eq!(drain(&mut pipe, start).1, Step::Fin);
}

#[test]
fn duplication_passes_every_drawn_chunk_twice_in_order() {
    let (mut pipe, start) = (pipeline(), Instant::now());
    let duplicate = effect(1, Kind::Duplicate { rate_ppm: 1_000_000 });
    pipe.apply(std::slice::from_ref(&duplicate), start);
    pipe.receive(b"ab", start);
    pipe.receive(b"c", start);
    assert_eq!(drain(&mut pipe, start).0, b"ababcc");
    assert_eq!(duplicate.touched.evidence().duplicated_bytes, 3);
}

#[test]
fn corruption_flips_one_bit_of_about_as_many_bytes_as_it_says() {
    for (rate_ppm, expected) in [(1_000_000, 100_000..=100_000), (10_000, 900..=1100), (1, 0..=2)] {
        let (mut pipe, start) = (pipeline(), Instant::now());
        let corrupt = effect(1, Kind::Corrupt { rate_ppm });
        pipe.apply(std::slice::from_ref(&corrupt), start);
        (0..100).for_each(|_| pipe.receive(&[0x55; 1000], start));
        let (out, _) = drain(&mut pipe, start);
        assert_eq!(out.len(), 100_000);
        let flipped: Vec<u8> = out.into_iter().map(|byte| byte ^ 0x55).filter(|bits| *bits != 0).collect();
        assert!(flipped.iter().all(|bits| bits.count_ones() == 1));
        assert!(expected.contains(&flipped.len()), "{} at {rate_ppm}", flipped.len());
        assert_eq!(corrupt.touched.evidence().corrupted_bytes, flipped.len() as u64);
    }
}

#[test]
fn connections_share_a_bandwidth_between_them() {
    let start = Instant::now();
    let shared = effect(1, Kind::SharedBandwidth { bytes_per_second: 100_000 });
    let mut pipes = [pipeline(), pipeline(), pipeline()];
    for pipe in &mut pipes {
        pipe.apply(std::slice::from_ref(&shared), start);
        pipe.receive(&[0; 50_000], start);
    }
    let (mut now, mut got) = (start, [0; 3]);
    while got.iter().sum::<usize>() < 150_000 {
        let mut next = None;
        for (pipe, got) in pipes.iter_mut().zip(&mut got) {
            let (out, step) = drain(pipe, now);
            *got += out.len();
            if let Step::Wait(Some(at)) = step {
                next = earliest(next, at);
            }
        }
        let least = got.iter().min().expect("three");
        assert!(got.iter().all(|got| got - least <= 2000), "unfair: {got:?}");
        now = next.unwrap_or(now);
    }
    let took = now - start;
    assert!((Duration::from_millis(1480)..=Duration::from_millis(1510)).contains(&took), "{took:?}");
}

proptest! {
    #[test]
    fn no_byte_is_lost_or_reordered_however_effects_come_and_go(
        rounds in prop::collection::vec((prop::collection::vec(any_kind(), 0..3), 0_usize..3000, 0_u64..40), 1..8),
    ) {
        let (mut pipe, mut now) = (pipeline(), Instant::now());
        let (mut sent, mut got, mut id) = (Vec::new(), Vec::new(), 0);
        for (kinds, size, pause) in rounds {
            let effects: Vec<_> = kinds.into_iter().map(|kind| { id += 1; effect(id, kind) }).collect();
            pipe.apply(&effects, now);
            let bytes: Vec<u8> = (0..size).map(|index| (sent.len() + index) as u8).collect();
            if size > 0 {
                pipe.receive(&bytes, now);
                sent.extend(bytes);
            }
            now += Duration::from_millis(pause);
            got.extend(drain(&mut pipe, now).0);
        }
        pipe.apply(&[], now);
        pipe.receive_end(Finish::Close, now);
        let (rest, step) = drain(&mut pipe, now);
        got.extend(rest);
        prop_assert_eq!(step, Step::Fin);
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn bandwidth_never_exceeds_its_rate_and_falls_short_of_it_by_no_more_than_a_burst(
        rate in 500_u64..50_000_000, chunks in prop::collection::vec(1_usize..65_536, 1..20),
    ) {
        let (mut pipe, start) = (pipeline(), Instant::now());
        pipe.apply(&[effect(1, Kind::Bandwidth { bytes_per_second: rate })], start);
        let total: usize = chunks.iter().sum();
        // Cut to what a test may simulate in reasonable time at one step for each 10 ms.
        prop_assume!((total as u64) / rate < 60);
        chunks.iter().for_each(|size| pipe.receive(&vec![0; *size], start));
        let (out, took, _) = run(&mut pipe, start);
        prop_assert_eq!(out.len(), total);
        let due = total as f64 / rate as f64;
        prop_assert!(took.as_secs_f64() >= due - 0.0101, "{took:?} for {due} s");
        prop_assert!(took.as_secs_f64() <= due + 0.0101, "{took:?} for {due} s");
    }
}
