//! A TOML file into a struct, with every mistake of the file reported at once.
//!
//! Give the structs `#[serde(deny_unknown_fields)]`; unknown keys then name the nearest known one.
//! `#[serde(flatten)]` cannot be combined with that (a limit of serde); write the fields out.

use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Diagnostics, suggest};

/// No configuration file is larger than this many bytes.
pub const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// After this many errors the rest of a file is not looked at.
const MAX_ERRORS: usize = 50;

/// Reads a configuration file of any format as text.
///
/// # Errors
/// Says why the file cannot be read and what to do.
pub fn read_text(path: &Path) -> Result<String, Diagnostics> {
    read_bounded(path).map_err(|error| unreadable(path, &error).into())
}

/// The same for a program that reads its configuration again while it runs: what is no file, such as a named pipe or a
/// device, would make it wait for somebody who writes.
///
/// # Errors
/// Says why the file cannot be read and what to do.
pub fn read_file(path: &Path) -> Result<String, Diagnostics> {
    match std::fs::metadata(path) {
        Ok(data) if !data.is_file() && !data.is_dir() => {
            let message = format!("{} is a named pipe, a socket or a device, not a file", path.display());
            let help = "it is read again at each reload: write the text into a file";
            Err(Diagnostic::error("config-file", message).help(help).into())
        }
        _ => read_text(path),
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let mut text = String::new();
    // A pipe that took the file's place meanwhile is opened at once, too; reading it then ends with an error.
    let is_file = std::fs::metadata(path)?.is_file();
    let flags = if is_file { nix::libc::O_NONBLOCK } else { 0 };
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "file too large"));
    }
    Ok(text)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Diagnostic {
    use std::io::ErrorKind;
    let shown = path.display();
    let (what, advice) = match error.kind() {
        ErrorKind::NotFound => (
            "no such file".to_owned(),
            format!("create it, or name another file with -c / --config (looked for {shown})"),
        ),
        ErrorKind::PermissionDenied => (
            "permission denied".to_owned(),
            format!(
                "let this user read it: ls -l {shown}; it may hold secrets, so prefer chgrp to chmod o+r"
            ),
        ),
        ErrorKind::IsADirectory => {
            ("it is a directory".to_owned(), "name the file inside the directory".to_owned())
        }
        ErrorKind::InvalidData => {
            ("it is not UTF-8 text".to_owned(), "save the file as UTF-8; is it the right file?".to_owned())
        }
        ErrorKind::FileTooLarge => (
            format!("it is larger than {} MiB", MAX_FILE_BYTES / (1024 * 1024)),
            "no configuration is that long; is it the right file?".to_owned(),
        ),
        _ => (error.to_string(), "correct the cause and start again".to_owned()),
    };
    Diagnostic::error("unreadable", format!("cannot read {shown}: {what}"))
        .in_file(shown.to_string())
        .help(advice)
}

/// Reads TOML text into a `T`; `file` is only for messages.
///
/// # Errors
/// All mistakes of the text, each with its place.
pub fn parse_toml<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, Diagnostics> {
    parse_toml_edited(text, file, |_| {})
}

/// As [`parse_toml`]; `edit` may take entries out of the document first, which the caller reads itself.
///
/// # Errors
/// All mistakes of the text, each with its place.
pub fn parse_toml_edited<T: DeserializeOwned>(
    text: &str,
    file: &str,
    edit: impl FnOnce(&mut DeTable<'_>),
) -> Result<T, Diagnostics> {
    let mut found = Diagnostics::new();
    let (mut document, syntax) = DeTable::parse_recoverable(text);
    for error in syntax.iter().take(MAX_ERRORS) {
        let span = error.span().unwrap_or(0..0);
        found.push(Diagnostic::error("syntax", error.message()).in_file(file).at_bytes(text, span));
    }
    if found.has_errors() {
        return Err(found);
    }
    edit(document.get_mut());
    // serde stops at its first complaint. Report it, take the offending entry out of the document
    // and try again, until nothing is left to complain about.
    let mut removed: Vec<String> = Vec::new();
    loop {
        match T::deserialize(toml::de::Deserializer::from(document.clone())) {
            Ok(value) => return found.into_result(value),
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let taken = remove_at(document.get_mut(), &span, &mut Vec::new());
                if !caused_by_removal(error.message(), &removed) {
                    found.push(explain(error.message(), text, file, span, taken.as_ref()));
                }
                match taken {
                    Some(entry) if found.error_count() < MAX_ERRORS => removed.push(entry.key),
                    _ => break,
                }
            }
        }
    }
    found.sort();
    Err(found)
}

