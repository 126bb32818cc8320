//! What does not fit is told with its place and with what the database has; what fits means what it says.

use super::*;
use crate::engine::schema::catalogue::{Column, Function, Parameter, Reference, Relation, Returned};
use crate::engine::schema::model::FieldKind;

fn column(name: &str, sql_type: &str, oid: u32, not_null: bool) -> Column {
    Column { name: name.to_owned(), sql_type: sql_type.to_owned(), oid, not_null, ..Column::default() }
}

/// Authors and their books.
fn library() -> Catalogue {
    let key = |name: &str| vec![name.to_owned()];
    let authors = Relation {
        columns: vec![
            Column { has_default: true, ..column("id", "bigint", 20, true) },
            column("pen_name", "text", 25, true),
            column("born", "date", 1082, false),
        ],
        keys: vec![key("id"), key("pen_name")],
        primary: true,
        indexes: vec![key("id"), key("pen_name")],
        ..Relation::default()
    };
    let books = Relation {
        columns: vec![
            column("id", "uuid", 2950, true),
            column("title", "text", 25, true),
            column("author_id", "bigint", 20, true),
            column("editor_id", "bigint", 20, false),
            Column { generated: true, ..column("length", "integer", 23, true) },
            Column { is_enum: true, ..column("mood", "mood", 99_999, true) },
        ],
        keys: vec![key("id")],
        primary: true,
        references: vec![Reference {
            name: "books_author".to_owned(),
            columns: key("author_id"),
            table: ("public".to_owned(), "authors".to_owned()),
            target: key("id"),
        }],
        indexes: vec![key("id"), key("author_id")],
        ..Relation::default()
    };
    let count = Function {
        parameters: vec![Parameter {
            name: "author_id".to_owned(),
            column: column("", "bigint", 20, false),
            has_default: false,
        }],
        returns: Returned::Value(column("", "bigint", 20, false)),
        set: false,
        volatile: true,
        comment: None,
    };
    let place = |name: &str| ("public".to_owned(), name.to_owned());
    Catalogue {
        tables: [(place("authors"), authors), (place("books"), books)].into(),
        enums: [("mood".to_owned(), vec!["sad".to_owned(), "glad".to_owned()])].into(),
        functions: [(place("count_books"), vec![count])].into(),
        search_path: vec!["public".to_owned()],
    }
}

const AUTHOR: &str = "type Author @table(name: \"authors\") { id: ID! penName: String! born: Date }\n";

