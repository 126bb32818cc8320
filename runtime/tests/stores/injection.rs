//! Values, names and cursors that were made to become SQL: each stays data, or is refused before the database sees it.
//!
//! The texts are those of OWASP's cheat sheets on SQL injection and its testing guide: comments, stacked statements,
//! UNION, blind and timed conditions, quotes of every kind, escapes, wide look-alikes.

use std::sync::Arc;

use fraiseql_runtime::engine::encode::Scalar;
use fraiseql_runtime::engine::schema::model::{Argument, Field, InputRole, Named, Schema};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::Stage;
use crate::support::blog::Blog;

const HOSTILE: [&str; 34] = [
    "'",
    "''",
    "\"",
    "`",
    "\\",
    "\\'",
    "' OR '1'='1",
    "' OR 1=1 --",
    "' OR 1=1 #",
    "' OR 1=1/*",
    "') OR ('1'='1",
    "\" OR \"\"=\"",
    "1 OR 1=1",
    "1; DROP TABLE posts",
    "'; DROP TABLE posts CASCADE; --",
    "'); DELETE FROM authors; --",
    "'; UPDATE authors SET email = 'x'; --",
    "' UNION SELECT usename, passwd FROM pg_shadow --",
    "1 UNION ALL SELECT NULL, version()",
    "'; SELECT pg_sleep(10); --",
    "' AND (SELECT count(*) FROM pg_class) > 0 --",
    "'||(SELECT version())||'",
    "'; COPY authors TO PROGRAM 'id'; --",
    "$$; DROP TABLE posts; $$",
    "$1",
    "$tag$ x $tag$",
    "%27%20OR%201%3D1",
    "\u{2019} OR 1=1 --",
    "\u{ff07} OR 1=1 --",
    "admin'/*",
    "*/ OR 1=1 /*",
    "{x,\"y\"}",
    "E'\\x27'",
    "\n; DROP TABLE posts; --\r\n",
];

/// Everything in the database: tables, and a digest of the rows of each.
async fn everything(url: &str) -> Vec<(String, String)> {
    let mut connection = PgConnection::connect(url).await.expect("the database answers");
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
    )
    .fetch_all(&mut connection)
    .await
    .expect("tables");
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, md5(query_to_xml(format('SELECT * FROM %I.%I AS t ORDER BY t::text', table_schema, table_name),
                false, false, '')::text)
         FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
    )
    .fetch_all(&mut connection)
    .await
    .expect("rows");
    tables.into_iter().map(|table| (table, String::new())).chain(rows).collect()
}

/// A refusal is told by a code of the caller's; none of ours may come out of a value.
fn check_answer(place: &str, answer: &Value) {
    for error in answer["errors"].as_array().into_iter().flatten() {
        let code = error["extensions"]["code"].as_str().unwrap_or_default();
        assert!(!["INTERNAL", "UNAVAILABLE", "TIMEOUT"].contains(&code), "{place}: {answer}");
    }
}

/// Arguments without which the field cannot be asked for, but for one.
fn others(schema: &Schema, field: &Field, but: &str) -> String {
    let required = field.args.values().filter(|arg| !arg.ty.nullable && arg.name != but);
    let value = |arg: &Argument| match arg.ty.named {
        Named::Enum(id) => schema.enumeration(id).values.keys().next().expect("a value").clone(),
        Named::Scalar(Scalar::String) => "\"x\"".to_owned(),
        _ => "1".to_owned(),
    };
    required.map(|arg| format!(", {}: {}", arg.name, value(arg))).collect()
}

/// A selection of what a field answers.
fn selection(schema: &Schema, field: &Field) -> String {
    match field.ty.named {
        Named::Object(_) if schema.name_of(field.ty.named).ends_with("Connection") => {
            "{ nodes { __typename } }".to_owned()
        }
        Named::Object(_) => "{ __typename }".to_owned(),
        _ => String::new(),
    }
}

