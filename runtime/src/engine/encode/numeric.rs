//! `numeric` digit by digit: no float, no arithmetic, so no digit is lost and the scale is kept.
//!
//! Sent are groups of four decimal digits, the weight of the first one as a power of 10,000, the sign, and the number of
//! digits to show after the point. Zero groups at either end are left out.

use super::Error;
use super::number::pair;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const NEGATIVE_INFINITY: u16 = 0xf000;
/// PostgreSQL keeps 14 bits of scale.
const SCALE_MAX: usize = 0x3fff;
/// Decimal digits in a group.
const GROUP: usize = 4;

/// A JSON string, which loses nothing.
pub(super) fn quoted(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let digits = Digits::read(raw)?;
    out.push(b'"');
    digits.write(digits.scale, out);
    out.push(b'"');
    Ok(())
}

/// A JSON number with all digits; what the reader makes of them is its own affair.
pub(super) fn number(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let digits = Digits::read(raw)?;
    digits.write(digits.scale, out);
    Ok(())
}

/// A JSON string of an integer. A scale of zeros is dropped, a fraction is an error.
pub(super) fn integer_quoted(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let digits = Digits::read(raw)?;
    if digits.has_fraction() {
        return Err(Error::OutOfRange);
    }
    out.push(b'"');
    digits.write(0, out);
    out.push(b'"');
    Ok(())
}

/// A finite number as it was sent, checked.
struct Digits<'a> {
    /// Two bytes each, the first is not zero.
    groups: &'a [[u8; 2]],
    /// Groups before the point, less one; at least -1.
    whole: i32,
    /// Zero groups between the point and the first group.
    gap: usize,
    negative: bool,
    /// Digits after the point.
    scale: usize,
}

impl<'a> Digits<'a> {
    fn read(raw: &'a [u8]) -> Result<Self, Error> {
        const WHAT: &str = "numeric";
        let (header, groups) = raw.split_first_chunk::<8>().ok_or(Error::malformed(WHAT))?;
        let [n1, n0, w1, w0, s1, s0, d1, d0] = *header;
        let (groups, []) = groups.as_chunks::<2>() else { return Err(Error::malformed(WHAT)) };
        let negative = match u16::from_be_bytes([s1, s0]) {
            0 => false,
            NEGATIVE => true,
            NAN | INFINITY | NEGATIVE_INFINITY => return Err(Error::NotFinite),
            _ => return Err(Error::malformed(WHAT)),
        };
        let scale = usize::from(u16::from_be_bytes([d1, d0]));
        let count = usize::from(u16::from_be_bytes([n1, n0]));
        if count != groups.len() || scale > SCALE_MAX || groups.iter().any(|group| value(*group) > 9_999) {
            return Err(Error::malformed(WHAT));
        }
        // PostgreSQL sends no leading zero group; one would become leading zeros, which JSON does not allow.
        let zeros = groups.iter().take_while(|group| value(**group) == 0).count();
        let groups = &groups[zeros..];
        let weight = i32::from(i16::from_be_bytes([w1, w0])) - i32::try_from(zeros).unwrap_or(i32::MAX);
        let weight = if groups.is_empty() { -1 } else { weight };
        let gap = usize::try_from(-1 - weight).unwrap_or(0);
        Ok(Self { groups, whole: weight.max(-1), gap, negative, scale })
    }

    /// Groups before the point.
    fn whole_groups(&self) -> usize {
        usize::try_from(self.whole + 1).unwrap_or(0)
    }

    fn has_fraction(&self) -> bool {
        self.groups.iter().skip(self.whole_groups()).any(|group| value(*group) != 0)
    }

    fn write(&self, scale: usize, out: &mut Vec<u8>) {
        let whole = self.whole_groups();
        out.reserve(whole * GROUP + scale + 2 * GROUP);
        if self.negative {
            out.push(b'-');
        }
        match self.groups.first().filter(|_| whole > 0) {
            Some(first) => {
                append_first(value(*first), out);
                for index in 1..whole {
                    out.extend_from_slice(&self.group(index));
                }
            }
            None => out.push(b'0'),
        }
        if scale > 0 {
            out.push(b'.');
            self.write_fraction(whole, scale, out);
        }
    }

