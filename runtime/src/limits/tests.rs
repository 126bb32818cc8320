//! What a request costs that is received and then not let in, where no Redis is asked.

use super::*;
use crate::clock::TestClock;
use crate::observability::metrics::Registry;
use crate::resilience::degradation::Registrar;

fn limits(change: impl FnOnce(&mut config::limits::Limits)) -> (Limits, Arc<TestClock>) {
    let clock = Arc::new(TestClock::default());
    let parts = Parts {
        redis: None,
        degraded: Registrar::default().component("limits", "each replica for itself"),
        metrics: LimitMetrics::register(&mut Registry::default()),
        clock: clock.clone(),
    };
    let mut table = config::limits::Limits::default();
    table.queue_for = Duration::ZERO;
    change(&mut table);
    (Limits::new(&table, &Auth::default(), Mode::Development, parts), clock)
}

fn anybody() -> Client {
    Client::new(&Caller::Anonymous, Tier::Anonymous, None)
}

fn limit_of<T>(refused: Result<T, Refusal>) -> Option<Limit> {
    refused.err().map(|refusal| refusal.told.limit)
}

#[tokio::test]
async fn what_is_not_confirmed_costs_no_quota() {
    let (limits, _clock) = limits(|table| table.default_rpm = 2);
    let client = anybody();
    for _ in 0..10 {
        drop(limits.receive(&client, "/graphql", false).await.expect("within the quota"));
    }
    for left in [1, 0] {
        let told = limits.request(&client, "/graphql", false).await.expect("within the quota");
        assert_eq!(told.map(|told| (told.limit, told.remaining)), Some((Limit::Minute, left)));
    }
    assert_eq!(limit_of(limits.receive(&client, "/graphql", false).await), Some(Limit::Minute));
}

#[tokio::test]
async fn what_is_received_counts_until_it_is_given_back() {
    let (limits, _clock) = limits(|table| table.default_rpm = 1);
    let client = anybody();
    let received = limits.receive(&client, "/graphql", false).await.expect("within the quota");
    assert_eq!(limit_of(limits.receive(&client, "/graphql", false).await), Some(Limit::Minute));
    drop(received);
    let received = limits.receive(&client, "/graphql", false).await.expect("it was given back");
    received.confirm().await.expect("within the quota");
    assert_eq!(limit_of(limits.receive(&client, "/graphql", false).await), Some(Limit::Minute));
}

#[tokio::test]
async fn the_place_among_all_clients_is_given_back_with_it_and_a_quota_with_the_place() {
    let (limits, clock) = limits(|table| (table.global_max_qps, table.default_rpm) = (1, 2));
    let client = anybody();
    for _ in 0..10 {
        drop(limits.receive(&client, "/graphql", false).await.expect("one in a second"));
    }
    limits.request(&client, "/graphql", false).await.expect("one in a second");
    for _ in 0..10 {
        let refused = limits.receive(&client, "/graphql", false).await;
        assert_eq!(limit_of(refused), Some(Limit::GlobalSecond));
    }
    clock.advance(Duration::from_secs(1));
    limits.request(&client, "/graphql", false).await.expect("the refused ones cost no quota");
    clock.advance(Duration::from_secs(1));
    assert_eq!(limit_of(limits.receive(&client, "/graphql", false).await), Some(Limit::Minute));
}

#[tokio::test]
async fn a_client_s_second_counts_what_is_not_let_in() {
    let (limits, _clock) = limits(|table| table.client_max_qps = 3);
    let client = anybody();
    for _ in 0..3 {
        drop(limits.receive(&client, "/graphql", false).await.expect("three in a second"));
    }
    assert_eq!(limit_of(limits.receive(&client, "/graphql", false).await), Some(Limit::ClientSecond));
}

#[tokio::test]
async fn an_operation_of_a_connection_is_counted_when_it_has_its_place() {
    let (limits, _clock) = limits(|table| (table.default_rpm, table.writes_percent) = (4, 50));
    let ticket = limits.ticket(&anybody(), "/graphql");
    for _ in 0..10 {
        drop(ticket.receive(true).await.expect("within the quota"));
    }
    for _ in 0..2 {
        let received = ticket.receive(true).await.expect("half of four are mutations");
        received.confirm().await.expect("half of four are mutations");
    }
    assert_eq!(limit_of(ticket.receive(true).await), Some(Limit::Writes));
    let read = ticket.receive(false).await.expect("reads go on");
    read.confirm().await.expect("reads go on");
}

#[test]
fn headers_know_whole_seconds() {
    let told = |quota, millis| {
        let window = Duration::from_millis(millis);
        let limit = Limit::GlobalSecond;
        Told { limit, quota, window, remaining: 0, reset: Duration::ZERO }.in_seconds()
    };
    assert_eq!(told(100, 60_000), (100, 60));
    assert_eq!(told(100, 1_000), (100, 1));
    assert_eq!(told(20, 1_200), (20, 2));
    assert_eq!(told(150, 100), (1_500, 1), "a tenth of a second's at once");
    assert_eq!(told(8, 900), (8, 1));
    assert_eq!(told(u32::MAX, 1), (u32::MAX, 1));
}
