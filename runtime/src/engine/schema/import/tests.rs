//! What is proposed for real and for arbitrary catalogues, and that the compiler takes it.

use proptest::prelude::*;

use super::*;
use crate::engine::schema::catalogue::{Column, Function, Parameter, Reference, Returned};
use crate::engine::schema::compile::compile;

const SHOP: &str = include_str!("../../../../../fixtures/schemas/ecommerce/catalogue.json");
const BLOG: &str = include_str!("../../../../../fixtures/schemas/blog/catalogue.json");

fn catalogue(json: &str) -> Catalogue {
    serde_json::from_str(json).expect("a catalogue")
}

/// Fails with the compiler's problems and the lines that they are about.
fn accepted(text: &str, catalogue: &Catalogue) {
    if let Err(problems) = compile(text, catalogue) {
        let told: Vec<String> =
            problems.iter().filter(|problem| !problem.warning).map(ToString::to_string).collect();
        panic!("{}\n{text}", told.join("\n"));
    }
}

#[test]
fn the_shops_database_is_proposed_so() {
    let catalogue = catalogue(SHOP);
    let text = propose(&catalogue, &Options::default());
    accepted(&text, &catalogue);
    insta::assert_snapshot!(text);
}

#[test]
fn the_blogs_database_is_proposed_so() {
    let catalogue = catalogue(BLOG);
    let text = propose(&catalogue, &Options::default());
    accepted(&text, &catalogue);
    insta::assert_snapshot!(text);
}

#[test]
fn the_files_by_hand_fit_their_databases() {
    accepted(include_str!("../../../../../fixtures/schemas/ecommerce/schema.graphql"), &catalogue(SHOP));
    accepted(include_str!("../../../../../fixtures/schemas/blog/schema.graphql"), &catalogue(BLOG));
}

#[test]
fn options_leave_out() {
    let catalogue = catalogue(BLOG);
    let options = Options {
        list_default: 7,
        list_max: 9,
        mutations: false,
        functions: false,
        only: Vec::new(),
        leave_out: vec!["media".to_owned(), "posts".to_owned()],
    };
    let text = propose(&catalogue, &options);
    accepted(&text, &catalogue);
    assert!(!text.contains("type Mutation") && !text.contains("@function"), "{text}");
    assert!(!text.contains("type Media") && !text.contains("Post!"), "{text}");
    assert!(text.contains("@list(default: 7, max: 9)"), "{text}");
}

#[test]
fn only_tables_that_are_asked_for_are_proposed() {
    let catalogue = catalogue(BLOG);
    let only = ["public.posts", "tags", "post_tags"].map(str::to_owned).to_vec();
    let options = Options { only, ..Options::default() };
    let text = propose(&catalogue, &options);
    accepted(&text, &catalogue);
    assert!(text.contains("type Post @table") && text.contains("tags(where: TagFilter"), "{text}");
    assert!(!text.contains("type Author") && !text.contains(": Author"), "{text}");
    assert_eq!(options.unknown(&catalogue), Vec::<String>::new());
    let wrong = Options { only: vec!["post".to_owned(), "blog.tags".to_owned()], ..Options::default() };
    assert_eq!(wrong.unknown(&catalogue)[0], "post, did you mean posts?");
    assert!(wrong.unknown(&catalogue)[1].starts_with("blog.tags"));
}

#[test]
fn a_database_without_tables_is_told() {
    let text = propose(&Catalogue::default(), &Options::default());
    assert_eq!(text, "# Proposed from the database; change what should be otherwise.\n");
}

fn named(name: &str) -> impl Strategy<Value = String> + use<> {
    let odd = "[a-zA-Z0-9_ \"\\\\äü.-]{1,8}";
    prop_oneof![6 => Just(name.to_owned()), 1 => odd]
}

prop_compose! {
    fn column(name: String)(
        ty in 0..16usize, array in prop::bool::weighted(0.1), not_null in any::<bool>(), has_default in any::<bool>(),
        generated in prop::bool::weighted(0.1), comment in prop::option::weighted(0.1, "\\PC{0,9}|[\"\\\\\n]{1,3}"),
    ) -> Column {
        const TYPES: [(&str, u32); 16] = [
            ("bigint", 20), ("bigint", 20), ("bigint", 20), ("integer", 23), ("text", 25), ("uuid", 2950), ("boolean", 16),
            ("numeric", 1700), ("jsonb", 3802), ("timestamp with time zone", 1184), ("mood", 16_400), ("empty", 16_401),
            ("inet", 869), ("point", 600), ("other.\"Odd Mood\"", 16_402), ("bytea", 17),
        ];
        let (sql_type, oid) = (TYPES[ty].0.to_owned(), TYPES[ty].1);
        let is_enum = oid >= 16_400;
        Column {
            name: name.clone(), sql_type, oid, array, is_enum, not_null, has_default: has_default || generated, generated,
            comment,
        }
    }
}

fn columns() -> impl Strategy<Value = Vec<Column>> {
    let names =
        ["id", "name", "user_id", "post_id", "createdAt", "created_at", "patch", "idempotency_key", "or"];
    let each = names.iter().map(|name| prop::option::weighted(0.7, named(name).prop_flat_map(column)));
    each.collect::<Vec<_>>().prop_map(|columns| {
        let mut columns: Vec<Column> = columns.into_iter().flatten().collect();
        let mut seen = std::collections::BTreeSet::new();
        columns.retain(|column| seen.insert(column.name.clone()));
        columns
    })
}

