//! What the leader does for all: lets nodes in and out, decides who votes, who is down, who holds which queue.
//!
//! ```text
//! join:   AddMember ──► snapshot with everything ──► learner ──► (caught up) voter
//! leave:  NodeDown ──► ForgetMember ──► voter no more ──► removed
//! ```
//!
//! Only the first step is the one that counts: what follows from the members is done again and again until it is
//! so, by whoever leads then.

use super::asks::{Ask, Told};
use super::beats::{DOWN_AFTER, PAUSE_AFTER, change_from};
use super::link::Caller;
use super::operator::RefusedKind;
use super::papers::Peer;
use super::running::Running;
use broker_core::ids::NodeId;
use broker_core::meta::cluster::Controller;
use broker_core::meta::{Member, MetaCommand, MetaError, MetaReply, NodeState, Role};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often it is looked whether all is as it should be.
const PERIOD: Duration = Duration::from_millis(100);
/// The same of a new leader until it can decide something.
const BEGINNING: Duration = Duration::from_millis(10);
/// A node that slept for so long was stopped by somebody.
const AWAY: Duration = Duration::from_millis(1_000);
/// How long a snapshot for a new node may take.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(60);
/// Entries that a node may lack and still get a vote.
const CAUGHT_UP: u64 = 256;
/// Most voters.
const MOST_VOTERS: usize = 5;

/// Who shall vote, of the members, when `now` do and `ready` may: those who have caught up and live.
///
/// One broker votes alone; of two, without a witness, the one that does already, because with two votes the loss of
/// either would stop both. Two and a witness, and three to five brokers, all vote.
pub(super) fn voters(
    members: &[Member],
    now: &BTreeSet<NodeId>,
    ready: impl Fn(NodeId) -> bool,
) -> BTreeSet<NodeId> {
    let of = |role| members.iter().filter(move |it| it.role == role).map(|it| it.id);
    let brokers: Vec<NodeId> = of(Role::Broker).collect();
    let witness = of(Role::Witness).next();
    let member = |id: &NodeId| members.iter().any(|it| it.id == *id);
    let may = |id: &NodeId| now.contains(id) || ready(*id);
    let one = || {
        let keeps = now.iter().copied().find(|id| brokers.contains(id));
        keeps.or_else(|| brokers.iter().copied().find(|id| ready(*id))).into_iter().collect()
    };
    let wanted: BTreeSet<NodeId> = match (brokers.len(), witness) {
        (0 | 1, _) | (2, None) => return one(),
        (2, Some(witness)) => brokers.iter().copied().chain([witness]).collect(),
        _ => {
            // Those who vote stay, so that a sixth node changes nothing.
            let mut order = brokers.clone();
            order.sort_by_key(|id| (!now.contains(id), *id));
            order.into_iter().take(MOST_VOTERS).collect()
        }
    };
    if wanted.iter().all(may) {
        return wanted;
    }
    // Until all are ready nothing changes, but who is no member any more does not vote.
    let stay: BTreeSet<NodeId> = now.iter().copied().filter(member).collect();
    if stay.is_empty() || stay.len() == 2 && brokers.len() == 2 && witness.is_none() { one() } else { stay }
}

/// Whether this caller may ask that: who is no member may only ask to be let in, and nobody speaks for another.
pub(super) fn may_ask(caller: &Caller, ask: &Ask) -> Result<(), String> {
    let own = |node: &NodeId| caller.who.node == Some(*node);
    match ask {
        Ask::Join { name, .. } if *name == caller.who.name => Ok(()),
        // A node that was removed may say so too: then it is done already.
        Ask::Leave { node } | Ask::Goodbye { node, .. } | Ask::Update { node, .. } if own(node) => Ok(()),
        Ask::Forget { .. } if caller.member => Ok(()),
        _ => Err("a node asks for itself only, and what concerns others only as a member".to_owned()),
    }
}

