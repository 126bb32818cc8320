//! The harness believes that nothing was done after these codes, and after no other: both sides have one list.

use fraiseql_runtime::error::ErrorKind;
use harness::load::classify::REFUSALS;

#[test]
fn the_harness_takes_as_a_refusal_what_is_one() {
    use ErrorKind::{
        BadInput, IdempotencyConflict, Internal, InvalidTransition, NotFound, Timeout, Unavailable,
    };
    for kind in [BadInput, NotFound, IdempotencyConflict, InvalidTransition, Timeout, Unavailable, Internal] {
        assert_eq!(REFUSALS.contains(&kind.code()), kind.is_refusal(), "{kind:?}");
    }
}
