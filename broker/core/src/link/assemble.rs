//! Payloads that come in parts, put together again within bounds.

use super::frame::{FrameError, Head};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;

/// Octets that are made room for when a payload begins; the rest as it comes.
const FIRST_ROOM: usize = 1 << 20;

/// What one connection may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets of one payload.
    pub payload: u64,
    /// Payloads that are under way in parts at once.
    pub streams: usize,
    /// Octets of all of them together.
    pub sum: u64,
}

/// The payloads of one connection that are not complete yet.
#[derive(Debug)]
pub struct Assembler {
    limits: Limits,
    partial: BTreeMap<u32, Partial>,
    sum: u64,
}

#[derive(Debug)]
struct Partial {
    head: Head,
    total: u64,
    octets: BytesMut,
}

impl Assembler {
    /// Without any.
    #[must_use]
    pub fn new(limits: Limits) -> Assembler {
        Assembler { limits, partial: BTreeMap::new(), sum: 0 }
    }

    /// Whether a payload of this length is taken.
    ///
    /// # Errors
    /// It is too long.
    pub fn check(&self, octets: u64) -> Result<(), FrameError> {
        if octets > self.limits.payload {
            return Err(FrameError::TooLong(octets, self.limits.payload));
        }
        Ok(())
    }

    /// A payload begins.
    ///
    /// # Errors
    /// It is too long, or there are too many, or its number is taken.
    pub fn begin(&mut self, stream: u32, total: u64, head: Head, first: &[u8]) -> Result<(), FrameError> {
        self.check(total)?;
        if self.partial.contains_key(&stream) {
            return Err(FrameError::StreamInUse(stream));
        }
        if self.partial.len() >= self.limits.streams {
            return Err(FrameError::TooManyStreams(self.limits.streams));
        }
        if self.sum + total > self.limits.sum {
            return Err(FrameError::TooLong(self.sum + total, self.limits.sum));
        }
        // One that has all of it already would not come in parts.
        if first.len() as u64 >= total {
            return Err(FrameError::Beyond);
        }
        let room = usize::try_from(total).unwrap_or(usize::MAX).min(FIRST_ROOM).max(first.len());
        let mut octets = BytesMut::with_capacity(room);
        octets.extend_from_slice(first);
        self.sum += total;
        self.partial.insert(stream, Partial { head, total, octets });
        Ok(())
    }

    /// A payload goes on. Returns it when it is complete.
    ///
    /// # Errors
    /// Nothing began with this number, or it is longer than it said.
    pub fn more(&mut self, stream: u32, part: &[u8]) -> Result<Option<(Head, Bytes)>, FrameError> {
        let partial = self.partial.get_mut(&stream).ok_or(FrameError::UnknownStream)?;
        let have = (partial.octets.len() + part.len()) as u64;
        if have > partial.total {
            return Err(FrameError::Beyond);
        }
        partial.octets.extend_from_slice(part);
        if have < partial.total {
            return Ok(None);
        }
        Ok(self.take(stream).map(|partial| (partial.head, partial.octets.freeze())))
    }

    /// The rest of a payload does not come.
    ///
    /// # Errors
    /// Nothing began with this number.
    pub fn abandon(&mut self, stream: u32) -> Result<(), FrameError> {
        self.take(stream).map(|_| ()).ok_or(FrameError::UnknownStream)
    }

    /// Octets that it holds.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.partial.values().map(|partial| partial.octets.len() as u64).sum()
    }

    fn take(&mut self, stream: u32) -> Option<Partial> {
        let partial = self.partial.remove(&stream)?;
        self.sum -= partial.total;
        Some(partial)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    const HEAD: Head = Head::Frame { kind: Kind::Fill };

    fn assembler() -> Assembler {
        Assembler::new(Limits { payload: 10, streams: 2, sum: 15 })
    }

    #[test]
    fn parts_of_two_payloads_may_come_by_turns() {
        let mut assembler = assembler();
        let other = Head::Answer { number: 5 };
        assembler.begin(1, 4, HEAD, b"ab").unwrap();
        assembler.begin(2, 3, other, b"x").unwrap();
        assert_eq!(assembler.more(1, b"c"), Ok(None));
        assert_eq!(assembler.more(2, b"yz"), Ok(Some((other, Bytes::from_static(b"xyz")))));
        assert_eq!(assembler.more(1, b"d"), Ok(Some((HEAD, Bytes::from_static(b"abcd")))));
        assert_eq!(assembler.more(1, b"e"), Err(FrameError::UnknownStream));
        assert_eq!((assembler.held(), assembler.sum), (0, 0));
    }

    #[test]
    fn everything_has_a_bound() {
        let mut assembler = assembler();
        assert_eq!(assembler.begin(1, 11, HEAD, b"a"), Err(FrameError::TooLong(11, 10)));
        assert_eq!(assembler.begin(1, 1, HEAD, b"a"), Err(FrameError::Beyond));
        assembler.begin(1, 8, HEAD, b"a").unwrap();
        assert_eq!(assembler.begin(1, 2, HEAD, b"a"), Err(FrameError::StreamInUse(1)));
        assert_eq!(assembler.begin(2, 8, HEAD, b"a"), Err(FrameError::TooLong(16, 15)));
        assembler.begin(2, 7, HEAD, b"a").unwrap();
        assert_eq!(assembler.begin(3, 2, HEAD, b"a"), Err(FrameError::TooManyStreams(2)));
        assert_eq!(assembler.more(1, b"12345678"), Err(FrameError::Beyond));
        assert_eq!(assembler.abandon(2), Ok(()));
        assert_eq!(assembler.abandon(2), Err(FrameError::UnknownStream));
        assembler.begin(3, 2, HEAD, b"a").unwrap();
    }
}
