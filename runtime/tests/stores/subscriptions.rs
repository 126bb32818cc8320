//! Subscriptions over a real stream: what is delivered to whom, and what happens to it when a part is slow or away.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::live::{Heard, Socket, Stream, emit, forget_consumers, subscribed};
use crate::support::{Front, Shop, Stage, equal, eventually, order};

const CREATED: &str = "subscription { orderCreated { id status items { quantity product { id } } } }";
const OF_USER: &str = "subscription ($user: ID) { orderCreated(userId: $user) { id user { id } } }";
const STEPS: &str = "subscription ($order: ID, $steps: [OrderStatus!]) {
    orderStatusChanged(orderId: $order, status: $steps) { id }
}";
const ID: &str = "subscription { orderCreated { id } }";

async fn open(stage: &Stage, settings: &str) -> (Shop, Front) {
    let mut shop = Shop::open_with(stage, settings).await;
    shop.start(&["subscriptions"]);
    let front = Front::of(&shop).await;
    (shop, front)
}

async fn close(shop: Shop, front: Front) {
    front.ended().await;
    shop.close().await;
}

fn placed(id: impl ToString) -> Value {
    json!({"order_id": id.to_string()})
}

pub async fn an_order_is_told_to_every_subscriber_as_it_selected(stage: Arc<Stage>) {
    let (mut shop, front) = open(&stage, "").await;
    let (mut first, mut second) = (Socket::ready(&front).await, Socket::ready(&front).await);
    first.subscribe("a", CREATED, json!({})).await;
    second.subscribe("b", "subscription S { told: orderCreated { __typename total } }", json!({})).await;
    let mut third = Stream::open(&front, ID, json!({})).await;
    subscribed(&shop, 3).await;
    shop.start(&["outbox-relay"]);
    for pieces in [2, 3] {
        let order = shop.place(order(&[(1, pieces)])).await.expect("placed");
        let told = first.data("a").await;
        let items = json!([{"quantity": pieces, "product": {"id": "1"}}]);
        assert_eq!(told["orderCreated"], json!({"id": order.id, "status": "pending", "items": items}));
        let told = second.data("b").await;
        assert_eq!(told["told"]["__typename"], "Order");
        assert_eq!(told["told"]["total"], json!(order.total));
        let (name, told) = third.next().await.expect("an event");
        assert_eq!((name.as_str(), &told["data"]["orderCreated"]["id"]), ("next", &json!(order.id)));
    }
    first.say(json!({"id": "a", "type": "complete"})).await;
    drop(third);
    subscribed(&shop, 1).await;
    let order = shop.place(order(&[(1, 1)])).await.expect("placed");
    assert_eq!(second.data("b").await["told"]["total"], json!(order.total));
    first.say(json!({"type": "ping", "payload": {"n": 1}})).await;
    let pong = Heard::Message(json!({"type": "pong", "payload": {"n": 1}}));
    assert_eq!(first.hear().await, pong, "what was completed says nothing more");
    assert_eq!(shop.metric("subscription_events_delivered_total") as i64, 7);
    close(shop, front).await;
}

pub async fn a_filter_lets_through_what_is_asked_for(stage: Arc<Stage>) {
    let (shop, front) = open(&stage, "").await;
    let orders = shop.place_many(2).await;
    let mut socket = Socket::ready(&front).await;
    socket.subscribe("mine", OF_USER, json!({"user": "1"})).await;
    socket.subscribe("yours", OF_USER, json!({"user": "2"})).await;
    socket.subscribe("all", OF_USER, json!({})).await;
    socket.subscribe("steps", STEPS, json!({"order": orders[1], "steps": ["paid", "cancelled"]})).await;
    subscribed(&shop, 4).await;
    let told = |id: &str, field: &str, order: usize| {
        let mut data = json!({"id": orders[order]});
        if field == "orderCreated" {
            data["user"] = json!({"id": "1"});
        }
        (id.to_owned(), json!({field: data}))
    };
    emit(&shop, &stage, "created", json!({"order_id": orders[0], "user_id": 1})).await;
    let mut heard = Vec::new();
    for _ in 0..2 {
        let Heard::Message(message) = socket.hear().await else { panic!("closed") };
        heard.push((message["id"].as_str().expect("an id").to_owned(), message["payload"]["data"].clone()));
    }
    heard.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(heard, [told("all", "orderCreated", 0), told("mine", "orderCreated", 0)]);
    for (order, status) in [(0, "paid"), (1, "shipped"), (1, "paid"), (1, "cancelled")] {
        let event = json!({"order_id": orders[order], "status": status, "was": "pending"});
        emit(&shop, &stage, "status_changed", event).await;
    }
    for _ in 0..2 {
        assert_eq!(socket.data("steps").await, told("steps", "orderStatusChanged", 1).1);
    }
    emit(&shop, &stage, "created", json!({"order_id": orders[1], "user_id": 7})).await;
    assert_eq!(socket.data("all").await, told("all", "orderCreated", 1).1, "and nothing in between");
    assert_eq!(shop.metric("subscription_events_matched_total") as i64, 5);
    close(shop, front).await;
}

