//! Nothing of the machine on which the files were written: no path of it, no package mirror it used.

use super::Finding;
use super::tree::Tree;

/// What this machine would leave behind.
pub(super) struct Machine {
    /// Paths and host names that no file may hold.
    marks: Vec<String>,
}

/// Signs of a private package source, wherever it is.
const MIRRORS: &[&str] =
    &["replace-with", "--index-url", "index-url =", "extra-index-url", "trusted-host", "GOPROXY="];

/// Public sources that a lock file or a manual may name.
const PUBLIC: &[&str] =
    &["crates.io", "pypi.org", "files.pythonhosted.org", "github.com", "registry.npmjs.org"];

/// Where package managers keep the sources they were told to use.
const SETTINGS: &[&str] =
    &[".cargo/config.toml", ".cargo/config", ".config/pip/pip.conf", ".pip/pip.conf", ".npmrc"];

impl Machine {
    /// Reads the marks of the machine this runs on: where the working copy lies, the home folder, and the
    /// hosts that its package managers are told to use.
    pub(super) fn this() -> Self {
        let mut marks = Vec::new();
        let root = xtask::root().to_string_lossy().into_owned();
        marks.push(root);
        let mut settings = vec!["/etc/pip.conf".to_owned()];
        if let Ok(home) = std::env::var("HOME")
            && home.len() > 1
        {
            settings.extend(SETTINGS.iter().map(|file| format!("{home}/{file}")));
            marks.push(format!("{home}/"));
        }
        let texts = settings.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default());
        let variables = ["PIP_INDEX_URL", "GOPROXY", "NPM_CONFIG_REGISTRY", "CARGO_REGISTRIES_MIRROR_INDEX"];
        let values = variables.iter().map(|name| std::env::var(name).unwrap_or_default());
        for text in texts.chain(values) {
            marks.extend(
                hosts(&text).filter(|host| !PUBLIC.iter().any(|it| host.ends_with(it))).map(str::to_owned),
            );
        }
        Self { marks }
    }

    #[cfg(test)]
    pub(super) fn with(marks: &[&str]) -> Self {
        Self { marks: marks.iter().map(ToString::to_string).collect() }
    }
}

/// The hosts of the addresses in a text.
fn hosts(text: &str) -> impl Iterator<Item = &str> {
    text.split("://").skip(1).filter_map(|rest| {
        let host = rest.split(|it: char| !(it.is_alphanumeric() || ".-_@".contains(it))).next()?;
        let host = host.rsplit('@').next()?;
        (host.contains('.')).then_some(host)
    })
}

/// Finds marks, mirrors and other people's home folders.
pub(super) fn check(tree: &Tree, machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        // This file has to name what it looks for.
        if path.starts_with("xtask/src/tidy/") {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let mark = machine.marks.iter().map(String::as_str).chain(MIRRORS.iter().copied());
            let mut why = mark.into_iter().find(|mark| line.contains(mark)).map(|mark| {
                format!("`{mark}` belongs to the machine this was written on, not into the project")
            });
            if path == "Cargo.lock"
                && line.starts_with("source = ")
                && line != "source = \"registry+https://github.com/rust-lang/crates.io-index\""
            {
                why = Some("a dependency from elsewhere than crates.io".to_owned());
            }
            if let Some(why) = why.or_else(|| home_of_someone(line)) {
                findings.push(Finding::new(path, index + 1, why));
            }
        }
    }
    findings
}

/// A path below somebody's home folder; one letter is an example.
fn home_of_someone(line: &str) -> Option<String> {
    for base in ["/home/", "/Users/"] {
        let Some((_, rest)) = line.split_once(base) else { continue };
        let name = rest
            .split(|it: char| !(it.is_alphanumeric() || it == '-' || it == '_'))
            .next()
            .unwrap_or_default();
        if name.len() > 1 && rest[name.len()..].starts_with('/') {
            return Some(format!("`{base}{name}/` is somebody's home folder"));
        }
    }
    None
}
