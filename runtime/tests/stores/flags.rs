//! Flags in the database: every server sees them, whoever changes them, and nobody loses a change.

use std::sync::Arc;

use fraiseql_runtime::engine::Request;
use fraiseql_runtime::feature_flags::store::Expected;
use fraiseql_runtime::feature_flags::{FeatureFlag, FeatureFlagProvider};
use fraiseql_runtime::observability::health::HealthChecker;
use fraiseql_runtime::security::guard::Caller;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::http::{Answer, read};
use crate::support::{Front, Replica, Shop, Stage, equal, eventually};

fn flag(name: &str) -> FeatureFlag {
    FeatureFlag { name: name.to_owned(), enabled: true, ..FeatureFlag::default() }
}

/// A setting for keys: the key is the name.
pub fn keys(callers: &[(&str, &str)]) -> String {
    let key = |(id, role): &(&str, &str)| {
        let hash: String = Sha256::digest(id.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{{ id = {id:?}, sha256 = {hash:?}, roles = [{role:?}] }}")
    };
    format!("auth.api_keys = [{}]", callers.iter().map(key).collect::<Vec<_>>().join(", "))
}

/// Asks a route as the caller with this key.
pub async fn asked(
    front: &Front,
    key: Option<&str>,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let url = format!("http://{}{path}", front.address);
    let mut request = front.client.request(method.parse().expect("a method"), url);
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    read(request).await
}

/// Runs the server's binary over the shop's database.
pub async fn command(shop: &Shop, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("fraiseql.toml");
    std::fs::write(&config, "").expect("written");
    let (area, rest) = arguments.split_first().expect("a command");
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_fraiseql-server"))
        .args([area.as_ref(), "--config".as_ref(), config.as_os_str()])
        .args(rest)
        .env("DATABASE_URL", shop.postgres_direct.as_str())
        .env("REDIS_URL", "redis://127.0.0.1:1")
        .env("NATS_URL", "nats://127.0.0.1:1")
        .env("USER", "olga")
        .output()
        .await
        .expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

pub async fn a_database_that_nobody_migrated_leaves_every_flag_off_and_breaks_nothing(stage: Arc<Stage>) {
    let mut shop = Shop::open_with(&stage, "feature_flags.poll_interval = \"10ms\"").await;
    shop.start(&["feature-flags", "flag-changes", "rollouts", "rollout-leader"]);
    eventually("it was tried", async || match shop.metric("feature_flag_load_failures_total") {
        failures if failures >= 2.0 => Ok(()),
        failures => Err(failures.to_string()),
    })
    .await;
    assert!(!shop.state.flags.service.is_on("anything", Some("ada")));
    let mut checks = HealthChecker::new("1");
    shop.state.add_health_checks(&mut checks);
    assert_eq!(checks.run().await.status, "healthy", "flags are no dependency");
    let refused =
        shop.state.flags.put(&flag("new"), Expected::Any, "ada").await.expect_err("there is no table");
    assert!(refused.to_string().contains("fraiseql-server migrate"), "{refused}");

    shop.migrate_own().await;
    shop.state.flags.put(&flag("new"), Expected::Any, "ada").await.expect("there are tables now");
    assert!(shop.state.flags.service.is_on("new", None));
    shop.close().await;
}

pub async fn a_change_on_one_server_is_seen_by_the_others_and_after_a_restart(stage: Arc<Stage>) {
    for (how, interval, workers) in [
        ("the poll", "10ms", &["feature-flags"][..]),
        ("the word of the database", "1h", &["feature-flags", "flag-changes"]),
    ] {
        let mut shop = Shop::open_with(&stage, &format!("feature_flags.poll_interval = {interval:?}")).await;
        shop.migrate_own().await;
        let mut other = Replica::beside(&shop).await;
        shop.start(workers);
        other.start(workers);
        let seen = async |wanted: Option<bool>| {
            eventually(how, async || equal(other.state.flags.service.ask("beta", Some("ada")), wanted)).await;
        };
        let flags = &shop.state.flags;
        flags.put(&flag("beta"), Expected::Absent, "ada").await.expect("made");
        assert!(flags.service.is_on("beta", None), "it holds here at once");
        seen(Some(true)).await;
        flags.turn_off("beta").await.expect("off");
        seen(Some(false)).await;
        FeatureFlagProvider::set_users(flags, "beta", &["ada".to_owned()]).await.expect("set");
        seen(Some(true)).await;
        flags.delete("beta", Expected::Any, "ada").await.expect("deleted");
        seen(None).await;
        other.state.flags.set_percentage("beta", 100).await.expect("made on the other");
        eventually(how, async || equal(shop.state.flags.service.ask("beta", Some("ada")), Some(true))).await;
        // A server that starts anew knows it too.
        let shop = shop.restart(|_| ()).await;
        assert_eq!(shop.state.flags.service.ask("beta", Some("ada")), None, "nothing is read yet");
        shop.state.flags.load().await;
        assert_eq!(shop.state.flags.service.ask("beta", Some("ada")), Some(true));
        other.close().await;
        shop.close().await;
    }
}

pub async fn a_database_that_is_away_leaves_the_flags_as_they_were(stage: Arc<Stage>) {
    let mut shop = Shop::open_with(&stage, "feature_flags.poll_interval = \"10ms\"").await;
    shop.migrate_own().await;
    shop.state.flags.put(&flag("kept"), Expected::Any, "ada").await.expect("made");
    shop.start(&["feature-flags", "flag-changes"]);
    let cut = shop.postgres.cut().await;
    let before = shop.metric("feature_flag_load_failures_total");
    eventually("it was tried in vain", async || match shop.metric("feature_flag_load_failures_total") {
        failures if failures > before + 1.0 => Ok(()),
        failures => Err(failures.to_string()),
    })
    .await;
    assert!(shop.state.flags.service.is_on("kept", None));
    shop.run("UPDATE fraiseql.flags SET enabled = false").await;
    cut.heal().await;
    eventually("it is read again", async || equal(shop.state.flags.service.is_on("kept", None), false)).await;
    shop.close().await;
}

pub async fn who_changes_an_older_version_is_refused_and_edits_at_once_are_all_kept(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    shop.migrate_own().await;
    let store = &shop.state.flags.store;
    let first = store.put(&flag("many"), Expected::Absent, "ada").await.expect("made");
    store.put(&flag("many"), Expected::Absent, "bob").await.expect_err("it is there");
    let second = store.put(&flag("many"), Expected::Version(first.version), "bob").await.expect("changed");
    store.put(&flag("many"), Expected::Version(first.version), "cy").await.expect_err("an older version");
    store.delete("many", Expected::Version(first.version), "cy").await.expect_err("an older version");
    assert_eq!(store.get("many").await.expect("read"), Some(second));

    let edits = (0..12).map(|n| async move {
        store.edit("many", "dan", |flag| flag.user_denylist.extend([format!("user-{n}")])).await
    });
    for edited in futures::future::join_all(edits).await {
        edited.expect("kept");
    }
    let denied = store.get("many").await.expect("read").expect("there").flag.user_denylist;
    assert_eq!(denied.len(), 12, "{denied:?}");

    store.delete("many", Expected::Any, "eve").await.expect("deleted");
    let again = store.put(&flag("many"), Expected::Absent, "fay").await.expect("made again");
    assert!(again.version > first.version + 12, "no version is used twice");
    // Whoever changed what is kept, with what was there before.
    let history = store.history("many").await.expect("read");
    let kept: Vec<_> =
        history.iter().map(|one| (one.actor.as_str(), one.before.is_some(), one.after.is_some())).collect();
    assert_eq!(kept.len(), 1 + 1 + 12 + 1 + 1);
    assert_eq!(kept[..2], [("fay", false, true), ("eve", true, false)]);
    assert_eq!(kept[14..], [("bob", true, true), ("ada", false, true)]);
    for (newer, older) in history.iter().zip(&history[1..]) {
        assert_eq!(newer.before, older.after, "each change begins where the one before it ended");
    }
    shop.close().await;
}

pub async fn administrators_read_and_change_flags_and_nobody_else_does(stage: Arc<Stage>) {
    let shop = Shop::open_with(&stage, &keys(&[("root", "ADMIN"), ("vera", "VIEWER")])).await;
    shop.migrate_own().await;
    let front = Front::of(&shop).await;
    let code = |answer: &Answer| answer.body["error"]["code"].as_str().unwrap_or_default().to_owned();
    let good = json!({"percentage": 25, "user_allowlist": ["bob", "ada"], "description": "the new way"});
    let routes = [
        ("GET", "/admin/flags", None),
        ("GET", "/admin/flags/new", None),
        ("PUT", "/admin/flags/new", Some(good.clone())),
        ("PUT", "/admin/flags/new/percentage", Some(json!({"percentage": 50}))),
        ("GET", "/admin/flags/new/history", None),
        ("DELETE", "/admin/flags/new", None),
        ("GET", "/admin/rollouts", None),
        ("POST", "/admin/rollouts", Some(json!({"flag": "new"}))),
        ("GET", "/admin/rollouts/new", None),
        ("GET", "/admin/rollouts/new/history", None),
        ("POST", "/admin/rollouts/new/advance", None),
        ("POST", "/admin/rollouts/new/rollback", None),
    ];
    for (method, path, body) in routes {
        for (key, status, expected) in [
            (None, 401, "UNAUTHENTICATED"),
            (Some("nobody"), 401, "UNAUTHENTICATED"),
            (Some("vera"), 403, "FORBIDDEN"),
        ] {
            let answer = asked(&front, key, method, path, body.clone()).await;
            assert_eq!(
                (answer.status, code(&answer).as_str()),
                (status, expected),
                "{method} {path} {key:?}"
            );
        }
    }
    assert_eq!(shop.rows("fraiseql.flag_history").await, 0, "nothing was changed");

    let root = async |method: &str, path: &str, body: Option<Value>| {
        asked(&front, Some("root"), method, path, body).await
    };
    let made = root("PUT", "/admin/flags/new", Some(good)).await;
    assert_eq!(
        (made.status, &made.body["name"], &made.body["changed_by"]),
        (200, &json!("new"), &json!("root"))
    );
    assert_eq!(made.body["user_allowlist"], json!(["ada", "bob"]), "in order");
    assert!(shop.state.flags.service.is_on("new", Some("bob")), "it holds at once");
    let read = root("GET", "/admin/flags/new", None).await;
    assert_eq!((read.status, &read.body), (200, &made.body));
    // What was read can be sent back, changed, and is refused when somebody else was faster.
    let mut older = read.body.clone();
    older["enabled"] = json!(true);
    assert_eq!(root("PUT", "/admin/flags/new", Some(older.clone())).await.status, 200);
    let refused = root("PUT", "/admin/flags/new", Some(older)).await;
    assert_eq!((refused.status, code(&refused).as_str()), (412, "PRECONDITION_FAILED"));
    let percentage = root("PUT", "/admin/flags/new/percentage", Some(json!({"percentage": 50}))).await;
    assert_eq!((percentage.status, &percentage.body["percentage"]), (200, &json!(50)));
    for (path, body, told) in [
        ("/admin/flags/new", json!({"percentage": 101}), "percentage is 101: it must be 0 to 100"),
        ("/admin/flags/new", json!({"name": "other"}), "name is \"other\": it must be \"new\""),
        ("/admin/flags/a b", json!({}), "name is \"a b\""),
        ("/admin/flags/new", json!({"percent": 5}), "unknown field `percent`"),
        (
            "/admin/flags/new",
            json!({"start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-01T00:00:00Z"}),
            "end_time is",
        ),
        ("/admin/flags/new/percentage", json!({"percentage": 200}), "percentage is 200"),
    ] {
        let answer = root("PUT", path, Some(body)).await;
        let message = answer.body["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.status, code(&answer).as_str()), (400, "BAD_USER_INPUT"), "{message}");
        assert!(message.contains(told), "{message}");
    }
    assert_eq!(root("GET", "/admin/flags/none", None).await.status, 404);
    assert_eq!(root("PUT", "/admin/flags/none/percentage", Some(json!({"percentage": 5}))).await.status, 404);
    let all = root("GET", "/admin/flags", None).await;
    assert_eq!(all.body["flags"].as_array().map(Vec::len), Some(1));
    let history = root("GET", "/admin/flags/new/history", None).await;
    let actors: Vec<_> =
        history.body["changes"].as_array().expect("changes").iter().map(|one| &one["actor"]).collect();
    assert_eq!(actors, [&json!("root"); 3]);
    assert_eq!(root("DELETE", "/admin/flags/new", None).await.status, 204);
    assert_eq!(root("DELETE", "/admin/flags/new", None).await.status, 404);
    assert!(!shop.state.flags.service.is_on("new", Some("bob")));
    front.ended().await;
    shop.close().await;
}

pub async fn the_commands_change_the_flags_of_the_database(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let flags = async |arguments: &[&str]| command(&shop, &[&["flags"], arguments].concat()).await;
    let (status, _, said) = flags(&["list"]).await;
    assert_eq!(status, Some(1));
    assert!(said.contains("run `fraiseql-server migrate`"), "{said}");
    shop.migrate_own().await;

    let (status, out, said) =
        flags(&["set", "new", "--percentage", "25", "--allow", "bob,ada", "--json"]).await;
    assert_eq!(status, Some(0), "{said}");
    let made: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&made["percentage"], &made["user_allowlist"]), (&json!(25), &json!(["ada", "bob"])));
    assert_eq!(made["changed_by"], "cli:olga");
    let (status, out, _) = flags(&["get", "new"]).await;
    assert_eq!(status, Some(0));
    assert!(out.starts_with("new: 25 %, 2 allowed (version "), "{out}");
    let version = made["version"].to_string();
    assert_eq!(flags(&["enable", "new", "--if-version", &version]).await.0, Some(0));
    let (status, _, said) = flags(&["disable", "new", "--if-version", &version]).await;
    assert_eq!(status, Some(1));
    assert!(said.contains("is not in the version that was given"), "{said}");
    shop.state.flags.load().await;
    assert!(shop.state.flags.service.is_on("new", None));
    assert_eq!(flags(&["disable", "new"]).await.0, Some(0));
    shop.state.flags.load().await;
    let on = [None, Some("ada")].map(|user| shop.state.flags.service.is_on("new", user));
    assert_eq!(on, [false, false], "off for those in the list too");
    for (arguments, code, told) in [
        (&["get", "none"][..], 1, "there is no flag \"none\""),
        (&["set", "a b"], 1, "name is \"a b\""),
        (&["set", "new", "--percentage", "101"], 2, "101 is not in 0..=100"),
        (&["set", "new", "--start-time", "soon"], 2, "2026-12-24T18:00:00Z"),
        (&["delete", "none"], 1, "there is no flag \"none\""),
    ] {
        let (status, _, said) = flags(arguments).await;
        assert!(status == Some(code) && said.contains(told), "{arguments:?}: {status:?} {said}");
    }
    let (_, out, _) = flags(&["list", "--json"]).await;
    let all: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(all["flags"].as_array().map(Vec::len), Some(1));
    assert_eq!(flags(&["delete", "new"]).await.0, Some(0));
    let (_, out, _) = flags(&["history", "new"]).await;
    let history: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(history["changes"].as_array().map(Vec::len), Some(4));
    shop.close().await;
}

/// Two ways to greet, the second behind a flag, and one to change.
pub const FUNCTIONS: &str = "
    CREATE FUNCTION greet(name text) RETURNS text STABLE LANGUAGE sql RETURN 'hello ' || name;
    CREATE FUNCTION greet_v2(name text) RETURNS text STABLE LANGUAGE sql RETURN 'good day ' || name;
    CREATE FUNCTION add_category(name text) RETURNS int LANGUAGE sql RETURN 1;
    CREATE FUNCTION add_category_v2(name text) RETURNS int LANGUAGE sql RETURN 2;";

const GREETING: &str = "
    extend type Query { greeting(name: String!): String! @function(name: \"greet\") @behind(flag: \"politeness\", function: \"greet_v2\") }
    extend type Mutation { addCategory(name: String!): Int! @function(name: \"add_category\") @behind(flag: \"politeness\", function: \"add_category_v2\") }";

/// Has the shop serve the greeting besides.
pub async fn with_greeting(shop: &Shop) {
    shop.run(FUNCTIONS).await;
    let file = shop.schema_file();
    let mut text = std::fs::read_to_string(&file).expect("the schema");
    for (root, line) in ["type Query", "type Mutation"].iter().zip(GREETING.trim().lines()) {
        let begin = text.find(root).expect("the root");
        let at = begin + text[begin..].find('{').expect("its fields") + 1;
        let field = &line[line.find('{').expect("a field") + 1..line.rfind('}').expect("its end")];
        text.insert_str(at, &format!("\n {field}\n"));
    }
    std::fs::write(&file, text).expect("written");
    shop.state.served.load().await.expect("it fits the database");
}

/// Asks for the greeting as this caller.
pub async fn greeting(shop: &Shop, caller: &Caller, query: &str) -> Value {
    let engine = shop.state.served.current().expect("served");
    let request = Request { query: query.to_owned(), ..Request::default() };
    serde_json::from_slice(&engine.execute_as(&request, caller).await.body).expect("JSON")
}

pub async fn a_field_behind_a_flag_asks_the_function_that_the_flag_says(stage: Arc<Stage>) {
    let shop = Shop::with_own_schema(&stage).await;
    shop.migrate_own().await;
    with_greeting(&shop).await;
    let (ada, bob) = (Caller::known("ada", [""]), Caller::known("bob", [""]));
    let ask =
        async |caller: &Caller, operation: &str| greeting(&shop, caller, operation).await["data"].clone();
    let query = "{ a: greeting(name: \"you\") b: greeting(name: \"all\") products(limit: 1) { id } }";
    let greeted = async |caller: &Caller| ask(caller, query).await["a"].clone();
    let change = "mutation { addCategory(name: \"x\") }";
    assert_eq!(greeted(&ada).await, "hello you", "an unknown flag is off");
    let flags = &shop.state.flags;
    FeatureFlagProvider::set_users(flags, "politeness", &["ada".to_owned()]).await.expect("set");
    assert_eq!(
        [greeted(&ada).await, greeted(&bob).await],
        ["good day you", "hello you"],
        "by the caller, of one plan"
    );
    let changed = [ask(&ada, change).await, ask(&bob, change).await];
    assert_eq!(changed, [json!({"addCategory": 2}), json!({"addCategory": 1})]);
    flags.set_percentage("politeness", 100).await.expect("set");
    let nobody = Caller::Anonymous;
    assert_eq!([greeted(&bob).await, greeted(&nobody).await], ["good day you", "hello you"]);
    flags.turn_off("politeness").await.expect("off");
    assert_eq!(greeted(&ada).await, "hello you");
    // Each root field is a request of its own side.
    let text = shop.metric("feature_flag_evaluations_total{flag=\"politeness\",result=\"on\"}");
    assert!(text >= 5.0, "{text}");
    shop.close().await;
}
