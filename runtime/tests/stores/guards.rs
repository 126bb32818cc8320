//! What `@auth` guards is reached by no way by who may not, and by every way by who may.

use std::sync::Arc;

use fraiseql_runtime::cache::memory::MemoryCache;
use fraiseql_runtime::cache::metrics::CacheSeries;
use fraiseql_runtime::cache::response::ResponseCache;
use fraiseql_runtime::clock::SystemClock;
use fraiseql_runtime::config::cache::Response;
use fraiseql_runtime::engine::loader::{Error, Source};
use fraiseql_runtime::engine::{Request, Stage as Reached};
use fraiseql_runtime::security::guard::{Asked, Authenticated, Caller, Denied, Guard, Guards, Role};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::Stage;
use crate::support::blog::Blog;

struct Guarded(Blog);

impl Guarded {
    async fn open(stage: &Stage) -> Self {
        let role = |name: &str| Role(name.to_owned());
        let payroll = Authenticated.and(role("PAYROLL").or(role("ADMIN"))).and(role("SUSPENDED").not());
        let guards = Guards::default().with("payroll", payroll);
        Self(served(stage, guards, None).await.expect("the schema fits"))
    }

    /// As [`open`](Self::open), with a cache that keeps every answer and gives it to everybody.
    async fn cached(stage: &Stage, series: &CacheSeries) -> Self {
        let role = Role("ADMIN".to_owned());
        let (guards, clock) = (Guards::default().with("payroll", role), Arc::new(SystemClock));
        let table = Response { enabled: true, ..Response::default() };
        let memory = Arc::new(MemoryCache::new((&table).into(), clock.clone(), series.clone()));
        let cache = ResponseCache::new(memory, table, clock, series.clone());
        Self(served(stage, guards, Some(cache)).await.expect("the schema fits"))
    }

    async fn ask(&self, caller: &Caller, query: &str, variables: &Value) -> (Reached, Value) {
        let variables = serde_json::from_value(variables.clone()).expect("variables");
        let request = Request { query: query.to_owned(), operation_name: None, variables };
        let answer = self.0.engine.execute_as(&request, caller).await;
        (answer.stage, serde_json::from_slice(&answer.body).expect("JSON"))
    }
}

