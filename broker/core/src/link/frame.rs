//! Frames between nodes, after the greeting.
//!
//! ```text
//!  0        4      5
//! +--------+------+- - - - - - - - - - - -+- - - - - -+
//! | length | type | fields of the type    | payload   |     integers are little endian;
//! +--------+------+- - - - - - - - - - - -+- - - - - -+     `length` counts what follows it
//!
//! 1 frame    kind u8                                       payload
//! 2 call     kind u8, number u32, patience in ms u32       payload
//! 3 answer   number u32                                    payload
//! 4 failed   number u32                                    payload: why, in words
//! 5 cancel   number u32
//! 6 ping     token u64
//! 7 pong     token u64
//! 8 begin    stream u32, total u64, one of 1 to 4 with its fields     first octets of its payload
//! 9 more     stream u32                                               further octets
//! 10 abandon stream u32
//! ```
//!
//! A payload above [`CHUNK`] octets goes as `begin` and `more`, with other frames between them.

use super::Kind;
use bytes::{Buf, BufMut};
use std::ops::Range;

/// Octets of payload that one frame holds at most.
pub const CHUNK: usize = 256 << 10;
/// Octets that a frame has beside its payload at most, its length field included.
pub const MAX_HEADER: usize = 32;
const LENGTH: usize = 4;

const FRAME: u8 = 1;
const CALL: u8 = 2;
const ANSWER: u8 = 3;
const FAILED: u8 = 4;
const CANCEL: u8 = 5;
const PING: u8 = 6;
const PONG: u8 = 7;
const BEGIN: u8 = 8;
const MORE: u8 = 9;
const ABANDON: u8 = 10;

/// What a payload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Head {
    /// It goes to the handler of its kind.
    Frame {
        /// Which handler.
        kind: Kind,
    },
    /// It is to be answered.
    Call {
        /// Which handler.
        kind: Kind,
        /// By this number the answer is known.
        number: u32,
        /// After so many milliseconds nobody waits for the answer any more.
        patience_ms: u32,
    },
    /// It answers a call.
    Answer {
        /// Which call.
        number: u32,
    },
    /// It says why a call is not answered.
    Failed {
        /// Which call.
        number: u32,
    },
}

/// One frame, without its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    /// With the whole payload.
    Whole(Head),
    /// With the first octets of a payload.
    Begin {
        /// By this number the others are known.
        stream: u32,
        /// Octets of the whole payload.
        total: u64,
        /// What the payload is.
        head: Head,
    },
    /// With further octets of a payload.
    More {
        /// Of which.
        stream: u32,
    },
    /// The rest of a payload does not come.
    Abandon {
        /// Of which.
        stream: u32,
    },
    /// Nobody waits for the answer of a call any more.
    Cancel {
        /// Which call.
        number: u32,
    },
    /// Is somebody there?
    Ping {
        /// Comes back in the answer.
        token: u64,
    },
    /// Yes.
    Pong {
        /// What the ping had.
        token: u64,
    },
}

/// What stands at the front of a read buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A frame, and where its payload is. The frame ends with its payload.
    Item(Item, Range<usize>),
    /// The buffer has to have this many octets before more can be said.
    Need(usize),
}

/// Octets that are no frame, or one that breaks a bound.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// Its length is none that a frame can have.
    #[error("a frame of {0} octets, where {max} are the most", max = CHUNK + MAX_HEADER)]
    Length(u32),
    /// Its fields do not fit into its length.
    #[error("a frame that is cut short")]
    Short,
    /// A type of frame that this version does not know.
    #[error("a frame of the unknown type {0}")]
    Type(u8),
    /// A kind that this version does not know.
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    /// A payload where there is none.
    #[error("a payload in a frame of type {0}, which has none")]
    Payload(u8),
    /// A payload that is longer than is taken.
    #[error("a payload of {0} octets, where {1} are the most")]
    TooLong(u64, u64),
    /// Parts of a payload whose beginning was not there.
    #[error("a part of an unknown payload")]
    UnknownStream,
    /// Two payloads with one number.
    #[error("two payloads with the number {0}")]
    StreamInUse(u32),
    /// More payloads at once than are taken.
    #[error("parts of more than {0} payloads at once")]
    TooManyStreams(usize),
    /// A part without octets.
    #[error("a part of a payload without an octet")]
    EmptyPart,
    /// More octets than the payload has.
    #[error("parts that are longer together than their payload")]
    Beyond,
}

