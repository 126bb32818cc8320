//! Every family that a running server has is in the operators' page.

/// What a server of the harness shows, label names included; `harness/tests/planted.rs` keeps it true.
const FAMILIES: &str = include_str!("../../../harness/tests/snapshots/planted__metrics_schema.snap");
const PAGE: &str = include_str!("../../../docs/observability.md");

#[test]
fn every_family_is_explained_to_operators() {
    let families = FAMILIES.rsplit("---\n").next().expect("the snapshot").lines();
    let names: Vec<&str> = families.filter_map(|line| line.split(' ').next()).collect();
    assert!(names.len() > 50, "the snapshot is read");
    let missing: Vec<&&str> = names.iter().filter(|name| !PAGE.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/observability.md does not explain {missing:?}");
}
