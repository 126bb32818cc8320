//! Orders in a real database: one transaction each, one order a key, never more than there is.

use std::collections::BTreeSet;
use std::sync::Arc;

use fraiseql_runtime::error::{Classify, ErrorKind};
use fraiseql_runtime::ids::OrderId;
use futures::future::join_all;

use crate::support::orders::{NewOrder, Status, StatusChange};
use crate::support::{Shop, Stage, order};

const STOCK: i64 = 1_000_000_000;

fn keyed(key: &str, items: &[(i64, i32)]) -> NewOrder {
    NewOrder { idempotency_key: Some(key.to_owned()), ..order(items) }
}

fn step(order_id: OrderId, to: Status, key: Option<&str>) -> StatusChange {
    StatusChange { order_id, to, idempotency_key: key.map(str::to_owned) }
}

/// Rows of orders, items, keys and events.
async fn written(shop: &Shop) -> [i64; 4] {
    let mut rows = [0; 4];
    for (rows, table) in rows.iter_mut().zip(["orders", "order_items", "idempotency_keys", "outbox"]) {
        *rows = shop.rows(table).await;
    }
    rows
}

async fn stock_of(shop: &Shop, product: i64) -> i64 {
    shop.count(&format!("SELECT stock FROM products WHERE id = {product}")).await
}

pub async fn an_order_its_items_its_stock_and_its_event_are_one_transaction(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let placed = shop.place(keyed("k", &[(1, 2), (2, 3)])).await.expect("placed");
    assert_eq!(written(&shop).await, [1, 2, 1, 1]);
    assert_eq!((stock_of(&shop, 1).await, stock_of(&shop, 2).await), (STOCK - 2, STOCK - 3));
    let sum: rust_decimal::Decimal =
        placed.items.iter().map(|item| item.price * rust_decimal::Decimal::from(item.quantity)).sum();
    assert_eq!((placed.items.len(), placed.total), (2, sum));
    let transactions = shop
        .count(
            "SELECT count(DISTINCT xmin::text) FROM (
                 SELECT xmin FROM orders UNION ALL SELECT xmin FROM order_items
                 UNION ALL SELECT xmin FROM idempotency_keys UNION ALL SELECT xmin FROM outbox
                 UNION ALL SELECT xmin FROM products WHERE id IN (1, 2)) AS rows",
        )
        .await;
    assert_eq!(transactions, 1);
    let told = shop
        .count(&format!(
            "SELECT count(*) FROM outbox WHERE subject = '{}.created' AND payload->>'order_id' = '{}'
             AND payload->>'event_id' = id::text AND published_at IS NULL",
            shop.stream, placed.id
        ))
        .await;
    assert_eq!(told, 1, "the event names its order and itself");
    shop.close().await;
}

pub async fn a_refused_order_leaves_nothing(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    shop.run("UPDATE products SET stock = 4 WHERE id = 2").await;
    let refused = [
        (keyed("k", &[(1, 1), (999_999, 1)]), "product that does not exist"),
        (keyed("k", &[(1, 1), (2, 5)]), "not enough of a product"),
        (NewOrder { user_id: Some(999_999), ..keyed("k", &[(1, 1)]) }, "user that does not exist"),
    ];
    for (order, reason) in refused {
        let error = shop.place(order).await.expect_err(reason);
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(error.kind(), ErrorKind::BadInput, "{error}");
        assert_eq!(written(&shop).await, [0; 4], "{reason}");
        assert_eq!((stock_of(&shop, 1).await, stock_of(&shop, 2).await), (STOCK, 4), "{reason}");
    }
    // The key was not used up by what was refused.
    shop.place(keyed("k", &[(1, 1), (2, 4)])).await.expect("placed");
    assert_eq!(stock_of(&shop, 2).await, 0);
    shop.close().await;
}

