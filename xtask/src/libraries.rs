//! The official client libraries beside pika, each pinned under `tests/clients` and installed below
//! `target/clients`: amqplib for Node, amqp091-go, the Java client in two versions, and Celery; and the Rust client of
//! the HTTP API. [`crate::traffic`] has more, for programs that only publish and consume.
//!
//! What is made is made again when a file that it was made from changes. The toolchains are taken from the search
//! path, and from Debian where they are missing.

use crate::install::{self, Need};
use crate::lab::process::run;
use crate::{root, target};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// What amqplib needs.
const NODE: &[Need] = &[Need { program: "node", package: "nodejs" }, Need { program: "npm", package: "npm" }];

/// What the browser tests need beside that.
const BROWSER: &[Need] = &[Need { program: "chromium", package: "chromium" }];

/// What amqp091-go needs.
const GO: &[Need] = &[Need { program: "go", package: "golang-go" }];

/// What the Java client needs.
const JAVA: &[Need] =
    &[Need { program: "javac", package: "default-jdk-headless" }, Need { program: "mvn", package: "maven" }];

/// The versions of the Java client: the tutorial's and the newest of that line. Each is a profile in `pom.xml`.
pub const JAVA_VERSIONS: [&str; 2] = ["5.7.3", "5.37.1"];

/// A download that takes longer than this has failed.
const LIMIT_SECONDS: &str = "600";

/// A client library, with which a program of `tests/clients` runs the scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// pika, for Python.
    Pika,
    /// amqplib, for Node.
    Amqplib,
    /// amqp091-go.
    Go,
    /// The Java client in one of [`JAVA_VERSIONS`].
    Java(&'static str),
    /// Celery and kombu, for Python.
    Celery,
}

impl Library {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Pika,
        Self::Amqplib,
        Self::Go,
        Self::Java(JAVA_VERSIONS[0]),
        Self::Java(JAVA_VERSIONS[1]),
        Self::Celery,
    ];

    /// Installs it and what it needs, builds its program, and returns the command that runs it.
    ///
    /// # Errors
    /// A toolchain is missing, a package cannot be had, or the program does not compile.
    pub fn program(self) -> Result<Command> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        match self {
            Self::Pika => Ok(script(&install::python()?, "scenarios.py")),
            Self::Celery => celery("scenarios"),
            Self::Amqplib => packaged("node", "scenarios.js"),
            Self::Go => go(),
            Self::Java(version) => java(version, "Scenarios"),
        }
    }
}

pub(crate) fn sources(folder: &str) -> PathBuf {
    root().join("tests/clients").join(folder)
}

pub(crate) fn script(python: &Path, program: &str) -> Command {
    let mut command = Command::new(python);
    command.arg("-B").arg(sources(program));
    command
}

pub(crate) fn celery(program: &str) -> Result<Command> {
    let folder = target().join("clients/celery");
    let python = install::environment(&folder, "tests/clients/celery/requirements.txt")?;
    Ok(script(&python, &format!("celery/{program}.py")))
}

/// The command that runs a program of `tests/clients/browser`: Playwright with Debian's Chromium.
///
/// # Errors
/// Node, Chromium or a package cannot be had.
pub fn browser(program: &str) -> Result<Command> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    install::packages(BROWSER)?;
    packaged("browser", program)
}

/// The command that runs `tests/clients/http`: the Rust client of RabbitMQ's HTTP API. It is no member of our
/// workspace, and what it needs stays out of our dependencies.
///
/// # Errors
/// A package cannot be had, or the program does not compile.
pub fn http_client() -> Result<Command> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let sources = sources("http");
    // What was compiled for the last build stays beside it.
    let all = target().join("clients/http");
    let folder = all.join("program");
    let mut from = files(&sources)?;
    from.extend(files(&sources.join("src"))?);
    made(&folder, &from, || {
        println!("building the Rust client of the HTTP API");
        let mut cargo = bounded("cargo");
        cargo.args(["build", "--quiet", "--locked", "--target-dir"]).arg(all.join("build"));
        run(cargo.current_dir(&sources)).context("build tests/clients/http")?;
        std::fs::copy(all.join("build/debug/http"), folder.join("http"))?;
        Ok(())
    })?;
    Ok(Command::new(folder.join("http")))
}