pub async fn a_slow_client_is_closed_and_the_others_are_not(stage: Arc<Stage>) {
    let (shop, front) = open(&stage, "graphql.subscriptions.buffer = 4").await;
    let order = shop.place_many(1).await[0];
    let line = "x".repeat(450);
    let address = json!({"street": line, "city": line, "zip": line, "country": line});
    shop.run(&format!("UPDATE orders SET shipping_address = '{address}'")).await;
    // A large answer, so that the system's buffers are soon full.
    let many: String = (0..90).map(|n| format!("a{n}: shippingAddress ")).collect();
    let mut slow = Socket::ready(&front).await;
    slow.subscribe("slow", &format!("subscription {{ orderCreated {{ {many} }} }}"), json!({})).await;
    let mut fast = Socket::ready(&front).await;
    fast.subscribe("fast", ID, json!({})).await;
    subscribed(&shop, 2).await;
    let ended = "subscription_connections_ended_total{reason=\"slow\"}";
    let mut events = 0;
    while shop.metric(ended) == 0.0 {
        assert!(events < 400, "a client that reads nothing is never too slow");
        emit(&shop, &stage, "created", placed(order)).await;
        fast.data("fast").await;
        events += 1;
        if shop.metric("subscription_events_dropped_total") > 0.0 {
            // It is being closed, and reads again at last.
            assert_eq!(slow.end().await, Heard::Closed(4290));
            eventually("it is counted", async || equal(shop.metric(ended) as i64, 1)).await;
        }
    }
    emit(&shop, &stage, "created", placed(order)).await;
    fast.data("fast").await;
    subscribed(&shop, 1).await;
    close(shop, front).await;
}

