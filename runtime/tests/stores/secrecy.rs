//! What a server writes while it serves, fails and ends: everything that an operator needs, and nothing of what callers said
//! about themselves.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sqlx::Executor;
use tokio::process::{Child, Command};

use crate::support::{Shop, Stage, eventually};

/// Part of everything that is planted, whatever its form.
const PLANTED: &str = "pLaNtEd";

const STREET: &str = "77 pLaNtEd Street";
const EMAIL: &str = "ann.pLaNtEd@mail.example";
const KEY: &str = "sk_live_pLaNtEd0123456789";
const CARD: &str = "4111 1111 1111 1111";

/// The binary over the shop's stores; what it writes goes to a file.
struct Program {
    child: Child,
    output: std::path::PathBuf,
    address: String,
    client: reqwest::Client,
}

impl Program {
    async fn start(shop: &Shop, folder: &Path) -> Self {
        let schema = shop.schema_file();
        let config = format!(
            "[server]\nbind_address = \"127.0.0.1:0\"\n[graphql]\nschema = {schema:?}\n[nats]\nstream = {stream:?}\n\
             subject_prefix = {stream:?}\n[queue]\nspool_dir = {spool:?}\npoll_interval = \"10ms\"\n\
             [outbox]\npoll_interval = \"10ms\"\n[database]\nquery_timeout = \"1s\"\n[auth]\n\
             api_keys = [{{ id = \"ci\", sha256 = \"{hash}\", roles = [] }}]\n",
            stream = shop.stream,
            spool = folder.join("spool"),
            hash = "0".repeat(64),
        );
        std::fs::write(folder.join("fraiseql.toml"), config).expect("written");
        let output = folder.join("output");
        let file = std::fs::File::create(&output).expect("a file");
        let database = &shop.postgres.through;
        let child = Command::new(env!("CARGO_BIN_EXE_fraiseql-server"))
            .current_dir(folder)
            .env("DATABASE_URL", database.as_str())
            .env("DATABASE_DIRECT_URL", database.as_str())
            .env("REDIS_URL", shop.redis.through.as_str())
            .env("NATS_URL", shop.nats.through.as_str())
            .env("RUST_LOG", "debug")
            .env("FRAISEQL_LOG_SLOW_QUERIES", "true")
            .stdout(Stdio::from(file.try_clone().expect("a second handle")))
            .stderr(Stdio::from(file))
            .kill_on_drop(true)
            .spawn()
            .expect("the binary runs");
        let mut program = Self { child, output, address: String::new(), client: reqwest::Client::new() };
        program.address = eventually("it listens", async || {
            let line = program.lines().into_iter().find(|line| line["message"] == "listening");
            line.and_then(|line| line["address"].as_str().map(str::to_owned)).ok_or_else(|| program.text())
        })
        .await;
        eventually("it is ready", async || {
            let url = format!("http://{}/ready", program.address);
            match program.client.get(url).send().await {
                Ok(answer) if answer.status() == 200 => Ok(()),
                answer => Err(format!("{answer:?}")),
            }
        })
        .await;
        program
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.output).expect("the output")
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn says(&self, message: &str) -> bool {
        self.lines().iter().any(|line| line["message"] == message)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> String {
        request.send().await.expect("an answer").text().await.expect("a body")
    }

    async fn ask(&self, query: &str, variables: Value) -> String {
        let url = format!("http://{}/graphql?token={KEY}", self.address);
        self.send(self.client.post(url).json(&json!({ "query": query, "variables": variables }))).await
    }

    async fn ended(mut self) -> String {
        let pid = i32::try_from(self.child.id().expect("it runs")).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it is ours");
        assert!(self.child.wait().await.expect("it ends").success(), "{}", self.text());
        self.text()
    }
}

pub async fn nothing_that_callers_say_is_in_the_output_of_a_whole_run(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::start(&shop, folder.path()).await;

    let create = "mutation($input: OrderInput!) { createOrder(input: $input) { id shippingAddress } }";
    let order = |user: &str, product: &str| {
        json!({ "input": {
            "userId": user,
            "items": [{ "productId": product, "quantity": 1 }],
            "shippingAddress": { "street": STREET, "city": PLANTED, "zip": CARD },
            "idempotencyKey": format!("{KEY}-{user}-{product}"),
        } })
    };
    let placed = program.ask(create, order("1", "1")).await;
    assert!(placed.contains(STREET), "the address is kept: {placed}");
    // Refused by the schema, by the database, by a function and by a constraint that repeats the value.
    let refused = [
        program.ask(create, order("999999", "1")).await,
        program.ask(create, order("1", "999999")).await,
        program.ask(create, order(PLANTED, PLANTED)).await,
        program.ask(&format!("{{ order(id: \"{PLANTED}\") {{ id }} }}"), json!({})).await,
        program.ask(&format!("{{ {PLANTED} }}"), json!({})).await,
        program.ask(&format!("{{ products(limit: \"{EMAIL}\") {{ id }} }}"), json!({})).await,
        program.ask(&format!("query {{ broken \"{KEY}\""), json!({})).await,
    ];
    for answer in &refused {
        assert!(answer.contains("\"errors\""), "{answer}");
    }
    let user = "mutation($input: UserInput!) { createUser(input: $input) { id } }";
    let input = json!({ "input": { "name": PLANTED, "email": EMAIL } });
    assert!(!program.ask(user, input.clone()).await.contains("errors"));
    assert!(program.ask(user, input).await.contains("errors"), "the address is taken");
    program
        .ask("query($email: String!) { userByEmail(email: $email) { name } }", json!({ "email": EMAIL }))
        .await;

    // Headers, paths and bodies of a caller's choice.
    let url = |path: &str| format!("http://{}{path}", program.address);
    let get = |path: &str| program.client.get(url(path));
    program.send(get(&format!("/{PLANTED}?code={KEY}")).header("x-request-id", PLANTED)).await;
    program.send(get("/graphql?query={__typename}").bearer_auth(KEY)).await;
    program.send(get("/graphql?query={__typename}").header("x-api-key", KEY)).await;
    program.send(program.client.post(url("/graphql")).body(format!("{{\"password\":\"{PLANTED}"))).await;
    let json = program.client.post(url("/graphql")).header("content-type", "application/json");
    program.send(json.body(format!("{{\"query\": 7, \"{EMAIL}\": \"{CARD}\"}}"))).await;

    // A statement that waits for a lock is slow, and one that waits for longer is given up.
    let mut holder = shop.sql().await;
    holder.execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    let by_email = "query($email: String!) { userByEmail(email: $email) { id } }";
    assert!(program.ask(by_email, json!({ "email": EMAIL })).await.contains("TIMEOUT"));
    holder.execute("ROLLBACK").await.expect("unlocked");
    // A defect, and a database that is away.
    holder.execute("ALTER TABLE users RENAME TO users_away").await.expect("renamed");
    assert!(program.ask(by_email, json!({ "email": EMAIL })).await.contains("INTERNAL"));
    holder.execute("ALTER TABLE users_away RENAME TO users").await.expect("renamed");
    let cut = shop.postgres.cut().await;
    assert!(program.ask(create, order("1", "2")).await.contains("errors"));
    cut.heal().await;

    eventually("it was all said", async || {
        for message in ["slow query", "operation failed", "operation refused", "security event", "close"] {
            if !program.says(message) {
                return Err(format!("{message:?} was not said"));
            }
        }
        Ok(())
    })
    .await;
    let lines = program.lines();
    let slow = lines.iter().find(|line| line["message"] == "slow query").expect("it was said");
    assert!(slow["statement"].as_str().is_some_and(|text| text.contains("\"users\"")), "{slow}");
    assert!(slow["duration_ms"].as_f64().is_some_and(|took| took >= 100.0), "{slow}");

    let text = program.ended().await;
    let password = shop.postgres.through.password().expect("the stage's database has one");
    let told = |line: &str| {
        let planted = [CARD, EMAIL, password].iter().any(|secret| line.contains(secret));
        planted || line.to_lowercase().contains(&PLANTED.to_lowercase())
    };
    let leaks: Vec<&str> = text.lines().filter(|line| told(line)).collect();
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    assert!(text.lines().count() > 50, "much was said");
    shop.close().await;
}
