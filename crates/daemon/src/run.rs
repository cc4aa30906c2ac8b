//! The order of a daemon's life: arguments, configuration, start, `READY=1`, reload on SIGHUP, stop;
//! and how a failed start is told to the person who tried.
//!
//! ```text
//! error: cannot listen on 127.0.0.1:5672: address in use
//!   held by: beam.smp (pid 991, user rabbitmq), looks like RabbitMQ
//!   try:     broker --port 5673
//! ```

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::diagnostic::Diagnostics;
use crate::exit::Exit;
use crate::listen::BindError;
use crate::notify;
use crate::shutdown::{Shutdown, Stop};
use crate::signals::{Signal, Signals};

/// Why the program cannot go on, as a person should read it.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened, lower case; empty when `diagnostics` say it all.
    pub message: String,
    /// Labelled lines below it, e.g. `("try", "broker --port 5673")`.
    pub details: Vec<(String, String)>,
    /// Remarks about files.
    pub diagnostics: Diagnostics,
}

impl Failure {
    /// A failure with a message.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), details: Vec::new(), diagnostics: Diagnostics::new() }
    }

    /// Adds a labelled line.
    #[must_use]
    pub fn detail(mut self, label: impl Into<String>, text: impl Into<String>) -> Self {
        self.details.push((label.into(), text.into()));
        self
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        let mut failure = Self::new(error.exit(), error.to_string());
        for (label, text) in error.details() {
            failure = failure.detail(label, text);
        }
        failure
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Self { exit: Exit::Config, message: String::new(), details: Vec::new(), diagnostics }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.message.is_empty() {
            write!(f, "error: {}", self.message)?;
            let width = self.details.iter().map(|(label, _)| label.len()).max().unwrap_or(0) + 1;
            for (label, text) in &self.details {
                write!(f, "\n  {:<width$} {text}", format!("{label}:"))?;
            }
        }
        if !self.diagnostics.is_empty() {
            if !self.message.is_empty() {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.diagnostics)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Runs `program`, prints its failure to standard error and gives the exit code for `main`.
pub fn main(program: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    let outcome = program();
    crate::logging::flush();
    match outcome {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            if failure.message.is_empty() {
                failure.diagnostics.print();
            } else {
                // A closed standard error is no reason to hide the exit code.
                let _ = writeln!(std::io::stderr(), "{failure}");
            }
            failure.exit.into()
        }
    }
}

/// The name this program was called by, without directories: a program that answers to several
/// names (`proxy`, `haproxy`) looks here.
#[must_use]
pub fn program_name() -> String {
    std::env::args_os()
        .next()
        .as_deref()
        .map(Path::new)
        .and_then(Path::file_name)
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Sets the name that `ps -C NAME` and `top` show for this process (at most 15 bytes are kept).
/// Call it before other threads start; they inherit it.
pub fn set_process_name(name: &str) {
    // Writing to comm is prctl(PR_SET_NAME) without unsafe code; failing costs only the name.
    if let Err(error) = std::fs::write("/proc/self/comm", name) {
        tracing::debug!(%error, "cannot set the process name");
    }
}

/// Waits for signals after start-up and keeps the service manager informed.
///
/// SIGTERM and SIGINT ask for a graceful stop, a second one (or SIGQUIT) for an immediate one.
/// Every other signal goes to `on_signal`; a SIGHUP is framed by `RELOADING=1` and `READY=1`.
/// Returns once a stop has been asked for (`STOPPING=1` sent); wait for your tasks after it, and keep
/// calling [`next_stop`] meanwhile so that a second Ctrl-C still works.
pub async fn until_stopped(
    signals: &mut Signals,
    shutdown: &Shutdown,
    status: &str,
    mut on_signal: impl AsyncFnMut(Signal),
) {
    notify::ready(status);
    let mut watchdog = notify::watchdog_interval().map(tokio::time::interval);
    loop {
        let signal = tokio::select! {
            signal = signals.recv() => signal,
            () = tick(watchdog.as_mut()) => {
                notify::watchdog();
                continue;
            }
        };
        match signal {
            Signal::Terminate | Signal::Interrupt | Signal::Quit => {
                notify::stopping();
                shutdown.stop(if signal == Signal::Quit { Stop::Now } else { Stop::Graceful });
                return;
            }
            Signal::Hangup => {
                notify::reloading();
                on_signal(signal).await;
                notify::ready(status);
            }
            Signal::User1 | Signal::User2 => on_signal(signal).await,
        }
        // The handler may itself have asked for a stop (HAProxy's SIGUSR1 does).
        if shutdown.state() != Stop::No {
            notify::stopping();
            return;
        }
    }
}

/// While stopping gracefully: any further stop signal means "now". Never returns before that.
pub async fn next_stop(signals: &mut Signals, shutdown: &Shutdown) {
    loop {
        if let Signal::Terminate | Signal::Interrupt | Signal::Quit = signals.recv().await {
            shutdown.stop(Stop::Now);
            return;
        }
    }
}

async fn tick(interval: Option<&mut tokio::time::Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Diagnostic;

    #[test]
    fn a_failure_reads_as_in_the_manual() {
        let failure = Failure::new(Exit::CannotCreate, "cannot listen on 127.0.0.1:5672: address in use")
            .detail("held by", "beam.smp (pid 991, user rabbitmq), looks like RabbitMQ")
            .detail("try", "broker --port 5673");
        assert_eq!(
            failure.to_string(),
            "error: cannot listen on 127.0.0.1:5672: address in use\n  \
             held by: beam.smp (pid 991, user rabbitmq), looks like RabbitMQ\n  \
             try:     broker --port 5673"
        );
        let from_file = Failure::from(Diagnostics::from(Diagnostic::error("x", "wrong")));
        assert_eq!((from_file.exit, from_file.to_string().as_str()), (Exit::Config, "error[x]: wrong"));
    }

    #[test]
    fn the_program_knows_its_name() {
        assert!(program_name().starts_with("daemon"));
    }
}
