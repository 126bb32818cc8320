//! Rollouts over several servers: one leads, anybody may take it back, and what callers meet decides.

use std::sync::Arc;

use fraiseql_runtime::feature_flags::FeatureFlagProvider;
use fraiseql_runtime::feature_flags::cohorts::{BUCKETS, Sample, Side};
use fraiseql_runtime::migration::rollout::machine::{Status, percentage};
use fraiseql_runtime::migration::rollout::store::Stored;
use fraiseql_runtime::migration::rollout::{Error, Plan, Rollouts};
use fraiseql_runtime::migration::strategy::MigrationPhase;
use fraiseql_runtime::security::guard::Caller;
use serde_json::{Value, json};

use crate::flags::{asked, command, greeting, keys, with_greeting};
use crate::support::{Front, Replica, Shop, Stage, equal, eventually};

const FEATURE: &str = "politeness";

/// A plan whose looks do not wait; a test says the rest.
fn plan(more: Value) -> Plan {
    let mut plan = json!({
        "flag": FEATURE, "canary_users": ["ada"], "canary_watch": "0s", "samples_min": 1, "poll_interval": "10ms",
        "p99_threshold_ms": 60_000.0, "control_factor": 1_000.0, "window": "50m",
    });
    for (key, value) in more.as_object().expect("an object") {
        plan[key] = value.clone();
    }
    Plan::parse(plan.to_string().as_bytes()).expect("a plan")
}

fn schedule(steps: &[(u8, &str)]) -> Value {
    steps.iter().map(|(percentage, watch)| json!({"percentage": percentage, "watch": watch})).collect()
}

/// Requests as a server counts them.
fn side(on: bool, requests: u64, failures: u64) -> Side {
    let mut buckets = vec![0; BUCKETS];
    buckets[20] = requests;
    Side { flag: FEATURE.to_owned(), on, sample: Sample { requests, failures, buckets } }
}

async fn healthy(rollouts: &Rollouts) {
    rollouts.samples.add(&[side(false, 10, 0), side(true, 10, 0)]).await.expect("added");
}

async fn stored(rollouts: &Rollouts) -> Stored {
    rollouts.store.get(FEATURE).await.expect("there is one")
}

/// Waits until the rollout is so, while healthy requests are counted.
async fn reached(rollouts: &Rollouts, what: &str, is: impl Fn(&Stored) -> bool) -> Stored {
    eventually(what, async || {
        healthy(rollouts).await;
        let stored = stored(rollouts).await;
        if is(&stored) { Ok(stored) } else { Err(format!("{stored:?}")) }
    })
    .await
}

fn watches(to: u8) -> impl Fn(&Stored) -> bool {
    move |stored| stored.rollout.step.is_some_and(|step| step.to == to)
}

