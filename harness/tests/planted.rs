//! Each test plants one violation, in the stores, in the server or in a fault, and shows that the verdict names it: the
//! line, its outcome, the exit code. Real services, the real server, the process backend. The last one plants nothing
//! and keeps what a healthy run looks like from outside.

#[path = "planted/digest.rs"]
mod digest;
#[path = "planted/stage.rs"]
mod stage;
#[macro_use]
#[path = "support/trials.rs"]
mod trials;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Context;
use chaos::fault::{Existing, NetworkFault};
use harness::environment::{
    BackendChoice, Environment, Error, ExternalUrls, Request, ServerRequest, ServiceName,
};
use harness::load;
use harness::observe::{Recorder, sampler, scrape};
use harness::scenario::readback::Sources;
use harness::verdict::{Outcome, Verdict};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use stage::{assert_nothing_is_left, calm, criterion, job, report, run_in, scenario, until, wrapped};
use trials::{NotRun, Ran};

/// Waits until no job is on its way: what is planted must not change what a worker still does.
async fn idle(sources: &Sources) -> anyhow::Result<()> {
    let (http, url) = (reqwest::Client::new(), format!("{}/metrics", sources.base_url));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let page = scrape::fetch(&http, &url).await?;
        let left: f64 =
            ["queue_depth", "spool_jobs", "outbox_pending"].iter().filter_map(|m| page.sum(m, &[])).sum();
        if left == 0.0 {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "{left} jobs and events are still on their way");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Removes an acknowledged order that nothing else refers to, and lets one invoice be there twice. Returns the keys.
async fn lose_and_double(sources: Sources) -> anyhow::Result<(String, String)> {
    idle(&sources).await?;
    let mut db = PgConnection::connect(&sources.postgres_url).await?;
    let lost: String = sqlx::query_scalar(
        "DELETE FROM orders WHERE id = (
             SELECT o.id FROM orders o
             WHERE o.idempotency_key IS NOT NULL
               AND NOT EXISTS (SELECT FROM invoices i WHERE i.order_id = o.id)
               AND NOT EXISTS (SELECT FROM order_status_changes c WHERE c.order_id = o.id AND c.idempotency_key <> o.idempotency_key)
             ORDER BY o.created_at LIMIT 1)
         RETURNING idempotency_key",
    )
    .fetch_one(&mut db)
    .await
    .context("lose an order")?;
    sqlx::query("ALTER TABLE invoices DROP CONSTRAINT invoices_pkey").execute(&mut db).await?;
    let doubled: String = sqlx::query_scalar(
        "INSERT INTO invoices SELECT * FROM invoices WHERE idempotency_key IS NOT NULL ORDER BY created_at LIMIT 1
         RETURNING idempotency_key",
    )
    .fetch_one(&mut db)
    .await
    .context("copy an invoice")?;
    db.close().await?;
    Ok((lost, doubled))
}

async fn a_lost_write_and_a_job_that_took_effect_twice_are_named_with_their_keys() -> Ran {
    let _turn = stage::turn().await;
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = run_in(folder.path(), &CancellationToken::new());
    let mut job = calm("10s", None);
    let (sender, planted) = tokio::sync::oneshot::channel();
    job.tamper = Some(Box::new(|sources| {
        Box::pin(async move {
            let keys = lose_and_double(sources).await?;
            sender.send(keys).map_err(|_| anyhow::anyhow!("nobody wants the keys"))
        })
    }));
    let report = report(&run, &mut job).await?;
    let (lost, doubled) = planted.await.expect("the plant was set");

    let line = criterion(&report, "no-acked-write-lost");
    assert_eq!(line.outcome, Outcome::Fail);
    assert!(line.proof[0].contains(&lost), "{:?}", line.proof);
    assert!(line.proof[1].contains(&format!("key {lost}, ok")), "the operation is named: {:?}", line.proof);
    let anomaly = report.anomalies.iter().find(|a| a.invariant == "no-acked-write-lost").expect("a witness");
    assert_eq!((anomaly.kind.as_str(), anomaly.key.as_str()), ("lost", lost.as_str()));
    assert!(anomaly.operations.iter().any(|op| op.contains(&lost)), "{anomaly:?}");

    let line = criterion(&report, "invoice-exactly-once");
    assert_eq!(line.outcome, Outcome::Fail);
    assert!(line.proof[0].contains(&doubled), "{:?}", line.proof);
    let anomaly = report.anomalies.iter().find(|a| a.invariant == "invoice-exactly-once").expect("a witness");
    assert_eq!(anomaly.key, doubled);
    assert!(anomaly.operations.iter().any(|op| op.contains(&doubled)), "{anomaly:?}");

    for untouched in ["no-write-out-of-nothing", "no-acked-status-lost", "nothing-left-behind"] {
        assert_eq!(criterion(&report, untouched).outcome, Outcome::Pass, "{untouched}");
    }
    assert_eq!(report.verdict, Verdict::InvariantViolated);
    assert_eq!(report.verdict.exit_code(), 1);
    assert_nothing_is_left(&run);
    Ok(())
}

