//! goose, embedded: its users take arrivals from the pacer, send with goose's shared client and record what came.
//!
//! Latency is given to goose from the intended start, so its report is free of coordinated omission too. goose keeps one
//! process-wide killswitch: attacks run one after another, and a run ends by it, which goose's own report calls
//! "canceled". goose also installs a Ctrl-C handler unless the program has one already; `main` installs its own first.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chaos::history::{ClassId, Outcome};
use goose::client::GooseClientBuilder;
use goose::config::GooseConfiguration;
use goose::goose::{GooseUser, Scenario, Transaction, TransactionResult};
use goose::{GooseAttack, GooseError};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::classify::{self, Answer, Classified};
use super::operations::{self, Operation, Operations, Send};
use super::pacing::{Arrival, Pacer, Ticket};
use super::{CLASSES, CREATE_ORDER, webhook};
use crate::observe::Recorder;

/// Pause before an operation of unknown outcome is sent again with its key.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Longest wait for a user's first connection.
const WARM_UP: Duration = Duration::from_secs(2);
/// goose's killswitch is process-wide, so two attacks at once would stop each other.
static ONE_ATTACK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What users share.
#[derive(Debug)]
pub struct Shared {
    pub pacer: Pacer,
    pub operations: Operations,
    pub recorder: Recorder,
    pub base_url: Url,
    pub timeout: Duration,
    pub cancel: CancellationToken,
    /// When the schedule starts, in nanoseconds of the run's clock; set before any arrival is released.
    pub start_ns: std::sync::OnceLock<u64>,
}

/// The logical clients of one user: two, because a createOrder may be sent twice at the same time.
#[derive(Debug, Clone, Copy)]
struct Client {
    processes: [u32; 2],
}

/// By what an arrival is sent, and as whom.
struct Caller {
    http: reqwest::Client,
    key: Option<String>,
}

/// Runs goose until `driver`, which drives the pacer, ends.
pub async fn attack(
    shared: &Arc<Shared>,
    users: u32,
    report_files: &[String],
    driver: impl Future<Output = ()> + std::marker::Send + 'static,
) -> anyhow::Result<()> {
    let _turn = ONE_ATTACK.lock().await;
    let attack = configure(shared, users, report_files).context("set up goose")?;
    let stopper = tokio::spawn(async move {
        // On every way out, a panic included, goose is told to stop.
        let _stop = StopGoose;
        driver.await;
    });
    let result = Box::pin(attack.execute()).await;
    stopper.abort();
    let driven = stopper.await;
    match result {
        Ok(_) => {}
        Err(error) => return Err(anyhow::anyhow!("{error}")).context("run goose"),
    }
    match driven {
        Err(error) if error.is_panic() => Err(anyhow::anyhow!("the driver of arrivals panicked")),
        _ => Ok(()),
    }
}

struct StopGoose;

impl Drop for StopGoose {
    fn drop(&mut self) {
        goose::trigger_killswitch("the schedule is over");
    }
}

/// Our own list of arguments: goose's parser never sees the harness's command line. goose is not to print, since stdout is
/// the harness's: with `--no-reset-metrics` it would say "All N users launched.", so its figures are reset at that moment
/// instead, which loses nothing because the schedule begins later ([`super::drive`]).
fn configure(
    shared: &Arc<Shared>,
    users: u32,
    report_files: &[String],
) -> Result<GooseAttack, Box<GooseError>> {
    let users = users.to_string();
    let mut arguments: Vec<&str> = vec![
        "--host",
        shared.base_url.as_str(),
        "--users",
        &users,
        "--increase-rate",
        "100000",
        "--no-telnet",
        "--no-print-metrics",
        "--no-transaction-metrics",
        "--no-scenario-metrics",
        "-qq",
    ];
    for file in report_files {
        arguments.extend(["--report-file", file]);
    }
    let configuration = GooseConfiguration::parse_args_default(&arguments)?;
    let warm = shared.clone();
    let serve = shared.clone();
    let scenario = Scenario::new("arrivals")
        .register_transaction(
            Transaction::new(Arc::new(move |user| {
                let shared = warm.clone();
                Box::pin(async move { join(user, &shared).await })
            }))
            .set_on_start(),
        )
        .register_transaction(Transaction::new(Arc::new(move |user| {
            let shared = serve.clone();
            Box::pin(async move { next(user, &shared).await })
        })));
    let client = GooseClientBuilder::new().without_cookies().gzip(false).timeout(shared.timeout);
    Ok(GooseAttack::initialize_with_config(configuration)?
        .register_scenario(scenario)
        .set_client_builder_without_cookies(client)?)
}

