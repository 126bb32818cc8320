//! PostgreSQL's protocol under rules: bytes are conserved and bounded, whatever the peers send.
#![no_main]

use chaos::protocol::Protocol;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|input: &[u8]| chaos_fuzz::inspect(Protocol::Postgres, input));

fuzz_mutator!(|input: &mut [u8], size: usize, size_max: usize, seed: u32| {
    chaos_fuzz::mutation::mutate(input, size, size_max, seed)
});
