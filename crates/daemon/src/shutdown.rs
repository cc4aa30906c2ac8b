//! Passing "please stop" from the one who decides to every task.
//!
//! Two steps: *graceful* (take no new work, finish what you have) and *now* (drop everything).

use tokio::sync::watch;

/// How urgently the program is to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Keep running.
    #[default]
    No,
    /// Take no new work, finish what runs.
    Graceful,
    /// End at once.
    Now,
}

/// The deciding end. Dropping it counts as [`Stop::Now`].
#[derive(Debug)]
pub struct Shutdown {
    sender: watch::Sender<Stop>,
}

/// The listening end; cheap to clone, one for each task.
#[derive(Debug, Clone)]
pub struct ShutdownToken {
    receiver: watch::Receiver<Stop>,
}

impl Shutdown {
    /// A pair of ends.
    #[must_use]
    pub fn new() -> (Self, ShutdownToken) {
        let (sender, receiver) = watch::channel(Stop::No);
        (Self { sender }, ShutdownToken { receiver })
    }

    /// Another listening end.
    #[must_use]
    pub fn token(&self) -> ShutdownToken {
        ShutdownToken { receiver: self.sender.subscribe() }
    }

    /// Asks everyone to stop; urgency never goes back.
    pub fn stop(&self, urgency: Stop) {
        self.sender.send_if_modified(|current| {
            let raised = urgency > *current;
            if raised {
                *current = urgency;
            }
            raised
        });
    }

    /// What was asked so far.
    #[must_use]
    pub fn state(&self) -> Stop {
        *self.sender.borrow()
    }
}

impl ShutdownToken {
    /// What is asked at present.
    #[must_use]
    pub fn state(&self) -> Stop {
        if self.receiver.has_changed().is_err() { Stop::Now } else { *self.receiver.borrow() }
    }

    /// Waits until a stop of any urgency is asked.
    pub async fn requested(&mut self) -> Stop {
        self.at_least(Stop::Graceful).await
    }

    /// Waits until an immediate stop is asked.
    pub async fn forced(&mut self) {
        self.at_least(Stop::Now).await;
    }

    async fn at_least(&mut self, urgency: Stop) -> Stop {
        // An error means that the deciding end is gone.
        self.receiver.wait_for(|state| *state >= urgency).await.map_or(Stop::Now, |state| *state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn urgency_rises_and_never_falls() {
        let (shutdown, mut token) = Shutdown::new();
        assert_eq!(token.state(), Stop::No);
        shutdown.stop(Stop::Graceful);
        assert_eq!(token.requested().await, Stop::Graceful);
        shutdown.stop(Stop::Now);
        shutdown.stop(Stop::Graceful);
        token.forced().await;
        assert_eq!(token.state(), Stop::Now);
    }

    #[tokio::test]
    async fn losing_the_deciding_end_stops_the_tasks() {
        let (shutdown, mut token) = Shutdown::new();
        drop(shutdown);
        assert_eq!(token.requested().await, Stop::Now);
        assert_eq!(token.state(), Stop::Now);
    }
}