async fn a_server_that_ignores_sigterm_is_residue_and_is_gone_with_its_children() -> Ran {
    let _turn = stage::turn().await;
    let folder = tempfile::tempdir().expect("temporary folder");
    let deaf = "trap '' TERM\n\"$SERVER\" \"$@\" &\nwait";
    let server = wrapped(folder.path(), deaf).await?;
    let run = run_in(folder.path(), &CancellationToken::new());
    let mut job = calm("4s", Some(&server));
    job.settings.server.grace_slack = Duration::from_secs(1);
    let seen = until("the server", async || stage::server_is_seen(&run));
    let (report, seen) = stage::beside(report(&run, &mut job), seen).await;
    let report = report?;
    seen.expect("the look for leftovers sees a server that runs");
    let line = criterion(&report, "nothing-left-behind");
    assert_eq!(line.outcome, Outcome::Fail);
    assert!(line.proof.iter().any(|l| l.contains("ignored SIGTERM")), "{:?}", line.proof);
    assert_eq!(report.verdict, Verdict::Residue);
    assert_eq!(report.verdict.exit_code(), 5);
    assert_nothing_is_left(&run);
    Ok(())
}

async fn a_leak_of_a_megabyte_a_second_is_named() -> Ran {
    let _turn = stage::turn().await;
    let folder = tempfile::tempdir().expect("temporary folder");
    // The pipe never has anything to read: a wait that needs no further process.
    let leaking = r#"
"$SERVER" "$@" &
child=$!
trap 'kill -TERM "$child"' TERM
exec {nothing}<> <(:)
printf -v chunk '%*s' 1000000 ''
held=()
while kill -0 "$child" 2>/dev/null; do
    held+=("$chunk")
    read -r -t 1 -u "$nothing"
done
wait "$child""#;
    let server = wrapped(folder.path(), leaking).await?;
    let run = run_in(folder.path(), &CancellationToken::new());
    let mut job = calm("70s", Some(&server));
    job.plan.profile.leak.enabled = true;
    let report = report(&run, &mut job).await?;
    let line = criterion(&report, "leak-memory");
    assert_eq!(line.outcome, Outcome::Fail, "{}", line.detail);
    assert!(!line.proof.is_empty(), "the samples are shown");
    for sound in ["leak-descriptors", "leak-threads", "no-acked-write-lost", "nothing-left-behind"] {
        assert_ne!(criterion(&report, sound).outcome, Outcome::Fail, "{sound}");
    }
    assert_eq!(report.verdict, Verdict::SloMissed);
    assert_eq!(report.verdict.exit_code(), 2);
    assert_nothing_is_left(&run);
    Ok(())
}