/// Answers another node, or an operator of this one.
pub(super) async fn answer(running: &Running, ask: Ask) -> Told {
    if running.council().leads().is_none() {
        let leader = running.council().standing().borrow().leader.filter(|id| *id != running.me());
        let member = |id| running.members().into_iter().find(|it| it.id == id);
        return Told::Elsewhere(leader.and_then(member).map(|it| it.addresses).unwrap_or_default());
    }
    let outcome = match ask {
        Ask::Goodbye { node, incarnation } => goodbye(running, node, incarnation).await,
        Ask::Join { name, addresses, version, witness } => {
            let _one = running.changing.lock().await;
            let role = if witness { Role::Witness } else { Role::Broker };
            join(running, &name, addresses, version, role).await
        }
        Ask::Update { node, name, addresses, version } => {
            update(running, node, name.into(), addresses, version).await
        }
        Ask::Leave { node } => {
            let _one = running.changing.lock().await;
            leave(running, node).await
        }
        Ask::Forget { name, accept_loss } => {
            let _one = running.changing.lock().await;
            match running.members().into_iter().find(|it| *it.name == *name) {
                Some(member) => forget(running, &member, accept_loss).await,
                None => Err((RefusedKind::Unknown, format!("there is no node '{name}' in this cluster"))),
            }
        }
    };
    outcome.unwrap_or_else(|(kind, text)| Told::Refused(kind, text))
}

type Outcome = Result<Told, (RefusedKind, String)>;

fn refused(error: MetaError) -> (RefusedKind, String) {
    let kind = match &error {
        MetaError::OnlyCopies(_) => RefusedKind::Loss,
        MetaError::NoSuchMember(_) => RefusedKind::Unknown,
        MetaError::Journal(_) => RefusedKind::Failed,
        _ => RefusedKind::Invalid,
    };
    (kind, error.to_string())
}

async fn goodbye(running: &Running, node: NodeId, incarnation: u64) -> Outcome {
    let mut commands = Vec::new();
    if running.members().iter().any(|it| it.id == node && it.incarnation == incarnation) {
        // It goes on purpose (`ha-promote-on-shutdown`).
        commands.push(MetaCommand::SetNodeState { id: node, state: NodeState::Drain });
    }
    commands.push(MetaCommand::NodeDown { id: node, incarnation });
    let outcomes = running.metadata.propose_all(commands).await.map_err(refused)?;
    outcomes.into_iter().next_back().transpose().map_err(refused)?;
    Ok(Told::Done)
}

async fn update(
    running: &Running,
    id: NodeId,
    name: Arc<str>,
    addresses: Vec<String>,
    version: String,
) -> Outcome {
    tracing::info!(node = %id, %name, ?addresses, version, "a node has another name, place or version");
    let update = MetaCommand::UpdateMember { id, name, addresses, version };
    running.metadata.propose(update).await.map_err(refused)?;
    running.note_members();
    Ok(Told::Done)
}

async fn join(running: &Running, name: &str, addresses: Vec<String>, version: String, role: Role) -> Outcome {
    let failed = |text: String| (RefusedKind::Failed, text);
    running.found().await.map_err(|it| (it.kind, it.text))?;
    if let Some(known) = running.members().into_iter().find(|it| *it.name == *name) {
        if known.state != NodeState::Down || known.incarnation > 0 {
            let text = format!(
                "node '{name}' is a member of this cluster already; if it was reset since, run `forget_cluster_node {name}` first"
            );
            return Err((RefusedKind::Invalid, text));
        }
        // It asked before and was cut off before it could start.
        forget(running, &known, true).await?;
    }
    let add = MetaCommand::AddMember { name: name.into(), addresses, role, version };
    let node = match running.metadata.propose(add).await.map_err(refused)? {
        MetaReply::Member(node) => node,
        other => return Err(failed(format!("an answer to something else: {other:?}"))),
    };
    // What is not durable was in no log until now; the snapshot has it.
    running.council().snapshot_now(SNAPSHOT_PATIENCE).await.map_err(failed)?;
    running.note_members();
    running.council().add_learner(node, name).await.map_err(failed)?;
    let (cluster, generation) = running.cluster();
    let peers = running.members().iter().filter(|it| it.id != node).map(Peer::from).collect();
    tracing::info!(%node, name, ?role, "a node was let into the cluster");
    Ok(Told::Welcome { node, cluster, generation, peers })
}

