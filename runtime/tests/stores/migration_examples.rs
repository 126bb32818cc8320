//! The worked examples of docs/migrations.md, file by file: at each step, and while it is taken, the statements of the
//! release before and of the one after do what they should.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fraiseql_runtime::config::database::Migrations;
use fraiseql_runtime::migration::run::run;
use fraiseql_runtime::migration::{MIGRATIONS, file_name};
use sqlx::migrate::{Migration, Migrator};
use sqlx::{Connection, PgConnection};
use url::Url;

use crate::migrations::CONNECT_WITHIN;
use crate::support::Stage;

/// Rows that are there before: three batches of a backfill.
const ROWS: i64 = 2_500;

/// What servers of one release run. Each returns a number that must be the one that is given.
struct Release {
    name: &'static str,
    statements: &'static [(&'static str, i64)],
}

/// An example: its folder, and for each step the releases that run beside it, before and after.
struct Example {
    folder: &'static str,
    steps: &'static [(&'static str, &'static [Release])],
}

async fn connect(url: &Url) -> PgConnection {
    PgConnection::connect(url.as_str()).await.expect("the database answers")
}

/// The shop's schema and rows.
async fn shop(stage: &Stage) -> Url {
    let url = stage.database(stage.number()).await;
    run(url.as_str(), CONNECT_WITHIN, &MIGRATIONS, &Migrations::default()).await.expect("migrated");
    let mut connection = connect(&url).await;
    for fill in [
        "INSERT INTO users (name, email) SELECT 'user', n || '@example.com' FROM generate_series(1, $1) AS n",
        "INSERT INTO orders (id, status, total, shipping_address)
         SELECT gen_random_uuid(), 'pending', n / 4.0, jsonb_build_object('n', n) FROM generate_series(1, $1) AS n",
    ] {
        sqlx::query(fill).bind(ROWS).execute(&mut connection).await.expect("filled");
    }
    url
}

/// Runs the statements of the releases one beside the other, once each.
async fn exercise(url: &Url, step: &str, releases: &[Release]) {
    let work = releases.iter().map(|release| async move {
        let mut connection = connect(url).await;
        for (statement, wanted) in release.statements {
            let got: i64 = sqlx::query_scalar(*statement)
                .fetch_one(&mut connection)
                .await
                .unwrap_or_else(|error| panic!("{step}: {}: {statement}: {error}", release.name));
            assert_eq!(got, *wanted, "{step}: {}: {statement}", release.name);
        }
    });
    futures::future::join_all(work).await;
}

impl Example {
    async fn play(&self, url: &Url) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/schemas/migration-examples");
        let files = Migrator::new(folder.join(self.folder)).await.expect("the example's files");
        let names: Vec<String> = files.iter().map(file_name).collect();
        let steps: Vec<&str> = self.steps.iter().map(|(step, _)| *step).collect();
        assert_eq!(names, steps, "a step without statements proves nothing");

        let mut so_far: Vec<Migration> = MIGRATIONS.iter().cloned().collect();
        for (migration, (step, releases)) in files.iter().zip(self.steps) {
            so_far.push(migration.clone());
            let migrator = Migrator::with_migrations(so_far.clone());
            let done = AtomicBool::new(false);
            let migrate = async {
                let limits = Migrations::default();
                let result = run(url.as_str(), CONNECT_WITHIN, &migrator, &limits).await;
                done.store(true, Ordering::Release);
                result.unwrap_or_else(|error| panic!("{step}: {error:?}"));
            };
            // Those releases only that can run before the step as well as after it.
            let beside = async {
                while !done.load(Ordering::Acquire) {
                    exercise(url, step, &releases[..1]).await;
                }
            };
            tokio::join!(migrate, beside);
            exercise(url, step, releases).await;
        }
    }
}

const BEFORE_VERIFIED: Release = Release {
    name: "the release before email_verified",
    statements: &[
        (
            "WITH made AS (INSERT INTO users (name, email) VALUES ('old', gen_random_uuid()::text) RETURNING id)
             SELECT count(*) FROM made",
            1,
        ),
        ("SELECT count(*) FROM (SELECT id, name, email, created_at FROM users LIMIT 5) AS page", 5),
    ],
};

const WITH_VERIFIED: Release = Release {
    name: "the release with email_verified",
    statements: &[
        (
            "WITH made AS (INSERT INTO users (name, email, email_verified)
                           VALUES ('new', gen_random_uuid()::text, true) RETURNING email_verified)
             SELECT count(*) FROM made WHERE email_verified",
            1,
        ),
        (
            "WITH changed AS (UPDATE users SET email_verified = true
                              WHERE id = (SELECT max(id) FROM users WHERE name = 'user') RETURNING id)
             SELECT count(*) FROM changed",
            1,
        ),
        ("SELECT count(*) FROM users WHERE email_verified IS NULL AND name <> 'unsure'", 0),
    ],
};

/// Of a release that does not always know the value yet.
const UNSURE_OF_VERIFIED: Release = Release {
    name: "the release that writes NULL",
    statements: &[(
        "WITH made AS (INSERT INTO users (name, email, email_verified)
                       SELECT 'unsure', gen_random_uuid()::text, NULL FROM generate_series(1, 2500) RETURNING id)
         SELECT count(*) FROM made",
        ROWS,
    )],
};

