//! Properties of a way of datagrams under made-up time.

use proptest::prelude::*;

use super::super::budget::Budget;
use super::*;
use crate::seed;
use crate::toxic::clients::Clients;
use crate::toxic::effect::Common;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn effect_of(id: u64, generation: u64, kind: Kind, toxicity: f32) -> Arc<Effect> {
    Arc::new(Effect {
        id,
        generation,
        kind,
        direction: Direction::Both,
        toxicity,
        clients: Clients::default(),
        common: Arc::new(Common::new(Instant::now())),
        touched: Arc::default(),
    })
}

fn effect(id: u64, kind: Kind) -> Arc<Effect> {
    effect_of(id, 0, kind, 1.0)
}

fn reorder(rate_ppm: u32, gap: u64, hold: Duration) -> Kind {
    Kind::Reorder { rate_ppm, gap, hold }
}

/// A pipeline, what it may queue, and the time.
struct Way {
    pipeline: Pipeline,
    budget: Arc<Budget>,
    now: Instant,
    out: Vec<u32>,
}

impl Way {
    fn new(seed: u64, effects: &[Arc<Effect>]) -> Way {
        Way::at(Instant::now(), seed, effects)
    }

    fn at(now: Instant, seed: u64, effects: &[Arc<Effect>]) -> Way {
        let marks = Arc::new(Marks::default());
        let pipeline = Pipeline::new(Direction::Upstream, seed::stream(seed, &["test"]), marks);
        let mut way = Way { pipeline, budget: Budget::new(1 << 24), now, out: Vec::new() };
        way.apply(effects);
        way
    }

    fn apply(&mut self, effects: &[Arc<Effect>]) {
        self.pipeline.apply(effects, self.now);
    }

    /// A datagram that carries its number comes, if there is room for it.
    fn receive(&mut self, number: u32) {
        let payload = Bytes::copy_from_slice(&number.to_be_bytes());
        match self.budget.take(payload.len()) {
            Some(share) => self.pipeline.receive(payload, share, self.now),
            None => self.pipeline.overflowed(1, payload.len()),
        }
    }

    /// Sends whatever may leave now; when there is more.
    fn drain(&mut self) -> Option<Instant> {
        loop {
            match self.pipeline.next(self.now) {
                Next::Send(payload) => {
                    self.out.push(u32::from_be_bytes(payload[..].try_into().expect("a whole datagram")));
                }
                Next::Wait(at) => return at,
            }
        }
    }

    /// Sends until nothing waits any more; how long that took.
    fn run(&mut self) -> Duration {
        let start = self.now;
        while let Some(at) = self.drain() {
            assert!(at > self.now, "a time that has passed makes no progress");
            self.now = at;
        }
        self.now - start
    }

    fn sorted(&self) -> Vec<u32> {
        let mut sorted = self.out.clone();
        sorted.sort_unstable();
        sorted
    }
}

#[test]
fn latency_counts_from_arrival_and_its_removal_delivers_at_once() {
    let latency = effect(1, Kind::Latency { delay: millis(100), jitter: Duration::ZERO });
    let mut way = Way::new(1, std::slice::from_ref(&latency));
    let start = way.now;
    way.receive(0);
    way.now = start + millis(40);
    way.receive(1);
    way.now = start + millis(99);
    assert_eq!((way.drain(), way.out.len()), (Some(start + millis(100)), 0));
    way.now = start + millis(100);
    assert_eq!((way.drain(), way.out.clone()), (Some(start + millis(140)), vec![0]));
    way.apply(&[]);
    assert_eq!((way.drain(), way.out.clone()), (None, vec![0, 1]));
    let touched = latency.touched.datagrams();
    assert_eq!((touched.delayed, touched.lost), (2, 0));
}

#[test]
fn a_change_of_other_effects_leaves_delays_as_they_are() {
    let latency = |id, delay| effect(id, Kind::Latency { delay: millis(delay), jitter: Duration::ZERO });
    let (first, second, start) = (latency(1, 100), latency(2, 30), Instant::now());
    let mut way = Way::at(start, 1, &[first.clone(), second.clone()]);
    way.receive(0);
    way.now += millis(10);
    way.apply(&[first.clone(), second, effect(3, Kind::Noop)]);
    assert_eq!(way.drain(), Some(start + millis(130)));
    way.apply(&[first, effect(3, Kind::Noop)]);
    assert_eq!((way.drain(), way.out.len()), (Some(start + millis(100)), 0));
}

