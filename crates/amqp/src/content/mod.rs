//! Content headers and message properties (AMQP 0-9-1 section 4.2.6.1).
//!
//! ```text
//! 0          2        4           12               14
//! +----------+--------+-----------+----------------+------------- - -
//! | class-id | weight | body size | property flags | property list...
//! +----------+--------+-----------+----------------+------------- - -
//!    short     short    long long        short          remainder
//! ```
//!
//! The fourteen flags count from the highest bit. RabbitMQ takes no notice of the two lowest ones, so neither does
//! this: there is never a second word of flags.

mod owned;
#[cfg(test)]
mod tests;

pub use owned::BasicProperties;

use crate::table::Table;
use crate::wire::{Reader, WireError};

/// The only class with content.
pub const CLASS_BASIC: u16 = 60;

/// `delivery_mode` of a message that is written to disk.
pub const PERSISTENT: u8 = 2;

/// Why a payload is not a content header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Fewer than the twelve octets every content header has; [`frame::parse`](crate::frame::parse) lets none pass.
    #[error("content header is too short")]
    TooShort,
    /// The weight is not 0 (AMQP 0-9-1 section 4.2.6.1). RabbitMQ does not take this for a content header at all and
    /// closes with 505, `expected content header for class 60, got non content header frame instead`.
    #[error("weight of the content header is {0}, not 0")]
    Weight(u16),
    /// The properties of a basic message cannot be read. RabbitMQ closes with 541, INTERNAL_ERROR.
    #[error("malformed properties: {0}")]
    Properties(#[from] WireError),
}

/// What announces a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// Class of the method before it: 60, unless the client errs.
    pub class_id: u16,
    /// Size of the body, in octets; nothing has checked it against a limit.
    pub body_size: u64,
    /// The properties; empty for a class other than 60, whose octets mean nothing.
    pub properties: Properties<'a>,
}

impl<'a> ContentHeader<'a> {
    /// Reads the payload of a header frame.
    ///
    /// # Errors
    ///
    /// [`ContentError`]: too short, a weight, or properties that are malformed or leave octets over.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, ContentError> {
        let mut reader = Reader::new(payload);
        let (Ok(class_id), Ok(weight), Ok(body_size)) = (reader.u16(), reader.u16(), reader.u64()) else {
            return Err(ContentError::TooShort);
        };
        if weight != 0 {
            return Err(ContentError::Weight(weight));
        }
        let properties = match class_id {
            CLASS_BASIC => Properties::parse(reader.rest())?,
            _ => Properties::default(),
        };
        Ok(Self { class_id, body_size, properties })
    }

    /// Appends the payload of a header frame. For a whole frame see
    /// [`frame::write_content_header`](crate::frame::write_content_header).
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.class_id.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.body_size.to_be_bytes());
        out.extend_from_slice(self.properties.raw);
    }
}

/// Properties of a message: checked when made, still the octets they came as, read when asked.
///
/// Short strings are octets here; they pass through untouched whether or not they are UTF-8, as in RabbitMQ.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Properties<'a> {
    /// Flags and list.
    raw: &'a [u8],
}

/// How a property stands in the list.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    ShortStr,
    Table,
    Octet,
    LongLong,
}

/// The forms of the properties in the order of their flags, the highest bit first.
const FORMS: [Form; 14] = [
    Form::ShortStr, // content-type
    Form::ShortStr, // content-encoding
    Form::Table,    // headers
    Form::Octet,    // delivery-mode
    Form::Octet,    // priority
    Form::ShortStr, // correlation-id
    Form::ShortStr, // reply-to
    Form::ShortStr, // expiration
    Form::ShortStr, // message-id
    Form::LongLong, // timestamp
    Form::ShortStr, // type
    Form::ShortStr, // user-id
    Form::ShortStr, // app-id
    Form::ShortStr, // cluster-id
];

const CONTENT_TYPE: usize = 0;
const CONTENT_ENCODING: usize = 1;
const HEADERS: usize = 2;
const DELIVERY_MODE: usize = 3;
const PRIORITY: usize = 4;
const CORRELATION_ID: usize = 5;
const REPLY_TO: usize = 6;
const EXPIRATION: usize = 7;
const MESSAGE_ID: usize = 8;
const TIMESTAMP: usize = 9;
const KIND: usize = 10;
const USER_ID: usize = 11;
const APP_ID: usize = 12;
const CLUSTER_ID: usize = 13;

/// The flag of a property.
const fn flag(index: usize) -> u16 {
    0x8000 >> index
}

impl<'a> Properties<'a> {
    /// Checks property flags and list.
    ///
    /// # Errors
    ///
    /// A property ends early, the headers are not a table, or octets are left over.
    #[inline]
    pub fn parse(raw: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(raw);
        let flags = reader.u16()?;
        for (index, form) in FORMS.into_iter().enumerate() {
            if flags & flag(index) == 0 {
                continue;
            }
            match form {
                Form::Table => {
                    reader.table()?;
                }
                form => skip(&mut reader, form)?,
            }
        }
        reader.finish()?;
        Ok(Self { raw })
    }