/// Brings the user's connection up and tells the pacer. A server that does not answer is the business of arrivals.
async fn join(user: &mut GooseUser, shared: &Shared) -> TransactionResult {
    user.set_session_data(Client { processes: [shared.recorder.process(), shared.recorder.process()] });
    let warm = if shared.operations.speaks_graphql() {
        url(shared, "/livez").map(|url| user.client.get(url))
    } else {
        url(shared, "/").map(|url| user.client.head(url))
    };
    if let Some(request) = warm
        && let Ok(response) = request.timeout(WARM_UP).send().await
    {
        // Read to its end, or the connection could not be used again.
        drop(response.bytes().await);
    }
    shared.pacer.join();
    Ok(())
}

/// Serves one arrival.
async fn next(user: &mut GooseUser, shared: &Shared) -> TransactionResult {
    match shared.pacer.next().await {
        None => {
            // Over: goose asks its users to leave between two transactions.
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(())
        }
        Some(Ticket::Drop(arrival)) => {
            let class = drop_arrival(shared, arrival);
            let waited = arrival.intended.elapsed();
            user.record_custom_request_duration(
                "LOAD",
                name(class),
                waited,
                false,
                None,
                Some("not started in time"),
            )
            .await
        }
        Some(Ticket::Start(arrival)) => {
            let result = serve(user, shared, arrival).await;
            shared.pacer.done();
            result
        }
    }
}

/// Records an arrival that is never sent.
pub fn drop_arrival(shared: &Shared, arrival: Arrival) -> ClassId {
    let class = shared.operations.class(arrival.index);
    shared.recorder.arrival_dropped(class, intended_ns(shared, arrival));
    class
}

async fn serve(user: &mut GooseUser, shared: &Shared, arrival: Arrival) -> TransactionResult {
    let operation = shared.operations.operation(arrival.index);
    let intended = intended_ns(shared, arrival);
    shared.recorder.arrival_started(intended);
    let mut client = *user.get_session_data_unchecked::<Client>();
    let caller = Caller { http: user.client.clone(), key: shared.operations.key(arrival.index) };
    let [first, second] = &mut client.processes;
    let found = if operation.twin {
        let one = once(&caller, shared, &operation, first, intended);
        let two = once(&caller, shared, &operation, second, intended);
        tokio::join!(one, two).0
    } else {
        once(&caller, shared, &operation, first, intended).await
    };
    let latency = arrival.intended.elapsed();
    let status = found.code.parse().ok();
    let ok = found.outcome == Outcome::Ok;
    let error = (!ok).then_some(found.code.as_str());
    user.record_custom_request_duration("LOAD", name(operation.class), latency, ok, status, error).await?;
    if operation.retry && found.outcome == Outcome::Unknown && !shared.pacer.is_over() {
        tokio::time::sleep(RETRY_AFTER).await;
        once(&caller, shared, &operation, first, shared.recorder.now_ns()).await;
    }
    user.set_session_data(client);
    Ok(())
}