    fn write_fraction(&self, whole: usize, scale: usize, out: &mut Vec<u8>) {
        let zeros = scale.min(self.gap * GROUP);
        out.resize(out.len() + zeros, b'0');
        let mut left = scale - zeros;
        let mut index = whole;
        while left > 0 {
            let shown = left.min(GROUP);
            out.extend_from_slice(&self.group(index));
            out.truncate(out.len() - (GROUP - shown));
            left -= shown;
            index += 1;
        }
    }

    /// The digits of a group; zeros beyond the last.
    fn group(&self, index: usize) -> [u8; GROUP] {
        decimal(self.groups.get(index).map_or(0, |group| value(*group)))
    }
}

/// A group, which is not zero, without zeros before it. Whole groups are appended and cut: cheaper than short slices.
fn append_first(value: u16, out: &mut Vec<u8>) {
    let zeros = match value {
        1_000.. => 0,
        100.. => 1,
        10.. => 2,
        _ => 3,
    };
    let digits = u32::from_le_bytes(decimal(value)) >> (zeros * 8);
    out.extend_from_slice(&digits.to_le_bytes());
    out.truncate(out.len() - zeros);
}

fn value(group: [u8; 2]) -> u16 {
    u16::from_be_bytes(group)
}

fn decimal(value: u16) -> [u8; GROUP] {
    let [a, b] = pair(u32::from(value / 100));
    let [c, d] = pair(u32::from(value));
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(groups: &[u16], weight: i16, sign: u16, scale: u16) -> Vec<u8> {
        let head = [groups.len() as u16, weight.cast_unsigned(), sign, scale];
        head.iter().chain(groups).flat_map(|word| word.to_be_bytes()).collect()
    }

    fn as_number(raw: &[u8]) -> Result<String, Error> {
        let mut out = Vec::new();
        number(raw, &mut out).map(|()| String::from_utf8(out).expect("ASCII"))
    }

    fn as_integer(raw: &[u8]) -> Result<String, Error> {
        let mut out = Vec::new();
        integer_quoted(raw, &mut out).map(|()| String::from_utf8(out).expect("ASCII"))
    }

    /// What PostgreSQL sends for a number without needless zeros before the point.
    fn sent(text: &str) -> Vec<u8> {
        let (sign, digits) = text.strip_prefix('-').map_or((0, text), |digits| (NEGATIVE, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let width = whole.len().next_multiple_of(GROUP);
        let end = fraction.len().next_multiple_of(GROUP);
        let padded = format!("{whole:0>width$}{fraction:0<end$}");
        let mut groups: Vec<u16> = padded
            .as_bytes()
            .chunks(GROUP)
            .map(|group| str::from_utf8(group).unwrap().parse().unwrap())
            .collect();
        let zeros = groups.iter().take_while(|group| **group == 0).count();
        groups.drain(..zeros);
        while groups.last() == Some(&0) {
            groups.pop();
        }
        let weight = if groups.is_empty() { 0 } else { (width / GROUP) as i16 - 1 - zeros as i16 };
        raw(&groups, weight, sign, fraction.len() as u16)
    }

    #[test]
    fn digits_scale_and_sign_are_kept() {
        let table = [
            (raw(&[], 0, 0, 0), "0"),
            (raw(&[], 0, 0, 3), "0.000"),
            (raw(&[1], 0, 0, 0), "1"),
            (raw(&[1], 1, 0, 0), "10000"),
            (raw(&[1], 3, NEGATIVE, 2), "-1000000000000.00"),
            (raw(&[19, 9900], 0, 0, 2), "19.99"),
            (raw(&[5000], -1, NEGATIVE, 1), "-0.5"),
            (raw(&[1], -1, 0, 4), "0.0001"),
            (raw(&[1000], -2, 0, 5), "0.00001"),
            (raw(&[1200], -3, 0, 12), "0.000000001200"),
            (raw(&[1234, 5678, 9000], 1, 0, 1), "12345678.9"),
            (raw(&[1, 2, 3], 2, 0, 0), "100020003"),
        ];
        for (raw, text) in table {
            assert_eq!(as_number(&raw).as_deref(), Ok(text), "{raw:?}");
            if text.len() < 12 || text.starts_with("0.") {
                assert_eq!(sent(text)[..6], raw[..6], "the test's own encoder: {text}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        let large = as_number(&raw(&[9999], i16::MAX, 0, 0)).expect("a number");
        assert_eq!((large.len(), large.trim_end_matches('0')), (131_072, "9999"));
        let small = as_number(&raw(&[9000], -4_096, NEGATIVE, 16_383)).expect("a number");
        assert_eq!((small.len(), small.trim_start_matches(['-', '0', '.'])), (16_386, "900"));
        let nothing = as_number(&raw(&[9000], i16::MIN, 0, 16_383)).expect("a number");
        assert_eq!((nothing.len(), nothing.trim_matches(['0', '.'])), (16_385, ""));
    }

    #[test]
    fn what_is_not_finite_is_an_error() {
        for sign in [NAN, INFINITY, NEGATIVE_INFINITY] {
            assert_eq!(as_number(&raw(&[], 0, sign, 0)), Err(Error::NotFinite));
        }
    }

    #[test]
    fn an_integer_may_have_a_scale_and_no_fraction() {
        assert_eq!(as_integer(&sent("12345678901234567890")).as_deref(), Ok("\"12345678901234567890\""));
        assert_eq!(as_integer(&sent("-70000.00")).as_deref(), Ok("\"-70000\""));
        assert_eq!(as_integer(&sent("0.00")).as_deref(), Ok("\"0\""));
        for text in ["0.1", "1.00001", "-0.00000001"] {
            assert_eq!(as_integer(&sent(text)), Err(Error::OutOfRange), "{text}");
        }
    }

    #[test]
    fn what_is_no_numeric_is_malformed() {
        let broken = [
            vec![],
            raw(&[1], 0, 0, 0)[..9].to_vec(),
            [raw(&[1], 0, 0, 0), vec![0]].concat(),
            [raw(&[1], 0, 0, 0), vec![0, 0]].concat(),
            raw(&[10_000], 0, 0, 0),
            raw(&[1], 0, 1, 0),
            raw(&[1], 0, 0, 0x4000),
            raw(&[u16::MAX], 0, 0, 0),
        ];
        for raw in broken {
            assert_eq!(as_number(&raw), Err(Error::malformed("numeric")), "{raw:?}");
        }
        assert_eq!(as_number(&raw(&[0, 0, 7], 2, 0, 0)).as_deref(), Ok("7"), "JSON allows no leading zeros");
    }

    proptest! {
        #[test]
        fn what_was_sent_is_what_is_written(
            minus in any::<bool>(), whole in "0|[1-9][0-9]{0,60}", fraction in "|[0-9]{1,60}|0{1,20}[0-9]{0,9}",
        ) {
            let point = if fraction.is_empty() { "" } else { "." };
            let digits = format!("{whole}{point}{fraction}");
            let minus = if minus && digits.contains(|c| ('1'..='9').contains(&c)) { "-" } else { "" };
            let text = format!("{minus}{digits}");
            prop_assert_eq!(as_number(&sent(&text)), Ok(text));
        }

        #[test]
        fn any_bytes_are_a_json_number_or_an_error(
            groups in proptest::collection::vec(0_u16..10_050, 0..12), weight in -20_i16..20,
            sign in prop_oneof![Just(0), Just(NEGATIVE), any::<u16>()], scale in 0_u16..80,
        ) {
            if let Ok(text) = as_number(&raw(&groups, weight, sign, scale)) {
                prop_assert!(serde_json::from_str::<serde_json::Number>(&text).is_ok(), "{}", text);
            }
        }
    }
}
