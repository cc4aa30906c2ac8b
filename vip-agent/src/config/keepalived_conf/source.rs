//! The files of a configuration: `include`, `$NAME=value`, `@host` lines, and remarks that show them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use daemon::diagnostic::{Diagnostic, Diagnostics};

use super::lexer::{Place, lex};
use super::tree::{Statement, build};

const MAX_FILES: usize = 256;
const MAX_INCLUDE_DEPTH: usize = 16;
/// Longest line after variables were replaced.
const MAX_LINE: usize = 64 * 1024;

/// The texts read so far and what was remarked about them.
pub(super) struct Source {
    files: Vec<(String, Vec<String>)>,
    pub(super) remarks: Diagnostics,
    variables: HashMap<String, String>,
    /// This host's name, for `@host`.
    host: String,
}

impl Source {
    /// Reads `text` and everything it includes into statements.
    pub(super) fn read(text: &str, file: &str, directory: Option<&Path>) -> (Self, Vec<Statement>) {
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
        let mut source = Self {
            files: Vec::new(),
            remarks: Diagnostics::new(),
            variables: HashMap::new(),
            host: host.unwrap_or_default(),
        };
        let statements = source.file(text, file, directory.unwrap_or(Path::new(".")), 0);
        (source, statements)
    }

    /// Adds a remark about a place.
    pub(super) fn remark(&mut self, remark: Diagnostic, place: Place) {
        let Some((name, lines)) = self.files.get(place.file) else {
            self.remarks.push(remark);
            return;
        };
        let line = lines.get(place.line.saturating_sub(1)).cloned().unwrap_or_default();
        let remark = remark.in_file(name.clone()).at(place.line, place.column, line, place.length);
        self.remarks.push(remark);
    }

    fn file(&mut self, text: &str, file: &str, directory: &Path, depth: usize) -> Vec<Statement> {
        let index = self.files.len();
        let expanded: Vec<String> =
            text.lines().enumerate().map(|(number, line)| self.line(line, index, number + 1)).collect();
        self.files.push((file.to_owned(), expanded.clone()));
        let (tokens, open_quotes) = lex(&expanded.join("\n"), index);
        for place in open_quotes {
            self.remark(Diagnostic::error("open-quote", "this quote is never closed"), place);
        }
        let (statements, errors) = build(tokens);
        for error in errors {
            self.remark(Diagnostic::error("brace", error.message), error.place);
        }
        self.follow_includes(statements, directory, depth)
    }

    /// One line with variables replaced; definitions and lines for other hosts become empty.
    fn line(&mut self, line: &str, file: usize, number: usize) -> String {
        let trimmed = line.trim();
        if let Some((name, value)) = trimmed.strip_prefix('$').and_then(|rest| rest.split_once('=')) {
            let is_name = |name: &str| {
                !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            };
            if is_name(name.trim()) {
                let value = self.replace(value.trim().trim_matches('"'), file, number);
                self.variables.insert(name.trim().to_owned(), value);
                return String::new();
            }
        }
        if let Some(rest) = trimmed.strip_prefix('@') {
            let (host, statement) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let (wanted, negated) = host.strip_prefix('^').map_or((host, false), |host| (host, true));
            if (wanted == self.host) == negated {
                return String::new();
            }
            return self.replace(statement, file, number);
        }
        self.replace(line, file, number)
    }

    fn replace(&self, line: &str, _file: usize, _number: usize) -> String {
        if !line.contains('$') {
            return line.to_owned();
        }
        let mut out = String::new();
        let mut rest = line;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let (name, end) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                Some((name, _)) => (name, name.len() + 2),
                None => {
                    let end = after
                        .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
                        .unwrap_or(after.len());
                    (&after[..end], end)
                }
            };
            match self.variables.get(name) {
                Some(value) if out.len() + value.len() < MAX_LINE => out.push_str(value),
                _ => out.push_str(&rest[at..at + 1 + end]),
            }
            rest = &after[end..];
        }
        out.push_str(rest);
        out
    }

    fn follow_includes(
        &mut self,
        statements: Vec<Statement>,
        directory: &Path,
        depth: usize,
    ) -> Vec<Statement> {
        let mut out = Vec::new();
        for mut statement in statements {
            let is_include = matches!(
                statement.keyword.text.as_str(),
                "include" | "includer" | "includem" | "includew" | "includeb" | "includea"
            );
            if !is_include {
                if let Some(block) = statement.block.take() {
                    statement.block = Some(self.follow_includes(block, directory, depth));
                }
                out.push(statement);
                continue;
            }
            let Some(pattern) = statement.words.first() else {
                self.remark(
                    Diagnostic::error("missing-value", "`include` needs a file"),
                    statement.keyword.place,
                );
                continue;
            };
            let files = matching_files(directory, &pattern.text);
            if files.is_empty() {
                let message = format!("no file matches `{}`", pattern.text);
                self.remark(Diagnostic::error("include", message), pattern.place);
            }
            for path in files {
                if depth >= MAX_INCLUDE_DEPTH || self.files.len() >= MAX_FILES {
                    self.remark(
                        Diagnostic::error("include", "too many files, or a circle of them"),
                        pattern.place,
                    );
                    return out;
                }
                match daemon::config::read_text(&path) {
                    Ok(text) => {
                        let inner = path.parent().unwrap_or(directory).to_owned();
                        out.extend(self.file(&text, &path.display().to_string(), &inner, depth + 1));
                    }
                    Err(remarks) => self.remarks.extend(remarks),
                }
            }
        }
        out
    }
}

/// Files a pattern names; `*` and `?` are understood in the last part.
fn matching_files(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = directory.join(pattern);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.contains(['*', '?']) {
        return vec![path];
    }
    let parent = path.parent().unwrap_or(directory);
    let mut files: Vec<PathBuf> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| wildcard(name.as_bytes(), entry.file_name().as_encoded_bytes()))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

fn wildcard(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            wildcard(&pattern[1..], name) || (!name.is_empty() && wildcard(pattern, &name[1..]))
        }
        (Some(b'?'), Some(_)) => wildcard(&pattern[1..], &name[1..]),
        (Some(a), Some(b)) if a == b => wildcard(&pattern[1..], &name[1..]),
        _ => false,
    }
}
