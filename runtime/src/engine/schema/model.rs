//! The compiled schema: what every type, field and argument means in the database.
//!
//! Promises: plain data without I/O, made once by [`compile`](super::compile); everything a plan needs is here, so that
//! planning is a pure function of it. Whatever is referred to by number or name exists.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_graphql::Value;
use indexmap::IndexMap;

use crate::engine::encode::{PgType, Scalar};
use crate::security::guard::Rule;

/// Index of an object, interface or union in [`Schema::objects`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub usize);
/// Index of an enum in [`Schema::enums`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnumId(pub usize);
/// Index of an input object in [`Schema::inputs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InputId(pub usize);

/// A schema bound to a database.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// Object types, interfaces, unions, connections and edges.
    pub objects: Vec<Object>,
    /// Enums.
    pub enums: Vec<Enum>,
    /// Input objects, those that were generated too.
    pub inputs: Vec<Input>,
    /// What each type's name stands for.
    pub names: HashMap<String, Named>,
    /// The root of queries; its fields are never columns.
    pub query: IndexMap<String, Field>,
    /// The root of mutations, executed one after another.
    pub mutation: IndexMap<String, Field>,
    /// The root of subscriptions.
    pub subscription: IndexMap<String, Field>,
    /// What the violation of a constraint means to a caller, by the constraint's name.
    pub constraints: BTreeMap<String, Meaning>,
}

/// What a type's name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A scalar.
    Scalar(Scalar),
    /// An enum.
    Enum(EnumId),
    /// An object, interface or union.
    Object(ObjectId),
    /// An input object.
    Input(InputId),
}

/// A type as a field or an argument has it; lists of lists do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeRef {
    /// The innermost type.
    pub named: Named,
    /// `Some` for a list: whether its items may be null.
    pub list: Option<bool>,
    /// Whether the whole may be null.
    pub nullable: bool,
}

/// What kind of type an [`Object`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectKind {
    /// Rows of a table or view.
    Table,
    /// An interface or union over one table, told apart by a column. Members with the value that stands for each.
    Abstract {
        /// Whether it is a union, which has no fields of its own.
        union: bool,
        /// The column that tells the members apart.
        discriminator: String,
        /// Value of the column → member.
        members: Vec<(String, ObjectId)>,
    },
    /// A page of `ObjectId`s with cursors, as Relay defines it.
    Connection(ObjectId),
    /// A row of a page.
    Edge(ObjectId),
    /// Where a page begins and ends.
    PageInfo,
    /// What a job answers: its id.
    Job,
}

/// An object type.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its name in GraphQL.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// What it is.
    pub kind: ObjectKind,
    /// The table or view behind it; empty for structural types.
    pub table: Table,
    /// Its fields by name.
    pub fields: IndexMap<String, Field>,
    /// Interfaces that it implements.
    pub implements: Vec<ObjectId>,
    /// What is asked of who sees one, or that there is one.
    pub rules: Rules,
}

/// A table or view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Schema, empty for what the search path finds.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Columns that identify a row; what keyset pagination ends with.
    pub key: Vec<Column>,
    /// A row whose column of this name is not null does not exist for anybody.
    pub soft_delete: Option<String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// How its values come over the wire; enums of the database as text.
    pub pg: PgType,
    /// The type's name in SQL, for casts.
    pub sql_type: String,
    /// Whether it is an array of that type.
    pub array: bool,
    /// Whether it can be null.
    pub nullable: bool,
    /// Whether it is read as text, since its type is an enum or one that has no binary decoder here.
    pub as_text: bool,
}

/// A field of an object or of a root.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name in GraphQL.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Why it should not be used any more.
    pub deprecated: Option<String>,
    /// Its type.
    pub ty: TypeRef,
    /// Its arguments by name.
    pub args: IndexMap<String, Argument>,
    /// What it means.
    pub kind: FieldKind,
    /// How long an answer may be kept.
    pub cache: Option<CacheControl>,
    /// What is asked of who selects it, filters or orders by it, or sets it.
    pub rules: Rules,
    /// What stands for it while a flag is on for the caller.
    pub behind: Option<Behind>,
}

/// A field that stands for another while a flag is on for the caller: a root field with another function.
#[derive(Debug, Clone)]
pub struct Behind {
    /// The flag.
    pub flag: String,
    /// The field, of the same name, type and arguments.
    pub field: Box<Field>,
}

/// What is asked of callers, all of it: `@auth`, and that of the interfaces.
pub type Rules = Vec<Arc<Rule>>;

