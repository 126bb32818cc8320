//! Arguments of an operation: filters, orders, sizes, bounds; as literals and in variables of every kind.

use serde_json::Value as Json;

use super::compare::order_name;
use super::data::{self, Datum, json_of};
use super::model::{Column, Field, Kind, Link, List};
use super::operation::{Writer, full_order};
use super::written::equals_name;

/// An input value.
#[derive(Debug, Clone)]
pub enum Input {
    Null,
    Scalar(Json),
    Enum(String),
    /// A variable, declared before.
    Variable(String),
    List(Vec<Input>),
    Object(Vec<(String, Input)>),
}

impl Input {
    pub fn literal(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Scalar(Json::Object(_) | Json::Array(_)) => panic!("documents are no input here"),
            Self::Scalar(json) => json.to_string(),
            Self::Enum(name) => name.clone(),
            Self::Variable(name) => format!("${name}"),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::literal).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Object(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{name}: {}", value.literal())).collect();
                format!("{{{}}}", fields.join(", "))
            }
        }
    }

    pub fn json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Scalar(json) => json.clone(),
            Self::Enum(name) => Json::String(name.clone()),
            Self::Variable(_) => panic!("a variable is no value of a variable"),
            Self::List(items) => items.iter().map(Self::json).collect(),
            Self::Object(fields) => {
                Json::Object(fields.iter().map(|(name, value)| (name.clone(), value.json())).collect())
            }
        }
    }
}

/// A value as it is given.
pub fn input_of(kind: Kind, value: &Datum) -> Input {
    match (kind, json_of(kind, value)) {
        (_, Json::Null) => Input::Null,
        (Kind::Enum | Kind::TextEnum, Json::String(name)) => Input::Enum(name),
        (_, Json::Array(_) | Json::Object(_)) => panic!("a document is no input"),
        (_, json) => Input::Scalar(json),
    }
}

impl Writer<'_, '_> {
    /// A value of an argument: as it is, or in a variable in any of the ways that the type allows.
    pub fn argument(&mut self, ty: &str, value: Input) -> String {
        let has_inner = contains_variable(&value);
        if has_inner || !self.tape.chance(45) {
            return value.literal();
        }
        let name = self.name("v");
        let plain = ty.trim_end_matches('!').to_owned();
        let null = matches!(value, Input::Null);
        let (declared, default, given) = match self.tape.below(3) {
            0 if !null => (format!("{plain}!"), None, true),
            1 => (plain, Some(value.literal()), false),
            2 => (
                plain.clone(),
                Some(if null { value.literal() } else { self.other_default(&plain, &value) }),
                true,
            ),
            _ if ty.ends_with('!') => (format!("{plain}!"), None, true),
            _ => (plain, None, true),
        };
        if given {
            self.given.insert(name.clone(), value.json());
        }
        self.declared.push((name.clone(), declared, default));
        format!("${name}")
    }

    /// A default that is not used, since the variable is given.
    fn other_default(&mut self, plain: &str, value: &Input) -> String {
        match plain {
            "Int" => "1".to_owned(),
            "Boolean" => "true".to_owned(),
            _ => value.literal(),
        }
    }

    /// A variable of a type that can be null which is not given: as if the argument was left out.
    fn absent(&mut self, ty: &str) -> String {
        let name = self.name("v");
        self.declared.push((name.clone(), ty.trim_end_matches('!').to_owned(), None));
        format!("${name}")
    }