async fn leave(running: &Running, node: NodeId) -> Outcome {
    let Some(member) = running.members().into_iter().find(|it| it.id == node) else { return Ok(Told::Done) };
    if member.state != NodeState::Down {
        goodbye(running, node, member.incarnation).await?;
    }
    forget(running, &member, true).await
}

async fn forget(running: &Running, member: &Member, accept_loss: bool) -> Outcome {
    if member.id == running.me() {
        let text = "a node does not forget itself; run `reset` or `leave` on it".to_owned();
        return Err((RefusedKind::Invalid, text));
    }
    let forget = MetaCommand::ForgetMember { id: member.id, accept_loss };
    running.metadata.propose(forget).await.map_err(refused)?;
    tracing::info!(node = %member.id, name = %member.name, "a node was taken out of the cluster");
    if let Err(error) = seats(running).await {
        // The next look goes on.
        tracing::debug!(%error, "the votes are not changed yet");
    }
    running.note_members();
    Ok(Told::Done)
}

/// Sees that consensus has the members that the metadata has, and that those vote who shall.
async fn seats(running: &Running) -> Result<(), String> {
    let members = running.members();
    if members.is_empty() {
        return Ok(());
    }
    let council = running.council();
    let (now, learners) = council.seats();
    if let Some(missing) = members.iter().find(|it| !now.contains(&it.id) && !learners.contains(&it.id)) {
        return council.add_learner(missing.id, &missing.name).await;
    }
    let lives = |id: NodeId| members.iter().any(|it| it.id == id && it.state != NodeState::Down);
    let ready = |id: NodeId| lives(id) && council.lag(id).is_some_and(|lag| lag <= CAUGHT_UP);
    let mut wanted = voters(&members, &now, ready);
    if wanted.is_empty() {
        wanted = [running.me()].into();
    }
    if wanted != now {
        tracing::info!(?now, ?wanted, "who votes changes");
        return council.set_voters(wanted).await;
    }
    match learners.iter().find(|id| members.iter().all(|it| it.id != **id)) {
        Some(gone) => council.remove(*gone).await,
        None => Ok(()),
    }
}

/// Says who is down.
async fn bury(running: &Running, term: u64) {
    if running.disk_age() >= DOWN_AFTER {
        tracing::warn!("the disk does not answer: another node shall lead");
        running.hand_over_lead().await;
        return;
    }
    if running.council().majority_age().is_none_or(|age| age >= PAUSE_AFTER) {
        // Whoever is not heard by the others is in no place to judge them: they may have another leader.
        return;
    }
    let serving = |it: &Member| it.state != NodeState::Down && it.id != running.me();
    let serving: Vec<(NodeId, u64)> =
        running.members().iter().filter(|it| serving(it)).map(|it| (it.id, it.incarnation)).collect();
    for id in running.beats.returned(&serving) {
        tracing::warn!(node = %id, "a node lives although connections to it are refused");
        running.council().is_back(id);
    }
    for (id, incarnation) in running.beats.dead(term, &serving) {
        tracing::warn!(node = %id, "a node is down");
        running.propose(MetaCommand::NodeDown { id, incarnation }).await;
    }
}

