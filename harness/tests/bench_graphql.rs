//! `harness bench graphql` for real and short: the subjects start on their copies of the data, agree, are measured, and a
//! planted difference ends it. The figures mean nothing here; that there is one for everything that ran does.

#[macro_use]
#[path = "support/trials.rs"]
mod trials;

use std::time::Duration;

use harness::bench::graphql::operation::Operation;
use harness::bench::graphql::{Bench, Options, Programs, Setup};
use harness::environment::{BackendChoice, Error, Profile, Settings};
use harness::run::Run;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use trials::{NotRun, Ran};

/// What this machine cannot do is not run, everything else that goes wrong fails the test.
fn possible<T>(result: Result<T, Error>) -> Result<T, NotRun> {
    match result {
        Ok(value) => Ok(value),
        Err(Error::NotPossible { reason, .. }) => Err(NotRun::because(reason)),
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

async fn up(run: &Run) -> Result<Bench, NotRun> {
    let mut settings = Settings::default();
    // The API's port is one for the machine, and tests run side by side.
    settings.proxy.api = String::new();
    let programs = possible(Programs::build(Profile::Dev, None).await)?;
    let setup = Setup {
        backend: BackendChoice::Process,
        settings,
        programs,
        database_connections: 4,
        config: toml::Table::new(),
        variants: Vec::new(),
    };
    possible(Bench::up(run, setup).await)
}

/// The cells of the table's row `title`.
fn row<'a>(table: &'a str, title: &str) -> Vec<&'a str> {
    let rows = table.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let mut found = rows.filter(|cells| cells.len() > 2 && cells[1] == title);
    let cells = found.next().unwrap_or_else(|| panic!("no row {title:?} in\n{table}"));
    cells[2..cells.len() - 1].to_vec()
}

/// Changes the price of the fifth product in one subject's database.
async fn change_price(url: &str, by: &str) {
    let mut database = PgConnection::connect(url).await.expect("its database");
    let changed = sqlx::query("UPDATE products SET price = price + $1::text::numeric WHERE id = 5").bind(by);
    assert_eq!(changed.execute(&mut database).await.expect("another price").rows_affected(), 1);
    database.close().await.expect("close");
}

async fn what_agrees_is_measured_and_what_differs_ends_the_bench() -> Ran {
    let folder = tempfile::tempdir().expect("temporary folder");
    let id = format!("test-{}", uuid::Uuid::new_v4().simple());
    let run =
        Run::create(id.clone(), 1, folder.path().join(id), CancellationToken::new()).expect("run folder");
    let bench = up(&run).await?;

    let other = &bench.subjects()[1].database_url;
    change_price(other, "0.01").await;
    let error = bench.agree().await.map(drop).expect_err("a planted difference").to_string();
    assert!(error.starts_with("async-graphql answers Q1 otherwise: data.products[4].price: "), "{error}");
    change_price(other, "-0.01").await;

    let agreement = bench.agree().await.expect("all subjects answer alike");
    let options = Options { rounds: 1, lasts: Duration::from_millis(200), connections: 4 };
    let figures = bench.measure(&options, agreement, |_| ()).await.expect("figures");
    let table = figures.markdown();
    let titles = row(&table, "");
    assert_eq!(titles, ["by hand", "async-graphql", "fraiseql-server"]);
    let not_run = figures.not_run();
    for operation in Operation::ALL {
        let cells = row(&table, &format!("{operation} requests/s"));
        for (name, cell) in titles.iter().zip(&cells) {
            let reason = not_run.iter().find(|(subject, of, _)| subject == name && *of == operation);
            // The yardsticks answer everything; the server says why when it does not.
            assert_eq!(*cell == "not run", reason.is_some(), "{name} {operation}: {cell}");
            assert!(reason.is_none_or(|(subject, ..)| *subject == "fraiseql-server"), "{reason:?}");
        }
        assert!(cells[0].parse::<f64>().is_ok_and(|rate| rate > 0.0), "{}", cells[0]);
        let [figure, ratio] =
            cells[1].split_once(' ').map(<[&str; 2]>::from).expect("a figure and its ratio");
        assert!(figure.parse::<f64>().is_ok_and(|rate| rate > 0.0), "{figure}");
        assert!(ratio.starts_with('(') && ratio.contains(" to "), "{ratio}");
    }
    let json = figures.json();
    let rounds = &json["operations"][0]["subjects"][0]["rounds"];
    assert_eq!(rounds.as_array().map(Vec::len), Some(1), "{json}");
    let (p50, p99) = (rounds[0]["p50_ms"].as_f64(), rounds[0]["p99_ms"].as_f64());
    assert!(p50.is_some_and(|p50| p50 > 0.0) && p50 <= p99, "{rounds}");

    assert_eq!(bench.down().await, vec![]);
    Ok(())
}

fn main() -> std::process::ExitCode {
    trials::run(trials![what_agrees_is_measured_and_what_differs_ends_the_bench])
}
