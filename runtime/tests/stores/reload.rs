//! The schema follows its database: who has changed that says NOTIFY, and nothing said is missed for good.

use std::sync::Arc;

use chaos::fault::{Direction, NetworkFault};
use fraiseql_runtime::engine::loader::CHANNEL;
use fraiseql_runtime::storage::postgres::listen::{self, Heard};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::support::{Link, Shop, Stage, equal, eventually};

const NICKNAMES: &str = "{ __type(name: \"Product\") { fields { name } } }";

/// Whether the type of products has this field now.
async fn has_field(shop: &Shop, field: &str) -> bool {
    let answer = shop.answer(NICKNAMES).await;
    let fields = answer["data"]["__type"]["fields"].as_array().expect("fields");
    fields.iter().any(|known| known["name"] == field)
}

pub async fn a_changed_database_is_looked_at_when_it_says_so(stage: Arc<Stage>) {
    let mut shop = Shop::with_own_schema(&stage).await;
    shop.start(&["schema", "schema-changes"]);
    let before = shop.state.served.current().expect("served").sdl();
    // The file is ahead of its database, as during a rollout, and looks as if it had not changed: what was served stays.
    let file = shop.schema_file();
    let modified = std::fs::metadata(&file).and_then(|file| file.modified()).expect("a time");
    let text = std::fs::read_to_string(&file).expect("the schema");
    let begin = text.find("type Product").expect("a type");
    let at = begin + text[begin..].find('{').expect("its fields") + 1;
    let ahead = file.with_extension("ahead");
    std::fs::write(&ahead, format!("{}\n  nickname: String{}", &text[..at], &text[at..])).expect("written");
    let opened = std::fs::File::options().write(true).open(&ahead).expect("opened");
    opened.set_modified(modified).expect("as old as the other");
    std::fs::rename(&ahead, &file).expect("in its place");
    shop.state.served.load().await.expect_err("the database has no such column");
    assert_eq!(shop.state.served.current().expect("served").sdl(), before);

    // Only the word of the database can bring it now.
    shop.run(&format!("ALTER TABLE products ADD COLUMN nickname text; NOTIFY {CHANNEL}")).await;
    eventually("the new field is served", async || {
        if has_field(&shop, "nickname").await { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;

    // Nothing has changed: the engine stays, and with it what it has planned.
    let engine = shop.state.served.current().expect("served");
    shop.state.served.load().await.expect("it still fits");
    let now = shop.state.served.current().expect("served");
    assert!(Arc::ptr_eq(engine.schema(), now.schema()), "an unchanged schema was compiled again");
    shop.close().await;
}

/// Listens, and keeps what it hears.
struct Ear {
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Ear {
    fn open(url: &Url) -> Self {
        let (heard, stop) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
        let (kept, end, url) = (heard.clone(), stop.clone(), url.clone());
        let task = tokio::spawn(async move {
            let told = |what| kept.lock().push(what);
            listen::run(url.as_str(), &["one", "Two words"], told, end).await.expect("a URL");
        });
        Self { heard, stop, task }
    }

    /// Waits until it has heard so many connections and these payloads in this order.
    async fn has_heard(&self, connections: usize, wanted: &[&str]) {
        eventually("it is heard", async || {
            let heard = self.heard.lock().clone();
            let connected = heard.iter().filter(|what| **what == Heard::Connected).count();
            let payloads: Vec<String> = heard
                .iter()
                .filter_map(|what| match what {
                    Heard::Notified { channel, payload } => Some(format!("{channel}: {payload}")),
                    Heard::Connected => None,
                })
                .collect();
            equal((connected, payloads), (connections, wanted.iter().map(|&text| text.to_owned()).collect()))
        })
        .await;
    }

    async fn close(self) {
        self.stop.cancel();
        self.task.await.expect("it does not panic");
    }
}

pub async fn what_was_said_while_the_connection_was_lost_is_made_up_for(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let ear = Ear::open(&shop.postgres.through);
    ear.has_heard(1, &[]).await;
    shop.run("NOTIFY one, 'a'; NOTIFY other, 'b'; SELECT pg_notify('Two words', 'c')").await;
    ear.has_heard(1, &["one: a", "Two words: c"]).await;

    let cut = shop.postgres.cut().await;
    shop.run("NOTIFY one, 'lost'").await;
    assert!(cut.heal().await.reset > 0);
    // It is told that something may be lost, and hears again.
    ear.has_heard(2, &["one: a", "Two words: c"]).await;
    shop.run("NOTIFY one, 'd'").await;
    ear.has_heard(2, &["one: a", "Two words: c", "one: d"]).await;
    ear.close().await;
    shop.close().await;
}

pub async fn a_silent_connection_is_noticed_and_made_again(stage: Arc<Stage>) {
    let database = stage.database(stage.number()).await;
    let link = Link::to(database).await;
    let ear = Ear::open(&link.through);
    ear.has_heard(1, &[]).await;
    let silence = NetworkFault::Blackhole { sticky: true, direction: Direction::Both };
    let guard = link.inject(silence).await;
    eventually("it asks whether the connection lives", async || match guard.evidence() {
        evidence if evidence.swallowed_bytes > 0 => Ok(()),
        evidence => Err(format!("{evidence:?}")),
    })
    .await;
    // The connection stays silent after the fault, and nobody closes it.
    guard.heal().await;
    ear.has_heard(2, &[]).await;
    ear.close().await;
    link.close().await;
}
