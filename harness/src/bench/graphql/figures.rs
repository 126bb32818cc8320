//! The figures of all rounds, as a table for people and as JSON. Pure.
//!
//! A ratio is taken within one round, to the first subject, so that what the machine did meanwhile cancels; the middle
//! one stands in the table with the least and the greatest. What was not run has its reason and no figure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::operation::Operation;
use crate::bench::table::median;

/// What one operation of one subject gave in one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    pub requests_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Processor time of the subject's processes for each request.
    pub server_cpu_ms: f64,
    /// The same of all PostgreSQL's processes.
    pub postgres_cpu_ms: f64,
    /// Resident memory of the subject while it answers, 10^6 bytes.
    pub rss_mb: f64,
}

/// A column of [`Sample`].
type Column = (&'static str, &'static str, fn(&Sample) -> f64);

const COLUMNS: [Column; 6] = [
    ("requests_per_second", "requests/s", |sample| sample.requests_per_second),
    ("p50_ms", "p50, ms", |sample| sample.p50_ms),
    ("p99_ms", "p99, ms", |sample| sample.p99_ms),
    ("server_cpu_ms", "server CPU ms a request", |sample| sample.server_cpu_ms),
    ("postgres_cpu_ms", "PostgreSQL CPU ms a request", |sample| sample.postgres_cpu_ms),
    ("rss_mb", "resident memory, MB", |sample| sample.rss_mb),
];

/// A column of the mix.
type ColumnOfMix = (&'static str, fn(&Sample) -> f64);

/// Parts of the load that the profiles and scenarios of the shop have in common, and what is told of a request of it.
const MIX: [(Operation, f64); 3] =
    [(Operation::Products, 0.4), (Operation::Order, 0.3), (Operation::CreateOrder, 0.3)];
const COLUMNS_OF_MIX: [ColumnOfMix; 3] = [
    ("server CPU ms a request", |sample| sample.server_cpu_ms),
    ("server and PostgreSQL CPU ms a request", |sample| sample.server_cpu_ms + sample.postgres_cpu_ms),
    // At full load: what a request takes of the machine, the generator's part included.
    ("ms from answer to answer", |sample| 1_000.0 / sample.requests_per_second),
];

/// One operation of one subject.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// In words why the subject cannot answer it.
    NotRun(String),
    Run {
        /// How long the first answer took after the subject had started: connecting and planning included.
        first_ms: f64,
        /// One for each round.
        rounds: Vec<Sample>,
    },
}

/// The middle, the least and the greatest ratio.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Ratio {
    /// Of what rounds gave to what the same rounds of the first gave.
    fn of(first: &[f64], own: &[f64]) -> Option<Self> {
        let pairs = first.iter().zip(own);
        let ratios: Vec<f64> =
            pairs.map(|(first, own)| own / first).filter(|ratio| ratio.is_finite()).collect();
        let min = ratios.iter().copied().reduce(f64::min)?;
        let max = ratios.iter().copied().reduce(f64::max)?;
        Some(Self { median: median(ratios)?, min, max })
    }
}

/// All figures.
#[derive(Debug, Clone)]
pub struct Figures {
    subjects: Vec<String>,
    cells: BTreeMap<Operation, Vec<Cell>>,
    /// What subjects say of themselves: subject, series, value.
    pub reported: Vec<(String, String, f64)>,
}

impl Figures {
    /// No round yet; each operation has a cell for each subject.
    pub fn new(subjects: Vec<String>, cells: BTreeMap<Operation, Vec<Cell>>) -> Figures {
        Figures { subjects, cells, reported: Vec::new() }
    }

    /// Adds the next round's sample. One of a cell that is not run is a mistake of the caller and is dropped.
    pub fn add(&mut self, operation: Operation, subject: usize, sample: Sample) {
        if let Some(Cell::Run { rounds, .. }) =
            self.cells.get_mut(&operation).and_then(|row| row.get_mut(subject))
        {
            rounds.push(sample);
        }
    }

    /// Subject, operation and reason of everything that was not run.
    pub fn not_run(&self) -> Vec<(&str, Operation, &str)> {
        self.cells
            .iter()
            .flat_map(|(operation, row)| {
                self.subjects.iter().zip(row).map(|(name, cell)| (name, *operation, cell))
            })
            .filter_map(|(name, operation, cell)| match cell {
                Cell::NotRun(reason) => Some((name.as_str(), operation, reason.as_str())),
                Cell::Run { .. } => None,
            })
            .collect()
    }