/// A program for Node in a folder below `tests/clients`, with the packages that are pinned beside it.
pub(crate) fn packaged(name: &str, program: &str) -> Result<Command> {
    let sources = sources(name);
    let folder = target().join("clients").join(name);
    made(&folder, &[sources.join("package.json"), sources.join("package-lock.json")], || {
        install::packages(NODE)?;
        println!("installing the packages of tests/clients/{name} for Node");
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(sources.join(file), folder.join(file))?;
        }
        let mut npm = bounded("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]).current_dir(&folder);
        let pinned = format!("install what tests/clients/{name}/package-lock.json lists");
        run(&mut npm).context(pinned).map(drop)
    })?;
    let mut command = Command::new("node");
    command.arg(sources.join(program)).env("NODE_PATH", folder.join("node_modules"));
    Ok(command)
}

pub(crate) fn go() -> Result<Command> {
    let sources = sources("go");
    // What was fetched and compiled for the last build stays beside it.
    let all = target().join("clients/go");
    let folder = all.join("build");
    made(&folder, &files(&sources)?, || {
        install::packages(GO)?;
        println!("building the Go client");
        let mut go = bounded("go");
        go.args(["build", "-mod=readonly", "-modcacherw", "-o"]).arg(folder.join("scenarios")).arg(".");
        go.current_dir(&sources).env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
        go.env("GOMODCACHE", all.join("modules")).env("GOCACHE", all.join("cache"));
        run(&mut go).context("build tests/clients/go").map(drop)
    })?;
    Ok(Command::new(folder.join("scenarios")))
}

pub(crate) fn java(version: &str, class: &str) -> Result<Command> {
    let sources = sources("java");
    let folder = target().join("clients/java").join(version);
    let archives = folder.join("archives");
    let sums = sources.join("SHA256SUMS");
    made(&archives, &[sources.join("pom.xml"), sums.clone()], || {
        install::packages(JAVA)?;
        println!("fetching the Java client {version}");
        let mut maven = bounded("mvn");
        maven.args(["--quiet", "--batch-mode", "--no-transfer-progress", "-P", version]);
        maven.arg("-f").arg(sources.join("pom.xml"));
        maven.arg(format!("-Dmaven.repo.local={}", target().join("clients/java/repository").display()));
        maven.arg("dependency:copy-dependencies").arg(format!("-DoutputDirectory={}", archives.display()));
        run(&mut maven).context("fetch what tests/clients/java/pom.xml lists")?;
        verify(&archives, version, &std::fs::read_to_string(&sums)?)
    })?;
    let classes = folder.join("classes");
    let path = format!("{}:{}/*", classes.display(), archives.display());
    let texts: Vec<PathBuf> =
        files(&sources)?.into_iter().filter(|it| it.extension().is_some_and(|it| it == "java")).collect();
    made(&classes, &texts, || {
        install::packages(JAVA)?;
        println!("compiling the scenarios for the Java client {version}");
        let mut javac = bounded("javac");
        javac.args(["-nowarn", "--release", "11", "-d"]).arg(&classes).args(["-cp", &path]).args(&texts);
        run(&mut javac).context("compile tests/clients/java").map(drop)
    })?;
    let mut command = virtual_machine(&path);
    command.arg(class);
    Ok(command)
}

/// Java for programs that run for seconds: the fast compiler and the simple collector start soonest.
fn virtual_machine(path: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-cp", path]);
    command
}

