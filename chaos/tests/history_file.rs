//! The history file from outside: what was appended comes back, what was cut off is reported, damage is named.

use std::path::{Path, PathBuf};

use chaos::fault::Evidence;
use chaos::history::{
    self, ClassId, Complete, Entry, Error, FaultPhase, FaultRecord, Header, HealthRecord, Invoke, OpId,
    Outcome, Reader, Record, SampleRecord, VERSION, Writer,
};
use proptest::prelude::*;

fn header() -> Header {
    Header {
        version: VERSION,
        run: "run-1".into(),
        seed: 7,
        started_unix_ms: 1_700_000_000_000,
        classes: vec!["read".into(), "write".into()],
    }
}

fn invoke(at_ns: u64, op: u64) -> Entry {
    let (key, value) = (format!("key-{op}"), format!("value-{op}"));
    let invoke = Invoke { op: OpId(op), process: 3, class: ClassId(1), intended_ns: at_ns, key, value };
    Entry { at_ns, record: Record::Invoke(invoke) }
}

fn complete(at_ns: u64, op: u64, outcome: Outcome) -> Entry {
    let complete = Complete { op: OpId(op), outcome, code: "200".into(), answer: format!("answer-{op}") };
    Entry { at_ns, record: Record::Complete(complete) }
}

fn write(path: &Path, entries: &[Entry]) {
    let mut writer = Writer::create(path, &header()).expect("create the history");
    for entry in entries {
        writer.append(entry).expect("append an entry");
    }
    writer.finish().expect("finish the history");
}

fn file(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("history.bin")
}

fn small() -> Vec<Entry> {
    let fault = FaultRecord {
        id: "redis-refused#1".into(),
        kind: "refuse".into(),
        target: "redis".into(),
        phase: FaultPhase::Injected,
        evidence: Evidence { refused: 2, ..Evidence::default() },
    };
    let health = HealthRecord { subject: "health".into(), state: "degraded".into() };
    let sample = |value| Record::Sample(SampleRecord { series: "fds".into(), value });
    vec![
        invoke(10, 0),
        Entry { at_ns: 11, record: Record::Fault(fault) },
        invoke(12, 1),
        complete(13, 0, Outcome::Ok),
        Entry { at_ns: 14, record: Record::Health(health) },
        Entry { at_ns: 16, record: sample(9.0) },
        Entry { at_ns: 15, record: sample(8.0) },
        invoke(17, 2),
        complete(18, 2, Outcome::Fail),
    ]
}

#[test]
fn invokes_are_joined_with_their_completions_and_the_rest_is_unknown() {
    let dir = tempfile::tempdir().expect("temporary folder");
    write(&file(&dir), &small());
    let history = history::read(&file(&dir)).expect("read");
    let told: Vec<_> = history.operations.iter().map(|op| (op.op.0, op.completed_ns, op.outcome)).collect();
    assert_eq!(
        told,
        vec![(0, Some(13), Outcome::Ok), (1, None, Outcome::Unknown), (2, Some(18), Outcome::Fail)]
    );
    assert_eq!(history.operations[0].answer, "answer-0");
    assert_eq!(history.samples["fds"], vec![(15, 8.0), (16, 9.0)]);
    assert_eq!((history.faults.len(), history.health.len()), (1, 1));
    assert_eq!(history.of_class("write").len(), 3);
    assert_eq!(history.of_class("read").len() + history.of_class("absent").len(), 0);
    assert!(!history.truncated);
}

#[test]
fn a_file_cut_at_any_byte_gives_every_whole_record_and_says_that_it_was_cut() {
    let dir = tempfile::tempdir().expect("temporary folder");
    write(&file(&dir), &small());
    let whole = std::fs::read(file(&dir)).expect("read bytes");
    let mut reader = Reader::open(&file(&dir)).expect("open");
    let mut ends = vec![reader.offset()];
    while reader.next_entry().expect("entry").is_some() {
        ends.push(reader.offset());
    }
    assert_eq!((ends.len(), ends.last()), (small().len() + 1, Some(&(whole.len() as u64))));
    let cut = dir.path().join("cut.bin");
    for length in 0..=whole.len() {
        std::fs::write(&cut, &whole[..length]).expect("write the cut file");
        let read = history::read(&cut);
        if (length as u64) < ends[0] {
            assert!(matches!(read, Err(Error::NoHeader { .. })), "cut at {length}: {read:?}");
            continue;
        }
        let history = read.unwrap_or_else(|error| panic!("cut at {length}: {error}"));
        let records = ends.iter().filter(|end| **end <= length as u64).count() - 1;
        let samples = history.samples.values().map(Vec::len).sum::<usize>();
        let completed = history.operations.iter().filter(|op| op.completed_ns.is_some()).count();
        let got =
            history.operations.len() + completed + history.faults.len() + history.health.len() + samples;
        assert_eq!(got, records, "cut at {length}");
        assert_eq!(history.truncated, !ends.contains(&(length as u64)), "cut at {length}");
    }
}