pub async fn an_order_whose_event_cannot_be_written_is_no_order(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    shop.run("ALTER TABLE outbox ADD CONSTRAINT planted CHECK (false)").await;
    let error = shop.place(keyed("k", &[(1, 1)])).await.expect_err("the event is refused");
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
    assert_eq!(written(&shop).await, [0; 4]);
    assert_eq!(stock_of(&shop, 1).await, STOCK);
    shop.run("ALTER TABLE outbox DROP CONSTRAINT planted").await;
    let placed = shop.place(keyed("k", &[(1, 1)])).await.expect("placed");

    // So with a step of its life.
    shop.run("ALTER TABLE outbox ADD CONSTRAINT planted CHECK (false) NOT VALID").await;
    let change = step(placed.id, Status::Paid, Some("pay"));
    shop.change_status(change.clone()).await.expect_err("the event is refused");
    assert_eq!(shop.rows("orders WHERE status = 'pending'").await, 1);
    assert_eq!(shop.rows("order_status_changes").await, 0);
    shop.run("ALTER TABLE outbox DROP CONSTRAINT planted").await;
    shop.change_status(change).await.expect("paid");
    assert_eq!(written(&shop).await, [1, 1, 2, 2]);
    shop.close().await;
}

pub async fn the_same_key_is_the_same_answer(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let first = shop.place(keyed("k", &[(1, 1), (2, 1)])).await.expect("placed");
    shop.change_status(step(first.id, Status::Paid, None)).await.expect("paid");
    shop.run("UPDATE products SET price = price + 1, stock = 0").await;
    // Neither the order's new status nor prices nor stock of today change what was answered.
    let again = shop.place(keyed("k", &[(1, 1), (2, 1)])).await.expect("the first answer");
    assert_eq!(again, first);
    assert_eq!(again.status, Status::Pending);
    assert_eq!(written(&shop).await, [1, 2, 1, 2]);
    shop.close().await;
}

pub async fn sixteen_callers_with_one_key_get_one_order(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    for round in 0..5 {
        let key = format!("key {round}");
        let answers = join_all((0..16).map(|_| shop.place(keyed(&key, &[(1, 1)])))).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("an answer for each")).collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
    assert_eq!(written(&shop).await, [5; 4]);
    assert_eq!(stock_of(&shop, 1).await, STOCK - 5);
    shop.close().await;
}

pub async fn the_same_key_with_another_input_is_refused(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let placed = shop.place(keyed("k", &[(1, 1)])).await.expect("placed");
    let before = written(&shop).await;
    let others =
        [keyed("k", &[(1, 2)]), keyed("k", &[(2, 1)]), NewOrder { user_id: None, ..keyed("k", &[(1, 1)]) }];
    for other in others {
        let error = shop.place(other).await.expect_err("another input");
        assert_eq!(error.kind(), ErrorKind::IdempotencyConflict, "{error}");
    }
    // A key is one for all operations.
    let error = shop.change_status(step(placed.id, Status::Paid, Some("k"))).await;
    assert_eq!(error.expect_err("the key is another's").kind(), ErrorKind::IdempotencyConflict);
    let error = shop.request_invoice(placed.id, Some("k".to_owned())).await;
    assert_eq!(error.expect_err("the key is another's").kind(), ErrorKind::IdempotencyConflict);
    assert_eq!(written(&shop).await, before);
    assert_eq!(shop.rows("orders WHERE status = 'pending'").await, 1);

    // At the same time too: one input wins, the other is refused.
    let orders = (0..16).map(|n| shop.place(keyed("race", &[(1, 1 + n % 2)])));
    let (won, refused): (Vec<_>, Vec<_>) = join_all(orders).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), refused.len()), (8, 8));
    for answer in refused {
        assert_eq!(answer.expect_err("refused").kind(), ErrorKind::IdempotencyConflict);
    }
    assert_eq!(shop.rows("orders").await, 2);
    shop.close().await;
}

pub async fn stock_is_never_oversold(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    for (stock, pieces, buyers) in [(1, 1, 16), (10, 1, 40), (10, 3, 16)] {
        shop.run(&format!("TRUNCATE orders CASCADE; UPDATE products SET stock = {stock} WHERE id = 1")).await;
        let answers = join_all((0..buyers).map(|_| shop.place(order(&[(1, pieces)])))).await;
        let sold = answers.iter().filter(|answer| answer.is_ok()).count();
        for error in answers.into_iter().filter_map(Result::err) {
            assert!(error.to_string().contains("not enough of a product"), "{error:?}");
        }
        assert_eq!(sold, stock / pieces as usize, "{buyers} buyers of {pieces} from {stock}");
        let left =
            i64::try_from(stock).expect("small") - i64::from(pieces) * i64::try_from(sold).expect("small");
        assert_eq!(stock_of(&shop, 1).await, left);
        let taken = shop.count("SELECT sum(quantity) FROM order_items").await;
        assert_eq!(taken, i64::from(pieces) * i64::try_from(sold).expect("small"));
    }
    shop.close().await;
}

