//! Field checks inside deserialization, so that an error carries the place of the value.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

pub fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let value: Duration = humantime_serde::deserialize(from)?;
    if value.is_zero() { Err(D::Error::custom("must be longer than 0s")) } else { Ok(value) }
}

pub fn optional_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}

pub fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(from)?;
    let sound = value.is_finite() && (0.0..=1_000_000.0).contains(&value);
    if sound { Ok(value) } else { Err(D::Error::custom("must be a number from 0 to 1000000")) }
}

pub fn optional_rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    rate(from).map(Some)
}

pub fn share<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(from)?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(D::Error::custom("must be from 0 to 1")) }
}

pub fn users<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let value = u32::deserialize(from)?;
    let sound = (1..=20_000).contains(&value);
    if sound { Ok(value) } else { Err(D::Error::custom("must be from 1 to 20000")) }
}

pub fn method<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let value = String::deserialize(from)?;
    if KNOWN.contains(&value.as_str()) { Ok(value) } else { Err(D::Error::unknown_variant(&value, &KNOWN)) }
}

pub fn path<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let value = String::deserialize(from)?;
    if value.starts_with('/') { Ok(value) } else { Err(D::Error::custom("must start with `/`")) }
}

pub fn optional_status<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    let value = u16::deserialize(from)?;
    if (100..=599).contains(&value) {
        Ok(Some(value))
    } else {
        Err(D::Error::custom("must be an HTTP status from 100 to 599"))
    }
}
