//! Waiting for the disk in the middle of a method. A full disk can make that long: the client hears from us
//! meanwhile, and when it has gone nobody waits for it any more.

use super::Connection;
use amqp::{frame, reply_code};
use broker_core::exception::Exception;
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;

/// How often the client is looked after meanwhile.
const LOOK: Duration = Duration::from_secs(1);

impl Connection {
    /// Waits for `work`, which goes on by itself if the client leaves.
    ///
    /// # Errors
    /// The client has gone.
    pub(crate) async fn wait_for<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Exception> {
        let mut work = pin!(work);
        let mut next_heartbeat = Instant::now() + self.tick();
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(LOOK) => {}
            }
            if self.outbox.is_dead() || self.stream.is_read_closed().await {
                return Err(Exception::connection(reply_code::INTERNAL_ERROR, "the client has gone"));
            }
            if next_heartbeat <= Instant::now() {
                next_heartbeat = Instant::now() + self.tick();
                if self.outbox.write(frame::write_heartbeat) {
                    self.outbox.flush();
                }
            }
        }
    }
}
