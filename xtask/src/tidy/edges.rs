//! Who may know whom: the table of the packages, held against the manifests and against `use` lines.

use super::Finding;
use super::tree::Tree;

/// A package: its name, its folder, the packages of ours it may use, and whether it is a core, which does
/// no I/O and therefore knows no tokio.
struct Package {
    name: &'static str,
    folder: &'static str,
    may: &'static [&'static str],
    core: bool,
}

const fn package(
    name: &'static str,
    folder: &'static str,
    may: &'static [&'static str],
    core: bool,
) -> Package {
    Package { name, folder, may, core }
}

/// The house: arrows only downward. Folders inside others come first.
const PACKAGES: &[Package] = &[
    package("amqp", "crates/amqp/", &[], true),
    package("vrrp", "crates/vrrp/", &[], true),
    package("daemon", "crates/daemon/", &[], false),
    package("broker-core", "broker/core/", &["amqp"], true),
    package("broker-store", "broker/store/", &["broker-core"], true),
    package("broker-sim", "broker/sim/", &["broker-core", "broker-store"], false),
    package("broker", "broker/", &["broker-core", "broker-store", "daemon", "amqp"], false),
    package("proxy", "proxy/", &["daemon", "amqp"], false),
    package("vip-agent", "vip-agent/", &["daemon", "vrrp"], false),
    package("tests", "tests/", ALL, false),
    package("xtask", "xtask/", &[], false),
];

/// The tests may use every package.
const ALL: &[&str] = &[
    "amqp",
    "vrrp",
    "daemon",
    "broker-core",
    "broker-store",
    "broker-sim",
    "broker",
    "proxy",
    "vip-agent",
    "xtask",
];

/// Libraries that one folder alone names, so that another can take their place.
const BEHIND: &[(&str, &str)] = &[("openraft", "broker/src/cluster/raft/")];

/// Checks every package.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        let Some(owner) = owner(path) else { continue };
        if path.ends_with("Cargo.toml") {
            manifest(owner, path, text, &mut findings);
        } else if path.ends_with(".rs") {
            uses(owner, path, text, &mut findings);
            behind(path, text, &mut findings);
        }
    }
    findings
}

/// The package that a file belongs to.
fn owner(path: &str) -> Option<&'static Package> {
    PACKAGES.iter().find(|package| path.starts_with(package.folder))
}

fn manifest(owner: &Package, path: &str, text: &str, findings: &mut Vec<Finding>) {
    for (line, name) in dependencies(text) {
        if let Some(why) = forbidden(owner, &name) {
            findings.push(Finding::new(path, line, why));
        }
    }
}

/// Why a package may not depend on another, if it may not.
fn forbidden(owner: &Package, name: &str) -> Option<String> {
    if owner.core && (name == "tokio" || name.starts_with("tokio-")) {
        return Some(format!("{} is a core: it decides and does no I/O, so it knows no {name}", owner.name));
    }
    let ours = PACKAGES.iter().any(|package| package.name == name);
    if !ours || name == owner.name || owner.may.contains(&name) {
        return None;
    }
    let may = if owner.may.is_empty() { "nothing of ours".to_owned() } else { owner.may.join(", ") };
    Some(format!("{} must not know {name}; it may know {may}", owner.name))
}

/// The dependencies of a manifest with their line numbers: every `[…dependencies]` table, in the forms
/// `name = …`, `name.workspace = true` and `[dependencies.name]`; `package = "…"` is what counts.
fn dependencies(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let parts: Vec<&str> = header.split('.').collect();
            inside = parts.last().is_some_and(|part| part.ends_with("dependencies"));
            if let [.., table, name] = parts[..]
                && table.ends_with("dependencies")
            {
                found.push((index + 1, name.trim_matches('"').to_owned()));
            }
        } else if inside && let Some((key, value)) = line.split_once('=') {
            let key = key.trim().split('.').next().unwrap_or_default().trim_matches('"');
            found.push((index + 1, renamed(value).unwrap_or(key).to_owned()));
        }
    }
    found
}

/// The value of `package = "…"` in an inline table.
fn renamed(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("package")?;
    rest.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?.split('"').next()
}

fn uses(owner: &Package, path: &str, text: &str, findings: &mut Vec<Finding>) {
    for (index, line) in text.lines().enumerate() {
        let Some(krate) = used_crate(line) else { continue };
        let local = text.lines().any(|line| {
            let line = line.trim().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            line == format!("mod {krate};") || line == format!("mod {krate} {{")
        });
        if local {
            continue;
        }
        if let Some(why) = forbidden(owner, &krate.replace('_', "-")) {
            findings.push(Finding::new(path, index + 1, why));
        }
    }
}

/// Names a library of [`BEHIND`] in another file's code. Comments may tell of it.
fn behind(path: &str, text: &str, findings: &mut Vec<Finding>) {
    // The rule itself has to name it.
    if path.starts_with("xtask/src/tidy/") {
        return;
    }
    for (index, line) in text.lines().enumerate() {
        for (library, home) in BEHIND.iter().filter(|(_, home)| !path.starts_with(home)) {
            if line.contains(library) && !line.trim_start().starts_with("//") {
                findings.push(Finding::new(path, index + 1, format!("only {home} may name {library}")));
            }
        }
    }
}

/// The crate that a `use` or `extern crate` line names.
fn used_crate(line: &str) -> Option<&str> {
    let mut line = line.trim_start();
    if let Some(rest) = line.strip_prefix("pub") {
        line = rest.trim_start();
        if let Some(rest) = line.strip_prefix('(') {
            line = rest.split_once(')')?.1.trim_start();
        }
    }
    let rest = line.strip_prefix("use ").or_else(|| line.strip_prefix("extern crate "))?;
    let rest = rest.trim_start().trim_start_matches("::");
    let end = rest.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}
