//! Fields of the subscription root: where in the events of the outbox the row's key and the filters stand.

use async_graphql::Positioned;
use async_graphql::parser::types::FieldDefinition;

use super::Compiler;
use crate::engine::schema::model::{Event, EventSource, FieldKind, TypeRef, snake_case};
use crate::engine::schema::source::{directive, nearest};

impl Compiler<'_> {
    /// What `@subscription` says, checked against the mutations that emit the event. One that nobody here emits comes from
    /// elsewhere, and its payload is taken to have what is asked of it.
    pub(super) fn event_source(
        &mut self,
        given: &Positioned<FieldDefinition>,
        ty: TypeRef,
    ) -> Option<EventSource> {
        let subscription = directive(&given.node.directives, "subscription")?;
        let event = subscription.required("event", &mut self.problems);
        let target = self.row_of(given, ty)?;
        let emitted = self.emitted(&event);
        let columns: Vec<String> =
            self.schema.object(target).table.key.iter().map(|column| column.name.clone()).collect();
        let table = self.schema.object(target).table.name.clone();
        if columns.is_empty() {
            let message =
                format!("{table} has no key by which an event could name a row: mark one with @key");
            self.problems.error(given.node.ty.pos, message);
            return None;
        }
        let told = subscription.texts("key", &mut self.problems);
        if !told.is_empty() && told.len() != columns.len() {
            let message = format!("key: {} of the payload stand for ({})", told.len(), columns.join(", "));
            self.problems.error(subscription.0, message);
            return None;
        }
        let key: Vec<String> = if told.is_empty() {
            columns.iter().map(|column| carried(&emitted, column)).collect()
        } else {
            told
        };
        let mut filter = Vec::new();
        for arg in &given.node.arguments {
            let name = arg.node.name.node.to_string();
            let part = snake_case(&name);
            self.check_payload(&emitted, &part, &event, arg.node.name.pos);
            filter.push((name, part));
        }
        for part in &key {
            self.check_payload(&emitted, part, &event, subscription.0);
        }
        Some(EventSource { event, key, filter })
    }

    /// What the mutations that emit the event put into it.
    fn emitted(&self, event: &str) -> Vec<Event> {
        let effects = self.schema.mutation.values().filter_map(|field| match &field.kind {
            FieldKind::Insert(insert) => Some(&insert.effects),
            FieldKind::Update { effects, .. }
            | FieldKind::Delete { effects, .. }
            | FieldKind::Job { effects, .. } => Some(effects),
            FieldKind::Function(function) => Some(&function.effects),
            _ => None,
        });
        effects.filter_map(|effects| effects.event.clone()).filter(|known| known.name == event).collect()
    }

    fn check_payload(&mut self, emitted: &[Event], key: &str, event: &str, pos: async_graphql::parser::Pos) {
        let lacking = emitted.iter().find(|known| known.payload.iter().all(|(known, ..)| known != key));
        if let Some(lacking) = lacking {
            let near = nearest(key, lacking.payload.iter().map(|(known, ..)| known.as_str()));
            let message =
                format!("the payload of `{event}` has no {key}{near}: each @emits of it must list it");
            self.problems.error(pos, message);
        }
    }
}

/// The key of the payload under which a column travels.
fn carried(emitted: &[Event], column: &str) -> String {
    let found = emitted.iter().flat_map(|event| &event.payload).find(|(_, from, _)| from == column);
    found.map_or_else(|| column.to_owned(), |(key, ..)| key.clone())
}
