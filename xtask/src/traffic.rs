//! Client programs that publish and consume numbered messages through whatever happens, one for each library: what the
//! tests of the whole stack run while they break things.
//!
//! ```text
//! PROGRAM publish --url URL --queue QUEUE --out RECORD --name NAME --rate PER_SECOND
//! PROGRAM consume --url URL --queue QUEUE --out RECORD
//! ```
//!
//! Each connects again by itself, for ever, and ends well when it is told to. Its record has the lines that
//! `tests/clients/publish.py` and `consume.py` describe.

use crate::install::{self, Need};
use crate::libraries::{JAVA_VERSIONS, celery, go, java, maven, packaged, script, sources};
use crate::{root, target};
use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// bunny and php-amqplib come with Debian: their own registries may be out of reach.
const RUBY: &[Need] = &[Need { program: "ruby", package: "ruby" }];
const PHP: &[Need] = &[Need { program: "php", package: "php-cli" }];

/// The exit status of chaos when a message is lost, invented, or repeated without its mark.
pub const UNACCOUNTED: u8 = 3;

/// A library with which messages are published and consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// pika, for Python.
    Pika,
    /// amqplib, for Node.
    Amqplib,
    /// amqp091-go.
    Go,
    /// The newest Java client, with its automatic recovery.
    Java,
    /// Spring Boot with spring-rabbit.
    SpringBoot,
    /// Celery: tasks and a worker.
    Celery,
    /// bunny, for Ruby.
    Bunny,
    /// php-amqplib.
    PhpAmqplib,
    /// lapin, for Rust.
    Lapin,
}

/// What a client program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Publishes, and waits for each confirm.
    Publish,
    /// Consumes, and acknowledges.
    Consume,
}

impl Role {
    fn word(self) -> &'static str {
        if self == Self::Publish { "publish" } else { "consume" }
    }
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Pika,
        Self::Amqplib,
        Self::Go,
        Self::Java,
        Self::SpringBoot,
        Self::Celery,
        Self::Bunny,
        Self::PhpAmqplib,
        Self::Lapin,
    ];

    /// A word for it, fit for names of queues and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pika => "pika",
            Self::Amqplib => "amqplib",
            Self::Go => "amqp091-go",
            Self::Java => "java",
            Self::SpringBoot => "spring-boot",
            Self::Celery => "celery",
            Self::Bunny => "bunny",
            Self::PhpAmqplib => "php-amqplib",
            Self::Lapin => "lapin",
        }
    }

    /// Installs and builds what it needs, and returns the command that plays this role, without its options. `on`
    /// makes the command of a program, on the host where it shall run.
    ///
    /// # Errors
    /// A toolchain is missing, a package cannot be had, or the program does not compile.
    pub fn command(self, role: Role, on: impl FnOnce(&OsStr) -> Command) -> Result<Command> {
        let program = self.program(role)?;
        let mut command = on(program.get_program());
        command.args(program.get_args());
        for (name, value) in program.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        if self != Self::Pika {
            command.arg(role.word());
        }
        Ok(command)
    }

    fn program(self, role: Role) -> Result<Command> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        match self {
            Self::Pika => Ok(script(&install::python()?, &format!("{}.py", role.word()))),
            Self::Celery => celery("traffic"),
            Self::Amqplib => packaged("node", "traffic.js"),
            Self::Go => go(),
            Self::Java => java(JAVA_VERSIONS[1], "Traffic"),
            Self::SpringBoot => {
                let mut command = maven("tests/clients/spring", "spring", "traffic.target")?;
                command.arg("traffic.Traffic");
                Ok(command)
            }
            Self::Bunny => {
                install::packages(RUBY)?;
                install::library("ruby", &["-e", "require 'bunny'"], "ruby-bunny")?;
                let mut command = Command::new("ruby");
                command.arg(sources("ruby/traffic.rb"));
                Ok(command)
            }
            Self::PhpAmqplib => {
                install::packages(PHP)?;
                let loads = "require_once 'PhpAmqpLib/autoload.php';";
                install::library("php", &["-r", loads], "php-amqplib")?;
                let mut command = Command::new("php");
                command.arg(sources("php/traffic.php"));
                Ok(command)
            }
            Self::Lapin => Ok(Command::new(lapin()?)),
        }
    }
}

/// The program with lapin: from `WARREN_BIN`, as for the tests, or built now.
fn lapin() -> Result<PathBuf> {
    const NAME: &str = "lapin-traffic";
    if let Some(folder) = std::env::var_os("WARREN_BIN") {
        let program = root().join(folder).join(NAME);
        ensure!(program.exists(), "{} is not built", program.display());
        return Ok(program);
    }
    let mut cargo = crate::cargo();
    cargo.args(["build", "--quiet", "-p", "tests", "--bin", NAME]).current_dir(root());
    ensure!(cargo.status().context("start cargo")?.success(), "{NAME} does not build");
    Ok(target().join("debug").join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_fit_into_the_names_of_files() {
        let mut names: Vec<&str> = Client::ALL.iter().map(|it| it.name()).collect();
        assert!(names.iter().all(|it| it.chars().all(|it| it.is_ascii_alphanumeric() || it == '-')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Client::ALL.len());
    }

    #[test]
    fn a_command_has_what_its_program_has_and_the_role() {
        let Ok(command) = Client::Bunny.command(Role::Publish, |program| {
            let mut command = Command::new("env");
            command.arg(program);
            command
        }) else {
            return; // no Ruby here, and none to be had
        };
        let words: Vec<String> = command.get_args().map(|it| it.to_string_lossy().into_owned()).collect();
        assert_eq!((words[0].as_str(), words[2].as_str()), ("ruby", "publish"));
        assert!(words[1].ends_with("tests/clients/ruby/traffic.rb"), "{words:?}");
    }
}
