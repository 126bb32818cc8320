//! `interval` in PostgreSQL's own words (IntervalStyle `postgres`), as `to_json` gives it.

use std::io::Write as _;

use super::Error;
use super::calendar::{
    INFINITY, MICROS_A_MINUTE, MICROS_A_SECOND, MICROS_AN_HOUR, NEGATIVE_INFINITY, significant, six,
};
use super::number::fixed;

const VEC_TAKES_ALL: &str = "writing to a vector does not fail";

/// Microseconds, days and months, each with its own sign. All three at an end of their range are an infinity
/// (PostgreSQL 17; before, the last of the finite ones, which no calculation can give).
pub(super) fn interval(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let [m7, m6, m5, m4, m3, m2, m1, m0, days @ .., n3, n2, n1, n0] = fixed::<16>(raw, "interval")?;
    let micros = i64::from_be_bytes([m7, m6, m5, m4, m3, m2, m1, m0]);
    let days = i32::from_be_bytes(days);
    let months = i32::from_be_bytes([n3, n2, n1, n0]);
    match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => out.extend_from_slice(INFINITY),
        (i64::MIN, i32::MIN, i32::MIN) => out.extend_from_slice(NEGATIVE_INFINITY),
        _ => finite(micros, days, months, out),
    }
    Ok(())
}

fn finite(micros: i64, days: i32, months: i32, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut parts = Parts { empty: true, after_negative: false, out };
    parts.write(months / 12, "year");
    parts.write(months % 12, "mon");
    parts.write(days, "day");
    if parts.empty || micros != 0 {
        parts.write_time(micros);
    }
    out.push(b'"');
}

/// Parts of an interval, of which those that are zero are left out.
struct Parts<'a> {
    empty: bool,
    /// A positive part after a negative one shows its sign.
    after_negative: bool,
    out: &'a mut Vec<u8>,
}

impl Parts<'_> {
    fn write(&mut self, value: i32, unit: &str) {
        if value == 0 {
            return;
        }
        let space = if self.empty { "" } else { " " };
        let sign = if self.after_negative && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        write!(self.out, "{space}{sign}{value} {unit}{plural}").expect(VEC_TAKES_ALL);
        self.after_negative = value < 0;
        self.empty = false;
    }

    fn write_time(&mut self, micros: i64) {
        let space = if self.empty { "" } else { " " };
        let sign = match micros {
            ..0 => "-",
            _ if self.after_negative => "+",
            _ => "",
        };
        let micros = micros.unsigned_abs();
        let hours = micros / MICROS_AN_HOUR.unsigned_abs();
        let minutes = micros / MICROS_A_MINUTE.unsigned_abs() % 60;
        let seconds = micros / MICROS_A_SECOND.unsigned_abs() % 60;
        write!(self.out, "{space}{sign}{hours:02}:{minutes:02}:{seconds:02}").expect(VEC_TAKES_ALL);
        let fraction = (micros % MICROS_A_SECOND.unsigned_abs()) as u32;
        if fraction > 0 {
            let digits = six(fraction);
            self.out.push(b'.');
            self.out.extend_from_slice(&digits[..significant(&digits)]);
        }
    }
}
