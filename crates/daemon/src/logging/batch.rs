//! Log lines written several at a time.
//!
//! A line that nobody has to see at once waits up to [`DELAY`] for others; a warning or an error takes everything
//! with it. Who comes and goes thousands of times a second then costs no system call for each line.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::LogTarget;

/// How long a line waits for others.
const DELAY: Duration = Duration::from_millis(20);
/// So many bytes are written at once, whoever waits.
const FULL: usize = 32 * 1024;

static BATCH: OnceLock<Batch> = OnceLock::new();

/// The lines that wait, and where they go.
#[derive(Debug)]
pub(super) struct Batch {
    target: LogTarget,
    waiting: Mutex<Vec<u8>>,
    some: Condvar,
}

/// Takes one line.
pub(super) struct Line<'a> {
    batch: &'a Batch,
    at_once: bool,
}

/// Starts the thread that writes lines which have waited. There is one for the process.
///
/// # Errors
/// When the thread cannot be started.
pub(super) fn start(target: LogTarget) -> io::Result<&'static Batch> {
    let batch =
        BATCH.get_or_init(|| Batch { target, waiting: Mutex::default(), some: Condvar::new() });
    std::thread::Builder::new().name("log-lines".to_owned()).spawn(|| batch.run())?;
    Ok(batch)
}

/// Writes what waits. Call it before the process ends.
pub fn flush() {
    if let Some(batch) = BATCH.get() {
        batch.write(&mut batch.lock());
    }
}

impl Batch {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        // Who panicked while it wrote left whole lines, or a part of one: both are worth showing.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let waiting = self.lock();
            drop(self.some.wait_while(waiting, |waiting| waiting.is_empty()));
            std::thread::sleep(DELAY);
            self.write(&mut self.lock());
        }
    }

    fn write(&self, waiting: &mut Vec<u8>) {
        // There is nowhere to complain to.
        let _ = match self.target {
            LogTarget::Stderr => io::stderr().write_all(waiting),
            LogTarget::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(waiting).and_then(|()| out.flush())
            }
        };
        waiting.clear();
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut waiting = self.batch.lock();
        let first = waiting.is_empty();
        waiting.extend_from_slice(bytes);
        if self.at_once || waiting.len() >= FULL {
            self.batch.write(&mut waiting);
        } else if first {
            self.batch.some.notify_one();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for &'static Batch {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { batch: self, at_once: true }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line<'a> {
        Line { batch: self, at_once: *event.level() <= Level::WARN }
    }
}
