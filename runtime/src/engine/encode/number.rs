//! Booleans, integers and floats.

use super::Error;

pub(super) fn boolean(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    match raw {
        [0] => out.extend_from_slice(b"false"),
        [1] => out.extend_from_slice(b"true"),
        _ => return Err(Error::malformed("boolean")),
    }
    Ok(())
}

pub(super) fn int2(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    integer(i16::from_be_bytes(fixed(raw, "int2")?), out);
    Ok(())
}

pub(super) fn int4(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    integer(i32::from_be_bytes(fixed(raw, "int4")?), out);
    Ok(())
}

pub(super) fn int8(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    integer(i64::from_be_bytes(fixed(raw, "int8")?), out);
    Ok(())
}

/// An `int8` that has to fit GraphQL's `Int`.
pub(super) fn int8_in_32_bits(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let value = i64::from_be_bytes(fixed(raw, "int8")?);
    integer(i32::try_from(value).map_err(|_| Error::OutOfRange)?, out);
    Ok(())
}

pub(super) fn int2_quoted(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    quoted(i16::from_be_bytes(fixed(raw, "int2")?), out);
    Ok(())
}

pub(super) fn int4_quoted(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    quoted(i32::from_be_bytes(fixed(raw, "int4")?), out);
    Ok(())
}

pub(super) fn int8_quoted(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    quoted(i64::from_be_bytes(fixed(raw, "int8")?), out);
    Ok(())
}

/// The shortest digits that read back as the same `f32`, as PostgreSQL writes it; not those of the `f64` beside it.
pub(super) fn float4(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    finite(f32::from_be_bytes(fixed(raw, "float4")?), f32::is_finite, out)
}

/// The shortest digits that read back as the same `f64`.
pub(super) fn float8(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    finite(f64::from_be_bytes(fixed(raw, "float8")?), f64::is_finite, out)
}

/// `raw` as an array of the length that its type has.
pub(super) fn fixed<const LENGTH: usize>(raw: &[u8], what: &'static str) -> Result<[u8; LENGTH], Error> {
    raw.try_into().map_err(|_| Error::malformed(what))
}

fn integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn quoted(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.push(b'"');
    integer(value, out);
    out.push(b'"');
}

fn finite<F: zmij::Float + Copy>(value: F, is_finite: fn(F) -> bool, out: &mut Vec<u8>) -> Result<(), Error> {
    if !is_finite(value) {
        return Err(Error::NotFinite);
    }
    out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    Ok(())
}

/// The last two decimal digits.
pub(super) const fn pair(value: u32) -> [u8; 2] {
    PAIRS[value as usize % 100]
}

/// The digits of a number below a million.
pub(super) const fn six(value: u32) -> [u8; 6] {
    let [a, b] = pair(value / 10_000);
    let [c, d] = pair(value / 100);
    let [e, f] = pair(value);
    [a, b, c, d, e, f]
}

/// Digits before the zeros at the end.
pub(super) fn significant(digits: &[u8]) -> usize {
    digits.len() - digits.iter().rev().take_while(|digit| **digit == b'0').count()
}

/// The two hexadecimal digits of a byte.
pub(super) const fn hex(byte: u8) -> [u8; 2] {
    HEX[byte as usize]
}

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut value = 0;
    while value < 100 {
        pairs[value] = [b'0' + value as u8 / 10, b'0' + value as u8 % 10];
        value += 1;
    }
    pairs
};