/// An entry taken out of the document: its key and the tables it was in.
struct Taken {
    key: String,
    path: Vec<String>,
}

/// A key that was removed above, or whose misspelling was, is missing now; that is no second mistake.
fn caused_by_removal(message: &str, removed: &[String]) -> bool {
    message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'))
        .is_some_and(|field| removed.iter().any(|key| suggest(key, [field]).is_some()))
}

/// Removes the innermost entry whose key or value is at `span`.
fn remove_at(table: &mut DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>) -> Option<Taken> {
    let covers = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end && !span.is_empty();
    let keys: Vec<(String, Range<usize>)> =
        table.iter().map(|(key, _)| (key.get_ref().to_string(), key.span())).collect();
    for (key, key_span) in keys {
        if covers(key_span) {
            return take(table, &key, path);
        }
        let Some(value) = table.get_mut(key.as_str()) else { continue };
        path.push(key.clone());
        let inner = remove_in_value(value, span, path);
        path.pop();
        if inner.is_some() {
            return inner;
        }
        // A complaint about a table as a whole (a missing key) takes the whole table.
        let concerned = !value.get_ref().is_table() || value.span() == *span;
        if concerned && covers(value.span()) {
            return take(table, &key, path);
        }
    }
    None
}

fn remove_in_value(
    value: &mut Spanned<DeValue<'_>>,
    span: &Range<usize>,
    path: &mut Vec<String>,
) -> Option<Taken> {
    match value.get_mut() {
        DeValue::Table(table) => remove_at(table, span, path),
        DeValue::Array(items) => items.iter_mut().find_map(|item| remove_in_value(item, span, path)),
        _ => None,
    }
}

fn take(table: &mut DeTable<'_>, key: &str, path: &[String]) -> Option<Taken> {
    table.remove(key)?;
    Some(Taken { key: key.to_owned(), path: path.to_vec() })
}

/// serde's complaint in our words.
fn explain(message: &str, text: &str, file: &str, span: Range<usize>, taken: Option<&Taken>) -> Diagnostic {
    let place = taken.map(|taken| taken.path.join(".")).unwrap_or_default();
    let inside = if place.is_empty() { "at the top of the file".to_owned() } else { format!("in [{place}]") };
    if let Some((word, known)) = parse_unknown(message, "unknown field `") {
        return with_suggestion(
            Diagnostic::error("unknown-key", format!("unknown key `{word}` {inside}")),
            &word,
            &known,
            "known keys",
        )
        .in_file(file)
        .at_bytes(text, span);
    }
    if let Some((word, known)) = parse_unknown(message, "unknown variant `") {
        return with_suggestion(
            Diagnostic::error("unknown-value", format!("unknown value `{word}`")),
            &word,
            &known,
            "known values",
        )
        .in_file(file)
        .at_bytes(text, span);
    }
    if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return Diagnostic::error("missing-key", format!("key `{field}` is missing"))
            .in_file(file)
            .at_bytes(text, span)
            .label("needed here");
    }
    let what = taken.map_or_else(String::new, |taken| format!("`{}`: ", taken.key));
    Diagnostic::error("wrong-value", format!("{what}{message}")).in_file(file).at_bytes(text, span)
}

