//! What a stopped node can do about its place in a cluster: join one, leave it, become an empty node, begin the
//! cluster anew.

use super::asks::{self, Ask, Told};
use super::life::welcomed;
use super::link::{Kind, LinkError, LinkIdentity, LinkSettings, Links, Secret, Token};
use super::moves::Move;
use super::operator::{Done, Refused, RefusedKind};
use super::papers::Papers;
use super::{head_of_one, running};
use crate::config::cluster::PeerName;
use broker_core::ids::NodeId;
use broker_core::meta::log::Command;
use broker_core::meta::{MetaCommand, MetaSm, NodeState};
use broker_store::datadir::DataDir;
use broker_store::disk::RealDisk;
use broker_store::journal::JournalOptions;
use broker_store::raft_log::{LogId, Payload, RaftLog};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;

/// Most nodes that a question is passed on to.
const HOPS: usize = 8;
/// How long a node may take to let this one in.
const PATIENCE: Duration = Duration::from_secs(75);
/// Pause before a cluster without leader is asked again.
const AGAIN: Duration = Duration::from_millis(300);

/// A stopped node.
pub(crate) struct StoppedNode<'a> {
    /// How it presents itself.
    pub(crate) identity: LinkIdentity,
    /// It votes and holds no queues.
    pub(crate) witness: bool,
    /// Its data directory, which nobody uses.
    pub(crate) data: &'a Path,
}

fn failed(error: impl ToString) -> Refused {
    Refused::new(RefusedKind::Failed, error.to_string())
}

