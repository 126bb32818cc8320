//! A schema: its tables, its types, how they hang together. Any that the engine takes can be made.

use super::tape::Tape;

/// What a column holds, and as what it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bigint, shown as an ID.
    Id,
    /// A uuid, shown as an ID.
    UuidId,
    Text,
    Int,
    SmallInt,
    BigInt,
    Float,
    Bool,
    Decimal,
    Uuid,
    DateTime,
    Date,
    /// An enum of the database, in the order in which it names its values.
    Enum,
    /// An enum of the schema whose values are text.
    TextEnum,
    Json,
}

/// Values of both enums: the name in GraphQL and the text in the database.
pub const WORDS: [(&str, &str); 3] = [("red", "red"), ("GREEN", "gr een"), ("blue", "Blue'")];

impl Kind {
    const PLAIN: [Self; 13] = [
        Self::Int,
        Self::Text,
        Self::BigInt,
        Self::Float,
        Self::Bool,
        Self::Decimal,
        Self::Uuid,
        Self::DateTime,
        Self::Date,
        Self::Enum,
        Self::TextEnum,
        Self::Json,
        Self::SmallInt,
    ];
    const ARRAYS: [Self; 5] = [Self::Int, Self::Text, Self::Enum, Self::Uuid, Self::BigInt];

    pub fn graphql(self) -> &'static str {
        match self {
            Self::Id | Self::UuidId => "ID",
            Self::Text => "String",
            Self::Int | Self::SmallInt => "Int",
            Self::BigInt => "BigInt",
            Self::Float => "Float",
            Self::Bool => "Boolean",
            Self::Decimal => "Decimal",
            Self::Uuid => "UUID",
            Self::DateTime => "DateTime",
            Self::Date => "Date",
            Self::Enum => "Colour",
            Self::TextEnum => "Paint",
            Self::Json => "JSON",
        }
    }

    pub fn sql(self) -> &'static str {
        match self {
            Self::Id | Self::BigInt => "bigint",
            Self::UuidId | Self::Uuid => "uuid",
            Self::Text | Self::TextEnum => "text",
            Self::Int => "integer",
            Self::SmallInt => "smallint",
            Self::Float => "double precision",
            Self::Bool => "boolean",
            Self::Decimal => "numeric(12, 2)",
            Self::DateTime => "timestamptz",
            Self::Date => "date",
            Self::Enum => "colour",
            Self::Json => "jsonb",
        }
    }

    /// Comparisons that a filter has for it.
    pub fn comparisons(self) -> &'static [&'static str] {
        match self {
            Self::Json => &["isNull"],
            Self::Bool | Self::Enum | Self::TextEnum => &["eq", "ne", "in", "notIn", "isNull"],
            Self::Text => &["eq", "ne", "in", "notIn", "lt", "lte", "gt", "gte", "like", "ilike", "isNull"],
            _ => &["eq", "ne", "in", "notIn", "lt", "lte", "gt", "gte", "isNull"],
        }
    }
}

#[derive(Debug, Clone)]
pub struct Column {
    pub field: String,
    pub name: String,
    pub kind: Kind,
    pub array: bool,
    pub nullable: bool,
    /// Whether the schema lets items of an array be null; the data have such items all the same.
    pub items_nullable: bool,
}

impl Column {
    pub fn graphql(&self) -> String {
        let mark = if self.nullable { "" } else { "!" };
        match (self.array, self.items_nullable) {
            (false, _) => format!("{}{mark}", self.kind.graphql()),
            (true, true) => format!("[{}]{mark}", self.kind.graphql()),
            (true, false) => format!("[{}!]{mark}", self.kind.graphql()),
        }
    }

    pub fn is_sortable(&self) -> bool {
        !self.array && self.kind != Kind::Json
    }
}

#[derive(Debug, Clone)]
pub struct ForeignKey {
    pub columns: Vec<usize>,
    pub target: usize,
    pub nullable: bool,
    pub unique: bool,
}

#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    pub key: Vec<usize>,
    pub foreign_keys: Vec<ForeignKey>,
    /// A column that marks rows as deleted.
    pub soft_delete: Option<usize>,
    /// The column that tells the members of an abstract type apart.
    pub discriminator: Option<usize>,
    /// Columns that are unique besides the key.
    pub unique: Option<usize>,
    /// The type of its rows.
    pub ty: usize,
}