    fn rounds(&self, operation: Operation, subject: usize) -> &[Sample] {
        match self.cells.get(&operation).and_then(|row| row.get(subject)) {
            Some(Cell::Run { rounds, .. }) => rounds,
            _ => &[],
        }
    }

    fn median(&self, operation: Operation, subject: usize, of: fn(&Sample) -> f64) -> Option<f64> {
        median(self.rounds(operation, subject).iter().map(of).collect())
    }

    /// To the first subject; `None` where one of both has no figure, or the first has zero.
    fn ratio(&self, operation: Operation, subject: usize, of: fn(&Sample) -> f64) -> Option<Ratio> {
        let each = |subject| self.rounds(operation, subject).iter().map(of).collect::<Vec<f64>>();
        Ratio::of(&each(0), &each(subject))
    }

    /// A request of the mix, in each round in which all its operations were run.
    fn mix(&self, subject: usize, of: fn(&Sample) -> f64) -> Vec<f64> {
        let rounds = MIX.map(|(operation, part)| (self.rounds(operation, subject), part));
        let all = rounds.iter().map(|(rounds, _)| rounds.len()).min().unwrap_or_default();
        let round = |at: usize| rounds.iter().map(|(rounds, part)| of(&rounds[at]) * part).sum();
        (0..all).map(round).collect()
    }

    /// A table of what was measured, and a list of what was not.
    pub fn markdown(&self) -> String {
        let mut text =
            format!("| | {} |\n|---|{}\n", self.subjects.join(" | "), "---:|".repeat(self.subjects.len()));
        for operation in self.cells.keys() {
            for (_, title, of) in COLUMNS {
                self.line(&mut text, &format!("{operation} {title}"), |subject| {
                    self.cell(*operation, subject, of)
                });
            }
            self.line(&mut text, &format!("{operation} first answer, ms"), |subject| {
                match self.cells.get(operation).and_then(|row| row.get(subject)) {
                    Some(Cell::Run { first_ms, .. }) => short(*first_ms),
                    _ => "not run".to_owned(),
                }
            });
        }
        for (title, of) in COLUMNS_OF_MIX {
            let first = self.mix(0, of);
            self.line(&mut text, &format!("mix {title}"), |subject| {
                let own = self.mix(subject, of);
                cell_of(subject, median(own.clone()), Ratio::of(&first, &own))
            });
        }
        for (subject, operation, reason) in self.not_run() {
            writeln!(text, "\n{subject}, {operation}: not run: {reason}")
                .expect("writing to a String cannot fail");
        }
        for (subject, series, value) in &self.reported {
            writeln!(text, "\n{subject} says: {series} = {value}").expect("writing to a String cannot fail");
        }
        text
    }

    fn line(&self, text: &mut String, title: &str, cell: impl Fn(usize) -> String) {
        let cells: Vec<String> = (0..self.subjects.len()).map(cell).collect();
        writeln!(text, "| {title} | {} |", cells.join(" | ")).expect("writing to a String cannot fail");
    }

    fn cell(&self, operation: Operation, subject: usize, of: fn(&Sample) -> f64) -> String {
        cell_of(subject, self.median(operation, subject, of), self.ratio(operation, subject, of))
    }

    /// Everything, every round of it.
    pub fn json(&self) -> Value {
        let operations: Vec<Value> = self
            .cells
            .iter()
            .map(|(operation, row)| {
                let subjects: Vec<Value> = row
                    .iter()
                    .enumerate()
                    .map(|(subject, cell)| self.cell_json(*operation, subject, cell))
                    .collect();
                json!({"operation": operation, "text": operation.text(), "subjects": subjects})
            })
            .collect();
        let reported: Vec<Value> = self
            .reported
            .iter()
            .map(|(subject, series, value)| json!({"subject": subject, "series": series, "value": value}))
            .collect();
        json!({"schema": "bench-graphql/v1", "operations": operations, "reported": reported})
    }

    fn cell_json(&self, operation: Operation, subject: usize, cell: &Cell) -> Value {
        let name = &self.subjects[subject];
        match cell {
            Cell::NotRun(reason) => json!({"subject": name, "not_run": reason}),
            Cell::Run { first_ms, rounds } => {
                let of_each = |value: &dyn Fn(fn(&Sample) -> f64) -> Value| -> Map<String, Value> {
                    COLUMNS.iter().map(|(key, _, of)| ((*key).to_owned(), value(*of))).collect()
                };
                json!({
                    "subject": name,
                    "first_answer_ms": first_ms,
                    "median": of_each(&|of| json!(self.median(operation, subject, of))),
                    "ratio": of_each(&|of| json!(self.ratio(operation, subject, of))),
                    "rounds": rounds,
                })
            }
        }
    }
}

