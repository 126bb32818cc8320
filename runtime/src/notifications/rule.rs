//! Which events are told. Pure.

use serde_json::Value;

use crate::config::notifications::Rule;

/// The rules that tell of an event with this name.
pub(super) fn of<'r>(rules: &'r [Rule], event: &str, payload: &Value) -> Vec<&'r Rule> {
    rules.iter().filter(|rule| rule.event == event && holds(rule, payload)).collect()
}

fn holds(rule: &Rule, payload: &Value) -> bool {
    rule.when.iter().all(|(field, wanted)| match payload.get(field) {
        Some(Value::String(text)) => text == wanted,
        Some(Value::Bool(value)) => wanted == if *value { "true" } else { "false" },
        Some(Value::Number(value)) => value.to_string().as_str() == wanted.as_str(),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::notifications::Action;

    #[test]
    fn an_event_is_told_by_the_rules_whose_fields_it_has() {
        let rule = |name: &str, when: &[(&str, &str)]| Rule {
            name: name.to_owned(),
            event: "status_changed".to_owned(),
            when: when.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect(),
            function: "f".to_owned(),
            actions: vec![Action::Email],
        };
        let rules = [
            rule("paid", &[("status", "paid")]),
            rule("any", &[]),
            rule("seventh", &[("n", "7"), ("status", "paid")]),
        ];
        let told = |event, payload| {
            of(&rules, event, &payload).into_iter().map(|r| r.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(told("status_changed", json!({"status": "paid"})), ["paid", "any"]);
        assert_eq!(told("status_changed", json!({"status": "paid", "n": 7})), ["paid", "any", "seventh"]);
        assert_eq!(told("status_changed", json!({"status": ["paid"]})), ["any"]);
        assert!(told("created", json!({"status": "paid"})).is_empty());
    }
}