/// Builds a project with Maven, `of` being its place in the repository, and returns the command that runs one of its
/// classes. The project builds into the folder that the property `property` names.
pub(crate) fn maven(of: &str, name: &str, property: &str) -> Result<Command> {
    let sources = root().join(of);
    let folder = target().join("clients").join(name);
    let mut from = vec![sources.join("pom.xml")];
    from.extend(files_below(&sources.join("src"))?);
    made(&folder, &from, || {
        install::packages(JAVA)?;
        println!("building {of}");
        let mut maven = bounded("mvn");
        maven.args(["--quiet", "--batch-mode", "--no-transfer-progress", "-f"]).arg(sources.join("pom.xml"));
        maven.arg(format!("-Dmaven.repo.local={}", target().join("clients/java/repository").display()));
        maven.arg(format!("-D{property}={}", folder.display())).arg("package");
        run(&mut maven).with_context(|| format!("build {of}")).map(drop)
    })?;
    Ok(virtual_machine(&format!("{0}/classes:{0}/dependency/*", folder.display())))
}

/// The tutorial's programs, built by Maven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tutorial {
    /// With the Java client alone.
    Java,
    /// With spring-rabbit.
    Spring,
}

impl Tutorial {
    /// Builds them, and returns the command that runs one; what is missing is its class.
    ///
    /// # Errors
    /// Maven or a library cannot be had, or they do not compile.
    pub fn program(self) -> Result<Command> {
        let name = if self == Self::Java { "java" } else { "spring" };
        maven(&format!("tests/tutorial/{name}"), &format!("tutorial/{name}"), "tutorial.target")
    }
}

/// Holds the archives of a version against the pinned sums, both ways.
fn verify(archives: &Path, version: &str, sums: &str) -> Result<()> {
    let mine = pinned(sums, version);
    let found =
        files(archives)?.into_iter().filter(|it| it.extension().is_some_and(|it| it == "jar")).count();
    anyhow::ensure!(
        found == mine.len(),
        "{found} archives for {version}, but {} in tests/clients/java/SHA256SUMS",
        mine.len()
    );
    for (sum, name) in mine {
        let told = run(Command::new("sha256sum").arg(archives.join(name)))?;
        anyhow::ensure!(
            told.starts_with(sum),
            "{name} is not the file that tests/clients/java/SHA256SUMS lists"
        );
    }
    Ok(())
}

/// The sums and names of a version's archives.
fn pinned<'a>(sums: &'a str, version: &str) -> Vec<(&'a str, &'a str)> {
    let of_version = |line: &'a str| {
        let (sum, path) = line.split_once("  ")?;
        Some((sum, path.strip_prefix(version)?.strip_prefix('/')?))
    };
    sums.lines().filter_map(of_version).collect()
}

/// Makes what lies in `folder`, unless it was made from files with just these contents.
fn made(folder: &Path, from: &[PathBuf], make: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut wanted = String::new();
    for path in from {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        wanted.push_str(&text);
    }
    let stamp = folder.join("made-from");
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    // What an earlier state of the files left must not be found among the new.
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    make()?;
    Ok(std::fs::write(stamp, wanted)?)
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = files(folder)?;
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    for folder in folders {
        found.extend(files_below(&folder)?);
    }
    Ok(found)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

fn bounded(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args([LIMIT_SECONDS, program]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_picked_by_version() {
        let sums = "aa  5.7.3/one.jar\nbb  5.37.1/two.jar\n";
        assert_eq!(pinned(sums, "5.7.3"), [("aa", "one.jar")]);
        assert_eq!(pinned(sums, "5.37.1"), [("bb", "two.jar")]);
    }

    #[test]
    fn things_are_made_again_when_their_files_change() {
        let folder = target().join(format!("made-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let source = folder.join("source");
        let count = |text: &str| {
            std::fs::write(&source, text).unwrap();
            let mut calls = 0;
            made(&folder.join("made"), std::slice::from_ref(&source), || {
                calls += 1;
                Ok(())
            })
            .unwrap();
            calls
        };
        assert_eq!([count("1"), count("1"), count("2"), count("2")], [1, 0, 1, 0]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_could_not_be_made_is_tried_again() {
        let folder = target().join(format!("unmade-test-{}", std::process::id()));
        assert!(made(&folder, &[], || anyhow::bail!("no")).is_err());
        let mut again = false;
        made(&folder, &[], || {
            again = true;
            Ok(())
        })
        .unwrap();
        assert!(again);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
