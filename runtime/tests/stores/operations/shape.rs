//! The shape of an answer as text: a line for each field, with the column that it is read from.

use std::fmt::Write as _;

use fraiseql_runtime::engine::plan::shape::{
    Body, EdgeField, FieldShape, InfoField, Leaf, ObjectShape, PageField, PageShape, ValueShape,
};
use fraiseql_runtime::engine::plan::{Action, Answer, Plan};

/// The shapes of a plan's roots.
pub fn of(plan: &Plan) -> String {
    let mut out = String::new();
    for root in &plan.roots {
        let null = if root.nullable { "?" } else { "" };
        let _ = write!(out, "\n{}{null}: ", root.key);
        match &root.action {
            Action::Constant(text) => line(&mut out, &String::from_utf8_lossy(text)),
            Action::Introspection => line(&mut out, "introspection"),
            Action::Read(_, answer) => whole(&mut out, answer),
            Action::Write(write) => whole(&mut out, &write.answer),
            Action::Job(job) => line(&mut out, &format!("job {}", job.function)),
            Action::Subscribe(subscribe) => {
                let _ = write!(out, "events {}, ", subscribe.event);
                whole(&mut out, &subscribe.answer);
            }
            Action::Behind(behind) => line(&mut out, &format!("one of two, as {} says", behind.flag)),
        }
    }
    out
}

fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, "{text}");
}

fn whole(out: &mut String, answer: &Answer) {
    match answer {
        Answer::Row(shape) => {
            line(out, "a row");
            object(out, shape, 1);
        }
        Answer::Rows(shape, backwards) => {
            line(out, if *backwards { "rows, turned round" } else { "rows" });
            object(out, shape, 1);
        }
        Answer::Page(shape) => page(out, shape, 1),
        Answer::Value(shape) => value(out, shape, 1),
    }
}

fn object(out: &mut String, shape: &ObjectShape, depth: usize) {
    match &shape.body {
        Body::Fields(all) => fields(out, all, depth),
        Body::Variants { discriminator, variants } => {
            for (text, all) in variants {
                let _ = writeln!(out, "{}when column {discriminator} is {text:?}", "  ".repeat(depth));
                fields(out, all, depth + 1);
            }
        }
    }
}

fn fields(out: &mut String, all: &[FieldShape], depth: usize) {
    for field in all {
        let null = if field.nullable { "?" } else { "" };
        let _ = write!(out, "{}{}{null}: ", "  ".repeat(depth), field.key);
        value(out, &field.value, depth);
    }
}

fn leaf(leaf: &Leaf) -> &'static str {
    match leaf {
        Leaf::Scalar(decoder) => decoder.scalar().name(),
        Leaf::Enum(_) => "enum",
    }
}

fn value(out: &mut String, shape: &ValueShape, depth: usize) {
    match shape {
        ValueShape::Constant(text) => line(out, &String::from_utf8_lossy(text)),
        ValueShape::Column(at, of) => line(out, &format!("column {at}, {}", leaf(of))),
        ValueShape::Array(at, of, _) => line(out, &format!("column {at}, list of {}", leaf(of))),
        ValueShape::Object(shape) => {
            let there = shape.presence.map_or(String::new(), |at| format!(", there when column {at}"));
            line(out, &format!("object{there}"));
            object(out, shape, depth + 1);
        }
        ValueShape::List(at, shape, ..) => {
            line(out, &format!("records of column {at}"));
            object(out, shape, depth + 1);
        }
        ValueShape::Page(shape) => page(out, shape, depth + 1),
    }
}

fn page(out: &mut String, shape: &PageShape, depth: usize) {
    let column = |at: Option<usize>| at.map_or("nothing".to_owned(), |at| format!("column {at}"));
    let turned = if shape.backwards { ", turned round" } else { "" };
    line(out, &format!("page of {}{turned}, cursor of {:?}", column(shape.rows), shape.cursor));
    let indent = "  ".repeat(depth);
    for (_, key, field) in &shape.fields {
        let _ = write!(out, "{indent}{key}: ");
        match field {
            PageField::Constant(text) => line(out, &String::from_utf8_lossy(text)),
            PageField::Total => line(out, &column(shape.total)),
            PageField::Nodes(node) => {
                line(out, "records");
                object(out, node, depth + 1);
            }
            PageField::Edges(edges) => {
                line(out, "records");
                for (_, key, field) in edges {
                    let _ = write!(out, "{indent}  {key}: ");
                    match field {
                        EdgeField::Constant(text) => line(out, &String::from_utf8_lossy(text)),
                        EdgeField::Cursor => line(out, "cursor"),
                        EdgeField::Node(node) => {
                            line(out, "object");
                            object(out, node, depth + 2);
                        }
                    }
                }
            }
            PageField::Info(fields) => {
                line(out, "where it begins and ends");
                for (_, key, field) in fields {
                    let text = match field {
                        InfoField::Constant(text) => String::from_utf8_lossy(text).into_owned(),
                        other => format!("{other:?}"),
                    };
                    let _ = writeln!(out, "{indent}  {key}: {text}");
                }
            }
        }
    }
}
