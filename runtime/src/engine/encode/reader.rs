//! Records and arrays in PostgreSQL's binary format, value by value, without copying.
//!
//! Lengths and counts are checked against the bytes that are there. After an error a reader ends.

use super::Error;

/// PostgreSQL's own limit.
const DIMENSIONS_MAX: usize = 6;

/// A column of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    /// The oid of its type.
    pub oid: u32,
    /// Its bytes in binary format; none when it is NULL.
    pub value: Option<&'a [u8]>,
}

/// The columns of a record (`row(…)` or a composite type) in their order. A NULL column is `None`.
///
/// The iterator ends with [`Error::Malformed`] when the bytes end too early or too late.
#[derive(Debug, Clone)]
pub struct RecordReader<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> RecordReader<'a> {
    /// Reads the head of a record.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when `raw` cannot hold as many columns as it says.
    #[inline]
    pub fn new(raw: &'a [u8]) -> Result<Self, Error> {
        let mut rest = raw;
        let left = count(&mut rest).filter(|left| *left <= rest.len() / 8).ok_or(RECORD)?;
        Ok(Self { rest, left })
    }

    /// The next column with the oid of its type.
    #[inline]
    pub fn next_typed(&mut self) -> Option<Result<Column<'a>, Error>> {
        if self.left == 0 {
            return self.end();
        }
        self.left -= 1;
        let column =
            word(&mut self.rest).zip(value(&mut self.rest)).map(|(oid, value)| Column { oid, value });
        if column.is_none() {
            (self.left, self.rest) = (0, &[]);
        }
        Some(column.ok_or(RECORD))
    }

    /// Bytes after the last column are an error, once.
    fn end<T>(&mut self) -> Option<Result<T, Error>> {
        let ends = std::mem::take(&mut self.rest).is_empty();
        if ends { None } else { Some(Err(RECORD)) }
    }
}

impl<'a> Iterator for RecordReader<'a> {
    type Item = Result<Option<&'a [u8]>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.next_typed().map(|column| column.map(|column| column.value))
    }

    /// Columns that are left.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.min(1), Some(self.left + 1))
    }
}

/// The elements of an array, in the order of storage: the last dimension runs fastest. A NULL element is `None`.
///
/// The iterator ends with [`Error::Malformed`] when the bytes end too early or too late.
#[derive(Debug, Clone)]
pub struct ArrayReader<'a> {
    rest: &'a [u8],
    left: usize,
    element_oid: u32,
    lengths: [usize; DIMENSIONS_MAX],
    dimensions: usize,
}

impl<'a> ArrayReader<'a> {
    /// Reads the head of an array.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when `raw` cannot hold as many elements as it says, or has more than six dimensions.
    #[inline]
    pub fn new(raw: &'a [u8]) -> Result<Self, Error> {
        Self::head(raw).ok_or(ARRAY)
    }

    fn head(raw: &'a [u8]) -> Option<Self> {
        let mut rest = raw;
        let dimensions = count(&mut rest).filter(|dimensions| *dimensions <= DIMENSIONS_MAX)?;
        // The flag for NULLs says nothing that the elements do not say.
        let _has_null = word(&mut rest).filter(|flag| *flag <= 1)?;
        let element_oid = word(&mut rest)?;
        let mut lengths = [0; DIMENSIONS_MAX];
        for length in &mut lengths[..dimensions] {
            *length = count(&mut rest)?;
            let _lower_bound = word(&mut rest)?;
        }
        let elements =
            lengths[..dimensions].iter().try_fold(1_usize, |product, next| product.checked_mul(*next))?;
        // Nothing times many would be as many empty lists from a few bytes; PostgreSQL sends no such array.
        if elements == 0 && dimensions > 1 {
            return None;
        }
        let left = if dimensions == 0 { 0 } else { elements };
        (left <= rest.len() / 4).then_some(Self { rest, left, element_oid, lengths, dimensions })
    }

    /// The oid of the type of the elements.
    pub const fn element_oid(&self) -> u32 {
        self.element_oid
    }

    /// The length of each dimension, from the outermost; empty for an empty array.
    pub fn dimensions(&self) -> &[usize] {
        &self.lengths[..self.dimensions]
    }

    /// Elements of all dimensions that are left.
    pub const fn remaining(&self) -> usize {
        self.left
    }
}

impl<'a> Iterator for ArrayReader<'a> {
    type Item = Result<Option<&'a [u8]>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let ends = std::mem::take(&mut self.rest).is_empty();
            return if ends { None } else { Some(Err(ARRAY)) };
        }
        self.left -= 1;
        let element = value(&mut self.rest);
        if element.is_none() {
            (self.left, self.rest) = (0, &[]);
        }
        Some(element.ok_or(ARRAY))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.min(1), Some(self.left + 1))
    }
}

const RECORD: Error = Error::malformed("record");
const ARRAY: Error = Error::malformed("array");

/// The next four bytes.
fn word(rest: &mut &[u8]) -> Option<u32> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u32::from_be_bytes(*head))
}

/// A count, which is not negative.
fn count(rest: &mut &[u8]) -> Option<usize> {
    let count = i32::from_be_bytes(word(rest)?.to_be_bytes());
    usize::try_from(count).ok()
}

/// A length and as many bytes; the length -1 is NULL.
fn value<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match word(rest)? {
        u32::MAX => Some(None),
        length => {
            let (value, tail) = rest.split_at_checked(length as usize)?;
            *rest = tail;
            Some(Some(value))
        }
    }
}
