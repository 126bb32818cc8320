//! What a scenario file writes after `inject.`: a fault on a link, on messages or on a process, by the word that the fault
//! itself has.
//!
//! The faults are those of `chaos`, read by its own types: a fault that a proxy learns can be written at once.

use std::time::Duration;

use chaos::fault::NetworkFault;
use chaos::protocol::fault::{NatsFault, PgFault, RedisFault, WireFault};
use serde::Deserialize;
use serde::de::value::EnumAccessDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Inject {
    Network(NetworkFault),
    /// `inject.pg.drop-ack = { … }` and the like: faults on messages.
    Wire(WireFault),
    Process(ProcessFault),
    Load(LoadFault),
    Stub(StubFault),
    Change(ChangeFault),
}

/// What operators do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChangeFault {
    /// A rollout with this plan, of the flag in `[topology]`.
    Rollout(toml::Table),
}

/// What the callers do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum LoadFault {
    /// So many of them come: `2000/s`.
    Surge { arrival: String },
}

/// What others do whom the server calls.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum StubFault {
    /// They answer every call with this status, of HTTP or SMTP; `at_once`: they keep all calls waiting and answer them
    /// together when the fault ends.
    Answer {
        status: u16,
        #[serde(default)]
        at_once: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum ProcessFault {
    Kill {
        #[serde(with = "humantime_serde")]
        restart_after: Duration,
    },
    Pause {},
    /// What it uses becomes this share of the memory that it may use.
    Memory {
        used_percent: u32,
    },
    Terminate {
        #[serde(default = "ten_seconds", with = "humantime_serde")]
        grace: Duration,
        #[serde(with = "humantime_serde")]
        restart_after: Duration,
    },
}

const WIRE: [&str; 3] = ["pg", "redis", "nats"];
const PROCESS: [&str; 4] = ["kill", "pause", "memory", "terminate"];
const LOAD: &str = "surge";
const STUB: &str = "answer";
const CHANGE: &str = "rollout";

const COUNT: usize = NetworkFault::KINDS.len() + WIRE.len() + PROCESS.len() + 3;

/// Every word that may follow `inject.`.
static WORDS: [&str; COUNT] = {
    let mut all = [""; COUNT];
    let mut at = 0;
    while at < NetworkFault::KINDS.len() {
        all[at] = NetworkFault::KINDS[at];
        at += 1;
    }
    let mut of = 0;
    while of < WIRE.len() {
        all[at + of] = WIRE[of];
        of += 1;
    }
    of = 0;
    while of < PROCESS.len() {
        all[at + WIRE.len() + of] = PROCESS[of];
        of += 1;
    }
    all[COUNT - 3] = LOAD;
    all[COUNT - 2] = STUB;
    all[COUNT - 1] = CHANGE;
    all
};

impl<'de> Deserialize<'de> for Inject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Inject, D::Error> {
        deserializer.deserialize_enum("Inject", &WORDS, Faults)
    }
}

struct Faults;

impl<'de> Visitor<'de> for Faults {
    type Value = Inject;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a fault, as in `inject.refuse = {}`")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Inject, A::Error> {
        let (word, content) = access.variant_seed(Known)?;
        match word {
            "pg" => content.newtype_variant::<PgFault>().map(|fault| Inject::Wire(WireFault::Pg(fault))),
            "redis" => {
                content.newtype_variant::<RedisFault>().map(|fault| Inject::Wire(WireFault::Redis(fault)))
            }
            "nats" => {
                content.newtype_variant::<NatsFault>().map(|fault| Inject::Wire(WireFault::Nats(fault)))
            }
            word if PROCESS.contains(&word) => of_its_own_type(word, content).map(Inject::Process),
            LOAD => of_its_own_type(word, content).map(Inject::Load),
            STUB => of_its_own_type(word, content).map(Inject::Stub),
            CHANGE => of_its_own_type(word, content).map(Inject::Change),
            word => of_its_own_type(word, content).map(Inject::Network),
        }
    }
}

/// Reads the word, so that an unknown one is refused at its own place in the file.
struct Known;

impl<'de> DeserializeSeed<'de> for Known {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        let word = String::deserialize(deserializer)?;
        let known = WORDS.iter().find(|known| **known == word);
        known.copied().ok_or_else(|| de::Error::unknown_variant(&word, &WORDS))
    }
}

fn of_its_own_type<'de, T, A>(word: &'static str, content: A) -> Result<T, A::Error>
where
    T: Deserialize<'de>,
    A: VariantAccess<'de>,
{
    T::deserialize(EnumAccessDeserializer::new(Again { word, content }))
}

/// An enum whose word has been read, to be read once more by the type that has it.
struct Again<A> {
    word: &'static str,
    content: A,
}

impl<'de, A: VariantAccess<'de>> EnumAccess<'de> for Again<A> {
    type Error = A::Error;
    type Variant = A;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, A), A::Error> {
        let word: de::value::StrDeserializer<'de, A::Error> = self.word.into_deserializer();
        Ok((seed.deserialize(word)?, self.content))
    }
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        inject: Inject,
    }

    fn read(line: &str) -> Result<Inject, String> {
        toml::from_str::<File>(line).map(|file| file.inject).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn each_word_of_a_link_fault_is_read_by_the_fault_itself() {
        for word in NetworkFault::KINDS {
            match read(&format!("inject.{word} = {{}}")) {
                Ok(Inject::Network(fault)) => assert_eq!(fault.kind(), word),
                Ok(other) => panic!("{word} became {other:?}"),
                // It is known, and says what it lacks.
                Err(message) => assert!(message.contains("missing field"), "{word}: {message}"),
            }
        }
    }

    #[test]
    fn the_others_are_faults_on_messages_and_processes() {
        let kill = read("inject.kill = { restart_after = \"2s\" }").expect("kill");
        assert_eq!(kill, Inject::Process(ProcessFault::Kill { restart_after: Duration::from_secs(2) }));
        let pause = read("inject.pause = {}").expect("pause");
        assert_eq!(pause, Inject::Process(ProcessFault::Pause {}));
        let memory = read("inject.memory = { used_percent = 85 }").expect("memory");
        assert_eq!(memory, Inject::Process(ProcessFault::Memory { used_percent: 85 }));
        let wire = read("inject.pg.drop-ack = { match = \"COMMIT\", then = \"reset\" }").expect("pg");
        assert!(matches!(wire, Inject::Wire(WireFault::Pg(_))));
    }

    #[test]
    fn a_wrong_word_is_told_with_all_that_are_known() {
        let message = read("inject.flop = {}").expect_err("unknown");
        assert!(message.starts_with("unknown variant `flop`, expected one of `latency`"), "{message}");
        for word in WORDS {
            assert!(message.contains(&format!("`{word}`")), "{message} lacks {word}");
        }
    }

    #[test]
    fn a_wrong_attribute_is_told_with_those_that_the_fault_has() {
        let message = read("inject.flap = { up = \"1s\", down = \"1s\", dwon = 1 }").expect_err("unknown");
        assert!(message.contains("dwon") && message.contains("direction"), "{message}");
    }
}