/// The first subject has no ratio.
fn cell_of(subject: usize, median: Option<f64>, ratio: Option<Ratio>) -> String {
    let Some(figure) = median.map(short) else { return "not run".to_owned() };
    match ratio.filter(|_| subject > 0) {
        Some(Ratio { median, min, max }) => format!("{figure} ({median:.2}; {min:.2} to {max:.2})"),
        None => figure,
    }
}

fn short(figure: f64) -> String {
    match figure.abs() {
        large if large >= 100.0 => format!("{figure:.0}"),
        middle if middle >= 1.0 => format!("{figure:.1}"),
        _ => format!("{figure:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(requests_per_second: f64) -> Sample {
        Sample {
            requests_per_second,
            p50_ms: 1.0,
            p99_ms: 2.0,
            server_cpu_ms: 0.04,
            postgres_cpu_ms: 0.05,
            rss_mb: 14.0,
        }
    }

    fn run(rates: &[f64]) -> Cell {
        Cell::Run { first_ms: 3.5, rounds: rates.iter().copied().map(sample).collect() }
    }

    fn figures() -> Figures {
        let row = vec![
            run(&[100.0, 50.0, 200.0]),
            run(&[50.0, 30.0, 90.0]),
            Cell::NotRun("no field orders".into()),
        ];
        Figures::new(
            vec!["by hand".into(), "resolvers".into(), "ours".into()],
            BTreeMap::from([(Operation::Orders, row)]),
        )
    }

    #[test]
    fn ratios_compare_within_a_round_and_show_their_spread() {
        let of = COLUMNS[0].2;
        let ratio = figures().ratio(Operation::Orders, 1, of).expect("a ratio");
        assert_eq!(ratio, Ratio { median: 0.5, min: 0.45, max: 0.6 });
        let text = figures().markdown();
        assert!(text.contains("| Q2 requests/s | 100 | 50.0 (0.50; 0.45 to 0.60) | not run |"), "{text}");
    }

    #[test]
    fn what_was_not_run_has_a_reason_and_never_a_number() {
        let mut figures = figures();
        figures.add(Operation::Orders, 2, sample(1e9));
        let text = figures.markdown();
        assert!(text.contains("ours, Q2: not run: no field orders"), "{text}");
        let rows = text.lines().filter(|line| line.starts_with("| Q2"));
        assert!(
            rows.clone().count() == 7 && rows.clone().all(|line| line.ends_with("| not run |")),
            "{text}"
        );
        let json = figures.json();
        let cell = &json["operations"][0]["subjects"][2];
        assert_eq!(*cell, json!({"subject": "ours", "not_run": "no field orders"}));
    }

    #[test]
    fn a_request_of_the_mix_is_a_part_of_each_operation_of_the_same_round() {
        let text = figures().markdown();
        assert!(text.contains("| mix server CPU ms a request | not run | not run | not run |"), "{text}");
        let cells = |of: &[f64]| -> Vec<Cell> {
            let rounds = |cpu: &f64| Sample { server_cpu_ms: *cpu, ..sample(1.0) };
            of.iter().map(|cpu| Cell::Run { first_ms: 1.0, rounds: vec![rounds(cpu); 2] }).collect()
        };
        let figures = Figures::new(
            vec!["nothing".into(), "seen".into()],
            BTreeMap::from([
                (Operation::Products, cells(&[0.1, 0.2])),
                (Operation::Order, cells(&[0.2, 0.2])),
                (Operation::CreateOrder, cells(&[0.4, 0.5])),
            ]),
        );
        let text = figures.markdown();
        let own = "| mix server CPU ms a request | 0.220 | 0.290 (1.32; 1.32 to 1.32) |";
        assert!(text.contains(own), "{text}");
        let both = "| mix server and PostgreSQL CPU ms a request | 0.270 | 0.340 (1.26; 1.26 to 1.26) |";
        assert!(text.contains(both), "{text}");
        let pace = "| mix ms from answer to answer | 1000 | 1000 (1.00; 1.00 to 1.00) |";
        assert!(text.contains(pace), "{text}");
    }

    #[test]
    fn the_json_has_every_round_and_the_same_ratio() {
        let json = figures().json();
        let cell = &json["operations"][0]["subjects"][1];
        assert_eq!(cell["rounds"].as_array().map(Vec::len), Some(3));
        assert_eq!(cell["ratio"]["requests_per_second"], json!({"median": 0.5, "min": 0.45, "max": 0.6}));
        assert_eq!(cell["median"]["requests_per_second"], json!(50.0));
    }
}