impl StoppedNode<'_> {
    /// Joins the cluster of which these nodes are.
    pub(crate) async fn join(&self, members: &[String], token: Option<&str>) -> Result<Done, Refused> {
        let invalid = |text: String| Refused::new(RefusedKind::Invalid, text);
        let known = Papers::load(self.data).map_err(failed)?;
        if let Some(papers) = known.filter(|papers| !papers.peers.is_empty()) {
            if token.is_none() && members.iter().all(|member| is_peer(&papers, member)) {
                return Ok(Done { already: true, ..Done::default() });
            }
            let text = format!(
                "{} is a member of a cluster already; `rabbitmqctl reset` makes it leave that one",
                self.identity.name
            );
            return Err(invalid(text));
        }
        let token = token.map(|text| Token::parse(text, SystemTime::now())).transpose();
        let token = token.map_err(|error| invalid(error.to_string()))?;
        let identity = LinkIdentity { node: None, cluster_id: 0, generation: 0, ..self.identity.clone() };
        let ask = Ask::Join {
            name: identity.name.clone(),
            addresses: identity.addresses.clone(),
            version: identity.version.clone(),
            witness: self.witness,
        };
        let links = outgoing(identity).await?;
        let (told, secret) = match &token {
            Some(token) => {
                let octets = asks::encode(&ask).map_err(failed)?;
                let asked = links.call_token(token, Kind::Member, octets, PATIENCE).await;
                let (greeting, octets) = asked.map_err(|error| unreachable(&error))?;
                if let Some(secret) = &greeting.secret {
                    links.set_secrets(vec![secret.clone()]);
                }
                match asks::decode(&octets).map_err(failed)? {
                    Told::Elsewhere(next) => (self.ask(&links, &next, &ask).await?, greeting.secret),
                    told => (told, greeting.secret),
                }
            }
            None => {
                let addresses: Vec<String> = members
                    .iter()
                    .map(|text| {
                        let name = PeerName::parse(text);
                        name.map(|it| it.address).ok_or_else(|| {
                            invalid(format!("`{text}` is not a node; write rabbit@host or host:25672"))
                        })
                    })
                    .collect::<Result<_, _>>()?;
                (self.ask(&links, &addresses, &ask).await?, None)
            }
        };
        links.disconnect();
        let papers = welcomed(told, self.witness)?;
        if let Some(secret) = secret {
            self.keep_secret(&secret)?;
        }
        let others: Vec<String> = papers.peers.iter().map(|peer| peer.name.clone()).collect();
        Move::join(papers).carry_out(self.data).map_err(failed)?;
        let remark = format!(
            "joined the cluster of {}; the data of before is kept for when it leaves",
            others.join(", ")
        );
        Ok(Done { remarks: vec![remark], ..Done::default() })
    }

    fn keep_secret(&self, secret: &Secret) -> Result<(), Refused> {
        super::link::cookie::keep(&self.data.join(".erlang.cookie"), secret).map_err(failed)
    }

    /// Leaves the cluster, and takes up what the node had before. `force`: whether the others hear of it or not.
    pub(crate) async fn leave(&self, force: bool) -> Result<Done, Refused> {
        let papers = Papers::load(self.data).map_err(failed)?;
        let Some(papers) = papers.filter(|papers| !papers.peers.is_empty()) else {
            return Err(Refused::new(RefusedKind::Invalid, "this node is in no cluster that it could leave"));
        };
        let mut remarks = Vec::new();
        if let Err(refused) = self.say_farewell(&papers).await {
            if !force {
                return Err(refused);
            }
            remarks.push(format!(
                "the others do not know ({}); run `forget_cluster_node {}` on one of them",
                refused.text, self.identity.name
            ));
        }
        let back = Move::leave(self.data).map_err(failed)?;
        if back.brings_back() {
            remarks.push("the data that the node had before it joined is back".to_owned());
        }
        back.carry_out(self.data).map_err(failed)?;
        Ok(Done { remarks, ..Done::default() })
    }

    async fn say_farewell(&self, papers: &Papers) -> Result<(), Refused> {
        self.tell_others(papers, &Ask::Leave { node: NodeId(papers.node) }).await
    }

    /// Tells the others of the node's new name and place, if there are any.
    pub(crate) async fn rename(&self, name: &str, addresses: Vec<String>) -> Result<(), Refused> {
        let papers = Papers::load(self.data).map_err(failed)?;
        let Some(papers) = papers.filter(|papers| !papers.peers.is_empty()) else { return Ok(()) };
        let node = NodeId(papers.node);
        let version = self.identity.version.clone();
        self.tell_others(&papers, &Ask::Update { node, name: name.to_owned(), addresses, version }).await
    }

    async fn tell_others(&self, papers: &Papers, ask: &Ask) -> Result<(), Refused> {
        let identity = LinkIdentity {
            node: Some(NodeId(papers.node)),
            cluster_id: papers.cluster(),
            generation: papers.generation,
            incarnation: papers.incarnation,
            ..self.identity.clone()
        };
        let links = outgoing(identity).await?;
        let addresses: Vec<String> = papers.peers.iter().flat_map(|peer| peer.addresses.clone()).collect();
        let told = self.ask(&links, &addresses, ask).await;
        links.disconnect();
        match running::refusal(told?)? {
            Told::Done => Ok(()),
            Told::Elsewhere(_) => Err(Refused::new(
                RefusedKind::Unreachable,
                "no node of the cluster leads now: a majority of the others has to run",
            )),
            other => Err(failed(format!("an answer to something else: {other:?}"))),
        }
    }

    /// Makes the node an empty one that stands alone, or what it was before it joined.
    pub(crate) async fn reset(&self, force: bool) -> Result<Done, Refused> {
        let papers = Papers::load(self.data).map_err(failed)?;
        if papers.is_some_and(|papers| !papers.peers.is_empty()) {
            return self.leave(force).await;
        }
        Move::reset().carry_out(self.data).map_err(failed)?;
        Ok(Done::default())
    }

    /// Asks one node after the other, and whomever they name.
    async fn ask(&self, links: &Links, addresses: &[String], ask: &Ask) -> Result<Told, Refused> {
        let mut outcome = Err(Refused::new(RefusedKind::Unreachable, "no node was named"));
        for address in addresses {
            outcome = self.ask_at(links, address, ask).await;
            // Who answered said what is to be said.
            match &outcome {
                Err(refused) if refused.kind == RefusedKind::Unreachable => {}
                Ok(Told::Elsewhere(_)) => {}
                _ => break,
            }
        }
        outcome
    }

    async fn ask_at(&self, links: &Links, address: &str, ask: &Ask) -> Result<Told, Refused> {
        let octets = asks::encode(ask).map_err(failed)?;
        let mut address = address.to_owned();
        for _ in 0..HOPS {
            let asked = links.call_address(&address, Kind::Member, octets.clone(), PATIENCE).await;
            let (_, answer) = asked.map_err(|error| unreachable(&error))?;
            match asks::decode(&answer).map_err(failed)? {
                Told::Elsewhere(next) => match next.into_iter().next() {
                    Some(next) => address = next,
                    None => tokio::time::sleep(AGAIN).await,
                },
                told => return Ok(told),
            }
        }
        Ok(Told::Elsewhere(Vec::new()))
    }

    /// Begins the cluster anew with this node as its only member, with all it knows. What the others know, and this
    /// one does not, is lost; links between the old and the new cluster are refused.
    pub(crate) fn recover(&self, directory: &DataDir) -> Result<Done, Refused> {
        let papers = Papers::load(self.data).map_err(failed)?;
        let Some(mut papers) = papers else {
            return Err(Refused::new(RefusedKind::Invalid, "this node is in no cluster"));
        };
        let me = NodeId(papers.node);
        let options = JournalOptions {
            expect_existing: true,
            ..JournalOptions::new(directory.identity().storage_uuid)
        };
        let (sm, last) = last_state(&directory.raft(), options, me).map_err(failed)?;
        let folder = format!("recover-{}", SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis());
        let new = self.data.join(&folder);
        std::fs::create_dir_all(new.join("raft")).map_err(failed)?;
        let head = head_of_one(me, &self.identity.name, LogId { term: 0, node: me.0, index: last })
            .map_err(failed)?;
        let options = JournalOptions { expect_existing: false, ..options };
        RaftLog::begin_with(Arc::new(RealDisk), &new.join("raft"), options, &head, &sm.snapshot(true))
            .map_err(failed)?;
        let others: Vec<String> = papers.peers.iter().map(|peer| peer.name.clone()).collect();
        papers.generation += 1;
        papers.peers.clear();
        let generation = papers.generation;
        Move::new_generation(folder, papers).carry_out(self.data).map_err(failed)?;
        let remark = format!(
            "this node begins generation {generation} of the cluster alone; reset {} before they join again",
            if others.is_empty() { "others".to_owned() } else { others.join(", ") }
        );
        Ok(Done { remarks: vec![remark], ..Done::default() })
    }
}

