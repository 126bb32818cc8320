//! The outbox over a real database and JetStream: sent at least once, stored once, marked only when it is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chaos::fault::{Direction, NetworkFault};

use crate::support::stream::{Message, messages};
use crate::support::{Shop, Stage, equal, eventually};

const UNPUBLISHED: &str = "outbox WHERE published_at IS NULL";

async fn stored(shop: &Shop) -> Vec<Message> {
    messages(&shop.nats.direct, &shop.stream).await
}

async fn all_are_marked(shop: &Shop) {
    eventually("every event is marked", async || equal(shop.rows(UNPUBLISHED).await, 0)).await;
}

/// Every row is in the stream once, under its id, with its subject and its payload.
async fn assert_stream_is_the_outbox(shop: &Shop) {
    let rows: Vec<(String, String, String)> =
        sqlx::query_as("SELECT id::text, subject, payload::text FROM outbox")
            .fetch_all(&mut shop.sql().await)
            .await
            .expect("the outbox");
    let found = stored(shop).await;
    assert_eq!(found.len(), rows.len(), "messages and rows");
    let found: BTreeMap<String, Message> =
        found.into_iter().map(|message| (message.id.clone(), message)).collect();
    for (id, subject, payload) in rows {
        let message = found.get(&id).unwrap_or_else(|| panic!("event {id} is not in the stream"));
        let payload: serde_json::Value = serde_json::from_str(&payload).expect("JSON");
        assert_eq!((&message.subject, &message.payload), (&subject, &payload));
        assert_eq!(message.payload["event_id"], id);
    }
}

pub async fn events_are_published_under_their_row_id_and_marked(stage: Arc<Stage>) {
    let mut shop = Shop::open(&stage).await;
    let orders = shop.place_many(20).await;
    assert!(stored(&shop).await.is_empty(), "nothing is sent in the request");
    shop.start(&["outbox-relay", "outbox-gauge"]);
    all_are_marked(&shop).await;
    assert_stream_is_the_outbox(&shop).await;
    let told: BTreeSet<String> = stored(&shop)
        .await
        .iter()
        .map(|message| message.payload["order_id"].as_str().expect("an order").to_owned())
        .collect();
    assert_eq!(told, orders.iter().map(ToString::to_string).collect());
    eventually("the gauge says so", async || equal(shop.metric("outbox_pending") as i64, 0)).await;
    assert_eq!(shop.metric("outbox_published_total") as i64, 20);
    shop.close().await;
}

pub async fn an_event_is_not_marked_before_its_acknowledgement_and_not_stored_twice(stage: Arc<Stage>) {
    let mut shop = Shop::open(&stage).await;
    shop.start(&["outbox-relay"]);
    // The first event makes the stream.
    shop.place_many(1).await;
    all_are_marked(&shop).await;
    // Held back, so that all of them are on their way before the first acknowledgement is missed.
    shop.run("ALTER TABLE outbox ALTER claimed_until SET DEFAULT now() + interval '1 hour'").await;
    shop.place_many(10).await;
    // What is published arrives; its acknowledgement does not.
    let deaf = NetworkFault::Blackhole { sticky: true, direction: Direction::Downstream };
    let guard = shop.nats.inject(deaf).await;
    shop.run("UPDATE outbox SET claimed_until = NULL WHERE published_at IS NULL").await;
    eventually("the stream has all events", async || equal(stored(&shop).await.len(), 11)).await;
    assert_eq!(shop.rows(UNPUBLISHED).await, 10, "without an acknowledgement nothing is marked");
    let evidence = guard.heal().await;
    assert!(evidence.swallowed_bytes > 0, "{evidence:?}");
    all_are_marked(&shop).await;
    // They were sent again under the same ids, and JetStream dropped the repetitions.
    assert_stream_is_the_outbox(&shop).await;
    shop.close().await;
}

pub async fn a_mark_that_failed_is_made_up_for_before_the_lease_ends(stage: Arc<Stage>) {
    let mut shop = Shop::open(&stage).await;
    shop.run("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not now''; END'")
        .await;
    shop.run("CREATE TRIGGER refuse BEFORE UPDATE OF published_at ON outbox FOR EACH ROW EXECUTE FUNCTION refuse()")
        .await;
    shop.place_many(3).await;
    shop.start(&["outbox-relay"]);
    eventually("the stream has all events", async || equal(stored(&shop).await.len(), 3)).await;
    assert_eq!(shop.rows(UNPUBLISHED).await, 3, "nothing can be marked");
    // Whoever waits for the lease waits longer than this test.
    shop.run("UPDATE outbox SET claimed_until = now() + interval '1 hour'").await;
    shop.run("DROP TRIGGER refuse ON outbox").await;
    all_are_marked(&shop).await;
    assert_eq!(shop.metric("outbox_published_total") as i64, 3, "each was sent once");
    assert_stream_is_the_outbox(&shop).await;
    shop.close().await;
}

pub async fn nothing_is_lost_while_nats_is_away(stage: Arc<Stage>) {
    let mut shop = Shop::open(&stage).await;
    shop.start(&["outbox-relay", "outbox-gauge"]);
    for _ in 0..2 {
        let before = i64::try_from(stored(&shop).await.len()).expect("few");
        let cut = shop.nats.cut().await;
        shop.place_many(15).await;
        eventually("the gauge shows what waits", async || equal(shop.metric("outbox_pending") as i64, 15))
            .await;
        assert_eq!(shop.rows(UNPUBLISHED).await, 15);
        assert_eq!(i64::try_from(stored(&shop).await.len()).expect("few"), before);
        cut.heal().await;
        all_are_marked(&shop).await;
    }
    assert_eq!(shop.rows("outbox").await, 30);
    assert_stream_is_the_outbox(&shop).await;
    shop.close().await;
}

pub async fn relays_side_by_side_share_the_work(stage: Arc<Stage>) {
    let mut shop = Shop::open_with(&stage, "outbox.batch = 20").await;
    shop.place_many(200).await;
    shop.start(&["outbox-relay"]);
    shop.start(&["outbox-relay"]);
    shop.start(&["outbox-relay"]);
    all_are_marked(&shop).await;
    eventually("each event was sent by one of them", async || {
        equal(shop.metric("outbox_published_total") as i64, 200)
    })
    .await;
    assert_stream_is_the_outbox(&shop).await;
    shop.close().await;
}

pub async fn what_a_dead_relay_had_claimed_comes_back(stage: Arc<Stage>) {
    let mut shop = Shop::open(&stage).await;
    shop.place_many(3).await;
    shop.run("UPDATE outbox SET claimed_until = now() + interval '1 hour'").await;
    shop.place_many(2).await;
    shop.start(&["outbox-relay"]);
    eventually("the free events are sent", async || equal(shop.rows(UNPUBLISHED).await, 3)).await;
    assert_eq!(stored(&shop).await.len(), 2, "what another relay is sending is left to it");
    shop.run("UPDATE outbox SET claimed_until = now() - interval '1 second' WHERE published_at IS NULL")
        .await;
    all_are_marked(&shop).await;
    assert_stream_is_the_outbox(&shop).await;
    shop.close().await;
}
