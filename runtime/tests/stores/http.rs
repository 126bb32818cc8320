//! What a served shop does over HTTP besides the audit: operations by name, lists of them.

use std::sync::Arc;

use fraiseql_runtime::engine::persisted::hash;
use serde_json::{Value, json};

use crate::support::http::{Answer, read};
use crate::support::live::{Heard, Socket, Stream};
use crate::support::{Front, Shop, Stage, equal, eventually};

const OLD: &str = "application/json";
const NEW: &str = "application/graphql-response+json";
const PRODUCT: &str = "query Product($id: ID!) { product(id: $id) { id } }";

fn code(answer: &Answer) -> &str {
    answer.body["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

fn by_hash(hash: &str, query: Option<&str>) -> Value {
    let mut body = json!({
        "variables": {"id": "1"},
        "extensions": {"persistedQuery": {"version": 1, "sha256Hash": hash}},
    });
    if let Some(query) = query {
        body["query"] = json!(query);
    }
    body
}

async fn get(front: &Front, parameters: &[(&str, &str)]) -> Answer {
    let url = url::Url::parse_with_params(&front.url(), parameters).expect("a URL");
    read(front.client.get(url)).await
}

pub async fn listed_operations_are_executed_by_name_and_nothing_else_is(stage: Arc<Stage>) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("product.graphql"), PRODUCT).expect("written");
    let settings = format!(
        "graphql.persisted.operations = {:?}\ngraphql.persisted.only = true\ngraphql.max_batch = 2",
        folder.path().display().to_string()
    );
    let shop = Shop::open_with(&stage, &settings).await;
    let front = Front::of(&shop).await;
    let hash = hash(PRODUCT);
    let wanted = json!({"data": {"product": {"id": "1"}}});

    for body in [
        by_hash(&hash, None),
        by_hash(&hash, Some(PRODUCT)),
        json!({"documentId": "product", "variables": {"id": "1"}}),
        json!({"id": format!("sha256:{hash}"), "variables": {"id": "1"}}),
        json!({"query": PRODUCT, "variables": {"id": "1"}}),
    ] {
        let answer = front.post(OLD, &body).await;
        assert_eq!((answer.status, &answer.body), (200, &wanted), "{body}");
    }
    let extensions = json!({"persistedQuery": {"version": 1, "sha256Hash": hash}}).to_string();
    let variables = ("variables", r#"{"id":"1"}"#);
    for parameter in [("documentId", "product"), ("id", hash.as_str()), ("extensions", extensions.as_str())] {
        let answer = get(&front, &[parameter, variables]).await;
        assert_eq!((answer.status, &answer.body), (200, &wanted), "{parameter:?}");
    }

    let others =
        ["{ __typename }", "{ __schema { types { name } } }", "mutation { deleteProduct(id: 1) { id } }"];
    for other in others {
        for body in [json!({"query": other}), by_hash(&hash, Some(other))] {
            for (media, status) in [(OLD, 400), (NEW, 400)] {
                let answer = front.post(media, &body).await;
                assert_eq!((answer.status, code(&answer)), (status, "PERSISTED_QUERY_ONLY"), "{body}");
            }
        }
        assert_eq!(code(&get(&front, &[("query", other)]).await), "PERSISTED_QUERY_ONLY");
        let batch = json!([{"documentId": "product", "variables": {"id": "1"}}, {"query": other}]);
        let answer = front.post(OLD, &batch).await;
        assert_eq!(answer.body[0], wanted, "a list is no way around the list");
        assert_eq!(answer.body[1]["errors"][0]["extensions"]["code"], "PERSISTED_QUERY_ONLY");
    }
    assert_eq!(shop.rows("products WHERE id = 1").await, 1, "nothing was done");
    front.ended().await;
    shop.close().await;
}

pub async fn an_operation_is_registered_by_its_first_caller(stage: Arc<Stage>) {
    let shop = Shop::open_with(&stage, "graphql.persisted.automatic = true").await;
    let front = Front::of(&shop).await;
    let hash = hash(PRODUCT);
    let unknown = front.post(OLD, &by_hash(&hash, None)).await;
    assert_eq!((unknown.status, code(&unknown)), (200, "PERSISTED_QUERY_NOT_FOUND"));
    assert_eq!(unknown.body["errors"][0]["message"], "PersistedQueryNotFound", "what clients look for");
    let unknown = front.post(NEW, &by_hash(&hash, None)).await;
    assert_eq!((unknown.status, code(&unknown)), (400, "PERSISTED_QUERY_NOT_FOUND"));
    let wrong = front.post(OLD, &by_hash(&hash, Some("{ __typename }"))).await;
    assert_eq!(code(&wrong), "BAD_USER_INPUT", "nobody registers under another's hash");
    for query in [Some(PRODUCT), None] {
        let answer = front.post(OLD, &by_hash(&hash, query)).await;
        assert_eq!(answer.body, json!({"data": {"product": {"id": "1"}}}), "{query:?}");
    }
    front.ended().await;
    shop.close().await;
}

pub async fn a_key_is_needed_for_what_is_guarded_on_every_way_of_asking(stage: Arc<Stage>) {
    let folder = tempfile::tempdir().expect("a folder");
    let guarded = include_str!("../../../fixtures/schemas/ecommerce/schema.graphql").replace(
        "type User @table(name: \"users\")",
        "type User @table(name: \"users\") @auth(requires: [STAFF])",
    );
    assert!(guarded.contains("@auth"), "the type is still called so");
    let schema = folder.path().join("schema.graphql");
    std::fs::write(&schema, guarded).expect("written");
    let key = |id: &str, role: &str| {
        format!("{{ id = \"{id}\", sha256 = \"{}\", roles = [\"{role}\"] }}", hash(&format!("key of {id}")))
    };
    let settings = format!(
        "graphql.schema = {:?}\ngraphql.max_batch = 2\nauth.api_keys = [{}, {}]",
        schema.display().to_string(),
        key("ada", "STAFF"),
        key("bob", "GUEST"),
    );
    let shop = Shop::open_with(&stage, &settings).await;
    let front = Front::of(&shop).await;
    let query = json!({"query": "{ products(limit: 1) { id } user(id: 1) { id } }"});
    let asked = async |media: &str, key: Option<&str>, body: &Value| {
        let request = front.client.post(front.url()).header("accept", media).json(body);
        read(match key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        })
        .await
    };
    for (key, status, wanted) in [
        (None, 401, "UNAUTHENTICATED"),
        (Some("key of bob"), 403, "FORBIDDEN"),
        (Some("key of eve"), 401, "UNAUTHENTICATED"),
        (Some("key of ada"), 200, ""),
    ] {
        let answer = asked(NEW, key, &query).await;
        assert_eq!((answer.status, code(&answer)), (status, wanted), "{key:?}: {}", answer.body);
        assert_eq!(answer.body.get("data").is_some(), status == 200, "{key:?}: {}", answer.body);
        if key != Some("key of eve") {
            let batch = asked(OLD, key, &json!([query, {"query": "{ __typename }"}])).await;
            let first = batch.body[0]["errors"][0]["extensions"]["code"].as_str().unwrap_or_default();
            assert_eq!((first, &batch.body[1]["data"]["__typename"]), (wanted, &json!("Query")), "{key:?}");
        }
    }
    // A header that anybody can write makes nobody.
    let spoofed = front.client.post(front.url()).header("accept", NEW).header("x-role", "STAFF").json(&query);
    assert_eq!(read(spoofed).await.status, 401);

    let events = "subscription { orderCreated { user { id } } }";
    let mut socket = Socket::ready(&front).await;
    socket.subscribe("1", events, json!({})).await;
    let Heard::Message(refused) = socket.hear().await else { panic!("the connection goes on") };
    assert_eq!(refused["type"], "error", "{refused}");
    assert_eq!(refused["payload"][0]["extensions"]["code"], "UNAUTHENTICATED", "{refused}");
    let mut stream = Stream::open(&front, events, json!({})).await;
    let (name, told) = stream.next().await.expect("an event");
    assert_eq!(
        (name.as_str(), &told["errors"][0]["extensions"]["code"]),
        ("next", &json!("UNAUTHENTICATED"))
    );
    // Pages cannot give a WebSocket headers: its first message shows the key.
    let init = async |payload: Value| {
        let mut socket = Socket::open(&front, "graphql-transport-ws").await;
        socket.say(json!({"type": "connection_init", "payload": payload})).await;
        socket
    };
    let mut socket = init(json!({"authorization": "Bearer key of ada"})).await;
    assert_eq!(socket.hear().await, Heard::Message(json!({"type": "connection_ack"})));
    socket.subscribe("1", "{ user(id: 1) { id } }", json!({})).await;
    assert_eq!(socket.data("1").await, json!({"user": {"id": "1"}}));
    assert_eq!(init(json!({"x-api-key": "key of eve"})).await.end().await, Heard::Closed(4403));
    front.ended().await;
    shop.close().await;
}

