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
