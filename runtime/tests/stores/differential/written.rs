//! A schema in its languages: the statements that make its tables, and the schema file.

use std::fmt::Write as _;

use super::model::{Column, Field, Link, List, Model, RootKind, Shape, Table, Type, WORDS};

/// A name or a text in SQL.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in GraphQL.
pub fn text(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

impl Model {
    /// The statements that make its tables.
    pub fn ddl(&self) -> String {
        let labels: Vec<String> =
            WORDS.iter().map(|(_, text)| format!("'{}'", text.replace('\'', "''"))).collect();
        let mut sql = format!("CREATE TYPE colour AS ENUM ({});\n", labels.join(", "));
        for table in &self.tables {
            let _ = write!(sql, "CREATE TABLE {} (", quoted(&table.name));
            for column in &table.columns {
                let array = if column.array { "[]" } else { "" };
                // Bytes decide the order, whatever the locale of the database is.
                let collate = if column.kind.sql() == "text" { " COLLATE \"C\"" } else { "" };
                let null = if column.nullable { "" } else { " NOT NULL" };
                let (name, ty) = (quoted(&column.name), column.kind.sql());
                let _ = write!(sql, "{name} {ty}{array}{collate}{null}, ");
            }
            for key in &table.foreign_keys {
                let target = &self.tables[key.target];
                let columns = names(table, &key.columns);
                if key.unique {
                    let _ = write!(sql, "UNIQUE ({columns}), ");
                }
                let (to, keys) = (quoted(&target.name), names(target, &target.key));
                let _ = write!(sql, "FOREIGN KEY ({columns}) REFERENCES {to} ({keys}), ");
            }
            if let Some(column) = table.unique {
                let _ = write!(sql, "UNIQUE ({}), ", quoted(&table.columns[column].name));
            }
            let _ = writeln!(sql, "PRIMARY KEY ({}));", names(table, &table.key));
        }
        for between in &self.betweens {
            let mut columns = Vec::new();
            for (side, table) in [("l", between.left), ("r", between.right)] {
                for (at, key) in self.tables[table].key.iter().enumerate() {
                    let ty = self.tables[table].columns[*key].kind.sql();
                    let collate = if ty == "text" { " COLLATE \"C\"" } else { "" };
                    columns.push((format!("{side}{at}"), format!("{ty}{collate}")));
                }
            }
            let declared: Vec<String> = columns.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
            let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
            let (name, declared, names) = (&between.name, declared.join(", "), names.join(", "));
            let _ = writeln!(sql, "CREATE TABLE {name} ({declared}, PRIMARY KEY ({names}));");
        }
        sql
    }

    /// The schema file.
    pub fn sdl(&self) -> String {
        let mut sdl = String::new();
        for name in ["Colour", "Paint"] {
            let values: Vec<String> =
                WORDS.iter().map(|(name, stored)| format!("{name} @value(text: {})", text(stored))).collect();
            let _ = writeln!(sdl, "enum {name} {{ {} }}", values.join(" "));
        }
        for ty in &self.types {
            self.write_type(&mut sdl, ty);
        }
        sdl.push_str("type Query {\n");
        for root in &self.roots {
            let table = &self.tables[root.table];
            let name = &self.types[table.ty].name;
            match &root.kind {
                RootKind::Lookup(by) => {
                    let args: Vec<String> = by
                        .iter()
                        .map(|column| &table.columns[*column])
                        .map(|column| format!("{}: {}", column.field, column.graphql()))
                        .collect();
                    let _ = writeln!(sdl, "  {}({}): {name} @lookup", root.name, args.join(", "));
                }
                RootKind::List(list) => {
                    let (args, answer, bounds) = self.list_parts(list, root.table);
                    let order = if list.sort.is_empty() {
                        String::new()
                    } else {
                        format!(", order: {}", self.order(list, root.table))
                    };
                    let _ = writeln!(sdl, "  {}{args}: {answer} @list({bounds}{order})", root.name);
                }
            }
        }
        sdl.push_str("}\n");
        sdl
    }

    fn write_type(&self, sdl: &mut String, ty: &Type) {
        let table = &self.tables[ty.table];
        let mut on = format!("@table(name: {}", text(&table.name));
        if let Some(column) = table.soft_delete {
            let _ = write!(on, ", softDelete: {}", text(&table.columns[column].name));
        }
        on.push(')');
        let _ = match &ty.shape {
            Shape::Object => write!(sdl, "type {} {on} {{", ty.name),
            Shape::Member => {
                let holder = &self.types[table.ty];
                let (text, _) = self
                    .members(table.ty)
                    .iter()
                    .find(|(_, member)| self.types[*member].name == ty.name)
                    .expect("a member has a text");
                let implements = match holder.shape {
                    Shape::Interface(_) => format!(" implements {}", holder.name),
                    _ => String::new(),
                };
                write!(sdl, "type {}{implements} @variant(value: \"{text}\") {{", ty.name)
            }
            Shape::Interface(_) => {
                write!(sdl, "interface {} {on} @discriminator(column: \"discriminator\") {{", ty.name)
            }
            Shape::Union(members) => {
                let names: Vec<&str> =
                    members.iter().map(|(_, member)| self.types[*member].name.as_str()).collect();
                let (name, names) = (&ty.name, names.join(" | "));
                let _ =
                    writeln!(sdl, "union {name} {on} @discriminator(column: \"discriminator\") = {names}");
                return;
            }
        };
        sdl.push('\n');
        for field in &ty.fields {
            let _ = writeln!(sdl, "  {}", self.field(ty.table, field));
        }
        sdl.push_str("}\n");
    }

    fn field(&self, table: usize, field: &Field) -> String {
        let mark = if field.nullable { "" } else { "!" };
        let strings = |of: &Table, columns: &[usize]| {
            let all: Vec<String> = columns.iter().map(|column| text(&of.columns[*column].name)).collect();
            all.join(", ")
        };
        let here = &self.tables[table];
        match &field.link {
            Link::Column(column) => {
                let column = &here.columns[*column];
                format!("{}: {} @column(name: {})", field.name, column.graphql(), text(&column.name))
            }
            Link::ToOne { columns, table } => {
                let (name, columns) = (&self.types[self.tables[*table].ty].name, strings(here, columns));
                format!("{}: {name}{mark} @relation(columns: [{columns}])", field.name)
            }
            Link::Inverse { table, columns } => {
                let there = &self.tables[*table];
                let (name, columns) = (&self.types[there.ty].name, strings(there, columns));
                format!("{}: {name} @relation(columns: [{columns}], inverse: true)", field.name)
            }
            Link::ToMany { table, columns, list } => {
                let columns = strings(&self.tables[*table], columns);
                self.list_field(field, list, *table, &format!("columns: [{columns}]"))
            }
            Link::Through { between, left, list } => {
                let between = &self.betweens[*between];
                let (mine, theirs) = if *left { ("l", "r") } else { ("r", "l") };
                let target = if *left { between.right } else { between.left };
                let side = |side: &str, count: usize| {
                    let all: Vec<String> = (0..count).map(|at| format!("\"{side}{at}\"")).collect();
                    all.join(", ")
                };
                let columns = side(mine, here.key.len());
                let targets = side(theirs, self.tables[target].key.len());
                let by = format!("through: \"{}\", columns: [{columns}], targets: [{targets}]", between.name);
                self.list_field(field, list, target, &by)
            }
        }
    }

    fn list_field(&self, field: &Field, list: &List, target: usize, by: &str) -> String {
        let (args, answer, bounds) = self.list_parts(list, target);
        let order = if list.sort.is_empty() {
            String::new()
        } else {
            format!(", order: {}", self.order(list, target))
        };
        format!("{}{args}: {answer} @relation({by}{order}) @list({bounds})", field.name)
    }

    fn order(&self, list: &List, table: usize) -> String {
        let keys: Vec<String> = list
            .sort
            .iter()
            .map(|(column, descending)| {
                let direction = if *descending { " DESC" } else { "" };
                format!("{}{direction}", self.tables[table].columns[*column].name)
            })
            .collect();
        text(&keys.join(", "))
    }

    /// The arguments, what is answered, and the bounds.
    fn list_parts(&self, list: &List, table: usize) -> (String, String, String) {
        let of = &self.tables[table];
        let name = &self.types[of.ty].name;
        let mut args = Vec::new();
        args.extend(list.filter.map(|word| format!("{word}: {name}Filter")));
        args.extend(list.order.map(|many| {
            if many { format!("orderBy: [{name}Order!]") } else { format!("orderBy: {name}Order") }
        }));
        args.extend(list.first.map(|word| format!("{word}: Int")));
        let cursor = if list.connection { "String" } else { of.columns[of.key[0]].kind.graphql() };
        for (there, arg) in [
            (list.last, "last: Int".to_owned()),
            (list.after, format!("after: {cursor}")),
            (list.before, format!("before: {cursor}")),
            (list.offset, "offset: Int".to_owned()),
        ] {
            args.extend(there.then_some(arg));
        }
        for column in &list.equals {
            let column = &of.columns[*column];
            args.push(format!("{}: {}", equals_name(column), column.kind.graphql()));
        }
        let args = if args.is_empty() { String::new() } else { format!("({})", args.join(", ")) };
        let answer = if list.connection { format!("{name}Connection!") } else { format!("[{name}!]!") };
        (args, answer, format!("default: {}, max: {}", list.default, list.max))
    }
}

/// The name of an argument that a column must equal: of its field, else its own.
pub fn equals_name(column: &Column) -> &str {
    &column.field
}

fn names(table: &Table, columns: &[usize]) -> String {
    let names: Vec<String> = columns.iter().map(|column| quoted(&table.columns[*column].name)).collect();
    names.join(", ")
}
