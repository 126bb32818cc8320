//! Dates and times as `to_json` writes them in a session whose time zone is UTC.
//!
//! The calendar is the proleptic Gregorian one, as in PostgreSQL. A year before Christ is written as a positive one with
//! ` BC` at the end of the whole, and years after 9999 have more digits: both are beyond RFC 3339, as are `infinity` and
//! `-infinity`, which clients have to expect of columns that hold them.

use super::Error;
use super::number::{fixed, pair, significant, six};

pub(super) const MICROS_A_SECOND: i64 = 1_000_000;
pub(super) const MICROS_A_MINUTE: i64 = 60 * MICROS_A_SECOND;
pub(super) const MICROS_AN_HOUR: i64 = 60 * MICROS_A_MINUTE;
const MICROS_A_DAY: i64 = 24 * MICROS_AN_HOUR;
/// PostgreSQL allows offsets of less than 16 hours.
const OFFSET_SECONDS_BELOW: i32 = 16 * 3_600;

pub(super) const INFINITY: &[u8] = b"\"infinity\"";
pub(super) const NEGATIVE_INFINITY: &[u8] = b"\"-infinity\"";

/// Microseconds since 2000-01-01 00:00 UTC.
pub(super) fn timestamptz(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    instant(i64::from_be_bytes(fixed(raw, "timestamptz")?), Some(b"+00:00"), out);
    Ok(())
}

/// Microseconds since 2000-01-01 00:00 wherever.
pub(super) fn timestamp(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    instant(i64::from_be_bytes(fixed(raw, "timestamp")?), None, out);
    Ok(())
}

/// Days since 2000-01-01.
pub(super) fn date(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    match i32::from_be_bytes(fixed(raw, "date")?) {
        i32::MAX => out.extend_from_slice(INFINITY),
        i32::MIN => out.extend_from_slice(NEGATIVE_INFINITY),
        days => {
            let mut line = Line::new();
            let era = line.day(i64::from(days));
            line.end(era, out);
        }
    }
    Ok(())
}

/// Microseconds since midnight; 24:00:00 is one of them.
pub(super) fn time(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let micros = since_midnight(fixed(raw, "time")?, "time")?;
    let mut line = Line::new();
    line.clock(micros);
    line.end(Era::Common, out);
    Ok(())
}

/// Microseconds since midnight, then seconds west of Greenwich.
pub(super) fn timetz(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let [time @ .., z3, z2, z1, z0] = fixed::<12>(raw, "timetz")?;
    let micros = since_midnight(time, "timetz")?;
    let west = i32::from_be_bytes([z3, z2, z1, z0]);
    if west.unsigned_abs() >= OFFSET_SECONDS_BELOW.unsigned_abs() {
        return Err(Error::malformed("timetz"));
    }
    let mut line = Line::new();
    line.clock(micros);
    line.offset(west);
    line.end(Era::Common, out);
    Ok(())
}

fn since_midnight(raw: [u8; 8], what: &'static str) -> Result<i64, Error> {
    let micros = i64::from_be_bytes(raw);
    if (0..=MICROS_A_DAY).contains(&micros) { Ok(micros) } else { Err(Error::malformed(what)) }
}

fn instant(micros: i64, offset: Option<&[u8; 6]>, out: &mut Vec<u8>) {
    match micros {
        i64::MAX => out.extend_from_slice(INFINITY),
        i64::MIN => out.extend_from_slice(NEGATIVE_INFINITY),
        _ => {
            let mut line = Line::new();
            let era = line.day(micros.div_euclid(MICROS_A_DAY));
            line.push(b"T");
            line.clock(micros.rem_euclid(MICROS_A_DAY));
            if let Some(offset) = offset {
                line.push(offset);
            }
            line.end(era, out);
        }
    }
}

#[derive(Clone, Copy)]
enum Era {
    Common,
    BeforeChrist,
}

/// A date or time in the making, in its quotes.
struct Line {
    /// A year has seven digits at most, and at most 38 characters are around it.
    bytes: [u8; 64],
    length: usize,
}