async fn a_fault_that_did_not_bite_makes_the_run_inconclusive() -> Ran {
    let _turn = stage::turn().await;
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = run_in(folder.path(), &CancellationToken::new());
    let weak = r#"
        inject.latency = { delay = "1ms" }
        start = { at = "2s" }
        stop = { lasts = "2s" }
        evidence = { min_delayed_bytes = 1000000000000 }"#;
    let mut job = job(scenario("7s", weak), None);
    let report = report(&run, &mut job).await?;
    let line = criterion(&report, "evidence planted");
    assert!(matches!(&line.outcome, Outcome::Inconclusive(why) if why.contains("did not bite")), "{line:?}");
    assert!(!report.faults[0].bit && report.faults[0].verified_gone, "{:?}", report.faults);
    assert_eq!(criterion(&report, "no-acked-write-lost").outcome, Outcome::Pass);
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert_eq!(report.verdict.exit_code(), 3);
    assert_nothing_is_left(&run);
    Ok(())
}

async fn a_kill_of_a_server_that_is_not_ours_is_not_run_and_nothing_starts() -> Ran {
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = run_in(folder.path(), &CancellationToken::new());
    let kill = r#"
        inject.kill = { restart_after = "1s" }
        start = { at = "2s" }
        evidence = { min_processes = 1 }"#;
    let mut job = job(scenario("7s", kill), None);
    // Nobody listens there: a run that began would say so.
    job.backend = BackendChoice::External(ExternalUrls {
        postgres: "postgres://nobody@127.0.0.1:9/none".into(),
        redis: "redis://127.0.0.1:9".into(),
        nats: "nats://127.0.0.1:9".into(),
    });
    let report = report(&run, &mut job).await?;
    let line = criterion(&report, "fault planted");
    assert_eq!(line.outcome, Outcome::NotRun("the harness did not start redis".into()));
    assert_eq!(report.criteria.len(), 1, "{:?}", report.criteria);
    assert_eq!(report.verdict, Verdict::NotRun);
    assert_eq!(report.verdict.exit_code(), 3);
    let made: Vec<_> = std::fs::read_dir(run.folder()).expect("run folder").flatten().collect();
    assert!(made.iter().all(|entry| entry.file_name() == "ledger.jsonl"), "{made:?}");
    Ok(())
}

async fn an_interrupt_ends_the_run_soon_leaves_nothing_and_is_never_valid() -> Ran {
    let _turn = stage::turn().await;
    let folder = tempfile::tempdir().expect("temporary folder");
    let cancel = CancellationToken::new();
    let run = run_in(folder.path(), &cancel);
    let mut job = calm("2m", None);
    let interrupt = async {
        until("load", async || {
            let page = stage::metrics(&run).await;
            page.and_then(|p| p.sum("http_requests_total", &[("path", "/graphql")])) > Some(100.0)
        })
        .await;
        cancel.cancel();
        Instant::now()
    };
    let (report, interrupted) = stage::beside(report(&run, &mut job), interrupt).await;
    let report = report?;
    let took = interrupted.expect("the interrupt came").elapsed();
    assert!(took < Duration::from_secs(20), "it went on for {took:?}");
    assert!(report.criteria.iter().any(|c| c.outcome == Outcome::Inconclusive("interrupted".into())));
    assert_eq!(criterion(&report, "nothing-left-behind").outcome, Outcome::Pass);
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert_eq!(report.verdict.exit_code(), 3);
    assert_nothing_is_left(&run);
    Ok(())
}

/// The states of one subject in their order.
fn states(recorder: &Recorder, subject: &str) -> String {
    let records = recorder.health_records();
    let of: Vec<String> =
        records.into_iter().filter(|(_, h)| h.subject == subject).map(|(_, h)| h.state).collect();
    of.join(" > ")
}

