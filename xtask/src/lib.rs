//! What `cargo xtask` and the end-to-end tests share: hosts in network namespaces, processes that are
//! never left behind, the stack A, B, C, D, and what has to be installed for them.
//!
//! Knows nothing about the programs but their names and command lines.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

pub mod install;
pub mod lab;
pub mod libraries;
pub mod package;
pub mod plot;
pub mod stack;
pub mod traffic;

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

/// The root of the working copy.
#[must_use]
pub fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or_else(|| manifest.clone(), PathBuf::from)
}

/// Cargo, as a person calls it. `cargo run` sets variables that build scripts look at: with them, what they made and all
/// that stands on it would be built once more each time that a person and this program take turns.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|it| it.starts_with("CARGO_PKG_") || it.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Builds all programs, those that measure too. Always the whole workspace: another selection of packages has other
/// features, and cargo would build everything once more.
///
/// # Errors
/// They do not build.
pub fn build_programs(profile: &str) -> Result<()> {
    println!("building, {profile}");
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--workspace", "--bins", "--profile", profile]).current_dir(root());
    ensure!(cargo.status().context("start cargo")?.success(), "the programs do not build");
    Ok(())
}

/// Where build output and state go: `CARGO_TARGET_DIR`, or `target` in the working copy.
#[must_use]
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(PathBuf::from(dir)),
        None => root().join("target"),
    }
}
