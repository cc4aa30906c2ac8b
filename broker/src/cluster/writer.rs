//! The thread that writes the replicated log to the disk.
//!
//! Whatever waits when it looks shares one fsync.

use super::Machine;
use broker_store::journal::JournalError;
use broker_store::raft_log::{RaftLog, SnapshotHead};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a full disk is tried again.
const FULL_DISK_RETRY: Duration = Duration::from_millis(250);
/// Work that may wait; more makes who asks for it wait.
const INBOX: usize = 256;

/// Told when the disk has it, or never will.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What is to be done.
pub(super) enum Work {
    /// Make durable what was changed so far.
    Sync(Done),
    /// Write a snapshot.
    Snapshot { head: SnapshotHead, state: Vec<u8>, done: Done },
}

/// The way to the thread. It ends, and closes the log, when the last of these is gone.
#[derive(Clone)]
pub(super) struct Writer(SyncSender<Work>);

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        log: Arc<RaftLog>,
        machine: Arc<dyn Machine>,
    ) -> io::Result<(Writer, JoinHandle<()>)> {
        let (sender, inbox) = sync_channel(INBOX);
        let thread = std::thread::Builder::new()
            .name("metadata-log".to_owned())
            .spawn(move || run(&log, &*machine, &inbox))?;
        Ok((Writer(sender), thread))
    }

    /// Has something done.
    pub(super) fn send(&self, work: Work) -> io::Result<()> {
        self.0.send(work).map_err(|_| io::Error::other("the thread of the replicated log has ended"))
    }
}

fn run(log: &RaftLog, machine: &dyn Machine, inbox: &Receiver<Work>) {
    let mut waiting = Vec::new();
    while let Ok(first) = inbox.recv() {
        let mut snapshots = Vec::new();
        for work in std::iter::once(first).chain(inbox.try_iter().take(INBOX)) {
            match work {
                Work::Sync(done) => waiting.push(done),
                Work::Snapshot { head, state, done } => snapshots.push((head, state, done)),
            }
        }
        if !waiting.is_empty() {
            let result = report(machine, patiently(machine, || log.sync()));
            waiting.drain(..).for_each(|done| done(copy(&result)));
        }
        for (head, state, done) in snapshots {
            done(report(machine, patiently(machine, || log.install_snapshot(&head, &state))));
        }
    }
    if let Err(error) = log.close() {
        tracing::warn!(%error, "the replicated log was not closed cleanly");
    }
}

fn report(machine: &dyn Machine, result: io::Result<()>) -> io::Result<()> {
    if let Err(error) = &result
        && !machine.is_closing()
    {
        machine.on_failure(&error.to_string());
    }
    result
}

fn copy(result: &io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

/// Tries again while the disk is full: what was appended can not be taken back, so the answer to
/// who asked for it has to wait.
fn patiently(machine: &dyn Machine, mut attempt: impl FnMut() -> Result<(), JournalError>) -> io::Result<()> {
    let mut waited = false;
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(JournalError::Full) if !machine.is_closing() => {
                if !std::mem::replace(&mut waited, true) {
                    tracing::error!("the disk is full; changes of metadata wait for room");
                }
                std::thread::sleep(FULL_DISK_RETRY);
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}
