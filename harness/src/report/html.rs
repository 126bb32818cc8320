//! `report.html`: see the sibling modules.

use super::RunReport;

pub fn render(report: &RunReport) -> String {
    super::svg::timeline(report)
}
