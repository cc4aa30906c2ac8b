//! The configuration files in `configs` are good: each program accepts its own.

use harness::programs;
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::stack::{Cast, Maker};

/// The files below `configs` whose names begin and end so.
fn files(begins: &[&str], ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![xtask::root().join("configs")];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                todo.push(path);
            } else if begins.iter().any(|it| name.starts_with(it)) && ends.iter().any(|it| name.ends_with(it))
            {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no {begins:?} in configs");
    found
}

fn accepted(program: &str, flag: &str, file: &Path) {
    let mut command = Command::new(programs::folder().join(program));
    let output = command.arg("--check").arg(flag).arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} on {}: {text}", file.display());
}

fn theirs() -> bool {
    let cast = Cast::from_environment();
    [cast.broker, cast.proxy, cast.agent_c].contains(&Maker::Theirs)
}

#[test]
fn every_program_accepts_its_files() {
    if theirs() {
        return;
    }
    for file in files(&["broker"], &[".toml"]) {
        accepted("broker", "-c", &file);
    }
    for file in files(&["haproxy", "proxy"], &[".cfg", ".toml"]) {
        accepted("proxy", "-f", &file);
    }
    for file in files(&["keepalived", "vip"], &[".conf", ".toml"]) {
        accepted("vip-agent", "-f", &file);
    }
}
