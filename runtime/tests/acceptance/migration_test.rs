//! The given acceptance file `tests/migration_test.rs`, kept unchanged: this is the crate root around
//! it, so that neither the formatter nor a lint asks for a change.

#[rustfmt::skip]
#[expect(unused_mut, clippy::allow_attributes_without_reason, reason = "the file is given as it stands")]
#[path = "../migration_test.rs"]
mod migration_test;