pub async fn a_list_of_operations_is_answered_by_a_list(stage: Arc<Stage>) {
    let shop = Shop::open_with(&stage, "graphql.max_batch = 3").await;
    let front = Front::of(&shop).await;
    let one = |id: u32| json!({"query": PRODUCT, "variables": {"id": id.to_string()}});
    let answer = front.post(OLD, &json!([one(1), {"query": "{"}, one(2)])).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body[0]["data"]["product"]["id"], "1");
    assert_eq!(answer.body[1]["errors"][0]["extensions"]["code"], "VALIDATION");
    assert_eq!(answer.body[2]["data"]["product"]["id"], "2");
    for (body, status) in
        [(json!([]), 400), (json!([one(1), one(1), one(1), one(1)]), 400), (json!([one(1), 7]), 400)]
    {
        assert_eq!(front.post(OLD, &body).await.status, status, "{body}");
    }
    front.ended().await;
    shop.close().await;
}

pub async fn answers_from_a_thousand_bytes_on_are_compressed(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let front = Front::of(&shop).await;
    // As it came over the wire.
    let client = reqwest::Client::builder().no_gzip().build().expect("a client");
    let ask = async |limit: u32, encoding: Option<&str>| {
        let body = json!({"query": "query ($n: Int!) { products(limit: $n) { id name price stock } }", "variables": {"n": limit}});
        let mut request = client.post(front.url()).json(&body);
        if let Some(encoding) = encoding {
            request = request.header("accept-encoding", encoding);
        }
        let answer = request.send().await.expect("an answer");
        let encoding =
            answer.headers().get("content-encoding").map(|value| value.to_str().expect("ASCII").to_owned());
        (encoding, answer.bytes().await.expect("a body"))
    };
    let gzip = Some("gzip".to_owned());
    let (encoding, plain) = ask(40, None).await;
    assert!(plain.len() >= 2_000 && encoding.is_none(), "{} bytes", plain.len());
    let (encoding, packed) = ask(40, Some("gzip")).await;
    assert_eq!(encoding, gzip);
    assert!(packed.starts_with(&[0x1f, 0x8b]) && packed.len() < plain.len());
    let (encoding, short) = ask(5, Some("gzip")).await;
    assert!(short.len() <= 500 && encoding.is_none(), "{encoding:?} of {} bytes", short.len());
    front.ended().await;
    shop.close().await;
}

