//! Subscriptions: which events a field waits for, and the row that is read when one comes.

use async_graphql::parser::types::{OperationDefinition, Selection as Item};

use super::args::Arg;
use super::by_key::{choose, has_key, select_by_key};
use super::error::Refusal;
use super::read::{Builder, existing};
use super::select::{Document, Selected, Selection};
use super::{Action, Answer, Planned, Subscribe};
use crate::engine::schema::model::{EventSource, Field, Named};

/// A subscription has one root field, which is an event, and always has it (specification, section 5.2.3.1).
pub(super) fn check_root(operation: &OperationDefinition, selection: &Selection<'_>) -> Result<(), Refusal> {
    let refuse = |pos, message: &str| Err(Refusal { pos, code: "VALIDATION", message: message.to_owned() });
    for item in &operation.selection_set.node.items {
        let directives = item.node.directives();
        let conditional =
            directives.iter().find(|given| matches!(given.node.name.node.as_str(), "skip" | "include"));
        if let (Item::Field(_), Some(given)) = (&item.node, conditional) {
            return refuse(given.pos, "the root field of a subscription takes neither @skip nor @include");
        }
    }
    if selection.len() != 1 {
        return refuse(operation.selection_set.pos, "a subscription has exactly one root field");
    }
    match selection.values().find(|selected| selected.given.name.node.starts_with("__")) {
        Some(selected) => refuse(selected.pos, "a subscription waits for an event, not for introspection"),
        None => Ok(()),
    }
}

/// Plans a field of the subscription root.
pub(super) fn root<'a>(
    document: Document<'a>,
    field: &'a Field,
    source: &'a EventSource,
    selected: &Selected<'a>,
) -> Result<(Action, Planned), Refusal> {
    let Named::Object(target) = field.ty.named else { return Err(super::unknown(selected)) };
    let mut builder = Builder::new(document);
    builder.seen(1);
    let mut filter = Vec::new();
    for (argument, key) in &source.filter {
        if let Some(arg @ Arg::Leaf(_)) = builder.arg(field, selected, argument) {
            // An event that comes tells of the column what a row of a list would.
            builder.ask_column(target, key);
            filter.push((key.clone(), arg.source(), field.args[argument.as_str()].ty.named));
        }
    }
    let chosen = choose(&mut builder, "t0", target, &selected.sets)?;
    let mut conditions = has_key(&mut builder, target);
    conditions.extend(existing(document.schema.object(target), "t0"));
    let planned = builder.planned(chosen.cost);
    let read = select_by_key(builder, target, &chosen.frame, &conditions);
    let (event, key, answer) = (source.event.clone(), source.key.clone(), Answer::Row(chosen.shape));
    Ok((Action::Subscribe(Box::new(Subscribe { event, filter, key, read, answer })), planned))
}