/// Reads the frame at the front of `octets`.
///
/// # Errors
/// What is there is no frame; the connection can not be read any further.
pub fn decode(octets: &[u8]) -> Result<Step, FrameError> {
    let Some((length, rest)) = octets.split_first_chunk::<LENGTH>() else { return Ok(Step::Need(LENGTH)) };
    let length = u32::from_le_bytes(*length);
    let size = length as usize;
    if size == 0 || size > CHUNK + MAX_HEADER - LENGTH {
        return Err(FrameError::Length(length));
    }
    let Some(mut fields) = rest.get(..size) else { return Ok(Step::Need(LENGTH + size)) };
    let item = item(&mut fields)?;
    let end = LENGTH + size;
    let payload = end - fields.len()..end;
    match item {
        Item::Whole(_) | Item::Begin { .. } | Item::More { .. } if payload.len() > CHUNK => {
            Err(FrameError::Length(length))
        }
        Item::Begin { .. } | Item::More { .. } if payload.is_empty() => Err(FrameError::EmptyPart),
        Item::Whole(_) | Item::Begin { .. } | Item::More { .. } => Ok(Step::Item(item, payload)),
        _ if payload.is_empty() => Ok(Step::Item(item, payload)),
        _ => Err(FrameError::Payload(rest[0])),
    }
}

fn item(fields: &mut &[u8]) -> Result<Item, FrameError> {
    let stream = |fields: &mut &[u8]| fields.try_get_u32_le().map_err(|_| FrameError::Short);
    let token = |fields: &mut &[u8]| fields.try_get_u64_le().map_err(|_| FrameError::Short);
    let kind = fields.first().copied().ok_or(FrameError::Short)?;
    if let FRAME..=FAILED = kind {
        return head(fields).map(Item::Whole);
    }
    fields.advance(1);
    match kind {
        CANCEL => Ok(Item::Cancel { number: stream(fields)? }),
        PING => Ok(Item::Ping { token: token(fields)? }),
        PONG => Ok(Item::Pong { token: token(fields)? }),
        BEGIN => Ok(Item::Begin { stream: stream(fields)?, total: token(fields)?, head: head(fields)? }),
        MORE => Ok(Item::More { stream: stream(fields)? }),
        ABANDON => Ok(Item::Abandon { stream: stream(fields)? }),
        unknown => Err(FrameError::Type(unknown)),
    }
}

fn head(fields: &mut &[u8]) -> Result<Head, FrameError> {
    let number = |fields: &mut &[u8]| fields.try_get_u32_le().map_err(|_| FrameError::Short);
    let kind = |fields: &mut &[u8]| {
        let octet = fields.try_get_u8().map_err(|_| FrameError::Short)?;
        Kind::from_octet(octet).ok_or(FrameError::Kind(octet))
    };
    match fields.try_get_u8().map_err(|_| FrameError::Short)? {
        FRAME => Ok(Head::Frame { kind: kind(fields)? }),
        CALL => Ok(Head::Call { kind: kind(fields)?, number: number(fields)?, patience_ms: number(fields)? }),
        ANSWER => Ok(Head::Answer { number: number(fields)? }),
        FAILED => Ok(Head::Failed { number: number(fields)? }),
        unknown => Err(FrameError::Type(unknown)),
    }
}

impl Head {
    fn size(self) -> usize {
        match self {
            Head::Frame { .. } => 2,
            Head::Call { .. } => 10,
            Head::Answer { .. } | Head::Failed { .. } => 5,
        }
    }

    fn put(self, out: &mut impl BufMut) {
        match self {
            Head::Frame { kind } => {
                out.put_u8(FRAME);
                out.put_u8(kind as u8);
            }
            Head::Call { kind, number, patience_ms } => {
                out.put_u8(CALL);
                out.put_u8(kind as u8);
                out.put_u32_le(number);
                out.put_u32_le(patience_ms);
            }
            Head::Answer { number } => {
                out.put_u8(ANSWER);
                out.put_u32_le(number);
            }
            Head::Failed { number } => {
                out.put_u8(FAILED);
                out.put_u32_le(number);
            }
        }
    }
}

impl Item {
    /// Writes everything that stands before the payload, of which there will be `payload` octets, at most
    /// [`CHUNK`].
    pub fn encode(self, payload: usize, out: &mut impl BufMut) {
        debug_assert!(payload <= CHUNK, "a payload of {payload} octets has to go in parts");
        let size = payload + self.size();
        // A payload is no longer than a chunk.
        out.put_u32_le(u32::try_from(size).unwrap_or(u32::MAX));
        match self {
            Item::Whole(head) => head.put(out),
            Item::Begin { stream, total, head } => {
                out.put_u8(BEGIN);
                out.put_u32_le(stream);
                out.put_u64_le(total);
                head.put(out);
            }
            Item::More { stream } => {
                out.put_u8(MORE);
                out.put_u32_le(stream);
            }
            Item::Abandon { stream } => {
                out.put_u8(ABANDON);
                out.put_u32_le(stream);
            }
            Item::Cancel { number } => {
                out.put_u8(CANCEL);
                out.put_u32_le(number);
            }
            Item::Ping { token } => {
                out.put_u8(PING);
                out.put_u64_le(token);
            }
            Item::Pong { token } => {
                out.put_u8(PONG);
                out.put_u64_le(token);
            }
        }
    }

