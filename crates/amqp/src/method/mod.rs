//! Methods: commands and their answers, in the payload of method frames (AMQP 0-9-1 section 4.2.4).
//!
//! ```text
//! 0          2           4
//! +----------+-----------+-------------- - -
//! | class-id | method-id | arguments...
//! +----------+-----------+-------------- - -
//! ```
//!
//! Short strings are `&str`: RabbitMQ refuses malformed UTF-8 there too. Long strings are octets. Reserved
//! arguments (access tickets and the like) are skipped when read and written as zero.

mod generated;
#[cfg(test)]
mod tests;

pub use generated::*;

use crate::erlang;
use crate::wire::{Put, Reader, WireError};

const CLASS_CONNECTION: u16 = 10;

/// Why a method frame's payload is not a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// The payload is too short for the two ids.
    #[error("method frame is too short")]
    TooShort,
    /// No method has these ids.
    #[error("unknown method ({class}, {method})")]
    UnknownMethod {
        /// Class id as received.
        class: u16,
        /// Method id as received.
        method: u16,
    },
    /// The arguments are not what the method has.
    #[error("malformed arguments of method ({class}, {method}): {what}")]
    Syntax {
        /// Class id.
        class: u16,
        /// Method id.
        method: u16,
        /// What is wrong with them.
        what: WireError,
    },
}

impl MethodError {
    /// The words RabbitMQ puts after `FRAME_ERROR - ` (501) for arguments it cannot read, such as
    /// `cannot decode <<0,0,255>>`; `payload` is what was given to [`Method::decode`].
    ///
    /// For unknown ids and malformed tables RabbitMQ drops the connection without a word; here there is one.
    #[must_use]
    pub fn explanation(&self, payload: &[u8]) -> String {
        match self {
            Self::TooShort | Self::UnknownMethod { .. } => self.to_string(),
            Self::Syntax { what: what @ WireError::NotUtf8, .. } => what.to_string(),
            Self::Syntax { .. } => {
                format!("cannot decode {}", erlang::binary_plain(payload.get(4..).unwrap_or_default()))
            }
        }
    }

    /// The ids of the method at fault, for a close method. Zeros when they are not known, and as RabbitMQ has it
    /// for a short string that is not UTF-8 outside class connection.
    #[must_use]
    pub fn ids(&self) -> (u16, u16) {
        match *self {
            Self::TooShort => (0, 0),
            Self::Syntax { class, what: WireError::NotUtf8, .. } if class != CLASS_CONNECTION => (0, 0),
            Self::UnknownMethod { class, method } | Self::Syntax { class, method, .. } => (class, method),
        }
    }
}

/// What every method struct can do; use it to write one without wrapping it in [`Method`].
pub trait MethodFields<'a>: Sized {
    /// Number of the class.
    const CLASS_ID: u16;
    /// Number of the method within its class.
    const METHOD_ID: u16;
    /// The name as the standard writes it, such as `basic.publish`.
    const NAME: &'static str;

    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// The octets end early, a short string is not UTF-8, or a table is malformed.
    #[doc(hidden)]
    fn decode_fields(reader: &mut Reader<'a>) -> Result<Self, WireError>;

    /// Appends the arguments, without the ids.
    fn encode_fields(&self, out: &mut Vec<u8>);
}

impl<'a> Method<'a> {
    /// Reads the payload of a method frame.
    ///
    /// # Errors
    ///
    /// [`MethodError`]: ids nobody has, or arguments that end early, leave octets over, hold a short string
    /// that is not UTF-8 or a malformed table.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, MethodError> {
        let mut reader = Reader::new(payload);
        let (Ok(class), Ok(method)) = (reader.u16(), reader.u16()) else { return Err(MethodError::TooShort) };
        Self::decode_arguments(class, method, reader.rest())
            .unwrap_or(Err(MethodError::UnknownMethod { class, method }))
    }

    /// Appends the payload of a method frame: ids and arguments. For a whole frame see
    /// [`frame::write_method`](crate::frame::write_method).
    ///
    /// A short string over 255 octets is cut at a character, because the format has no longer ones.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (class, method) = self.ids();
        out.put_u16(class);
        out.put_u16(method);
        self.encode_arguments(out);
    }

    /// Number of the class, such as 60 for basic.
    #[must_use]
    pub fn class_id(&self) -> u16 {
        self.ids().0
    }

    /// Number of the method within its class.
    #[must_use]
    pub fn method_id(&self) -> u16 {
        self.ids().1
    }
}

/// Reads one method's arguments to the last octet.
#[inline]
fn fields<'a, M: MethodFields<'a>>(arguments: &'a [u8]) -> Result<M, MethodError> {
    let mut reader = Reader::new(arguments);
    let read = M::decode_fields(&mut reader).and_then(|fields| reader.finish().map(|()| fields));
    read.map_err(|what| MethodError::Syntax { class: M::CLASS_ID, method: M::METHOD_ID, what })
}
