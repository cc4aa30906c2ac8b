//! AMQP 0-9-1 wire format, as RabbitMQ 3.10 reads and writes it.
//!
//! * [`frame`] cuts frames off a read buffer and appends frames to a write buffer;
//! * [`method`] has every method of the standard and of RabbitMQ's extensions (generated from `methods.table`);
//! * [`content`] has content headers and message properties, kept as they came and read when asked;
//! * [`table`] has field tables, borrowed and owned;
//! * [`reply_code`] has the numbers and names of close and return reasons.
//!
//! Decoding borrows from the caller's buffer, encoding appends to the caller's buffer; nothing here opens a
//! socket, reads a clock or allocates from a length that the other side announced. What the order of frames
//! means (a header after a publish, bodies after a header) is left to the caller.

pub mod content;
pub mod erlang;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod method;
pub mod reply_code;
pub mod table;
mod wire;

#[cfg(test)]
mod tests;

pub use content::{BasicProperties, ContentHeader, Properties};
pub use frame::{Frame, FrameError, FrameKind};
pub use method::{Method, MethodError};
pub use table::{FieldTable, FieldValue, Table, Value};
pub use wire::WireError;

/// What a client sends first, and what a server answers to any other start (AMQP 0-9-1 section 4.2.2).
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// The octet that ends every frame (AMQP 0-9-1 section 4.2.3).
pub const FRAME_END: u8 = 0xCE;

/// The smallest frame_max that may be negotiated, in octets (AMQP 0-9-1 section 4.2.3).
pub const FRAME_MIN_SIZE: u32 = 4096;