#[test]
fn jitter_lets_datagrams_pass_each_other_and_loses_none() {
    let jitter = effect(1, Kind::Latency { delay: millis(50), jitter: millis(50) });
    let mut way = Way::new(1, &[jitter]);
    (0..100).for_each(|number| way.receive(number));
    assert!(way.run() <= millis(100));
    assert_ne!(way.out, way.sorted(), "none passed another");
    assert_eq!(way.sorted(), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_datagram_that_is_held_back_leaves_behind_as_many_as_the_gap() {
    for (gap, expected) in [(1, [1, 0, 3, 2, 5, 4]), (2, [1, 2, 0, 4, 5, 3]), (0, [0, 1, 2, 3, 4, 5])] {
        let reorder = effect(1, reorder(MILLION, gap, millis(100)));
        let mut way = Way::new(1, std::slice::from_ref(&reorder));
        (0..6).for_each(|number| way.receive(number));
        way.drain();
        assert_eq!(way.out, expected, "gap {gap}");
        assert!(way.pipeline.is_empty());
        let held = reorder.touched.datagrams().reordered;
        assert_eq!(held, gap.min(1) * 6 / (gap + 1));
    }
}

#[test]
fn the_last_one_is_delivered_when_its_hold_is_over() {
    let reorder = effect(1, reorder(MILLION, 5, millis(80)));
    let mut way = Way::new(1, std::slice::from_ref(&reorder));
    way.receive(0);
    assert_eq!(way.run(), millis(80));
    assert_eq!((way.out.clone(), reorder.touched.datagrams().reordered), (vec![0], 0));
    way.receive(1);
    way.receive(2);
    assert_eq!(way.run(), millis(80));
    assert_eq!((way.out.clone(), reorder.touched.datagrams().reordered), (vec![0, 2, 1], 1));
}

#[test]
fn two_effects_that_reorder_act_one_after_the_other() {
    let both = [effect(1, reorder(MILLION, 1, millis(50))), effect(2, reorder(MILLION, 2, millis(50)))];
    let mut way = Way::new(1, &both);
    (0..6).for_each(|number| way.receive(number));
    way.run();
    // The first makes 1 0 3 2 5 4 of them, of which the second holds the first and the fourth back.
    assert_eq!(way.out, [0, 3, 1, 5, 4, 2]);
}

#[test]
fn bandwidth_paces_by_size_and_drops_what_finds_no_room() {
    let slow = effect(1, Kind::Bandwidth { bytes_per_second: 4_000 });
    let mut way = Way::new(1, std::slice::from_ref(&slow));
    (0..1000).for_each(|number| way.receive(number));
    assert_eq!(way.run(), Duration::from_secs(1), "1000 datagrams of 4 bytes at 4000 bytes a second");
    assert_eq!(way.out, (0..1000).collect::<Vec<_>>());
    way.budget = Budget::new(2 * (4 + 256));
    (0..5).for_each(|number| way.receive(number));
    assert_eq!(slow.touched.datagrams().lost, 3, "those at the tail");
    way.out.clear();
    way.run();
    assert_eq!(way.out, [0, 1]);
}

#[test]
fn a_rate_of_nothing_keeps_everything_and_a_new_rate_makes_up_for_no_time() {
    let none = effect(1, Kind::Bandwidth { bytes_per_second: 0 });
    let mut way = Way::new(1, &[none]);
    (0..100).for_each(|number| way.receive(number));
    assert_eq!((way.drain(), way.out.len()), (None, 0));
    way.now += Duration::from_secs(100);
    way.apply(&[effect_of(1, 1, Kind::Bandwidth { bytes_per_second: 400 }, 1.0)]);
    assert_eq!(way.run(), Duration::from_secs(1));
    assert_eq!(way.out, (0..100).collect::<Vec<_>>());
}

#[test]
fn duplicates_follow_their_datagram_and_are_counted() {
    let duplicate = effect(1, Kind::Duplicate { rate_ppm: MILLION });
    let mut way = Way::new(1, std::slice::from_ref(&duplicate));
    (0..3).for_each(|number| way.receive(number));
    way.drain();
    assert_eq!(way.out, [0, 0, 1, 1, 2, 2]);
    let evidence = duplicate.touched.evidence();
    assert_eq!((duplicate.touched.datagrams().duplicated, evidence.duplicated_bytes), (3, 12));
    way.budget = Budget::new(4 + 256);
    way.receive(3);
    way.drain();
    assert_eq!(way.out[6..], [3], "a copy that finds no room is the one that is dropped");
}

#[test]
fn datagrams_that_are_held_survive_a_change_and_a_removal() {
    let mut way = Way::new(1, &[effect(1, reorder(MILLION, 9, millis(500))), effect(2, Kind::Noop)]);
    way.receive(0);
    assert!(way.drain().is_some());
    way.apply(&[effect_of(1, 1, reorder(MILLION, 9, millis(500)), 1.0), effect(2, Kind::Noop)]);
    way.drain();
    assert_eq!(way.out, [0], "a changed effect lets go of what it held");
    way.receive(1);
    way.drain();
    assert_eq!((way.out.len(), way.pipeline.len()), (1, 1));
    way.apply(&[effect(2, Kind::Noop)]);
    way.drain();
    assert_eq!((way.out.clone(), way.pipeline.is_empty()), (vec![0, 1], true));
}

#[test]
fn an_effect_that_was_not_drawn_does_nothing() {
    let lost = effect_of(1, 0, Kind::PacketLoss { rate: 1.0, correlation: 0.0 }, 0.0);
    let mut way = Way::new(1, &[lost]);
    way.receive(7);
    way.drain();
    assert_eq!(way.out, [7]);
}

/// Effects that keep back and let pass, but neither lose nor copy.
fn harmless() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Noop),
        (0..200_u64, 0..200_u64)
            .prop_map(|(delay, jitter)| { Kind::Latency { delay: millis(delay), jitter: millis(jitter) } }),
        (0..=MILLION, 0..6_u64, 0..300_u64).prop_map(|(rate, gap, hold)| reorder(rate, gap, millis(hold))),
        (1..5_000_u64).prop_map(|rate| Kind::Bandwidth { bytes_per_second: rate }),
    ]
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        harmless(),
        (0.0..=1.0_f64, 0.0..=1.0_f64).prop_map(|(rate, correlation)| Kind::PacketLoss { rate, correlation }),
        (0..=MILLION).prop_map(|rate_ppm| Kind::Duplicate { rate_ppm }),
    ]
}

