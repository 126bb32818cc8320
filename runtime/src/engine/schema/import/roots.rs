//! The fields of the roots: lookups, lists, changes of rows, functions.

use super::links::list;
use super::names::Names;
use super::{Proposal, Type, words};
use crate::engine::schema::catalogue::{Function, Parameter, Returned};
use crate::engine::schema::model::snake_case;

/// A field of a root.
pub(super) struct Root {
    pub(super) name: String,
    pub(super) comment: Option<String>,
    pub(super) args: Vec<String>,
    pub(super) ty: String,
    pub(super) directives: String,
}

/// The fields of both roots.
#[derive(Default)]
pub(super) struct Roots {
    pub(super) query: Vec<Root>,
    pub(super) mutation: Vec<Root>,
    query_names: Names,
    mutation_names: Names,
}

impl Roots {
    fn read(&mut self, wanted: &[&str], args: Vec<String>, ty: String, directives: String) {
        let name = self.query_names.claim(wanted);
        self.query.push(Root { name, comment: None, args, ty, directives });
    }

    fn change(&mut self, wanted: &str, args: Vec<String>, ty: String, directives: String) {
        let name = self.mutation_names.claim(&[wanted]);
        self.mutation.push(Root { name, comment: None, args, ty, directives });
    }
}

impl<'a> Proposal<'a> {
    pub(super) fn roots(&mut self) -> Roots {
        let mut roots = Roots::default();
        for ty in self.types.iter().filter(|ty| !ty.between) {
            add_lookups(ty, &mut roots);
            self.add_lists(ty, &mut roots);
        }
        if self.options.mutations {
            for ty in self.types.iter().filter(|ty| !ty.relation.view) {
                if let Some(column) = self.changes(ty, &mut roots) {
                    let name = format!("{}.{}", ty.schema, ty.table);
                    let reason = format!("new rows, since {column} needs a value and has no field");
                    self.left_out.push(format!("{}: {reason}", super::write::plain(&name)));
                }
            }
        }
        if self.options.functions {
            for ((schema, name), forms) in &self.catalogue.functions {
                self.add_function(schema, name, forms, &mut roots);
            }
        }
        roots
    }

    fn add_lists(&self, ty: &Type<'_>, roots: &mut Roots) {
        let plural = words::field_name(&words::plural(&ty.name));
        let sizes = self.sizes();
        let mut args = list_args(ty);
        args.push("limit: Int".to_owned());
        if ty.key.is_empty() {
            return roots.read(&[&plural, &format!("{plural}List")], args, format!("[{}!]!", ty.name), sizes);
        }
        args.push("offset: Int".to_owned());
        roots.read(&[&plural, &format!("{plural}List")], args, format!("[{}!]!", ty.name), sizes.clone());
        let mut args = list_args(ty);
        args.extend(["first: Int", "after: String", "last: Int", "before: String"].map(str::to_owned));
        roots.read(&[&format!("{plural}Connection")], args, format!("{}Connection!", ty.name), sizes);
    }

    pub(super) fn sizes(&self) -> String {
        format!("@list(default: {}, max: {})", self.options.list_default, self.options.list_max)
    }

    /// Adds what may be done with rows. Answers the column for which there can be no new ones.
    fn changes<'t>(&self, ty: &'t Type<'_>, roots: &mut Roots) -> Option<&'t str> {
        let name = &ty.name;
        let settable = || ty.fields.iter().filter(|field| !field.column.generated);
        let missing = ty.relation.columns.iter().find(|column| {
            let given = ty.fields.iter().any(|field| field.column.name == column.name);
            column.not_null && !column.has_default && !given
        });
        let input = vec![format!("input: {name}Input!")];
        if missing.is_none() && settable().next().is_some() {
            roots.change(&format!("create{name}"), input.clone(), format!("{name}!"), "@insert".to_owned());
            let is_settable = |column: &String| settable().any(|field| field.column.name == *column);
            let key = ty
                .relation
                .keys
                .iter()
                .skip(usize::from(ty.relation.primary))
                .find(|key| key.iter().all(is_settable));
            if let Some(key) = key {
                let upsert = format!("@upsert(conflict: {})", list(key));
                roots.change(&format!("upsert{name}"), input, format!("{name}!"), upsert);
            }
        }
        if let Some(by) = key_args(ty, ty.key) {
            let patched = by.iter().all(|arg| !arg.starts_with("patch:"));
            if patched && settable().any(|field| !ty.key.contains(&field.column.name)) {
                let args = by.iter().cloned().chain([format!("patch: {name}Patch!")]).collect();
                roots.change(&format!("update{name}"), args, name.clone(), "@update".to_owned());
            }
            roots.change(&format!("delete{name}"), by, name.clone(), "@delete".to_owned());
        }
        missing.map(|column| column.name.as_str())
    }

