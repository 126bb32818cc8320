//! Durations and sizes as people write them: `"2s"`, `"256MiB"`. A bare number is an error,
//! because nobody remembers its unit.

use std::time::Duration;

use bytesize::ByteSize;

pub mod duration {
    use std::fmt;
    use std::time::Duration;

    use serde::de::{Deserializer, Error, Unexpected, Visitor};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&super::show_duration(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"500ms\", \"2s\" or \"10m\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
                humantime::parse_duration(text).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_str(Reader)
    }
}

pub mod size {
    use std::fmt;

    use bytesize::ByteSize;
    use serde::de::{Deserializer, Error, Unexpected, Visitor};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(value: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&super::show_size(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64KiB\", \"1MiB\" or \"2GB\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
                let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
                text.parse()
                    .ok()
                    .filter(|_| has_unit)
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_str(Reader)
    }
}

pub(super) fn show_duration(value: Duration) -> String {
    humantime::format_duration(value).to_string()
}

/// The largest unit that the value is a whole number of, so that reading it back is exact.
pub(super) fn show_size(value: ByteSize) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let bytes = value.as_u64();
    UNITS
        .iter()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sizes_read_back_exactly(bytes in any::<u64>()) {
            // The reader goes through f64, which is exact up to 2^53.
            let bytes = bytes >> 11;
            prop_assert_eq!(show_size(ByteSize(bytes)).parse::<ByteSize>(), Ok(ByteSize(bytes)));
        }

        #[test]
        fn durations_read_back_exactly(nanos in any::<u64>()) {
            let value = Duration::from_nanos(nanos);
            prop_assert_eq!(humantime::parse_duration(&show_duration(value)), Ok(value));
        }
    }
}
