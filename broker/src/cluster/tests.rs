//! Consensus of one node and of several, on real directories.

mod joined;
mod several;

use super::*;
use broker_store::disk::RealDisk;
use broker_store::journal::JournalOptions;
use broker_store::raft_log::RaftLog;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;

/// Remembers the commands.
#[derive(Default)]
struct Notes {
    commands: Mutex<Vec<String>>,
    failures: Mutex<Vec<String>>,
}

impl Machine for Notes {
    fn apply(&self, _index: u64, command: &[u8]) -> Result<(), String> {
        let command = String::from_utf8_lossy(command).into_owned();
        if command == "nonsense" {
            return Err("this makes no sense".to_owned());
        }
        self.commands.lock().push(command);
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        self.commands.lock().join(",").into_bytes()
    }

    fn restore(&self, _index: u64, state: &[u8]) -> Result<(), String> {
        *self.commands.lock() = commands_in(state);
        Ok(())
    }

    fn is_closing(&self) -> bool {
        false
    }

    fn on_failure(&self, error: &str) {
        self.failures.lock().push(error.to_owned());
    }
}

fn commands_in(state: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(state).split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

async fn write(council: &Council, command: &str) -> Result<(), WriteError> {
    let term = council.leads().ok_or_else(|| WriteError::LostLead("it never led".to_owned()))?;
    council.write(term, command.into()).await
}

fn open(dir: &Path) -> (RaftLog, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let options = JournalOptions::new([5; 16]);
    let restore = |state: &[u8]| *notes.commands.lock() = commands_in(state);
    let (log, _) = RaftLog::open(Arc::new(RealDisk), dir, options, restore).unwrap();
    (log, notes)
}

/// Starts a node, does something with it, and stops it. Returns what the state machine knows then.
fn session(dir: &Path, work: impl AsyncFnOnce(&Council)) -> Arc<Notes> {
    let (log, notes) = open(dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let machine: Arc<dyn Machine> = Arc::<Notes>::clone(&notes);
    let writer = runtime.block_on(async {
        let consensus = Consensus::start(&Seat::alone("rabbit@here"), log, machine).await.unwrap();
        work(consensus.council()).await;
        consensus.stop().await
    });
    drop(runtime);
    writer.join().unwrap();
    notes
}

#[test]
fn commands_are_carried_out_in_order_and_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let notes = session(dir.path(), async |council| {
        for command in ["a", "b", "c"] {
            write(council, command).await.unwrap();
        }
    });
    assert_eq!(*notes.commands.lock(), ["a", "b", "c"]);
    let notes = session(dir.path(), async |council| write(council, "d").await.unwrap());
    assert_eq!(*notes.commands.lock(), ["a", "b", "c", "d"]);
    let notes = session(dir.path(), async |_| {});
    assert_eq!(*notes.commands.lock(), ["a", "b", "c", "d"]);
}

#[test]
fn every_start_is_a_new_term_of_the_first_node() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for _ in 0..3 {
        session(dir.path(), async |_| {});
        let vote = open(dir.path()).0.vote().unwrap();
        assert_eq!((vote.node, vote.won), (FIRST_NODE.0, true));
        assert!(vote.term > before, "{vote:?} after term {before}");
        before = vote.term;
    }
}

#[test]
fn a_log_that_begins_with_a_state_goes_on_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions::new([5; 16]);
    let head = first_head(FIRST_NODE, "rabbit@here").unwrap();
    RaftLog::begin_with(Arc::new(RealDisk), dir.path(), options, &head, b"x,y").unwrap();
    for _ in 0..2 {
        session(dir.path(), async |council| write(council, "z").await.unwrap());
    }
    let (log, _) = open(dir.path());
    assert_eq!(log.ends().0.unwrap().index, 0, "what the state includes is not in the log");
    assert_eq!(*session(dir.path(), async |_| {}).commands.lock(), ["x", "y", "z", "z"]);
}

#[test]
fn a_snapshot_is_taken_of_many_entries_and_the_log_begins_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let large = "x".repeat(4 << 20);
    let notes = session(dir.path(), async |council| {
        for number in 0..10 {
            write(council, &format!("{number}{large}")).await.unwrap();
        }
        while council.log_begins() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        write(council, "last").await.unwrap();
    });
    let (log, _) = open(dir.path());
    assert!(log.entries(0, u64::MAX).len() <= 5, "{:?}", log.ends());
    let again = session(dir.path(), async |_| {});
    assert_eq!(*again.commands.lock(), *notes.commands.lock());
}

#[test]
fn a_command_that_makes_no_sense_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    session(dir.path(), async |council| {
        write(council, "a").await.unwrap();
        let error = write(council, "nonsense").await.unwrap_err();
        assert!(error.to_string().contains("this makes no sense"), "{error}");
        write(council, "b").await.unwrap_err();
    });
}