    /// Properties of octets that have been through [`parse`](Self::parse) before, say because they come back from a
    /// store. On any others what the getters return makes no sense.
    #[must_use]
    #[inline]
    pub fn assume_checked(raw: &'a [u8]) -> Self {
        debug_assert!(Self::parse(raw).is_ok(), "not checked before");
        Self { raw }
    }

    /// Flags and list, exactly as they were given to [`parse`](Self::parse).
    #[must_use]
    #[inline]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    #[inline]
    fn flags(&self) -> u16 {
        self.raw.first_chunk().map_or(0, |flags| u16::from_be_bytes(*flags))
    }

    /// A reader at the start of a property, when it is there.
    #[inline]
    fn seek(&self, index: usize) -> Option<Reader<'a>> {
        let flags = self.flags();
        if flags & flag(index) == 0 {
            return None;
        }
        let mut reader = Reader::new(self.raw);
        reader.u16().ok()?;
        // Only the flags that are set above this one: leading_zeros finds the next.
        let mut before = flags & !(u16::MAX >> index);
        while before != 0 {
            let next = before.leading_zeros() as usize;
            skip(&mut reader, FORMS[next]).ok()?;
            before &= !flag(next);
        }
        Some(reader)
    }

    #[inline]
    fn shortbytes(&self, index: usize) -> Option<&'a [u8]> {
        self.seek(index)?.shortbytes().ok()
    }

    /// MIME type of the body.
    #[must_use]
    pub fn content_type(&self) -> Option<&'a [u8]> {
        self.shortbytes(CONTENT_TYPE)
    }

    /// Encoding of the body, such as gzip.
    #[must_use]
    pub fn content_encoding(&self) -> Option<&'a [u8]> {
        self.shortbytes(CONTENT_ENCODING)
    }

    /// Headers of the message.
    #[must_use]
    #[inline]
    pub fn headers(&self) -> Option<Table<'a>> {
        let octets = self.seek(HEADERS)?.longstr().ok()?;
        Some(Table::assume_checked(octets))
    }

    /// 1 for a transient message, [`PERSISTENT`] for one to be kept on disk.
    #[must_use]
    #[inline]
    pub fn delivery_mode(&self) -> Option<u8> {
        self.seek(DELIVERY_MODE)?.u8().ok()
    }

    /// Priority; higher goes first in a queue with priorities.
    #[must_use]
    #[inline]
    pub fn priority(&self) -> Option<u8> {
        self.seek(PRIORITY)?.u8().ok()
    }

    /// Ties an answer to its question.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&'a [u8]> {
        self.shortbytes(CORRELATION_ID)
    }

    /// Where the answer should go.
    #[must_use]
    pub fn reply_to(&self) -> Option<&'a [u8]> {
        self.shortbytes(REPLY_TO)
    }

    /// Time to live in milliseconds, as decimal digits.
    #[must_use]
    #[inline]
    pub fn expiration(&self) -> Option<&'a [u8]> {
        self.shortbytes(EXPIRATION)
    }

    /// Identifier chosen by the application.
    #[must_use]
    pub fn message_id(&self) -> Option<&'a [u8]> {
        self.shortbytes(MESSAGE_ID)
    }

    /// Time chosen by the application, in seconds since 1970.
    #[must_use]
    pub fn timestamp(&self) -> Option<u64> {
        self.seek(TIMESTAMP)?.u64().ok()
    }

    /// The `type` property, chosen by the application.
    #[must_use]
    pub fn kind(&self) -> Option<&'a [u8]> {
        self.shortbytes(KIND)
    }

    /// User who published; the server checks it.
    #[must_use]
    #[inline]
    pub fn user_id(&self) -> Option<&'a [u8]> {
        self.shortbytes(USER_ID)
    }

    /// Application that published.
    #[must_use]
    pub fn app_id(&self) -> Option<&'a [u8]> {
        self.shortbytes(APP_ID)
    }

    /// Reserved by the standard, passed through.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&'a [u8]> {
        self.shortbytes(CLUSTER_ID)
    }
}

impl Default for Properties<'_> {
    /// No property at all.
    fn default() -> Self {
        Self { raw: &[0, 0] }
    }
}

impl std::fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        BasicProperties::from(*self).fmt(f)
    }
}

#[inline]
fn skip(reader: &mut Reader<'_>, form: Form) -> Result<(), WireError> {
    match form {
        Form::ShortStr => reader.shortbytes().map(drop),
        Form::Table => reader.longstr().map(drop),
        Form::Octet => reader.u8().map(drop),
        Form::LongLong => reader.u64().map(drop),
    }
}
