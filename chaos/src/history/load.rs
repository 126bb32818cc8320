//! A whole history in memory: invokes joined with their completions, the other lanes beside them.
//!
//! Four million operations with keys of UUID length take about 1.4 GB; while it loads, only operations that are still
//! open are held in an index. A completion without an invoke, or a second one, is damage and not a guess.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;

use super::{
    ClassId, Complete, Entry, Error, FaultRecord, Header, HealthRecord, Invoke, OpId, Operation, Outcome,
    Reader, Record,
};

/// A history, read back.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    pub header: Header,
    /// In the order of their numbers.
    pub operations: Vec<Operation>,
    /// In the order of the file; times in nanoseconds of the history, as in the two below.
    pub faults: Vec<(u64, FaultRecord)>,
    pub health: Vec<(u64, HealthRecord)>,
    /// By series, each in order of time.
    pub samples: BTreeMap<String, Vec<(u64, f64)>>,
    /// The writer was cut off in the middle of its last record.
    pub truncated: bool,
}

impl History {
    /// The class of that name.
    pub fn class(&self, name: &str) -> Option<ClassId> {
        let index = self.header.classes.iter().position(|class| class == name)?;
        u16::try_from(index).ok().map(ClassId)
    }

    /// The operations of one class by its name, in the order of their numbers; none if there is no such class.
    pub fn of_class(&self, name: &str) -> Vec<&Operation> {
        let class = self.class(name);
        self.operations.iter().filter(|operation| Some(operation.class) == class).collect()
    }
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<History, Error> {
    let mut reader = Reader::open(path)?;
    let mut loading = Loading::default();
    loop {
        let offset = reader.offset();
        let Some(entry) = reader.next_entry()? else { break };
        loading.take(entry).map_err(|what| reader.corrupt(offset, what))?;
    }
    let mut history = History {
        header: reader.header().clone(),
        operations: loading.operations,
        faults: loading.faults,
        health: loading.health,
        samples: loading.samples,
        truncated: reader.truncated(),
    };
    history.operations.sort_unstable_by_key(|operation| operation.op);
    if let Some(pair) = history.operations.windows(2).find(|pair| pair[0].op == pair[1].op) {
        let what = format!("operation {} was invoked twice", pair[0].op.0);
        return Err(reader.corrupt(reader.offset(), what));
    }
    for series in history.samples.values_mut() {
        series.sort_by_key(|(at_ns, _)| *at_ns);
    }
    Ok(history)
}

#[derive(Default)]
struct Loading {
    operations: Vec<Operation>,
    /// Index into `operations` of those that have not completed.
    open: HashMap<OpId, usize>,
    faults: Vec<(u64, FaultRecord)>,
    health: Vec<(u64, HealthRecord)>,
    samples: BTreeMap<String, Vec<(u64, f64)>>,
}

impl Loading {
    fn take(&mut self, entry: Entry) -> Result<(), String> {
        let at_ns = entry.at_ns;
        match entry.record {
            Record::Invoke(invoke) => return self.invoke(at_ns, invoke),
            Record::Complete(complete) => return self.complete(at_ns, complete),
            Record::Fault(fault) => self.faults.push((at_ns, fault)),
            Record::Health(health) => self.health.push((at_ns, health)),
            Record::Sample(sample) => match self.samples.get_mut(&sample.series) {
                Some(series) => series.push((at_ns, sample.value)),
                None => {
                    self.samples.insert(sample.series, vec![(at_ns, sample.value)]);
                }
            },
        }
        Ok(())
    }

    fn invoke(&mut self, at_ns: u64, invoke: Invoke) -> Result<(), String> {
        if self.open.insert(invoke.op, self.operations.len()).is_some() {
            return Err(format!("operation {} was invoked twice", invoke.op.0));
        }
        self.operations.push(Operation {
            op: invoke.op,
            process: invoke.process,
            class: invoke.class,
            intended_ns: invoke.intended_ns,
            invoked_ns: at_ns,
            completed_ns: None,
            key: invoke.key,
            value: invoke.value,
            outcome: Outcome::Unknown,
            code: String::new(),
            answer: String::new(),
        });
        Ok(())
    }

    fn complete(&mut self, at_ns: u64, complete: Complete) -> Result<(), String> {
        let Some(index) = self.open.remove(&complete.op) else {
            return Err(format!("operation {} was completed without being open", complete.op.0));
        };
        let operation = &mut self.operations[index];
        operation.completed_ns = Some(at_ns);
        operation.outcome = complete.outcome;
        operation.code = complete.code;
        operation.answer = complete.answer;
        Ok(())
    }
}
