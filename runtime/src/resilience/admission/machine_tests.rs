//! The machine on its own: examples of its order, and its promises over random histories.

use proptest::prelude::*;

use super::*;

const SETTINGS: Settings = Settings {
    executing_max: 2,
    client_max: 2,
    timeout: Duration::from_millis(1_000),
    target: Duration::from_millis(50),
    interval: Duration::from_millis(100),
};

fn name(client: usize) -> Arc<str> {
    format!("client-{client}").into()
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// One client each, so that only the whole is bounded.
fn full(count: usize) -> (Machine, Instant, Vec<Id>) {
    let now = Instant::now();
    let mut machine = Machine::new(SETTINGS, now);
    let mut ids = Vec::new();
    for client in 0..2 + count {
        match machine.arrive(&name(client), Some(100), now, &mut Vec::new()) {
            Arrival::Enters => assert!(client < 2),
            Arrival::Waits(id) => ids.push(id),
            Arrival::Refused(reason) => panic!("{reason:?}"),
        }
    }
    (machine, now, ids)
}

fn leave(machine: &mut Machine, client: usize, now: Instant) -> Vec<Event> {
    let mut events = Vec::new();
    machine.leave(&name(client), now, &mut events);
    events
}

#[test]
fn a_short_queue_is_served_in_the_order_of_arrival() {
    let (mut machine, now, ids) = full(2);
    let then = now + millis(90);
    assert_eq!(leave(&mut machine, 0, then), [Event::Enters(ids[0], name(2))]);
    assert_eq!(leave(&mut machine, 1, then), [Event::Enters(ids[1], name(3))]);
    assert_eq!((machine.executing(), machine.waiting()), (2, 0));
}

#[test]
fn a_queue_that_stays_is_served_from_its_newest_and_the_old_are_shed() {
    let (mut machine, now, ids) = full(3);
    let later = now + millis(120);
    let mut events = Vec::new();
    let Arrival::Waits(newest) = machine.arrive(&name(9), Some(100), later, &mut events) else {
        panic!("it waits")
    };
    let shed = |id: &Id| Event::Shed(*id, Reason::Overloaded);
    assert_eq!(events, ids.iter().map(shed).collect::<Vec<_>>());
    // The queue was not empty for a moment: there is still too much.
    let Arrival::Waits(last) = machine.arrive(&name(10), Some(100), later + millis(1), &mut events) else {
        panic!("it waits")
    };
    let then = later + millis(2);
    assert_eq!(leave(&mut machine, 0, then), [Event::Enters(last, name(10))]);
    assert_eq!(leave(&mut machine, 1, then), [Event::Enters(newest, name(9))]);
    assert_eq!(machine.overloaded_for(then), Duration::ZERO);
}

#[test]
fn an_overload_that_comes_back_is_not_waited_for_again_and_one_long_after_is() {
    let (mut machine, now, _) = full(1);
    let over = now + millis(120);
    machine.arrive(&name(8), Some(100), over, &mut Vec::new());
    let lasting = machine.overloaded_for(over);
    assert_eq!(lasting, millis(120));
    leave(&mut machine, 0, over);
    assert_eq!((machine.waiting(), machine.overloaded_for(over)), (0, Duration::ZERO), "all is served");

    let queue = |machine: &mut Machine, client, then| {
        let Arrival::Waits(_) = machine.arrive(&name(client), Some(100), then, &mut Vec::new()) else {
            panic!("it waits")
        };
        let mut events = Vec::new();
        machine.arrive(&name(client + 1), Some(100), then + millis(60), &mut events);
        events.len()
    };
    let soon = over + millis(200);
    assert_eq!(queue(&mut machine, 20, soon), 1, "after the target, since it is the same overload");
    assert_eq!(machine.overloaded_for(soon + millis(60)), millis(380), "with the gap between");
    while machine.waiting() > 0 {
        machine.give_up(machine.queue[0].id, soon + millis(60));
    }
    let late = soon + millis(60) + SETTINGS.interval * REMEMBERED;
    assert_eq!(queue(&mut machine, 30, late), 0, "long after, a short queue is a short queue");
}

#[test]
fn a_queue_in_which_nothing_happens_is_shed_when_it_is_due() {
    let (mut machine, now, ids) = full(3);
    let due = machine.due(now, now);
    assert!(due > now + SETTINGS.interval && due <= now + SETTINGS.interval + millis(2), "{:?}", due - now);
    let mut events = Vec::new();
    machine.tick(due - millis(2), &mut events);
    assert_eq!(events, [], "it is not too much yet");
    machine.tick(due, &mut events);
    assert_eq!(events, ids.iter().map(|id| Event::Shed(*id, Reason::Overloaded)).collect::<Vec<_>>());
    assert_eq!((machine.executing(), machine.waiting()), (2, 0));
    // Who comes now waits for the target alone.
    let Arrival::Waits(next) = machine.arrive(&name(9), Some(100), due, &mut events) else {
        panic!("it waits")
    };
    events.clear();
    let then = machine.due(due, due);
    assert!(then <= due + SETTINGS.target + millis(2), "{:?}", then - due);
    machine.tick(then, &mut events);
    assert_eq!(events, [Event::Shed(next, Reason::Overloaded)]);
}

#[test]
fn the_bounds_of_the_queue_and_of_a_client_refuse() {
    let (mut machine, now, _) = full(3);
    let mut arrive = |client, depth| machine.arrive(&name(client), Some(depth), now, &mut Vec::new());
    assert_eq!(arrive(7, 3), Arrival::Refused(Reason::QueueFull));
    assert_eq!(arrive(7, 0), Arrival::Refused(Reason::QueueFull));
    assert!(matches!(arrive(0, 10), Arrival::Waits(_)));
    assert!(matches!(arrive(0, 10), Arrival::Waits(_)));
    assert_eq!(arrive(0, 10), Arrival::Refused(Reason::ClientBusy));
}

#[test]
fn a_client_at_its_bound_does_not_hold_up_others() {
    let now = Instant::now();
    let mut machine = Machine::new(Settings { executing_max: 3, ..SETTINGS }, now);
    let mut arrive = |client| machine.arrive(&name(client), Some(100), now, &mut Vec::new());
    assert_eq!([arrive(0), arrive(0)], [Arrival::Enters; 2]);
    assert!(matches!(arrive(0), Arrival::Waits(_)));
    assert_eq!(arrive(1), Arrival::Enters, "a place is free, and the one who waits may not have it");
    let Arrival::Waits(second) = arrive(2) else { panic!("it waits") };
    assert_eq!(leave(&mut machine, 1, now), [Event::Enters(second, name(2))]);
}

#[test]
fn who_gives_up_waits_no_more() {
    let (mut machine, now, ids) = full(2);
    assert!(machine.give_up(ids[0], now + millis(10)));
    assert!(!machine.give_up(ids[0], now + millis(10)), "it is gone");
    assert_eq!(leave(&mut machine, 0, now + millis(20)), [Event::Enters(ids[1], name(3))]);
    assert!(!machine.give_up(ids[1], now + millis(20)), "it was decided");
}

#[test]
fn nobody_waits_longer_than_the_timeout_where_the_interval_is_longer() {
    let settings = Settings { interval: millis(5_000), ..SETTINGS };
    let now = Instant::now();
    let mut machine = Machine::new(settings, now);
    for client in 0..3 {
        machine.arrive(&name(client), Some(100), now, &mut Vec::new());
    }
    assert_eq!(machine.due(now, now), now + settings.timeout);
    let mut events = Vec::new();
    machine.tick(now + settings.timeout, &mut events);
    assert!(matches!(events[..], [Event::Shed(_, Reason::QueueTimeout)]), "{events:?}");
}

#[derive(Debug, Clone)]
enum Step {
    Arrive(usize),
    Leave(usize),
    GiveUp(usize),
    Pass(u64),
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..5_usize).prop_map(Step::Arrive),
        3 => (0..8_usize).prop_map(Step::Leave),
        1 => (0..8_usize).prop_map(Step::GiveUp),
        3 => (0..80_u64).prop_map(Step::Pass),
        1 => Just(Step::Tick),
    ]
}