/// Looks again and again.
pub(super) async fn run(running: Weak<Running>, mut ended: watch::Receiver<bool>) {
    let mut controller = Controller::default();
    let Some((mut standing, wake)) =
        running.upgrade().map(|running| (running.council().standing(), Arc::clone(&running.wake_steward)))
    else {
        return;
    };
    loop {
        let since = Instant::now();
        let now = *standing.borrow();
        // A leader that has not carried out what those before it had agreed has to soon.
        let Some(decides) = running.upgrade().map(|running| running.council().leads().is_some()) else {
            return;
        };
        let period = if now.leads && !decides { BEGINNING } else { PERIOD };
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = wake.notified() => {}
            () = change_from(now.leader, &mut standing) => {}
            _ = ended.wait_for(|ended| *ended) => return,
        }
        let Some(running) = running.upgrade() else { return };
        if since.elapsed() >= AWAY {
            running.beats.was_away();
        }
        if running.view.is_alone() && running.council().standing().borrow().nodes <= 1 {
            continue;
        }
        if let Some(term) = running.council().leads() {
            bury(&running, term).await;
            look(&running, &mut controller).await;
        }
    }
}

async fn look(running: &Arc<Running>, controller: &mut Controller) {
    // Whoever lets a node in or out does it step by step.
    if let Ok(_one) = running.changing.try_lock()
        && let Err(error) = seats(running).await
    {
        tracing::debug!(%error, "the votes are not changed yet");
    }
    let commands = {
        let view = running.metadata.view();
        let sm = view.read();
        controller.decide(&sm, running.metadata.uptime_ms())
    };
    if !commands.is_empty()
        && let Err(error) = running.metadata.propose_all(commands).await
    {
        tracing::debug!(%error, "queues are not placed yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, role: Role) -> Member {
        Member {
            id: NodeId(id),
            name: format!("rabbit@{id}").into(),
            addresses: Vec::new(),
            role,
            incarnation: 1,
            state: NodeState::Up,
            storage: 1,
            version: String::new(),
            orderly: false,
        }
    }

    fn set(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn who_votes_follows_from_who_is_there() {
        const B: Role = Role::Broker;
        const W: Role = Role::Witness;
        // Members, voters of now, those that are ready, voters then.
        type Row<'a> = (&'a [(u64, Role)], &'a [u64], &'a [u64], &'a [u64]);
        let table: &[Row<'_>] = &[
            (&[(1, B)], &[1], &[1], &[1]),
            (&[(1, B), (2, B)], &[1], &[1, 2], &[1]),
            (&[(1, B), (3, W)], &[1], &[1, 3], &[1]),
            (&[(1, B), (2, B), (3, W)], &[1], &[1, 2], &[1]),
            (&[(1, B), (2, B), (3, W)], &[1], &[1, 2, 3], &[1, 2, 3]),
            (&[(1, B), (2, B), (3, W)], &[1, 2, 3], &[1], &[1, 2, 3]),
            (&[(1, B), (2, B), (3, B)], &[1], &[1, 2, 3], &[1, 2, 3]),
            (&[(1, B), (2, B), (3, B)], &[1], &[1, 2], &[1]),
            (&[(2, B), (3, B)], &[1, 2, 3], &[2, 3], &[2]),
            (&[(2, B)], &[1], &[2], &[2]),
            (&[(1, B), (2, B)], &[1, 2, 3], &[1, 2], &[1]),
            (&[(1, B), (2, B), (4, W)], &[1, 2, 3], &[1, 2], &[1, 2]),
            (&[(1, B), (2, B), (3, B), (4, B), (5, B), (6, B)], &[2, 3, 4, 5, 6], &[1], &[2, 3, 4, 5, 6]),
            (&[(1, B), (2, B), (3, B), (4, B), (5, B), (6, B)], &[1], &[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 5]),
        ];
        for (members, now, ready, then) in table {
            let members: Vec<Member> = members.iter().map(|(id, role)| member(*id, *role)).collect();
            let ready = set(ready);
            assert_eq!(
                voters(&members, &set(now), |id| ready.contains(&id)),
                set(then),
                "{members:?} {now:?}"
            );
        }
    }
}
