//! Profiles: the shipped files, the overrides, and the errors people will see.

use super::*;
use proptest::prelude::*;

const SMALL: &str = r#"name = "small"
users = 10
timeout = "5s"

[[stage]]
name = "warm-up"
rate = 100
duration = "10s"
warm_up = true

[[stage]]
name = "steady"
rate = 200
duration = "60s"
"#;

fn error(text: &str) -> String {
    Profile::parse(text, "small.toml").expect_err("profile is wrong").to_string()
}

#[test]
fn shipped_profiles_carry_the_wanted_figures() {
    let read = |name| Profile::built_in(name).expect("shipped").expect("valid");
    let baseline = read("baseline");
    assert_eq!(baseline.peak_rate(), 1_000.0);
    assert_eq!(
        (baseline.slo.p95, baseline.slo.p99),
        (Duration::from_millis(100), Duration::from_millis(200))
    );
    assert_eq!(baseline.slo.error_rate, 0.001);
    assert_eq!(baseline.hard.p95, Duration::from_millis(500));
    assert_eq!(read("stress").peak_rate(), 5_000.0);
    let spike = read("spike");
    let rise = spike.stage.iter().find(|stage| stage.rate == 0.0).expect("rise");
    assert_eq!((rise.to, rise.duration), (Some(10_000.0), Duration::from_secs(30)));
    let soak = read("soak");
    assert_eq!(soak.peak_rate(), 500.0);
    let length: Duration = soak.stage.iter().filter(|stage| !stage.warm_up).map(|s| s.duration).sum();
    assert_eq!(length, Duration::from_secs(7_200));
    assert!(soak.leak.enabled);
    assert!(Profile::built_in("walk").is_none());
    let capacity = read("capacity");
    assert_eq!((capacity.kind, capacity.peak_rate()), (Kind::Capacity, 10_000.0));
}

#[test]
fn stress_with_the_limit_of_the_instance_and_without_it_are_one_load_with_the_same_goals() {
    let with = Profile::built_in("stress").expect("shipped").expect("valid");
    let text = include_str!("../../../scenarios/load/stress-admission.toml");
    let mut without = Profile::parse(text, "stress-admission.toml").expect("valid");
    let mut server = with.server.clone();
    let limits = server.get_mut("limits").and_then(toml::Value::as_table_mut).expect("limits");
    let limit = limits.remove("global_max_qps").and_then(|value| value.as_integer()).expect("a limit");
    assert!((limit as f64) < with.peak_rate() / 3.0, "most of the peak is refused");
    limits.remove("global_burst").expect("a burst");
    assert_eq!(without.server, server);
    (without.name, without.title, without.server) =
        (with.name.clone(), with.title.clone(), with.server.clone());
    assert_eq!(without, with);
}

#[test]
fn the_k6_profile_has_the_stages_and_thresholds_of_the_script() {
    let text = include_str!("../../../scenarios/load/k6.toml");
    let profile = Profile::parse(text, "k6.toml").expect("valid");
    let script = include_str!("../../../fixtures/k6/graphql_load.js");
    // A user sends ten requests a second at most: after each he pauses for a tenth of a second.
    assert!(script.contains("sleep(0.1)"));
    for (stage, duration) in profile.stage.iter().zip(["30s", "1m", "30s", "30s"]) {
        let users = stage.to.expect("each stage leads somewhere") / 10.0;
        assert!(script.contains(&format!("{{ duration: '{duration}', target: {users} }}")), "{}", stage.name);
        assert_eq!(humantime::format_duration(stage.duration).to_string(), duration);
    }
    assert!(script.contains("p(95)<500") && profile.slo.p95 == Duration::from_millis(500));
    assert!(script.contains("rate<0.01") && profile.slo.error_rate == 0.01);
}

#[test]
fn clients_and_the_servers_tables_are_read_and_too_many_clients_refused() {
    let with =
        |clients: &str| format!("{SMALL}\n[clients]\n{clients}\n[server.cache.response]\nenabled = true\n");
    let profile = Profile::parse(&with("authenticated = 600\nadmin = 2"), "small.toml").expect("valid");
    assert_eq!((profile.clients.total(), profile.clients.admin), (602, 2));
    assert_eq!(profile.server["cache"]["response"]["enabled"].as_bool(), Some(true));
    let text = error(&with("anonymous = 20001"));
    assert!(text.contains("20001 clients"), "{text}");
    let text = error(&with("bots = 1"));
    assert!(text.contains("bots"), "{text}");
}

