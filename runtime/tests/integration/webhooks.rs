//! The given tests of Stripe's signatures, their bodies as they were given: the name of the verifier stands for one whose clock
//! stands still, at the time of the first of them. And what is wrong with a table of webhooks.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fraiseql_runtime::clock::Clock;
use fraiseql_runtime::config::source::Environment;
use fraiseql_runtime::config::{Config, webhooks::Provider};
use fraiseql_runtime::webhooks::signature::{self, SignatureVerifier};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::time::Instant;

/// Shows 1234567890 seconds since 1970.
#[derive(Debug, Clone, Copy)]
struct StandsStill;

impl Clock for StandsStill {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn utc(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(1_234_567_890, 0).expect("a time")
    }
}

#[expect(non_upper_case_globals, reason = "the given tests name a type of no fields")]
const StripeVerifier: signature::StripeVerifier<StandsStill> =
    signature::StripeVerifier::new(StandsStill, Duration::from_secs(300));

fn compute_hmac(payload: &[u8], secret: &str, timestamp: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    for part in [timestamp.as_bytes(), b".", payload] {
        mac.update(part);
    }
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn test_stripe_signature_valid() {
    let verifier = StripeVerifier;
    let payload = b"test payload";
    let timestamp = "1234567890";
    let secret = "whsec_test123";

    // Generate valid signature
    let signature = format!("t={},v1={}", timestamp, compute_hmac(payload, secret, timestamp));

    assert!(verifier.verify(payload, &signature, secret, Some(timestamp)).unwrap());
}

#[test]
fn test_stripe_signature_invalid() {
    let verifier = StripeVerifier;
    let payload = b"test payload";
    let signature = "t=123,v1=invalid";
    let secret = "whsec_test123";

    assert!(!verifier.verify(payload, signature, secret, None).unwrap());
}

#[test]
fn test_stripe_signature_expired() {
    let verifier = StripeVerifier;
    let payload = b"test payload";
    let old_timestamp = "1000000000"; // Way in the past
    let secret = "whsec_test123";
    let signature = format!("t={},v1={}", old_timestamp, compute_hmac(payload, secret, old_timestamp));

    let result = verifier.verify(payload, &signature, secret, Some(old_timestamp));
    assert!(result.is_err()); // Should fail due to timestamp tolerance
}

const URLS: [(&str, &str); 3] =
    [("DATABASE_URL", "postgres://db/shop"), ("REDIS_URL", "redis://cache"), ("NATS_URL", "nats://bus")];

fn parse(toml: &str, secret: &str) -> Result<Config, String> {
    let [database, redis, nats] = URLS;
    let environment = Environment::from([database, redis, nats, ("TEST_SECRET", secret)]);
    Config::parse(toml, "fraiseql.toml", &environment).map_err(|error| error.to_string())
}

const LEAST: &str = "[webhooks.test]\nprovider = \"stripe\"\nsecret_env = \"TEST_SECRET\"\n";

#[test]
fn provider_and_secret_are_enough() {
    let config = parse(LEAST, "whsec_test").expect("valid");
    let webhook = &config.webhooks.0["test"];
    assert_eq!((webhook.provider, webhook.tolerance), (Provider::Stripe, Duration::from_secs(300)));
    assert_eq!(config.webhook_secrets["test"].expose(), "whsec_test");
    assert!(!format!("{config:?}").contains("whsec_test"));
}

#[test]
fn no_webhook_is_without_its_secret() {
    for (secret, told) in
        [("", "TEST_SECRET is not set"), ("whsec_test\n", "ends with a space or a line break")]
    {
        let problem = parse(LEAST, secret).expect_err("it must not start");
        assert!(problem.contains(told) && !problem.contains("whsec"), "{problem}");
        assert!(problem.contains("webhooks.test"), "{problem}");
    }
}

#[test]
fn each_mistake_is_told_with_its_place_and_what_is_allowed() {
    for (more, told) in [
        ("secret = \"s\"\n", "unknown key `secret`\n    allowed: provider, secret_env,"),
        (
            "tolerance = \"2h\"\n",
            "fraiseql.toml:4:13: webhooks.test.tolerance = \"2h\"\n    allowed: 1s to 1h",
        ),
        ("max_attempts = 0\n", "webhooks.test.max_attempts = 0\n    allowed: 1 to 1000"),
        ("handlers = [{ event = \"a\", mutation = \"{ a }\" }]\n", "allowed: one mutation"),
        ("handlers = [{ event = \"a\", mutation = \"mutation { a\" }]\n", "allowed: one mutation in GraphQL"),
        (
            "handlers = [{ event = \"a\", mutation = \"mutation($id: ID!) { a(id: $id) }\" }]\n",
            "allowed: a value for each that must have one",
        ),
        (
            "handlers = [{ event = \"a\", mutation = \"mutation { a }\" }, { event = \"a\", mutation = \"mutation { b }\" }]\n",
            "allowed: each event once",
        ),
        (
            "[webhooks.Other]\nprovider = \"github\"\nsecret_env = \"TEST_SECRET\"\n",
            "1 to 64 of the characters a-z",
        ),
        (
            "[webhooks.other]\nprovider = \"paypal\"\nsecret_env = \"TEST_SECRET\"\n",
            "`stripe`, `github`, `shopify`",
        ),
        ("[webhooks.other]\nprovider = \"github\"\n", "missing field `secret_env`"),
    ] {
        let problem = parse(&format!("{LEAST}{more}"), "whsec_test").expect_err(more);
        assert!(problem.contains(told), "{problem}");
    }
}