/// A table between two others.
#[derive(Debug, Clone)]
pub struct Between {
    pub name: String,
    pub left: usize,
    pub right: usize,
}

#[derive(Debug, Clone)]
pub struct List {
    pub connection: bool,
    pub filter: Option<&'static str>,
    /// Whether a list of orders is taken.
    pub order: Option<bool>,
    pub first: Option<&'static str>,
    pub last: bool,
    pub after: bool,
    pub before: bool,
    pub offset: bool,
    /// Columns that arguments of the same name must equal.
    pub equals: Vec<usize>,
    pub default: usize,
    pub max: usize,
    /// Column, whether descending.
    pub sort: Vec<(usize, bool)>,
}

#[derive(Debug, Clone)]
pub enum Link {
    Column(usize),
    /// The row with these values in its key.
    ToOne {
        columns: Vec<usize>,
        table: usize,
    },
    /// The one row that refers to this one.
    Inverse {
        table: usize,
        columns: Vec<usize>,
    },
    ToMany {
        table: usize,
        columns: Vec<usize>,
        list: List,
    },
    /// Over a table between, from its left side or its right one.
    Through {
        between: usize,
        left: bool,
        list: List,
    },
}

#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub link: Link,
    pub nullable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    Object,
    Member,
    /// Members: text of the discriminator, type.
    Interface(Vec<(String, usize)>),
    Union(Vec<(String, usize)>),
}

#[derive(Debug, Clone)]
pub struct Type {
    pub name: String,
    pub table: usize,
    pub shape: Shape,
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone)]
pub enum RootKind {
    Lookup(Vec<usize>),
    List(List),
}

#[derive(Debug, Clone)]
pub struct Root {
    pub name: String,
    pub table: usize,
    pub kind: RootKind,
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub tables: Vec<Table>,
    pub betweens: Vec<Between>,
    pub types: Vec<Type>,
    pub roots: Vec<Root>,
}

impl Model {
    pub fn members(&self, ty: usize) -> &[(String, usize)] {
        match &self.types[ty].shape {
            Shape::Interface(members) | Shape::Union(members) => members,
            Shape::Object | Shape::Member => &[],
        }
    }

    /// Any schema.
    pub fn any(tape: &mut Tape<'_>) -> Self {
        let mut model = Self::default();
        for at in 0..2 + tape.below(3) {
            let table = any_table(tape, &model.tables, at);
            model.tables.push(table);
        }
        for at in 0..tape.below(3) {
            let (left, right) = (tape.below(model.tables.len()), tape.below(model.tables.len()));
            model.betweens.push(Between { name: format!("between_{at}"), left, right });
        }
        for at in 0..model.tables.len() {
            model.add_types(tape, at);
        }
        model.add_relations(tape);
        for at in 0..model.tables.len() {
            model.add_roots(tape, at);
        }
        model
    }

    fn add_types(&mut self, tape: &mut Tape<'_>, at: usize) {
        let table = &self.tables[at];
        let hidden = |column: usize| {
            Some(column) == table.soft_delete
                || Some(column) == table.discriminator
                || table.foreign_keys.iter().any(|key| key.columns.contains(&column))
        };
        let columns: Vec<usize> = (0..table.columns.len()).filter(|column| !hidden(*column)).collect();
        let field = |column: &usize| Field {
            name: table.columns[*column].field.clone(),
            link: Link::Column(*column),
            nullable: table.columns[*column].nullable,
        };
        let keyed = |keep: &mut dyn FnMut() -> bool| -> Vec<Field> {
            columns.iter().filter(|column| table.key.contains(column) || keep()).map(field).collect()
        };
        let name = format!("T{at}");
        let first = self.types.len();
        if table.discriminator.is_none() {
            let fields = keyed(&mut || true);
            self.types.push(Type { name, table: at, shape: Shape::Object, fields });
        } else {
            let union = tape.chance(40);
            let common = if union { Vec::new() } else { keyed(&mut || tape.chance(50)) };
            let mut members = Vec::new();
            let mut types = Vec::new();
            for (index, text) in ["a", "b"].into_iter().enumerate() {
                let mut fields = common.clone();
                for extra in keyed(&mut || tape.chance(60)) {
                    if fields.iter().all(|known: &Field| known.name != extra.name) {
                        fields.push(extra);
                    }
                }
                members.push((text.to_owned(), first + 1 + index));
                let name = format!("{name}{}", text.to_uppercase());
                types.push(Type { name, table: at, shape: Shape::Member, fields });
            }
            let shape = if union { Shape::Union(members) } else { Shape::Interface(members) };
            self.types.push(Type { name, table: at, shape, fields: common });
            self.types.extend(types);
        }
        self.tables[at].ty = first;
    }