pub async fn a_leader_that_dies_is_followed_and_the_step_goes_on_where_it_was(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    shop.migrate_own().await;
    let (mut first, mut second) = (Replica::beside(&shop).await, Replica::beside(&shop).await);
    first.start(&["rollout-leader"]);
    let leads = async |replica: &Replica| {
        eventually("it leads", async || {
            let text = replica.metrics.classic();
            if text.contains("rollout_leader 1") { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
    };
    leads(&first).await;
    second.start(&["rollout-leader", "flag-changes"]);
    let rollouts = &shop.state.rollouts;
    let steps = schedule(&[(10, "0s"), (25, "0s"), (50, "40m"), (100, "0s")]);
    rollouts.start(plan(json!({ "schedule": steps })), "olga").await.expect("started");
    let before = reached(rollouts, "it watches 50 %", watches(50)).await;
    assert_eq!(before.rollout.phase, MigrationPhase::Rollout { percentage: 25 });
    assert_eq!(before.token, 1);
    shop.state.flags.load().await;
    assert_eq!(shop.state.flags.service.flag(FEATURE).expect("made").percentage, 50);
    assert!(second.metrics.classic().contains("rollout_leader 0"), "one leads");

    // The lock goes with the session of the dead.
    first.kill();
    leads(&second).await;
    let now = stored(rollouts).await;
    assert_eq!(now, Stored { now: now.now, ..before.clone() }, "it stands as it stood");
    // The forty minutes are over.
    shop.run("UPDATE fraiseql.rollouts SET step_until = now()").await;
    let after =
        reached(rollouts, "it is everywhere", |stored| stored.rollout.status == Status::Waiting).await;
    assert_eq!((after.rollout.phase, after.token), (MigrationPhase::Cleanup, 2));
    let events: Vec<String> = rollouts
        .store
        .history(FEATURE)
        .await
        .expect("read")
        .into_iter()
        .rev()
        .map(|event| event.event)
        .collect();
    let steps = ["step_began", "step_passed"].repeat(4);
    let expected =
        [&["started", "deployed", "migrated", "canary_began", "canary_passed"][..], &steps].concat();
    let events: Vec<&str> = events.iter().map(String::as_str).filter(|event| *event != "waits").collect();
    assert_eq!(events, expected, "no step was taken twice");
    second.close().await;
    shop.close().await;
}

pub async fn a_leader_that_is_none_any_more_writes_nothing(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    shop.migrate_own().await;
    let other = Replica::beside(&shop).await;
    let rollouts = &shop.state.rollouts;
    let url = shop.postgres_direct.as_str();
    rollouts.start(plan(json!({ "canary_watch": "40m" })), "olga").await.expect("started");
    let mut deposed = rollouts.campaign(url).await.expect("nobody else leads");
    healthy(rollouts).await;
    deposed.look(rollouts).await.expect("it leads");
    let watched = stored(rollouts).await;
    assert_eq!((watched.rollout.phase, watched.token), (MigrationPhase::Canary, deposed.token));

    // Its session is ended by the database, and it does not know.
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()";
    shop.run(ended).await;
    let mut leader = other.state.rollouts.campaign(url).await.expect("the lock is free");
    assert_eq!(leader.token, deposed.token + 1);
    let change = watched.rollout.rollback("a step of the deposed", false).expect("any change");
    let refused = rollouts.store.change(watched.version, &change, Some(deposed.token), "leader").await;
    assert_eq!(refused, Ok(None));
    let now = stored(rollouts).await;
    assert_eq!(now, Stored { now: now.now, ..watched.clone() }, "nothing was written");
    shop.state.flags.load().await;
    assert_eq!(shop.state.flags.service.ask(FEATURE, Some("ada")), Some(true), "and the flag is as it was");
    deposed.look(rollouts).await.expect_err("it finds out at its next look");
    leader.look(&other.state.rollouts).await.expect("it leads");
    let changed =
        rollouts.store.change(watched.version, &change, Some(leader.token), "leader").await.expect("asked");
    assert_eq!(changed.map(|stored| stored.token), Some(leader.token));
    other.close().await;
    shop.close().await;
}

/// What is left of a rollout, without what differs from run to run.
async fn state(shop: &Shop) -> Value {
    let mut report =
        serde_json::to_value(shop.state.rollouts.report_of(FEATURE).await.expect("there is one"))
            .expect("JSON");
    let fields = report.as_object_mut().expect("an object");
    for field in ["plan", "gate", "changed_at"] {
        fields.remove(field);
    }
    let mut flag = shop.state.flags.store.get(FEATURE).await.expect("read").expect("made").json();
    let fields = flag.as_object_mut().expect("an object");
    for field in ["version", "changed_at"] {
        fields.remove(field);
    }
    json!({ "rollout": report, "flag": flag })
}

pub async fn a_rollback_on_another_server_interrupts_a_step_and_can_be_repeated(stage: Arc<Stage>) {
    let mut shop = Shop::open_with(&stage, "feature_flags.poll_interval = \"1h\"").await;
    shop.migrate_own().await;
    let mut leader = Replica::beside(&shop).await;
    leader.start(&["rollout-leader", "flag-changes", "feature-flags"]);
    shop.start(&["flag-changes", "feature-flags"]);
    // Whatever was said about the flag by hand is off then too.
    let steps = schedule(&[(10, "0s"), (50, "40m"), (100, "0s")]);
    let rollouts = &shop.state.rollouts;
    rollouts.start(plan(json!({ "schedule": steps })), "olga").await.expect("started");
    reached(rollouts, "it watches 50 %", watches(50)).await;
    shop.state.flags.edit(FEATURE, "olga", |flag| flag.enabled = true).await.expect("set");

    let version = stored(rollouts).await.version;
    let both =
        futures::join!(rollouts.rollback(FEATURE, false, "olga"), rollouts.rollback(FEATURE, false, "olga"));
    both.0.expect("off");
    both.1.expect("off");
    eventually("it is off where it was turned on", async || {
        let service = &leader.state.flags.service;
        equal([None, Some("ada")].map(|user| service.ask(FEATURE, user)), [Some(false); 2])
    })
    .await;
    insta::assert_json_snapshot!("state_after_a_rollback", state(&shop).await);
    rollouts.rollback(FEATURE, false, "olga").await.expect("it can be repeated");
    assert_eq!(state(&shop).await["rollout"]["status"], "rolled_back");
    assert!(stored(rollouts).await.version > version);

    // The leader leaves it alone, and it can begin again.
    let manual = plan(json!({ "manual": true }));
    rollouts.start(manual, "olga").await.expect("started again");
    let begun = stored(rollouts).await;
    assert_eq!((begun.rollout.phase, begun.rollout.status), (MigrationPhase::Deploy, Status::Waiting));
    leader.close().await;
    shop.close().await;
}

/// A shop with the greeting, its leader and its workers.
async fn served(stage: &Stage) -> Shop {
    let mut shop = Shop::with_own_schema(stage).await;
    shop.migrate_own().await;
    with_greeting(&shop).await;
    shop.start(&["flag-changes", "feature-flags", "rollouts", "rollout-leader"]);
    shop
}

const GREETING: &str = "{ greeting(name: \"you\") }";

pub async fn a_bad_version_is_turned_off_by_what_its_callers_meet(stage: Arc<Stage>) {
    let shop = Box::pin(served(&stage)).await;
    // On our side: nobody could have asked otherwise.
    shop.run(
        "CREATE OR REPLACE FUNCTION greet_v2(name text) RETURNS text STABLE LANGUAGE plpgsql AS \
         $$ BEGIN RAISE 'out of everything' USING ERRCODE = 'XX000'; END $$",
    )
    .await;
    let rollouts = &shop.state.rollouts;
    rollouts.start(plan(json!({ "canary_watch": "40m" })), "olga").await.expect("started");
    let (ada, bob) = (Caller::known("ada", [""]), Caller::known("bob", [""]));
    let failed = std::sync::atomic::AtomicU32::new(0);
    eventually("the canary is taken back", async || {
        for caller in [&ada, &bob] {
            let answer = greeting(&shop, caller, GREETING).await;
            if answer.get("errors").is_some() {
                assert_eq!(caller, &ada, "only the canary meets it: {answer}");
                failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        equal(stored(rollouts).await.rollout.status, Status::RolledBack)
    })
    .await;
    assert!(failed.load(std::sync::atomic::Ordering::Relaxed) > 0, "somebody had to meet it");
    eventually("ada is served as before", async || {
        equal(greeting(&shop, &ada, GREETING).await, json!({"data": {"greeting": "hello you"}}))
    })
    .await;
    let mut state = state(&shop).await;
    let reason = state["rollout"]["reason"].take();
    let told = reason.as_str().unwrap_or_default();
    assert!(told.starts_with("Health check failed in phase: canary: error_rate is "), "{told}");
    insta::assert_json_snapshot!("state_after_a_bad_version", state);
    assert_eq!(shop.metric("rollout_rollbacks_total{cause=\"gate\"}"), 1.0);
    shop.close().await;
}

pub async fn a_good_version_comes_to_everybody(stage: Arc<Stage>) {
    let shop = Box::pin(served(&stage)).await;
    let rollouts = &shop.state.rollouts;
    let steps = schedule(&[(10, "0s"), (50, "0s"), (100, "0s")]);
    rollouts.start(plan(json!({ "schedule": steps })), "olga").await.expect("started");
    let callers: Vec<Caller> = (0..40).map(|n| Caller::known(format!("user-{n}"), [""])).collect();
    let all = [&[Caller::known("ada", [""])][..], &callers].concat();
    eventually("it is everywhere", async || {
        for caller in &all {
            let answer = greeting(&shop, caller, GREETING).await;
            assert_eq!(answer.get("errors"), None, "nobody may notice: {answer}");
        }
        let stored = stored(rollouts).await;
        if stored.rollout.phase == MigrationPhase::Cleanup {
            Ok(())
        } else {
            Err(format!("{:?}", stored.rollout))
        }
    })
    .await;
    for caller in &all {
        assert_eq!(greeting(&shop, caller, GREETING).await["data"]["greeting"], "good day you");
    }
    eventually("it is shown", async || match shop.metric_if_there("rollout_percentage") {
        Some(shown) => equal(shown, 100.0),
        None => Err("nothing is shown".to_owned()),
    })
    .await;
    rollouts.rollback(FEATURE, false, "olga").await.expect_err("the old code may be gone");
    rollouts.advance(FEATURE, "olga").await.expect("it is gone");
    assert_eq!(stored(rollouts).await.rollout.status, Status::Complete);
    let report = rollouts.report_of(FEATURE).await.expect("there is one");
    assert_eq!((report.percentage, report.phase), (100, "complete"));
    shop.close().await;
}

pub async fn what_cannot_be_asked_of_a_rollout_is_refused(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    shop.migrate_own().await;
    let rollouts = &shop.state.rollouts;
    let told = |refused: Result<Stored, Error>| refused.expect_err("refused").to_string();
    let missing =
        plan(json!({ "db_migrations": ["20261121090000_create_ecommerce.sql", "20991231000000_more.sql"] }));
    assert_eq!(
        told(rollouts.start(missing, "olga").await),
        "Database migration is not applied: 20991231000000_more.sql"
    );
    assert_eq!(told(rollouts.advance(FEATURE, "olga").await), "there is no rollout of \"politeness\"");
    assert_eq!(
        told(rollouts.rollback(FEATURE, false, "olga").await),
        "there is no rollout of \"politeness\""
    );
    let applied = plan(json!({ "db_migrations": ["20261121090000_create_ecommerce.sql"], "manual": true }));
    rollouts.start(applied.clone(), "olga").await.expect("it is applied");
    assert!(
        told(rollouts.start(applied, "olga").await)
            .starts_with("there is a rollout of \"politeness\" already")
    );
    assert_eq!(shop.state.flags.is_enabled(FEATURE, Some("ada")).await, Ok(false));
    // Samples of a flag without a rollout that runs are not kept.
    healthy(rollouts).await;
    assert_eq!(shop.rows("fraiseql.rollout_samples").await, 0);
    rollouts.advance(FEATURE, "olga").await.expect("it waited");
    healthy(rollouts).await;
    healthy(rollouts).await;
    let counted = rollouts.counted(&stored(rollouts).await.rollout).await.expect("read");
    assert_eq!((counted.on.requests, counted.off.requests, counted.on.buckets[20]), (20, 20, 20));
    assert!(told(rollouts.advance(FEATURE, "olga").await).starts_with("it is running"));
    assert_eq!(percentage(stored(rollouts).await.rollout.phase), 0);
    shop.close().await;
}

pub async fn administrators_drive_rollouts_over_http_and_by_commands(stage: Arc<Stage>) {
    let shop = Shop::open_with(&stage, &keys(&[("root", "ADMIN")])).await;
    shop.migrate_own().await;
    let front = Front::of(&shop).await;
    let root = async |method: &str, path: &str, body: Option<Value>| {
        asked(&front, Some("root"), method, path, body).await
    };
    let begin = json!({"flag": FEATURE, "manual": true, "canary_watch": "90s"});
    let started = root("POST", "/admin/rollouts", Some(begin.clone())).await;
    assert_eq!((started.status, &started.body["status"]), (201, &json!("waiting")));
    assert_eq!(started.body["plan"]["canary_watch"], "1m 30s");
    assert_eq!(root("POST", "/admin/rollouts", Some(begin)).await.status, 409);
    let wrong = root("POST", "/admin/rollouts", Some(json!({"flag": "other", "steps": []}))).await;
    assert_eq!(wrong.status, 400, "{:?}", wrong.body);
    assert_eq!(root("POST", "/admin/rollouts/politeness/advance", None).await.body["status"], "running");
    assert_eq!(root("GET", "/admin/rollouts/politeness", None).await.body["phase"], "deploy");
    assert_eq!(root("GET", "/admin/rollouts/none", None).await.status, 404);

    let rollout = async |arguments: &[&str]| command(&shop, &[&["rollout"], arguments].concat()).await;
    let (status, out, said) = rollout(&["status"]).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(
        out.starts_with(
            "politeness: deploy, 0 %, running\n  with the flag on: 0 requests, error rate unknown"
        ),
        "{out}"
    );
    let (status, out, said) = rollout(&["rollback", FEATURE, "--json"]).await;
    assert_eq!(status, Some(0), "{said}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&report["status"], &report["reason"]),
        (&json!("rolled_back"), &json!("asked for by cli:olga"))
    );
    assert_eq!(rollout(&["rollback", FEATURE]).await.0, Some(0), "it can be repeated");
    let (status, _, said) = rollout(&["advance", FEATURE]).await;
    assert_eq!(status, Some(1));
    assert!(said.contains("it was rolled back: start it again"), "{said}");
    let (status, _, said) = rollout(&["start", FEATURE, "--schedule", "10:5m,50"]).await;
    assert_eq!(status, Some(2));
    assert!(said.contains("\"50\" is no step: one is a percentage and a time, as 10:5m"), "{said}");
    let (status, _, said) = rollout(&["start", FEATURE, "--schedule", "10:5m"]).await;
    assert!(status == Some(1) && said.contains("rollout_schedule is [10]"), "{said}");
    let (status, _, said) = rollout(&["start", FEATURE, "--migrations", "20991231000000_more.sql"]).await;
    assert!(status == Some(1) && said.contains("Database migration is not applied"), "{said}");
    let (status, out, said) = rollout(&["start", FEATURE, "--canary", "ada", "--manual"]).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(out.starts_with("politeness: deploy, 0 %, waiting"), "{out}");
    let rolled = root("POST", "/admin/rollouts/politeness/rollback", Some(json!({"force": true}))).await;
    assert_eq!((rolled.status, &rolled.body["status"]), (200, &json!("rolled_back")));
    let history = root("GET", "/admin/rollouts/politeness/history", None).await;
    let events: Vec<_> = history.body["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|one| (&one["event"], &one["actor"]))
        .collect();
    assert_eq!(events.len(), 6, "{events:?}");
    assert_eq!(events[0], (&json!("rolled_back"), &json!("root")));
    front.ended().await;
    shop.close().await;
}
