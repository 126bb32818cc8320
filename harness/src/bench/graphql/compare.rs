//! Whether two answers are the same JSON. Pure.
//!
//! Nothing is normalised: ids and decimals are text at every subject, quantities and stock are numbers. Only the order of
//! an object's keys does not matter.

use std::fmt;

use serde_json::Value;

/// The first place where two answers differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// `data.orders[3].items[0].price`.
    pub path: String,
    /// `None`: nothing is there.
    pub expected: Option<Value>,
    pub found: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<Value>| value.as_ref().map_or("nothing".to_owned(), abbreviated);
        write!(f, "{}: {} expected, {} found", self.path, show(&self.expected), show(&self.found))
    }
}

/// The first difference in the order of `expected`, places in `own_to_each` aside; there, both must have something.
pub fn first_difference(expected: &Value, found: &Value, own_to_each: &[&str]) -> Option<Difference> {
    differ(String::new(), Some(expected), Some(found), own_to_each)
}

fn differ(
    path: String,
    expected: Option<&Value>,
    found: Option<&Value>,
    own_to_each: &[&str],
) -> Option<Difference> {
    match (expected, found) {
        (Some(Value::Object(expected)), Some(Value::Object(found))) => {
            let more = found.keys().filter(|key| !expected.contains_key(*key));
            expected.keys().chain(more).find_map(|key| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                differ(path, expected.get(key), found.get(key), own_to_each)
            })
        }
        (Some(Value::Array(expected)), Some(Value::Array(found))) => (0..expected.len().max(found.len()))
            .find_map(|index| {
                differ(format!("{path}[{index}]"), expected.get(index), found.get(index), own_to_each)
            }),
        (Some(expected), Some(found))
            if own_to_each.contains(&path.as_str()) && !expected.is_null() && !found.is_null() =>
        {
            None
        }
        (expected, found) if expected == found => None,
        (expected, found) => Some(Difference { path, expected: expected.cloned(), found: found.cloned() }),
    }
}

fn abbreviated(value: &Value) -> String {
    const SHOWN: usize = 100;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn path(expected: &Value, found: &Value) -> Option<String> {
        first_difference(expected, found, &["data.o.id"]).map(|difference| difference.path)
    }

    #[test]
    fn the_first_difference_is_named_by_its_path() {
        let expected = json!({"data": {"orders": [{"id": "a", "items": [{"price": "1.50"}]}]}});
        for (found, place) in [
            (
                json!({"data": {"orders": [{"id": "a", "items": [{"price": "1.5"}]}]}}),
                "data.orders[0].items[0].price",
            ),
            (
                json!({"data": {"orders": [{"id": "a", "items": [{"price": 1.50}]}]}}),
                "data.orders[0].items[0].price",
            ),
            (json!({"data": {"orders": [{"id": "a", "items": []}]}}), "data.orders[0].items[0]"),
            (json!({"data": {"orders": [{"items": [{"price": "1.50"}]}]}}), "data.orders[0].id"),
            (json!({"data": {"orders": null}}), "data.orders"),
            (
                json!({"data": {"orders": [{"id": "a", "items": [{"price": "1.50"}]}], "more": 1}}),
                "data.more",
            ),
        ] {
            assert_eq!(path(&expected, &found).as_deref(), Some(place), "{found}");
        }
        assert_eq!(path(&expected, &expected), None);
    }

    #[test]
    fn what_each_makes_up_has_to_be_there_and_may_differ() {
        let answer = |id: Value| json!({"data": {"o": {"id": id, "total": "1.00"}}});
        assert_eq!(path(&answer(json!("a")), &answer(json!("b"))), None);
        assert_eq!(path(&answer(json!("a")), &answer(json!(null))).as_deref(), Some("data.o.id"));
        assert_eq!(
            path(&answer(json!("a")), &json!({"data": {"o": {"total": "1.00"}}})).as_deref(),
            Some("data.o.id")
        );
    }

    #[test]
    fn the_order_of_keys_does_not_matter() {
        assert_eq!(path(&json!({"a": 1, "b": 2}), &json!({"b": 2, "a": 1})), None);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn there_is_a_difference_exactly_when_the_values_differ(a in values(), b in values()) {
            prop_assert_eq!(first_difference(&a, &b, &[]).is_none(), a == b);
            prop_assert!(first_difference(&a, &a, &[]).is_none());
        }
    }
}
