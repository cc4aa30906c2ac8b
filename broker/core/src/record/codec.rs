//! Encoding and decoding of records.

use thiserror::Error;

use super::lists::{Ranges, Targets};
use super::{At, DropReason, Enq, Message, PubRef, Record};

const ENQ: u8 = 1;
const ENQ_MULTI: u8 = 2;
const DROP: u8 = 3;
const REQUEUE: u8 = 4;
const HWM: u8 = 5;
const EPOCH: u8 = 6;
const QOPEN: u8 = 7;
const QCLOSE: u8 = 8;
const SEGADD: u8 = 9;
const SEGDEL: u8 = 10;
const CKPT: u8 = 11;
const TAKEN: u8 = 12;

const HAS_EXPIRY: u8 = 1;
const HAS_PRIORITY: u8 = 2;
const HAS_PUB_REF: u8 = 4;
const HAS_DELIVERY_COUNT: u8 = 8;
const MESSAGE_FLAGS: u8 = HAS_EXPIRY | HAS_PRIORITY | HAS_PUB_REF | HAS_DELIVERY_COUNT;

/// Exchange names and routing keys are short strings (AMQP 0-9-1 section 4.2.5.3).
const LONGEST_NAME: usize = u8::MAX as usize;

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end before the record does.
    #[error("record of {len} bytes is cut off after {have}")]
    Truncated {
        /// Length the record claims, 0 when even that is cut off.
        len: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A kind this version does not know: written by a newer one.
    #[error("record kind {0} is unknown to this version")]
    UnknownKind(u8),
    /// A flag this version does not know: written by a newer one.
    #[error("record kind {kind} has flags {flags:#04x} unknown to this version")]
    UnknownFlags {
        /// The record's kind.
        kind: u8,
        /// Its flags.
        flags: u8,
    },
    /// The fields do not fit the record's length or their own limits.
    #[error("record kind {0} has malformed fields")]
    Malformed(u8),
}

/// Takes encoded fields: once to count them, once to write them.
pub(super) trait Sink {
    fn byte(&mut self, value: u8);
    fn varint(&mut self, value: u64);
    fn bytes(&mut self, bytes: &[u8]);

    fn prefixed(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.bytes(bytes);
    }
}

/// Counts.
struct Count(usize);

impl Sink for Count {
    fn byte(&mut self, _: u8) {
        self.0 += 1;
    }

