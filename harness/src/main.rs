//! The `harness` command: parse, run, exit code.

fn main() {}
