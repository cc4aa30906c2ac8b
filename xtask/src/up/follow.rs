//! One log out of many: new lines of the hosts' log files, each with its host in front.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// Follows log files.
pub(super) struct Follow {
    files: BTreeMap<PathBuf, Tail>,
    colour: bool,
}

struct Tail {
    host: &'static str,
    read: u64,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Follow {
    pub(super) fn new() -> Self {
        Self { files: BTreeMap::new(), colour: std::io::stdout().is_terminal() }
    }

    /// Follows a file from its beginning; it may not exist yet.
    pub(super) fn add(&mut self, host: &'static str, path: PathBuf) {
        self.files.insert(path, Tail { host, read: 0, rest: Vec::new() });
    }

    /// The whole lines written since the last call, labelled.
    pub(super) fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, tail) in &mut self.files {
            let Ok(mut file) = File::open(path) else { continue };
            let mut new = Vec::new();
            if file.seek(SeekFrom::Start(tail.read)).is_ok() {
                tail.read += file.by_ref().take(1 << 20).read_to_end(&mut new).unwrap_or(0) as u64;
            }
            tail.rest.extend_from_slice(&new);
            while let Some(end) = tail.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = tail.rest.drain(..=end).collect();
                lines.push(label(tail.host, String::from_utf8_lossy(&line).trim_end(), self.colour));
            }
        }
        lines
    }

    /// A line of the supervisor's own.
    pub(super) fn note(&self, line: &str) -> String {
        label("up", line, self.colour)
    }
}

fn label(host: &str, line: &str, colour: bool) -> String {
    if !colour {
        return format!("{host:2} | {line}");
    }
    let code = match host {
        "A" => "36",
        "B" => "34",
        "C" => "32",
        "D" => "35",
        _ => "1",
    };
    format!("\x1b[{code}m{host:2} |\x1b[0m {line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_new_lines_are_shown() {
        let path = std::env::temp_dir().join(format!("xtask-follow-{}.log", std::process::id()));
        let mut follow = Follow { files: BTreeMap::new(), colour: false };
        follow.add("A", path.clone());
        assert!(follow.lines().is_empty());
        std::fs::write(&path, "one\ntw").unwrap();
        assert_eq!(follow.lines(), ["A  | one"]);
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(follow.lines(), ["A  | two"]);
        let _ = std::fs::remove_file(path);
    }
}
