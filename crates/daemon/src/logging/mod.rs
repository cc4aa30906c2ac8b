//! Log lines: fields rather than sentences, for people or for machines.
//!
//! ```text
//! 12:00:01 info  listening address=0.0.0.0:5672 protocol=amqp
//! {"time":"2026-11-22T12:00:01.004+00:00","level":"info","message":"listening","address":"0.0.0.0:5672"}
//! ```
//!
//! Under systemd (`JOURNAL_STREAM` set) the text form leaves the time out, as the journal has its own. In a file it has
//! the date too.

mod batch;
mod file;
mod recent;

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::OnceLock;

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, reload};

pub use self::batch::flush;
pub use self::file::{LogFile, NoPeriod, Period};
pub use self::recent::recent;
use crate::clock::LocalTime;

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line.
    Text,
    /// One JSON object a line.
    Json,
    /// Text, in colour on a terminal.
    #[default]
    Auto,
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
    /// Nowhere but into the file of [`LogOptions::file`].
    Nowhere,
}

/// What [`init`] needs to know.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// How a line looks.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,proxy::check=debug`.
    /// Empty means `info`.
    pub level: String,
    /// Where lines go.
    pub target: LogTarget,
    /// Libraries of which only errors are wanted, unless `level` names them.
    pub quiet: &'static [&'static str],
    /// Lines below a warning may wait a moment (20 ms) and are written together. Not for a program that goes to
    /// the background by itself: the thread that writes them would stay behind. Off on a terminal.
    pub batched: bool,
    /// A file that lines go to as well.
    pub file: Option<LogFile>,
    /// So many of the last lines can be asked for with [`recent`].
    pub recent: usize,
}

/// The logging flags every daemon has; flatten it into the program's own arguments.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LogArgs {
    /// Form of the log lines
    #[arg(long, value_enum, default_value = "auto", global = true)]
    pub log_format: LogFormat,
    /// error, warn, info, debug, trace; or a list such as info,proxy=debug
    #[arg(long, value_name = "LEVEL", default_value = "info", global = true)]
    pub log_level: String,
}

impl LogArgs {
    /// The options these flags mean, with lines going to `target`.
    #[must_use]
    pub fn options(&self, target: LogTarget) -> LogOptions {
        LogOptions { format: self.log_format, level: self.log_level.clone(), target, ..LogOptions::default() }
    }
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is not understood.
    #[error(
        "log level `{0}` is not understood; use error, warn, info, debug, trace or a list such as info,proxy=debug"
    )]
    Level(String),
    /// The thread that writes the lines could not be started.
    #[error("the log's thread could not be started: {0}")]
    Thread(std::io::Error),
    /// The log file cannot be written.
    #[error("the log file {path} cannot be written: {error}")]
    File {
        /// Where it is.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Somebody else already receives the events of this process.
    #[error("logging is already set up")]
    AlreadySet,
}

/// Starts logging for the whole process.
///
/// # Errors
/// When the level cannot be understood, the file cannot be written, or logging was started before.
pub fn init(options: &LogOptions) -> Result<(), LogError> {
    let level = if options.level.is_empty() { "info" } else { options.level.as_str() };
    let filter = filter(level, options.quiet)?;
    if options.recent > 0 {
        recent::keep(options.recent);
    }
    let terminal = match options.target {
        LogTarget::Stderr => std::io::stderr().is_terminal(),
        LogTarget::Stdout => std::io::stdout().is_terminal(),
        LogTarget::Nowhere => false,
    };
    let file = options.file.clone().map(|file| {
        let path = file.path.display().to_string();
        file::Open::new(file).map_err(|error| LogError::File { path, error })
    });
    let file = file.transpose()?;
    let lines = Lines {
        json: options.format == LogFormat::Json,
        colour: terminal && file.is_none() && std::env::var_os("NO_COLOR").is_none(),
        time: match &file {
            Some(_) => Time::WithDate,
            None if terminal || std::env::var_os("JOURNAL_STREAM").is_none() => Time::OfDay,
            None => Time::None,
        },
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).event_format(lines);
    match options.target {
        target if file.is_some() || target == LogTarget::Nowhere || (options.batched && !terminal) => {
            let writer = batch::start(target, file).map_err(LogError::Thread)?;
            let builder = builder.with_writer(writer).with_filter_reloading();
            adjust_through(builder.reload_handle(), options.quiet);
            builder.try_init()
        }
        LogTarget::Stderr => {
            let builder = builder.with_writer(std::io::stderr).with_filter_reloading();
            adjust_through(builder.reload_handle(), options.quiet);
            builder.try_init()
        }
        LogTarget::Stdout | LogTarget::Nowhere => {
            let builder = builder.with_writer(std::io::stdout).with_filter_reloading();
            adjust_through(builder.reload_handle(), options.quiet);
            builder.try_init()
        }
    }
    .map_err(|_| LogError::AlreadySet)
}

/// Puts another level in the place of the one of the start.
type Adjust = Box<dyn Fn(&str) -> Result<(), LogError> + Send + Sync>;

static ADJUST: OnceLock<Adjust> = OnceLock::new();

