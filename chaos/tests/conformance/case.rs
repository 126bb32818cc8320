//! What a case is, and how a file lists its own.

use crate::server::{Server, Setup};

#[derive(Clone)]
pub struct Case {
    pub area: &'static str,
    pub name: &'static str,
    /// About one of our deliberate differences: other servers are not asked.
    pub ours: bool,
    pub setup: Setup,
    pub run: fn(&Server),
}

/// The cases of a file: its area, whether they are about our differences, the server that they need, their names.
macro_rules! cases {
    ($area:literal, ours: $ours:literal, $setup:expr, [$($name:ident),* $(,)?]) => {
        pub fn cases() -> Vec<crate::case::Case> {
            vec![$(crate::case::Case {
                area: $area,
                name: stringify!($name),
                ours: $ours,
                setup: $setup,
                run: $name,
            }),*]
        }
    };
}
pub(crate) use cases;
