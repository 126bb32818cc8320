//! Claim: to see whether a webhook of 2 KiB is signed costs less than two microseconds, whoever signed it.

use std::hint::black_box;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use criterion::{Criterion, criterion_group, criterion_main};
use fraiseql_runtime::clock::Clock;
use fraiseql_runtime::webhooks::signature::{
    GitHubVerifier, ShopifyVerifier, SignatureVerifier, StripeVerifier,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::time::Instant;

const SECRET: &str = "whsec_test123";
const AT: &str = "1234567890";

/// Shows when it was signed.
#[derive(Debug)]
struct StandsStill;

impl Clock for StandsStill {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn utc(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(1_234_567_890, 0).expect("a time")
    }
}

fn code(parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn benchmark_signature_verification(criterion: &mut Criterion) {
    let payload = vec![b'a'; 2_048];
    let stripe = format!("t={AT},v1={}", hexadecimal(&code(&[AT.as_bytes(), b".", &payload])));
    let github = format!("sha256={}", hexadecimal(&code(&[&payload])));
    let shopify = STANDARD.encode(code(&[&payload]));
    let verifiers: [(&str, Box<dyn SignatureVerifier>, String); 3] = [
        ("stripe", Box::new(StripeVerifier::new(StandsStill, Duration::from_secs(300))), stripe),
        ("github", Box::new(GitHubVerifier), github),
        ("shopify", Box::new(ShopifyVerifier), shopify),
    ];
    let mut group = criterion.benchmark_group("signature_verification");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    for (provider, verifier, signature) in &verifiers {
        assert_eq!(verifier.verify(&payload, signature, SECRET, None), Ok(true));
        group.bench_function(format!("verify/{provider}"), |bencher| {
            bencher.iter(|| verifier.verify(black_box(&payload), black_box(signature), SECRET, None));
        });
    }
    group.finish();
}

criterion_group!(benches, benchmark_signature_verification);
criterion_main!(benches);
