//! The body of a request: whatever it holds, it is refused with a reason or answered in JSON, and the same request is
//! answered the same again, now that its operation is known.
#![no_main]

use fraiseql_runtime::api::graphql::request::{Posted, from_body};
use fraiseql_runtime::engine::persisted::Persisted;
use fraiseql_runtime_fuzz::Shop;
use libfuzzer_sys::fuzz_target;

const BATCH_MAX: usize = 3;

thread_local! {
    static SHOP: Shop = Shop::open();
}

fuzz_target!(|input: &[u8]| {
    let asked = match from_body(input, BATCH_MAX) {
        Ok(Posted::One(asked)) => vec![asked],
        Ok(Posted::Batch(asked)) => {
            assert!((1..=BATCH_MAX).contains(&asked.len()));
            asked
        }
        Err(unread) => {
            assert!(!unread.message.is_empty());
            return;
        }
    };
    SHOP.with(|shop| {
        for asked in asked {
            let Ok(request) = asked.resolve(&Persisted::default()) else { continue };
            let (answer, body) = shop.answer(&request);
            let (again, second) = shop.answer(&request);
            assert_eq!((answer.stage, body), (again.stage, second));
        }
    });
});
