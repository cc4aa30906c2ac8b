//! The official Python client, driven by the programs in `tests/clients`.

use anyhow::Result;
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
        let record = folder.join(format!("{name}.record"));
        let mut command = place.command(CLIENT, xtask::install::python()?);
        command.arg("-B").arg(script(program)).args(arguments).arg("--out").arg(&record);
        let process = Process::spawn(name, command, &folder.join(format!("{name}.log")))?;
        Ok(Self { process, record })
    }

    /// What it wrote down so far.
    #[must_use]
    pub fn record(&self) -> String {
        process::read_lossy(&self.record)
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
