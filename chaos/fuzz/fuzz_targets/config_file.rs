//! The file of `-config`: what is taken is what the API then shows, and nothing is there of a file that is wrong.
#![no_main]

use std::cell::RefCell;

use chaos_fuzz::api::{Api, is_harmless};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static API: RefCell<Option<Api>> = const { RefCell::new(None) };
}

fuzz_target!(|input: &[u8]| {
    if !is_harmless(input) {
        return;
    }
    API.with_borrow_mut(|api| {
        let api = api.get_or_insert_with(Api::start);
        let taken = api.runtime.block_on(chaos::api::populate(&api.registry, input));
        let there = api.registry.list().len();
        match taken {
            Ok(count) => assert!(there <= count, "{there} of {count}"),
            // Those before one whose address cannot be used stay.
            Err(reason) => {
                let is_wrong =
                    reason.starts_with("bad request body") || reason.starts_with("missing required");
                assert!(!reason.is_empty() && (there == 0 || !is_wrong), "{there}: {reason}");
            }
        }
        api.clear();
    });
});