pub async fn a_required_column_is_added_while_both_releases_write(stage: Arc<Stage>) {
    let url = shop(&stage).await;
    let example = Example {
        folder: "email_verified",
        steps: &[
            (
                "20270104090000_add_users_email_verified.sql",
                &[BEFORE_VERIFIED, WITH_VERIFIED, UNSURE_OF_VERIFIED],
            ),
            ("20270111090000_backfill_users_email_verified.sql", &[BEFORE_VERIFIED, WITH_VERIFIED]),
            ("20270111090100_check_users_email_verified.sql", &[BEFORE_VERIFIED, WITH_VERIFIED]),
            ("20270111090200_validate_users_email_verified.sql", &[BEFORE_VERIFIED, WITH_VERIFIED]),
            ("20270111090300_require_users_email_verified.sql", &[BEFORE_VERIFIED, WITH_VERIFIED]),
        ],
    };
    example.play(&url).await;
    let mut connection = connect(&url).await;
    let rows: (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE name = 'unsure' AND NOT email_verified), count(*) FILTER (WHERE name = 'user')
         FROM users",
    )
    .fetch_one(&mut connection)
    .await
    .expect("counted");
    assert_eq!(rows, (ROWS, ROWS), "every row that had no value has one");
    assert!(is_required(&mut connection, "users", "email_verified").await);
}

const BEFORE_AMOUNT: Release = Release {
    name: "the release before total_amount",
    statements: &[
        (
            "WITH made AS (INSERT INTO orders (id, status, total, shipping_address)
                           VALUES (gen_random_uuid(), 'pending', 12.34, '{}') RETURNING total)
             SELECT count(*) FROM made WHERE total = 12.34",
            1,
        ),
        (
            "WITH changed AS (UPDATE orders SET total = total + 0.01, updated_at = now()
                              WHERE id = (SELECT id FROM orders WHERE shipping_address = '{}' LIMIT 1) RETURNING id)
             SELECT count(*) FROM changed",
            1,
        ),
        ("SELECT count(*) FROM orders WHERE total IS NULL", 0),
    ],
};

/// Of the release that writes both, which reads the old one still.
const WITH_BOTH: Release = Release {
    name: "the release that writes both",
    statements: &[
        (
            "WITH made AS (INSERT INTO orders (id, status, total, total_amount, shipping_address)
                           VALUES (gen_random_uuid(), 'pending', 5.00, 5.00, '{}') RETURNING total, total_amount)
             SELECT count(*) FROM made WHERE total = 5 AND total_amount = 5",
            1,
        ),
        ("SELECT count(*) FROM orders WHERE total_amount <> total", 0),
    ],
};

/// Once every row has the new column, the old one needs not be known.
const AMOUNT_ONLY: Release = Release {
    name: "the release that knows total_amount only",
    statements: &[
        (
            "WITH made AS (INSERT INTO orders (id, status, total_amount, shipping_address)
                           VALUES (gen_random_uuid(), 'pending', 7.89, '{}') RETURNING total_amount)
             SELECT count(*) FROM made WHERE total_amount = 7.89",
            1,
        ),
        (
            "WITH changed AS (UPDATE orders SET total_amount = total_amount + 0.01
                              WHERE id = (SELECT id FROM orders WHERE shipping_address = '{}' LIMIT 1) RETURNING id)
             SELECT count(*) FROM changed",
            1,
        ),
        ("SELECT count(*) FROM orders WHERE total_amount IS NULL", 0),
    ],
};

pub async fn a_column_gets_another_name_while_both_releases_write(stage: Arc<Stage>) {
    let url = shop(&stage).await;
    let example = Example {
        folder: "total_amount",
        steps: &[
            ("20270118090000_add_orders_total_amount.sql", &[BEFORE_AMOUNT, WITH_BOTH]),
            ("20270118090100_backfill_orders_total_amount.sql", &[BEFORE_AMOUNT, WITH_BOTH, AMOUNT_ONLY]),
            ("20270118090200_check_orders_total_amount.sql", &[BEFORE_AMOUNT, WITH_BOTH, AMOUNT_ONLY]),
            ("20270118090300_validate_orders_total_amount.sql", &[BEFORE_AMOUNT, WITH_BOTH, AMOUNT_ONLY]),
            ("20270118090400_require_orders_total_amount.sql", &[BEFORE_AMOUNT, WITH_BOTH, AMOUNT_ONLY]),
            ("20270201090000_drop_orders_total.sql", &[AMOUNT_ONLY]),
        ],
    };
    example.play(&url).await;
    let mut connection = connect(&url).await;
    assert!(is_required(&mut connection, "orders", "total_amount").await);
    let kept: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM orders WHERE total_amount = (shipping_address ->> 'n')::numeric / 4",
    )
    .fetch_one(&mut connection)
    .await
    .expect("compared");
    assert_eq!(kept, ROWS, "each row that was there has the value that it had");
    let old = sqlx::query("SELECT total FROM orders").execute(&mut connection).await;
    assert!(old.is_err(), "the last step ends the old release");
}

async fn is_required(connection: &mut PgConnection, table: &str, column: &str) -> bool {
    sqlx::query_scalar("SELECT attnotnull FROM pg_attribute WHERE attrelid = $1::regclass AND attname = $2")
        .bind(table)
        .bind(column)
        .fetch_one(connection)
        .await
        .expect("the column is there")
}

pub async fn the_statements_of_the_checklist_run(stage: Arc<Stage>) {
    let page = include_str!("../../../docs/migrations.md");
    let mut statements =
        page.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let mut connection = connect(&stage.database(stage.number()).await).await;
    let mut run = 0;
    for statement in &mut statements {
        sqlx::query(statement)
            .fetch_all(&mut connection)
            .await
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
        run += 1;
    }
    assert!(run >= 6, "only {run} statements were found");
}
