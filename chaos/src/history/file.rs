//! The file: eight bytes of magic, the format's number (u32), then records; all integers little endian.
//!
//! A record is its length (u32), the CRC-32 of those four bytes, the CRC-32 of the payload, and the payload in postcard.
//! The first record is the [`Header`], the others are [`Entry`]. The length has its own checksum so that a damaged length in
//! the middle cannot pass for a torn tail and swallow the rest of the file.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Entry, Header};

/// The only format that this release writes and reads. Any change to a recorded type is a new number.
pub const VERSION: u32 = 2;

/// Longest payload of a record; a longer one is refused by the writer and is damage to the reader.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

const MAGIC: [u8; 8] = *b"FRAQHIST";
const PRELUDE_BYTES: u64 = 12;
const FRAME_BYTES: usize = 12;
const BUFFER_BYTES: usize = 1 << 20;

/// Failure to write or read a history.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("create history {path}")]
    Create { path: PathBuf, source: std::io::Error },
    #[error("write history {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("write a record of {bytes} bytes to history {path}: {RECORD_BYTES_MAX} are allowed")]
    TooLong { path: PathBuf, bytes: usize },
    #[error("encode a record of history {path}")]
    Encode { path: PathBuf, source: postcard::Error },
    #[error("open history {path}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("read history {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("read {path}: it is not a history (wrong first bytes)")]
    NotAHistory { path: PathBuf },
    #[error("read history {path}: its format is number {found}, this release knows {VERSION}")]
    UnknownVersion { path: PathBuf, found: u32 },
    #[error("read history {path}: it ends before its header is complete")]
    NoHeader { path: PathBuf },
    #[error("read history {path}: damaged at byte {offset}: {what}")]
    Corrupt { path: PathBuf, offset: u64, what: String },
    #[error("write the exported history")]
    Export { source: std::io::Error },
}

/// Appends records to a new file. Buffered: [`Writer::flush`] hands everything to the operating system, where it
/// survives the death of this process; [`Writer::finish`] also syncs it to the disk. Dropping flushes as far as it can.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    payload: Vec<u8>,
}

impl Writer {
    /// Creates the file, or empties an existing one, and writes the header. `header.version` must be [`VERSION`].
    pub fn create(path: &Path, header: &Header) -> Result<Self, Error> {
        if header.version != VERSION {
            return Err(Error::UnknownVersion { path: path.into(), found: header.version });
        }
        let file = File::create(path).map_err(|source| Error::Create { path: path.into(), source })?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        let mut writer = Writer { path: path.into(), file, payload: Vec::new() };
        writer.write(&MAGIC)?;
        writer.write(&VERSION.to_le_bytes())?;
        writer.record(header)?;
        Ok(writer)
    }

    /// Appends one entry. Entries need not be in order of their time, but an operation's invoke comes before its
    /// completion.
    pub fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        self.record(entry)
    }

    /// Hands everything appended so far to the operating system.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.file.flush().map_err(|source| Error::Write { path: self.path.clone(), source })
    }

    /// Flushes and syncs to the disk.
    pub fn finish(mut self) -> Result<(), Error> {
        self.flush()?;
        self.file.get_ref().sync_all().map_err(|source| Error::Write { path: self.path.clone(), source })
    }

    fn record<T: Serialize>(&mut self, record: &T) -> Result<(), Error> {
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        let payload = postcard::to_extend(record, payload)
            .map_err(|source| Error::Encode { path: self.path.clone(), source })?;
        if payload.len() > RECORD_BYTES_MAX {
            return Err(Error::TooLong { path: self.path.clone(), bytes: payload.len() });
        }
        let length = u32::try_from(payload.len()).expect("bounded by RECORD_BYTES_MAX").to_le_bytes();
        self.write(&length)?;
        self.write(&crc32fast::hash(&length).to_le_bytes())?;
        self.write(&crc32fast::hash(&payload).to_le_bytes())?;
        self.write(&payload)?;
        self.payload = payload;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|source| Error::Write { path: self.path.clone(), source })
    }
}

/// Reads a file record by record, in constant memory.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    header: Header,
    offset: u64,
    payload: Vec<u8>,
    truncated: bool,
}

