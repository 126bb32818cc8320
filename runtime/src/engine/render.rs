//! Rows in, JSON out: runs a shape over the columns of a row, straight into the answer's bytes.
//!
//! Promises: what is written is valid JSON of the shape whatever the bytes are; null where null may not stand takes the
//! nearest object that may be null with it and is an error with its path (specification, section 6.4.4).

use crate::engine::encode::{
    ArrayReader, Error, PgType, RecordReader, write_array, write_null, write_string,
};
use crate::engine::plan::cursor;
use crate::engine::plan::shape::{
    Body, EdgeField, FieldShape, InfoField, Keyed, Leaf, ObjectShape, PageField, PageShape, ValueShape,
};

/// A step of an error's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A response key.
    Key(String),
    /// An item of a list.
    Item(usize),
}

/// An error in one place of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where.
    pub path: Vec<Step>,
    /// What is wrong, in words for the caller.
    pub message: String,
}

/// Null stands where it may not: the object around it must become null.
#[derive(Debug)]
pub struct NullHere;

/// The columns of a row.
pub type Columns<'r> = [Option<&'r [u8]>];

/// Writes one root field's value.
pub struct Renderer<'a> {
    /// The answer so far.
    pub out: &'a mut Vec<u8>,
    /// Errors so far.
    pub errors: Vec<FieldError>,
    /// Sizes of the statement's lists in this request.
    pub sizes: &'a [u32],
    path: Vec<At<'a>>,
}

#[derive(Clone, Copy)]
enum At<'a> {
    Key(&'a str),
    Item(usize),
}

type Written = Result<(), NullHere>;

impl<'a> Renderer<'a> {
    /// Writes the value of the root field `key` behind `out`.
    pub fn new(out: &'a mut Vec<u8>, key: &'a str, sizes: &'a [u32]) -> Self {
        Self { out, errors: Vec::new(), sizes, path: vec![At::Key(key)] }
    }

    /// Notes an error at the present place.
    pub fn fail(&mut self, message: impl Into<String>) {
        let path = self.path.iter().map(|at| match at {
            At::Key(key) => Step::Key((*key).to_owned()),
            At::Item(item) => Step::Item(*item),
        });
        self.errors.push(FieldError { path: path.collect(), message: message.into() });
    }

    /// Writes null where it may stand, else passes it on.
    fn null(&mut self, nullable: bool) -> Written {
        if nullable {
            write_null(self.out);
            return Ok(());
        }
        Err(NullHere)
    }

    /// Writes an item at the place `at`.
    pub fn item<T>(&mut self, at: usize, write: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(At::Item(at));
        let written = write(self);
        self.path.pop();
        written
    }

    /// Writes an object, or null when its row is not there and `nullable`.
    ///
    /// # Errors
    /// When null would stand where it may not.
    pub fn object(&mut self, shape: &'a ObjectShape, row: &Columns<'_>, nullable: bool) -> Written {
        if let Some(presence) = shape.presence
            && row.get(presence).copied().flatten() != Some(&[1][..])
        {
            if !nullable {
                self.fail("a row that must exist does not");
            }
            return self.null(nullable);
        }
        let mark = self.out.len();
        if self.fields(shape, row).is_err() {
            self.out.truncate(mark);
            return self.null(nullable);
        }
        Ok(())
    }