async fn served(stage: &Stage, guards: Guards, cache: Option<ResponseCache>) -> Result<Blog, Error> {
    let url = stage.database(stage.number()).await.to_string();
    let mut connection = PgConnection::connect(&url).await.expect("the database answers");
    let tables = sqlx::raw_sql(include_str!("guards/tables.sql"));
    tables.execute(&mut connection).await.expect("tables");
    connection.close().await.expect("closed");
    let mut text = include_str!("guards/schema.graphql").to_owned();
    if cache.is_some() {
        let (before, roots) = text.split_once("type Query {").expect("a query type");
        let (roots, after) = roots.split_once('}').expect("its end");
        let roots = roots.trim_end().replace('\n', " @cacheControl(maxAge: 60, scope: PUBLIC)\n");
        // The first line break is that of the bracket, the last root has none of its own.
        let roots = roots.replacen(" @cacheControl(maxAge: 60, scope: PUBLIC)", "", 1);
        text = format!("{before}type Query {{{roots} @cacheControl(maxAge: 60, scope: PUBLIC)\n}}{after}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("schema.graphql");
    std::fs::write(&path, text).expect("written");
    Blog::cached(Source { path, url, database_schemas: Vec::new() }, guards, cache).await
}

fn admin() -> Caller {
    Caller::known("root", ["ADMIN"])
}

/// Each way to something that only ADMIN may see: the operation, its variables, the path of the first refusal.
fn ways() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let none = || json!({});
    vec![
        ("{ users { id email } }", none(), &["users", "email"]),
        ("{ id: users { name: email } }", none(), &["id", "name"]),
        ("{ user(id: 3) { boss { boss { e: email } } } }", none(), &["user", "boss", "boss", "e"]),
        (
            "{ posts { edges { node { author { ...A } } } } } fragment A on User { ...B } fragment B on User { ... { ... on User { email } } }",
            none(),
            &["posts", "edges", "node", "author", "email"],
        ),
        (
            "{ posts { nodes { author { posts { author { email } } } } } }",
            none(),
            &["posts", "nodes", "author", "posts", "author", "email"],
        ),
        (
            "query ($yes: Boolean!) { users { email @include(if: $yes) } }",
            json!({"yes": true}),
            &["users", "email"],
        ),
        ("{ users(where: {email: {like: \"a%\"}}) { id } }", none(), &["users"]),
        ("{ users(where: {not: {or: [{and: [{boss: {email: {eq: \"x\"}}}]}]}}) { id } }", none(), &["users"]),
        (
            "query ($w: UserFilter) { users(where: $w) { id } }",
            json!({"w": {"boss": {"email": {"isNull": false}}}}),
            &["users"],
        ),
        ("{ posts(where: {author: {email: {eq: \"x\"}}}) { totalCount } }", none(), &["posts"]),
        ("{ users(orderBy: [{id: ASC}, {email: DESC}]) { id } }", none(), &["users"]),
        (
            "query ($o: [UserOrder!]) { users(orderBy: $o) { id } }",
            json!({"o": {"email": "ASC"}}),
            &["users"],
        ),
        ("{ users(email: \"ada@example.org\") { id } }", none(), &["users"]),
        ("{ userByEmail(email: \"ada@example.org\") { id } }", none(), &["userByEmail"]),
        ("{ byEmail { pageInfo { endCursor } } }", none(), &["byEmail"]),
        ("{ byEmail { edges { cursor } } }", none(), &["byEmail"]),
        ("{ users { secrets { __typename } } }", none(), &["users", "secrets"]),
        ("{ secrets { totalCount } }", none(), &["secrets"]),
        ("{ secrets { nodes { id } } }", none(), &["secrets"]),
        ("{ media { url } }", none(), &["media", "url"]),
        ("{ media { ... on Photo { url } } }", none(), &["media", "url"]),
        (
            "{ posts { nodes { media { id ...P } } } } fragment P on Photo { link: url }",
            none(),
            &["posts", "nodes", "media", "link"],
        ),
        ("{ media(where: {url: {like: \"%1\"}}) { id } }", none(), &["media"]),
        ("mutation { updateUser(id: 1, patch: {email: \"x\"}) { id } }", none(), &["updateUser"]),
        (
            "mutation { updateUser(id: 1, patch: {name: \"x\"}) { boss { email } } }",
            none(),
            &["updateUser", "boss", "email"],
        ),
        (
            "mutation ($p: UserPatch!) { updateUser(id: 1, patch: $p) { id } }",
            json!({"p": {"name": "x", "email": "y"}}),
            &["updateUser"],
        ),
        (
            "mutation { updatePost(id: 1, patch: {title: \"x\"}) { author { email } } }",
            none(),
            &["updatePost", "author", "email"],
        ),
        ("mutation { deleteUser(id: 3) { id } }", none(), &["deleteUser"]),
        ("{ ok: users { id } no: users { email } }", none(), &["no", "email"]),
    ]
}

pub async fn no_way_leads_to_what_is_guarded(stage: Arc<Stage>) {
    let guarded = Guarded::open(&stage).await;
    let editor = Caller::known("ed", ["EDITOR"]);
    for (query, variables, path) in ways() {
        for (caller, reached, code) in [
            (&Caller::Anonymous, Reached::Unauthenticated, "UNAUTHENTICATED"),
            (&editor, Reached::Forbidden, "FORBIDDEN"),
        ] {
            // A plan that was made for who may is of no use to who may not; a change would change what follows.
            if query.starts_with('{') || query.starts_with("query") {
                let (stage, answer) = guarded.ask(&admin(), query, &variables).await;
                assert_eq!(stage, Reached::Executed, "{query}: {answer}");
                assert_eq!(answer.get("errors"), None, "{query}: {answer}");
            }
            let (stage, answer) = guarded.ask(caller, query, &variables).await;
            assert_eq!(stage, reached, "{query}: {answer}");
            assert_eq!(answer.get("data"), None, "{query}: {answer}");
            let errors = answer["errors"].as_array().expect("errors");
            assert!(errors.iter().all(|error| error["extensions"]["code"] == code), "{query}: {answer}");
            let at_path = errors.iter().any(|error| error["path"] == json!(path));
            // Nobody passes the root of mutations.
            assert!(
                at_path || *caller == Caller::Anonymous && query.starts_with("mutation"),
                "{query}: {answer}"
            );
        }
    }
    let (_, names) = guarded.ask(&Caller::Anonymous, "{ users { name } }", &json!({})).await;
    assert_eq!(names, json!({"data": {"users": [{"name": "Ada"}, {"name": "Bob"}, {"name": "Cy"}]}}));
}

pub async fn what_a_cache_keeps_is_not_given_to_who_may_not_see_it(stage: Arc<Stage>) {
    let series = CacheSeries::default();
    let guarded = Guarded::cached(&stage, &series).await;
    let editor = Caller::known("ed", ["EDITOR"]);
    let mut kept = 0;
    for (query, variables, _) in ways() {
        if query.starts_with("mutation") {
            continue;
        }
        let (_, first) = guarded.ask(&admin(), query, &variables).await;
        let hits = series.hits.get();
        let (_, second) = guarded.ask(&admin(), query, &variables).await;
        assert_eq!((first.get("errors"), &first), (None, &second), "{query}");
        kept += series.hits.get() - hits;
        for (caller, reached) in
            [(&Caller::Anonymous, Reached::Unauthenticated), (&editor, Reached::Forbidden)]
        {
            let (stage, answer) = guarded.ask(caller, query, &variables).await;
            assert_eq!(stage, reached, "{query}: {answer}");
            assert_eq!(answer.get("data"), None, "{query}: {answer}");
        }
    }
    assert!(kept >= 20, "{kept} answers were kept: without any this shows nothing");
}

pub async fn events_are_told_to_those_who_may_see_them(stage: Arc<Stage>) {
    let guarded = Guarded::open(&stage).await;
    let begun = async |caller: &Caller, query: &str| {
        let request = Request { query: query.to_owned(), ..Request::default() };
        match guarded.0.engine.subscribe(&request, caller).await {
            Ok(subscription) => {
                assert!(subscription.is_some(), "{query}");
                Reached::Executed
            }
            Err(answer) => answer.stage,
        }
    };
    let editor = Caller::known("ed", ["EDITOR"]);
    for query in [
        "subscription { userChanged { email } }",
        "subscription { userChanged(email: \"ada@example.org\") { id } }",
        "subscription { postWritten { author { boss { email } } } }",
        "subscription { secretTold { id } }",
    ] {
        assert_eq!(begun(&admin(), query).await, Reached::Executed, "{query}");
        assert_eq!(begun(&Caller::Anonymous, query).await, Reached::Unauthenticated, "{query}");
        assert_eq!(begun(&editor, query).await, Reached::Forbidden, "{query}");
    }
    let joined = "subscription { joined { id } }";
    assert_eq!(begun(&Caller::Anonymous, joined).await, Reached::Unauthenticated);
    assert_eq!(begun(&editor, joined).await, Reached::Executed);
    assert_eq!(begun(&Caller::Anonymous, "subscription { userChanged { name } }").await, Reached::Executed);
}

pub async fn what_is_not_selected_is_not_asked_for(stage: Arc<Stage>) {
    let guarded = Guarded::open(&stage).await;
    let nobody = Caller::Anonymous;
    for (query, variables) in [
        ("query ($yes: Boolean!) { users { id email @include(if: $yes) } }", json!({"yes": false})),
        ("query ($w: UserFilter) { users(where: $w) { id } }", json!({"w": {"name": {"eq": "Ada"}}})),
        ("{ byEmail { nodes { name } } }", json!({})),
        ("{ media { id ... on Photo { width } } }", json!({})),
        ("{ __type(name: \"User\") { fields { name } } }", json!({})),
    ] {
        let (stage, answer) = guarded.ask(&nobody, query, &variables).await;
        assert!(stage == Reached::Executed && answer.get("errors").is_none(), "{query}: {answer}");
    }
}

pub async fn roles_and_guards_let_through_whom_they_say(stage: Arc<Stage>) {
    let guarded = Guarded::open(&stage).await;
    let caller = |roles: &[&str]| Caller::known("somebody", roles.iter().copied());
    let stage_of = async |caller: &Caller, query: &str| guarded.ask(caller, query, &json!({})).await.0;
    let (salary, email, whoever) = ("{ users { salary } }", "{ users { email } }", "{ whoever { id } }");
    for (roles, query, reached) in [
        (&["PAYROLL"][..], salary, Reached::Executed),
        (&["ADMIN"], salary, Reached::Executed),
        (&["ADMIN", "SUSPENDED"], salary, Reached::Forbidden),
        (&["SUPPORT"], salary, Reached::Forbidden),
        (&["SUPPORT"], email, Reached::Executed),
        (&["PAYROLL"], email, Reached::Forbidden),
        (&[], email, Reached::Forbidden),
        (&[], whoever, Reached::Executed),
        (&["SUPPORT"], "{ secrets { totalCount } }", Reached::Forbidden),
    ] {
        assert_eq!(stage_of(&caller(roles), query).await, reached, "{roles:?} {query}");
    }
    for query in [salary, email, whoever] {
        assert_eq!(stage_of(&Caller::Anonymous, query).await, Reached::Unauthenticated, "{query}");
    }
    let (stage, answer) = guarded.ask(&admin(), "mutation { deleteUser(id: 3) { id } }", &json!({})).await;
    assert_eq!(stage, Reached::Executed);
    // It has a post: the refusal is the database's, so it was let through.
    assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{answer}");
    let made = "mutation { createUser(input: {id: 9, name: \"Di\", email: \"di@example.org\"}) { id } }";
    assert_eq!(stage_of(&caller(&["EDITOR"]), made).await, Reached::Forbidden);
    assert_eq!(stage_of(&caller(&["SUPPORT"]), made).await, Reached::Executed);
}

pub async fn a_schema_with_a_guard_that_nobody_registered_is_not_served(stage: Arc<Stage>) {
    let error = served(&stage, Guards::default(), None).await.err().expect("it is not served");
    assert!(error.to_string().contains("payroll"), "{error}");
    let open = |_: &Caller, _: Asked<'_>| Ok::<(), Denied>(());
    assert!(served(&stage, Guards::default().with("payroll", open), None).await.is_ok());
}
