//! The log of the thread that asks. One subscriber for the whole binary, installed before the first
//! event: a subscriber per test would race with other tests about which events are wanted at all.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use fraiseql_runtime::config::logging::Logging;
use fraiseql_runtime::observability::logging::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct OfThisThread;

impl Write for OfThisThread {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let logging = Logging { level: "info,fraiseql_runtime=debug".to_owned(), ..Logging::default() };
        let subscriber = tracing_subscriber::registry().with(layer(&logging, || OfThisThread));
        subscriber.try_init().expect("nobody else installs a subscriber");
    });
}

/// What this thread logged since it was last asked.
pub fn take() -> String {
    String::from_utf8(LINES.take()).expect("UTF-8")
}
