//! `fraiseql.toml`: the reference file is complete, and each mistake is told so that it can be mended.

use std::path::Path;
use std::process::Command;

use fraiseql_runtime::config::source::Environment;
use fraiseql_runtime::config::{Config, Tables};

use crate::support::environment;

const REFERENCE: &str = include_str!("../../../fixtures/config/fraiseql.toml");

fn problems(toml: &str) -> String {
    problems_in(toml, &environment())
}

fn problems_in(toml: &str, environment: &Environment) -> String {
    Config::parse(toml, "fraiseql.toml", environment).expect_err("this is wrong").to_string()
}

#[test]
fn the_reference_lists_every_key_with_its_default() {
    let written: toml::Table = toml::from_str(REFERENCE).expect("TOML");
    let defaults = toml::Table::try_from(Tables::default()).expect("TOML");
    assert_eq!(written, defaults);
    Config::parse(REFERENCE, "fixtures/config/fraiseql.toml", &environment())
        .expect("the reference is valid");
}

#[test]
fn the_container_image_has_a_valid_file() {
    let toml = include_str!("../../../ci/deploy/docker/fraiseql.toml");
    Config::parse(toml, "ci/deploy/docker/fraiseql.toml", &environment()).expect("valid");
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = Config::parse("", "fraiseql.toml", &environment()).expect("valid");
    assert_eq!(config.database, Tables::default().database);
}

#[test]
fn unknown_keys_and_tables_are_all_told_with_what_was_meant() {
    insta::assert_snapshot!(problems(
        "[server]\nbind_adress = \"0.0.0.0:80\"\n\n[databse]\nurl_env = \"X\"\n\n[cache.redis]\n  pool = 3\n"
    ));
}

#[test]
fn a_misspelt_key_in_a_list_is_told() {
    let told = problems("[[auth.api_keys]]\nid = \"ci\"\nsha = \"00\"\n");
    let wanted = "fraiseql.toml:3:1: unknown key `sha`\n    allowed: id, sha256, roles, tier";
    assert!(told.starts_with(wanted), "{told}");
}

#[test]
fn wrong_types_are_told_with_what_is_allowed() {
    let wrong = [
        "[database]\nmax_connections = \"many\"",
        "[database]\nmax_connections = -1",
        "[database]\nquery_timeout = 2",
        "[database]\nquery_timeout = \"2 parsecs\"",
        "[server]\nmax_body = \"1\"",
        "[server]\nbind_address = \"localhost\"",
        "[logging]\nformat = \"xml\"",
        "[logging]\naccess = \"some\"",
        "[cache.redis]\nfallback_enabled = \"yes\"",
        "server = 3",
        "[server\n",
        "[health]\ninterval = \"1s\"\ninterval = \"2s\"",
    ];
    insta::assert_snapshot!(wrong.map(problems).join("\n"));
}

#[test]
fn values_out_of_range_are_all_told() {
    insta::assert_snapshot!(problems(
        "[database]\nmin_connections = 20\nmax_connections = 10\nquery_timeout = \"0s\"\n\n\
         [queue]\nworkers = 0\nspool_max_bytes = \"1B\"\n\n[nats]\nstream = \"my orders\"\n\
         duplicate_window = \"50ms\"\n\n\
         [logging]\nlevel = \"loud\"\n"
    ));
}

#[test]
fn a_default_that_no_longer_fits_is_told_as_such() {
    insta::assert_snapshot!(problems("[database]\nmax_connections = 5\n"));
}

#[test]
fn the_environment_is_checked_too_and_no_password_is_told() {
    let wrong = [
        Environment::default(),
        Environment::from([
            ("DATABASE_URL", "mysql://shop:hunter2@db/shop"),
            ("REDIS_URL", "hunter2"),
            ("NATS_URL", "nats://bus"),
            ("FRAISEQL_ENV", "prod"),
            ("RUST_LOG", "chatty"),
        ]),
        Environment::from([
            ("DATABASE_URL", "postgres://shop:hunter2@db/shop"),
            ("XZEPR__DATABASE__URL", "postgres://shop:hunter3@db/shop"),
            ("REDIS_URL", "redis://cache"),
            ("NATS_URL", "nats://bus"),
        ]),
    ];
    let told = wrong.each_ref().map(|environment| problems_in("", environment)).join("\n\n");
    assert!(!told.contains("hunter"), "{told}");
    insta::assert_snapshot!(told);
}

#[test]
fn other_names_of_the_database_url_are_fallbacks_and_may_agree() {
    let both = Environment::from([
        ("FRAISEQL_DATABASE_URL", "postgres://db/shop"),
        ("XZEPR__DATABASE__URL", "postgres://db/shop"),
        ("REDIS_URL", "redis://cache"),
        ("NATS_URL", "nats://bus"),
    ]);
    let config = Config::parse("", "fraiseql.toml", &both).expect("valid");
    assert_eq!(config.urls.database.expose(), "postgres://db/shop");
}

