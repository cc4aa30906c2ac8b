//! Consensus of one node, on a real directory.

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
    fn apply(&self, command: &[u8]) -> Result<(), String> {
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

    fn is_closing(&self) -> bool {
        false
    }

    fn on_failure(&self, error: &str) {
        self.failures.lock().push(error.to_owned());
    }
}

fn open(dir: &Path) -> (RaftLog, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let options = JournalOptions::new([5; 16]);
    let restore = |state: &[u8]| {
        *notes.commands.lock() = String::from_utf8_lossy(state).split(',').map(str::to_owned).collect();
    };
    let (log, _) = RaftLog::open(Arc::new(RealDisk), dir, options, restore).unwrap();
    (log, notes)
}

/// Starts a node, does something with it, and stops it. Returns what the state machine knows then.
fn session(dir: &Path, work: impl AsyncFnOnce(&Consensus)) -> Arc<Notes> {
    let (log, notes) = open(dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let machine: Arc<dyn Machine> = Arc::<Notes>::clone(&notes);
    let writer = runtime.block_on(async {
        let consensus = Consensus::start("rabbit@here", log, machine).await.unwrap();
        work(&consensus).await;
        consensus.stop().await
    });
    drop(runtime);
    writer.join().unwrap();
    notes
}

#[test]
fn commands_are_carried_out_in_order_and_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let notes = session(dir.path(), async |consensus| {
        for command in ["a", "b", "c"] {
            consensus.write(command.into()).await.unwrap();
        }
    });
    assert_eq!(*notes.commands.lock(), ["a", "b", "c"]);
    let notes = session(dir.path(), async |consensus| consensus.write("d".into()).await.unwrap());
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
        assert_eq!((vote.node, vote.won), (FIRST_NODE, true));
        assert!(vote.term > before, "{vote:?} after term {before}");
        before = vote.term;
    }
}

#[test]
fn a_log_that_begins_with_a_state_goes_on_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions::new([5; 16]);
    let head = first_head("rabbit@here").unwrap();
    RaftLog::begin_with(Arc::new(RealDisk), dir.path(), options, &head, b"x,y").unwrap();
    for _ in 0..2 {
        session(dir.path(), async |consensus| consensus.write("z".into()).await.unwrap());
    }
    let (log, _) = open(dir.path());
    assert_eq!(log.ends().0.unwrap().index, 0, "what the state includes is not in the log");
    assert_eq!(*session(dir.path(), async |_| {}).commands.lock(), ["x", "y", "z", "z"]);
}

#[test]
fn a_snapshot_is_taken_of_many_entries_and_the_log_begins_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let large = "x".repeat(4 << 20);
    let notes = session(dir.path(), async |consensus| {
        for number in 0..10 {
            consensus.write(format!("{number}{large}").into_bytes()).await.unwrap();
        }
        while consensus.log_begins() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        consensus.write("last".into()).await.unwrap();
    });
    let (log, _) = open(dir.path());
    assert!(log.entries(0, u64::MAX).len() <= 5, "{:?}", log.ends());
    let again = session(dir.path(), async |_| {});
    assert_eq!(*again.commands.lock(), *notes.commands.lock());
}

#[test]
fn a_command_that_makes_no_sense_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    session(dir.path(), async |consensus| {
        consensus.write("a".into()).await.unwrap();
        let error = consensus.write("nonsense".into()).await.unwrap_err();
        assert!(error.contains("this makes no sense"), "{error}");
        consensus.write("b".into()).await.unwrap_err();
    });
}
