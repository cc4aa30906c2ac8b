//! What the broker decides: exchanges, queues, channels, metadata.
//!
//! Nothing here opens a socket, reads a clock or spawns a task. Callers hand in bytes, decoded
//! methods and the time, and get effects back. `broker/src` carries them out; `broker/sim` runs the
//! same code against simulated disks.

pub mod channel;
pub mod exception;
pub mod exchange;
pub mod forward;
pub mod fuzz;
pub mod ids;
pub mod link;
pub mod message;
pub mod meta;
pub mod queue;
pub mod record;
pub mod repl;