pub async fn a_caller_who_leaves_takes_the_statement_along(stage: Arc<Stage>) {
    // Longer than any wait of this test: nothing but the caller's leaving ends the statement.
    let shop =
        Shop::open_with(&stage, "database.query_timeout = \"100s\"\nserver.request_timeout = \"100s\"").await;
    let front = Front::of(&shop).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'fraiseql-server'
        AND state = 'active' AND wait_event_type = 'Lock'";
    let mut holder = shop.sql().await;
    for statement in ["BEGIN", "UPDATE products SET name = name WHERE id = 1"] {
        sqlx::raw_sql(statement).execute(&mut holder).await.expect("locked");
    }
    let body = json!({"query": "mutation { updateProduct(id: 1, patch: {stock: 12345}) { id } }"});
    let caller = tokio::spawn(front.client.post(front.url()).json(&body).send());
    eventually("the statement waits", async || equal(shop.count(waiting).await, 1)).await;
    caller.abort();
    eventually("the statement is gone", async || equal(shop.count(waiting).await, 0)).await;
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.expect("let go");
    assert_eq!(shop.rows("products WHERE stock = 12345").await, 0, "what was given up was not done");
    let answer = front.post(OLD, &json!({"query": "{ product(id: 1) { id } }"})).await;
    assert_eq!(answer.body["data"]["product"]["id"], "1");
    front.ended().await;
    shop.close().await;
}

pub async fn a_server_without_a_schema_says_so(stage: Arc<Stage>) {
    let shop = Shop::open_with(&stage, "health.interval = \"20ms\"").await;
    let cut = shop.postgres.cut().await;
    let mut shop = shop.restart(|_| {}).await;
    let front = Front::of(&shop).await;
    let ready = async || {
        let url = format!("http://{}/ready", front.address);
        let answer = read(front.client.get(url)).await;
        (answer.status, answer.body)
    };
    let not_ready = json!({"status": "not_ready", "reason": "schema not loaded"});
    eventually("it is not ready, and says why", async || equal(ready().await, (503, not_ready.clone())))
        .await;
    let answer = front.post(OLD, &json!({"query": "{ __typename }"})).await;
    assert_eq!((answer.status, code(&answer)), (503, "UNAVAILABLE"));
    cut.heal().await;
    shop.start(&["schema", "postgres-pool"]);
    eventually("it is ready", async || equal(ready().await, (200, json!({"status": "ready"})))).await;
    front.ended().await;
    shop.close().await;
}

pub async fn the_page_for_trying_operations_needs_nothing_from_elsewhere(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let front = Front::of(&shop).await;
    let get = async |path: &str| {
        let url = format!("http://{}{path}", front.address);
        front.client.get(url).send().await.expect("an answer")
    };
    let page = get("/graphiql").await;
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().expect("ASCII").to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    let page = page.text().await.expect("a page");
    let script = get("/graphiql/script.js").await;
    assert_eq!(
        (script.status().as_u16(), &script.headers()["content-type"]),
        (200, &"text/javascript; charset=utf-8".parse().expect("a header"))
    );
    let script = script.text().await.expect("a script");
    for (name, text) in [("page", &page), ("script", &script)] {
        assert!(
            !text.contains("http://") && !text.contains("https://") && !text.contains("src=\"//"),
            "{name}"
        );
    }
    assert!(page.contains("src=\"/graphiql/script.js\""));
    // The question that the page asks for its list of fields.
    let query = script.split('`').nth(1).expect("the introspection query");
    let answer = front.post(OLD, &json!({"query": query})).await;
    assert!(answer.body["data"]["__schema"]["types"].is_array(), "{answer:?}");
    front.ended().await;
    shop.close().await;

    let shop = Shop::open_as(&stage, "", "production").await;
    let front = Front::of(&shop).await;
    let answer = read(front.client.get(format!("http://{}/graphiql", front.address))).await;
    assert_eq!(answer.status, 404, "not in production");
    front.ended().await;
    shop.close().await;
}
