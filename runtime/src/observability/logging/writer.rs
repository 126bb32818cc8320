//! Lines on their way to standard output: threads leave them in one buffer, and a thread of its own writes what has gathered.
//!
//! Promises: who leaves a line waits for nobody who takes it; at most a given number of lines waits, and what finds no room is
//! counted; lines come out whole and in the order in which they were left; at the end what waits is written, unless that
//! takes too long.

use std::io::{self, Write};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// For how long the thread that writes lets lines gather. Who leaves the first one has to wake it, and it takes a processor
/// from those who work; so that happens a few dozen times a second at most.
const GATHER: Duration = Duration::from_millis(20);

/// Where lines are left. Clones share the buffer.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<Shared>);

/// The thread that writes. What was left last may be lost unless this is dropped, at the end.
#[derive(Debug)]
pub(super) struct Writer {
    lines: Lines,
    ended: mpsc::Receiver<()>,
    patience: Duration,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    lines_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    lines: usize,
    dropped: u64,
    /// The thread has nothing to do, and must be woken.
    idle: bool,
    closed: bool,
}

impl Lines {
    /// At most `lines_max` wait until `to` takes them; at the end, for `patience`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn to<W: Write + Send + 'static>(
        to: W,
        lines_max: usize,
        patience: Duration,
    ) -> io::Result<(Self, Writer)> {
        let (waiting, wake) = (Mutex::default(), Condvar::new());
        let lines = Self(Arc::new(Shared { waiting, wake, lines_max }));
        let (end, ended) = mpsc::channel();
        let shared = lines.0.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            shared.write(to);
            // Nobody waits any more when this took too long.
            let _ = end.send(());
        })?;
        Ok((lines.clone(), Writer { lines, ended, patience }))
    }

    /// How many found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.0.waiting.lock().dropped
    }
}

impl Shared {
    fn write(&self, mut to: impl Write) {
        let mut taken = Vec::new();
        loop {
            let closed = {
                let mut waiting = self.waiting.lock();
                while waiting.lines == 0 && !waiting.closed {
                    waiting.idle = true;
                    self.wake.wait(&mut waiting);
                }
                waiting.idle = false;
                waiting.lines = 0;
                std::mem::swap(&mut waiting.bytes, &mut taken);
                waiting.closed
            };
            // What could not be written is gone; nobody could be told.
            let _ = to.write_all(&taken).and_then(|()| to.flush());
            if closed && taken.is_empty() {
                return;
            }
            taken.clear();
            if !closed {
                std::thread::sleep(GATHER);
            }
        }
    }
}

impl Write for Lines {
    /// Leaves a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.waiting.lock();
        if waiting.lines >= self.0.lines_max {
            waiting.dropped += 1;
            return Ok(line.len());
        }
        waiting.bytes.extend_from_slice(line);
        waiting.lines += 1;
        let wake = std::mem::take(&mut waiting.idle);
        drop(waiting);
        if wake {
            self.0.wake.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lines.0.waiting.lock().closed = true;
        self.lines.0.wake.notify_one();
        // What nobody takes until then is lost: the end of the process does not wait for it.
        let _ = self.ended.recv_timeout(self.patience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing before it is let.
    struct Gate {
        open: mpsc::Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Whoever held it shut is gone: it is open.
            let _ = self.open.recv();
            self.taken.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>, Gate) {
        let ((shut, open), taken) = (mpsc::channel(), Arc::default());
        (shut, Arc::clone(&taken), Gate { open, taken })
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn lines_come_out_whole_and_each_threads_in_order() {
        let (shut, taken, gate) = gate();
        drop(shut);
        let (lines, writer) = Lines::to(gate, 1_000_000, LONG).expect("a thread");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let mut lines = lines.clone();
                scope.spawn(move || {
                    for line in 0..1_000 {
                        lines.write_all(format!("{thread} {line}\n").as_bytes()).expect("left");
                    }
                });
            }
        });
        drop(writer);
        let text = String::from_utf8(taken.lock().clone()).expect("UTF-8");
        assert_eq!(text.lines().count(), 4_000);
        for thread in 0..4 {
            let of_thread = text.lines().filter_map(|line| line.strip_prefix(&format!("{thread} ")));
            let expected: Vec<String> = (0..1_000).map(|line: u32| line.to_string()).collect();
            assert_eq!(of_thread.collect::<Vec<_>>(), expected);
        }
        assert_eq!(lines.dropped(), 0);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_what_found_it_is_written() {
        let (shut, taken, gate) = gate();
        let (mut lines, writer) = Lines::to(gate, 10, LONG).expect("a thread");
        // The thread takes the first and stands still with it.
        lines.write_all(b"first\n").expect("left");
        while lines.0.waiting.lock().lines > 0 {
            std::thread::yield_now();
        }
        for _ in 0..25 {
            lines.write_all(b"later\n").expect("left");
        }
        assert_eq!(lines.dropped(), 15);
        drop(shut);
        drop(writer);
        assert_eq!(*taken.lock(), [&b"first\n"[..], &b"later\n".repeat(10)].concat());
    }

    #[test]
    fn the_end_does_not_wait_for_whoever_takes_nothing() {
        let (shut, taken, gate) = gate();
        let (mut lines, writer) = Lines::to(gate, 10, Duration::from_millis(50)).expect("a thread");
        lines.write_all(b"lost\n").expect("left");
        drop(writer);
        assert!(taken.lock().is_empty());
        drop(shut);
    }
}
