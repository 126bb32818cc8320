//! The text of the file.

use super::columns::Field;
use super::links::Link;
use super::roots::{Root, Roots, list_args};
use super::{Names, Proposal, Type, words};

/// A line that is longer gets its directives on the next one.
const WIDTH: usize = 120;

impl Proposal<'_> {
    pub(super) fn write(&self, roots: &Roots) -> String {
        let mut out = String::from("# Proposed from the database; change what should be otherwise.\n");
        for ty in &self.types {
            self.write_type(ty, &mut out);
        }
        for (sql_type, name) in &self.enums {
            self.write_enum(sql_type, name, &mut out);
        }
        write_root("Query", &roots.query, &mut out);
        write_root("Mutation", &roots.mutation, &mut out);
        if !self.left_out.is_empty() {
            out.push_str("\n# Left out:\n");
            self.left_out.iter().for_each(|line| out.push_str(&format!("#   {line}\n")));
        }
        out
    }

    fn write_type(&self, ty: &Type<'_>, out: &mut String) {
        out.push('\n');
        describe(ty.relation.comment.as_deref(), "", out);
        let schema = if self.is_found_bare(ty.schema, ty.table) {
            String::new()
        } else {
            format!(", schema: {}", text(ty.schema))
        };
        out.push_str(&format!("type {} @table(name: {}{schema}) {{\n", ty.name, text(ty.table)));
        ty.fields.iter().for_each(|field| write_field(field, out));
        ty.links.iter().for_each(|link| self.write_link(link, out));
        out.push_str("}\n");
    }

    fn write_link(&self, link: &Link, out: &mut String) {
        let target = &self.types[link.target];
        let relation = format!("@relation({})", link.relation);
        if !link.many {
            let filled = if link.required { "!" } else { "" };
            return line(&format!("{}: {}{filled}", link.name, target.name), &relation, out);
        }
        let mut args = list_args(target);
        args.push("limit: Int".to_owned());
        if !target.key.is_empty() {
            args.push("offset: Int".to_owned());
        }
        let field = format!("{}({}): [{}!]!", link.name, args.join(", "), target.name);
        line(&field, &format!("{relation} {}", self.sizes()), out);
    }

    fn write_enum(&self, sql_type: &str, name: &str, out: &mut String) {
        out.push_str(&format!("\nenum {name} {{\n"));
        let mut names = Names::default();
        for label in self.catalogue.enums.get(sql_type).into_iter().flatten() {
            let value = names.claim(&[&words::value_name(label)]);
            let said = if value == *label { String::new() } else { format!("@value(text: {})", text(label)) };
            line(&value, &said, out);
        }
        out.push_str("}\n");
    }
}

fn write_field(field: &Field<'_>, out: &mut String) {
    describe(field.column.comment.as_deref(), "  ", out);
    let filled = if field.required() { "!" } else { "" };
    let column =
        if field.by_rule() { String::new() } else { format!("@column(name: {})", text(&field.column.name)) };
    let key = if field.marked { "@key" } else { "" };
    let directives =
        [column.as_str(), key].into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join(" ");
    line(&format!("{}: {}{filled}", field.name, field.ty), &directives, out);
}

fn write_root(name: &str, fields: &[Root], out: &mut String) {
    if fields.is_empty() {
        return;
    }
    out.push_str(&format!("\ntype {name} {{\n"));
    for field in fields {
        describe(field.comment.as_deref(), "  ", out);
        let args = if field.args.is_empty() { String::new() } else { format!("({})", field.args.join(", ")) };
        line(&format!("{}{args}: {}", field.name, field.ty), &field.directives, out);
    }
    out.push_str("}\n");
}

/// A field with its directives, on two lines when one would be long.
fn line(field: &str, directives: &str, out: &mut String) {
    let gap = match directives {
        "" => "",
        _ if field.len() + directives.len() + 3 > WIDTH => "\n    ",
        _ => " ",
    };
    out.push_str(&format!("  {field}{gap}{directives}\n"));
}

fn describe(comment: Option<&str>, indent: &str, out: &mut String) {
    if let Some(comment) = comment.filter(|comment| !comment.trim().is_empty()) {
        out.push_str(&format!("{indent}{}\n", text(comment.trim())));
    }
}

/// A text in the language of schemas, on one line.
pub(super) fn text(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for letter in value.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// A name in a comment, which ends with its line.
pub(super) fn plain(name: &str) -> String {
    name.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