fn problems(text: &str) -> Vec<String> {
    match compile(text, &library()) {
        Ok(compiled) => compiled.warnings.iter().map(ToString::to_string).collect(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// The one problem of a type `Book` with these fields, in a file whose other lines are right.
fn with_book(fields: &str) -> String {
    let query = "type Query { author(id: ID!): Author @lookup }\n";
    let text = format!(
        "{AUTHOR}{query}enum Mood {{ sad glad }}\ntype Book @table(name: \"books\") {{ {fields} }}\n"
    );
    let found = problems(&text);
    assert_eq!(found.len(), 1, "{fields}: {found:#?}");
    found[0].clone()
}

#[test]
fn what_has_nothing_in_it_is_told_with_its_place() {
    for (text, told) in [
        ("type Query", "2:6: error: Query has no field"),
        ("type Query { author(id: ID!): Author @lookup }\ninput Empty", "3:7: error: Empty has no field"),
        ("type Query { author(id: ID!): Author @lookup }\nunion Any", "3:7: error: Any has no member"),
    ] {
        let found = problems(&format!("{AUTHOR}{text}"));
        assert!(found.iter().any(|problem| problem.starts_with(told)), "{text}: {found:#?}");
    }
}

#[test]
fn a_field_that_does_not_fit_is_told_with_what_the_database_has() {
    for (fields, told) in [
        ("titel: String!", "books has no column titel, did you mean title?"),
        ("title: Int!", "books.title has the type text, which can be String, ID"),
        ("id: Int!", "books.id has the type uuid"),
        ("title: [String!]!", "books.title has the type text, which is not a list"),
        ("editorId: ID!", "books.editor_id can be null"),
        ("title(first: Int): String!", "title is a column and takes no argument"),
        ("title: Strin!", "there is no type Strin"),
        ("author: Author! @relation(columns: [\"author\"])", "books has no column author"),
        ("editor: Author! @relation(columns: [\"editor_id\"])", "there may be no row of authors"),
        ("editor: Author! @relation(columns: [\"title\"])", "one type: title is text and id is bigint"),
        (
            "author: Author! @relation(columns: [\"author_id\", \"editor_id\"])",
            "as many columns as keys are needed",
        ),
        ("author: Author! @relaton", "there is no directive @relaton, did you mean relation?"),
        (
            "title: String! @column(name: \"title\", nam: \"x\")",
            "@column has no argument nam, did you mean name?",
        ),
        ("title: String! title: String!", "title stands here twice"),
    ] {
        let found = with_book(fields);
        assert!(found.starts_with("4:") && found.contains(told), "{fields}: {found}");
    }
}

#[test]
fn enums_are_compared_with_the_databases() {
    let with = |values: &str| {
        problems(&format!(
            "{AUTHOR}type Query {{ author(id: ID!): Author @lookup }}\nenum Mood {{ {values} }}\n\
             type Book @table(name: \"books\") {{ mood: Mood! }}"
        ))
    };
    assert_eq!(with("sad glad"), Vec::<String>::new());
    assert!(with("sad glad angry")[0].contains("Mood: mood has no angry, only sad, glad"));
    let missing = with("sad");
    assert!(missing[0].contains("warning: Mood: mood also has glad"), "{missing:?}");
    assert_eq!(with("SAD @value(text: \"sad\") glad"), Vec::<String>::new());
}

#[test]
fn a_filter_keeps_its_own_words() {
    let text = "type Author @table(name: \"authors\") {\n id: ID! not: String! @column(name: \"pen_name\") }
        type Query { authors(where: AuthorFilter): [Author!]! @list }";
    let compiled = compile(text, &library()).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(compiled.warnings[0].to_string().contains("2:10: warning: Author.not cannot be filtered by"));
    let Some(Named::Input(filter)) = compiled.schema.names.get("AuthorFilter") else { panic!("a filter") };
    assert_eq!(compiled.schema.input(*filter).fields["not"].ty.named, Named::Input(*filter));
}

#[test]
fn roots_are_told_what_they_lack() {
    let with = |root: &str| {
        let text =
            format!("{AUTHOR}type Query {{ ok(id: ID!): Author @lookup }}\ntype Mutation {{ {root} }}");
        problems(&text).join("\n")
    };
    for (root, told) in [
        ("f(id: ID!): Author", "f needs one of @insert"),
        (
            "f(born: Date!): Author @delete",
            "(born) does not identify a row of authors: (id) or (pen_name) does",
        ),
        ("f(id: ID): Author @delete", "id is a part of the key and must be declared with `!`"),
        (
            "f(input: AuthorInput!): [Author!]! @insert",
            "a list of new rows answers a list, one row answers one",
        ),
        ("f(input: AuthorInput!): Author! @upsert(conflict: [\"born\"])", "(born) is no unique key"),
        (
            "f(input: [AuthorInput!]!): [Author!]! @insert @emits(event: \"new\")",
            "f: a change of several rows",
        ),
        ("f(id: ID!): Author @update", "f needs one argument with an input type"),
        (
            "f(id: ID!): BigInt @function(name: \"count_book\")",
            "no function count_book, did you mean count_books?",
        ),
        (
            "f(id: ID!): BigInt @function(name: \"count_books\")",
            "no form of count_books takes these arguments: there is (author_id bigint)",
        ),
        (
            "f(authorId: ID!): Author @function(name: \"count_books\")",
            "count_books answers bigint, which this type cannot be",
        ),
        ("f(id: ID!): Author @delete @idempotent(key: \"input.key\")", "`input.key` is neither an argument"),
        (
            "f(id: ID!): Author @delete @emits(event: \"gone\", payload: [\"name\"])",
            "payload: there is no column name",
        ),
    ] {
        let found = with(root);
        assert!(found.contains(told), "{root}:\n{found}");
    }
}

#[test]
fn a_query_calls_no_function_that_may_change_something() {
    let text = "type Query { count(authorId: ID!): BigInt @function(name: \"count_books\") }";
    assert!(problems(text)[0].contains("count_books is VOLATILE"), "{:?}", problems(text));
}

#[test]
fn a_relation_is_found_by_its_one_foreign_key_and_an_unindexed_one_is_warned_of() {
    let text = "type Author @table(name: \"authors\") { id: ID! books: [Book!]! edited: [Book!]! @relation(columns: [\"editor_id\"]) }
        type Book @table(name: \"books\") { id: ID! author: Author! }
        type Query { books(where: BookFilter, orderBy: [BookOrder!], first: Int): BookConnection! @list(max: 10) }";
    let compiled = compile(text, &library()).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(compiled.warnings.len(), 1, "{:?}", compiled.warnings);
    assert!(compiled.warnings[0].message.contains("books has no index that begins with (editor_id)"));
    let schema = compiled.schema;
    let book = schema.object_named("Book").expect("Book");
    match &schema.object(book).fields["author"].kind {
        FieldKind::ToOne(relation) => {
            assert!(relation.required);
            assert_eq!(relation.on, [("author_id".to_owned(), "id".to_owned())]);
        }
        other => panic!("{other:?}"),
    }
    for made in
        ["BookFilter", "BookOrder", "BookConnection", "BookEdge", "PageInfo", "SortDirection", "AuthorFilter"]
    {
        assert!(schema.names.contains_key(made), "{made}");
    }
}

#[test]
fn a_file_that_is_no_schema_has_one_problem_with_its_place() {
    let found = problems("type Query {\n  a: \n}");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("3:1: error: this is no schema"), "{found:?}");
    assert!(
        problems("type Foo @table(name: \"authors\") { id: ID! }")[0].contains("a schema needs a query root")
    );
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_schema_or_has_problems(text in "[a-zA-Z{}()\\[\\]!:@\"=& \n]{0,200}") {
        let _ = compile(&text, &library());
    }
}

#[test]
fn what_is_asked_of_callers_is_compiled_and_handed_down() {
    let text = "type Author @table(name: \"authors\") @auth { id: ID! penName: String! @auth(requires: [EDITOR, \"ADMIN\"]) pen: String! @column(name: \"pen_name\") }
        type Query @auth(guards: [\"open\"]) { authors: [Author!]! @list @auth(requires: ADMIN) }";
    let compiled = compile(text, &library()).unwrap_or_else(|problems| panic!("{problems:?}"));
    let warnings: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("pen shows authors.pen_name, which penName guards"), "{warnings:?}");
    let schema = compiled.schema;
    let author = schema.object(schema.object_named("Author").expect("a type"));
    assert_eq!(author.rules.len(), 1);
    assert_eq!(author.fields["penName"].rules[0].roles, ["EDITOR", "ADMIN"]);
    let rules = &schema.query["authors"].rules;
    assert_eq!((rules[0].roles.len(), rules[1].guards.as_slice()), (1, &["open".to_owned()][..]));
}

#[test]
fn a_rule_that_would_ask_nothing_or_has_no_meaning_is_told() {
    for (rule, told) in [
        (
            "type Author @table(name: \"authors\") @auth(requires: []) { id: ID! }",
            "an empty list lets nobody through",
        ),
        ("type Author @table(name: \"authors\") @auth(require: [A]) { id: ID! }", "did you mean requires?"),
        (
            "enum Mood @auth { sad glad } type Author @table(name: \"authors\") { id: ID! }",
            "no meaning on Mood",
        ),
        (
            "input X { id: ID @auth } type Author @table(name: \"authors\") { id: ID! }",
            "@auth has no meaning here",
        ),
    ] {
        let found = problems(&format!("{rule} type Query {{ author(id: ID!): Author @lookup }}"));
        assert!(found.iter().any(|found| found.contains(told)), "{rule}: {found:?}");
    }
}

#[test]
fn what_stands_behind_a_flag_is_a_function_that_fits_as_the_other_does() {
    let field = "countBooks(authorId: ID!): BigInt @function(name: \"count_books\")";
    let with = |behind: &str| {
        problems(&format!(
            "{AUTHOR}type Query {{ author(id: ID!): Author @lookup }}\ntype Mutation {{ {field} {behind} }}"
        ))
    };
    assert_eq!(with("@behind(flag: \"new_count\", function: \"count_books\")"), Vec::<String>::new());
    for (behind, told) in [
        ("@behind(flag: \"new_count\")", "@behind needs function"),
        ("@behind(function: \"count_books\")", "@behind needs flag"),
        (
            "@behind(flag: \"new\", function: \"count_book\")",
            "no function count_book, did you mean count_books?",
        ),
        ("@behind(flag: \"a b\", function: \"count_books\")", "flag is \"a b\": it must be"),
        (
            "@cacheControl(maxAge: 5) @behind(flag: \"new\", function: \"count_books\")",
            "an answer behind a flag is not kept",
        ),
    ] {
        let found = with(behind);
        assert!(found.iter().any(|found| found.contains(told)), "{behind}: {found:?}");
    }
    let found = with_book("title: String! @behind(flag: \"new\", function: \"count_books\")");
    assert!(found.contains("title: @behind stands beside @function alone"), "{found}");
    let found = problems(&format!(
        "{AUTHOR}type Query {{ author(id: ID!): Author @lookup @behind(flag: \"new\", function: \"count_books\") }}"
    ));
    assert!(found[0].contains("author: @behind stands beside @function alone"), "{found:?}");
}
