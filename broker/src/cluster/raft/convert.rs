//! Turns what is on our disk and wire into the library's types and back.

use super::{Command, Types};
use crate::cluster::rpc;
use broker_core::meta::log::{self, DecodeError, Members};
use broker_store::raft_log::{self as store, LogEntry, Payload};
use bytes::Bytes;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::type_config::alias::{LogIdOf, StoredMembershipOf, VoteOf};
use openraft::vote::RaftVote;
use openraft::{BasicNode, Entry, EntryPayload, LogId, Membership};
use std::collections::BTreeMap;
use std::io;

fn invalid(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn members(membership: &Membership<u64, BasicNode>) -> Members {
    Members {
        voters: membership.get_joint_config().clone(),
        nodes: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
    }
}

fn membership(members: Members) -> io::Result<Membership<u64, BasicNode>> {
    let nodes: BTreeMap<u64, BasicNode> =
        members.nodes.into_iter().map(|(id, name)| (id, BasicNode::new(name))).collect();
    Membership::new(members.voters, nodes).map_err(io::Error::other)
}

pub(super) fn stored_members(stored: &StoredMembershipOf<Types>) -> io::Result<Bytes> {
    let at = stored.log_id().as_ref().map(|id| (id.leader_id.term, id.leader_id.node_id, id.index));
    log::encode_members_at(&(at, members(stored.membership()))).map(Bytes::from).map_err(invalid)
}

pub(super) fn stored_membership(octets: &[u8]) -> io::Result<StoredMembershipOf<Types>> {
    let (at, members) = log::decode_members_at(octets).map_err(invalid)?;
    let at = at.map(|(term, node, index)| their_id(store::LogId { term, node, index }));
    // Before the first entry there are none, which is no valid membership.
    let membership = if members.voters.is_empty() { Membership::default() } else { membership(members)? };
    Ok(StoredMembershipOf::<Types>::new(at, membership))
}

pub(super) fn their_place(place: rpc::Place) -> LogIdOf<Types> {
    their_id(rpc::log_id(place))
}

pub(super) fn our_place(id: &LogIdOf<Types>) -> rpc::Place {
    rpc::place(our_id(id))
}

pub(super) fn their_vote((term, node_id, won): rpc::Ballot) -> VoteOf<Types> {
    VoteOf::<Types>::from_leader_id(LeaderId { term, node_id }, won)
}

pub(super) fn our_vote(vote: &VoteOf<Types>) -> rpc::Ballot {
    let leader = vote.leader_id();
    (leader.term, leader.node_id, vote.is_committed())
}

pub(super) fn our_id(id: &LogIdOf<Types>) -> store::LogId {
    store::LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

pub(super) fn their_id(id: store::LogId) -> LogIdOf<Types> {
    LogId { leader_id: LeaderId { term: id.term, node_id: id.node }, index: id.index }
}

pub(super) fn our_entry(
    entry: Entry<LeaderId<u64, u64>, EntryPayload<Command, u64, BasicNode>>,
) -> io::Result<LogEntry> {
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(Command(octets)) => Payload::Command(octets),
        EntryPayload::Membership(membership) => {
            Payload::Members(members(&membership).encode().map_err(invalid)?.into())
        }
    };
    Ok(LogEntry { id: our_id(&entry.log_id), payload })
}

pub(super) type TheirEntry = Entry<LeaderId<u64, u64>, EntryPayload<Command, u64, BasicNode>>;

pub(super) fn their_entry(entry: LogEntry) -> io::Result<TheirEntry> {
    let payload = match entry.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Command(octets) => EntryPayload::Normal(Command(octets)),
        Payload::Members(octets) => {
            EntryPayload::Membership(membership(Members::decode(&octets).map_err(invalid)?)?)
        }
    };
    Ok(Entry { log_id: their_id(entry.id), payload })
}
