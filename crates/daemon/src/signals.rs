//! The signals a daemon reacts to, as one asynchronous stream.

use std::io;
use std::task::{Context, Poll};

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// A signal somebody sent to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: stop.
    Terminate,
    /// SIGINT: stop (Ctrl-C).
    Interrupt,
    /// SIGHUP: read the configuration again.
    Hangup,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
    /// SIGQUIT.
    Quit,
}

/// Receives signals from the moment it is made; their default action no longer happens.
#[derive(Debug)]
pub struct Signals {
    streams: [(Signal, Stream); 6],
}

impl Signals {
    /// Starts to listen. Needs a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// When the operating system refuses the handler.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            streams: [
                (Signal::Terminate, signal(SignalKind::terminate())?),
                (Signal::Interrupt, signal(SignalKind::interrupt())?),
                (Signal::Hangup, signal(SignalKind::hangup())?),
                (Signal::User1, signal(SignalKind::user_defined1())?),
                (Signal::User2, signal(SignalKind::user_defined2())?),
                (Signal::Quit, signal(SignalKind::quit())?),
            ],
        })
    }

    /// The next signal. Safe to drop and call again (in `select!`): no signal is lost by it.
    pub async fn recv(&mut self) -> Signal {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// As [`Signals::recv`], for hand-written futures.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Signal> {
        for (name, stream) in &mut self.streams {
            if let Poll::Ready(Some(())) = stream.poll_recv(context) {
                return Poll::Ready(*name);
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_to_this_process_is_received() {
        let mut signals = Signals::new().unwrap();
        for (sent, expected) in [(nix::libc::SIGUSR1, Signal::User1), (nix::libc::SIGHUP, Signal::Hangup)] {
            // SAFETY: raising a signal that has a handler installed has no memory effects.
            assert_eq!(unsafe { nix::libc::raise(sent) }, 0);
            assert_eq!(signals.recv().await, expected);
        }
    }
}
