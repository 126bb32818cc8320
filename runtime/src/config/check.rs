//! What the type of a value does not say: ranges and relations. Problems are collected, so that
//! one start shows all of them.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;

use super::error::Problem;
use super::source::Document;
use super::units::{show_duration, show_size};

#[derive(Default)]
pub(super) struct Checks {
    broken: Vec<Broken>,
}

struct Broken {
    table: Cow<'static, str>,
    key: &'static str,
    value: String,
    allowed: String,
}

/// The checks of one table.
pub(super) struct TableChecks<'a> {
    table: Cow<'static, str>,
    broken: &'a mut Vec<Broken>,
}

impl Checks {
    pub(super) fn table(&mut self, table: impl Into<Cow<'static, str>>) -> TableChecks<'_> {
        TableChecks { table: table.into(), broken: &mut self.broken }
    }

    pub(super) fn into_problems(self, document: &Document<'_>) -> Vec<Problem> {
        self.broken
            .into_iter()
            .map(|broken| document.bad_value(&broken.table, broken.key, &broken.value, &broken.allowed))
            .collect()
    }
}

impl TableChecks<'_> {
    pub(super) fn require(&mut self, key: &'static str, value: impl Display, holds: bool, allowed: &str) {
        if !holds {
            let (table, value, allowed) = (self.table.clone(), value.to_string(), allowed.to_owned());
            self.broken.push(Broken { table, key, value, allowed });
        }
    }

    pub(super) fn count(&mut self, key: &'static str, value: u64, range: RangeInclusive<u64>) {
        let allowed = format!("{} to {}", range.start(), range.end());
        self.require(key, value, range.contains(&value), &allowed);
    }

    pub(super) fn duration(&mut self, key: &'static str, value: Duration, least: &str, most: &str) {
        let bound = |text| humantime::parse_duration(text).expect("the bound is written in this crate");
        let holds = (bound(least)..=bound(most)).contains(&value);
        self.require(key, show_duration(value), holds, &format!("{least} to {most}"));
    }

    pub(super) fn size(&mut self, key: &'static str, value: ByteSize, least: &str, most: &str) {
        let bound = |text: &str| text.parse::<ByteSize>().expect("the bound is written in this crate");
        let holds = (bound(least)..=bound(most)).contains(&value);
        self.require(key, show_size(value), holds, &format!("{least} to {most}"));
    }

    pub(super) fn variable_name(&mut self, key: &'static str, name: &str) {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let holds = !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.bytes().all(word);
        self.require(key, name, holds, "the name of an environment variable: letters, digits and _");
    }
}
