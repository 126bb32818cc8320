//! `report.json`: the report itself; what every other form is made from.

use std::path::Path;

use super::{Error, RunReport, SCHEMA};

/// Indented JSON with a final newline.
pub fn render(report: &RunReport) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report is always representable as JSON");
    text.push('\n');
    text
}

/// Reads a report back; another schema is refused by name before its fields are looked at.
pub fn read(path: &Path) -> Result<RunReport, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let parse = |source| Error::Parse { path: path.into(), source };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(parse)?;
    let found = value.get("schema").and_then(|s| s.as_str()).unwrap_or_default();
    if found != SCHEMA {
        return Err(Error::Schema { path: path.into(), found: found.to_owned() });
    }
    serde_json::from_str(&text).map_err(parse)
}