/// What happens to a way: a pause, then so many datagrams, or new effects.
#[derive(Debug, Clone)]
enum Happening {
    Receive { after: u64, count: u32 },
    Apply { after: u64, effects: Vec<(u64, u64, Kind)> },
}

fn happenings(kind: impl Strategy<Value = Kind> + Clone + 'static) -> impl Strategy<Value = Vec<Happening>> {
    let receive = (0..100_u64, 1..10_u32).prop_map(|(after, count)| Happening::Receive { after, count });
    // Each id once, in order, as the plan has them.
    let effects = prop::collection::btree_map(0..4_u64, (0..3_u64, kind), 0..4)
        .prop_map(|by_id| by_id.into_iter().map(|(id, (generation, kind))| (id, generation, kind)).collect());
    let apply = (0..100_u64, effects).prop_map(|(after, effects)| Happening::Apply { after, effects });
    prop::collection::vec(prop_oneof![3 => receive, 1 => apply], 1..40)
}

/// Lets it all happen and removes the effects in the end; how many datagrams came. `late`: the caller looks only so often.
fn play(way: &mut Way, happenings: &[Happening], late: u64) -> u32 {
    let mut numbers = 0..;
    let mut made: Vec<Arc<Effect>> = Vec::new();
    for (index, happening) in happenings.iter().enumerate() {
        match happening {
            Happening::Receive { after, count } => {
                way.now += millis(*after);
                for _ in 0..*count {
                    way.receive(numbers.next().expect("there are enough"));
                }
            }
            Happening::Apply { after, effects } => {
                way.now += millis(*after);
                let known = |id: u64, generation: u64, kind: &Kind| {
                    let same = |effect: &&Arc<Effect>| {
                        effect.id == id && effect.generation == generation && effect.kind == *kind
                    };
                    made.iter().find(same).cloned()
                };
                let wanted: Vec<Arc<Effect>> = effects
                    .iter()
                    .map(|(id, generation, kind)| {
                        known(*id, *generation, kind)
                            .unwrap_or_else(|| effect_of(*id, *generation, kind.clone(), 0.7))
                    })
                    .collect();
                way.apply(&wanted);
                made.extend(wanted);
            }
        }
        if late == 0 || (index as u64).is_multiple_of(late) {
            way.drain();
        }
    }
    way.run();
    way.apply(&[]);
    way.run();
    numbers.next().expect("there are enough")
}

