//! Bodies of the fuzz targets in `tests/fuzz`, shared with the ordinary test over the stored corpus.
//!
//! Each takes any octets and panics when a decoder breaks a promise: what decodes encodes to the same octets, what is
//! cut short is refused, and whatever was read can be used.

use crate::forward::answer::Answers;
use crate::forward::op::{Op, Ops};
use crate::link::assemble::{Assembler, Limits};
use crate::link::frame::{self, Item, Step};
use crate::link::greet::{Claim, Greet, Who};
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

/// A frame with operations from another node.
pub fn forward_ops(octets: &[u8]) {
    let mut rest = Ops(octets);
    let mut before = octets;
    while let Some(Ok(op)) = rest.next() {
        let whole = &before[..before.len() - rest.0.len()];
        let mut again = Vec::new();
        op.encode(&mut again);
        assert_eq!(again, whole, "{op:?}");
        assert!(Ops(&whole[..whole.len() - 1]).all(|op| op.is_err()), "accepts {op:?} cut off");
        match op {
            Op::Publish(publish) => assert_eq!(publish.targets.iter().count(), publish.targets.len()),
            Op::Settle(settle) => assert_eq!(settle.positions.iter().count(), settle.positions.len()),
            Op::Commit { ops } => assert!(ops.count() <= whole.len()),
            _ => {}
        }
        before = rest.0;
    }
}

/// A frame with answers from another node.
pub fn forward_answers(octets: &[u8]) {
    let mut rest = Answers(octets);
    let mut before = octets;
    while let Some(Ok(answer)) = rest.next() {
        let whole = &before[..before.len() - rest.0.len()];
        let mut again = Vec::new();
        answer.encode(&mut again);
        assert_eq!(again, whole, "{answer:?}");
        assert!(
            Answers(&whole[..whole.len() - 1]).all(|answer| answer.is_err()),
            "accepts {answer:?} cut off"
        );
        before = rest.0;
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

/// What a node reads from a connection of another one, after the greeting.
pub fn link_frame(octets: &[u8]) {
    let limits = Limits { payload: 4096, streams: 4, sum: 6000 };
    let mut assembler = Assembler::new(limits);
    let mut rest = octets;
    loop {
        let (item, payload) = match frame::decode(rest) {
            Ok(Step::Item(item, payload)) => (item, payload),
            Ok(Step::Need(needed)) => {
                assert!(needed > rest.len(), "{needed} octets are there already");
                assert!(needed <= frame::CHUNK + frame::MAX_HEADER, "waits for {needed} octets");
                return;
            }
            Err(_) => return,
        };
        let whole = &rest[..payload.end];
        let mut again = Vec::new();
        item.encode(payload.len(), &mut again);
        again.extend_from_slice(&rest[payload.clone()]);
        assert_eq!(again, whole, "{item:?}");
        for cut in [0, 3, payload.end / 2, payload.end - 1] {
            let cut = cut.min(payload.end - 1);
            assert!(matches!(frame::decode(&whole[..cut]), Ok(Step::Need(_))), "{item:?} cut at {cut}");
        }
        let part = &rest[payload.clone()];
        let outcome = match item {
            Item::Begin { stream, total, head } => assembler.begin(stream, total, head, part),
            Item::More { stream } => assembler.more(stream, part).map(|complete| {
                if let Some((_, payload)) = complete {
                    assert!(!payload.is_empty() && payload.len() as u64 <= limits.payload);
                }
            }),
            Item::Abandon { stream } => assembler.abandon(stream),
            _ => Ok(()),
        };
        assert!(assembler.held() <= limits.sum, "holds {}", assembler.held());
        if outcome.is_err() {
            return;
        }
        rest = &rest[payload.end..];
    }
}

/// What a node reads from a connection before it knows who is there.
pub fn link_greet(octets: &[u8]) {
    if let Ok(message) = Greet::decode(octets) {
        // Numbers may be written long.
        if let Ok(again) = message.encode() {
            assert!(again.len() <= octets.len(), "more was read than was there");
            assert_eq!(Greet::decode(&again).as_ref(), Ok(&message));
            assert!(Greet::decode(&again[..again.len() - 1]).is_err(), "accepts {message:?} cut off");
        }
        match &message {
            Greet::Proof(proof) => who(&proof.who),
            Greet::Welcome(welcome) => who(&welcome.who),
            _ => {}
        }
    }
    who(octets);
    if let Ok(claim) = Claim::decode(octets) {
        let again = claim.encode().expect("a claim that was just read");
        assert_eq!(Claim::decode(&again), Ok(claim));
    }
}

fn who(octets: &[u8]) {
    if let Ok(who) = Who::decode(octets) {
        let again = who.encode().expect("a node that was just read");
        assert_eq!(Who::decode(&again), Ok(who));
    }
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
