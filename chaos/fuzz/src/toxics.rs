//! Toxics with attributes that may be anything, come, change and go on one way of a link, as the bytes of an input say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chaos::fault::Direction;
use chaos::toxic::clients::Clients;
use chaos::toxic::effect::{Common, Effect, Touched};
use chaos::toxic::{Number, Toxic, Transport, Type};
use tokio::time::Instant;

/// Steps of one input; each can take a while to work off.
const STEPS_MAX: usize = 200;
/// Toxics of one input.
const TOXICS_MAX: u64 = 12;

/// What is left of an input; behind its end stand zeros.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(input: &'a [u8]) -> Input<'a> {
        Input(input)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    fn eight(&mut self) -> [u8; 8] {
        std::array::from_fn(|_| self.byte())
    }

    /// Mostly small, sometimes what is worst.
    fn whole(&mut self) -> i64 {
        match self.byte() {
            0xff => i64::MAX,
            0xfe => i64::MIN,
            0xfd => -1,
            0xfc => i64::from_le_bytes(self.eight()),
            0xfb => 1_000_000,
            small => i64::from(small),
        }
    }

    fn real(&mut self) -> f64 {
        match self.byte() {
            0xff => f64::MAX,
            0xfe => -1.0,
            0xfd => f64::MIN_POSITIVE,
            small => f64::from(small) / 100.0,
        }
    }

    /// Up to a year.
    pub fn time(&mut self) -> Duration {
        match self.byte() {
            0xff => Duration::from_secs(365 * 24 * 3600),
            0xfe => Duration::from_secs(3600),
            0xfd => Duration::from_nanos(1),
            small => Duration::from_millis(u64::from(small)),
        }
    }

    /// Bytes that arrive at once.
    pub fn size(&mut self) -> usize {
        match self.byte() {
            0xff => 60_000,
            0xfe => 1_500,
            small => usize::from(small),
        }
    }
}

/// What can be expected of what leaves, whatever toxics there were so far.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    /// Nothing is lost, unless the stream is ended.
    pub all: bool,
    /// Nothing comes twice.
    pub once: bool,
    /// Nothing is altered.
    pub intact: bool,
}

/// The toxics of a way.
pub struct Toxics {
    transport: Transport,
    next_id: u64,
    acting: BTreeMap<u64, (Type, Arc<Effect>)>,
    pub promise: Promise,
}

impl Toxics {
    pub fn new(transport: Transport) -> Toxics {
        let promise = Promise { all: true, once: true, intact: true };
        Toxics { transport, next_id: 1, acting: BTreeMap::new(), promise }
    }

    /// Adds a toxic.
    pub fn add(&mut self, input: &mut Input<'_>, now: Instant) {
        let kind = Type::ALL[usize::from(input.byte()) % Type::ALL.len()];
        // What the API refuses, and what never comes as far as bytes.
        if !kind.acts_on(self.transport) || kind.acts_on_port() || self.next_id > TOXICS_MAX {
            return;
        }
        self.promise.all &= !matches!(
            kind,
            Type::PacketLoss
                | Type::Blackhole
                | Type::Truncate
                | Type::Timeout
                | Type::ResetPeer
                | Type::LimitData
        );
        self.promise.once &= kind != Type::Duplicate;
        self.promise.intact &= kind != Type::Corrupt;
        let id = self.next_id;
        self.next_id += 1;
        self.put(id, 0, kind, Arc::new(Common::new(now)), Arc::default(), input);
    }

    /// Gives a toxic other values.
    pub fn change(&mut self, input: &mut Input<'_>) {
        let Some((kind, effect)) = self.chosen(input) else { return };
        let (common, touched) = (effect.common.clone(), effect.touched.clone());
        self.put(effect.id, effect.generation + 1, kind, common, touched, input);
    }

    pub fn remove(&mut self, input: &mut Input<'_>) {
        if let Some((_, effect)) = self.chosen(input) {
            self.acting.remove(&effect.id);
        }
    }

    pub fn effects(&self) -> Vec<Arc<Effect>> {
        self.acting.values().map(|(_, effect)| effect.clone()).collect()
    }

    fn chosen(&self, input: &mut Input<'_>) -> Option<(Type, Arc<Effect>)> {
        let index = usize::from(input.byte()).checked_rem(self.acting.len())?;
        self.acting.values().nth(index).cloned()
    }

    fn put(
        &mut self,
        id: u64,
        generation: u64,
        kind: Type,
        common: Arc<Common>,
        touched: Arc<Touched>,
        input: &mut Input<'_>,
    ) {
        let toxicity = [1.0, 0.5, 0.0, 2.0, -1.0, f32::MIN_POSITIVE][usize::from(input.byte()) % 6];
        let values = kind.attributes().iter().map(|attribute| match attribute.default {
            Number::Whole(_) => Number::Whole(input.whole()),
            Number::Real(_) => Number::Real(input.real()),
        });
        let toxic = Toxic {
            name: "t".into(),
            kind,
            stream: "upstream".into(),
            toxicity,
            values: values.collect(),
            clients: Clients::default(),
        };
        let effect = Effect {
            id,
            generation,
            kind: toxic.effect(),
            direction: Direction::Upstream,
            toxicity,
            clients: Clients::default(),
            common,
            touched,
        };
        self.acting.insert(id, (kind, Arc::new(effect)));
    }
}

/// One way of a link whose traffic and time an input makes.
pub trait Way {
    fn now(&self) -> Instant;
    /// Time passes.
    fn pass(&mut self, time: Duration);
    /// So many bytes arrive, where they are taken.
    fn receive(&mut self, size: usize);
    /// The sender ends.
    fn end(&mut self, how: u8);
    /// The toxics act from now on, and what may leave leaves.
    fn follow(&mut self, toxics: &Toxics);
    /// Waits so often for what leaves next.
    fn wait(&mut self, times: u8, promise: Promise);
    /// There is no toxic any more: everything has left.
    fn finish(&mut self, promise: Promise);
}

/// Takes one step after the other, then removes all toxics.
pub fn drive(way: &mut impl Way, transport: Transport, input: &mut Input<'_>) {
    let mut toxics = Toxics::new(transport);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0 => toxics.add(input, way.now()),
            1 => toxics.change(input),
            2 => toxics.remove(input),
            3 | 4 => way.receive(input.size()),
            5 => way.pass(input.time()),
            6 => way.end(input.byte()),
            _ => way.wait(input.byte(), toxics.promise),
        }
        way.follow(&toxics);
    }
    toxics.acting.clear();
    way.follow(&toxics);
    way.finish(toxics.promise);
}
