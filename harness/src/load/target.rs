//! `--target URL`.