/// Rows in an answer.
fn rows(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.get("nodes").map_or(1, rows),
        _ => 0,
    }
}

pub async fn hostile_arguments_of_every_query_change_nothing_and_find_nothing(stage: Arc<Stage>) {
    let mut asked = 0;
    for name in ["blog", "ecommerce"] {
        let (engine, url) = Blog::open_schema(&stage, name, &[]).await;
        let before = everything(&url).await;
        let schema = engine.engine.schema();
        for (field, arg) in
            schema.query.values().flat_map(|field| field.args.values().map(move |arg| (field, arg)))
        {
            let (others, set) = (others(schema, field, &arg.name), selection(schema, field));
            let (field_name, arg_name) = (&field.name, &arg.name);
            for hostile in HOSTILE {
                let ty = schema.name_of(arg.ty.named).to_owned();
                let values = match arg.ty.named {
                    Named::Input(id) if matches!(schema.input(id).role, InputRole::Filter(_)) => {
                        filters(schema, arg, hostile)
                    }
                    Named::Input(id) => {
                        schema.input(id).fields.keys().map(|key| (json!({ key: hostile }), true)).collect()
                    }
                    _ => vec![(json!(hostile), true)],
                };
                for (value, finds_nothing) in values {
                    let ty = if arg.ty.nullable { ty.clone() } else { format!("{ty}!") };
                    let ty =
                        if arg.ty.list.is_some() { format!("[{}!]", ty.trim_end_matches('!')) } else { ty };
                    let query = format!("query ($v: {ty}) {{ {field_name}({arg_name}: $v{others}) {set} }}");
                    let answer = engine.answer(&query, json!({ "v": value })).await;
                    let place = format!("{query} with {value}");
                    check_answer(&place, &answer);
                    // What searches or limits may find something; what must be equal may not.
                    if finds_nothing && !matches!(arg_name.as_str(), "query") && !set.is_empty() {
                        assert_eq!(rows(&answer["data"][field_name]), 0, "{place}: {answer}");
                    }
                    asked += 1;
                }
                if let Named::Scalar(Scalar::String | Scalar::Id) = arg.ty.named {
                    let literal = json!(hostile);
                    let query = format!("{{ {field_name}({arg_name}: {literal}{others}) {set} }}");
                    check_answer(&query, &engine.answer(&query, json!({})).await);
                    asked += 1;
                }
            }
        }
        assert_eq!(everything(&url).await, before, "{name}");
    }
    assert!(asked > 5_000, "{asked}");
}

/// A filter for each comparison of each column, and whether it can hold of no row.
fn filters(schema: &Schema, arg: &Argument, hostile: &str) -> Vec<(Value, bool)> {
    let Named::Input(id) = arg.ty.named else { return Vec::new() };
    let mut all = vec![(json!({ hostile: { "eq": 1 } }), true), (json!({"and": hostile}), true)];
    for (name, field) in &schema.input(id).fields {
        let Named::Input(inner) = field.ty.named else { continue };
        if schema.input(inner).role != InputRole::Comparison {
            continue;
        }
        for (comparison, operand) in &schema.input(inner).fields {
            let value = if operand.ty.list.is_some() { json!([hostile]) } else { json!(hostile) };
            let equal = matches!(comparison.as_str(), "eq" | "in" | "contains" | "overlaps");
            all.push((json!({ name: { comparison: value } }), equal));
        }
    }
    all
}

