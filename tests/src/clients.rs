//! Client programs of `tests/clients` that run for a while: those with the official Python client, and those of
//! [`xtask::traffic`].

use anyhow::Result;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use xtask::lab::{Process, process};
use xtask::stack::{CLIENT, Place};

/// A client program that runs on the client host.
#[derive(Debug)]
pub struct Client {
    process: Process,
    record: PathBuf,
}

impl Client {
    /// Starts `tests/clients/PROGRAM.py ARGUMENTS` on the client host; its record and its log get `name`.
    ///
    /// # Errors
    /// Python or the program cannot be started.
    pub fn start(
        place: &Place,
        program: &str,
        name: &str,
        folder: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut command = place.command(CLIENT, xtask::install::python()?);
        command.arg("-B").arg(script(program)).args(arguments);
        Self::run(command, name, folder)
    }

    /// Starts a program of this library on the client host; its record and its log get `name`.
    ///
    /// # Errors
    /// The library cannot be had, or the program cannot be started.
    pub fn of(
        library: xtask::traffic::Client,
        role: xtask::traffic::Role,
        place: &Place,
        name: &str,
        folder: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut command = library.command(role, |program| place.command(CLIENT, program))?;
        command.args(arguments);
        Self::run(command, name, folder)
    }

    /// Starts a command that takes `--out RECORD`; its record and its log get `name`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(mut command: Command, name: &str, folder: &Path) -> Result<Self> {
        let record = folder.join(format!("{name}.record"));
        command.arg("--out").arg(&record);
        let process = Process::spawn(name, command, &folder.join(format!("{name}.log")))?;
        Ok(Self { process, record })
    }

    /// The name it was started with.
    #[must_use]
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// What it wrote down so far.
    #[must_use]
    pub fn record(&self) -> String {
        process::read_lossy(&self.record)
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Asks it to stop and waits until it did.
    ///
    /// # Errors
    /// It does not stop within 20 s, or ended with an error: its log is part of the message.
    pub fn finish(&mut self) -> Result<()> {
        self.process.terminate();
        let status = self.process.wait(Duration::from_secs(20))?;
        anyhow::ensure!(status.success(), "{} failed:\n{}", self.process.name(), self.process.log());
        Ok(())
    }
}

/// Reads of a client's record what is new, so that it can be asked often.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tail {
    /// Octets that were read.
    read: usize,
}

impl Tail {
    /// Hands out the whole lines that came since the last call.
    ///
    /// # Panics
    /// The record cannot be read.
    pub fn lines(&mut self, client: &Client, mut each: impl FnMut(&str)) {
        let mut new = Vec::new();
        if let Ok(mut record) = File::open(&client.record) {
            record.seek(SeekFrom::Start(self.read as u64)).expect("a record is a file");
            record.read_to_end(&mut new).expect("a record can be read");
        }
        // What follows the last whole line comes again.
        new.truncate(new.iter().rposition(|octet| *octet == b'\n').map_or(0, |end| end + 1));
        self.read += new.len();
        String::from_utf8_lossy(&new).lines().for_each(&mut each);
    }
}

/// Counts the lines of one event in a client's record.
#[derive(Debug, Clone, Copy)]
pub struct Events {
    event: &'static str,
    tail: Tail,
    count: usize,
}

impl Events {
    /// Counts the lines that begin with this word.
    #[must_use]
    pub fn of(event: &'static str) -> Self {
        Self { event, tail: Tail::default(), count: 0 }
    }

    /// How many there are by now.
    ///
    /// # Panics
    /// The record cannot be read.
    pub fn count(&mut self, client: &Client) -> usize {
        let mut new = 0;
        self.tail.lines(client, |line| new += usize::from(line.split(' ').next() == Some(self.event)));
        self.count += new;
        self.count
    }
}

/// A client program's path.
#[must_use]
pub fn script(program: &str) -> PathBuf {
    xtask::root().join("tests/clients").join(format!("{program}.py"))
}

/// Runs a client program on this machine to its end and returns what it printed.
///
/// # Errors
/// It failed; its output is part of the message.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    process::run(Command::new(xtask::install::python()?).arg("-B").arg(script(program)).args(arguments))
}
