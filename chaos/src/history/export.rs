//! A history for people and their tools: one JSON object a line, the header first.

use std::io::{BufWriter, Write};
use std::path::Path;

use super::{Error, Reader};

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Entries, without the header's line.
    pub entries: u64,
    /// The file's last record was cut off and is not among them.
    pub truncated: bool,
}

/// Writes the history as JSON lines, in the order of the file and in constant memory.
pub fn export_jsonl(path: &Path, out: impl Write) -> Result<Exported, Error> {
    let mut reader = Reader::open(path)?;
    let mut out = BufWriter::new(out);
    let failed = |source| Error::Export { source };
    let header = reader.header().clone();
    serde_json::to_writer(&mut out, &header).map_err(|error| failed(error.into()))?;
    out.write_all(b"\n").map_err(failed)?;
    let mut entries = 0;
    while let Some(entry) = reader.next_entry()? {
        serde_json::to_writer(&mut out, &entry).map_err(|error| failed(error.into()))?;
        out.write_all(b"\n").map_err(failed)?;
        entries += 1;
    }
    out.flush().map_err(failed)?;
    Ok(Exported { entries, truncated: reader.truncated() })
}
