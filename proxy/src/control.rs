//! Orders of operators that only the owner of listeners, threads and checks can carry out: they are put into an
//! inbox, and the main loop of the program takes them out.

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::listener::Phase;
use crate::workers::Running;

/// Orders that wait, at most.
const MAX_WAITING: usize = 64;

/// What the main loop is asked to do.
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
}

/// What became of an order.
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

/// The inbox.
#[derive(Debug)]
pub struct Control {
    sender: mpsc::Sender<Task>,
    receiver: Mutex<Option<mpsc::Receiver<Task>>>,
}

impl Default for Control {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

impl Control {
    /// For the main loop; `None` when it was taken before.
    pub fn take(&self) -> Option<mpsc::Receiver<Task>> {
        self.receiver.lock().take()
    }

    /// Asks for something and waits for what becomes of it.
    pub async fn ask(&self, task: impl FnOnce(oneshot::Sender<Outcome>) -> Task) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        if self.sender.send(task(reply)).await.is_err() {
            return Outcome::Failed;
        }
        outcome.await.unwrap_or(Outcome::Failed)
    }

    /// Says that servers came or went.
    pub fn servers_changed(&self) {
        // When the inbox is full, one that says the same is on its way or everything is looked at anyway.
        let _ = self.sender.try_send(Task::ServersChanged);
    }
}

/// Carries orders out as they come, for ever.
pub async fn run(running: &mut Running, mut inbox: mpsc::Receiver<Task>) {
    while let Some(task) = inbox.recv().await {
        match task {
            Task::Pause(name, reply) => {
                let _ = reply.send(running.turn_frontend(&name, Phase::Paused));
            }
            Task::Resume(name, reply) => {
                let _ = reply.send(running.turn_frontend(&name, Phase::Open));
            }
            Task::Stop(name, reply) => {
                let _ = reply.send(running.turn_frontend(&name, Phase::Closing));
            }
            Task::ServersChanged => running.update_checks(),
        }
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_reaches_the_main_loop_and_its_outcome_comes_back() {
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
    }
}
