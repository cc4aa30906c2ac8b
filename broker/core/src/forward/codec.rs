//! How frames between two nodes are written: little endian, texts and lists with their length in front.
//!
//! ```text
//! frame    kind u8 | generation u64 | item | item | ...
//! item     code u8 | fields
//! content  exchange u8+octets | routing key u8+octets | properties u32+octets | body u32+octets
//! ```

use crate::ids::QueueId;
use crate::message::MessageView;
use crate::queue::dead_letter::short;
use std::marker::PhantomData;

/// A frame with operations, origin to leader.
pub const OPS: u8 = 1;
/// A frame with answers, leader to origin.
pub const ANSWERS: u8 = 2;
/// Octets of a frame before its items.
pub const FRAME_HEAD: usize = 9;

/// The octets are no frame of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed frame between nodes")]
pub struct Malformed;

/// Begins a frame.
pub fn begin(out: &mut Vec<u8>, kind: u8, generation: u64) {
    out.push(kind);
    out.extend_from_slice(&generation.to_le_bytes());
}

/// Takes the head off a frame: kind, generation, items.
///
/// # Errors
/// When it is too short.
pub fn head(frame: &[u8]) -> Result<(u8, u64, &[u8]), Malformed> {
    let (head, items) = frame.split_at_checked(FRAME_HEAD).ok_or(Malformed)?;
    let mut reader = Reader(head);
    Ok((reader.u8()?, reader.u64()?, items))
}

/// Something of fixed size that lists hold.
pub trait Item: Copy {
    /// Octets of one.
    const SIZE: usize;
    /// Writes it.
    fn put(self, out: &mut Vec<u8>);
    /// Reads it from as many octets.
    fn get(octets: &[u8]) -> Self;
}

impl Item for u64 {
    const SIZE: usize = 8;

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn get(octets: &[u8]) -> u64 {
        octets.iter().rev().fold(0, |value, octet| value << 8 | u64::from(*octet))
    }
}

/// A queue that a message goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FarTarget {
    /// The queue.
    pub queue: QueueId,
    /// The epoch in which the origin knows it.
    pub epoch: u32,
    /// Which of the origin's publishes to this queue it is; 0 for one that is not sent again.
    pub number: u64,
}

impl FarTarget {
    /// Where in its octets the number begins.
    const NUMBER_AT: usize = 12;
}

impl Item for FarTarget {
    const SIZE: usize = 20;

    fn put(self, out: &mut Vec<u8>) {
        self.queue.0.put(out);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        self.number.put(out);
    }

    fn get(octets: &[u8]) -> FarTarget {
        FarTarget {
            queue: QueueId(u64::get(&octets[..8])),
            epoch: u64::get(&octets[8..12]) as u32,
            number: u64::get(&octets[12..20]),
        }
    }
}

/// Numbers the targets of an encoded list that have no number yet.
pub(super) fn number_targets(list: &mut [u8], mut next: impl FnMut(QueueId) -> u64) -> Result<(), Malformed> {
    let (head, items) = list.split_at_mut_checked(4).ok_or(Malformed)?;
    let count = u64::get(head) as usize;
    for item in items.chunks_exact_mut(FarTarget::SIZE).take(count) {
        let target = FarTarget::get(item);
        if target.number == 0 {
            item[FarTarget::NUMBER_AT..].copy_from_slice(&next(target.queue).to_le_bytes());
        }
    }
    Ok(())
}

/// A list, to be written or as it was read.
#[derive(Clone, Copy, Debug)]
pub enum List<'a, T> {
    /// Its items.
    Items(&'a [T]),
    /// The octets of its items.
    Octets(&'a [u8], PhantomData<T>),
}

impl<T: Item> List<'_, T> {
    /// How many items there are.
    pub fn len(&self) -> usize {
        match self {
            List::Items(items) => items.len(),
            List::Octets(octets, _) => octets.len() / T::SIZE,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.len()).map(|at| match self {
            List::Items(items) => items[at],
            List::Octets(octets, _) => T::get(&octets[at * T::SIZE..(at + 1) * T::SIZE]),
        })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.len() as u32).to_le_bytes());
        match self {
            List::Items(items) => items.iter().for_each(|item| item.put(out)),
            List::Octets(octets, _) => out.extend_from_slice(octets),
        }
    }
}

impl<T: Item + PartialEq> PartialEq for List<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|(one, other)| one == other)
    }
}

/// Writes a text of up to 255 octets; a longer one is cut at a character's border.
pub(super) fn put_short(out: &mut Vec<u8>, text: &str) {
    let text = short(text);
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// Writes octets with their length.
pub(super) fn put_long(out: &mut Vec<u8>, octets: &[u8]) {
    out.extend_from_slice(&(octets.len() as u32).to_le_bytes());
    out.extend_from_slice(octets);
}

/// Writes a message.
pub(super) fn put_content(out: &mut Vec<u8>, view: &MessageView<'_>) {
    put_short(out, view.exchange);
    put_short(out, view.routing_key);
    put_long(out, view.properties);
    put_long(out, view.body);
}

/// Octets that a message takes on the wire, about.
pub fn content_octets(view: &MessageView<'_>) -> usize {
    view.exchange.len() + view.routing_key.len() + view.properties.len() + view.body.len() + 16
}

/// Reads fields off the front of octets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, octets: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(octets).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u64::get(self.take(2)?) as u16)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u64::get(self.take(4)?) as u32)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::get(self.take(8)?))
    }

    pub(super) fn short(&mut self) -> Result<&'a str, Malformed> {
        let len = usize::from(self.u8()?);
        std::str::from_utf8(self.take(len)?).map_err(|_| Malformed)
    }

    pub(super) fn long(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    pub(super) fn list<T: Item>(&mut self) -> Result<List<'a, T>, Malformed> {
        let octets = (self.u32()? as usize).checked_mul(T::SIZE).ok_or(Malformed)?;
        Ok(List::Octets(self.take(octets)?, PhantomData))
    }

    pub(super) fn content(&mut self) -> Result<MessageView<'a>, Malformed> {
        Ok(MessageView {
            exchange: self.short()?,
            routing_key: self.short()?,
            properties: self.long()?,
            body: self.long()?,
        })
    }
}