#[test]
fn two_minute_soak_contains_all_three_faults_and_a_long_one_repeats_them() {
    let soak = || Profile::built_in("soak").expect("shipped").expect("valid");
    let minutes = |n: u64| Overrides { duration: Some(Duration::from_secs(60 * n)), ..Overrides::default() };
    let (kept, late) = Plan::new(soak(), minutes(2)).chaos_slots();
    let names: Vec<&str> = kept.iter().map(|slot| slot.scenario.as_str()).collect();
    assert_eq!(names, ["redis-refused", "postgres-silent-in-flight", "nats-cut"]);
    assert!(late.is_empty());
    let (kept, late) = Plan::new(soak(), minutes(1)).chaos_slots();
    assert!(kept.len() < 3 && kept.len() + late.len() == 3, "{kept:?} {late:?}");
    let (kept, late) = Plan::new(soak(), minutes(25)).chaos_slots();
    assert_eq!((kept.len(), late.len()), (9, 0));
    assert_eq!(kept[3].start, kept[0].start + Duration::from_secs(600));
    let none = Plan::new(soak(), Overrides { no_chaos: true, ..Overrides::default() });
    assert!(none.chaos_slots().0.is_empty());
}

#[test]
fn unknown_key_names_file_line_column_and_the_likely_key() {
    let text = error(&SMALL.replace("rate = 200", "raet = 200"));
    assert!(text.contains("small.toml:13:1"), "{text}");
    assert!(text.contains("unknown field `raet`"), "{text}");
    assert!(text.contains("did you mean `rate`?"), "{text}");
}

#[test]
fn wrong_value_points_at_the_value() {
    let text = error(&SMALL.replace("rate = 200", "rate = -1"));
    assert!(text.contains("small.toml:13:8") && text.contains("from 0 to 1000000"), "{text}");
    let text = error(&SMALL.replace("timeout = \"5s\"", "timeout = \"5 parsecs\""));
    assert!(text.contains("small.toml:3:11"), "{text}");
    let text = error(&SMALL.replace("duration = \"60s\"", "duration = \"0s\""));
    assert!(text.contains("longer than 0s"), "{text}");
}

#[test]
fn start_within_close_to_the_timeout_is_refused_with_its_line() {
    let text = error(&SMALL.replace("timeout = \"5s\"", "timeout = \"5s\"\nstart_within = \"4s\""));
    assert!(text.contains("small.toml:4:1") && text.contains("too close"), "{text}");
}

#[test]
fn plain_request_is_read_and_its_method_checked() {
    let with = |method: &str| {
        format!(
            "{SMALL}\n[[request]]\nmethod = \"{method}\"\npath = \"/x\"\nbody = \"hello\"\nexpect = 201\n"
        )
    };
    let profile = Profile::parse(&with("POST"), "small.toml").expect("valid");
    assert_eq!(profile.request[0].label(), "POST /x");
    assert_eq!(profile.request[0].expect, Some(201));
    let text = error(&with("PSOT"));
    assert!(text.contains("did you mean `POST`?"), "{text}");
}

proptest! {
    #[test]
    fn overrides_give_the_wanted_length_and_peak_and_leave_warm_up_alone(seconds in 1_u64..10_000, rate in 1_u32..20_000) {
        let profile = Profile::parse(SMALL, "small.toml").expect("valid");
        let changed = profile.with(Overrides {
            duration: Some(Duration::from_secs(seconds)),
            rate: Some(f64::from(rate)),
            no_chaos: false,
        });
        prop_assert!((changed.peak_rate() - f64::from(rate)).abs() < 1e-6);
        prop_assert!((changed.stage[0].rate - f64::from(rate) / 2.0).abs() < 1e-6);
        prop_assert_eq!(changed.stage[0].duration, Duration::from_secs(10));
        let length = changed.stage[1].duration;
        prop_assert!(length.abs_diff(Duration::from_secs(seconds)) < Duration::from_micros(1));
    }
}