pub async fn a_stream_that_nobody_reads_is_cut(stage: Arc<Stage>) {
    let (shop, front) = open(&stage, "graphql.subscriptions.buffer = 2").await;
    let order = shop.place_many(1).await[0];
    let line = "x".repeat(450);
    let address = json!({"street": line, "city": line, "zip": line, "country": line});
    shop.run(&format!("UPDATE orders SET shipping_address = '{address}'")).await;
    let many: String = (0..90).map(|n| format!("a{n}: shippingAddress ")).collect();
    let body = json!({"query": format!("subscription {{ orderCreated {{ {many} }} }}")}).to_string();
    let request = format!(
        "POST /graphql HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut silent = tokio::net::TcpStream::connect(front.address).await.expect("connects");
    silent.write_all(request.as_bytes()).await.expect("sent");
    subscribed(&shop, 1).await;
    // One after another, until no more fits into the system's buffers; then what waits for the subscription piles up.
    let all_left = async || {
        while shop.metric("subscription_events_delivered_total")
            < shop.metric("subscription_events_matched_total")
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut events = 0;
    while shop.metric("subscription_events_dropped_total") == 0.0 {
        assert!(events < 400, "the buffers have no end");
        emit(&shop, &stage, "created", placed(order)).await;
        // A wait that is over early only makes the subscription slow for another reason, which fails below.
        let _ = tokio::time::timeout(Duration::from_secs(2), all_left()).await;
        events += 1;
    }
    let ended = "subscription_connections_ended_total{reason=\"slow\"}";
    eventually("it is cut", async || equal(shop.metric(ended) as i64, 1)).await;
    eventually("nothing is held for it", async || equal(shop.metric("subscriptions_active") as i64, 0)).await;
    let mut all = Vec::new();
    let end = silent.read_to_end(&mut all).await;
    assert!(end.is_err() || !all.ends_with(b"0\r\n\r\n"), "the answer was cut, not completed");
    close(shop, front).await;
}

pub async fn a_consumer_that_nats_forgets_is_made_anew(stage: Arc<Stage>) {
    let (shop, front) = open(&stage, "").await;
    let orders = shop.place_many(2).await;
    let mut socket = Socket::ready(&front).await;
    socket.subscribe("a", ID, json!({})).await;
    subscribed(&shop, 1).await;
    emit(&shop, &stage, "created", placed(orders[0])).await;
    socket.data("a").await;
    forget_consumers(&shop, &stage).await;
    emit(&shop, &stage, "created", placed(orders[1])).await;
    assert_eq!(socket.data("a").await["orderCreated"]["id"], json!(orders[1]));
    close(shop, front).await;
}

pub async fn events_of_a_time_without_nats_follow_in_order(stage: Arc<Stage>) {
    let (shop, front) = open(&stage, "").await;
    let orders = shop.place_many(6).await;
    let mut socket = Socket::ready(&front).await;
    socket.subscribe("a", ID, json!({})).await;
    subscribed(&shop, 1).await;
    emit(&shop, &stage, "created", placed(orders[0])).await;
    assert_eq!(socket.data("a").await["orderCreated"]["id"], json!(orders[0]));
    for round in [&orders[1..3], &orders[3..5]] {
        let cut = shop.nats.cut().await;
        eventually("the server notices", async || {
            equal(shop.metric("subscription_stream_followed") as i64, 0)
        })
        .await;
        for order in round {
            emit(&shop, &stage, "created", placed(order)).await;
        }
        cut.heal().await;
        for order in round {
            assert_eq!(socket.data("a").await["orderCreated"]["id"], json!(order));
        }
    }
    emit(&shop, &stage, "created", placed(orders[5])).await;
    assert_eq!(socket.data("a").await["orderCreated"]["id"], json!(orders[5]), "and none twice");
    close(shop, front).await;
}

pub async fn a_subscription_outlives_the_database(stage: Arc<Stage>) {
    let (shop, front) = open(&stage, "").await;
    let orders = shop.place_many(3).await;
    let mut socket = Socket::ready(&front).await;
    socket.subscribe("a", ID, json!({})).await;
    subscribed(&shop, 1).await;
    let cut = shop.postgres.cut().await;
    for order in &orders {
        emit(&shop, &stage, "created", placed(order)).await;
    }
    eventually("the events are there", async || {
        equal(shop.metric("subscription_events_matched_total") as i64, 3)
    })
    .await;
    assert_eq!(shop.metric("subscription_events_delivered_total") as i64, 0);
    cut.heal().await;
    for order in &orders {
        assert_eq!(socket.data("a").await["orderCreated"]["id"], json!(order));
    }
    // An event whose row is gone is an error and ends nothing.
    emit(&shop, &stage, "created", placed(uuid::Uuid::nil())).await;
    let Heard::Message(message) = socket.hear().await else { panic!("closed") };
    assert_eq!(message["payload"]["errors"][0]["extensions"]["code"], "NOT_FOUND", "{message}");
    emit(&shop, &stage, "created", placed(orders[0])).await;
    socket.data("a").await;
    close(shop, front).await;
}

pub async fn the_protocol_is_kept_and_who_breaks_it_is_closed(stage: Arc<Stage>) {
    let (shop, front) = open(&stage, "graphql.subscriptions.max_per_connection = 2").await;
    let protocol = "graphql-transport-ws";
    let subscribe = json!({"id": "1", "type": "subscribe", "payload": {"query": ID}}).to_string();
    let init = r#"{"type":"connection_init"}"#;
    for (code, said) in [
        (4400, vec!["no JSON"]),
        (4400, vec![r#"{"type":"start"}"#]),
        (4400, vec![init, r#"{"type":"subscribe","payload":{"query":"{a}"}}"#]),
        (4401, vec![subscribe.as_str()]),
        (4429, vec![init, init]),
        (4409, vec![init, subscribe.as_str(), subscribe.as_str()]),
    ] {
        let mut socket = Socket::open(&front, protocol).await;
        for text in &said {
            socket.say_text(text).await;
        }
        assert_eq!(socket.end().await, Heard::Closed(code), "{said:?}");
    }
    for other in ["", "graphql-ws"] {
        let refused = Socket::try_open(&front, other).await;
        if let Ok(mut socket) = refused {
            assert_eq!(socket.end().await, Heard::Closed(4406), "{other:?}");
        }
    }

    let mut socket = Socket::open(&front, protocol).await;
    socket.say(json!({"type": "ping"})).await;
    assert_eq!(socket.hear().await, Heard::Message(json!({"type": "pong"})), "before it is initialised too");
    socket.say(json!({"type": "connection_init", "payload": {"any": "thing"}})).await;
    assert_eq!(socket.hear().await, Heard::Message(json!({"type": "connection_ack"})));
    socket.subscribe("q", "query ($id: ID!) { product(id: $id) { id } }", json!({"id": "1"})).await;
    assert_eq!(socket.data("q").await, json!({"product": {"id": "1"}}));
    assert_eq!(socket.hear().await, Heard::Message(json!({"id": "q", "type": "complete"})));
    for (query, code) in [
        ("subscription { nothing }", "VALIDATION"),
        ("{", "VALIDATION"),
        ("subscription { a: orderCreated { id } b: orderCreated { id } }", "VALIDATION"),
        ("subscription { __typename }", "VALIDATION"),
    ] {
        socket.subscribe("e", query, json!({})).await;
        let Heard::Message(message) = socket.hear().await else { panic!("{query}: closed") };
        assert_eq!((&message["id"], &message["type"]), (&json!("e"), &json!("error")), "{message}");
        assert_eq!(message["payload"][0]["extensions"]["code"], code, "{message}");
    }
    for id in ["1", "2", "3"] {
        socket.subscribe(id, ID, json!({})).await;
    }
    let Heard::Message(message) = socket.hear().await else { panic!("closed") };
    assert_eq!((&message["id"], &message["type"]), (&json!("3"), &json!("error")), "{message}");
    subscribed(&shop, 2).await;
    close(shop, front).await;
}

pub async fn who_does_not_begin_in_time_or_comes_as_one_too_many_is_refused(stage: Arc<Stage>) {
    let settings = "graphql.subscriptions.max_connections = 1\ngraphql.subscriptions.init_timeout = \"50ms\"";
    let (shop, front) = open(&stage, settings).await;
    let mut socket = Socket::open(&front, "graphql-transport-ws").await;
    assert_eq!(socket.end().await, Heard::Closed(4408));
    drop(socket);
    let open = || async {
        let found = shop.metric("subscription_connections{transport=\"websocket\"}") as i64;
        equal(found, 0)
    };
    eventually("it is gone", open).await;
    let mut stream = Stream::open(&front, ID, json!({})).await;
    assert!(Socket::try_open(&front, "graphql-transport-ws").await.is_err(), "there is one already");
    assert_eq!(shop.metric("subscription_connections_ended_total{reason=\"refused\"}") as i64, 1);
    front.begin_shutdown();
    assert_eq!(stream.next().await, None, "the end without `complete`: connect again");
    close(shop, front).await;
}

pub async fn the_end_of_the_server_is_told(stage: Arc<Stage>) {
    let (shop, front) = open(&stage, "").await;
    let mut socket = Socket::ready(&front).await;
    socket.subscribe("a", ID, json!({})).await;
    let mut idle = Socket::ready(&front).await;
    subscribed(&shop, 1).await;
    front.begin_shutdown();
    assert_eq!(socket.end().await, Heard::Closed(1001));
    assert_eq!(idle.end().await, Heard::Closed(1001));
    assert!(front.ended().await.is_clean());
    assert_eq!(shop.metric("subscription_connections_ended_total{reason=\"shutdown\"}") as i64, 2);
    shop.close().await;
}

pub async fn other_operations_are_answered_as_events_too(stage: Arc<Stage>) {
    let (shop, front) = open(&stage, "").await;
    let mut stream = Stream::open(&front, "{ product(id: 1) { id } }", json!({})).await;
    let next = ("next".to_owned(), json!({"data": {"product": {"id": "1"}}}));
    let complete = ("complete".to_owned(), Value::Null);
    assert_eq!(stream.next().await, Some(next));
    assert_eq!(stream.next().await, Some(complete.clone()));
    assert_eq!(stream.next().await, None);
    let mut stream = Stream::open(&front, "{", json!({})).await;
    let (name, data) = stream.next().await.expect("an event");
    assert_eq!((name.as_str(), &data["errors"][0]["extensions"]["code"]), ("next", &json!("VALIDATION")));
    assert_eq!(stream.next().await, Some(complete));
    let plain = front.post("application/json", &json!({"query": ID})).await;
    assert_eq!(plain.body["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{plain:?}");
    close(shop, front).await;
}
