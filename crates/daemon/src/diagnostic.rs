//! What is wrong in a file, shown with the line, a caret and the nearest right word.
//!
//! A reader of files pushes every [`Diagnostic`] it finds into one [`Diagnostics`] and goes on, so
//! that a person corrects a file once and not once per mistake.
//!
//! ```text
//! error[unknown-key]: unknown key `lisen` in [amqp]
//!  --> broker.toml:3:1
//!   |
//! 3 | lisen = "0.0.0.0:5672"
//!   | ^^^^^ did you mean `listen`?
//!   |
//!   = help: known keys: listen, tls_listen, heartbeat
//! ```

use std::fmt;
use std::io::IsTerminal;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file is used, but probably not as meant.
    Warning,
    /// Worth knowing.
    Note,
}

/// One remark about one place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name for the kind of remark, e.g. `unknown-key`.
    pub code: &'static str,
    /// What is wrong, lower case, without a full stop.
    pub message: String,
    /// The file as the user named it; empty when there is none.
    pub file: String,
    /// Line, counted from 1; 0 when the remark is about the whole file.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// The text of that line, without its end.
    pub source_line: String,
    /// Length of the marked text in characters (at least 1 is drawn).
    pub span_length: usize,
    /// What to put at the caret, e.g. "did you mean `listen`?"; may be empty.
    pub label: String,
    /// What to do about it, one line each.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// A remark without a place.
    #[must_use]
    pub fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity,
            code,
            message: message.into(),
            file: String::new(),
            line: 0,
            column: 0,
            source_line: String::new(),
            span_length: 0,
            label: String::new(),
            help: Vec::new(),
        }
    }

    /// An error without a place.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// A warning without a place.
    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// A note without a place.
    #[must_use]
    pub fn note(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, message)
    }

    /// Names the file.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = file.into();
        self
    }

    /// Gives the place: line and column from 1, the line's text, and how many characters to mark.
    #[must_use]
    pub fn at(mut self, line: usize, column: usize, source_line: impl Into<String>, length: usize) -> Self {
        self.line = line;
        self.column = column.max(1);
        self.source_line = source_line.into();
        self.span_length = length;
        self
    }

    /// Gives the place as a byte range of the whole file's text.
    #[must_use]
    pub fn at_bytes(self, text: &str, span: std::ops::Range<usize>) -> Self {
        let start = floor_boundary(text, span.start.min(text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = floor_boundary(text, span.end.clamp(start, line_end));
        let line = text[..start].matches('\n').count() + 1;
        let column = text[line_start..start].chars().count() + 1;
        let length = text[start..end.max(start)].chars().count();
        let source_line = text[line_start..line_end].trim_end_matches('\r').to_owned();
        self.at(line, column, source_line, length)
    }

    /// Text at the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds one line of advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// The whole remark as text of several lines; `styled` adds terminal colours.
    #[must_use]
    pub fn render(&self, styled: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let title = level.primary_title(self.message.as_str()).id(self.code);
        let mut group: Group<'_>;
        if self.line > 0 {
            let source = self.source_line.as_str();
            let mut annotation = AnnotationKind::Primary.span(self.marked_bytes());
            if !self.label.is_empty() {
                annotation = annotation.label(self.label.as_str());
            }
            let snippet = Snippet::source(source)
                .line_start(self.line)
                .path(if self.file.is_empty() { "<text>" } else { self.file.as_str() })
                .annotation(annotation);
            group = title.element(snippet);
        } else {
            group = Group::with_title(title);
        }
        for help in &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// The remark in one line, for a log: `broker.toml:3:1: unknown key ...; did you mean ...`.
    #[must_use]
    pub fn one_line(&self) -> String {
        let mut text = String::new();
        if !self.file.is_empty() {
            text.push_str(&self.file);
            if self.line > 0 {
                text.push_str(&format!(":{}:{}", self.line, self.column));
            }
            text.push_str(": ");
        }
        text.push_str(&self.message);
        if !self.label.is_empty() {
            text.push_str("; ");
            text.push_str(&self.label);
        }
        for help in &self.help {
            text.push_str("; ");
            text.push_str(help);
        }
        text
    }

    /// The marked part as a byte range of the source line.
    fn marked_bytes(&self) -> std::ops::Range<usize> {
        let offset = |characters: usize| {
            self.source_line.char_indices().nth(characters).map_or(self.source_line.len(), |(at, _)| at)
        };
        let first = self.column.saturating_sub(1);
        offset(first)..offset(first + self.span_length.max(1))
    }
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// All remarks about one file (or several), in the order of their places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
}

impl Diagnostics {
    /// No remarks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.items.push(diagnostic);
    }

    /// Adds all of another collection.
    pub fn extend(&mut self, other: Self) {
        self.items.extend(other.items);
    }

    /// Whether there are no remarks at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether at least one is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.error_count() > 0
    }

    /// How many errors there are.
    #[must_use]
    pub fn error_count(&self) -> usize {
        self.items.iter().filter(|item| item.severity == Severity::Error).count()
    }

    /// How many warnings there are.
    #[must_use]
    pub fn warning_count(&self) -> usize {
        self.items.iter().filter(|item| item.severity == Severity::Warning).count()
    }

    /// The remarks.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.items.iter()
    }

    /// Sorts by file and place, keeping the order of equal places.
    pub fn sort(&mut self) {
        self.items.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    }

    /// `Ok(value)` when no remark is an error.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.has_errors() { Err(self) } else { Ok(value) }
    }

    /// All remarks as text, an empty line between them.
    #[must_use]
    pub fn render(&self, styled: bool) -> String {
        let parts: Vec<String> = self.items.iter().map(|item| item.render(styled)).collect();
        parts.join("\n\n")
    }

    /// Writes all remarks to standard error, in colour when it is a terminal.
    pub fn print(&self) {
        use std::io::Write;
        if self.is_empty() {
            return;
        }
        let mut stderr = std::io::stderr().lock();
        let styled = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        // A closed standard error is no reason to fail.
        let _ = writeln!(stderr, "{}", self.render(styled));
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { items: vec![diagnostic] }
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// The known word nearest to `word`, when one is near enough to be a likely slip.
#[must_use]
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_ascii_lowercase();
    // Words far longer than any keyword cost quadratic time and are no slip of one.
    if lower.len() > 64 {
        return None;
    }
    let allowed = (lower.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_shows_the_line_and_marks_the_word() {
        let text = "[amqp]\n# comment\nlisen = \"0.0.0.0:5672\"\n";
        let at = text.find("lisen").unwrap();
        let remark = Diagnostic::error("unknown-key", "unknown key `lisen` in [amqp]")
            .in_file("broker.toml")
            .at_bytes(text, at..at + 5)
            .label("did you mean `listen`?")
            .help("known keys: listen, heartbeat");
        assert_eq!((remark.line, remark.column, remark.span_length), (3, 1, 5));
        let shown = remark.render(false);
        assert!(shown.starts_with("error[unknown-key]: unknown key `lisen` in [amqp]"), "{shown}");
        assert!(shown.contains("--> broker.toml:3:1"), "{shown}");
        assert!(shown.contains("3 | lisen = \"0.0.0.0:5672\""), "{shown}");
        assert!(shown.contains("^^^^^ did you mean `listen`?"), "{shown}");
        assert!(shown.contains("= help: known keys: listen, heartbeat"), "{shown}");
        assert!(!shown.contains('\u{1b}'));
    }

    #[test]
    fn places_in_odd_texts_never_panic() {
        let text = "é\r\n\u{1F600} = x\n";
        for start in 0..=text.len() + 2 {
            for end in start..=text.len() + 2 {
                let remark = Diagnostic::error("x", "y").at_bytes(text, start..end);
                assert!(!remark.render(false).is_empty());
            }
        }
        assert!(!Diagnostic::error("x", "y").at(1, 99, "short", 7).render(true).is_empty());
    }

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let known = ["listen", "heartbeat", "timeout"];
        assert_eq!(suggest("lisen", known), Some("listen"));
        assert_eq!(suggest("Listen", known), Some("listen"));
        assert_eq!(suggest("tiemout", known), Some("timeout"));
        assert_eq!(suggest("zzzz", known), None);
        assert_eq!(suggest(&"x".repeat(10_000), known), None);
    }
}