/// Sends an operation once and records it; after an unknown outcome `process` is a new one.
async fn once(
    caller: &Caller,
    shared: &Shared,
    operation: &Operation,
    process: &mut u32,
    intended_ns: u64,
) -> Classified {
    let op = shared.recorder.invoke(operation.class, *process, intended_ns, &operation.key, &operation.value);
    let answer = tokio::select! {
        answer = send(caller, shared, operation) => answer,
        () = shared.cancel.cancelled() => Answer::None("cancelled"),
    };
    let found = judge(shared, operation, &answer);
    let text = match found.outcome {
        Outcome::Ok => operations::canonical(operation.class, &found.data),
        Outcome::Fail | Outcome::Unknown => String::new(),
    };
    shared.recorder.complete(op, found.outcome, &found.code, &text);
    match found.outcome {
        Outcome::Ok if operation.class == CREATE_ORDER => {
            shared.operations.acknowledged(text.split('|').next().unwrap_or_default());
        }
        Outcome::Unknown => *process = shared.recorder.process(),
        Outcome::Ok | Outcome::Fail => {}
    }
    found
}

fn judge(shared: &Shared, operation: &Operation, answer: &Answer) -> Classified {
    match operation.send {
        Send::Plain(index) => {
            let request = shared.operations.request(index);
            let found = classify::plain(answer, request.expect);
            match (request.graphql, found.outcome) {
                (true, Outcome::Ok) => classify::graphql(answer),
                _ => found,
            }
        }
        Send::Webhook(_) => classify::webhook(answer),
        Send::Graphql(_) => {
            let found = classify::graphql(answer);
            if found.outcome == Outcome::Ok && !operations::is_complete(operation.class, &found.data) {
                return Classified { outcome: Outcome::Unknown, code: "incomplete".into(), ..found };
            }
            found
        }
    }
}

async fn send(caller: &Caller, shared: &Shared, operation: &Operation) -> Answer {
    let Some(request) = build(caller, shared, operation) else { return Answer::None("transport") };
    let response = match request.timeout(shared.timeout).send().await {
        Ok(response) => response,
        Err(error) => return Answer::None(why(&error)),
    };
    let status = response.status().as_u16();
    let retry_after = response.headers().contains_key(reqwest::header::RETRY_AFTER);
    match response.bytes().await {
        Ok(body) => Answer::Http { status, retry_after, body: body.to_vec() },
        Err(error) => Answer::None(why(&error)),
    }
}

fn build(caller: &Caller, shared: &Shared, operation: &Operation) -> Option<reqwest::RequestBuilder> {
    let request = match &operation.send {
        Send::Graphql(body) => {
            let request =
                caller.http.post(url(shared, "/graphql")?).header("content-type", "application/json");
            request.body(body.clone())
        }
        Send::Webhook(body) => webhook::signed(caller.http.post(url(shared, webhook::PATH)?), body),
        Send::Plain(index) => {
            let plain = shared.operations.request(*index);
            let method = reqwest::Method::from_bytes(plain.method.as_bytes()).ok()?;
            let mut request = caller.http.request(method, url(shared, &plain.path)?);
            for (name, value) in &plain.headers {
                request = request.header(name, value);
            }
            if plain.body.is_empty() { request } else { request.body(plain.body.clone()) }
        }
    };
    Some(match &caller.key {
        Some(key) => request.header("x-api-key", key),
        None => request,
    })
}

/// A word from a small set: goose and the report count by it.
fn why(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        return "timeout";
    }
    let mut source: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::ConnectionRefused => "refused",
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => "reset",
                _ => "transport",
            };
        }
        source = cause.source();
    }
    if error.is_connect() { "connect" } else { "transport" }
}

fn url(shared: &Shared, path: &str) -> Option<Url> {
    shared.base_url.join(path).ok()
}

fn intended_ns(shared: &Shared, arrival: Arrival) -> u64 {
    let start = shared.start_ns.get().expect("set before any arrival is released");
    start + u64::try_from(arrival.at.as_nanos()).unwrap_or(u64::MAX)
}

fn name(class: ClassId) -> &'static str {
    CLASSES.get(usize::from(class.0)).copied().unwrap_or("request")
}
