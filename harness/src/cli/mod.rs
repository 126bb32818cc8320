//! Command line: a file per subcommand; parse, run, exit code.

pub mod chaos;
pub mod report;