impl Line {
    fn new() -> Self {
        let mut line = Self { bytes: [0; 64], length: 0 };
        line.push(b"\"");
        line
    }

    /// Of a length that the compiler knows: a store instead of a call.
    #[inline]
    fn push<const LENGTH: usize>(&mut self, bytes: &[u8; LENGTH]) {
        self.bytes[self.length..self.length + LENGTH].copy_from_slice(bytes);
        self.length += LENGTH;
    }

    /// `YYYY-MM-DD`; the era goes to the end of the whole.
    fn day(&mut self, days: i64) -> Era {
        let (year, month, day) = civil(days);
        let (year, era) = if year > 0 { (year, Era::Common) } else { (1 - year, Era::BeforeChrist) };
        let year = year.unsigned_abs() as u32;
        if year >= 10_000 {
            for digit in itoa::Buffer::new().format(year / 10_000).bytes() {
                self.push(&[digit]);
            }
        }
        let [y3, y2] = pair(year / 100);
        let [y1, y0] = pair(year);
        let [m1, m0] = pair(month);
        let [d1, d0] = pair(day);
        self.push(&[y3, y2, y1, y0, b'-', m1, m0, b'-', d1, d0]);
        era
    }

    /// `HH:MM:SS`, and as much of a fraction as is not zero.
    fn clock(&mut self, micros: i64) {
        let seconds = (micros / MICROS_A_SECOND) as u32;
        let [h1, h0] = pair(seconds / 3_600);
        let [m1, m0] = pair(seconds / 60 % 60);
        let [s1, s0] = pair(seconds % 60);
        self.push(&[h1, h0, b':', m1, m0, b':', s1, s0]);
        let fraction = (micros % MICROS_A_SECOND) as u32;
        if fraction > 0 {
            let digits = six(fraction);
            self.push(b".");
            self.push(&digits);
            self.length -= digits.len() - significant(&digits);
        }
    }

    /// As short as it can be: `+02`, `-03:30`, `+00:19:32`.
    fn offset(&mut self, west: i32) {
        let seconds = west.unsigned_abs();
        let [h1, h0] = pair(seconds / 3_600);
        self.push(&[if west <= 0 { b'+' } else { b'-' }, h1, h0]);
        if !seconds.is_multiple_of(3_600) {
            let [m1, m0] = pair(seconds / 60 % 60);
            self.push(&[b':', m1, m0]);
        }
        if !seconds.is_multiple_of(60) {
            let [s1, s0] = pair(seconds % 60);
            self.push(&[b':', s1, s0]);
        }
    }

    fn end(mut self, era: Era, out: &mut Vec<u8>) {
        match era {
            Era::Common => self.push(b"\""),
            Era::BeforeChrist => self.push(b" BC\""),
        }
        out.extend_from_slice(&self.bytes[..self.length]);
    }
}

