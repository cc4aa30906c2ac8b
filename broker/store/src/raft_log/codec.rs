//! The bytes of a journal item and of a snapshot. Little endian; ours alone, so that a library's own layout
//! never decides what is on the disk.
//!
//! ```text
//! item
//!  0  u8 version     1
//!  1  u8 operation   1 vote, 2 entry, 3 truncate
//!  2  vote:          u64 term, u64 node, u8 won
//!     entry:         u64 term, u64 node, u64 index, u8 kind (0 blank, 1 command, 2 members), payload
//!     truncate:      entry id of the last one that stays, or nothing when none does
//!
//! snapshot
//!  0  u8 version     1
//!  1  u8 has_vote    then the vote
//!     u8 has_last    then the id of the last entry in the snapshot (term, node, index)
//!     u32 length     then the members
//!     u32 count      then for each entry behind the snapshot: u32 length, item
//!     the state, up to the end
//! ```

use super::{LogEntry, LogId, Payload, SnapshotHead, Vote};
use bytes::Bytes;

const VERSION: u8 = 1;
const VOTE: u8 = 1;
const ENTRY: u8 = 2;
const TRUNCATE: u8 = 3;
const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERS: u8 = 2;

/// What a journal item says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Vote(Vote),
    Entry(LogEntry),
    Truncate(Option<LogId>),
}

/// A snapshot, taken apart; the state follows in the octets it was taken from.
#[derive(Debug)]
pub(super) struct Snapshot<'a> {
    pub(super) vote: Option<Vote>,
    pub(super) head: SnapshotHead,
    pub(super) entries: Vec<LogEntry>,
    pub(super) state: &'a [u8],
}

pub(super) fn vote(vote: Vote) -> Vec<u8> {
    let mut out = vec![VERSION, VOTE];
    put_vote(&mut out, vote);
    out
}

pub(super) fn entry(entry: &LogEntry) -> Vec<u8> {
    let (kind, payload): (u8, &[u8]) = match &entry.payload {
        Payload::Blank => (BLANK, &[]),
        Payload::Command(octets) => (COMMAND, octets),
        Payload::Members(octets) => (MEMBERS, octets),
    };
    let mut out = Vec::with_capacity(27 + payload.len());
    out.extend_from_slice(&[VERSION, ENTRY]);
    put_id(&mut out, entry.id);
    out.push(kind);
    out.extend_from_slice(payload);
    out
}

pub(super) fn truncate(last: Option<LogId>) -> Vec<u8> {
    let mut out = vec![VERSION, TRUNCATE];
    if let Some(id) = last {
        put_id(&mut out, id);
    }
    out
}

pub(super) fn snapshot<'a>(
    vote: Option<Vote>,
    head: &SnapshotHead,
    entries: impl Iterator<Item = &'a LogEntry>,
    state: &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(state.len() + 256);
    out.push(VERSION);
    out.push(u8::from(vote.is_some()));
    if let Some(vote) = vote {
        put_vote(&mut out, vote);
    }
    out.push(u8::from(head.last.is_some()));
    if let Some(id) = head.last {
        put_id(&mut out, id);
    }
    put_sized(&mut out, &head.members);
    let count_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut count = 0u32;
    for one in entries {
        put_sized(&mut out, &entry(one));
        count += 1;
    }
    out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
    out.extend_from_slice(state);
    out
}

/// Reads a journal item.
pub(super) fn item(octets: &[u8]) -> Result<Item, String> {
    let mut rest = Rest(octets);
    rest.version()?;
    let item = match rest.octet()? {
        VOTE => Item::Vote(rest.vote()?),
        ENTRY => {
            let id = rest.id()?;
            let kind = rest.octet()?;
            let octets = Bytes::copy_from_slice(std::mem::take(&mut rest.0));
            let payload = match kind {
                BLANK if octets.is_empty() => Payload::Blank,
                BLANK => return Err(format!("{} octets in an entry that says nothing", octets.len())),
                COMMAND => Payload::Command(octets),
                MEMBERS => Payload::Members(octets),
                kind => return Err(format!("kind of entry {kind} is unknown to this version")),
            };
            Item::Entry(LogEntry { id, payload })
        }
        TRUNCATE if rest.0.is_empty() => Item::Truncate(None),
        TRUNCATE => Item::Truncate(Some(rest.id()?)),
        operation => return Err(format!("operation {operation} is unknown to this version")),
    };
    if rest.0.is_empty() { Ok(item) } else { Err(format!("{} octets too many", rest.0.len())) }
}

/// Reads a snapshot.
pub(super) fn read_snapshot(octets: &[u8]) -> Result<Snapshot<'_>, String> {
    let mut rest = Rest(octets);
    rest.version()?;
    let vote = if rest.flag()? { Some(rest.vote()?) } else { None };
    let last = if rest.flag()? { Some(rest.id()?) } else { None };
    let members = Bytes::copy_from_slice(rest.sized()?);
    let mut entries = Vec::new();
    for _ in 0..rest.number32()? {
        match item(rest.sized()?)? {
            Item::Entry(entry) => entries.push(entry),
            other => return Err(format!("{other:?} among the entries of a snapshot")),
        }
    }
    Ok(Snapshot { vote, head: SnapshotHead { last, members }, entries, state: rest.0 })
}

fn put_vote(out: &mut Vec<u8>, vote: Vote) {
    out.extend_from_slice(&vote.term.to_le_bytes());
    out.extend_from_slice(&vote.node.to_le_bytes());
    out.push(u8::from(vote.won));
}

fn put_id(out: &mut Vec<u8>, id: LogId) {
    for number in [id.term, id.node, id.index] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_sized(out: &mut Vec<u8>, octets: &[u8]) {
    // A journal item is smaller than 4 GiB by far.
    out.extend_from_slice(&(octets.len() as u32).to_le_bytes());
    out.extend_from_slice(octets);
}

/// What was not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn version(&mut self) -> Result<(), String> {
        match self.octet()? {
            VERSION => Ok(()),
            version => Err(format!("format version {version} is unknown to this version")),
        }
    }

    fn octet(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn flag(&mut self) -> Result<bool, String> {
        match self.octet()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("{other} where 0 or 1 is expected")),
        }
    }

    fn number32(&mut self) -> Result<u32, String> {
        Ok(crate::le::u32_at(self.take(4)?, 0))
    }

    fn number64(&mut self) -> Result<u64, String> {
        Ok(crate::le::u64_at(self.take(8)?, 0))
    }

    fn sized(&mut self) -> Result<&'a [u8], String> {
        let len = self.number32()?;
        self.take(len as usize)
    }

    fn vote(&mut self) -> Result<Vote, String> {
        Ok(Vote { term: self.number64()?, node: self.number64()?, won: self.flag()? })
    }

    fn id(&mut self) -> Result<LogId, String> {
        let id = LogId { term: self.number64()?, node: self.number64()?, index: self.number64()? };
        // Counting on from it must not overflow.
        if id.index < u64::MAX { Ok(id) } else { Err("the number of an entry is out of range".to_owned()) }
    }
}
