//! `interval` in PostgreSQL's own words (IntervalStyle `postgres`), as `to_json` gives it.

use std::io::Write as _;

use super::Error;
use super::calendar::{INFINITY, MICROS_A_MINUTE, MICROS_A_SECOND, MICROS_AN_HOUR, NEGATIVE_INFINITY};
use super::number::{fixed, significant, six};

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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(micros: i64, days: i32, months: i32) -> String {
        let raw = [&micros.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat();
        let mut out = Vec::new();
        interval(&raw, &mut out).expect("an interval");
        serde_json::from_slice(&out).expect("a JSON string")
    }

    #[test]
    fn the_words_are_those_of_postgresql() {
        let table = [
            (0, 0, 0, "00:00:00"),
            (1, 0, 0, "00:00:00.000001"),
            (-1_500_000, 0, 0, "-00:00:01.5"),
            (0, 1, 0, "1 day"),
            (0, -1, 0, "-1 days"),
            (0, 0, 14, "1 year 2 mons"),
            (0, 0, -14, "-1 years -2 mons"),
            (14_706_000_000, -3, 14, "1 year 2 mons -3 days +04:05:06"),
            (-14_706_000_000, 3, -1, "-1 mons +3 days -04:05:06"),
            (360_000_000_000_000, 0, 0, "100000:00:00"),
            (i64::MIN, i32::MIN, 0, "-2147483648 days -2562047788:00:54.775808"),
            (i64::MAX, i32::MAX, i32::MAX, "infinity"),
            (i64::MIN, i32::MIN, i32::MIN, "-infinity"),
        ];
        for (micros, days, months, text) in table {
            assert_eq!(shown(micros, days, months), text);
        }
    }

    #[test]
    fn sixteen_bytes_and_no_other_length() {
        for length in (0..40).filter(|length| *length != 16) {
            assert_eq!(interval(&vec![0; length], &mut Vec::new()), Err(Error::malformed("interval")));
        }
    }
}