fn adjust_through<S: 'static>(handle: reload::Handle<EnvFilter, S>, quiet: &'static [&'static str]) {
    let adjust = move |level: &str| {
        handle.reload(filter(level, quiet)?).map_err(|_| LogError::Level(level.to_owned()))
    };
    let _ = ADJUST.set(Box::new(adjust));
}

/// Changes the level of a running process.
///
/// # Errors
/// When the level cannot be understood. Without [`init`] there is nothing to change.
pub fn set_level(level: &str) -> Result<(), LogError> {
    ADJUST.get().map_or(Ok(()), |adjust| adjust(level))
}

/// What passes at a level, with less of some libraries.
fn filter(level: &str, quiet: &[&str]) -> Result<EnvFilter, LogError> {
    let wrong = |_| LogError::Level(level.to_owned());
    let mut filter = EnvFilter::try_new(level).map_err(wrong)?;
    for library in quiet.iter().filter(|_| !["error", "off"].contains(&level)) {
        if !level.contains(library) {
            filter = filter.add_directive(format!("{library}=error").parse().map_err(wrong)?);
        }
    }
    Ok(filter)
}

/// How much of the time a line of text has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Time {
    None,
    OfDay,
    WithDate,
}

/// Writes one event as one line.
struct Lines {
    json: bool,
    colour: bool,
    time: Time,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        if !recent::is_kept() {
            return self.write(&mut writer, event);
        }
        let mut line = String::new();
        self.write(&mut line, event)?;
        recent::add(&line);
        writer.write_str(&line)
    }
}

impl Lines {
    fn write(&self, writer: &mut dyn std::fmt::Write, event: &Event<'_>) -> std::fmt::Result {
        let mut fields = Fields { json: self.json, ..Fields::default() };
        event.record(&mut fields);
        let now = LocalTime::now();
        let level = level_word(*event.metadata().level());
        if self.json {
            write!(writer, "{{\"time\":\"{}\",\"level\":\"{level}\",\"message\":", now.rfc3339())?;
            let mut message = String::new();
            push_json_string(&mut message, &fields.message);
            return writeln!(writer, "{message}{}}}", fields.rest);
        }
        match self.time {
            Time::None => {}
            Time::OfDay => write!(writer, "{:02}:{:02}:{:02} ", now.hour, now.minute, now.second)?,
            Time::WithDate => write!(writer, "{} ", now.rfc3339())?,
        }
        let (on, off) =
            if self.colour { (level_colour(*event.metadata().level()), "\u{1b}[0m") } else { ("", "") };
        writeln!(writer, "{on}{level:<5}{off} {}{}", fields.message, fields.rest)
    }
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn level_colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[1;31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG | Level::TRACE => "\u{1b}[2m",
    }
}

/// The message and the other fields of one event, already written out.
#[derive(Default)]
struct Fields {
    json: bool,
    message: String,
    rest: String,
    /// A value while it is written out.
    value: String,
}

impl Fields {
    /// Adds a value by its text.
    fn add(&mut self, name: &str, value: std::fmt::Arguments<'_>) {
        let mut text = std::mem::take(&mut self.value);
        text.clear();
        let _ = text.write_fmt(value);
        self.add_text(name, &text);
        self.value = text;
    }

    fn add_text(&mut self, name: &str, value: &str) {
        if name == "message" {
            self.message = if self.json { value.to_owned() } else { one_line(value) };
        } else if self.json {
            self.rest.push(',');
            push_json_string(&mut self.rest, name);
            self.rest.push(':');
            push_json_string(&mut self.rest, value);
        } else if value.is_empty()
            || value.contains(|c: char| c.is_whitespace() || c == '"' || c.is_control())
        {
            let _ = write!(self.rest, " {name}={value:?}");
        } else {
            for part in [" ", name, "=", value] {
                self.rest.push_str(part);
            }
        }
    }

    fn add_plain(&mut self, name: &str, value: impl std::fmt::Display) {
        if self.json && name != "message" {
            let _ = write!(self.rest, ",\"{name}\":{value}");
        } else {
            self.add(name, format_args!("{value}"));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field.name(), format_args!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field.name(), value);
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field.name(), format_args!("{value}"));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add_plain(field.name(), value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add_plain(field.name(), value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add_plain(field.name(), value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.add_plain(field.name(), value);
        } else {
            self.add_text(field.name(), &value.to_string());
        }
    }
}

/// A remote peer's text may hold line ends; a log line must not.
fn one_line(text: &str) -> String {
    if text.contains(char::is_control) {
        text.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
            .collect()
    } else {
        text.to_owned()
    }
}

fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl MakeWriter<'_> for Sink {
        type Writer = Self;
        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn written(json: bool) -> String {
        let sink = Sink::default();
        let subscriber = tracing_subscriber::fmt()
            .event_format(Lines { json, colour: false, time: Time::None })
            .with_writer(sink.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(server = %"A", port = 5672, why = "two words", "check\nfailed");
        });
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_lines_carry_fields_and_stay_one_line() {
        assert_eq!(written(false), "warn  check\\nfailed server=A port=5672 why=\"two words\"\n");
    }

    #[test]
    fn json_lines_are_one_object() {
        let line = written(true);
        assert!(
            line.ends_with(
                "\"level\":\"warn\",\"message\":\"check\\nfailed\",\"server\":\"A\",\"port\":5672,\"why\":\"two words\"}\n"
            ),
            "{line}"
        );
    }
}