/// Year (0 is 1 BC), month and day of a count of days since 2000-01-01; Howard Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, u32, u32) {
    // Years begin in March, so that the leap day is their last, and eras of 400 years are alike.
    const DAYS_FROM_YEAR_0: i64 = 730_425;
    const DAYS_AN_ERA: i64 = 146_097;
    let days = days + DAYS_FROM_YEAR_0;
    let era = days.div_euclid(DAYS_AN_ERA);
    let day = days.rem_euclid(DAYS_AN_ERA) as u32;
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    (i64::from(year) + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Utc};
    use proptest::prelude::*;

    use super::*;

    fn epoch() -> NaiveDate {
        NaiveDate::from_ymd_opt(2000, 1, 1).expect("a date")
    }

    fn shown(write: fn(&[u8], &mut Vec<u8>) -> Result<(), Error>, raw: &[u8]) -> Result<String, Error> {
        let mut out = Vec::new();
        write(raw, &mut out)?;
        Ok(serde_json::from_slice(&out).expect("a JSON string"))
    }

    #[test]
    fn instants_are_as_to_json_writes_them() {
        let table: [(i64, &str); 9] = [
            (0, "2000-01-01T00:00:00+00:00"),
            (848_566_800_123_456, "2026-11-21T09:00:00.123456+00:00"),
            (-1, "1999-12-31T23:59:59.999999+00:00"),
            (762_523_200_100_000, "2024-02-29T12:00:00.1+00:00"),
            (-63_082_281_600_000_000, "0001-01-01T00:00:00+00:00"),
            (-63_082_281_600_000_001, "0001-12-31T23:59:59.999999+00:00 BC"),
            (9_223_371_331_199_999_999, "294276-12-31T23:59:59.999999+00:00"),
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
        ];
        for (micros, text) in table {
            assert_eq!(shown(timestamptz, &micros.to_be_bytes()).as_deref(), Ok(text));
            assert_eq!(shown(timestamp, &micros.to_be_bytes()), Ok(text.replace("+00:00", "")));
        }
    }

    #[test]
    fn dates_go_from_before_christ_to_seven_digits_of_a_year() {
        let table: [(i32, &str); 8] = [
            (0, "2000-01-01"),
            (59, "2000-02-29"),
            (-36_466, "1900-02-28"),
            (-36_465, "1900-03-01"),
            (-2_451_507, "4713-01-01 BC"),
            (2_145_031_948, "5874897-12-31"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ];
        for (days, text) in table {
            assert_eq!(shown(date, &days.to_be_bytes()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn midnight_has_two_names() {
        assert_eq!(shown(time, &0_i64.to_be_bytes()).as_deref(), Ok("00:00:00"));
        assert_eq!(shown(time, &MICROS_A_DAY.to_be_bytes()).as_deref(), Ok("24:00:00"));
        for beyond in [-1, MICROS_A_DAY + 1, i64::MIN, i64::MAX] {
            assert_eq!(shown(time, &beyond.to_be_bytes()), Err(Error::malformed("time")));
        }
    }

    #[test]
    fn offsets_are_as_short_as_they_can_be() {
        let raw = |west: i32| [&MICROS_AN_HOUR.to_be_bytes()[..], &west.to_be_bytes()].concat();
        let table = [
            (0, "01:00:00+00"),
            (-7_200, "01:00:00+02"),
            (12_600, "01:00:00-03:30"),
            (-1_172, "01:00:00+00:19:32"),
            (57_599, "01:00:00-15:59:59"),
        ];
        for (west, text) in table {
            assert_eq!(shown(timetz, &raw(west)).as_deref(), Ok(text));
        }
        for west in [57_600, -57_600, i32::MIN] {
            assert_eq!(shown(timetz, &raw(west)), Err(Error::malformed("timetz")));
        }
    }

    proptest! {
        #[test]
        fn days_are_those_of_another_calendar(days in -90_000_000_i64..90_000_000) {
            let other = epoch().checked_add_signed(TimeDelta::days(days)).expect("chrono holds it");
            prop_assert_eq!(civil(days), (i64::from(other.year()), other.month(), other.day()));
        }

        #[test]
        fn instants_read_back(micros in -60_000_000_000_000_000_i64..250_000_000_000_000_000) {
            let text = shown(timestamptz, &micros.to_be_bytes()).expect("an instant");
            let read: DateTime<Utc> = text.parse().expect("RFC 3339");
            let since = read.naive_utc() - epoch().and_time(NaiveTime::MIN);
            prop_assert_eq!(since.num_microseconds(), Some(micros));
        }

        #[test]
        fn any_bytes_are_a_json_string_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..14)) {
            for (write, length) in [
                (timestamptz as fn(&[u8], &mut Vec<u8>) -> _, 8), (timestamp, 8), (date, 4), (time, 8), (timetz, 12),
            ] {
                let right = &raw[..raw.len().min(length)];
                prop_assert!(shown(write, right).is_ok() <= (right.len() == length));
            }
        }
    }
}