    /// The types that get a relation of this table: members where it is abstract.
    fn holders(&self, table: usize) -> Vec<usize> {
        let ty = self.tables[table].ty;
        let members = self.members(ty);
        if members.is_empty() { vec![ty] } else { members.iter().map(|(_, member)| *member).collect() }
    }

    fn add_relations(&mut self, tape: &mut Tape<'_>) {
        for at in 0..self.tables.len() {
            for (index, key) in self.tables[at].foreign_keys.clone().into_iter().enumerate() {
                let nullable = key.nullable || self.tables[key.target].soft_delete.is_some();
                let link = Link::ToOne { columns: key.columns.clone(), table: key.target };
                for holder in self.holders(at) {
                    let name = format!("one{index}");
                    self.types[holder].fields.push(Field { name, link: link.clone(), nullable });
                }
                // An interface has the field too, now and then.
                let ty = self.tables[at].ty;
                if matches!(self.types[ty].shape, Shape::Interface(_)) && tape.chance(50) {
                    let name = format!("one{index}");
                    self.types[ty].fields.push(Field { name, link, nullable });
                }
                let (columns, target) = (key.columns, key.target);
                let name = format!("of{at}x{index}");
                let (link, nullable) = if key.unique {
                    (Link::Inverse { table: at, columns }, true)
                } else {
                    (Link::ToMany { table: at, columns, list: self.any_list(tape, at, true) }, false)
                };
                for holder in self.holders(target) {
                    let (name, link) = (name.clone(), link.clone());
                    self.types[holder].fields.push(Field { name, link, nullable });
                }
            }
        }
        for (at, between) in self.betweens.clone().into_iter().enumerate() {
            for (side, from, to) in
                [(true, between.left, between.right), (false, between.right, between.left)]
            {
                let list = self.any_list(tape, to, true);
                let link = Link::Through { between: at, left: side, list };
                let name = format!("through{at}{}", if side { "Right" } else { "Left" });
                for holder in self.holders(from) {
                    let (name, link) = (name.clone(), link.clone());
                    self.types[holder].fields.push(Field { name, link, nullable: false });
                }
            }
        }
    }

    fn any_list(&self, tape: &mut Tape<'_>, table: usize, nested: bool) -> List {
        let of = &self.tables[table];
        let union = matches!(self.types[of.ty].shape, Shape::Union(_));
        let connection = tape.chance(40);
        let single_key = of.key.len() == 1;
        let filter = (!union && tape.chance(70)).then(|| *tape.pick(&["where", "filter"]));
        let sortable = self.types[of.ty].fields.iter().any(|field| match field.link {
            Link::Column(column) => of.columns[column].is_sortable(),
            _ => false,
        });
        let order = (!union && sortable && tape.chance(70)).then(|| tape.chance(70));
        let max = 5 + tape.below(20);
        let mut sort: Vec<(usize, bool)> = Vec::new();
        for _ in 0..tape.below(3) {
            let column = tape.below(of.columns.len());
            let known = sort.iter().any(|(known, _)| *known == column);
            if of.columns[column].is_sortable() && !known {
                sort.push((column, tape.chance(40)));
            }
        }
        let equals = if !nested && tape.chance(30) {
            // An argument is known by a field; of an abstract type, which lacks some, by the column's own name.
            let plain = |column: &usize| {
                let known = &of.columns[*column];
                let named = of.discriminator.is_none() || known.name == known.field;
                known.is_sortable() && named && Some(*column) != of.soft_delete
            };
            let all: Vec<usize> = (0..of.columns.len()).filter(plain).collect();
            vec![*tape.pick(&all)]
        } else {
            Vec::new()
        };
        List {
            connection,
            filter,
            order,
            first: Some(*tape.pick(&["first", "limit"])),
            last: tape.chance(40),
            after: (connection || single_key) && tape.chance(60),
            before: (connection || single_key) && tape.chance(40),
            offset: !connection && tape.chance(40),
            equals,
            default: 1 + tape.below(max),
            max,
            sort,
        }
    }