/// The state after everything in a log, agreed or not, with this node as the only member; and its last entry.
fn last_state(raft: &Path, options: JournalOptions, me: NodeId) -> io::Result<(MetaSm, u64)> {
    let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut sm = MetaSm::new();
    let mut restored = Ok(());
    let opened = RaftLog::open(Arc::new(RealDisk), raft, options, |state| restored = sm.restore(state));
    let (log, _) = opened.map_err(io::Error::other)?;
    restored.map_err(io::Error::other)?;
    for entry in log.entries(0, u64::MAX) {
        let Payload::Command(octets) = entry.payload else { continue };
        for logged in Command::decode(&octets).map_err(io::Error::other)? {
            let logged = logged.map_err(io::Error::other)?;
            logged.changes.iter().for_each(|change| sm.commit(change));
            sm.note_applied(logged.index);
        }
    }
    let others: Vec<_> = sm.members().filter(|it| it.id != me).cloned().collect();
    for member in others {
        let down = MetaCommand::NodeDown { id: member.id, incarnation: member.incarnation };
        let forget = MetaCommand::ForgetMember { id: member.id, accept_loss: true };
        for command in
            [Some(down).filter(|_| member.state != NodeState::Down), Some(forget)].into_iter().flatten()
        {
            let id = (sm.applied() + 1) << broker_core::meta::BATCH_BITS;
            let plan = sm.plan(id, &command).map_err(|error| invalid(error.to_string()))?;
            plan.changes.iter().for_each(|change| sm.commit(change));
            let applied = sm.applied() + 1;
            sm.note_applied(applied);
        }
    }
    let last = log.ends().1.map_or(0, |id| id.index);
    log.close().map_err(io::Error::other)?;
    Ok((sm, last))
}

/// Whether a node that people named is one of the others.
fn is_peer(papers: &Papers, named: &str) -> bool {
    let address = PeerName::parse(named).map(|it| it.address).unwrap_or_default();
    papers.peers.iter().any(|peer| peer.name == named || peer.addresses.contains(&address))
}

/// Links that only go out.
async fn outgoing(identity: LinkIdentity) -> Result<Links, Refused> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
    Ok(Links::start(identity, LinkSettings::default(), listener))
}

fn unreachable(error: &LinkError) -> Refused {
    Refused::new(RefusedKind::Unreachable, error.to_string())
}
