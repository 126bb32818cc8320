//! Whether a caller may have a plan executed: decided for each request, before anything runs and before the cache of
//! answers is asked.
//!
//! What is refused is refused as a whole, with every reason and its path. That a type or a field exists is no secret:
//! introspection shows the schema to everybody, unless the configuration turns it off.

use super::Inner;
use super::error::Failure;
use super::plan::Plan;
use super::render::Step;
use super::schema::model::{Rules, Schema};
use crate::security::guard::{Asked, Caller, Denied, Guards};

/// `extensions.code` for who has not said who they are.
pub(super) const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
/// `extensions.code` for who may not.
pub(super) const FORBIDDEN: &str = "FORBIDDEN";

impl Inner {
    pub(super) fn let_in(&self, plan: &Plan, caller: &Caller) -> Result<(), Vec<Failure>> {
        let mut failures = Vec::new();
        for need in &plan.needs {
            let asked = Asked { object: &need.object, field: need.field.as_deref() };
            let Err(denied) = need.rule.check(&self.settings.guards, caller, asked) else { continue };
            let what = match asked.field {
                Some(field) => format!("{}.{field}", asked.object),
                None => asked.object.to_owned(),
            };
            let (code, message) = match denied {
                Denied::Unauthenticated => (UNAUTHENTICATED, format!("{what} needs a caller who is known")),
                Denied::Forbidden => (FORBIDDEN, format!("{what} is not for this caller")),
            };
            failures.push(Failure {
                retry_after_ms: None,
                message,
                code: code.into(),
                field: None,
                locations: if need.pos.line > 0 { vec![need.pos] } else { Vec::new() },
                path: need.path.iter().map(|key| Step::Key(key.to_string())).collect(),
                ours: false,
            });
        }
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }
}

/// Names of guards in a schema that nobody registered.
pub(super) fn unknown_guards(schema: &Schema, guards: &Guards) -> Vec<String> {
    let objects = schema.objects.iter();
    let of_objects = objects.flat_map(|object| {
        std::iter::once(&object.rules).chain(object.fields.values().map(|field| &field.rules))
    });
    let roots = [&schema.query, &schema.mutation, &schema.subscription].into_iter();
    let of_roots = roots.flat_map(|root| root.values().map(|field| &field.rules));
    let names =
        of_objects.chain(of_roots).flat_map(|rules: &Rules| rules.iter()).flat_map(|rule| rule.guards.iter());
    let mut unknown: Vec<String> = names.filter(|name| !guards.knows(name)).cloned().collect();
    unknown.sort_unstable();
    unknown.dedup();
    unknown
}
