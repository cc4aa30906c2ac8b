//! The way to other nodes, as the library sees it.

use super::Types;
use super::convert::{our_entry, our_place, our_vote, their_place, their_vote};
use super::disk::SnapshotData;
use crate::cluster::rpc::{self, Answer, Item, Request};
use crate::cluster::{Network, Service};
use broker_core::ids::NodeId;
use broker_store::raft_log::RaftLog;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf, VoteOf};
use openraft::{BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How long another node may take over a part of a snapshot; the last one it installs.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(60);

/// How long another node may take to write entries.
const ENTRIES_PATIENCE: Duration = Duration::from_secs(1);

/// The way to other nodes.
pub(super) struct Links {
    pub(super) network: Option<Arc<dyn Network>>,
    pub(super) log: Arc<RaftLog>,
}

impl RaftNetworkFactory<Types> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Link {
        let (network, log) = (self.network.clone(), Arc::clone(&self.log));
        Link { target: NodeId(target), name: node.addr.clone(), network, log }
    }
}

/// The way to one node.
pub(super) struct Link {
    target: NodeId,
    name: String,
    network: Option<Arc<dyn Network>>,
    log: Arc<RaftLog>,
}

impl Link {
    fn missing(&self, why: &dyn fmt::Display) -> Unreachable<Types> {
        let Link { target, name, .. } = self;
        Unreachable::from_string(format!("node {target} ({name}) can not be reached: {why}"))
    }

    async fn ask(
        &self,
        service: Service,
        request: &Request,
        part: &[u8],
        patience: Duration,
    ) -> Result<Answer, RPCError<Types>> {
        let Some(network) = &self.network else {
            return Err(RPCError::Unreachable(self.missing(&"this node has no links")));
        };
        let octets = rpc::request(request, part).map_err(odd)?;
        let answer = network.call(self.target, service, octets, patience).await;
        let answer = answer.map_err(|error| RPCError::Unreachable(self.missing(&error)))?;
        rpc::read_answer(&answer).map_err(odd)
    }
}

fn odd(error: impl fmt::Display) -> RPCError<Types> {
    RPCError::Network(NetworkError::from_string(error.to_string()))
}

fn unexpected(answer: &Answer) -> RPCError<Types> {
    odd(format!("an answer to something else: {answer:?}"))
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let (wanted, mut octets) = (request.entries.len(), 0);
        // What is asked for at once is time for a heartbeat; entries have to get to a disk.
        let patience = if wanted == 0 { option.soft_ttl() } else { option.soft_ttl().max(ENTRIES_PATIENCE) };
        let mut entries: Vec<Item> = Vec::with_capacity(wanted);
        for entry in request.entries {
            let item = Item::from(our_entry(entry).map_err(odd)?);
            octets += item.len();
            if octets > rpc::ENTRIES && !entries.is_empty() {
                break;
            }
            entries.push(item);
        }
        // What does not fit goes with the next request.
        let partly = (entries.len() < wanted).then(|| entries.last().map(|item| their_place(item.place())));
        let request = Request::Append {
            vote: our_vote(&request.vote),
            before: request.prev_log_id.as_ref().map(our_place),
            entries,
            committed: request.leader_commit.as_ref().map(our_place),
        };
        Ok(match self.ask(Service::Consensus, &request, &[], patience).await? {
            Answer::Appended => match partly {
                Some(to) => AppendEntriesResponse::PartialSuccess(to),
                None => AppendEntriesResponse::Success,
            },
            Answer::AppendedTo(to) => AppendEntriesResponse::PartialSuccess(to.map(their_place)),
            Answer::Conflict => AppendEntriesResponse::Conflict,
            Answer::Outvoted(vote) => AppendEntriesResponse::HigherVote(their_vote(vote)),
            other => return Err(unexpected(&other)),
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.vote_on(false, request, option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.vote_on(true, request, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot.meta) => sent.map_err(StreamingError::from),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = Request::Lead {
            from: our_vote(request.from_leader()),
            to: *request.to_node_id(),
            last: request.last_log_id().map(our_place),
        };
        match self.ask(Service::Consensus, &request, &[], option.soft_ttl()).await? {
            Answer::Leading => Ok(Ok(())),
            other => Err(unexpected(&other)),
        }
    }
}

impl Link {
    async fn vote_on(
        &self,
        asks_first: bool,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = Request::Vote {
            asks_first,
            vote: our_vote(&request.vote),
            last: request.last_log_id.as_ref().map(our_place),
            handed_over: request.leadership_transfer,
        };
        match self.ask(Service::Consensus, &request, &[], option.soft_ttl()).await? {
            Answer::Vote { vote, granted, last } => {
                Ok(VoteResponse::new(their_vote(vote), last.map(their_place), granted))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn send_snapshot(
        &self,
        vote: VoteOf<Types>,
        meta: SnapshotMetaOf<Types>,
    ) -> Result<SnapshotResponse<Types>, RPCError<Types>> {
        let log = Arc::clone(&self.log);
        let read = tokio::task::spawn_blocking(move || log.read_snapshot()).await;
        let (head, state) = read.map_err(odd)?.map_err(odd)?.ok_or_else(|| odd("there is no snapshot"))?;
        let last = meta.last_log_id.as_ref().map(our_place);
        if head.last.map(rpc::place) != last {
            return Err(odd("there is a newer snapshot by now"));
        }
        let (vote, total) = (our_vote(&vote), state.len() as u64);
        let mut at = 0;
        loop {
            let part = &state[at..state.len().min(at + rpc::PART)];
            let members = head.members.to_vec();
            let request = Request::Snapshot { vote, last, members, at: at as u64, total };
            match self.ask(Service::Snapshot, &request, part, SNAPSHOT_PATIENCE).await? {
                Answer::More if at + part.len() < state.len() => at += part.len(),
                Answer::Installed(vote) => return Ok(SnapshotResponse::new(their_vote(vote))),
                other => return Err(unexpected(&other)),
            }
        }
    }
}
