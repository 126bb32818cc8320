//! The figures of all rounds, and the table that is made of them. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    Http,
    RedisGet,
    RedisSet,
    BulkUp,
    BulkDown,
    Connections,
    EchoMean,
    EchoP99,
    IdleMemory,
    TrafficMemory,
    ClosedMemory,
    AbortMemory,
}

impl Measure {
    /// Measured in every round.
    pub const RATES: [Measure; 8] = [
        Measure::Http,
        Measure::RedisGet,
        Measure::RedisSet,
        Measure::BulkUp,
        Measure::BulkDown,
        Measure::Connections,
        Measure::EchoMean,
        Measure::EchoP99,
    ];
    /// Measured once, at the end.
    pub const MEMORY: [Measure; 4] =
        [Measure::IdleMemory, Measure::TrafficMemory, Measure::ClosedMemory, Measure::AbortMemory];

    pub fn title(self) -> &'static str {
        match self {
            Measure::Http => "HTTP keep-alive, requests/s",
            Measure::RedisGet => "Redis GET, requests/s",
            Measure::RedisSet => "Redis SET, requests/s",
            Measure::BulkUp => "bulk up, MB/s",
            Measure::BulkDown => "bulk down, MB/s",
            Measure::Connections => "connection per request, connections/s",
            Measure::EchoMean => "echo on one connection, mean µs",
            Measure::EchoP99 => "echo on one connection, p99 µs",
            Measure::IdleMemory => "memory of an idle connection, kB",
            Measure::TrafficMemory => "memory of a connection after 200 kB, kB",
            Measure::ClosedMemory => "growth after all have closed, kB",
            Measure::AbortMemory => "growth after aborted downloads, kB",
        }
    }

    /// Rates are given as a ratio to the first subject; times and memory speak for themselves.
    fn has_ratio(self) -> bool {
        !Measure::MEMORY.contains(&self) && !matches!(self, Measure::EchoMean | Measure::EchoP99)
    }
}

/// Figures by measure and subject, one for each round.
#[derive(Debug, Clone)]
pub struct Table {
    subjects: Vec<String>,
    figures: BTreeMap<Measure, Vec<Vec<Option<f64>>>>,
}

impl Table {
    pub fn new(subjects: Vec<String>) -> Table {
        Table { subjects, figures: BTreeMap::new() }
    }

    /// Adds the next round's figure of a subject.
    pub fn add(&mut self, measure: Measure, subject: usize, figure: Option<f64>) {
        let subjects = self.subjects.len();
        self.figures.entry(measure).or_insert_with(|| vec![Vec::new(); subjects])[subject].push(figure);
    }

    /// Median over the rounds; `None` when no round has a figure.
    pub fn median(&self, measure: Measure, subject: usize) -> Option<f64> {
        median(self.figures.get(&measure)?.get(subject)?.iter().flatten().copied().collect())
    }

    /// Median of the ratios to the first subject, each within one round.
    pub fn ratio(&self, measure: Measure, subject: usize) -> Option<f64> {
        let rounds = self.figures.get(&measure)?;
        let pairs = rounds.first()?.iter().zip(rounds.get(subject)?);
        let ratios = pairs.filter_map(|(direct, own)| Some((*own)? / (*direct)?));
        median(ratios.filter(|ratio| ratio.is_finite()).collect())
    }

    /// Markdown: a row for each measure, a column for each subject.
    pub fn markdown(&self) -> String {
        let mut text =
            format!("| | {} |\n|---|{}\n", self.subjects.join(" | "), "---:|".repeat(self.subjects.len()));
        for measure in self.figures.keys() {
            let cells: Vec<String> =
                (0..self.subjects.len()).map(|subject| self.cell(*measure, subject)).collect();
            writeln!(text, "| {} | {} |", measure.title(), cells.join(" | "))
                .expect("writing to a String cannot fail");
        }
        text
    }

    fn cell(&self, measure: Measure, subject: usize) -> String {
        let Some(median) = self.median(measure, subject) else { return "–".to_owned() };
        let figure = if median.abs() < 100.0 { format!("{median:.1}") } else { format!("{median:.0}") };
        match self.ratio(measure, subject).filter(|_| subject > 0 && measure.has_ratio()) {
            Some(ratio) => format!("{figure} ({ratio:.2})"),
            None => figure,
        }
    }
}

/// The middle one, or the middle between two.
pub(super) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => None,
        n if n % 2 == 1 => Some(figures[middle]),
        _ => Some((figures[middle - 1] + figures[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(direct: &[f64], ours: &[Option<f64>]) -> Table {
        let mut table = Table::new(vec!["direct".into(), "ours".into()]);
        for figure in direct {
            table.add(Measure::Http, 0, Some(*figure));
        }
        for figure in ours {
            table.add(Measure::Http, 1, *figure);
        }
        table
    }

    #[test]
    fn ratios_compare_within_a_round_so_that_drift_cancels() {
        let table = table(&[100.0, 50.0, 200.0], &[Some(50.0), Some(25.0), Some(100.0)]);
        assert_eq!(table.ratio(Measure::Http, 1), Some(0.5));
        assert_eq!(table.median(Measure::Http, 0), Some(100.0));
    }

    #[test]
    fn what_was_not_measured_is_a_dash_and_no_zero() {
        let table = table(&[100.0], &[None]);
        assert_eq!(table.ratio(Measure::Http, 1), None);
        assert!(table.markdown().contains("| 100 | – |"), "{}", table.markdown());
    }

    #[test]
    fn the_first_subject_has_no_ratio_to_itself() {
        let table = table(&[1234.0, 1236.0], &[Some(617.0), Some(618.0)]);
        assert!(
            table.markdown().contains("| HTTP keep-alive, requests/s | 1235 | 618 (0.50) |"),
            "{}",
            table.markdown()
        );
    }
}
