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
use super::file::Open;
use crate::clock::LocalTime;

/// How long a line waits for others.
const DELAY: Duration = Duration::from_millis(20);
/// So many bytes are written at once, whoever waits.
const FULL: usize = 32 * 1024;

static BATCH: OnceLock<Batch> = OnceLock::new();

/// Writes lines somewhere.
type Sink = Box<dyn Fn(&[u8]) + Send + Sync>;

/// The lines that wait, and where they go.
pub(super) struct Batch {
    sink: Sink,
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
pub(super) fn start(target: LogTarget, file: Option<Open>) -> io::Result<&'static Batch> {
    let file = file.map(Mutex::new);
    let sink = move |lines: &[u8]| {
        match target {
            LogTarget::Stderr => put(&mut io::stderr(), lines),
            LogTarget::Stdout => put(&mut io::stdout().lock(), lines),
            LogTarget::Nowhere => {}
        }
        if let Some(file) = &file {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            // There is nowhere to complain to.
            let _ = file.write(lines, LocalTime::now());
        }
    };
    let batch = BATCH.get_or_init(|| Batch::new(Box::new(sink)));
    std::thread::Builder::new().name("log-lines".to_owned()).spawn(|| batch.run())?;
    Ok(batch)
}

fn put(out: &mut dyn Write, lines: &[u8]) {
    // There is nowhere to complain to.
    let _ = out.write_all(lines).and_then(|()| out.flush());
}

/// Writes what waits. Call it before the process ends.
pub fn flush() {
    if let Some(batch) = BATCH.get() {
        batch.write(&mut batch.lock());
    }
}

impl Batch {
    fn new(sink: Sink) -> Self {
        Self { sink, waiting: Mutex::default(), some: Condvar::new() }
    }

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
        if waiting.is_empty() {
            return;
        }
        (self.sink)(waiting);
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn batch() -> (&'static Batch, mpsc::Receiver<String>) {
        let (sender, written) = mpsc::channel();
        let sink = move |lines: &[u8]| {
            let _ = sender.send(String::from_utf8_lossy(lines).into_owned());
        };
        (Box::leak(Box::new(Batch::new(Box::new(sink)))), written)
    }

    fn line(batch: &Batch, at_once: bool, text: &str) {
        Line { batch, at_once }.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_warning_takes_the_lines_before_it_along() {
        let (batch, written) = batch();
        line(batch, false, "one\n");
        line(batch, false, "two\n");
        assert!(written.try_recv().is_err());
        line(batch, true, "warning\n");
        assert_eq!(written.recv().unwrap(), "one\ntwo\nwarning\n");
    }

    #[test]
    fn many_lines_do_not_wait() {
        let (batch, written) = batch();
        for _ in 0..FULL / 4 {
            line(batch, false, "abc\n");
        }
        assert_eq!(written.recv().unwrap().len(), FULL);
    }

    #[test]
    fn a_line_that_waited_is_written() {
        let (batch, written) = batch();
        std::thread::spawn(|| batch.run());
        line(batch, false, "alone\n");
        assert_eq!(written.recv().unwrap(), "alone\n");
        line(batch, false, "again\n");
        assert_eq!(written.recv().unwrap(), "again\n");
    }
}
