//! What a client sends while its server is being found and connected to, and whether it gives up.

use std::task::{Context, Poll};

use crate::relay::with_buffer;
use crate::side::Side;

/// No more than this is taken from a client before its server is there (HAProxy's `tune.bufsize`).
const MOST: usize = 16 * 1024;

/// The bytes so far.
#[derive(Debug, Default)]
pub struct Early {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The client has finished sending.
    pub finished: bool,
}

/// Why a client is not served any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It closed before it had sent anything, or must not close early.
    Closed,
    /// It broke off.
    Broken,
}

impl Early {
    /// Whether no more is taken: the client has finished, or there is no room.
    pub fn is_complete(&self) -> bool {
        self.finished || self.bytes.len() >= MOST
    }

    /// Reads what has come. Ready when the client is gone.
    pub fn poll(&mut self, context: &mut Context<'_>, client: &mut Side, abort_on_close: bool) -> Poll<Gone> {
        while !self.finished && self.bytes.len() < MOST {
            let room = MOST - self.bytes.len();
            let read = with_buffer(|buffer| {
                let read = client.poll_recv(context, &mut buffer[..room]);
                if let Poll::Ready(Ok(count)) = &read {
                    self.bytes.extend_from_slice(&buffer[..*count]);
                }
                read
            });
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => self.finished = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    tracing::trace!(%error, "client before its server was there");
                    return Poll::Ready(Gone::Broken);
                }
            }
        }
        // HAProxy: a client that sent its question and closed may be waiting for the answer.
        if self.finished && (self.bytes.is_empty() || abort_on_close) {
            return Poll::Ready(Gone::Closed);
        }
        Poll::Pending
    }
}