#[test]
fn passwords_are_not_in_the_debug_output() {
    let config = Config::parse("", "fraiseql.toml", &environment()).expect("valid");
    let shown = format!("{config:?}");
    assert!(shown.contains("postgres://db.example:5432/shop"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn the_environment_overrides_the_file() {
    use fraiseql_runtime::config::logging::Format;
    let with = |format| {
        let environment = Environment::from([
            ("DATABASE_URL", "postgres://db/shop"),
            ("REDIS_URL", "redis://cache"),
            ("NATS_URL", "nats://bus"),
            ("FRAISEQL_LOG_FORMAT", format),
            ("RUST_LOG", "warn,sqlx=error"),
            ("FRAISEQL_LOG_SLOW_QUERIES", "true"),
        ]);
        let toml = "[logging]\nformat = \"json\"\nlevel = \"debug\"";
        Config::parse(toml, "fraiseql.toml", &environment).expect("valid").logging
    };
    for (name, format) in
        [("json", Format::Json), ("pretty", Format::Pretty), ("text", Format::Compact), ("", Format::Json)]
    {
        assert_eq!(with(name).format, format, "{name:?}");
    }
    assert_eq!(with("json").level, "warn,sqlx=error");
    assert!(with("json").slow_queries);
}

fn with_variables(toml: &str, more: &[(&str, &str)]) -> Result<Config, String> {
    let named =
        [("DATABASE_URL", "postgres://db/shop"), ("REDIS_URL", "redis://cache"), ("NATS_URL", "nats://bus")];
    let all: Vec<(&str, &str)> = named.iter().chain(more).copied().collect();
    let mut environment = [("", ""); 8];
    environment[..all.len()].copy_from_slice(&all);
    Config::parse(toml, "fraiseql.toml", &Environment::from(environment)).map_err(|error| error.to_string())
}

#[test]
fn logs_and_traces_are_as_the_environment_that_is_named_wants_them() {
    use fraiseql_runtime::config::logging::Format;
    for (name, level, format, location, rate) in [
        (None, "info", Format::Json, false, 1.0),
        (Some("development"), "debug", Format::Pretty, true, 1.0),
        (Some("staging"), "info", Format::Json, false, 0.5),
        (Some("production"), "info", Format::Json, false, 0.1),
    ] {
        let variables: Vec<_> = name.map(|name| ("FRAISEQL_ENV", name)).into_iter().collect();
        let config = with_variables("", &variables).expect("valid");
        let (logging, tracing) = (&config.logging, &config.tracing);
        assert_eq!(
            (logging.level.as_str(), logging.format, logging.source_location),
            (level, format, location)
        );
        assert_eq!(
            (tracing.sample_rate, tracing.environment.as_str()),
            (rate, name.unwrap_or("development"))
        );
        assert_eq!(logging.sample_rate, rate, "of a request's line as of its trace");
        assert!(!tracing.enabled);
        let toml = "[logging]\nlevel = \"warn\"\nformat = \"compact\"\nsource_location = false\nsample_rate = 0.75\n\
                    [tracing]\nsample_rate = 0.25\nenvironment = \"eu\"";
        let config = with_variables(toml, &variables).expect("valid");
        assert_eq!(
            (config.logging.level.as_str(), config.logging.format, config.logging.sample_rate),
            ("warn", Format::Compact, 0.75),
            "{name:?}"
        );
        assert_eq!(
            (config.tracing.sample_rate, config.tracing.environment.as_str()),
            (0.25, "eu"),
            "{name:?}"
        );
    }
}

#[test]
fn an_endpoint_in_the_environment_switches_traces_on() {
    let config = with_variables("", &[]).expect("valid");
    assert_eq!(config.tracing.jaeger_endpoint, "http://jaeger:4317");
    for name in ["XZEPR__JAEGER_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
        let config = with_variables("", &[(name, "https://collector:4317")]).expect("valid");
        assert!(config.tracing.enabled);
        assert_eq!(config.tracing.jaeger_endpoint, "https://collector:4317");
        let wrong = with_variables("", &[(name, "grpc://user:hunter2@collector")]).expect_err("no address");
        assert!(wrong.contains(name) && !wrong.contains("hunter2"), "{wrong}");
    }
    let wrong = "[tracing]\nsample_rate = 1.5\nqueue = 0\njaeger_endpoint = \"jaeger:4317\"";
    let told = with_variables(wrong, &[]).expect_err("wrong");
    for key in ["tracing.sample_rate = 1.5", "tracing.queue = 0", "tracing.jaeger_endpoint = \"jaeger:4317\""]
    {
        assert!(told.contains(key), "{key} is missing in {told}");
    }
}

fn check(file: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_fraiseql-server"))
        .args(["config", "check", "--config"])
        .arg(file)
        .env_clear()
        .envs([
            ("DATABASE_URL", "postgres://shop:hunter2@db/shop"),
            ("REDIS_URL", "redis://cache"),
            ("NATS_URL", "nats://bus"),
        ])
        .output()
        .expect("the binary runs");
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(told).expect("UTF-8"))
}

#[test]
fn the_command_tells_valid_from_invalid_by_its_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("fraiseql.toml");
    std::fs::write(&file, REFERENCE).expect("written");
    let (code, told) = check(&file);
    assert_eq!(code, Some(0), "{told}");
    assert!(!told.contains("hunter2"), "{told}");

    std::fs::write(&file, "[server]\nport = 80\n").expect("written");
    let (code, told) = check(&file);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains(&format!("{}:2:1: unknown key `port` in [server]", file.display())), "{told}");

    let (code, told) = check(&folder.path().join("absent.toml"));
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("No such file"), "{told}");
}