    /// The first form of a function that fits.
    fn add_function(&mut self, schema: &'a str, name: &'a str, forms: &'a [Function], roots: &mut Roots) {
        let mut reasons = Vec::new();
        for form in forms {
            match self.function(schema, name, form) {
                Ok(mut root) => {
                    let (fields, names) = if form.volatile {
                        (&mut roots.mutation, &mut roots.mutation_names)
                    } else {
                        (&mut roots.query, &mut roots.query_names)
                    };
                    let short = root.name;
                    root.name = names.claim(&[&short, &format!("{short}Function")]);
                    fields.push(root);
                    return;
                }
                Err(reason) => reasons.push(reason),
            }
        }
        self.leave_out(schema, &format!("{name}()"), &reasons.join("; "));
    }

    fn function(&mut self, schema: &str, name: &str, form: &'a Function) -> Result<Root, String> {
        let ty = self.answer_of(form)?;
        let mut args = Vec::new();
        let mut names = Names::default();
        for parameter in form.parameters.iter().filter(|parameter| !supplied(parameter)) {
            let arg = names.claim(&[&words::field_name(&parameter.name)]);
            if snake_case(&arg) != parameter.name {
                return Err(match parameter.name.as_str() {
                    "" => "a parameter has no name".to_owned(),
                    odd => format!("no argument stands for its parameter {}", super::write::plain(odd)),
                });
            }
            let (ty, _) =
                self.type_of_column(&parameter.column, arg == "id" || arg.ends_with("Id")).ok_or_else(
                    || format!("there is no scalar for {}", super::write::plain(&parameter.column.sql_type)),
                )?;
            args.push(format!("{arg}: {ty}{}", if parameter.has_default { "" } else { "!" }));
        }
        let bare = self
            .catalogue
            .find_functions("", name)
            .is_some_and(|found| std::ptr::eq(found.as_slice(), self.forms(schema, name)));
        let of = if bare { String::new() } else { format!(", schema: {}", super::write::text(schema)) };
        let directives = format!("@function(name: {}{of})", super::write::text(name));
        Ok(Root { name: words::field_name(name), comment: form.comment.clone(), args, ty, directives })
    }

    fn forms(&self, schema: &str, name: &str) -> &[Function] {
        self.catalogue.functions.get(&(schema.to_owned(), name.to_owned())).map_or(&[], Vec::as_slice)
    }

    fn answer_of(&mut self, form: &'a Function) -> Result<String, String> {
        match &form.returns {
            Returned::Table(table) => {
                let found = self.type_of(table).map(|at| self.types[at].name.clone());
                let name = found
                    .ok_or_else(|| format!("its rows, of {}, have no type", super::write::plain(&table.1)))?;
                Ok(if form.set { format!("[{name}!]!") } else { name })
            }
            Returned::Value(_) if form.set => Err("it answers values that are no rows of a table".to_owned()),
            Returned::Value(column) => self
                .type_of_column(column, false)
                .map(|(ty, _)| ty)
                .ok_or_else(|| format!("there is no scalar for {}", super::write::plain(&column.sql_type))),
            Returned::Other(what) => Err(format!("it answers {}", super::write::plain(what))),
        }
    }
}

/// Parameters that no caller gives: the server fills them.
fn supplied(parameter: &Parameter) -> bool {
    parameter.has_default && matches!(parameter.name.as_str(), "event_id" | "idempotency_key")
}

fn add_lookups(ty: &Type<'_>, roots: &mut Roots) {
    let short = words::field_name(&ty.name);
    let (mut by_key, mut seen) = (true, Vec::new());
    for key in std::iter::once(ty.key).chain(ty.relation.keys.iter().map(Vec::as_slice)) {
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        if let Some(args) = key_args(ty, key) {
            let columns: Vec<String> = key.iter().map(|column| words::type_name(column)).collect();
            let long = format!("{short}By{}", columns.join("And"));
            let wanted: &[&str] = if by_key { &[&short, &long] } else { &[&long] };
            roots.read(wanted, args, ty.name.clone(), "@lookup".to_owned());
        }
        by_key = false;
    }
}

/// The columns of a key as arguments; `None` where one has no field, is a list, or is called like the server's own.
fn key_args(ty: &Type<'_>, key: &[String]) -> Option<Vec<String>> {
    let arg = |column: &String| {
        let field = ty.fields.iter().find(|field| field.column.name == *column && field.sorts)?;
        (field.name != "idempotencyKey").then(|| format!("{}: {}!", field.name, field.ty))
    };
    if key.is_empty() { None } else { key.iter().map(arg).collect() }
}

/// What lists of the type take besides sizes.
pub(super) fn list_args(ty: &Type<'_>) -> Vec<String> {
    let mut args = vec![format!("where: {}Filter", ty.name)];
    if ty.fields.iter().any(|field| field.sorts) {
        args.push(format!("orderBy: [{}Order!]", ty.name));
    }
    args
}