    fn fields(&mut self, shape: &'a ObjectShape, row: &Columns<'_>) -> Written {
        let fields: &[FieldShape] = match &shape.body {
            Body::Fields(fields) => fields,
            Body::Variants { discriminator, variants } => {
                let text = row.get(*discriminator).copied().flatten().unwrap_or_default();
                match variants.iter().find(|(known, _)| known.as_bytes() == text) {
                    Some((_, fields)) => fields,
                    None => {
                        self.fail("the row is of no type that the schema knows");
                        return Err(NullHere);
                    }
                }
            }
        };
        self.out.push(b'{');
        for (at, field) in fields.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(&field.written_key);
            self.path.push(At::Key(&field.key));
            let written = self.value(&field.value, row, field.nullable);
            self.path.pop();
            written?;
        }
        self.out.push(b'}');
        Ok(())
    }

    /// Writes a value of the row.
    ///
    /// # Errors
    /// When null would stand where it may not.
    pub fn value(&mut self, shape: &'a ValueShape, row: &Columns<'_>, nullable: bool) -> Written {
        let column = |at: usize| row.get(at).copied().flatten();
        match shape {
            ValueShape::Constant(text) => {
                self.out.extend_from_slice(text);
                Ok(())
            }
            ValueShape::Column(at, leaf) => match column(*at) {
                Some(raw) => self.leaf(leaf, raw, nullable),
                None => self.missing(nullable),
            },
            ValueShape::Array(at, leaf, items_nullable) => match column(*at) {
                Some(raw) => self.array(leaf, raw, *items_nullable, nullable),
                None => self.missing(nullable),
            },
            ValueShape::Object(shape) => self.object(shape, row, nullable),
            ValueShape::List(at, shape, items_nullable, backwards) => match column(*at) {
                Some(raw) => self.list(shape, raw, *items_nullable, *backwards, nullable),
                None => self.missing(nullable),
            },
            ValueShape::Page(shape) => self.page_or_null(shape, row, nullable),
        }
    }

    fn missing(&mut self, nullable: bool) -> Written {
        if !nullable {
            self.fail("the database has null where the schema has `!`");
        }
        self.null(nullable)
    }

    fn leaf(&mut self, leaf: &Leaf, raw: &[u8], nullable: bool) -> Written {
        let written = match leaf {
            Leaf::Scalar(decoder) => decoder.write(raw, self.out).map_err(|error| error.to_string()),
            Leaf::Enum(texts) => match texts.iter().find(|(text, _)| text.as_bytes() == raw) {
                Some((_, written)) => {
                    self.out.extend_from_slice(written);
                    Ok(())
                }
                None => Err("the database has a value that the enum has not".to_owned()),
            },
        };
        match written {
            Ok(()) => Ok(()),
            Err(message) => {
                self.fail(message);
                self.null(nullable)
            }
        }
    }

    fn array(&mut self, leaf: &Leaf, raw: &[u8], items_nullable: bool, nullable: bool) -> Written {
        let mark = self.out.len();
        if let Leaf::Scalar(decoder) = leaf
            && write_array(raw, *decoder, items_nullable, self.out).is_ok()
        {
            return Ok(());
        }
        // Not one scalar after another: an enum, or a list with an item that is an error of its own.
        let Ok(items) = ArrayReader::new(raw) else { return self.malformed(nullable) };
        let declared = if let Leaf::Scalar(decoder) = leaf { Some(decoder.pg_type()) } else { None };
        let found = PgType::from_oid(items.element_oid());
        if declared.zip(found).is_some_and(|(declared, found)| declared != found) {
            return self.malformed(nullable);
        }
        if items.dimensions().len() > 1 {
            self.fail("the database has an array of arrays where the schema has a list");
            return self.null(nullable);
        }
        self.out.push(b'[');
        for (at, item) in items.enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            let written = self.item(at, |this| match item {
                Ok(Some(raw)) => this.leaf(leaf, raw, items_nullable),
                Ok(None) => this.missing(items_nullable),
                Err(_) => this.malformed(false),
            });
            if written.is_err() {
                self.out.truncate(mark);
                return self.null(nullable);
            }
        }
        self.out.push(b']');
        Ok(())
    }

    fn malformed(&mut self, nullable: bool) -> Written {
        self.fail("the database's answer could not be read");
        self.null(nullable)
    }

    fn list(
        &mut self,
        shape: &'a ObjectShape,
        raw: &[u8],
        items_nullable: bool,
        backwards: bool,
        nullable: bool,
    ) -> Written {
        let Ok(records) = ArrayReader::new(raw) else { return self.malformed(nullable) };
        if backwards {
            let records: Vec<_> = records.collect();
            return self.records(shape, records.into_iter().rev(), items_nullable, nullable);
        }
        self.records(shape, records, items_nullable, nullable)
    }

    fn records<'r>(
        &mut self,
        shape: &'a ObjectShape,
        records: impl Iterator<Item = Result<Option<&'r [u8]>, Error>>,
        items_nullable: bool,
        nullable: bool,
    ) -> Written {
        let mark = self.out.len();
        let mut columns = Vec::new();
        self.out.push(b'[');
        for (at, record) in records.enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            let written = self.item(at, |this| match record_columns(record, &mut columns) {
                Some(()) => this.object(shape, &columns, items_nullable),
                None => this.malformed(false),
            });
            if written.is_err() {
                self.out.truncate(mark);
                return self.null(nullable);
            }
        }
        self.out.push(b']');
        Ok(())
    }

    /// Writes a list whose items `write` writes, or null when one of them would be null.
    ///
    /// # Errors
    /// When null would stand where it may not.
    pub fn list_of(
        &mut self,
        items: usize,
        nullable: bool,
        mut write: impl FnMut(&mut Self, usize) -> Written,
    ) -> Written {
        let mark = self.out.len();
        self.out.push(b'[');
        for at in 0..items {
            if at > 0 {
                self.out.push(b',');
            }
            if self.item(at, |this| write(this, at)).is_err() {
                self.out.truncate(mark);
                return self.null(nullable);
            }
        }
        self.out.push(b']');
        Ok(())
    }

    /// Writes a page, or null when a part of it would be null.
    ///
    /// # Errors
    /// When null would stand where it may not.
    pub fn page_or_null(&mut self, shape: &'a PageShape, row: &Columns<'_>, nullable: bool) -> Written {
        let mark = self.out.len();
        if self.page(shape, row).is_err() {
            self.out.truncate(mark);
            return self.null(nullable);
        }
        Ok(())
    }

    fn page(&mut self, shape: &'a PageShape, row: &Columns<'_>) -> Written {
        let raw = shape.rows.and_then(|at| row.get(at).copied().flatten());
        let mut records = Vec::new();
        if let Some(raw) = raw {
            let Ok(reader) = ArrayReader::new(raw) else { return self.malformed(false) };
            for record in reader {
                let mut columns = Vec::new();
                if record_columns(record, &mut columns).is_none() {
                    return self.malformed(false);
                }
                records.push(columns);
            }
        }
        let size = self.sizes.get(shape.size).map_or(usize::MAX, |size| *size as usize);
        let more = records.len() > size;
        records.truncate(size);
        if shape.backwards {
            records.reverse();
        }
        self.out.push(b'{');
        for (at, (written_key, key, field)) in shape.fields.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(written_key);
            self.path.push(At::Key(key));
            let written = self.page_field(shape, field, &records, more, row);
            self.path.pop();
            written?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn page_field(
        &mut self,
        shape: &'a PageShape,
        field: &'a PageField,
        records: &[Vec<Option<&[u8]>>],
        more: bool,
        row: &Columns<'_>,
    ) -> Written {
        match field {
            PageField::Constant(text) => self.out.extend_from_slice(text),
            PageField::Total => match shape.total.and_then(|at| row.get(at).copied().flatten()) {
                Some(raw) => {
                    let count = raw.try_into().map(i64::from_be_bytes).unwrap_or_default();
                    self.out.extend_from_slice(count.to_string().as_bytes());
                }
                None => return self.malformed(false),
            },
            PageField::Nodes(node) => {
                self.out.push(b'[');
                for (at, record) in records.iter().enumerate() {
                    if at > 0 {
                        self.out.push(b',');
                    }
                    self.item(at, |this| this.object(node, record, false))?;
                }
                self.out.push(b']');
            }
            PageField::Edges(fields) => {
                self.out.push(b'[');
                for (at, record) in records.iter().enumerate() {
                    if at > 0 {
                        self.out.push(b',');
                    }
                    self.item(at, |this| this.edge(shape, fields, record))?;
                }
                self.out.push(b']');
            }
            PageField::Info(fields) => self.info(shape, fields, records, more),
        }
        Ok(())
    }

    fn edge(&mut self, shape: &PageShape, fields: &'a [Keyed<EdgeField>], record: &Columns<'_>) -> Written {
        self.out.push(b'{');
        for (at, (written_key, key, field)) in fields.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(written_key);
            match field {
                EdgeField::Constant(text) => self.out.extend_from_slice(text),
                EdgeField::Cursor => self.cursor(shape, record),
                EdgeField::Node(node) => {
                    self.path.push(At::Key(key));
                    let written = self.object(node, record, false);
                    self.path.pop();
                    written?;
                }
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn cursor(&mut self, shape: &PageShape, record: &Columns<'_>) {
        let keys: Vec<Option<&str>> = shape
            .cursor
            .iter()
            .map(|at| record.get(*at).copied().flatten().and_then(|raw| std::str::from_utf8(raw).ok()))
            .collect();
        write_string(&cursor::write(&shape.fingerprint, &keys), self.out);
    }

    fn info(
        &mut self,
        shape: &PageShape,
        fields: &[Keyed<InfoField>],
        records: &[Vec<Option<&[u8]>>],
        more: bool,
    ) {
        let (next, previous) =
            if shape.backwards { (shape.continued, more) } else { (more, shape.continued) };
        self.out.push(b'{');
        for (at, (written_key, _, field)) in fields.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(written_key);
            match field {
                InfoField::Constant(text) => self.out.extend_from_slice(text),
                InfoField::HasNext => self.out.extend_from_slice(next.to_string().as_bytes()),
                InfoField::HasPrevious => self.out.extend_from_slice(previous.to_string().as_bytes()),
                InfoField::Start => self.cursor_of(shape, records.first()),
                InfoField::End => self.cursor_of(shape, records.last()),
            }
        }
        self.out.push(b'}');
    }

    fn cursor_of(&mut self, shape: &PageShape, record: Option<&Vec<Option<&[u8]>>>) {
        match record {
            Some(record) => self.cursor(shape, record),
            None => write_null(self.out),
        }
    }
}

/// The columns of a record; `None` when it cannot be read.
fn record_columns<'r>(
    record: Result<Option<&'r [u8]>, Error>,
    columns: &mut Vec<Option<&'r [u8]>>,
) -> Option<()> {
    columns.clear();
    for column in RecordReader::new(record.ok()??).ok()? {
        columns.push(column.ok()?);
    }
    Some(())
}

#[cfg(test)]
mod tests;