proptest! {
    #[test]
    fn without_effects_each_datagram_passes_once_in_order(count in 0..200_u32, turns in 1..20_u32) {
        let mut way = Way::new(1, &[]);
        for number in 0..count {
            way.receive(number);
            if number % turns == 0 {
                prop_assert_eq!(way.drain(), None);
            }
        }
        way.drain();
        prop_assert_eq!(&way.out, &(0..count).collect::<Vec<_>>());
        prop_assert!(way.pipeline.is_empty());
    }

    #[test]
    fn what_only_keeps_back_neither_loses_nor_invents_a_datagram_however_it_changes(
        happenings in happenings(harmless().boxed()), seed in any::<u64>(), late in 0..5_u64,
    ) {
        let mut way = Way::new(seed, &[]);
        let came = play(&mut way, &happenings, late);
        prop_assert_eq!(way.sorted(), (0..came).collect::<Vec<_>>());
        prop_assert!(way.pipeline.is_empty());
        prop_assert_eq!(way.budget.take((1 << 24) - 256).map(drop), Some(()), "all room came back");
    }

    #[test]
    fn every_datagram_is_sent_or_counted_as_lost_and_every_copy_is_counted(
        happenings in happenings(any_kind().boxed()), seed in any::<u64>(), late in 0..5_u64,
    ) {
        let mut way = Way::new(seed, &[]);
        let came = play(&mut way, &happenings, late);
        let done = way.pipeline.done();
        prop_assert_eq!(way.out.len() as u64 + done.lost, u64::from(came) + done.duplicated);
    }

    #[test]
    fn the_same_seed_and_datagrams_meet_the_same_fate(
        happenings in happenings(any_kind().boxed()), seed in any::<u64>(),
    ) {
        let (mut one, mut other) = (Way::new(seed, &[]), Way::new(seed, &[]));
        play(&mut one, &happenings, 0);
        play(&mut other, &happenings, 0);
        prop_assert_eq!(&one.out, &other.out);
        prop_assert_eq!(one.pipeline.done(), other.pipeline.done());
    }

    #[test]
    fn a_caller_who_is_late_changes_nobodys_fate(
        effects in prop::collection::vec(any_kind(), 1..4), pauses in prop::collection::vec(0..50_u64, 1..60),
        seed in any::<u64>(), late in 1..9_usize,
    ) {
        let effects: Vec<_> =
            effects.into_iter().enumerate().map(|(id, kind)| effect(id as u64, kind)).collect();
        let mut prompt = Way::new(seed, &effects);
        let mut slow = Way::at(prompt.now, seed, &effects);
        for (number, pause) in (0..).zip(&pauses) {
            prompt.now += millis(*pause);
            slow.now = prompt.now;
            prompt.receive(number);
            slow.receive(number);
            prompt.drain();
            if (number as usize).is_multiple_of(late) {
                slow.drain();
            }
        }
        prompt.run();
        slow.run();
        prop_assert_eq!(&prompt.out, &slow.out);
        prop_assert_eq!(prompt.pipeline.done(), slow.pipeline.done());
    }
}

#[test]
fn another_seed_draws_another_fate() {
    let fate = |seed| {
        let mut way = Way::new(seed, &[effect(1, Kind::PacketLoss { rate: 0.5, correlation: 0.0 })]);
        (0..64).for_each(|number| way.receive(number));
        way.drain();
        way.out
    };
    assert_eq!(fate(1), fate(1));
    assert_ne!(fate(1), fate(2));
    assert!((10..54).contains(&fate(1).len()));
}