fn with_suggestion(remark: Diagnostic, word: &str, known: &[String], title: &str) -> Diagnostic {
    let remark = match suggest(word, known.iter().map(String::as_str)) {
        Some(near) => remark.label(format!("did you mean `{near}`?")),
        None => remark.label("not known here"),
    };
    if known.is_empty() {
        remark.help(format!("no {title} here"))
    } else {
        remark.help(format!("{title}: {}", known.join(", ")))
    }
}

/// Splits serde's "unknown field `x`, expected one of `a`, `b`" into `x` and its alternatives.
fn parse_unknown(message: &str, prefix: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix(prefix)?;
    let (word, rest) = rest.split_once("`, ").or_else(|| rest.strip_suffix('`').map(|word| (word, "")))?;
    let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((word.to_owned(), known))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        amqp: Amqp,
        #[serde(default)]
        servers: Vec<Server>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Amqp {
        listen: Option<String>,
        heartbeat: Option<u16>,
        mode: Option<Mode>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        Tcp,
        Http,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Server {
        name: String,
        port: u16,
    }

    fn errors(text: &str) -> Vec<(usize, &'static str, String)> {
        let found = parse_toml::<File>(text, "f.toml").unwrap_err();
        found.iter().map(|item| (item.line, item.code, item.one_line())).collect()
    }

    #[test]
    fn a_right_file_is_read() {
        let file: File = parse_toml(
            "[amqp]\nlisten = \"x\"\nheartbeat = 60\nmode = \"tcp\"\n[[servers]]\nname = \"A\"\nport = 5672\n",
            "f.toml",
        )
        .unwrap();
        assert_eq!(file.amqp.listen.as_deref(), Some("x"));
        assert_eq!(file.amqp.heartbeat, Some(60));
        assert!(matches!(file.amqp.mode, Some(Mode::Tcp)));
        assert_eq!((file.servers[0].name.as_str(), file.servers[0].port), ("A", 5672));
        assert!(!matches!(file.amqp.mode, Some(Mode::Http)));
    }

    #[test]
    fn every_mistake_of_a_file_is_reported_in_order() {
        let text = "[amqp]\nlisen = \"x\"\nheartbeat = \"often\"\nmode = \"tpc\"\n\n[[servers]]\nname = 7\nport = 99999\n[extra]\na = 1\n";
        let found = errors(text);
        let lines: Vec<_> = found.iter().map(|(line, code, _)| (*line, *code)).collect();
        assert_eq!(
            lines,
            [
                (2, "unknown-key"),
                (3, "wrong-value"),
                (4, "unknown-value"),
                (7, "wrong-value"),
                (8, "wrong-value"),
                (9, "unknown-key")
            ],
            "{found:#?}"
        );
        assert!(found[0].2.contains("did you mean `listen`?"), "{found:?}");
        assert!(found[0].2.contains("known keys: listen, heartbeat, mode"), "{found:?}");
        assert!(found[0].2.contains("in [amqp]"), "{found:?}");
        assert!(found[2].2.contains("did you mean `tcp`?"), "{found:?}");
    }

    #[test]
    fn missing_keys_and_broken_syntax_have_a_place() {
        assert_eq!(errors("[[servers]]\nname = \"A\"\n")[0].1, "missing-key");
        let found = errors("[amqp]\nlisten = \n");
        assert_eq!((found[0].0, found[0].1), (2, "syntax"));
    }

    #[test]
    fn an_unreadable_file_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let missing = read_text(&directory.path().join("no.toml")).unwrap_err().to_string();
        assert!(missing.contains("no such file") && missing.contains("--config"), "{missing}");
        let is_directory = read_text(directory.path()).unwrap_err().to_string();
        assert!(is_directory.contains("directory"), "{is_directory}");
        let binary = directory.path().join("b.toml");
        std::fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
        assert!(read_text(&binary).unwrap_err().to_string().contains("UTF-8"));
    }
}
