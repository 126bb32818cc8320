//! Arrays of scalars as JSON lists.

use super::{ArrayReader, Decoder, Error, PgType, text::write_null};

/// Appends an array of one dimension as a JSON list. An empty array is `[]`.
///
/// A caller that wants to keep the good elements of a list when one cannot be written reads them with [`ArrayReader`].
///
/// # Errors
///
/// What [`Decoder::write`] says of an element; [`Error::NullElement`] for a NULL unless `element_nullable`;
/// [`Error::Dimensions`] for more than one dimension, which a type like `int[]` does not exclude;
/// [`Error::Malformed`] also when the elements are of another built-in type. `out` is then as it was.
pub fn write_array(
    raw: &[u8],
    decoder: Decoder,
    element_nullable: bool,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    write_nested_array(raw, 1, decoder, element_nullable, out)
}

/// Appends an array of `depth` dimensions, at least one, as lists in lists: `[[Int!]!]` has a depth of two.
///
/// # Errors
///
/// As [`write_array`].
pub fn write_nested_array(
    raw: &[u8],
    depth: usize,
    decoder: Decoder,
    element_nullable: bool,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let start = out.len();
    let written = List { decoder, element_nullable, out }.write(raw, depth);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

struct List<'a> {
    decoder: Decoder,
    element_nullable: bool,
    out: &'a mut Vec<u8>,
}

impl List<'_> {
    fn write(&mut self, raw: &[u8], depth: usize) -> Result<(), Error> {
        let mut elements = ArrayReader::new(raw)?;
        if PgType::from_oid(elements.element_oid()).is_some_and(|found| found != self.decoder.pg_type()) {
            return Err(Error::malformed("array of the declared type"));
        }
        match elements.dimensions().len() {
            0 => self.out.extend_from_slice(b"[]"),
            found if found == depth => self.dimension(0, &mut elements)?,
            found => return Err(Error::Dimensions { found, declared: depth }),
        }
        // What is behind the last element is told by the reader.
        elements.next().map_or(Ok(()), |more| more.map(|_| ()))
    }

    fn dimension(&mut self, index: usize, elements: &mut ArrayReader<'_>) -> Result<(), Error> {
        let [length, deeper @ ..] = &elements.dimensions()[index..] else { return self.element(elements) };
        let (length, innermost) = (*length, deeper.is_empty());
        self.out.push(b'[');
        for position in 0..length {
            if position > 0 {
                self.out.push(b',');
            }
            if innermost { self.element(elements)? } else { self.dimension(index + 1, elements)? }
        }
        self.out.push(b']');
        Ok(())
    }

    fn element(&mut self, elements: &mut ArrayReader<'_>) -> Result<(), Error> {
        match elements.next().ok_or(Error::malformed("array"))?? {
            Some(raw) => self.decoder.write(raw, self.out),
            None if self.element_nullable => {
                write_null(self.out);
                Ok(())
            }
            None => Err(Error::NullElement),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Scalar;
    use super::*;

    const INT4: u32 = 23;

    fn array(oid: u32, lengths: &[u32], elements: &[Option<i32>]) -> Vec<u8> {
        let head = [lengths.len() as u32, u32::from(elements.contains(&None)), oid];
        let dimensions = lengths.iter().flat_map(|length| [*length, 1]);
        let elements = elements.iter().flat_map(|element| match element {
            Some(value) => vec![4, value.cast_unsigned()],
            None => vec![u32::MAX],
        });
        head.into_iter().chain(dimensions).chain(elements).flat_map(u32::to_be_bytes).collect()
    }

    fn written(raw: &[u8], depth: usize, nullable: bool) -> Result<String, Error> {
        let decoder = Decoder::new(PgType::Int4, Scalar::Int).expect("a pair");
        let mut out = b"before".to_vec();
        let result = write_nested_array(raw, depth, decoder, nullable, &mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        let text = text.strip_prefix("before").expect("only appended to").to_owned();
        assert!(result.is_ok() || text.is_empty(), "an error leaves the output as it was");
        result.map(|()| text)
    }

    #[test]
    fn lists_are_lists() {
        assert_eq!(written(&array(INT4, &[], &[]), 1, false).as_deref(), Ok("[]"));
        assert_eq!(written(&array(INT4, &[], &[]), 2, false).as_deref(), Ok("[]"));
        assert_eq!(written(&array(INT4, &[1], &[Some(-7)]), 1, false).as_deref(), Ok("[-7]"));
        let cube: Vec<_> = (1..=8).map(Some).collect();
        assert_eq!(
            written(&array(INT4, &[2, 2, 2], &cube), 3, false).as_deref(),
            Ok("[[[1,2],[3,4]],[[5,6],[7,8]]]")
        );
    }

    #[test]
    fn a_null_is_written_where_the_type_allows_it() {
        let raw = array(INT4, &[3], &[Some(1), None, Some(3)]);
        assert_eq!(written(&raw, 1, true).as_deref(), Ok("[1,null,3]"));
        assert_eq!(written(&raw, 1, false), Err(Error::NullElement));
    }

    #[test]
    fn an_array_nests_as_deep_as_it_is_declared() {
        let square = array(INT4, &[2, 1], &[Some(1), Some(2)]);
        assert_eq!(written(&square, 2, false).as_deref(), Ok("[[1],[2]]"));
        assert_eq!(written(&square, 1, false), Err(Error::Dimensions { found: 2, declared: 1 }));
        let flat = array(INT4, &[2], &[Some(1), Some(2)]);
        assert_eq!(written(&flat, 2, false), Err(Error::Dimensions { found: 1, declared: 2 }));
    }

    #[test]
    fn elements_of_another_type_are_told_by_their_oid() {
        const FLOAT4: u32 = 700;
        let wrong = Error::malformed("array of the declared type");
        assert_eq!(written(&array(FLOAT4, &[1], &[Some(1)]), 1, false), Err(wrong));
        // A domain over int4 has an oid that is known in its database only.
        assert_eq!(written(&array(16_400, &[1], &[Some(1)]), 1, false).as_deref(), Ok("[1]"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_json_list_or_an_error(
            dimensions in 0_u32..4, has_null in 0_u32..2, words in proptest::collection::vec(0_u32..5, 0..30),
            tail in proptest::collection::vec(any::<u8>(), 0..4), depth in 1_usize..4,
        ) {
            let words = [dimensions, has_null, INT4].into_iter().chain(words);
            let raw: Vec<u8> = words.flat_map(u32::to_be_bytes).chain(tail).collect();
            if let Ok(text) = written(&raw, depth, true) {
                prop_assert!(serde_json::from_str::<Vec<serde_json::Value>>(&text).is_ok(), "{}", text);
            }
        }
    }
}