/// How long an answer may be kept, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheControl {
    /// Seconds.
    pub max_age_secs: u32,
    /// Whether it is one caller's only.
    pub private: bool,
    /// Seconds for which an old answer may be given while the database is away.
    pub stale_if_error_secs: u32,
}

/// An argument, or a field of an input object.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Its type.
    pub ty: TypeRef,
    /// What stands for it when it is left out.
    pub default: Option<Value>,
}

/// What a field means.
#[derive(Debug, Clone)]
pub enum FieldKind {
    /// A column of the row.
    Column(Column),
    /// One row of another table.
    ToOne(Relation),
    /// Rows of another table.
    ToMany(Relation, List),
    /// A field of a connection, an edge or a page info, known by its name.
    Structural,
    /// Root: a row by a unique key; argument → column.
    Lookup(Vec<(String, Column)>),
    /// Root: rows.
    List(List),
    /// Root: a function of the database.
    Function(Function),
    /// Root: new rows.
    Insert(Insert),
    /// Root: changes the row with the key.
    Update {
        /// Argument → key column.
        by: Vec<(String, Column)>,
        /// The argument with the new values.
        patch: String,
        /// What is done besides.
        effects: Effects,
    },
    /// Root: deletes the row with the key, or marks it when the table says so.
    Delete {
        /// Argument → key column.
        by: Vec<(String, Column)>,
        /// What is done besides.
        effects: Effects,
    },
    /// Root: a job for the workers, which call the function with the job's id and the arguments.
    Job {
        /// The function.
        function: Function,
        /// A function with the same arguments that is called before, and refuses by an exception.
        check: Option<String>,
        /// What is done besides.
        effects: Effects,
    },
    /// Root of a subscription: events of the outbox.
    Event(EventSource),
}

/// Where a subscription's answers come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSource {
    /// The subject's last part.
    pub event: String,
    /// Keys of the payload that are the key of the row that is answered.
    pub key: Vec<String>,
    /// Argument → key of the payload that must be equal.
    pub filter: Vec<(String, String)>,
}

/// How rows of another table belong to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The type of the other rows.
    pub target: ObjectId,
    /// Pairs of a column here and a column there; with `through`, there is in the table between.
    pub on: Vec<(String, String)>,
    /// The table between, for many-to-many.
    pub through: Option<Through>,
    /// Whether a row is always there.
    pub required: bool,
}

/// A table that ties two others together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Through {
    /// Its schema, empty for what the search path finds.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Pairs of a column in the table between and a column of the target.
    pub on: Vec<(String, String)>,
}

/// What a list takes and gives. Names of arguments where the schema has them.
#[derive(Debug, Clone, PartialEq)]
pub struct List {
    /// Whether the field's type is a connection.
    pub connection: bool,
    /// The argument that filters.
    pub filter: Option<String>,
    /// The argument that orders.
    pub order: Option<String>,
    /// The argument that says how many: `first` or `limit`.
    pub first: Option<String>,
    /// The argument that says how many from the end.
    pub last: Option<String>,
    /// Where to go on, in a connection.
    pub after: Option<String>,
    /// Where to end, in a connection.
    pub before: Option<String>,
    /// How many rows to leave out.
    pub offset: Option<String>,
    /// Arguments that a column must equal.
    pub equals: Vec<(String, Column)>,
    /// Rows when the caller does not say.
    pub size_default: u32,
    /// Rows at most; more is an error.
    pub size_max: u32,
    /// The order when the caller does not say; the key is added.
    pub sort: Vec<SortKey>,
}

/// One key of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortKey {
    /// By which column.
    pub column: Column,
    /// Largest first.
    pub descending: bool,
}

/// A function of the database.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its schema, empty for what the search path finds.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Argument in GraphQL → parameter.
    pub args: Vec<(String, Parameter)>,
    /// Parameters that the engine fills: the event's id, the caller's idempotency key.
    pub supplied: Vec<(String, Supplied)>,
    /// What it answers.
    pub returns: Returns,
    /// What is done besides; nothing for a query.
    pub effects: Effects,
}

/// A parameter of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type; a `json` or `jsonb` one takes input objects.
    pub column: Column,
}

/// What the engine gives a function, by the parameter's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supplied {
    /// `event_id`: the id of the event that the mutation emits.
    EventId,
    /// `idempotency_key`: the caller's key, null without one.
    IdempotencyKey,
}

