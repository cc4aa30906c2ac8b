//! Reading the configuration again while everything runs.
//!
//! Two steps. Preparing reads and checks the new configuration whole, looks names up and opens the new
//! listening sockets; it happens on the [keeper](crate::keeper)'s thread, may take its time and may fail
//! without any effect. Applying then swaps sections, hands the kept listeners to their new frontends,
//! opens the new ones to clients and closes those that are gone after emptying their accept queues.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::diagnostic::Diagnostics;
use daemon::exit::Exit;
use daemon::run::Failure;

use crate::cli::Args;
use crate::config::{self, Bind, Config, Global};
use crate::control::Report;
use crate::frontend::Frontend;
use crate::keeper::Keeper;
use crate::listener::{Key, Listener};
use crate::local_socket::SocketFile;
use crate::process::{Process, connection_limit};
use crate::runtime_api;
use crate::sections::{Draft, Summary};
use crate::syslog::level;
use crate::workers::Running;
use tokio::sync::watch;

/// What is said about a configuration that nobody could connect to.
pub const NO_LISTENER: &str = "no listener: there is no `bind` line in a section that is enabled";

/// What is needed to read the configuration again as at the start.
#[derive(Debug, Clone)]
pub struct Source {
    /// Files and directories.
    pub files: Vec<PathBuf>,
    /// The command line, which counts more than the files.
    pub arguments: Arc<Args>,
}

impl Source {
    /// Reads and checks it whole.
    ///
    /// # Errors
    /// All mistakes of all files.
    pub fn read(&self) -> Result<(Config, Diagnostics), Failure> {
        let (mut config, remarks) = config::load(&self.files)?;
        self.arguments.apply(&mut config);
        if !config.listens() {
            return Err(Failure::new(Exit::Config, NO_LISTENER));
        }
        Ok((config, remarks))
    }
}

/// A new configuration, ready to be put in the place of the old one.
#[derive(Debug)]
pub struct Prepared {
    draft: Draft,
    remarks: Diagnostics,
    /// Listeners that were not there before.
    listeners: Vec<Listener>,
    /// The stats sockets; those that were not there before are open.
    stats_sockets: Vec<runtime_api::Wanted>,
    /// Changes of servers at run time that it knows of.
    generation: u64,
}

impl Prepared {
    /// The stats sockets that it wants.
    pub fn take_stats_sockets(&mut self) -> Vec<runtime_api::Wanted> {
        std::mem::take(&mut self.stats_sockets)
    }
}

/// How long a reload waits for listeners that the one before has closed. A frontend without free places takes
/// its time for that; then their addresses are shared.
const CLOSING_LIMIT: Duration = Duration::from_secs(1);

/// Prepares a reload.
///
/// # Errors
/// What is wrong with the new configuration, or which address cannot be had.
pub async fn prepare(
    process: Arc<Process>,
    keeper: Keeper,
    source: Source,
    present: Vec<Key>,
    mut closing: watch::Receiver<usize>,
) -> Result<Prepared, Failure> {
    // What the reload before has closed may be wanted again.
    let closed = closing.wait_for(|count| *count == 0);
    let _ = tokio::time::timeout(CLOSING_LIMIT, closed).await;
    let prepared = keeper.run(move || prepare_here(&process, &source, present)).await;
    prepared
        .unwrap_or_else(|| Err(Failure::new(Exit::Software, "reading the configuration failed unexpectedly")))
}

fn prepare_here(process: &Process, source: &Source, mut present: Vec<Key>) -> Result<Prepared, Failure> {
    let (config, remarks) = source.read()?;
    let generation = process.control.changes();
    let sections = process.sections().clone();
    let (process_limit, _) = connection_limit(&config.global);
    let draft = Draft::new(config, &sections, process_limit, &process.tag);
    let mut listeners = Vec::new();
    let mut ports: Vec<u16> = present.iter().map(|key| key.address.port()).collect();
    for frontend in draft.sections.iter().filter_map(|section| section.frontend.as_ref()) {
        for bind in &frontend.config.binds {
            let key = Key::of(bind);
            match present.iter().position(|present| *present == key) {
                Some(at) => drop(present.swap_remove(at)),
                None => {
                    listeners.push(open(frontend, bind, &ports)?);
                    // The same address may come a second time.
                    ports.push(bind.address.port());
                }
            }
        }
    }
    let stats_sockets = runtime_api::bind_new(&draft.global, &process.global().stats_sockets)?;
    Ok(Prepared { draft, remarks, listeners, stats_sockets, generation })
}

/// Opens a new listener. An old one of the same port may be in the way until it is closed: `:80` and
/// `10.0.0.1:80` exclude each other, unless both agree to share.
fn open(frontend: &Arc<Frontend>, bind: &Bind, present: &[u16]) -> Result<Listener, Failure> {
    let port = bind.address.port();
    let opened = Listener::open(frontend, bind, false);
    if opened.is_err() && port != 0 && present.contains(&port) {
        return Listener::open(frontend, bind, true);
    }
    opened
}

