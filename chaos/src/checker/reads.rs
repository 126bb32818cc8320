//! Reads see what was acknowledged before them, and never a different thing.
//!
//! A create answers with the object it made, a read (`key` = the object's id) with the object it found; [`Shape`] says which
//! fields of such an answer name the object and cannot change. For each acknowledged read:
//! - *missing*: it found nothing though a create of that object was acknowledged before the read was invoked;
//! - *different*: what it found differs in an unchangeable field from what the create answered, or cannot be read as an
//!   answer, or contradicts another read of the same object.
//!
//! A read that is `Unknown`, or overlaps the create, may find the object or not; a read refused with a code of
//! [`Shape::missing_codes`] counts as having found nothing, other refusals say nothing. An `Unknown` create promises nothing.
//! [`agreement`] compares the API's final answers with the store's. O(n log n).

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};

use super::keyed::{anomaly, outcome};
use super::{Anomaly, Finding};
use crate::history::{Operation, Outcome};

/// How an answer is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub separator: char,
    /// Field that names the object.
    pub key_field: usize,
    /// Fields that never change once the object exists; the answer must have them.
    pub immutable_fields: Vec<usize>,
    /// The answer that says that there is no such object.
    pub missing: String,
    /// Codes of refusals that say so.
    pub missing_codes: Vec<String>,
}

impl Default for Shape {
    /// `id|status|total`, of which the status may change; `null` or the code `NOT_FOUND` when there is none.
    fn default() -> Self {
        Shape {
            separator: '|',
            key_field: 0,
            immutable_fields: vec![0, 2],
            missing: "null".into(),
            missing_codes: vec!["NOT_FOUND".into()],
        }
    }
}

impl Shape {
    fn immutable<'a>(&self, answer: &'a str) -> Option<Vec<&'a str>> {
        let fields: Vec<&str> = answer.split(self.separator).collect();
        self.immutable_fields.iter().map(|field| fields.get(*field).copied()).collect()
    }

    fn key<'a>(&self, answer: &'a str) -> Option<&'a str> {
        answer.split(self.separator).nth(self.key_field)
    }

    fn is_missing(&self, read: &Operation) -> bool {
        match read.outcome {
            Outcome::Ok => read.answer == self.missing || read.answer.is_empty(),
            Outcome::Fail => self.missing_codes.contains(&read.code),
            Outcome::Unknown => false,
        }
    }
}

/// Compares reads with the creates acknowledged before them.
pub fn check<C: Borrow<Operation>, R: Borrow<Operation>>(
    invariant: &str,
    shape: &Shape,
    creates: &[C],
    reads: &[R],
) -> Finding {
    let mut created: HashMap<&str, &Operation> = HashMap::new();
    for create in creates.iter().map(Borrow::borrow).filter(|create| create.outcome == Outcome::Ok) {
        if let Some(key) = shape.key(&create.answer) {
            let first = created.entry(key).or_insert(create);
            if create.completed_ns < first.completed_ns {
                *first = create;
            }
        }
    }
    let mut reads: Vec<&Operation> = reads.iter().map(Borrow::borrow).collect();
    reads.sort_by_key(|read| (read.completed_ns, read.op));
    let mut seen: HashMap<&str, &Operation> = HashMap::new();
    let mut anomalies = Vec::new();
    let mut examined = 0;
    for read in reads {
        let missing = shape.is_missing(read);
        if read.outcome != Outcome::Ok && !missing {
            continue;
        }
        examined += 1;
        let create = created.get(read.key.as_str()).copied();
        if missing {
            anomalies.extend(create.and_then(|create| not_there(create, read)));
            continue;
        }
        let earlier = create.or_else(|| seen.get(read.key.as_str()).copied());
        anomalies.extend(contradiction(shape, earlier, read));
        seen.entry(&read.key).or_insert(read);
    }
    let what = format!("{examined} reads, {} objects acknowledged", created.len());
    Finding::judged(invariant, examined, &what, anomalies)
}

/// Compares, by key, what the API answers in the end with what the store holds; `None` or absence is "no such object".
pub fn agreement(
    invariant: &str,
    api: &BTreeMap<String, String>,
    stored: &BTreeMap<String, String>,
) -> Finding {
    let mut anomalies = Vec::new();
    for (key, answer) in api {
        let text = match stored.get(key) {
            Some(row) if row == answer => continue,
            Some(row) => format!("the API answers `{answer}` for `{key}`,\nbut the store holds `{row}`"),
            None => format!("the API answers `{answer}` for `{key}`,\nbut the store holds nothing"),
        };
        anomalies.push(anomaly("different", key, Vec::new(), None, text));
    }
    for (key, row) in stored.iter().filter(|(key, _)| !api.contains_key(*key)) {
        let text = format!("the store holds `{row}` for `{key}`,\nbut the API answers that there is nothing");
        anomalies.push(anomaly("missing", key, Vec::new(), None, text));
    }
    let what = format!("{} answers of the API, {} rows of the store", api.len(), stored.len());
    Finding::judged(invariant, api.len() + stored.len(), &what, anomalies)
}

fn not_there(create: &Operation, read: &Operation) -> Option<Anomaly> {
    if create.completed_ns? >= read.invoked_ns {
        return None;
    }
    let text = format!(
        "`{}` was acknowledged by {},\nbut {} found nothing",
        read.key,
        outcome(create),
        outcome(read)
    );
    Some(anomaly("missing", &read.key, vec![create.op, read.op], read.completed_ns, text))
}

fn contradiction(shape: &Shape, earlier: Option<&Operation>, read: &Operation) -> Option<Anomaly> {
    let found = shape.immutable(&read.answer);
    if found.is_none() || shape.key(&read.answer) != Some(read.key.as_str()) {
        let text = format!("{} asked for `{}`\nand was answered `{}`", outcome(read), read.key, read.answer);
        return Some(anomaly("different", &read.key, vec![read.op], read.completed_ns, text));
    }
    let earlier = earlier?;
    if shape.immutable(&earlier.answer) == found {
        return None;
    }
    let text = format!(
        "{} answered `{}`,\nbut {} found `{}`",
        outcome(earlier),
        earlier.answer,
        outcome(read),
        read.answer
    );
    Some(anomaly("different", &read.key, vec![earlier.op, read.op], read.completed_ns, text))
}
