//! Toxics with any values on bytes and on datagrams: what leaves is what came, except for what a toxic is there for; no
//! wait is over before it began; what was kept back leaves when the toxics go.
//!
//! An odd first byte: datagrams. Then come steps, each a byte and what it needs, under a time that the input makes.
#![no_main]

use chaos::toxic::Transport;
use chaos_fuzz::datagrams::Datagrams;
use chaos_fuzz::stream::Stream;
use chaos_fuzz::toxics::{Input, drive};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    match input.byte() % 2 {
        0 => drive(&mut Stream::default(), Transport::Tcp, &mut input),
        _ => drive(&mut Datagrams::default(), Transport::Udp, &mut input),
    }
});
