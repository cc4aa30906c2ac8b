//! What nodes ask each other to agree: votes, entries of the log, snapshots. Ours alone, so that a library's own
//! layout never decides what is on the wire.
//!
//! ```text
//! request:  format  request (postcard)  octets of a snapshot, up to the end
//! answer:   format  answer (postcard)
//! ```

use broker_store::raft_log::{LogEntry, LogId, Payload, Vote};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

const FORMAT: u8 = 1;
/// Octets of a snapshot in one request.
pub(super) const PART: usize = 1 << 20;
/// Octets of entries in one request, unless one alone has more.
pub(super) const ENTRIES: usize = 8 << 20;
/// The largest snapshot that is taken.
pub(super) const MAX_SNAPSHOT: u64 = 4 << 30;

/// Term, node, whether a majority agreed.
pub(super) type Ballot = (u64, u64, bool);
/// Term, node and index of an entry.
pub(super) type Place = (u64, u64, u64);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Take these entries behind that one. No entries: the leader lives.
    Append { vote: Ballot, before: Option<Place>, entries: Vec<Item>, committed: Option<Place> },
    /// Vote for me. `asks_first`: would you? `handed_over`: the leader of now wants it so, or is gone for sure.
    Vote { asks_first: bool, vote: Ballot, last: Option<Place>, handed_over: bool },
    /// A part of a snapshot; its octets follow.
    Snapshot { vote: Ballot, last: Option<Place>, members: Vec<u8>, at: u64, total: u64 },
    /// Be the leader.
    Lead { from: Ballot, to: u64, last: Option<Place> },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The entries are on disk.
    Appended,
    /// Those up to this one are.
    AppendedTo(Option<Place>),
    /// The entry before them is another one here.
    Conflict,
    /// There is a newer vote.
    Outvoted(Ballot),
    /// To a request for a vote.
    Vote { vote: Ballot, granted: bool, last: Option<Place> },
    /// The part was taken; more are missing.
    More,
    /// The snapshot is installed, or refused for a newer vote.
    Installed(Ballot),
    /// To the order to lead: accepted.
    Leading,
}

/// An entry of the log on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    id: Place,
    kind: ItemKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum ItemKind {
    Blank,
    Command(Vec<u8>),
    Members(Vec<u8>),
}

impl Item {
    pub(super) fn len(&self) -> usize {
        match &self.kind {
            ItemKind::Blank => 0,
            ItemKind::Command(octets) | ItemKind::Members(octets) => octets.len(),
        }
    }

    pub(super) fn place(&self) -> Place {
        self.id
    }
}

impl From<LogEntry> for Item {
    fn from(entry: LogEntry) -> Item {
        let kind = match entry.payload {
            Payload::Blank => ItemKind::Blank,
            Payload::Command(octets) => ItemKind::Command(octets.into()),
            Payload::Members(octets) => ItemKind::Members(octets.into()),
        };
        Item { id: place(entry.id), kind }
    }
}

impl From<Item> for LogEntry {
    fn from(item: Item) -> LogEntry {
        let payload = match item.kind {
            ItemKind::Blank => Payload::Blank,
            ItemKind::Command(octets) => Payload::Command(octets.into()),
            ItemKind::Members(octets) => Payload::Members(octets.into()),
        };
        LogEntry { id: log_id(item.id), payload }
    }
}

pub(super) fn place(id: LogId) -> Place {
    (id.term, id.node, id.index)
}

pub(super) fn log_id((term, node, index): Place) -> LogId {
    LogId { term, node, index }
}

pub(super) fn ballot(vote: Vote) -> Ballot {
    (vote.term, vote.node, vote.won)
}

pub(super) fn vote((term, node, won): Ballot) -> Vote {
    Vote { term, node, won }
}

/// A request as octets; `part` are those of a snapshot.
pub(super) fn request(request: &Request, part: &[u8]) -> Result<Bytes, String> {
    let mut octets = encode(request)?;
    octets.extend_from_slice(part);
    Ok(octets.into())
}

/// Undoes [`request`].
pub(super) fn read_request(octets: &[u8]) -> Result<(Request, &[u8]), String> {
    decode(octets)
}

/// An answer as octets.
pub(super) fn answer(answer: &Answer) -> Result<Bytes, String> {
    encode(answer).map(Bytes::from)
}

/// Undoes [`answer`].
pub(super) fn read_answer(octets: &[u8]) -> Result<Answer, String> {
    match decode(octets)? {
        (answer, []) => Ok(answer),
        (_, rest) => Err(format!("{} octets behind an answer", rest.len())),
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, String> {
    postcard::to_extend(value, vec![FORMAT]).map_err(|error| error.to_string())
}

fn decode<'a, T: Deserialize<'a>>(octets: &'a [u8]) -> Result<(T, &'a [u8]), String> {
    match octets.split_first() {
        Some((&FORMAT, rest)) => postcard::take_from_bytes(rest).map_err(|error| error.to_string()),
        Some((format, _)) => Err(format!("format {format} of consensus is unknown to this version")),
        None => Err("an empty message".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_come_back_and_damage_is_refused() {
        let entry = |payload| Item::from(LogEntry { id: LogId { term: 3, node: 1, index: 7 }, payload });
        let requests = [
            Request::Append {
                vote: (3, 1, true),
                before: Some((2, 1, 6)),
                entries: vec![
                    entry(Payload::Blank),
                    entry(Payload::Command(Bytes::from_static(b"do"))),
                    entry(Payload::Members(Bytes::from_static(b"us"))),
                ],
                committed: None,
            },
            Request::Vote { asks_first: true, vote: (4, 2, false), last: None, handed_over: false },
            Request::Snapshot { vote: (3, 1, true), last: None, members: vec![1], at: 5, total: 9 },
            Request::Lead { from: (3, 1, true), to: 2, last: Some((3, 1, 7)) },
        ];
        for sent in requests {
            let octets = request(&sent, b"rest").unwrap();
            assert_eq!(read_request(&octets).unwrap(), (sent, b"rest".as_slice()));
        }
        for sent in [Answer::Appended, Answer::Vote { vote: (1, 1, false), granted: true, last: None }] {
            let octets = answer(&sent).unwrap();
            assert_eq!(read_answer(&octets).unwrap(), sent);
            for end in 0..octets.len() {
                read_answer(&octets[..end]).unwrap_err();
            }
        }
        read_request(&[9, 0]).unwrap_err();
    }
}
