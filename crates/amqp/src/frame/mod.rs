//! Frames (AMQP 0-9-1 section 4.2.3).
//!
//! ```text
//! 0      1         3             7                  size+7 size+8
//! +------+---------+-------------+  +------------+  +-----------+
//! | type | channel |     size    |  |  payload   |  | frame-end |
//! +------+---------+-------------+  +------------+  +-----------+
//!  octet   short        long         size octets       0xCE
//! ```

#[cfg(test)]
mod tests;
mod write;

pub use write::{
    body_frame_header, write_ack, write_body, write_content_header, write_deliver, write_fields,
    write_heartbeat, write_method,
};

use crate::{FRAME_END, erlang};

/// Octets of a frame that are not payload: seven before it, one after it.
pub const FRAME_OVERHEAD: u32 = 8;

/// Octets before the payload.
pub const HEADER_SIZE: usize = 7;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A method.
    Method,
    /// A content header.
    Header,
    /// A piece of a content body.
    Body,
    /// Nothing: a sign of life.
    Heartbeat,
}

impl FrameKind {
    /// The type octet.
    #[must_use]
    pub const fn octet(self) -> u8 {
        match self {
            Self::Method => 1,
            Self::Header => 2,
            Self::Body => 3,
            Self::Heartbeat => 8,
        }
    }
}

/// One frame, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: FrameKind,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// What lies between the header and the frame end.
    pub payload: &'a [u8],
}

/// Why what is in the read buffer is not a frame. Each of these ends the connection with 501.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced payload is larger than was negotiated.
    #[error("frame of type {kind} on channel {channel} announces {size} octets of at most {limit}")]
    TooLarge {
        /// Type octet.
        kind: u8,
        /// Channel of the frame.
        channel: u16,
        /// Announced payload, in octets.
        size: u32,
        /// Largest payload that fits the negotiated frame_max, in octets.
        limit: u32,
    },
    /// No such frame: an unknown type, a heartbeat with a payload, or a method or content header too short to
    /// be one.
    #[error("no frame of type {kind} has {size} octets (channel {channel})")]
    UnknownType {
        /// Type octet.
        kind: u8,
        /// Channel of the frame.
        channel: u16,
        /// Announced payload, in octets.
        size: u32,
    },
    /// The frame does not end with the frame end octet.
    #[error("frame of type {kind} on channel {channel} ends with {end:#04x}")]
    BadEnd {
        /// Type octet.
        kind: u8,
        /// Channel of the frame.
        channel: u16,
        /// Payload, in octets.
        size: u32,
        /// The octet found where 0xCE should be.
        end: u8,
    },
}

impl FrameError {
    /// The words RabbitMQ puts after `FRAME_ERROR - ` (501), such as
    /// `type 9, all octets = <<"abc">>: unknown_frame`.
    ///
    /// `buf` is what was given to [`parse`]; the payload is quoted as far as it is there.
    #[must_use]
    pub fn explanation(&self, buf: &[u8]) -> String {
        let rest = buf.get(HEADER_SIZE..).unwrap_or_default();
        let payload = |size: u32| &rest[..rest.len().min(size as usize)];
        match *self {
            // RabbitMQ refuses it before it reads a payload, so there is none to quote.
            Self::TooLarge { kind, size, limit, .. } => {
                format!("{}: {{frame_too_large,{size},{limit}}}", snippet(kind, &[]))
            }
            Self::UnknownType { kind, size, .. } => snippet(kind, payload(size)) + ": unknown_frame",
            Self::BadEnd { kind, size, end, .. } => {
                let mut text = snippet(kind, payload(size)) + ": ";
                erlang::push_pair(&mut text, "invalid_frame_end_marker", end);
                text
            }
        }
    }

    /// The channel the frame was on.
    #[must_use]
    pub fn channel(&self) -> u16 {
        match *self {
            Self::TooLarge { channel, .. }
            | Self::UnknownType { channel, .. }
            | Self::BadEnd { channel, .. } => channel,
        }
    }
}

impl Frame<'_> {
    /// The words RabbitMQ puts after `UNEXPECTED_FRAME - ` (505) for a frame that has no place on its channel,
    /// such as `type 8, all octets = <<>>` for a heartbeat on channel 1.
    #[must_use]
    pub fn unexpected_explanation(&self) -> String {
        snippet(self.kind.octet(), self.payload)
    }
}

/// `type T, all octets = <<...>>`, or the first 16 octets of a longer payload.
fn snippet(kind: u8, payload: &[u8]) -> String {
    let (words, shown) = match payload.get(..16) {
        Some(first) if payload.len() > 16 => ("first 16", first),
        _ => ("all", payload),
    };
    let mut text = format!("type {kind}, {words} octets = ");
    erlang::push_binary(&mut text, shown);
    text
}

/// Reads the frame at the start of `buf`.
///
/// `Ok(None)` asks for more octets; otherwise the frame and how many octets of `buf` it takes. `frame_max` is the
/// negotiated size of a whole frame in octets, 0 for no limit. Like RabbitMQ this tolerates a payload of
/// frame_max octets, 8 more than the standard allows, because some clients count that way.
///
/// # Errors
///
/// [`FrameError`], for an oversized or unknown frame as soon as its seven-octet header is there, so that nobody can
/// make us keep a payload we will refuse.
#[inline]
pub fn parse(buf: &[u8], frame_max: u32) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((&[octet, c0, c1, s0, s1, s2, s3], rest)) = buf.split_first_chunk::<HEADER_SIZE>() else {
        return Ok(None);
    };
    let channel = u16::from_be_bytes([c0, c1]);
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    if frame_max != 0 && size > frame_max {
        let limit = frame_max.saturating_sub(FRAME_OVERHEAD);
        return Err(FrameError::TooLarge { kind: octet, channel, size, limit });
    }
    let Some(kind) = kind_of(octet, size) else {
        return Err(FrameError::UnknownType { kind: octet, channel, size });
    };
    // On a 32-bit machine a frame near 4 GiB cannot be held; it just never completes.
    let Some((payload, after)) = rest.split_at_checked(size as usize) else { return Ok(None) };
    match after.first() {
        None => Ok(None),
        Some(&FRAME_END) => Ok(Some((Frame { kind, channel, payload }, HEADER_SIZE + payload.len() + 1))),
        Some(&end) => Err(FrameError::BadEnd { kind: octet, channel, size, end }),
    }
}

/// The kind of a type octet, when a payload of this size can be of that kind (RabbitMQ calls the rest
/// `unknown_frame`).
#[inline]
fn kind_of(octet: u8, size: u32) -> Option<FrameKind> {
    match octet {
        1 if size >= 4 => Some(FrameKind::Method),
        2 if size >= 12 => Some(FrameKind::Header),
        3 => Some(FrameKind::Body),
        8 if size == 0 => Some(FrameKind::Heartbeat),
        _ => None,
    }
}