/// `00` to `ff`.
const HEX: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut value = 0;
    while value < 256 {
        pairs[value] = [DIGITS[value >> 4], DIGITS[value & 15]];
        value += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Decoder, Error, PgType, Scalar};

    fn written(pg: PgType, scalar: Scalar, raw: &[u8]) -> Result<String, Error> {
        let mut out = b"before".to_vec();
        let result = Decoder::new(pg, scalar).expect("a pair that makes sense").write(raw, &mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        let text = text.strip_prefix("before").expect("only appended to").to_owned();
        assert!(result.is_ok() || text.is_empty(), "an error leaves the output as it was");
        result.map(|()| text)
    }

    #[test]
    fn booleans_are_one_byte_of_0_or_1() {
        let written = |raw| written(PgType::Bool, Scalar::Boolean, raw);
        assert_eq!(written(&[0]).as_deref(), Ok("false"));
        assert_eq!(written(&[1]).as_deref(), Ok("true"));
        for raw in [&[][..], &[2], &[0, 0]] {
            assert_eq!(written(raw), Err(Error::malformed("boolean")), "{raw:?}");
        }
    }

    #[test]
    fn an_int_has_32_bits_and_not_one_more() {
        let written = |value: i64| written(PgType::Int8, Scalar::Int, &value.to_be_bytes());
        assert_eq!(written(2_147_483_647).as_deref(), Ok("2147483647"));
        assert_eq!(written(-2_147_483_648).as_deref(), Ok("-2147483648"));
        assert_eq!(written(2_147_483_648), Err(Error::OutOfRange));
        assert_eq!(written(-2_147_483_649), Err(Error::OutOfRange));
    }

    #[test]
    fn a_value_of_another_length_is_malformed() {
        let lengths = [
            (PgType::Int2, Scalar::Int, 2),
            (PgType::Int4, Scalar::Id, 4),
            (PgType::Int8, Scalar::BigInt, 8),
            (PgType::Float4, Scalar::Float, 4),
            (PgType::Float8, Scalar::Float, 8),
        ];
        for (pg, scalar, right) in lengths {
            for length in 0..12 {
                let result = written(pg, scalar, &vec![0; length]);
                assert_eq!(result.is_ok(), length == right, "{pg:?} of {length} bytes: {result:?}");
            }
        }
    }

    #[test]
    fn a_number_that_is_not_finite_is_an_error() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let result = written(PgType::Float8, Scalar::Float, &value.to_be_bytes());
            assert_eq!(result, Err(Error::NotFinite));
            let result = written(PgType::Float4, Scalar::Float, &(value as f32).to_be_bytes());
            assert_eq!(result, Err(Error::NotFinite));
        }
    }

    #[test]
    fn a_real_is_written_with_its_own_digits() {
        assert_eq!(written(PgType::Float4, Scalar::Float, &0.1_f32.to_be_bytes()).as_deref(), Ok("0.1"));
    }

    proptest! {
        #[test]
        fn integers_read_back(value in any::<i64>()) {
            let raw = value.to_be_bytes();
            prop_assert_eq!(written(PgType::Int8, Scalar::BigInt, &raw), Ok(format!("\"{value}\"")));
            prop_assert_eq!(written(PgType::Int8, Scalar::Float, &raw), Ok(value.to_string()));
            let small = value as i32;
            prop_assert_eq!(written(PgType::Int4, Scalar::Int, &small.to_be_bytes()), Ok(small.to_string()));
            let small = value as i16;
            prop_assert_eq!(written(PgType::Int2, Scalar::Id, &small.to_be_bytes()), Ok(format!("\"{small}\"")));
        }

        #[test]
        fn floats_read_back_bit_by_bit(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = written(PgType::Float8, Scalar::Float, &value.to_be_bytes()).expect("finite");
            let read: f64 = text.parse().expect("a number");
            prop_assert_eq!(read.to_bits(), bits);
            prop_assert!(serde_json::from_str::<serde_json::Number>(&text).is_ok(), "{} is JSON", text);
            let value = f32::from_bits(bits as u32);
            prop_assume!(value.is_finite());
            let text = written(PgType::Float4, Scalar::Float, &value.to_be_bytes()).expect("finite");
            let read: f32 = text.parse().expect("a number");
            prop_assert_eq!(read.to_bits(), bits as u32);
        }
    }
}