    /// Octets between the length field and the payload.
    fn size(self) -> usize {
        match self {
            Item::Whole(head) => head.size(),
            Item::Begin { head, .. } => 13 + head.size(),
            Item::More { .. } | Item::Abandon { .. } | Item::Cancel { .. } => 5,
            Item::Ping { .. } | Item::Pong { .. } => 9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(item: Item, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        item.encode(payload.len(), &mut out);
        assert!(out.len() <= MAX_HEADER, "{item:?}");
        out.extend_from_slice(payload);
        out
    }

    /// Octets as they stand on the wire: they may never change while the protocol's version does not.
    #[test]
    fn frames_have_these_octets() {
        let frame = Item::Whole(Head::Frame { kind: Kind::Forward });
        assert_eq!(encoded(frame, b"hi"), b"\x04\0\0\0\x01\x05hi");
        let call = Item::Whole(Head::Call { kind: Kind::Raft, number: 7, patience_ms: 500 });
        assert_eq!(encoded(call, b"!"), b"\x0b\0\0\0\x02\x01\x07\0\0\0\xf4\x01\0\0!");
        assert_eq!(encoded(Item::Whole(Head::Answer { number: 7 }), b""), b"\x05\0\0\0\x03\x07\0\0\0");
        let begin = Item::Begin { stream: 3, total: 9, head: Head::Failed { number: 1 } };
        assert_eq!(encoded(begin, b"x"), b"\x13\0\0\0\x08\x03\0\0\0\x09\0\0\0\0\0\0\0\x04\x01\0\0\0x");
        assert_eq!(encoded(Item::Ping { token: 1 }, b""), b"\x09\0\0\0\x06\x01\0\0\0\0\0\0\0");
    }

    #[test]
    fn what_is_not_all_there_yet_says_how_much_is_needed() {
        let whole = encoded(Item::Whole(Head::Frame { kind: Kind::Beat }), b"beat");
        assert_eq!(decode(&whole[..3]), Ok(Step::Need(4)));
        for cut in 4..whole.len() {
            assert_eq!(decode(&whole[..cut]), Ok(Step::Need(whole.len())));
        }
        let item = Item::Whole(Head::Frame { kind: Kind::Beat });
        assert_eq!(decode(&whole), Ok(Step::Item(item, 6..10)));
    }

    #[test]
    fn lengths_are_bounded_before_anything_is_waited_for() {
        for length in [0, (CHUNK + MAX_HEADER) as u32, 1 << 31, u32::MAX] {
            assert_eq!(decode(&length.to_le_bytes()), Err(FrameError::Length(length)));
        }
        let longest = encoded(Item::More { stream: 1 }, &vec![1; CHUNK]);
        assert_eq!(decode(&longest), Ok(Step::Item(Item::More { stream: 1 }, 9..9 + CHUNK)));
        let mut longer = longest.clone();
        longer.push(1);
        longer[..4].copy_from_slice(&(CHUNK as u32 + 6).to_le_bytes());
        assert_eq!(decode(&longer), Err(FrameError::Length(CHUNK as u32 + 6)));
    }

    #[test]
    fn unknown_types_and_kinds_and_short_fields_are_refused() {
        assert_eq!(decode(b"\x01\0\0\0\x0b"), Err(FrameError::Type(11)));
        assert_eq!(decode(b"\x02\0\0\0\x01\x09"), Err(FrameError::Kind(9)));
        assert_eq!(decode(b"\x02\0\0\0\x05\x09"), Err(FrameError::Short));
        assert_eq!(decode(b"\x06\0\0\0\x05\x01\0\0\0!"), Err(FrameError::Payload(CANCEL)));
        // A beginning within a beginning.
        assert_eq!(decode(b"\x0e\0\0\0\x08\x01\0\0\0\x01\0\0\0\0\0\0\0\x08"), Err(FrameError::Type(BEGIN)));
        assert_eq!(decode(b"\x05\0\0\0\x09\x01\0\0\0"), Err(FrameError::EmptyPart));
    }
}