/// Some of the columns, in any order.
fn some(columns: &[Column]) -> impl Strategy<Value = Vec<String>> + use<> {
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let most = names.len().min(2);
    prop::sample::subsequence(names, most.min(1)..=most).prop_shuffle()
}

fn table() -> impl Strategy<Value = Relation> {
    columns().prop_flat_map(|columns| {
        let keys = prop::collection::vec(some(&columns), 0..3);
        (Just(columns), keys, prop::bool::weighted(0.15), any::<bool>()).prop_map(
            |(mut columns, keys, view, primary)| {
                let mut keys: Vec<Vec<String>> = keys.into_iter().filter(|key| !key.is_empty()).collect();
                keys.dedup();
                let primary = primary && !keys.is_empty() && !view;
                for column in &mut columns {
                    column.not_null = !view && (column.not_null || primary && keys[0].contains(&column.name));
                }
                Relation { view, columns, keys, primary, ..Relation::default() }
            },
        )
    })
}

/// Refers from any table to any key of any other, as PostgreSQL allows where the types fit.
fn refer(
    mut catalogue: Catalogue,
    picks: &[(prop::sample::Index, prop::sample::Index, prop::sample::Index)],
) -> Catalogue {
    let names: Vec<(String, String)> = catalogue.tables.keys().cloned().collect();
    for (number, (from, to, start)) in picks.iter().enumerate() {
        if names.is_empty() {
            break;
        }
        let (from, to) = (&names[from.index(names.len())], &names[to.index(names.len())]);
        let target = &catalogue.tables[to];
        let (Some(key), false) = (target.keys.first().cloned(), target.view) else { continue };
        let wanted: Vec<Column> = key.iter().filter_map(|name| target.column(name).cloned()).collect();
        let own = &catalogue.tables[from].columns;
        let mut columns = Vec::new();
        for column in &wanted {
            let fits = own.iter().cycle().skip(start.index(own.len().max(1))).take(own.len());
            let found = fits.filter(|own| own.comparable(column)).find(|own| !columns.contains(&own.name));
            columns.extend(found.map(|own| own.name.clone()));
        }
        if columns.len() == key.len() && !catalogue.tables[from].view {
            let reference =
                Reference { name: format!("fk{number}"), columns, table: to.clone(), target: key };
            catalogue.tables.get_mut(from).expect("a table").references.push(reference);
        }
    }
    catalogue
}

fn function(tables: Vec<(String, String)>) -> impl Strategy<Value = Function> {
    let parameters = prop::collection::vec(named("post_id").prop_flat_map(column), 0..3);
    let row = any::<prop::sample::Index>();
    (parameters, 0..4usize, row, named("x").prop_flat_map(column), any::<[bool; 3]>()).prop_map(
        move |(parameters, returns, row, value, [set, volatile, has_default])| {
            let parameters = parameters.into_iter().map(|column| {
                let name = column.name.clone();
                Parameter { name, column, has_default }
            });
            let returns = match (returns, tables.is_empty()) {
                (0, _) => Returned::Other("void".to_owned()),
                (1, _) | (_, true) => Returned::Value(value),
                _ => Returned::Table(tables[row.index(tables.len())].clone()),
            };
            let comment = None;
            Function { parameters: parameters.collect(), returns, set, volatile, comment }
        },
    )
}

fn any_catalogue() -> impl Strategy<Value = Catalogue> {
    let names =
        ["users", "posts", "post_tags", "tags", "order_filters", "orders", "Query", "string", "media"];
    let places = prop::collection::vec((named("public"), 0..names.len()), 1..7);
    let picks =
        prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index, prop::sample::Index)>(), 0..9);
    (places, prop::collection::vec(table(), 7), picks).prop_flat_map(move |(places, tables, picks)| {
        let places = places.into_iter().map(|(schema, name)| (schema, names[name].to_owned()));
        let mut catalogue = Catalogue { search_path: vec!["public".to_owned()], ..Catalogue::default() };
        catalogue.tables = places.zip(tables).collect();
        let labels = ["sad", "so so", "so_so", "true", "", "1st"].map(str::to_owned);
        catalogue.enums.insert("mood".to_owned(), labels.to_vec());
        catalogue.enums.insert("other.\"Odd Mood\"".to_owned(), labels[..2].to_vec());
        catalogue.enums.insert("empty".to_owned(), Vec::new());
        let names: Vec<(String, String)> = catalogue.tables.keys().cloned().collect();
        let catalogue = refer(catalogue, &picks);
        let functions = prop::collection::vec(function(names), 0..4);
        (Just(catalogue), functions).prop_map(|(mut catalogue, functions)| {
            for (number, function) in functions.into_iter().enumerate() {
                let name = ("public".to_owned(), ["posts", "do_it"][number % 2].to_owned());
                catalogue.functions.entry(name).or_default().push(function);
            }
            catalogue
        })
    })
}

proptest! {
    #[test]
    fn the_compiler_takes_what_is_proposed_for_any_database(catalogue in any_catalogue()) {
        let text = propose(&catalogue, &Options::default());
        if text.contains("type Query") {
            accepted(&text, &catalogue);
        }
        prop_assert_eq!(text, propose(&catalogue, &Options::default()));
    }
}
