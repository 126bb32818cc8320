//! The file of `-config`: nothing is there of a file that is wrong; what is taken is what a request with the same list
//! makes, for the same reasons, and what is shown makes it once more.
#![no_main]

use std::cell::RefCell;

use chaos_fuzz::again;
use chaos_fuzz::api::Api;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static API: RefCell<Option<Api>> = const { RefCell::new(None) };
}

fuzz_target!(|input: &[u8]| {
    API.with_borrow_mut(|api| {
        let api = api.get_or_insert_with(Api::start);
        let file = api.known().harmless(input);
        let taken = api.runtime.block_on(chaos::api::populate(&api.registry, &file));
        let by_file = api.state();
        match &taken {
            Ok(count) => assert!(by_file.len() <= *count, "{by_file:?} of {count}"),
            // Those before one whose address cannot be used stay.
            Err(reason)
                if ["listen ", "address ", "lookup "].iter().any(|begin| reason.starts_with(begin)) => {}
            Err(reason) => assert!(!reason.is_empty() && by_file.is_empty(), "{reason}: {by_file:?}"),
        }
        api.clear();
        let answer = api.call("POST", "/populate", &file);
        let by_request = match answer.status {
            201 => Ok(answer.json()["proxies"].as_array().map_or(0, Vec::len)),
            _ => Err(answer.reason()),
        };
        assert_eq!(by_request, taken);
        assert_eq!(again::anywhere(api.state()), again::anywhere(by_file));
        again::send_back(api);
    });
});