pub async fn hostile_names_are_refused_before_the_database_sees_them(stage: Arc<Stage>) {
    let (engine, url) = Blog::open_schema(&stage, "blog", &[]).await;
    let before = everything(&url).await;
    for hostile in HOSTILE {
        let texts = [
            format!("{{ {hostile}: tags {{ slug }} }}"),
            format!("{{ tags {{ {hostile}: slug }} }}"),
            format!("{{ tags {{ {hostile} }} }}"),
            format!("query {hostile} {{ tags {{ slug }} }}"),
            format!("query (${hostile}: Int) {{ tags(limit: ${hostile}) {{ slug }} }}"),
            format!("query ($v: {hostile}) {{ tags(limit: $v) {{ slug }} }}"),
            format!("{{ posts(orderBy: {{title: {hostile}}}) {{ nodes {{ id }} }} }}"),
            format!("{{ posts(orderBy: {{{hostile}: ASC}}) {{ nodes {{ id }} }} }}"),
            format!("{{ posts(where: {{{hostile}: {{eq: 1}}}}) {{ nodes {{ id }} }} }}"),
            format!("{{ tags(limit: {hostile}) {{ slug }} }}"),
            format!("{{ tags({hostile}: 1) {{ slug }} }}"),
            format!("{{ ...{hostile} }} fragment {hostile} on Query {{ tags {{ slug }} }}"),
            format!("{{ tags @{hostile} {{ slug }} }}"),
        ];
        for text in texts {
            let answer = engine.answer(&text, json!({})).await;
            check_answer(&text, &answer);
            // "#" and "," are not letters of a name, but what is left can be an operation all the same.
            let harmless =
                answer.get("errors").is_none() && hostile.starts_with(['#', '$', '\n', '\'', '\\']);
            assert!(answer.get("errors").is_some() || harmless, "{text}: {answer}");
        }
        let request = fraiseql_runtime::engine::Request {
            query: "query Tags { tags { slug } }".to_owned(),
            operation_name: Some(hostile.to_owned()),
            ..Default::default()
        };
        let body = engine.engine.execute(&request).await.body;
        let answer: Value = serde_json::from_slice(&body).expect("JSON");
        check_answer(hostile, &answer);
        assert!(answer.get("errors").is_some(), "{hostile}: {answer}");
    }
    assert_eq!(everything(&url).await, before);
}

pub async fn hostile_texts_are_written_and_read_back_as_they_are(stage: Arc<Stage>) {
    let (engine, url) = Blog::open_schema(&stage, "blog", &[]).await;
    let tables = |all: Vec<(String, String)>| all.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let before = tables(everything(&url).await);
    let create = "mutation ($input: PostInput!, $key: String) {
        createPost(input: $input, idempotencyKey: $key) { id title body keywords meta }
    }";
    let update = "mutation ($id: ID!, $patch: PostPatch!) { updatePost(id: $id, patch: $patch) { title body keywords meta } }";
    let read = "query ($id: ID!, $title: String) {
        post(id: $id) { title body keywords meta }
        posts(where: {title: {eq: $title}, body: {in: [$title]}, keywords: {contains: [$title]}}) { nodes { id } }
    }"
    .replace("$title: String", "$title: String!");
    for (at, hostile) in HOSTILE.into_iter().enumerate() {
        let written = json!({"title": hostile, "body": hostile, "keywords": [hostile, "x"], "meta": {hostile: [hostile]}});
        let mut input = written.clone();
        input["slug"] = json!(format!("hostile-{at}"));
        input["authorId"] = json!("1");
        // A key takes no control characters; of any other it is one.
        let key = if hostile.contains(char::is_control) { format!("key {at}") } else { hostile.to_owned() };
        let made = engine.data(create, json!({"input": input, "key": key})).await;
        let id = made["createPost"]["id"].clone();
        let found = engine.data(&read, json!({"id": id, "title": hostile})).await;
        assert_eq!(found["post"], written, "{hostile}");
        assert_eq!(found["posts"]["nodes"], json!([{ "id": id }]), "{hostile}");
        let changed = engine.data(update, json!({"id": id, "patch": written})).await;
        assert_eq!(changed["updatePost"], written, "{hostile}");
        let again = engine.data(create, json!({"input": input, "key": key})).await;
        assert_eq!(again["createPost"]["id"], id, "the same key, {hostile}");
    }
    assert_eq!(tables(everything(&url).await), before);
    let authors = engine.data("{ authors { handle email } }", json!({})).await;
    assert_eq!(authors["authors"].as_array().expect("authors").len(), 5);
}
