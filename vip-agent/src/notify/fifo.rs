//! `notify_fifo`: a named pipe with one line per transition, and the program that reads it.
//!
//! The pipe is open for reading and writing all the time, as keepalived's is: lines wait in it for a reader that
//! comes late or comes again, and a full pipe loses the newest.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::libc;
use tokio::task::JoinHandle;

use crate::config::{Command, ScriptUser};
use crate::process;

/// A reader that ends is started again after this pause.
const PAUSE: Duration = Duration::from_secs(5);
/// No limit for a program that reads until the end.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Time for the reader to take the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The open pipe.
#[derive(Debug)]
pub(super) struct Fifo {
    path: PathBuf,
    /// `None` when somebody took the pipe away and no new one could be made.
    pipe: Option<File>,
    /// Made here, so it is removed here.
    made: bool,
    reader: Option<JoinHandle<()>>,
    /// Set when the reader's end is no reason to start it again.
    closing: Arc<AtomicBool>,
}

impl Fifo {
    /// Makes the pipe when it is not there, opens it, and starts its reader.
    pub(super) fn open(path: &Path, script: Option<Command>, user: Option<ScriptUser>) -> Option<Self> {
        let made = !path.exists();
        let pipe = match open(path) {
            Ok(pipe) => pipe,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot open the notify FIFO; nothing is written to it");
                return None;
            }
        };
        let argument = path.display().to_string();
        let closing = Arc::new(AtomicBool::new(false));
        let reader = script.map(|script| tokio::spawn(read(script, argument, user, Arc::clone(&closing))));
        Some(Self { path: path.to_owned(), pipe: Some(pipe), made, reader, closing })
    }

    /// Writes one line; a full pipe is not waited for.
    pub(super) fn write(&mut self, line: &str) {
        if !self.is_there() {
            self.pipe = open(&self.path).ok();
            self.made = true;
        }
        let Some(pipe) = &mut self.pipe else { return };
        if let Err(error) = pipe.write_all(line.as_bytes()) {
            tracing::warn!(path = %self.path.display(), %error, "nobody reads the notify FIFO; a line is lost");
        }
    }

    /// Whether the path still leads to the pipe that is open.
    fn is_there(&self) -> bool {
        let Some(Ok(ours)) = self.pipe.as_ref().map(File::metadata) else { return false };
        std::fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino()))
    }

    /// Lets the reader take what is in the pipe, and ends it.
    pub(super) async fn close(mut self) {
        self.closing.store(true, Ordering::Relaxed);
        // The reader sees the end of the pipe now.
        drop(self.pipe.take());
        if let Some(mut reader) = self.reader.take()
            && tokio::time::timeout(LAST_LINES, &mut reader).await.is_err()
        {
            // Dropping the run ends its process group.
            reader.abort();
            let _ = reader.await;
        }
        if self.made {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    if std::fs::symlink_metadata(path).is_err() {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
    }
    let mut options = std::fs::OpenOptions::new();
    // Open for reading too: without a reader, opening for writing alone would fail.
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let pipe = options.open(path)?;
    if pipe.metadata()?.file_type().is_fifo() {
        Ok(pipe)
    } else {
        Err(io::Error::other("it is there and no FIFO"))
    }
}

async fn read(script: Command, path: String, user: Option<ScriptUser>, closing: Arc<AtomicBool>) {
    loop {
        let outcome = process::run(&script, std::slice::from_ref(&path), user, FOR_EVER, || {}).await;
        if closing.load(Ordering::Relaxed) {
            return;
        }
        if outcome != process::Outcome::Success {
            tracing::warn!(script = script.argv[0], "the reader of the notify FIFO {outcome}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn shell(script: &str) -> Command {
        Command { argv: vec!["/bin/sh".into(), "-c".into(), script.into(), "reader".into()], user: None }
    }

    #[tokio::test]
    async fn lines_wait_for_a_reader_that_comes_late() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        let mut fifo = Fifo::open(&path, None, None).unwrap();
        fifo.write("one\n");
        fifo.write("two\n");
        let mut reader =
            std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let mut buffer = [0; 64];
        let length = reader.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"one\ntwo\n");
        std::fs::remove_file(&path).unwrap();
        fifo.write("three\n");
        assert!(path.exists(), "a pipe that was taken away is made again");
        fifo.close().await;
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn another_file_in_its_place_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "precious").unwrap();
        assert!(Fifo::open(&path, None, None).is_none());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn its_script_gets_the_name_and_every_line() {
        let directory = tempfile::tempdir().unwrap();
        let (path, seen) = (directory.path().join("fifo"), directory.path().join("seen"));
        let script = shell(&format!("cat \"$1\" > {}", seen.display()));
        let mut fifo = Fifo::open(&path, Some(script), None).unwrap();
        fifo.write("INSTANCE \"VI_1\" MASTER 100\n");
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while std::fs::read_to_string(&seen).unwrap_or_default().is_empty() {
            assert!(std::time::Instant::now() < until, "nothing was read");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fifo.close().await;
        assert_eq!(std::fs::read_to_string(&seen).unwrap(), "INSTANCE \"VI_1\" MASTER 100\n");
    }
}
