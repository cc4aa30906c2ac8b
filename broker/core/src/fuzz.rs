//! Bodies of the fuzz targets in `tests/fuzz`, shared with the ordinary test over the stored corpus.
//!
//! Each takes any octets and panics when a decoder breaks a promise: what decodes encodes to the same octets, what is
//! cut short is refused, and whatever was read can be used.

use crate::meta::log::{
    Command, CommandWriter, Members, decode_journal_entry, decode_members_at, encode_members_at,
};
use crate::meta::policy::PolicyBook;
use crate::meta::{Change, MetaSm, Patterns};
use crate::record::Record;
use std::sync::Arc;

/// Records of the log, one behind the other.
pub fn record(octets: &[u8]) {
    let mut rest = octets;
    while let Ok((record, used)) = Record::decode(rest) {
        let whole = &rest[..used];
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again, whole, "{record:?}");
        for cut in [0, 1, used / 2, used - 1] {
            assert!(Record::decode(&whole[..cut.min(used - 1)]).is_err(), "accepts {record:?} cut at {cut}");
        }
        rest = &rest[used..];
    }
}

/// A snapshot of the metadata.
pub fn meta_snapshot(octets: &[u8]) {
    let mut sm = MetaSm::new();
    if sm.restore(octets).is_err() {
        assert!(is_empty(&sm), "something stays of a snapshot that was refused");
        return;
    }
    use_all(&mut sm);
    let (durable, full) = (sm.snapshot(false), sm.snapshot(true));
    assert!(durable.len() <= full.len());
    let mut again = MetaSm::new();
    again.restore(&full).expect("a snapshot that was just taken");
    assert_eq!(again.snapshot(true), full);
    assert_eq!(again.applied(), sm.applied());
    assert!(again.restore(&full[..full.len() - 1]).is_err() || full.len() < 4);
}

/// A command of the replicated log.
pub fn meta_command(octets: &[u8]) {
    let Ok(command) = Command::decode(octets) else { return };
    let mut again = CommandWriter::new(command.id);
    let mut sm = MetaSm::new();
    for logged in command.clone() {
        let Ok(logged) = logged else { break };
        again.push(&logged).expect("changes that were just read");
        logged.changes.iter().for_each(|change| sm.commit(change));
        sm.note_applied(logged.index);
    }
    use_all(&mut sm);
    // Names in arguments that are no text are made such by the first reading, and numbers may be written long.
    let again = again.into_octets();
    let mut read = Command::decode(&again).expect("a command that was just written");
    assert_eq!(read.id, command.id);
    assert!(read.all(|logged| logged.is_ok()), "what was written is not read: {again:?}");
    // An entry of the journal of version 1 is one of these without the round.
    let _ = decode_journal_entry(octets);
}

/// Members of the cluster, as an entry of the replicated log and as the head of a snapshot have them.
pub fn meta_members(octets: &[u8]) {
    if let Ok(members) = Members::decode(octets) {
        let again = members.encode().expect("members that were just read");
        assert_eq!(Members::decode(&again), Ok(members));
        assert!(again.len() <= octets.len(), "more was read than was there");
        assert!(
            again.is_empty() || Members::decode(&again[..again.len() - 1]).is_err(),
            "accepts members cut off"
        );
    }
    if let Ok(members) = decode_members_at(octets) {
        let again = encode_members_at(&members).expect("members that were just read");
        assert_eq!(decode_members_at(&again), Ok(members));
        assert!(decode_members_at(&again[..again.len() - 1]).is_err(), "accepts members cut off");
    }
}

/// Changes as the log of metadata holds them, one behind the other, made one after the other.
pub fn meta_change(octets: &[u8]) {
    let mut sm = MetaSm::new();
    let mut rest = octets;
    while let Ok((change, after)) = postcard::take_from_bytes::<Change>(rest) {
        let once = postcard::to_stdvec(&change).expect("a change is written to memory");
        let again: Change = postcard::from_bytes(&once).expect("a change that was just written");
        // Names in arguments that are no text are made such by the first reading.
        let twice = postcard::to_stdvec(&again).expect("a change is written to memory");
        assert_eq!(twice, once, "{change:?}");
        assert!(
            postcard::from_bytes::<Change>(&once[..once.len() - 1]).is_err(),
            "accepts {change:?} cut off"
        );
        sm.commit(&change);
        rest = after;
    }
    use_all(&mut sm);
    let full = sm.snapshot(true);
    let mut again = MetaSm::new();
    again.restore(&full).expect("a snapshot that was just taken");
    use_all(&mut again);
}

/// What the broker does with metadata when it starts.
fn use_all(sm: &mut MetaSm) {
    PolicyBook::new(Arc::new(Patterns::default())).refresh_all(sm);
    for vhost in sm.vhosts().map(|state| state.vhost.id) {
        assert!(sm.queues_in(vhost).count() <= sm.queues().count());
        sm.exchanges_in(vhost).for_each(|exchange| assert!(sm.exchange(exchange.spec.id).is_some()));
    }
}

fn is_empty(sm: &MetaSm) -> bool {
    let nobody = sm.users().next().is_none() && sm.vhosts().next().is_none();
    nobody
        && sm.queues().next().is_none()
        && sm.global_parameters().next().is_none()
        && sm.applied() == 0
        && sm.members().next().is_none()
}

#[cfg(test)]
mod tests;
