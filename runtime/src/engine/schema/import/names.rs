//! Names that are given once: what is taken already gets a longer name, then a number.

use std::collections::BTreeSet;

use crate::engine::encode::Scalar;
use crate::engine::schema::compile::FILTER_WORDS;

/// What the compiler makes of a type's name.
const MADE: [&str; 6] = ["Filter", "Order", "Input", "Patch", "Connection", "Edge"];

/// The names of one scope: all types, the fields of one type, the values of one enum.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// The scope of types, in which the server's own are taken.
    pub(super) fn of_types() -> Self {
        let mut names = Self::default();
        let own = ["Query", "Mutation", "Subscription", "PageInfo", "SortDirection"].into_iter();
        for name in own.chain(Scalar::ALL.map(Scalar::name)) {
            names.take_type(name);
        }
        names
    }

    /// The scope of an object's fields: a filter of it has these words for itself.
    pub(super) fn of_fields() -> Self {
        Self { taken: FILTER_WORDS.map(str::to_owned).into() }
    }

    /// The first of `wanted` that is free, else the last one with the lowest number that is.
    pub(super) fn claim(&mut self, wanted: &[&str]) -> String {
        let free = |name: &str| !self.taken.contains(name);
        let name = first_free(wanted, free);
        self.taken.insert(name.clone());
        name
    }

    /// As [`claim`](Self::claim) for a type, whose filter, order and so on must be free too.
    pub(super) fn claim_type(&mut self, wanted: &[&str]) -> String {
        let name = first_free(wanted, |name| made_of(name).all(|made| !self.taken.contains(&made)));
        self.take_type(&name);
        name
    }

    fn take_type(&mut self, name: &str) {
        self.taken.extend(made_of(name));
    }
}

fn made_of(name: &str) -> impl Iterator<Item = String> {
    let made = MADE.iter().map(move |end| format!("{name}{end}"));
    made.chain([name.to_owned(), format!("{name}ListFilter")])
}

fn first_free(wanted: &[&str], free: impl Fn(&str) -> bool) -> String {
    if let Some(name) = wanted.iter().find(|name| free(name)) {
        return (*name).to_owned();
    }
    let last = wanted.last().copied().unwrap_or("_");
    let mut number = 2_u64;
    loop {
        let name = format!("{last}{number}");
        if free(&name) {
            return name;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_once() {
        let mut names = Names::default();
        assert_eq!(names.claim(&["a", "b"]), "a");
        assert_eq!(names.claim(&["a", "b"]), "b");
        assert_eq!(names.claim(&["a", "b"]), "b2");
        assert_eq!(names.claim(&["a", "b"]), "b3");
    }

    #[test]
    fn a_type_does_not_take_what_the_compiler_makes() {
        let mut names = Names::of_types();
        assert_eq!(names.claim_type(&["Order"]), "Order");
        assert_eq!(names.claim_type(&["OrderFilter", "ShopOrderFilter"]), "ShopOrderFilter");
        assert_eq!(names.claim_type(&["String"]), "String2");
        assert_eq!(names.claim_type(&["StringFilter"]), "StringFilter2");
        assert_eq!(names.claim_type(&["UserPatch"]), "UserPatch");
        assert_eq!(names.claim_type(&["User"]), "User2", "its patch is taken");
    }
}
