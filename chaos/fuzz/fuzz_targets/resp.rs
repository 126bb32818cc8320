//! Redis's protocol under rules: bytes are conserved and bounded, whatever the peers send.
#![no_main]

use chaos::protocol::Protocol;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| chaos_fuzz::inspect(Protocol::Redis, input));