#[test]
fn a_flipped_byte_before_the_last_record_is_an_error_with_its_offset() {
    let dir = tempfile::tempdir().expect("temporary folder");
    write(&file(&dir), &small());
    let whole = std::fs::read(file(&dir)).expect("read bytes");
    let mut reader = Reader::open(&file(&dir)).expect("open");
    let mut last = reader.offset();
    loop {
        let start = reader.offset();
        match reader.next_entry().expect("entry") {
            Some(_) => last = start,
            None => break,
        }
    }
    let damaged = dir.path().join("damaged.bin");
    for at in 12..usize::try_from(last).expect("small file") {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&damaged, &bytes).expect("write the damaged file");
        match history::read(&damaged) {
            Err(Error::Corrupt { offset, .. }) => assert!(offset <= at as u64, "byte {at}, named {offset}"),
            other => panic!("byte {at} was flipped and the reader said {other:?}"),
        }
    }
}

#[test]
fn another_format_and_another_file_are_refused() {
    let dir = tempfile::tempdir().expect("temporary folder");
    write(&file(&dir), &small());
    let mut bytes = std::fs::read(file(&dir)).expect("read bytes");
    bytes[8] = 250;
    std::fs::write(file(&dir), &bytes).expect("write");
    assert!(matches!(history::read(&file(&dir)), Err(Error::UnknownVersion { found: 250, .. })));
    std::fs::write(file(&dir), b"{\"json\": true}").expect("write");
    assert!(matches!(history::read(&file(&dir)), Err(Error::NotAHistory { .. })));
    let newer = Header { version: VERSION + 1, ..header() };
    assert!(matches!(Writer::create(&file(&dir), &newer), Err(Error::UnknownVersion { .. })));
}

#[test]
fn a_completion_that_fits_no_open_operation_is_damage() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let twice = [invoke(1, 0), complete(2, 0, Outcome::Ok), complete(3, 0, Outcome::Ok)];
    let again = [invoke(1, 0), complete(2, 0, Outcome::Ok), invoke(3, 0)];
    for entries in [&twice[..], &again[..], &[complete(1, 5, Outcome::Ok)]] {
        write(&file(&dir), entries);
        let read = history::read(&file(&dir));
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
    }
}

#[test]
fn the_export_has_one_json_object_a_line() {
    let dir = tempfile::tempdir().expect("temporary folder");
    write(&file(&dir), &small());
    let mut out = Vec::new();
    let exported = history::export_jsonl(&file(&dir), &mut out).expect("export");
    let text = String::from_utf8(out).expect("UTF-8");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(exported.entries as usize, small().len());
    assert_eq!(lines.len(), small().len() + 1);
    assert_eq!(lines[0]["run"], "run-1");
    let entries: Vec<Entry> = text.lines().skip(1).map(|l| serde_json::from_str(l).expect("entry")).collect();
    assert_eq!(entries, small());
}

fn any_record() -> impl Strategy<Value = Record> {
    let outcome = prop_oneof![Just(Outcome::Ok), Just(Outcome::Fail), Just(Outcome::Unknown)];
    prop_oneof![
        (any::<u64>(), any::<u32>(), any::<u16>(), any::<u64>(), ".*", ".*").prop_map(
            |(op, process, class, intended_ns, key, value)| {
                let (op, class) = (OpId(op), ClassId(class));
                Record::Invoke(Invoke { op, process, class, intended_ns, key, value })
            }
        ),
        (any::<u64>(), outcome, ".*", ".*").prop_map(|(op, outcome, code, answer)| {
            Record::Complete(Complete { op: OpId(op), outcome, code, answer })
        }),
        (".*", ".*").prop_map(|(subject, state)| Record::Health(HealthRecord { subject, state })),
        (".*", -1e12..1e12f64).prop_map(|(series, value)| Record::Sample(SampleRecord { series, value })),
        (".*", any::<u64>()).prop_map(|(id, bytes)| {
            let evidence = Evidence { delayed_bytes: bytes, ..Evidence::default() };
            let (kind, target) = ("latency".into(), "nats".into());
            Record::Fault(FaultRecord { id, kind, target, phase: FaultPhase::VerifiedGone, evidence })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_entry_comes_back_as_it_was_appended(
        entries in prop::collection::vec(
            (any::<u64>(), any_record()).prop_map(|(at_ns, record)| Entry { at_ns, record }), 0..40)
    ) {
        let dir = tempfile::tempdir().expect("temporary folder");
        write(&file(&dir), &entries);
        let reader = Reader::open(&file(&dir)).expect("open");
        prop_assert_eq!(reader.header(), &header());
        let back: Vec<Entry> = reader.map(|entry| entry.expect("entry")).collect();
        prop_assert_eq!(back, entries);
    }
}