/// A reload that was refused: said in the log and to the one who asked.
#[must_use]
pub fn refuse(failure: &Failure) -> Report {
    if !failure.message.is_empty() {
        tracing::error!(reason = failure.message, "reload refused, nothing changed");
    }
    for remark in &failure.diagnostics {
        tracing::error!(reason = remark.one_line(), "reload refused, nothing changed");
    }
    Report::refused(format!("{failure}\nnot reloaded: the configuration that runs has not changed"))
}

/// What a reload changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Changes {
    servers: Summary,
    opened: usize,
    kept: usize,
    closed: usize,
}

/// Puts a prepared configuration in the place of the old one. `None` when servers were added or removed
/// at run time meanwhile: prepare again.
pub fn apply(
    process: &Process,
    running: &mut Running,
    keeper: &Keeper,
    prepared: Prepared,
    first: &Global,
) -> Option<Report> {
    let Prepared { draft, remarks, listeners, generation, .. } = prepared;
    if generation != process.control.changes() {
        return None;
    }
    let mut remarks = remarks.to_string();
    for what in fixed(first, &draft.global) {
        let text =
            format!("warning: {what} cannot change while the process runs; it stays as it was at the start");
        tracing::warn!("{what} cannot change while the process runs; it stays as it was at the start");
        remarks.push_str(if remarks.is_empty() { "" } else { "\n" });
        remarks.push_str(&text);
    }
    let before = process.sections().clone();
    let servers = process.replace(draft);
    let mut changes = Changes { servers, ..Changes::default() };
    changes.opened = listeners.len();
    (changes.kept, changes.closed) = replace_listeners(process, running, keeper, listeners);
    running.update_checks();
    for old in before.iter() {
        if !process.sections().iter().any(|new| new.config.name == old.config.name) {
            old.say_stopped();
        }
    }
    let sections = process.sections();
    let Summary { unchanged, changed, added, removed } = changes.servers;
    let summary = format!(
        "reloaded: {} sections; servers: {unchanged} unchanged, {changed} changed, {added} added, {removed} removed; \
         listeners: {} kept, {} opened, {} closed",
        sections.len(),
        changes.kept,
        changes.opened,
        changes.closed
    );
    tracing::info!(
        sections = sections.len(),
        unchanged,
        changed,
        added,
        removed,
        kept = changes.kept,
        opened = changes.opened,
        closed = changes.closed,
        "reloaded"
    );
    for section in sections.iter() {
        section.logger.send(level::NOTICE, &format!("Proxy {} reloaded.", section.config.name));
    }
    remarks.push_str(if remarks.is_empty() { "" } else { "\n" });
    Some(Report::accepted(remarks + &summary))
}

/// Gives every listener its new frontend, in the order of the new file. Returns how many stayed and how
/// many are closed.
fn replace_listeners(
    process: &Process,
    running: &mut Running,
    keeper: &Keeper,
    new: Vec<Listener>,
) -> (usize, usize) {
    let mut old = std::mem::take(&mut running.listeners);
    let mut new = crate::listener::Listeners { all: new };
    let mut kept = 0;
    for frontend in process.sections().iter().filter_map(|section| section.frontend.as_ref()) {
        for bind in &frontend.config.binds {
            let key = Key::of(bind);
            let (mut listener, starts) = match (old.take(&key), new.take(&key)) {
                (Some(mut listener), _) => {
                    kept += 1;
                    listener.assign(frontend.clone(), bind);
                    (listener, false)
                }
                (None, Some(listener)) => (listener, true),
                // Opened or kept while preparing; nothing is in neither list.
                (None, None) => continue,
            };
            if starts && let Err(failure) = running.listen(&mut listener) {
                tracing::error!(%failure, frontend = %frontend.name, "cannot accept");
            }
            running.listeners.all.push(listener);
        }
    }
    let closed = old.all.len();
    let files: Vec<SocketFile> = old.all.iter().filter_map(|listener| listener.file().cloned()).collect();
    for listener in old.all {
        running.close(listener);
    }
    if !files.is_empty() {
        // Where files are as they were at the start.
        keeper.later(move || files.iter().for_each(SocketFile::remove));
    }
    (kept, closed)
}

/// Settings that differ and only have an effect at the start.
fn fixed(first: &Global, new: &Global) -> Vec<&'static str> {
    [
        ("nbthread", first.nbthread != new.nbthread),
        ("numa-cpu-mapping", first.bind_threads != new.bind_threads),
        ("user", first.user != new.user || first.uid != new.uid),
        ("group", first.group != new.group || first.gid != new.gid),
        ("chroot", first.chroot != new.chroot),
        ("pidfile", first.pidfile != new.pidfile),
        ("daemon", first.daemon != new.daemon),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests;