    fn add_roots(&mut self, tape: &mut Tape<'_>, table: usize) {
        let key = RootKind::Lookup(self.tables[table].key.clone());
        self.roots.push(Root { name: format!("t{table}"), table, kind: key });
        if let Some(column) = self.tables[table].unique {
            let kind = RootKind::Lookup(vec![column]);
            self.roots.push(Root { name: format!("t{table}By"), table, kind });
        }
        for suffix in ["List", "Some"] {
            let kind = RootKind::List(self.any_list(tape, table, false));
            self.roots.push(Root { name: format!("t{table}{suffix}"), table, kind });
        }
    }
}

fn any_table(tape: &mut Tape<'_>, before: &[Table], at: usize) -> Table {
    let column = |field: &str, kind, nullable| Column {
        field: field.to_owned(),
        name: field.to_owned(),
        kind,
        array: false,
        nullable,
        items_nullable: false,
    };
    let keys: &[Kind] = match tape.below(6) {
        0 | 1 => &[Kind::Id],
        2 => &[Kind::UuidId],
        3 => &[Kind::Id, Kind::Int],
        4 => &[Kind::Text],
        _ => &[Kind::Int, Kind::Text],
    };
    let mut columns: Vec<Column> =
        keys.iter().enumerate().map(|(at, kind)| column(&format!("k{at}"), *kind, false)).collect();
    let key: Vec<usize> = (0..columns.len()).collect();
    for at in 0..1 + tape.below(6) {
        let array = tape.chance(20);
        let kind = *tape.pick(if array { Kind::ARRAYS.as_slice() } else { Kind::PLAIN.as_slice() });
        let (field, name) = match tape.below(4) {
            0 => (format!("c{at}"), format!("c{at}")),
            1 => (format!("someThing{at}"), format!("some_thing{at}")),
            2 => (format!("c{at}"), format!("Quo\"te{at}")),
            _ => (format!("c{at}"), ["select", "t0", "order", "row", "user", "Array"][at].to_owned()),
        };
        let nullable = tape.chance(50);
        columns.push(Column {
            field,
            name,
            array,
            items_nullable: tape.chance(50),
            ..column("", kind, nullable)
        });
    }
    let unique = tape.chance(30).then(|| {
        columns.push(column("code", Kind::Int, false));
        columns.len() - 1
    });
    let mut foreign_keys = Vec::new();
    for index in 0..tape.below(3) {
        let target = tape.below(at + 1);
        let itself = target == at;
        let nullable = itself || tape.chance(50);
        let kinds: Vec<Kind> = match before.get(target) {
            Some(table) => table.key.iter().map(|key| table.columns[*key].kind).collect(),
            None => keys.to_vec(),
        };
        let first = columns.len();
        for (part, kind) in kinds.into_iter().enumerate() {
            columns.push(column(&format!("f{index}p{part}"), kind, nullable));
        }
        let unique = tape.chance(15);
        foreign_keys.push(ForeignKey { columns: (first..columns.len()).collect(), target, nullable, unique });
    }
    let soft_delete = tape.chance(30).then(|| {
        columns.push(column("deleted", Kind::DateTime, true));
        columns.len() - 1
    });
    let discriminator = tape.chance(25).then(|| {
        columns.push(column("discriminator", Kind::Text, false));
        columns.len() - 1
    });
    let name = if tape.chance(20) { format!("Ta\"ble {at}") } else { format!("table_{at}") };
    Table { name, columns, key, foreign_keys, soft_delete, discriminator, unique, ty: 0 }
}