/// What a function answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Returns {
    /// A value.
    Value(Column),
    /// A row, or none.
    Row,
    /// Rows.
    Rows,
}

/// New rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// The argument with the row, or the list of rows.
    pub input: String,
    /// Columns whose conflict makes it an update; empty for a plain insert.
    pub conflict: Vec<String>,
    /// What is done besides.
    pub effects: Effects,
}

/// What a mutation does in its transaction besides its own change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Where the idempotency key stands: an argument, or argument and field.
    pub idempotency_key: Option<Vec<String>>,
    /// The event that goes into the outbox.
    pub event: Option<Event>,
}

/// An event of a mutation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The subject's last part.
    pub name: String,
    /// Key in the payload → column of the row; whether it is written as text, since a reader would round it.
    pub payload: Vec<(String, String, bool)>,
}

/// An enum: names as the database has them.
#[derive(Debug, Clone)]
pub struct Enum {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Name in GraphQL → text in the database.
    pub values: IndexMap<String, EnumValue>,
}

/// A value of an enum.
#[derive(Debug, Clone)]
pub struct EnumValue {
    /// For people.
    pub description: Option<String>,
    /// Why it should not be used any more.
    pub deprecated: Option<String>,
    /// The text in the database.
    pub text: String,
}

/// What an input object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputRole {
    /// Values; each field may name a column.
    Values,
    /// Conditions on rows of an object.
    Filter(ObjectId),
    /// Comparisons with a value.
    Comparison,
    /// An order of an object's rows; one field at a time.
    Order(ObjectId),
}

/// An input object.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// What it is for.
    pub role: InputRole,
    /// Its fields.
    pub fields: IndexMap<String, Argument>,
    /// Field → column, of an input that becomes a row.
    pub columns: HashMap<String, String>,
    /// Those columns by name.
    pub column_types: HashMap<String, Column>,
}

/// What the violation of a constraint means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// `extensions.code`.
    pub code: String,
    /// For the caller.
    pub message: String,
    /// `extensions.field`, the input that is wrong.
    pub field: Option<String>,
}

impl Schema {
    /// The flags that fields are behind.
    pub fn flags(&self) -> BTreeSet<&str> {
        let roots = self.query.values().chain(self.mutation.values());
        roots.filter_map(|field| field.behind.as_ref()).map(|behind| behind.flag.as_str()).collect()
    }

    /// The object.
    pub fn object(&self, id: ObjectId) -> &Object {
        &self.objects[id.0]
    }

    /// The enum.
    pub fn enumeration(&self, id: EnumId) -> &Enum {
        &self.enums[id.0]
    }

    /// The input object.
    pub fn input(&self, id: InputId) -> &Input {
        &self.inputs[id.0]
    }

    /// The object with this name.
    pub fn object_named(&self, name: &str) -> Option<ObjectId> {
        match self.names.get(name) {
            Some(Named::Object(id)) => Some(*id),
            _ => None,
        }
    }

    /// The name of a type.
    pub fn name_of(&self, named: Named) -> &str {
        match named {
            Named::Scalar(scalar) => scalar.name(),
            Named::Enum(id) => &self.enumeration(id).name,
            Named::Object(id) => &self.object(id).name,
            Named::Input(id) => &self.input(id).name,
        }
    }
}

impl Table {
    /// Its name in SQL.
    pub fn sql(&self) -> String {
        qualified(&self.schema, &self.name)
    }
}

impl Object {
    /// The column of a field.
    pub fn column(&self, field: &str) -> Option<&Column> {
        match &self.fields.get(field)?.kind {
            FieldKind::Column(column) => Some(column),
            _ => None,
        }
    }
}

/// A name in SQL, whatever stands in it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A qualified name in SQL; without schema what the search path finds.
pub fn qualified(schema: &str, name: &str) -> String {
    if schema.is_empty() { quoted(name) } else { format!("{}.{}", quoted(schema), quoted(name)) }
}

/// How a name of GraphQL is written in the database by the rule: `createdAt` → `created_at`.
pub fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() {
            if at > 0 && !snake.ends_with('_') {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
        } else {
            snake.push(letter);
        }
    }
    snake
}

/// How a column is written in GraphQL by the rule: `created_at` → `createdAt`.
pub fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for letter in name.chars() {
        match letter {
            '_' => upper = !camel.is_empty(),
            letter if upper => {
                camel.extend(letter.to_uppercase());
                upper = false;
            }
            letter => camel.push(letter),
        }
    }
    camel
}
