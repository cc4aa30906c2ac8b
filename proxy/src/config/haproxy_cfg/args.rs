//! The words of one line, read one after another, with remarks that point at the word concerned.

use std::time::Duration;

use daemon::diagnostic::{Diagnostic, Diagnostics, Severity, suggest};

use super::lexer::Word;
use crate::config::{Place, duration};

/// One line of the file, cut into words.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// The file as the user named it.
    pub(super) file: &'a str,
    /// Line number from 1.
    pub(super) number: usize,
    /// The whole line.
    pub(super) text: &'a str,
    /// Its words; never empty.
    pub(super) words: &'a [Word],
}

/// A cursor over a line's words. The keyword itself is word 0 of `rest`.
pub(super) struct Args<'a, 'r> {
    pub(super) line: &'a Line<'a>,
    at: usize,
    remarks: &'r mut Diagnostics,
}

impl<'a, 'r> Args<'a, 'r> {
    pub(super) fn new(line: &'a Line<'a>, remarks: &'r mut Diagnostics) -> Self {
        Self { line, at: 0, remarks }
    }

    /// The next word, if any.
    pub(super) fn next(&mut self) -> Option<&'a Word> {
        let word = self.line.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    /// The next word without taking it.
    pub(super) fn peek(&self) -> Option<&'a Word> {
        self.line.words.get(self.at)
    }

    /// Takes the next word when it is `text`.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let found = self.peek().is_some_and(|word| word.text == text);
        if found {
            self.at += 1;
        }
        found
    }

    /// Lends the list of remarks.
    pub(super) fn with_remarks(&mut self, work: impl FnOnce(&mut Diagnostics)) {
        work(self.remarks);
    }

    /// Everything that is left as one text.
    pub(super) fn rest_joined(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(word) = self.next() {
            words.push(word.text.as_str());
        }
        words.join(" ")
    }

    /// The word taken last.
    pub(super) fn last(&self) -> &'a Word {
        &self.line.words[self.at.saturating_sub(1).min(self.line.words.len() - 1)]
    }

    /// Goes past everything that is left.
    pub(super) fn skip_rest(&mut self) {
        self.at = self.line.words.len();
    }

    /// The next word, which must be there; `what` says what it is.
    pub(super) fn value(&mut self, what: &str) -> Option<&'a Word> {
        let found = self.next();
        if found.is_none() {
            let last = self.last();
            self.error(last, "missing-value", format!("`{}` needs {what}", last.text), "");
        }
        found
    }

    /// The next word as a number between `low` and `high`.
    pub(super) fn number(&mut self, what: &str, low: u64, high: u64) -> Option<u64> {
        let word = self.value(what)?;
        match word.text.parse::<u64>() {
            Ok(number) if (low..=high).contains(&number) => Some(number),
            _ => {
                let message = format!("`{}` is not {what}; it is a number from {low} to {high}", word.text);
                self.error(word, "wrong-value", message, "");
                None
            }
        }
    }

    /// As [`Args::number`], for 32 bits.
    pub(super) fn number32(&mut self, what: &str, low: u32, high: u32) -> Option<u32> {
        self.number(what, low.into(), high.into()).and_then(|number| u32::try_from(number).ok())
    }

    /// The next word as a limit, as HAProxy reads it (atol(3)): the digits it begins with. What is odd about it is said.
    pub(super) fn limit(&mut self, high: u32) -> Option<u32> {
        let word = self.value("a number")?;
        let text = word.text.as_str();
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
        let number = unsigned[..digits].parse::<u64>().unwrap_or(if digits > 0 { u64::MAX } else { 0 });
        let read = if text.starts_with('-') { 0 } else { u32::try_from(number).unwrap_or(high).min(high) };
        if text.parse() != Ok(read) {
            let message = format!("`{text}` is read as {read}; it is a number from 0 to {high}");
            self.warn(word, "odd-number", message, "");
        }
        Some(read)
    }

    /// The next word as a time, milliseconds without a unit.
    pub(super) fn time(&mut self, what: &str) -> Option<Duration> {
        let word = self.value(what)?;
        self.time_of(word)
    }

    /// The next word as one of `choices`.
    pub(super) fn choice<T: Copy>(&mut self, what: &str, choices: &[(&'static str, T)]) -> Option<T> {
        let names: Vec<&'static str> = choices.iter().map(|(name, _)| *name).collect();
        let word = self.value(&format!("one of {}", names.join(", ")))?;
        let found = choices.iter().find(|(name, _)| *name == word.text).map(|(_, value)| *value);
        if found.is_none() {
            self.unknown(word, what, &[&names]);
        }
        found
    }

    /// The next word as text.
    pub(super) fn text(&mut self, what: &str) -> Option<String> {
        self.value(what).map(|word| word.text.clone())
    }

    /// The next word as a time that is not 0.
    pub(super) fn interval(&mut self) -> Option<Duration> {
        let word = self.value("a time")?;
        let time = self.time_of(word)?;
        if time.is_zero() {
            self.error(word, "wrong-time", "an interval cannot be 0", "");
            return None;
        }
        Some(time)
    }

    /// The next word as an address of a server.
    pub(super) fn server_address(&mut self) -> Option<crate::config::ServerAddress> {
        let word = self.value("an address, e.g. 192.168.0.10:5672")?;
        match crate::config::address::parse_server(&word.text) {
            Ok(found) => Some(found),
            Err(message) => {
                self.error(word, "wrong-address", message, "");
                None
            }
        }
    }

    /// A word as a time.
    pub(super) fn time_of(&mut self, word: &'a Word) -> Option<Duration> {
        match duration::parse_ms(&word.text) {
            Ok(time) => Some(time),
            Err(error) => {
                self.error(word, "wrong-time", error.to_string(), "");
                None
            }
        }
    }

    /// The place of a word.
    pub(super) fn place(&self, word: &Word) -> Place {
        Place {
            file: self.line.file.to_owned(),
            line: self.line.number,
            column: word.column,
            text: self.line.text.to_owned(),
            length: word.length,
        }
    }

    /// The place of everything from `word` to the end of what has been read.
    pub(super) fn place_to_here(&self, word: &Word) -> Place {
        let last = &self.line.words[self.at.clamp(1, self.line.words.len()) - 1];
        let length = (last.column + last.length).saturating_sub(word.column).max(1);
        Place { length, ..self.place(word) }
    }

    /// An error at a word; `label` stands at the caret.
    pub(super) fn error(&mut self, word: &Word, code: &'static str, message: impl Into<String>, label: &str) {
        self.remark(word, Severity::Error, code, message.into(), label, "");
    }

    /// A warning at a word, with what to write instead.
    pub(super) fn warn(&mut self, word: &Word, code: &'static str, message: impl Into<String>, help: &str) {
        self.remark(word, Severity::Warning, code, message.into(), "", help);
    }

    pub(super) fn remark(
        &mut self,
        word: &Word,
        severity: Severity,
        code: &'static str,
        message: String,
        label: &str,
        help: &str,
    ) {
        let mut remark = self.place(word).mark(Diagnostic::new(severity, code, message)).label(label);
        if !help.is_empty() {
            remark = remark.help(help);
        }
        self.remarks.push(remark);
    }

    /// An error for a word that is none of `lists`, naming the nearest.
    pub(super) fn unknown(&mut self, word: &Word, what: &str, lists: &[&[&'static str]]) {
        let known = lists.iter().flat_map(|list| list.iter().copied());
        let label = match suggest(&word.text, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "not known here".to_owned(),
        };
        let help = match lists.first() {
            Some(list) if list.len() <= 24 => format!("known: {}", list.join(", ")),
            _ => String::new(),
        };
        let message = format!("unknown {what} `{}`", word.text);
        self.remark(word, Severity::Error, "unknown-word", message, &label, &help);
    }
}