    pub fn list_args(&mut self, list: &List, table: usize) -> String {
        let model = self.model;
        let of = &model.tables[table];
        let type_name = model.types[of.ty].name.clone();
        let mut args = Vec::new();
        if let Some(word) = list.filter
            && self.tape.chance(45)
        {
            let ty = format!("{type_name}Filter");
            let value = if self.tape.chance(7) { Input::Null } else { self.filter(of.ty, 0) };
            let value = self.argument(&ty, value);
            args.push(format!("{word}: {value}"));
        }
        let mut sort = Vec::new();
        if let Some(many) = list.order
            && self.tape.chance(50)
        {
            let (value, chosen) = self.order(of.ty, many);
            sort = chosen;
            let ty = if many { format!("[{type_name}Order!]") } else { format!("{type_name}Order") };
            let value = self.argument(&ty, value);
            args.push(format!("orderBy: {value}"));
        }
        let order = full_order(model, list, table, &sort);
        let backwards = list.last && self.tape.chance(30);
        let size = if backwards { Some("last") } else { list.first.filter(|_| self.tape.chance(50)) };
        if let Some(word) = size {
            let value = match self.tape.below(12) {
                11 => self.absent("Int"),
                10 if !backwards => self.argument("Int", Input::Null),
                _ => {
                    let many = self.tape.below(list.max.min(8) + 1);
                    self.argument("Int", Input::Scalar(many.into()))
                }
            };
            args.push(format!("{word}: {value}"));
        }
        for (there, word) in [(list.after, "after"), (list.before, "before")] {
            if !there || !self.tape.chance(35) {
                continue;
            }
            if list.connection {
                let name = order_name(model, table, &order);
                let known = self.cursors.of(&name);
                if !known.is_empty() {
                    let cursor = known[self.tape.below(known.len())].to_owned();
                    let value = self.argument("String", Input::Scalar(Json::String(cursor)));
                    args.push(format!("{word}: {value}"));
                }
                continue;
            }
            let key = &of.columns[of.key[0]];
            let value = self.value_of(key, table, of.key[0]);
            let input = input_of(key.kind, &value);
            let value = self.argument(key.kind.graphql(), input);
            args.push(format!("{word}: {value}"));
        }
        if list.offset && self.tape.chance(30) {
            let many = self.tape.below(4);
            let value = self.argument("Int", Input::Scalar(many.into()));
            args.push(format!("offset: {value}"));
        }
        for column in &list.equals {
            if self.tape.chance(40) {
                let known = &of.columns[*column];
                let value = self.value_of(known, table, *column);
                let input = if self.tape.chance(10) { Input::Null } else { input_of(known.kind, &value) };
                let value = self.argument(known.kind.graphql(), input);
                args.push(format!("{}: {value}", equals_name(known)));
            }
        }
        if args.is_empty() { String::new() } else { format!("({})", args.join(", ")) }
    }

    /// A value that the column has somewhere, or any.
    fn value_of(&mut self, column: &Column, table: usize, at: usize) -> Datum {
        let rows = &self.data.rows[table];
        if !rows.is_empty() && self.tape.chance(65) {
            let value = &rows[self.tape.below(rows.len())][at];
            match value {
                Datum::List(items) => {
                    if let Some(item) = items.iter().find(|item| !item.is_null()) {
                        return item.clone();
                    }
                }
                Datum::Null => {}
                value => return value.clone(),
            }
        }
        data::any(self.tape, column.kind)
    }

    fn order(&mut self, ty: usize, many: bool) -> (Input, Vec<(usize, bool)>) {
        let model = self.model;
        let table = &model.tables[model.types[ty].table];
        let sortable: Vec<usize> = model.types[ty]
            .fields
            .iter()
            .filter_map(|field| match field.link {
                Link::Column(column) if table.columns[column].is_sortable() => Some(column),
                _ => None,
            })
            .collect();
        let mut sort: Vec<(usize, bool)> = Vec::new();
        let wanted = if many { 1 + self.tape.below(3) } else { 1 };
        for _ in 0..wanted {
            let column = sortable[self.tape.below(sortable.len())];
            if sort.iter().all(|(known, _)| *known != column) {
                sort.push((column, self.tape.chance(50)));
            }
        }
        let inputs: Vec<Input> = sort
            .iter()
            .map(|(column, descending)| {
                let direction = Input::Enum(if *descending { "DESC" } else { "ASC" }.to_owned());
                Input::Object(vec![(table.columns[*column].field.clone(), direction)])
            })
            .collect();
        // One stands for a list of one.
        let single = inputs.len() == 1 && (!many || self.tape.chance(30));
        (if single { inputs[0].clone() } else { Input::List(inputs) }, sort)
    }

