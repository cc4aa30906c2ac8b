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
//!
//! ```
//! use amqp::method::basic;
//! use amqp::{ContentHeader, FrameKind, Method, Properties, frame};
//!
//! // A client publishes to the default exchange ...
//! let mut wire = Vec::new();
//! let publish = basic::Publish { routing_key: "orders", mandatory: true, ..Default::default() };
//! frame::write_method(&mut wire, 1, &publish.into());
//! frame::write_content_header(&mut wire, 1, 60, 5, Properties::default().raw());
//! frame::write_body(&mut wire, 1, b"hello", 131_072);
//!
//! // ... and a server reads it off its buffer.
//! let (method, used) = frame::parse(&wire, 131_072)?.expect("a whole frame");
//! assert_eq!(Method::decode(method.payload), Ok(Method::BasicPublish(publish)));
//! let (header, next) = frame::parse(&wire[used..], 131_072)?.expect("a whole frame");
//! assert_eq!(ContentHeader::decode(header.payload).map(|header| header.body_size), Ok(5));
//! let (body, _) = frame::parse(&wire[used + next..], 131_072)?.expect("a whole frame");
//! assert_eq!((body.kind, body.payload), (FrameKind::Body, &b"hello"[..]));
//! # Ok::<(), amqp::FrameError>(())
//! ```

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