/// What the machine must agree with.
#[derive(Default)]
struct Model {
    executing: Vec<usize>,
    waiting: Vec<(Id, usize, Instant)>,
    told: usize,
    waited: usize,
}

impl Model {
    fn of(&self, client: usize) -> usize {
        self.executing.iter().filter(|one| **one == client).count()
    }

    fn apply(&mut self, events: Vec<Event>, overloaded: bool) -> Result<(), TestCaseError> {
        for event in events {
            let (Event::Enters(id, _) | Event::Shed(id, _)) = &event;
            let at = self.waiting.iter().position(|(known, ..)| known == id);
            prop_assert!(at.is_some(), "{id} is told twice, or never waited");
            let at = at.expect("checked");
            if let Event::Enters(_, client) = &event {
                let others = if overloaded { &self.waiting[at + 1..] } else { &self.waiting[..at] };
                let passed_over = others.iter().filter(|(_, other, _)| self.of(*other) < SETTINGS.client_max);
                prop_assert_eq!(passed_over.count(), 0, "overloaded: {}", overloaded);
                prop_assert_eq!(&name(self.waiting[at].1), client);
                self.executing.push(self.waiting[at].1);
            }
            self.waiting.remove(at);
            self.told += 1;
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn bounds_order_and_wake_ups_hold_over_any_history(steps in proptest::collection::vec(step(), 1..200), depth in 0..6_usize) {
        let mut now = Instant::now();
        let mut machine = Machine::new(SETTINGS, now);
        let mut model = Model::default();
        for step in steps {
            let overloaded = !machine.overloaded_for(now).is_zero();
            let mut events = Vec::new();
            match step {
                Step::Pass(time) => now += millis(time),
                Step::Arrive(client) => match machine.arrive(&name(client), Some(depth), now, &mut events) {
                    Arrival::Enters => {
                        model.apply(std::mem::take(&mut events), overloaded)?;
                        model.executing.push(client);
                    }
                    Arrival::Waits(id) => {
                        model.apply(std::mem::take(&mut events), overloaded)?;
                        model.waiting.push((id, client, now));
                        model.waited += 1;
                    }
                    Arrival::Refused(_) => {}
                },
                Step::Tick => {
                    machine.tick(now, &mut events);
                    model.apply(std::mem::take(&mut events), overloaded)?;
                    let most = if overloaded { SETTINGS.target } else { SETTINGS.timeout };
                    for (_, _, since) in &model.waiting {
                        prop_assert!(now - *since < most, "{:?} of {most:?}", now - *since);
                        prop_assert!(machine.due(*since, now) > now, "who looks at the clock does nothing else");
                    }
                }
                Step::Leave(which) if !model.executing.is_empty() => {
                    let client = model.executing.remove(which % model.executing.len());
                    machine.leave(&name(client), now, &mut events);
                }
                Step::GiveUp(which) if !model.waiting.is_empty() => {
                    let (id, ..) = model.waiting.remove(which % model.waiting.len());
                    prop_assert!(machine.give_up(id, now));
                    model.told += 1;
                }
                Step::Leave(_) | Step::GiveUp(_) => {}
            }
            model.apply(events, overloaded)?;
            prop_assert_eq!(machine.executing(), model.executing.len());
            prop_assert_eq!(machine.waiting(), model.waiting.len());
            prop_assert!(machine.executing() <= SETTINGS.executing_max);
            prop_assert!(machine.waiting() <= depth);
            for client in 0..5 {
                prop_assert!(model.of(client) <= SETTINGS.client_max);
            }
            if machine.executing() < SETTINGS.executing_max {
                let idle = model.waiting.iter().filter(|(_, client, _)| model.of(*client) < SETTINGS.client_max);
                prop_assert_eq!(idle.count(), 0, "a place is free and somebody waits who could have it");
            }
        }
        prop_assert_eq!(model.told + model.waiting.len(), model.waited);
        // When everybody leaves, nobody is left behind.
        while let Some(client) = model.executing.pop() {
            let mut events = Vec::new();
            machine.leave(&name(client), now, &mut events);
            for event in events {
                let (Event::Enters(id, _) | Event::Shed(id, _)) = &event;
                model.waiting.retain(|(known, ..)| known != id);
                if let Event::Enters(_, client) = event {
                    let client = (0..5).find(|one| name(*one) == client).expect("one of them");
                    model.executing.push(client);
                }
            }
        }
        prop_assert_eq!((machine.executing(), machine.waiting(), model.waiting.len()), (0, 0, 0));
        prop_assert!(machine.clients.is_empty());
    }
}
