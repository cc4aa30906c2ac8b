//! Debian packages of the three programs, by cargo-deb: `[package.metadata.deb]` of each manifest says what is in them.
//!
//! What has to be generated first (manual pages, completions, names that the programs answer to, bills of materials)
//! lies beside the programs in a folder of its own, which cargo-deb takes for its target directory:
//!
//! ```text
//! target/package/release/broker                       the program
//! target/package/release/generated/broker/man/…       its pages
//!                                 …/completions/bash/…, …/links/rabbitmqctl, …/broker.cdx.json
//! target/package/symbols/broker.debug                  its symbols, which the package does not have
//! target/package/warren-broker_0.1.0-1_amd64.deb      the result
//! ```

pub mod musl;
mod sbom;
pub mod strip;

use crate::lab::process::run;
use crate::{install, root, target};
use anyhow::{Context, Result, bail};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that has a package of its own.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The program, and the cargo package it is in.
    pub name: &'static str,
    /// The names of the originals' programs that it answers to as well.
    pub answers_to: &'static [&'static str],
}

impl Program {
    /// The Debian package.
    #[must_use]
    pub fn package(self) -> String {
        format!("warren-{}", self.name)
    }
}

/// All of them.
pub const PROGRAMS: [Program; 3] = [
    Program {
        name: "broker",
        answers_to: &[
            "rabbitmqctl",
            "rabbitmq-diagnostics",
            "rabbitmq-plugins",
            "rabbitmq-queues",
            "rabbitmq-upgrade",
        ],
    },
    Program { name: "proxy", answers_to: &["haproxy"] },
    Program { name: "vip-agent", answers_to: &["keepalived"] },
];

/// With which of cargo's profiles the programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// What is given to people.
    Release,
    /// For tests of the packages.
    Dev,
}

impl Profile {
    /// Where cargo puts what it builds with it.
    #[must_use]
    pub fn folder(self) -> PathBuf {
        target().join(match self {
            Self::Release => "release",
            Self::Dev => "debug",
        })
    }
}

/// Shells, and how a file of completions is called for each: a prefix and an ending.
const SHELLS: [(&str, &str, &str); 3] = [("bash", "", ""), ("zsh", "_", ""), ("fish", "", ".fish")];

/// Where packages are made.
#[must_use]
pub fn folder() -> PathBuf {
    target().join("package")
}

/// Where the symbols of packaged programs are.
#[must_use]
pub fn symbols() -> PathBuf {
    folder().join("symbols")
}

/// Gets what packages are made with, so that nothing begins that could not be ended.
///
/// # Errors
/// Something is missing, and cannot be installed.
pub fn need_tools() -> Result<()> {
    install::cargo_deb()?;
    if musl::ready().is_ok() {
        install::packages(musl::COMPILER)?;
    }
    Ok(())
}

/// Builds the programs.
///
/// # Errors
/// They do not compile.
pub fn compile(profile: Profile) -> Result<()> {
    let mut cargo = crate::cargo();
    cargo.args(["build", "--locked"]).current_dir(root());
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    for program in PROGRAMS {
        cargo.args(["-p", program.name]);
    }
    let status = cargo.status().context("start cargo build")?;
    if status.success() { Ok(()) } else { bail!("`cargo build` failed") }
}

/// Makes the packages from the programs in a folder, and returns where they are.
///
/// # Errors
/// A program or cargo-deb is missing, or fails.
pub fn packages(profile: Profile, programs: &Path) -> Result<Vec<PathBuf>> {
    install::cargo_deb()?;
    let stage = folder().join("release");
    // What an earlier state has left must not get into a package.
    let _ = std::fs::remove_dir_all(&stage);
    std::fs::create_dir_all(&stage).with_context(|| format!("create {}", stage.display()))?;
    let graph = sbom::Graph::read(&format!("{}-unknown-linux-gnu", std::env::consts::ARCH))?;
    let mut made = Vec::new();
    for program in PROGRAMS {
        let built = programs.join(program.name);
        let path = stage.join(program.name);
        std::fs::copy(&built, &path)
            .with_context(|| format!("take {}; without --no-build it is made first", built.display()))?;
        strip::strip(&path, &symbols())?;
        generate(program, &path, &stage.join("generated").join(program.name), &graph)?;
        made.push(debian(program, profile)?);
    }
    Ok(made)
}

/// Everything that comes from the program itself, or from its dependencies.
fn generate(program: Program, path: &Path, folder: &Path, graph: &sbom::Graph) -> Result<()> {
    let pages = folder.join("man");
    run(Command::new(path).arg("man").arg(&pages))?;
    for (shell, prefix, ending) in SHELLS {
        let completions = folder.join("completions").join(shell);
        std::fs::create_dir_all(&completions)?;
        let text = run(Command::new(path).args(["completions", shell]))?;
        std::fs::write(completions.join(format!("{prefix}{}{ending}", program.name)), text)?;
    }
    let links = folder.join("links");
    std::fs::create_dir_all(&links)?;
    for name in program.answers_to {
        symlink(format!("../../bin/{}", program.name), links.join(name))
            .with_context(|| format!("link {name}"))?;
    }
    std::fs::write(folder.join(format!("{}.cdx.json", program.name)), graph.bill(program.name)?)?;
    Ok(())
}

/// Makes the package of a program whose files are all there.
fn debian(program: Program, profile: Profile) -> Result<PathBuf> {
    let mut cargo = crate::cargo();
    cargo
        .args(["deb", "--no-build", "--no-strip", "--offline", "--quiet", "-p", program.name, "--output"])
        .arg(folder());
    if profile == Profile::Dev {
        cargo.arg("--fast");
    }
    cargo.current_dir(root()).env("CARGO_TARGET_DIR", folder());
    let told = run(&mut cargo)?;
    let path = told.lines().rev().find(|line| line.ends_with(".deb")).map(PathBuf::from);
    path.with_context(|| format!("cargo deb did not say where the package of {} is: {told}", program.name))
}
