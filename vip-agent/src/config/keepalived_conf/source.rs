//! The files of a configuration, line by line: `include`, `$NAME=value`, `@host`, `~SEQ`, `~LST`, and remarks
//! that show the line at fault as it was understood.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use daemon::diagnostic::{Diagnostic, Diagnostics};

use super::expand::{self, Loop};
use super::lexer::{Place, Token, lex_line};
use super::tree::{Statement, build};

const MAX_FILES: usize = 256;
const MAX_INCLUDE_DEPTH: usize = 16;
/// Lines of all files, after variables and sequences.
const MAX_LINES: usize = 200_000;
const MAX_STEPS: usize = 4 * MAX_LINES;
/// Variables inside variables, and sequences inside sequences.
const MAX_DEPTH: usize = 32;

struct File {
    name: String,
    /// `${_PWD}`, and where relative includes start.
    directory: PathBuf,
    /// Number in the file, and text after variables were replaced.
    lines: Vec<(usize, String)>,
}

/// The texts read so far and what was remarked about them.
pub(super) struct Source {
    files: Vec<File>,
    tokens: Vec<Token>,
    pub(super) remarks: Diagnostics,
    variables: HashMap<String, String>,
    /// A definition whose last line has not come yet.
    unfinished: Option<(String, String)>,
    /// What `@word` is compared with.
    id: String,
    lines: usize,
    /// Lines looked at, with those that only lead to others.
    steps: usize,
    full: bool,
}

impl Source {
    /// Reads `text` and everything it includes into statements. `id` is what `-i` says; without it `@` means
    /// the first part of this host's name.
    pub(super) fn read(
        text: &str,
        file: &str,
        directory: Option<&Path>,
        id: Option<&str>,
    ) -> (Self, Vec<Statement>) {
        let host = || nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
        let id = id.map_or_else(
            || host().unwrap_or_default().split('.').next().unwrap_or_default().to_owned(),
            str::to_owned,
        );
        let mut source = Self {
            files: Vec::new(),
            tokens: Vec::new(),
            remarks: Diagnostics::new(),
            variables: HashMap::new(),
            unfinished: None,
            id,
            lines: 0,
            steps: 0,
            full: false,
        };
        source.file(text, file, directory.unwrap_or(Path::new(".")), 0);
        let (statements, errors) = build(std::mem::take(&mut source.tokens));
        for error in errors {
            source.remark(Diagnostic::error("brace", error.message), error.place);
        }
        (source, statements)
    }

    /// Adds a remark about a place.
    pub(super) fn remark(&mut self, remark: Diagnostic, place: Place) {
        let file = self.files.get(place.file);
        let Some((file, (number, line))) =
            file.and_then(|file| Some((file, file.lines.get(place.line.checked_sub(1)?)?)))
        else {
            self.remarks.push(remark);
            return;
        };
        let line = expand::shown(line);
        self.remarks.push(remark.in_file(file.name.clone()).at(*number, place.column, line, place.length));
    }

    fn file(&mut self, text: &str, name: &str, directory: &Path, depth: usize) {
        let index = self.files.len();
        self.files.push(File { name: name.to_owned(), directory: directory.to_owned(), lines: Vec::new() });
        for (number, line) in text.lines().enumerate() {
            if self.full {
                return;
            }
            self.line(line, At { file: index, number: number + 1, includes: depth }, 0);
        }
        if let Some((name, value)) = self.unfinished.take() {
            self.variables.insert(name, value);
        }
    }

    /// One line: a condition, a definition, a loop, or a line with variables in it.
    fn line(&mut self, line: &str, at: At, depth: usize) {
        self.steps += 1;
        if self.steps > MAX_STEPS && !self.full {
            self.full = true;
            self.complain(at, "the variables of this configuration make too many lines");
        }
        if self.full || self.continues(line) {
            return;
        }
        let trimmed = line.trim_start();
        if trimmed.starts_with(['#', '!']) {
            return self.keep(line, at);
        }
        if depth > MAX_DEPTH {
            self.keep(line, at);
            return self.complain(at, "variables, conditions or sequences are nested too deeply");
        }
        if let Some(rest) = trimmed.strip_prefix('@') {
            let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let (wanted, negated) = word.strip_prefix('^').map_or((word, false), |word| (word, true));
            if (wanted == self.id) != negated {
                self.line(rest, at, depth + 1);
            }
            return;
        }
        if let Some((name, value)) = expand::definition(trimmed) {
            self.define(name, value);
            return;
        }
        if trimmed.starts_with("~SEQ") || trimmed.starts_with("~LST") {
            return self.repeat(trimmed, at, depth);
        }
        let directory = self.files.get(at.file).map(|file| file.directory.display().to_string());
        match expand::replace(line, &self.variables, &self.id, &directory.unwrap_or_default()) {
            Ok(None) => self.keep(line, at),
            Ok(Some(text)) => {
                for part in text.split('\n') {
                    self.line(part, at, depth + 1);
                }
            }
            Err(reason) => {
                self.keep(line, at);
                self.complain(at, reason);
            }
        }
    }