/// What is at the reader's position.
enum Frame {
    End,
    /// The file ends in the middle of this record.
    Torn,
    Whole,
}

impl Reader {
    /// Opens the file and reads its header.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::Open { path: path.into(), source })?;
        let header =
            Header { version: VERSION, run: String::new(), seed: 0, started_unix_ms: 0, classes: Vec::new() };
        let mut reader = Reader {
            path: path.into(),
            file: BufReader::with_capacity(BUFFER_BYTES, file),
            header,
            offset: 0,
            payload: Vec::new(),
            truncated: false,
        };
        reader.read_prelude()?;
        match reader.frame()? {
            Frame::Whole => {}
            Frame::End | Frame::Torn => return Err(Error::NoHeader { path: path.into() }),
        }
        reader.header = reader.decode()?;
        if reader.header.version != VERSION {
            return Err(Error::UnknownVersion { path: path.into(), found: reader.header.version });
        }
        Ok(reader)
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// True once the end was reached and the last record was found to be cut off.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// Byte at which the next record starts.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next entry, `None` at the end or at a torn tail.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        if self.truncated {
            return Ok(None);
        }
        match self.frame()? {
            Frame::End => Ok(None),
            Frame::Torn => {
                self.truncated = true;
                Ok(None)
            }
            Frame::Whole => self.decode().map(Some),
        }
    }

    pub(super) fn corrupt(&self, offset: u64, what: impl Into<String>) -> Error {
        Error::Corrupt { path: self.path.clone(), offset, what: what.into() }
    }

    fn read_prelude(&mut self) -> Result<(), Error> {
        let mut magic = [0; 8];
        let got = self.fill(&mut magic)?;
        if magic[..got] != MAGIC[..got] {
            return Err(Error::NotAHistory { path: self.path.clone() });
        }
        let mut version = [0; 4];
        if got < magic.len() || self.fill(&mut version)? < version.len() {
            return Err(Error::NoHeader { path: self.path.clone() });
        }
        match u32::from_le_bytes(version) {
            VERSION => self.offset = PRELUDE_BYTES,
            found => return Err(Error::UnknownVersion { path: self.path.clone(), found }),
        }
        Ok(())
    }

    /// Reads one record's payload into the buffer and checks it. The offset stays on the record until it is decoded.
    fn frame(&mut self) -> Result<Frame, Error> {
        let mut frame = [0; FRAME_BYTES];
        match self.fill(&mut frame)? {
            0 => return Ok(Frame::End),
            FRAME_BYTES => {}
            _ => return Ok(Frame::Torn),
        }
        let word = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        let (length, length_crc, payload_crc) = (word(0) as usize, word(4), word(8));
        if crc32fast::hash(&frame[..4]) != length_crc || length > RECORD_BYTES_MAX {
            return Err(self.corrupt(self.offset, "the length of a record does not match its checksum"));
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(length, 0);
        let got = self.fill(&mut payload)?;
        self.payload = payload;
        if got < length {
            return Ok(Frame::Torn);
        }
        if crc32fast::hash(&self.payload) != payload_crc {
            // After a power cut the file may have its full length and not its last bytes: that too is a torn tail.
            return match self.at_end()? {
                true => Ok(Frame::Torn),
                false => Err(self.corrupt(self.offset, "a record does not match its checksum")),
            };
        }
        Ok(Frame::Whole)
    }

    fn decode<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Error> {
        let record = match postcard::take_from_bytes(&self.payload) {
            Ok((record, [])) => record,
            Ok(_) => return Err(self.corrupt(self.offset, "a record is longer than its content")),
            Err(error) => {
                return Err(self.corrupt(self.offset, format!("a record cannot be decoded: {error}")));
            }
        };
        self.offset += (FRAME_BYTES + self.payload.len()) as u64;
        Ok(record)
    }

    fn at_end(&mut self) -> Result<bool, Error> {
        let rest = self.file.fill_buf().map(<[u8]>::is_empty);
        rest.map_err(|source| Error::Read { path: self.path.clone(), source })
    }

    /// Reads until the buffer is full or the file ends; returns how much was read.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(got) => filled += got,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { path: self.path.clone(), source }),
            }
        }
        Ok(filled)
    }
}

impl Iterator for Reader {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}