    fn filter(&mut self, ty: usize, depth: usize) -> Input {
        let mut fields: Vec<(String, Input)> = Vec::new();
        let count = if depth == 0 { 1 + self.tape.below(2) } else { self.tape.below(3) };
        for _ in 0..count {
            let (name, value) = self.condition(ty, depth);
            if fields.iter().all(|(known, _)| *known != name) {
                fields.push((name, value));
            }
        }
        Input::Object(fields)
    }

    fn condition(&mut self, ty: usize, depth: usize) -> (String, Input) {
        let model = self.model;
        let table = model.types[ty].table;
        let fields: Vec<&Field> = model.types[ty]
            .fields
            .iter()
            .filter(|field| matches!(field.link, Link::Column(_) | Link::ToOne { .. } | Link::Inverse { .. }))
            .collect();
        if fields.is_empty() || (depth < 3 && self.tape.chance(25)) {
            let word = ["not", "and", "or"][self.tape.below(3)];
            if word == "not" || self.tape.chance(15) {
                return (word.to_owned(), self.filter(ty, depth + 1));
            }
            let items = (0..self.tape.below(4)).map(|_| self.filter(ty, depth + 1)).collect();
            return (word.to_owned(), Input::List(items));
        }
        let field = fields[self.tape.below(fields.len())];
        let value = match &field.link {
            Link::Column(column) => self.comparisons(table, *column),
            Link::ToOne { table, .. } | Link::Inverse { table, .. } if depth < 3 => {
                self.filter(model.tables[*table].ty, depth + 1)
            }
            _ => Input::Object(Vec::new()),
        };
        (field.name.clone(), value)
    }

    fn comparisons(&mut self, table: usize, at: usize) -> Input {
        let column = &self.model.tables[table].columns[at];
        let words: &[&str] =
            if column.array { &["contains", "overlaps", "isNull"] } else { column.kind.comparisons() };
        let mut given: Vec<(String, Input)> = Vec::new();
        for _ in 0..1 + self.tape.below(2) {
            let word = *self.tape.pick(words);
            if given.iter().any(|(known, _)| known == word) {
                continue;
            }
            let graphql = column.kind.graphql();
            let (ty, value) = match word {
                "isNull" => ("Boolean".to_owned(), Input::Scalar(Json::Bool(self.tape.chance(50)))),
                "in" | "notIn" | "contains" | "overlaps" => {
                    let mut items = Vec::new();
                    for _ in 0..self.tape.below(4) {
                        let value = self.value_of(column, table, at);
                        let item = input_of(column.kind, &value);
                        items.push(self.inner(&format!("{graphql}!"), item));
                    }
                    let single = items.len() == 1 && self.tape.chance(30);
                    let value = if single { items.remove(0) } else { Input::List(items) };
                    (format!("[{graphql}!]"), value)
                }
                "like" | "ilike" => {
                    let value = data::any_pattern(self.tape);
                    (graphql.to_owned(), input_of(column.kind, &value))
                }
                _ => {
                    let value = self.value_of(column, table, at);
                    (graphql.to_owned(), input_of(column.kind, &value))
                }
            };
            let value = self.inner(&ty, value);
            given.push((word.to_owned(), value));
        }
        Input::Object(given)
    }

    /// A value inside another: a variable now and then, where one may stand.
    fn inner(&mut self, ty: &str, value: Input) -> Input {
        if contains_variable(&value) || !self.tape.chance(12) {
            return value;
        }
        if !ty.ends_with('!') && self.tape.chance(25) {
            let name = self.absent(ty);
            return Input::Variable(name.trim_start_matches('$').to_owned());
        }
        let text = self.argument(ty, value.clone());
        match text.strip_prefix('$') {
            Some(name) => Input::Variable(name.to_owned()),
            None => value,
        }
    }
}

fn contains_variable(value: &Input) -> bool {
    match value {
        Input::Variable(_) => true,
        Input::List(items) => items.iter().any(contains_variable),
        Input::Object(fields) => fields.iter().any(|(_, value)| contains_variable(value)),
        Input::Null | Input::Scalar(_) | Input::Enum(_) => false,
    }
}
