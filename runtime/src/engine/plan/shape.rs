//! How rows become JSON: the output half of a plan, made once and run for every row.
//!
//! A row is a list of columns in PostgreSQL's binary format; a nested list is one column that holds an array of records.
//! Numbers in a shape are positions of columns.

use std::sync::Arc;

use crate::engine::encode::{Decoder, write_key, write_string};

/// An object of the answer.
#[derive(Debug, Clone)]
pub struct ObjectShape {
    /// The column that says whether the row is there; `None` when it always is.
    pub presence: Option<usize>,
    /// Its fields.
    pub body: Body,
}

/// The fields of an object.
#[derive(Debug, Clone)]
pub enum Body {
    /// Of an object type.
    Fields(Vec<FieldShape>),
    /// Of an interface or union, by the text of the discriminator.
    Variants {
        /// Where the discriminator is.
        discriminator: usize,
        /// Text → fields.
        variants: Vec<(String, Vec<FieldShape>)>,
    },
}

/// A field of an object.
#[derive(Debug, Clone)]
pub struct FieldShape {
    /// `"key":`, ready to be copied.
    pub written_key: Box<[u8]>,
    /// The response key, for the path of an error.
    pub key: Arc<str>,
    /// Whether null may stand here; if not, it takes the next object that may be null with it.
    pub nullable: bool,
    /// Its value.
    pub value: ValueShape,
}

/// The texts of an enum and how each is written.
pub type EnumTexts = Arc<[(String, Box<[u8]>)]>;

/// How one value is written.
#[derive(Debug, Clone)]
pub enum Leaf {
    /// A scalar.
    Scalar(Decoder),
    /// An enum.
    Enum(EnumTexts),
}

/// The value of a field.
#[derive(Debug, Clone)]
pub enum ValueShape {
    /// The same for every row: `__typename`.
    Constant(Box<[u8]>),
    /// A column.
    Column(usize, Leaf),
    /// A column that is an array; whether its items may be null.
    Array(usize, Leaf, bool),
    /// An object in the same row.
    Object(Box<ObjectShape>),
    /// Records in a column; whether null may stand for one; whether they come in the wrong order.
    List(usize, Box<ObjectShape>, bool, bool),
    /// A page of records in a column.
    Page(Box<PageShape>),
}

/// A field with its key: `"key":` ready to be copied, and the key for the path of an error.
pub type Keyed<F> = (Box<[u8]>, Arc<str>, F);

/// A connection.
#[derive(Debug, Clone)]
pub struct PageShape {
    /// The column with the records, one more than wanted; `None` when none is selected.
    pub rows: Option<usize>,
    /// The column with the number of all rows.
    pub total: Option<usize>,
    /// Which of the statement's sizes is that of the page.
    pub size: usize,
    /// Whether the page is read from the end, so that the records come in the wrong order.
    pub backwards: bool,
    /// Whether a cursor was given, so that rows are left out before (or, backwards, after) the page.
    pub continued: bool,
    /// Positions in a record of the keys that make its cursor.
    pub cursor: Vec<usize>,
    /// What the cursors of this order begin with.
    pub fingerprint: Arc<str>,
    /// Fields of the connection.
    pub fields: Vec<Keyed<PageField>>,
}

/// A field of a connection.
#[derive(Debug, Clone)]
pub enum PageField {
    /// `__typename`.
    Constant(Box<[u8]>),
    /// `edges`, with the fields of each.
    Edges(Vec<Keyed<EdgeField>>),
    /// `nodes`.
    Nodes(ObjectShape),
    /// `pageInfo`.
    Info(Vec<Keyed<InfoField>>),
    /// `totalCount`.
    Total,
}

/// A field of an edge.
#[derive(Debug, Clone)]
pub enum EdgeField {
    /// `__typename`.
    Constant(Box<[u8]>),
    /// `cursor`.
    Cursor,
    /// `node`.
    Node(ObjectShape),
}

/// A field of a page info.
#[derive(Debug, Clone)]
pub enum InfoField {
    /// `__typename`.
    Constant(Box<[u8]>),
    /// `hasNextPage`.
    HasNext,
    /// `hasPreviousPage`.
    HasPrevious,
    /// `startCursor`.
    Start,
    /// `endCursor`.
    End,
}

/// `"key":`.
pub fn written_key(key: &str) -> Box<[u8]> {
    let mut out = Vec::with_capacity(key.len() + 3);
    write_key(key, &mut out);
    out.into_boxed_slice()
}

/// `"text"`.
pub fn written_text(text: &str) -> Box<[u8]> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_string(text, &mut out);
    out.into_boxed_slice()
}
