//! Words of table names: singular, plural, and the letters that GraphQL takes.
//!
//! Promises: no rule of English is complete, but the same name always becomes the same word, and every answer is a name
//! in GraphQL.

use crate::engine::schema::model::camel_case;

/// Words that no rule gets right: one, many. Those that are the same stand for themselves.
const IRREGULAR: &[(&str, &str)] = &[
    ("alias", "aliases"),
    ("analysis", "analyses"),
    ("basis", "bases"),
    ("child", "children"),
    ("cookie", "cookies"),
    ("criterion", "criteria"),
    ("crisis", "crises"),
    ("data", "data"),
    ("diagnosis", "diagnoses"),
    ("equipment", "equipment"),
    ("gas", "gases"),
    ("index", "indices"),
    ("information", "information"),
    ("leaf", "leaves"),
    ("lens", "lenses"),
    ("man", "men"),
    ("matrix", "matrices"),
    ("media", "media"),
    ("metadata", "metadata"),
    ("movie", "movies"),
    ("news", "news"),
    ("person", "people"),
    ("series", "series"),
    ("shelf", "shelves"),
    ("shoe", "shoes"),
    ("species", "species"),
    ("use", "uses"),
    ("vertex", "vertices"),
    ("woman", "women"),
];

/// The last word of a name in the singular: `order_items` → `order_item`.
pub(super) fn singular(name: &str) -> String {
    last_word(name, |word| {
        if let Some((one, _)) = IRREGULAR.iter().find(|(one, many)| *many == word || *one == word) {
            return (*one).to_owned();
        }
        let cut = |letters: usize| word[..word.len() - letters].to_owned();
        let ends = |ends: &[&str]| ends.iter().any(|end| word.len() > end.len() && word.ends_with(end));
        if ends(&["ies"]) && word.len() > 4 {
            cut(3) + "y"
        } else if ends(&["sses", "xes", "ches", "shes", "zzes", "oes"])
            || ends(&["uses"]) && !ends(&["auses", "ouses", "cuses"])
        {
            cut(2)
        } else if ends(&["s"]) && !ends(&["ss", "us", "is"]) {
            cut(1)
        } else {
            word.to_owned()
        }
    })
}

/// The last word of a name in the plural: `order_item` → `order_items`. A plural stays as it is.
pub(super) fn plural(name: &str) -> String {
    let one = singular(name);
    last_word(&one, |word| {
        if let Some((_, many)) = IRREGULAR.iter().find(|(one, _)| *one == word) {
            return (*many).to_owned();
        }
        let before = word.chars().rev().nth(1);
        if word.ends_with('y') && before.is_some_and(|letter| !"aeiou".contains(letter)) {
            word[..word.len() - 1].to_owned() + "ies"
        } else if ["s", "x", "z", "ch", "sh"].iter().any(|end| word.ends_with(end)) {
            word.to_owned() + "es"
        } else {
            word.to_owned() + "s"
        }
    })
}

/// A name with its last word changed; words end at an underscore or at a capital letter.
fn last_word(name: &str, change: impl Fn(&str) -> String) -> String {
    let at = name
        .char_indices()
        .filter(|(_, letter)| *letter == '_' || letter.is_ascii_uppercase())
        .map(|(at, letter)| if letter == '_' { at + 1 } else { at })
        .next_back()
        .unwrap_or(0);
    let (head, word) = name.split_at(at);
    if word.is_empty() || !word.is_ascii() {
        return name.to_owned();
    }
    let changed = change(&word.to_ascii_lowercase());
    let capital = word.starts_with(|first: char| first.is_ascii_uppercase());
    head.to_owned() + &if capital { capitalized(&changed) } else { changed }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// `order_items` → `orderItems`, with only such letters as GraphQL takes.
pub(super) fn field_name(name: &str) -> String {
    let camel = camel_case(&letters(name));
    let camel = camel.trim_start_matches('_');
    // An acronym is one word.
    if camel.chars().all(|letter| !letter.is_ascii_lowercase()) {
        return started(&camel.to_ascii_lowercase());
    }
    let mut rest = camel.chars();
    let first = rest.next().map(|letter| letter.to_ascii_lowercase());
    started(&first.into_iter().chain(rest).collect::<String>())
}

/// `order_item` → `OrderItem`, with only such letters as GraphQL takes.
pub(super) fn type_name(name: &str) -> String {
    capitalized(&field_name(name))
}

/// A value of an enum: its label where that is a name, else what is left of it.
pub(super) fn value_name(label: &str) -> String {
    let name = started(&letters(label));
    // The parser takes no value that so much as begins with one of these words.
    let taken = ["true", "false", "null"].iter().any(|word| name.starts_with(word));
    match name.as_str() {
        name if taken => format!("_{name}"),
        name if name.starts_with("__") => format!("x{name}"),
        _ => name,
    }
}

/// Everything but letters, digits and underscores becomes an underscore.
fn letters(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

/// Names do not start with a digit and are not empty.
fn started(name: &str) -> String {
    match name.chars().next() {
        None => "_".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("_{name}"),
        Some(_) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAIRS: &[(&str, &str)] = &[
        ("order", "orders"),
        ("category", "categories"),
        ("key", "keys"),
        ("address", "addresses"),
        ("box", "boxes"),
        ("branch", "branches"),
        ("status", "statuses"),
        ("virus", "viruses"),
        ("house", "houses"),
        ("case", "cases"),
        ("license", "licenses"),
        ("hero", "heroes"),
        ("tie", "ties"),
        ("person", "people"),
        ("order_item", "order_items"),
        ("post_status", "post_statuses"),
        ("sales_person", "sales_people"),
        ("OrderItem", "OrderItems"),
        ("media", "media"),
        ("series", "series"),
    ];

    #[test]
    fn one_and_many() {
        for (one, many) in PAIRS {
            assert_eq!(singular(many), *one, "{many}");
            assert_eq!(singular(one), *one);
            if *one != "hero" {
                assert_eq!(plural(one), *many, "{one}");
                assert_eq!(plural(many), *many);
            }
        }
    }

    #[test]
    fn names_are_written_as_graphql_writes_them() {
        assert_eq!(field_name("created_at"), "createdAt");
        assert_eq!(field_name("createdAt"), "createdAt");
        assert_eq!(field_name("Created"), "created");
        assert_eq!(field_name("URL"), "url");
        assert_eq!(field_name("2fa code"), "_2faCode");
        assert_eq!(field_name("__x"), "x");
        assert_eq!(field_name("ü"), "_");
        assert_eq!(type_name("order_item"), "OrderItem");
        assert_eq!(value_name("in review"), "in_review");
        assert_eq!(value_name("4k"), "_4k");
        assert_eq!(value_name("true"), "_true");
        assert_eq!(value_name("  x"), "x__x");
        assert_eq!(value_name(""), "_");
    }

    fn is_name(name: &str) -> bool {
        let mut letters = name.chars();
        letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            && !name.starts_with("__")
    }

    proptest! {
        #[test]
        fn every_name_becomes_a_name(name in "\\PC{0,12}|[a-z_ -]{0,12}|[A-Z0-9_]{0,6}") {
            for made in [field_name(&name), type_name(&name), value_name(&name), field_name(&plural(&name))] {
                prop_assert!(is_name(&made), "{made:?}");
            }
            prop_assert_eq!(singular(&singular(&name)), singular(&name));
        }
    }
}
