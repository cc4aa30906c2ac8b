//! Orders that only the owner of listeners, threads and checks can carry out: from signals, from operators at a
//! stats socket, through the private socket. They are put into an inbox, and one task, the
//! [supervisor](crate::supervisor), carries them out one after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::handover::Exported;

/// Orders that wait, at most.
const MAX_WAITING: usize = 64;

/// What the supervisor is asked to do.
#[derive(Debug)]
pub enum Task {
    /// A frontend stops accepting for a while.
    Pause(String, oneshot::Sender<Outcome>),
    /// It accepts again.
    Resume(String, oneshot::Sender<Outcome>),
    /// It stops for good.
    Stop(String, oneshot::Sender<Outcome>),
    /// Servers came or went: checks have to follow.
    ServersChanged,
    /// Read the configuration again.
    Reload(oneshot::Sender<Report>),
    /// Start the program anew and hand everything over to it.
    Upgrade(oneshot::Sender<Report>),
    /// The new program of an upgrade did not take over.
    UpgradeFailed(Report),
    /// Another process has taken over: finish what runs, then end.
    Retire(Option<u32>, oneshot::Sender<Report>),
    /// Write down which servers were added at run time.
    Remember(oneshot::Sender<Report>),
    /// Hand out the listening sockets.
    Sockets(oneshot::Sender<Vec<Exported>>),
}

/// What became of an order about a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out.
    Done,
    /// It was so already.
    Already,
    /// The frontend was stopped for good before.
    Stopped,
    /// The system refused.
    Failed,
}

/// What became of an order about the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether it was carried out.
    pub accepted: bool,
    /// For the person who gave it; ends without a newline.
    pub text: String,
}

impl Report {
    /// It was carried out.
    pub fn accepted(text: impl Into<String>) -> Self {
        Self { accepted: true, text: text.into() }
    }

    /// It was not, and nothing changed.
    pub fn refused(text: impl Into<String>) -> Self {
        Self { accepted: false, text: text.into() }
    }
}

/// The inbox.
#[derive(Debug, Clone)]
pub struct Control {
    sender: mpsc::Sender<Task>,
    receiver: Arc<Mutex<Option<mpsc::Receiver<Task>>>>,
    /// How often servers came or went at run time.
    changes: Arc<AtomicU64>,
}

impl Default for Control {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        Self { sender, receiver: Arc::new(Mutex::new(Some(receiver))), changes: Arc::default() }
    }
}

impl Control {
    /// For the supervisor; `None` when it was taken before.
    pub fn take(&self) -> Option<mpsc::Receiver<Task>> {
        self.receiver.lock().take()
    }

    /// Asks for something about a frontend and waits for what becomes of it.
    pub async fn ask(&self, task: impl FnOnce(oneshot::Sender<Outcome>) -> Task) -> Outcome {
        self.request(task).await.unwrap_or(Outcome::Failed)
    }

    /// Says that servers came or went.
    pub fn servers_changed(&self) {
        self.changes.fetch_add(1, Relaxed);
        // When the inbox is full, one that says the same is on its way or everything is looked at anyway.
        let _ = self.sender.try_send(Task::ServersChanged);
    }

    /// How often servers came or went at run time.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// Writes down which servers were added at run time, where the configuration wants that.
    pub async fn remember(&self) -> Report {
        self.report(Task::Remember).await
    }

    /// Reads the configuration again and says what came of it.
    pub async fn reload(&self) -> Report {
        self.report(Task::Reload).await
    }

    /// Starts the program anew, which takes everything over.
    pub async fn upgrade(&self) -> Report {
        self.report(Task::Upgrade).await
    }

    /// An upgrade came to nothing. Blocks; call it on a thread of your own.
    pub fn upgrade_failed(&self, report: Report) {
        // When nobody carries orders out any more, the process is about to end.
        let _ = self.sender.blocking_send(Task::UpgradeFailed(report));
    }

    /// Finishes what runs, then ends.
    pub async fn retire(&self, successor: Option<u32>) -> Report {
        self.report(|reply| Task::Retire(successor, reply)).await
    }

    /// The listening sockets, duplicated.
    pub async fn sockets(&self) -> Vec<Exported> {
        self.request(Task::Sockets).await.unwrap_or_default()
    }

    async fn report(&self, task: impl FnOnce(oneshot::Sender<Report>) -> Task) -> Report {
        self.request(task).await.unwrap_or_else(|| Report::refused("the process is stopping"))
    }

    async fn request<T>(&self, task: impl FnOnce(oneshot::Sender<T>) -> Task) -> Option<T> {
        let (reply, outcome) = oneshot::channel();
        self.sender.send(task(reply)).await.ok()?;
        outcome.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_reaches_the_supervisor_and_its_outcome_comes_back() {
        let control = Control::default();
        let mut inbox = control.take().unwrap();
        assert!(control.take().is_none());
        let (outcome, ()) = tokio::join!(control.ask(|reply| Task::Pause("web".to_owned(), reply)), async {
            let Some(Task::Pause(name, reply)) = inbox.recv().await else { panic!() };
            assert_eq!(name, "web");
            let _ = reply.send(Outcome::Done);
        });
        assert_eq!(outcome, Outcome::Done);
        drop(inbox);
        assert_eq!(control.ask(|reply| Task::Stop("web".to_owned(), reply)).await, Outcome::Failed);
        assert!(!control.reload().await.accepted);
    }
}