    /// Takes a line of a definition that goes on.
    fn continues(&mut self, line: &str) -> bool {
        let Some((_, value)) = &mut self.unfinished else { return false };
        let text = line.trim();
        if text.is_empty() {
            return true;
        }
        let (text, more) = text.strip_suffix('\\').map_or((text, false), |text| (text.trim_end(), true));
        if value.len() + text.len() > expand::MAX_TEXT {
            self.full = true;
        } else {
            if !value.is_empty() {
                value.push('\n');
            }
            value.push_str(text);
        }
        if !more && let Some((name, value)) = self.unfinished.take() {
            self.variables.insert(name, value);
        }
        true
    }

    fn define(&mut self, name: &str, value: &str) {
        let value = value.trim();
        match value.strip_suffix('\\') {
            Some(begun) => self.unfinished = Some((name.to_owned(), begun.trim().to_owned())),
            None => {
                let value =
                    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
                self.variables.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// `~SEQ(…) rest` and `~LST(…) rest`: the rest once for each value.
    fn repeat(&mut self, line: &str, at: At, depth: usize) {
        let directory = self.files.get(at.file).map(|file| file.directory.display().to_string());
        let (head, rest) = line.split_once(')').unwrap_or((line, ""));
        let head = match expand::replace(head, &self.variables, &self.id, &directory.unwrap_or_default()) {
            Ok(Some(replaced)) => replaced,
            _ => head.to_owned(),
        };
        match Loop::parse(&head) {
            Ok(found) => {
                for values in found.rounds {
                    if self.full {
                        return;
                    }
                    for (name, value) in found.names.iter().zip(values) {
                        self.variables.insert(name.clone(), value);
                    }
                    self.line(rest, at, depth + 1);
                }
            }
            Err(reason) => {
                self.keep(line, at);
                self.complain(at, reason);
            }
        }
    }

    /// A line as it is meant.
    fn keep(&mut self, line: &str, at: At) {
        self.lines += 1;
        if self.lines > MAX_LINES {
            self.full = true;
            return self.complain(at, "the configuration has too many lines");
        }
        let Some(file) = self.files.get_mut(at.file) else { return };
        file.lines.push((at.number, line.to_owned()));
        let index = file.lines.len();
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if matches!(first, "include" | "includer" | "includem" | "includew" | "includeb" | "includea") {
            let column = line.chars().take_while(|letter| letter.is_whitespace()).count() + 1;
            let place = Place { file: at.file, line: index, column, length: first.len() };
            return self.include(words.next(), at, place);
        }
        let open_quotes = lex_line(line, at.file, index, &mut self.tokens);
        self.tokens.push(Token::LineEnd);
        for place in open_quotes {
            self.remark(Diagnostic::error("open-quote", "this quote is never closed"), place);
        }
    }

    /// An error about the line kept last.
    fn complain(&mut self, at: At, reason: &str) {
        let line = self.files.get(at.file).map_or(0, |file| file.lines.len());
        let place = Place { file: at.file, line, column: 1, length: 1 };
        self.remark(Diagnostic::error("expansion", reason), place);
    }

    fn include(&mut self, pattern: Option<&str>, at: At, place: Place) {
        let Some(pattern) = pattern.map(|pattern| pattern.trim_matches('"')) else {
            return self.remark(Diagnostic::error("missing-value", "`include` needs a file"), place);
        };
        let directory = self.files.get(at.file).map(|file| file.directory.clone()).unwrap_or_default();
        let files = matching_files(&directory, pattern);
        if files.is_empty() {
            let message = format!("no file matches `{pattern}`");
            self.remark(Diagnostic::error("include", message), place);
        }
        for path in files {
            if at.includes >= MAX_INCLUDE_DEPTH || self.files.len() >= MAX_FILES {
                let message = "too many files, or a circle of them";
                return self.remark(Diagnostic::error("include", message), place);
            }
            match daemon::config::read_file(&path) {
                Ok(text) => {
                    let inner = path.parent().unwrap_or(&directory).to_owned();
                    self.file(&text, &path.display().to_string(), &inner, at.includes + 1);
                }
                Err(remarks) => self.remarks.extend(remarks),
            }
        }
    }
}

/// Where a line stands.
#[derive(Clone, Copy)]
struct At {
    file: usize,
    number: usize,
    includes: usize,
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
