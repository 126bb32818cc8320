//! The text of a wire fault or of a message: what is read can be injected, written and read again.
#![no_main]

use chaos::protocol::fault::{WireEvent, WireFault};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(fault) = chaos_fuzz::fault(text) {
        let written = toml::to_string(&fault).expect("a fault can be written");
        let again: WireFault = toml::from_str(&written).expect("what was written can be read");
        assert_eq!(again, fault);
        let json = serde_json::to_string(&fault).expect("a fault can be written");
        assert_eq!(serde_json::from_str::<WireFault>(&json).expect("what was written can be read"), fault);
        let rule = fault.rule(1);
        assert_eq!(rule.protocol, fault.protocol());
    }
    if let Ok(event) = text.parse::<WireEvent>() {
        assert_eq!(event.to_string(), text);
        assert_eq!(event.to_string().parse(), Ok(event));
    }
});