    fn varint(&mut self, value: u64) {
        // Seven bits to the byte, and at least one byte.
        self.0 += (70 - (value | 1).leading_zeros() as usize) / 7;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

impl Sink for Vec<u8> {
    fn byte(&mut self, value: u8) {
        self.push(value);
    }

    fn varint(&mut self, mut value: u64) {
        let mut buffer = [0u8; 10];
        let mut used = 0;
        while value >= 0x80 {
            buffer[used] = (value as u8 & 0x7f) | 0x80;
            value >>= 7;
            used += 1;
        }
        buffer[used] = value as u8;
        self.extend_from_slice(&buffer[..=used]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

pub(super) fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut count = Count(0);
    fields(record, &mut count);
    out.reserve(count.0 + 10);
    out.varint(count.0 as u64);
    let start = out.len();
    fields(record, out);
    debug_assert_eq!(out.len() - start, count.0, "the counted length is the written length");
}

fn fields<S: Sink>(record: &Record<'_>, sink: &mut S) {
    match record {
        Record::Enq(enq) => {
            let at = At { queue_id: enq.queue_id, epoch: enq.epoch, off: enq.off };
            head(sink, ENQ, flags(&enq.message), at);
            sink.varint(enq.qseq);
            message(sink, &enq.message);
        }
        Record::EnqMulti { targets, message: body } => {
            head(sink, ENQ_MULTI, flags(body), At::default());
            targets.encode(sink);
            message(sink, body);
        }
        Record::Drop { at, reason, ranges } => {
            head(sink, DROP, 0, *at);
            sink.byte(*reason as u8);
            ranges.encode(sink);
        }
        Record::Requeue { at, delivery_count_delta, ranges } => {
            head(sink, REQUEUE, 0, *at);
            sink.varint(u64::from(*delivery_count_delta));
            ranges.encode(sink);
        }
        Record::Hwm { at, hwm } => {
            head(sink, HWM, 0, *at);
            sink.varint(*hwm);
        }
        Record::Epoch { at, leader } => {
            head(sink, EPOCH, 0, *at);
            sink.varint(*leader);
        }
        Record::QOpen { at, next_qseq, hwm } => {
            head(sink, QOPEN, 0, *at);
            sink.varint(*next_qseq);
            sink.varint(*hwm);
        }
        Record::QClose { at } => head(sink, QCLOSE, 0, *at),
        Record::SegAdd { at, first_qseq, last_qseq, meta } => {
            head(sink, SEGADD, 0, *at);
            sink.varint(*first_qseq);
            sink.varint(*last_qseq);
            sink.prefixed(meta);
        }
        Record::SegDel { at, first_qseq } => {
            head(sink, SEGDEL, 0, *at);
            sink.varint(*first_qseq);
        }
        Record::Taken { at, origins } => {
            head(sink, TAKEN, 0, *at);
            sink.prefixed(origins);
        }
        Record::Ckpt { lsn } => {
            head(sink, CKPT, 0, At::default());
            sink.varint(*lsn);
        }
    }
}

fn head<S: Sink>(sink: &mut S, kind: u8, flags: u8, at: At) {
    sink.byte(kind);
    sink.byte(flags);
    sink.varint(at.queue_id);
    sink.varint(u64::from(at.epoch));
    sink.varint(at.off);
}

fn flags(message: &Message<'_>) -> u8 {
    let mut flags = 0;
    if message.expiry_ms.is_some() {
        flags |= HAS_EXPIRY;
    }
    if message.priority.is_some() {
        flags |= HAS_PRIORITY;
    }
    if message.pub_ref.is_some() {
        flags |= HAS_PUB_REF;
    }
    if message.delivery_count != 0 {
        flags |= HAS_DELIVERY_COUNT;
    }
    flags
}

fn message<S: Sink>(sink: &mut S, message: &Message<'_>) {
    sink.varint(message.enq_ms);
    if let Some(expiry_ms) = message.expiry_ms {
        sink.varint(expiry_ms);
    }
    if let Some(priority) = message.priority {
        sink.byte(priority);
    }
    if let Some(pub_ref) = message.pub_ref {
        sink.varint(pub_ref.origin);
        sink.varint(pub_ref.seq);
    }
    if message.delivery_count != 0 {
        sink.varint(u64::from(message.delivery_count));
    }
    sink.prefixed(message.exchange.as_bytes());
    sink.prefixed(message.routing_key.as_bytes());
    sink.prefixed(message.properties);
    sink.bytes(message.body);
}

pub(super) fn decode(bytes: &[u8]) -> Result<(Record<'_>, usize), DecodeError> {
    let mut reader = Reader::new(bytes);
    let Some(len) = reader.varint().and_then(|len| usize::try_from(len).ok()) else {
        return Err(DecodeError::Truncated { len: 0, have: bytes.len() });
    };
    let start = bytes.len() - reader.rest().len();
    let Some(content) = reader.take(len) else {
        return Err(DecodeError::Truncated { len, have: bytes.len() - start });
    };
    Ok((content_of(content)?, start + len))
}

fn content_of(content: &[u8]) -> Result<Record<'_>, DecodeError> {
    let &[kind, flags, ref rest @ ..] = content else {
        return Err(DecodeError::Malformed(0));
    };
    let known_flags = match kind {
        ENQ | ENQ_MULTI => MESSAGE_FLAGS,
        DROP..=TAKEN => 0,
        _ => return Err(DecodeError::UnknownKind(kind)),
    };
    if flags & !known_flags != 0 {
        return Err(DecodeError::UnknownFlags { kind, flags });
    }
    let mut reader = Reader::new(rest);
    let record = read_fields(kind, flags, &mut reader).ok_or(DecodeError::Malformed(kind))?;
    if reader.rest().is_empty() { Ok(record) } else { Err(DecodeError::Malformed(kind)) }
}

/// Reads the fields of a record of known `kind`; `None` when they are malformed.
fn read_fields<'a>(kind: u8, flags: u8, reader: &mut Reader<'a>) -> Option<Record<'a>> {
    let at = At { queue_id: reader.varint()?, epoch: reader.varint_u32()?, off: reader.varint()? };
    if matches!(kind, ENQ_MULTI | CKPT) && at != At::default() {
        return None;
    }
    Some(match kind {
        ENQ => Record::Enq(Enq {
            queue_id: at.queue_id,
            epoch: at.epoch,
            off: at.off,
            qseq: reader.varint()?,
            message: read_message(flags, reader)?,
        }),
        ENQ_MULTI => {
            Record::EnqMulti { targets: Targets::decode(reader)?, message: read_message(flags, reader)? }
        }
        DROP => {
            Record::Drop { at, reason: DropReason::from_u8(reader.byte()?)?, ranges: Ranges::decode(reader)? }
        }
        REQUEUE => Record::Requeue {
            at,
            delivery_count_delta: reader.varint_u32()?,
            ranges: Ranges::decode(reader)?,
        },
        HWM => Record::Hwm { at, hwm: reader.varint()? },
        EPOCH => Record::Epoch { at, leader: reader.varint()? },
        QOPEN => Record::QOpen { at, next_qseq: reader.varint()?, hwm: reader.varint()? },
        QCLOSE => Record::QClose { at },
        SEGADD => Record::SegAdd {
            at,
            first_qseq: reader.varint()?,
            last_qseq: reader.varint()?,
            meta: reader.prefixed()?,
        },
        SEGDEL => Record::SegDel { at, first_qseq: reader.varint()? },
        CKPT => Record::Ckpt { lsn: reader.varint()? },
        TAKEN => Record::Taken { at, origins: reader.prefixed()? },
        _ => return None,
    })
}

fn read_message<'a>(flags: u8, reader: &mut Reader<'a>) -> Option<Message<'a>> {
    let enq_ms = reader.varint()?;
    let expiry_ms = if flags & HAS_EXPIRY != 0 { Some(reader.varint()?) } else { None };
    let priority = if flags & HAS_PRIORITY != 0 { Some(reader.byte()?) } else { None };
    let pub_ref = if flags & HAS_PUB_REF != 0 {
        Some(PubRef { origin: reader.varint()?, seq: reader.varint()? })
    } else {
        None
    };
    let delivery_count =
        if flags & HAS_DELIVERY_COUNT != 0 { reader.varint_u32().filter(|&count| count != 0)? } else { 0 };
    Some(Message {
        enq_ms,
        expiry_ms,
        priority,
        pub_ref,
        delivery_count,
        exchange: reader.name()?,
        routing_key: reader.name()?,
        properties: reader.prefixed()?,
        body: reader.take(reader.rest().len())?,
    })
}

/// Reads fields off the front of a slice; `None` when it runs out.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only, and nobody writes more bytes than a number needs.
            if (shift == 63 && bits > 1) || (shift > 0 && byte == 0) {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn varint_u32(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn name(&mut self) -> Option<&'a str> {
        let name = self.prefixed()?;
        str::from_utf8(name).ok().filter(|name| name.len() <= LONGEST_NAME)
    }

    fn prefixed(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        self.take(len)
    }
}
