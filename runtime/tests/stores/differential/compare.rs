//! Whether two answers are one: key by key in the same order, errors in the same places, cursors for the same rows.
//!
//! A cursor is opaque, so the naive executor writes which row of which order it stands for instead; the texts that the
//! engine gives must be one for each, and are learnt to be used in later operations.

use std::collections::HashMap;

use serde_json::Value;

use super::model::Model;

/// What a cursor of the naive executor begins with.
pub const CURSOR: char = '\u{1}';

/// The engine's cursors and what each stands for.
#[derive(Debug, Clone, Default)]
pub struct Cursors {
    meanings: HashMap<String, String>,
    texts: HashMap<String, String>,
    /// In the order in which they were learnt, which is the same in each run.
    by_order: HashMap<String, Vec<String>>,
}

impl Cursors {
    /// Those of rows in this order.
    pub fn of(&self, order: &str) -> &[String] {
        self.by_order.get(order).map_or(&[], Vec::as_slice)
    }

    /// The order and the row of a cursor.
    pub fn meaning(&self, text: &str) -> Option<(&str, usize)> {
        let (order, row) = self.meanings.get(text)?.trim_start_matches(CURSOR).rsplit_once('#')?;
        Some((order, row.parse().ok()?))
    }

    fn learn(&mut self, text: &str, meaning: &str) -> Result<(), String> {
        let known = self.meanings.get(text).map(String::as_str);
        let other = self.texts.get(meaning).map(String::as_str);
        match (known, other) {
            (None, None) => {
                self.meanings.insert(text.to_owned(), meaning.to_owned());
                self.texts.insert(meaning.to_owned(), text.to_owned());
                if let Some((order, _)) = meaning.trim_start_matches(CURSOR).rsplit_once('#') {
                    self.by_order.entry(order.to_owned()).or_default().push(text.to_owned());
                }
                Ok(())
            }
            (Some(known), _) if known == meaning => Ok(()),
            _ => Err(format!("the cursor {text} is {meaning:?}, was {known:?}; that was {other:?}")),
        }
    }
}

/// How an order of a table is called.
pub fn order_name(model: &Model, table: usize, order: &[(usize, bool)]) -> String {
    let keys: Vec<String> =
        order.iter().map(|(column, descending)| format!("{column}:{descending}")).collect();
    format!("{}/{}", model.tables[table].name, keys.join(","))
}

/// What the naive executor writes for a cursor.
pub fn naive_cursor(order: &str, row: usize) -> String {
    format!("{CURSOR}{order}#{row}")
}

/// Where the answers differ; learns the cursors of the first.
///
/// # Errors
/// The path of the first difference, and both values.
pub fn equal(engine: &Value, naive: &Value, cursors: &mut Cursors) -> Result<(), String> {
    values(engine, naive, &mut String::new(), cursors)
}

fn values(engine: &Value, naive: &Value, path: &mut String, cursors: &mut Cursors) -> Result<(), String> {
    let differ = |path: &str| Err(format!("{path}: the engine has {engine}, wanted {naive}"));
    match (engine, naive) {
        (Value::String(text), Value::String(meaning)) if meaning.starts_with(CURSOR) => {
            cursors.learn(text, meaning).map_err(|message| format!("{path}: {message}"))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                within(path, &format!(".{at}"), |path| values(a, b, path, cursors))?;
            }
            Ok(())
        }
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            for ((key, a), b) in a.iter().zip(b.values()) {
                within(path, &format!(".{key}"), |path| values(a, b, path, cursors))?;
            }
            Ok(())
        }
        // 1.0 and 1 are one number in JSON.
        (Value::Number(a), Value::Number(b))
            if a == b || a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64()) =>
        {
            Ok(())
        }
        (a, b) if a == b && !a.is_number() && !a.is_object() && !a.is_array() => Ok(()),
        _ => differ(path),
    }
}

fn within<T>(path: &mut String, step: &str, work: impl FnOnce(&mut String) -> T) -> T {
    let end = path.len();
    path.push_str(step);
    let done = work(path);
    path.truncate(end);
    done
}
