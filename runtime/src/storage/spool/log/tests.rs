//! The spool's files over restarts, torn writes and damage.

use proptest::prelude::*;

use super::*;

fn append(log: &mut Log, payload: &[u8]) {
    log.stage(payload).expect("room");
    log.flush().expect("written");
}

fn payloads(log: &Log) -> Vec<Vec<u8>> {
    log.read(usize::MAX).expect("readable").into_iter().map(|record| record.payload).collect()
}

fn only_segment(folder: &Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "spool"))
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.pop().expect("one file")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_flushed_and_not_committed_survives_a_restart_in_order(
        records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..60),
        committed in 0usize..60,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = Log::open(folder.path(), 64 << 20).expect("a log");
        for record in &records {
            append(&mut log, record);
        }
        let read = log.read(usize::MAX).expect("readable");
        let committed = committed.min(records.len());
        if committed > 0 {
            log.commit(read[committed - 1].end).expect("committed");
        }
        prop_assert_eq!(&payloads(&log)[..], &records[committed..]);
        prop_assert_eq!(log.records() as usize, records.len() - committed);
        drop(log);

        let log = Log::open(folder.path(), 64 << 20).expect("a log");
        let found = payloads(&log);
        // Records of a segment that was not drained whole may come back; none that waits may be missing.
        prop_assert!(found.ends_with(&records[committed..]));
        prop_assert_eq!(found.len() as u64, log.records());
    }

    #[test]
    fn a_torn_tail_costs_only_the_torn_record(
        records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20),
        torn in 1usize..100,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = Log::open(folder.path(), 1 << 20).expect("a log");
        for record in &records {
            append(&mut log, record);
        }
        drop(log);
        let last = HEADER + records.last().expect("a record").len();
        let file = only_segment(folder.path());
        let length = fs::metadata(&file).expect("a file").len();
        let cut = torn.min(last) as u64;
        OpenOptions::new().write(true).open(&file).and_then(|file| file.set_len(length - cut)).expect("cut");

        let mut log = Log::open(folder.path(), 1 << 20).expect("a log");
        prop_assert_eq!(&payloads(&log)[..], &records[..records.len() - 1]);
        append(&mut log, b"after the crash");
        let found = payloads(&log);
        prop_assert_eq!(found.last().map(Vec::as_slice), Some(b"after the crash".as_slice()));
    }

    #[test]
    fn a_flipped_byte_is_noticed(payload in proptest::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        encode(&payload, &mut bytes);
        prop_assert_eq!(decode(&bytes), Some((payload.as_slice(), bytes.len())));
        let at = at.index(bytes.len());
        bytes[at] ^= 0x10;
        prop_assert!(decode(&bytes).is_none_or(|(found, _)| found != payload.as_slice()));
    }
}

#[test]
fn zero_bytes_at_the_end_are_no_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = Log::open(folder.path(), 1 << 20).expect("a log");
    append(&mut log, b"kept");
    drop(log);
    let file = only_segment(folder.path());
    let mut content = fs::read(&file).expect("readable");
    content.extend_from_slice(&[0; 4096]);
    fs::write(&file, content).expect("written");
    assert_eq!(payloads(&Log::open(folder.path(), 1 << 20).expect("a log")), [b"kept".to_vec()]);
}

#[test]
fn drained_segments_leave_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = Log::open(folder.path(), 1 << 20).expect("a log");
    for n in 0..40u8 {
        append(&mut log, &[n; 10_000]);
    }
    assert!(log.segments.len() > 3, "{} segments", log.segments.len());
    let records = log.read(usize::MAX).expect("readable");
    for record in &records {
        log.commit(record.end).expect("committed");
    }
    assert_eq!(log.records(), 0);
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 1, "only the lock file is left");
    append(&mut log, b"next");
    assert_eq!(payloads(&log), [b"next".to_vec()]);
}

#[test]
fn a_second_commit_of_an_old_position_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = Log::open(folder.path(), 1 << 20).expect("a log");
    append(&mut log, b"one");
    append(&mut log, b"two");
    let records = log.read(2).expect("readable");
    log.commit(records[1].end).expect("committed");
    append(&mut log, b"three");
    log.commit(records[0].end).expect("committed");
    assert_eq!(payloads(&log), [b"three".to_vec()]);
}