pub async fn orders_for_the_same_products_do_not_deadlock(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let products: Vec<(i64, i32)> = (1..=8).map(|product| (product, 1)).collect();
    let backwards: Vec<(i64, i32)> = products.iter().rev().copied().collect();
    let orders = (0..48).map(|n| shop.place(order(if n % 2 == 0 { &products } else { &backwards })));
    for answer in join_all(orders).await {
        answer.expect("nobody is the victim of a deadlock");
    }
    for product in 1..=8 {
        assert_eq!(stock_of(&shop, product).await, STOCK - 48);
    }
    shop.close().await;
}

pub async fn an_order_takes_the_steps_of_its_life_and_no_other(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let mut taken = 0;
    for from in Status::ALL {
        for to in Status::ALL {
            let id = shop.place(order(&[(1, 1)])).await.expect("placed").id;
            shop.run(&format!("UPDATE orders SET status = '{from}' WHERE id = '{id}'")).await;
            let answer = shop.change_status(step(id, to, None)).await;
            let stored = format!("orders WHERE id = '{id}' AND status = ");
            if from.can_become(to) {
                taken += 1;
                assert_eq!(answer.expect("an allowed step").status, to);
                assert_eq!(shop.rows(&format!("{stored}'{to}'")).await, 1, "{from} {to}");
            } else {
                let error = answer.expect_err("a forbidden step");
                assert_eq!(error.kind(), ErrorKind::InvalidTransition, "{from} {to}: {error}");
                assert_eq!(error.to_string(), format!("an order that is {from} cannot become {to}"));
                assert_eq!(shop.rows(&format!("{stored}'{from}'")).await, 1, "{from} {to}");
            }
        }
    }
    let events = format!("outbox WHERE subject = '{}.status_changed'", shop.stream);
    assert_eq!((shop.rows("order_status_changes").await, shop.rows(&events).await), (taken, taken));
    let missing = step(OrderId(uuid::Uuid::now_v7()), Status::Paid, None);
    let error = shop.change_status(missing).await.expect_err("no such order");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    shop.close().await;
}

pub async fn one_of_many_contradicting_steps_is_taken(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    for _ in 0..5 {
        let id = shop.place(order(&[(1, 1)])).await.expect("placed").id;
        shop.run(&format!("UPDATE orders SET status = 'paid' WHERE id = '{id}'")).await;
        let before = shop.rows("order_status_changes").await;
        let changes = (0..16).map(|n| {
            let to = if n % 2 == 0 { Status::Shipped } else { Status::Cancelled };
            shop.change_status(step(id, to, None))
        });
        let (won, lost): (Vec<_>, Vec<_>) = join_all(changes).await.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "{won:?}");
        for answer in lost {
            let error = answer.expect_err("lost");
            assert_eq!(error.kind(), ErrorKind::InvalidTransition, "{error:?}");
        }
        assert_eq!(shop.rows("order_status_changes").await, before + 1);
    }
    shop.close().await;
}

pub async fn a_repeated_step_is_the_first_answer(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let id = shop.place(order(&[(1, 1)])).await.expect("placed").id;
    let pay = || shop.change_status(step(id, Status::Paid, Some("pay")));
    let answers = join_all((0..16).map(|_| pay())).await;
    let told: BTreeSet<String> =
        answers.into_iter().map(|answer| answer.expect("an answer for each").status.to_string()).collect();
    assert_eq!(told, BTreeSet::from(["paid".to_owned()]));
    shop.change_status(step(id, Status::Shipped, None)).await.expect("shipped");
    assert_eq!(pay().await.expect("the first answer").status, Status::Paid);
    assert_eq!(shop.rows("order_status_changes").await, 2);
    assert_eq!(shop.rows("orders WHERE status = 'shipped'").await, 1);
    shop.close().await;
}
