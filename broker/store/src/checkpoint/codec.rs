//! The bytes of a checkpoint.

use super::{Checkpoint, LiveRange, Problem, QueueState, SegmentState};
use crate::Lsn;
use crate::le::{u32_at, u64_at};
use crate::segment::SegmentMeta;

const MAGIC: &[u8; 4] = b"RCK1";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 64;
const BLOCK_HEADER_BYTES: usize = 16;
/// A block is closed when it reaches this size.
const BLOCK_BYTES: usize = 64 << 10;

pub(super) fn encode(checkpoint: &Checkpoint, storage_uuid: &[u8; 16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + checkpoint.queues.len() * 64);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&0u16.to_le_bytes());
    out.extend_from_slice(&checkpoint.lsn.to_le_bytes());
    out.extend_from_slice(storage_uuid);
    out.extend_from_slice(&(checkpoint.queues.len() as u64).to_le_bytes());
    let seed = crc32c::crc32c(&out);
    out.extend_from_slice(&seed.to_le_bytes());
    out.resize(HEADER_BYTES, 0);
    let mut block = Block::start(&mut out, 0);
    for queue in &checkpoint.queues {
        if out.len() - block.start >= BLOCK_BYTES {
            let next = block.number + 1;
            block.finish(&mut out, seed);
            block = Block::start(&mut out, next);
        }
        put_queue(&mut out, queue);
        block.queues += 1;
    }
    block.finish(&mut out, seed);
    out
}

struct Block {
    start: usize,
    number: u32,
    queues: u32,
}

impl Block {
    fn start(out: &mut Vec<u8>, number: u32) -> Self {
        let start = out.len();
        out.resize(start + BLOCK_HEADER_BYTES, 0);
        Self { start, number, queues: 0 }
    }

    fn finish(self, out: &mut [u8], seed: u32) {
        let block = &mut out[self.start..];
        let len = (block.len() - BLOCK_HEADER_BYTES) as u32;
        block[4..8].copy_from_slice(&self.number.to_le_bytes());
        block[8..12].copy_from_slice(&self.queues.to_le_bytes());
        block[12..16].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &block[4..]);
        block[0..4].copy_from_slice(&crc.to_le_bytes());
    }
}

fn put_queue(out: &mut Vec<u8>, queue: &QueueState) {
    put(out, queue.queue_id);
    put(out, u64::from(queue.epoch));
    put(out, queue.next_qseq);
    put(out, queue.next_off);
    put(out, queue.hwm);
    // Node numbers are small; the largest one would not survive, and does not exist.
    put(out, queue.leader.map_or(0, |leader| leader.saturating_add(1)));
    put(out, queue.epochs.len() as u64);
    for &(epoch, first_off) in &queue.epochs {
        put(out, u64::from(epoch));
        put(out, first_off);
    }
    put(out, queue.resident.len() as u64);
    let mut end = 0u64;
    for range in &queue.resident {
        debug_assert!(end <= range.first_qseq && range.first_qseq <= range.last_qseq, "ranges ascend");
        put(out, range.first_qseq - end);
        put(out, range.last_qseq - range.first_qseq);
        put(out, range.first_lsn);
        put(out, range.last_lsn);
        end = range.last_qseq;
    }
    put(out, queue.segments.len() as u64);
    for SegmentState { meta, live } in &queue.segments {
        put(out, meta.first_qseq);
        put(out, meta.last_qseq - meta.first_qseq);
        put(out, u64::from(meta.messages));
        put(out, u64::from(*live));
        put(out, meta.bytes);
        put(out, meta.earliest_expiry_ms.unwrap_or(0));
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn decode(bytes: &[u8], lsn: Lsn, storage_uuid: &[u8; 16]) -> Result<Checkpoint, Problem> {
    if bytes.len() < HEADER_BYTES || &bytes[..4] != MAGIC {
        return Err(Problem::Header);
    }
    let seed = crc32c::crc32c(&bytes[..40]);
    if seed != u32_at(bytes, 40) {
        return Err(Problem::Header);
    }
    match u16::from_le_bytes([bytes[4], bytes[5]]) {
        VERSION => {}
        version => return Err(Problem::Newer(version)),
    }
    if &bytes[16..32] != storage_uuid {
        return Err(Problem::Foreign);
    }
    if u64_at(bytes, 8) != lsn {
        return Err(Problem::Header);
    }
    let mut checkpoint = Checkpoint { lsn, queues: Vec::new() };
    let mut rest = &bytes[HEADER_BYTES..];
    let mut number = 0;
    while !rest.is_empty() {
        let block = block_of(rest, number, seed).ok_or(Problem::Block(number))?;
        let mut content = &block[BLOCK_HEADER_BYTES..];
        for _ in 0..u32_at(block, 8) {
            checkpoint.queues.push(take_queue(&mut content).ok_or(Problem::Block(number))?);
        }
        if !content.is_empty() {
            return Err(Problem::Block(number));
        }
        rest = &rest[block.len()..];
        number += 1;
    }
    if checkpoint.queues.len() as u64 == u64_at(bytes, 32) {
        Ok(checkpoint)
    } else {
        Err(Problem::Block(number))
    }
}

fn block_of(rest: &[u8], number: u32, seed: u32) -> Option<&[u8]> {
    let len = u32_at(rest.get(..BLOCK_HEADER_BYTES)?, 12) as usize;
    let block = rest.get(..BLOCK_HEADER_BYTES + len)?;
    let right = u32_at(block, 4) == number && crc32c::crc32c_append(seed, &block[4..]) == u32_at(block, 0);
    right.then_some(block)
}

fn take_queue(bytes: &mut &[u8]) -> Option<QueueState> {
    let mut queue = QueueState {
        queue_id: take(bytes)?,
        epoch: take_u32(bytes)?,
        next_qseq: take(bytes)?,
        next_off: take(bytes)?,
        hwm: take(bytes)?,
        leader: take(bytes)?.checked_sub(1),
        ..QueueState::default()
    };
    // Lists grow as their items are found, not by the number they claim to have.
    for _ in 0..take(bytes)? {
        queue.epochs.push((take_u32(bytes)?, take(bytes)?));
    }
    let mut end = 0u64;
    for _ in 0..take(bytes)? {
        let first_qseq = end.checked_add(take(bytes)?)?;
        let last_qseq = first_qseq.checked_add(take(bytes)?)?;
        let (first_lsn, last_lsn) = (take(bytes)?, take(bytes)?);
        queue.resident.push(LiveRange { first_qseq, last_qseq, first_lsn, last_lsn });
        end = last_qseq;
    }
    for _ in 0..take(bytes)? {
        let first_qseq = take(bytes)?;
        let last_qseq = first_qseq.checked_add(take(bytes)?)?;
        let (messages, live, size) = (take_u32(bytes)?, take_u32(bytes)?, take(bytes)?);
        let expiry = take(bytes)?;
        let meta = SegmentMeta {
            queue_id: queue.queue_id,
            first_qseq,
            last_qseq,
            messages,
            bytes: size,
            earliest_expiry_ms: (expiry != 0).then_some(expiry),
        };
        queue.segments.push(SegmentState { meta, live });
    }
    Some(queue)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    u32::try_from(take(bytes)?).ok()
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
