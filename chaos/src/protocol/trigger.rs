//! When a rule acts on what it matches. Pure: how often it has matched, the bytes seen and the random stream come in.

use std::fmt;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::de::{Error as _, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Acts on every match, or on those that are named.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// Counted over all connections of a link, from 1. Empty: no such condition.
    pub nth: Nth,
    /// Every so-manieth match, counted as above. 1: all.
    pub every: Every,
    /// Part of the matches, drawn for each from the connection's stream. 0 to 1.
    pub share: Share,
    /// Matches on a connection count only once so many bytes have gone over it before them, both ways together.
    pub after_bytes: u64,
}

impl Trigger {
    pub fn always() -> Trigger {
        Trigger { nth: Nth::default(), every: Every::default(), share: Share::default(), after_bytes: 0 }
    }

    pub fn nth(nth: u64) -> Trigger {
        Trigger { nth: Nth(vec![nth]), ..Trigger::always() }
    }

    /// Does it act on the match with this ordinal (from 1)?
    pub fn fires(&self, ordinal: u64, rng: &mut ChaCha8Rng) -> bool {
        (self.nth.0.is_empty() || self.nth.0.contains(&ordinal))
            && ordinal.is_multiple_of(self.every.0.max(1))
            && (self.share.0 >= 1.0 || rng.random_bool(self.share.0.clamp(0.0, 1.0)))
    }
}

/// One ordinal or a list of them, each from 1. At most [`Nth::MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Nth(pub Vec<u64>);

impl Nth {
    pub const MAX: usize = 1024;

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Nth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Nth, D::Error> {
        struct Ordinals;

        impl<'de> Visitor<'de> for Ordinals {
            type Value = Nth;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an ordinal from 1, or a list of them")
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Nth, E> {
                let positive = u64::try_from(value)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(value), &"an ordinal from 1"))?;
                self.visit_u64(positive)
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Nth, E> {
                match value {
                    0 => Err(E::invalid_value(Unexpected::Unsigned(0), &"an ordinal from 1")),
                    value => Ok(Nth(vec![value])),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Nth, A::Error> {
                let mut all = Vec::new();
                while let Some(value) = list.next_element::<u64>()? {
                    if value == 0 {
                        return Err(A::Error::invalid_value(Unexpected::Unsigned(0), &"an ordinal from 1"));
                    }
                    if all.len() == Nth::MAX {
                        return Err(A::Error::custom(format_args!("at most {} ordinals", Nth::MAX)));
                    }
                    all.push(value);
                }
                match all.is_empty() {
                    true => Err(A::Error::invalid_length(0, &"at least one ordinal")),
                    false => Ok(Nth(all)),
                }
            }
        }

        deserializer.deserialize_any(Ordinals)
    }
}

/// At least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64")]
pub struct Every(pub u64);

impl Default for Every {
    fn default() -> Every {
        Every(1)
    }
}

impl TryFrom<u64> for Every {
    type Error = &'static str;

    fn try_from(value: u64) -> Result<Every, &'static str> {
        if value == 0 { Err("`every` is at least 1, not 0") } else { Ok(Every(value)) }
    }
}

/// Above 0, at most 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct Share(pub f64);

impl Default for Share {
    fn default() -> Share {
        Share(1.0)
    }
}

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(value: f64) -> Result<Share, String> {
        match value > 0.0 && value <= 1.0 {
            true => Ok(Share(value)),
            false => Err(format!("`share` is above 0 and at most 1, not {value}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use proptest::prelude::*;

    fn fired(trigger: &Trigger, matches: u64) -> Vec<u64> {
        let mut rng = seed::stream(1, &["trigger"]);
        (1..=matches).filter(|ordinal| trigger.fires(*ordinal, &mut rng)).collect()
    }

    #[test]
    fn named_ordinals_and_only_they_fire() {
        assert_eq!(fired(&Trigger { nth: Nth(vec![3, 17]), ..Trigger::always() }, 40), [3, 17]);
        assert_eq!(fired(&Trigger { every: Every(10), ..Trigger::always() }, 40), [10, 20, 30, 40]);
        assert_eq!(fired(&Trigger::always(), 3), [1, 2, 3]);
    }

    #[test]
    fn a_share_is_drawn_from_the_seed() {
        let trigger = Trigger { share: Share(0.25), ..Trigger::always() };
        let fires = fired(&trigger, 4000);
        assert_eq!(fires, fired(&trigger, 4000));
        assert!((800..1200).contains(&fires.len()), "{} of 4000", fires.len());
    }

    proptest! {
        #[test]
        fn every_fires_once_in_each_period(every in 1u64..50, periods in 1u64..20) {
            let trigger = Trigger { every: Every(every), ..Trigger::always() };
            prop_assert_eq!(fired(&trigger, every * periods).len() as u64, periods);
        }
    }
}