async fn a_healthy_run_with_redis_refused_looks_like_this_from_outside() -> Ran {
    let _turn = stage::turn().await;
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = run_in(folder.path(), &CancellationToken::new());
    let mut job = calm("12s", None);
    let request = Request {
        backend: job.backend.clone(),
        settings: job.settings.clone(),
        server: Some(ServerRequest { config: job.server_config.clone(), ..ServerRequest::default() }),
        ..Request::default()
    };
    let environment = match Environment::up(&run, request).await {
        Ok(environment) => environment,
        Err(Error::NotPossible { reason, .. }) => return Err(NotRun::because(reason)),
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    };
    let recorder = Recorder::create(&run, &load::CLASSES).expect("recorder");
    let (base_url, control) = (environment.server().base_url(), environment.control("runtime"));
    // Ready comes before the first look at Redis and NATS: what is kept begins at healthy.
    let http = reqwest::Client::new();
    until("healthy at first", async || stage::health(&http, &base_url).await.as_deref() == Some("healthy"))
        .await;
    let watch = CancellationToken::new();
    let pid = move || control.as_ref().and_then(|control| control.pid());
    let sampler =
        sampler::spawn(recorder.clone(), pid, &base_url, BTreeSet::new(), watch.clone()).expect("sampler");
    job.plan.ours.extend(environment.process_roots().await);

    let strike = async {
        recorder.load_started().await.expect("the load starts");
        until("healthy", async || states(&recorder, "health") == "healthy").await;
        // The server makes the stream when it first reaches NATS.
        until("an event", async || {
            let page = stage::metrics(&run).await;
            page.and_then(|p| p.sum("outbox_published_total", &[])) > Some(0.0)
        })
        .await;
        let before = digest::take(&environment).await.expect("digest");
        let refuse = NetworkFault::Refuse { existing: Existing::Reset };
        let guard = environment.proxy(ServiceName::Redis).inject(refuse).await.expect("inject");
        until("degraded", async || states(&recorder, "health").ends_with(" > degraded")).await;
        // The queue says that it is degraded as soon as it is; the check of Redis says so in its next round.
        let redis = || states(&recorder, "dependency.redis");
        until("redis unhealthy", async || redis().ends_with(" > unhealthy")).await;
        let during = digest::take(&environment).await.expect("digest");
        let evidence = guard.heal().await;
        assert!(evidence.refused > 0 && evidence.reset > 0, "{evidence:?}");
        until("healthy again", async || states(&recorder, "health").ends_with(" > healthy")).await;
        until("redis healthy again", async || redis().ends_with(" > healthy")).await;
        (before, during, digest::take(&environment).await.expect("digest"))
    };
    let (outcome, (before, during, after)) =
        tokio::join!(Box::pin(load::drive(&run, &job.plan, &base_url, &recorder)), Box::pin(strike));
    assert!(outcome.expect("the load is driven").answered > 0);
    let page = async || scrape::fetch(&http, &format!("{base_url}/metrics")).await.expect("metrics");
    until("a job", async || page().await.sum("job_executions_total", &[]) > Some(0.0)).await;
    let schema = page().await.schema();
    watch.cancel();
    sampler.await.expect("join the sampler");
    let health = ["health", "dependency.redis", "dependency.database", "dependency.nats", "ready"]
        .map(|subject| format!("{subject}: {}\n", states(&recorder, subject)))
        .concat();
    recorder.finish().expect("history");
    assert_eq!(environment.down().await, vec![]);
    assert_nothing_is_left(&run);

    insta::assert_snapshot!("health_states", health);
    insta::assert_snapshot!("metrics_schema", schema);
    assert!(before.len() > 50, "the digest has only {} lines", before.len());
    // The fault shows while it acts, so the digest would see what it left.
    insta::assert_snapshot!("rollback_digest_during_the_fault", digest::difference(&before, &during));
    insta::assert_snapshot!("rollback_digest_after_the_fault", digest::difference(&before, &after));
    Ok(())
}

fn main() -> std::process::ExitCode {
    trials::run(trials![
        a_lost_write_and_a_job_that_took_effect_twice_are_named_with_their_keys,
        a_server_that_ignores_sigterm_is_residue_and_is_gone_with_its_children,
        a_leak_of_a_megabyte_a_second_is_named,
        a_fault_that_did_not_bite_makes_the_run_inconclusive,
        a_kill_of_a_server_that_is_not_ours_is_not_run_and_nothing_starts,
        an_interrupt_ends_the_run_soon_leaves_nothing_and_is_never_valid,
        a_healthy_run_with_redis_refused_looks_like_this_from_outside,
    ])
}
