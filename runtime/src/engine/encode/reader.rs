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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Values = Vec<Option<Vec<u8>>>;

    fn sent(value: Option<&[u8]>) -> Vec<u8> {
        match value {
            Some(value) => [&(value.len() as u32).to_be_bytes()[..], value].concat(),
            None => u32::MAX.to_be_bytes().to_vec(),
        }
    }

    fn record(columns: &[(u32, Option<Vec<u8>>)]) -> Vec<u8> {
        let mut raw = (columns.len() as u32).to_be_bytes().to_vec();
        for (oid, value) in columns {
            raw.extend(oid.to_be_bytes());
            raw.extend(sent(value.as_deref()));
        }
        raw
    }

    fn array(lengths: &[u32], elements: &Values) -> Vec<u8> {
        let has_null = u32::from(elements.contains(&None));
        let head = [lengths.len() as u32, has_null, 25];
        let dimensions = lengths.iter().flat_map(|length| [*length, 1]);
        let mut raw: Vec<u8> = head.into_iter().chain(dimensions).flat_map(u32::to_be_bytes).collect();
        elements.iter().for_each(|element| raw.extend(sent(element.as_deref())));
        raw
    }

    fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
        proptest::option::weighted(0.8, proptest::collection::vec(any::<u8>(), 0..9))
    }

    fn collected<'a>(values: impl Iterator<Item = Result<Option<&'a [u8]>, Error>>) -> Result<Values, Error> {
        values.map(|value| value.map(|value| value.map(<[u8]>::to_vec))).collect()
    }

    #[test]
    fn an_array_of_nothing_times_many_is_malformed() {
        assert!(ArrayReader::new(&array(&[i32::MAX as u32, 0], &vec![])).is_err());
        assert_eq!(ArrayReader::new(&array(&[0], &vec![])).map(|array| array.remaining()), Ok(0));
    }

    #[test]
    fn more_elements_than_bytes_are_malformed() {
        for lengths in
            [&[u32::MAX][..], &[i32::MAX as u32], &[1 << 16; 4], &[i32::MAX as u32; 6], &[1; 7], &[2]]
        {
            assert_eq!(ArrayReader::new(&array(lengths, &vec![None])).err(), Some(ARRAY), "{lengths:?}");
        }
        for columns in [u32::MAX, i32::MAX as u32, 1] {
            assert_eq!(RecordReader::new(&columns.to_be_bytes()).err(), Some(RECORD), "{columns}");
        }
    }

    proptest! {
        #[test]
        fn records_read_back(columns in proptest::collection::vec((any::<u32>(), value()), 0..12)) {
            let raw = record(&columns);
            let (oids, values): (Vec<u32>, Values) = columns.into_iter().unzip();
            prop_assert_eq!(collected(RecordReader::new(&raw).expect("a record")), Ok(values));
            let mut reader = RecordReader::new(&raw).expect("a record");
            let typed = std::iter::from_fn(|| reader.next_typed());
            let found: Vec<u32> = typed.map(|column| column.expect("a column").oid).collect();
            prop_assert_eq!(found, oids);
        }

        #[test]
        fn arrays_read_back(rows in 1_u32..4, row in proptest::collection::vec(value(), 1..6)) {
            let elements: Values = (0..rows).flat_map(|_| row.clone()).collect();
            let lengths = [rows, row.len() as u32];
            let raw = array(&lengths, &elements);
            let reader = ArrayReader::new(&raw).expect("an array");
            prop_assert_eq!(reader.element_oid(), 25);
            prop_assert_eq!(reader.dimensions(), lengths.map(|length| length as usize));
            prop_assert_eq!(reader.remaining(), elements.len());
            prop_assert_eq!(collected(reader), Ok(elements));
        }

        /// One byte less, one more: never the same values, never more values than there are.
        #[test]
        fn what_ends_too_early_or_too_late_is_an_error(
            columns in proptest::collection::vec((any::<u32>(), value()), 1..6), cut in any::<prop::sample::Index>(),
        ) {
            let whole = record(&columns);
            let cut = &whole[..cut.index(whole.len())];
            prop_assert!(RecordReader::new(cut).and_then(collected).is_err());
            let longer = [&whole[..], &[0]].concat();
            prop_assert!(RecordReader::new(&longer).and_then(collected).is_err());
            let elements: Values = columns.into_iter().map(|(_, value)| value).collect();
            let longer = [array(&[elements.len() as u32], &elements), vec![0]].concat();
            prop_assert!(ArrayReader::new(&longer).and_then(collected).is_err());
        }

        #[test]
        fn any_bytes_end_after_a_bounded_number_of_values(
            head in proptest::collection::vec(0_u32..4, 0..6), tail in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let raw = [head.into_iter().flat_map(u32::to_be_bytes).collect(), tail].concat();
            for raw in [&raw[..], &raw[raw.len() / 2..]] {
                if let Ok(reader) = ArrayReader::new(raw) {
                    prop_assert!(reader.count() <= raw.len());
                }
                if let Ok(reader) = RecordReader::new(raw) {
                    prop_assert!(reader.count() <= raw.len());
                }
            }
        }
    }
}
