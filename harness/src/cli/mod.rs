//! Command line: a file per subcommand; parse, run, exit code.

pub mod doctor;
pub mod gc;
pub mod up;
