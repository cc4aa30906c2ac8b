//! Heartbeats: who lives, and whether this node hears a majority.
//!
//! Every node asks the leader each 250 ms, and the leader answers how long ago, at most, a majority answered to it.
//! A node that was last answered more than 2.4 s ago serves nobody until it is again: the others take it for dead after
//! 3 s, so it is quiet before another node takes over. A process that was stopped itself finds that out a moment after
//! it goes on; what it hands out until then is marked as if it had been handed out before. A process that is gone is not
//! waited for. A node whose disk hangs says so: the others lead its queues until the disk answers.

use super::Standing;
use super::asks::{self, Beat, Progress, Pulse};
use super::link::{Kind, Lane};
use super::running::Running;
use broker_core::ids::NodeId;
use broker_core::meta::{Member, MetaCommand, NodeState};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How often a node says that it lives.
const PERIOD: Duration = Duration::from_millis(250);
/// After so long without an answer a node pauses: others that are alive have found a new leader by then.
pub(super) const PAUSE_AFTER: Duration = Duration::from_millis(2_400);
/// After so long without a heartbeat the leader takes a node for dead.
pub(super) const DOWN_AFTER: Duration = Duration::from_millis(3_000);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// Tries after each of which nobody listened at a node whose link broke: then its process is gone.
const TRIES: u32 = 2;
/// Pause between them.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// How long all of them may take. On a busy host a try takes its time.
const TRIES_PATIENCE: Duration = Duration::from_millis(1_000);
/// Head start of each voter over the next one when the leader is gone.
const HEAD_START: Duration = Duration::from_millis(120);
/// Elections that each of them begins before time decides.
const ELECTIONS: u32 = 3;

/// What a node knows of the life of others.
#[derive(Default)]
pub(super) struct Beats(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// The leader: when it last heard of each node.
    heard: BTreeMap<NodeId, Heard>,
    /// The leader: nodes that it has just taken for dead, whether that is decided by now or not.
    condemned: BTreeSet<NodeId>,
    /// The leader: how far it had carried out the log when it told a node that it was taken for dead.
    told: BTreeMap<NodeId, u64>,
    /// Nodes at which nobody listens.
    gone: BTreeMap<NodeId, Gone>,
    /// The term in which this node last looked as leader.
    term: u64,
    /// When a majority last heard this node.
    contact: Option<Instant>,
    /// Which leader answered last, and when.
    answered: Option<(NodeId, Instant)>,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    incarnation: u64,
    stalled: bool,
}

/// A node at which nobody listens any more, until somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    /// Since then; its process is gone. What it had sent before may still come in.
    Since(Instant),
    /// It is taken for dead.
    Down,
    /// It was taken for dead and has said that it is not: something refuses connections to it. Silence decides.
    Lives,
}

impl Beats {
    /// The nodes that have said that they serve after they were taken for gone, since this was last asked. A heartbeat
    /// would not say so: it may have been on its way when its process was killed.
    pub(super) fn returned(&self, serving: &[(NodeId, u64)]) -> Vec<NodeId> {
        let mut returned = Vec::new();
        for (id, gone) in &mut self.0.lock().gone {
            let serves = serving.iter().any(|(node, _)| node == id);
            match gone {
                Gone::Since(_) if !serves => *gone = Gone::Down,
                Gone::Down if serves => {
                    *gone = Gone::Lives;
                    returned.push(*id);
                }
                _ => {}
            }
        }
        returned
    }

    /// The nodes that are to be taken for dead, of those that are not: the leader asks.
    pub(super) fn dead(&self, term: u64, serving: &[(NodeId, u64)]) -> Vec<(NodeId, u64)> {
        let mut inner = self.0.lock();
        let now = Instant::now();
        let mut before = None;
        if std::mem::replace(&mut inner.term, term) != term {
            // A new leader waits one full period for each node, but knows itself how long the one before is silent.
            inner.heard.clear();
            inner.told.clear();
            before = inner.answered;
        }
        inner.heard.retain(|id, _| serving.iter().any(|(node, _)| node == id));
        let mut dead = Vec::new();
        for (id, incarnation) in serving {
            let fresh = Heard { at: now, incarnation: *incarnation, stalled: false };
            let at = before.filter(|(leader, _)| leader == id).map_or(now, |(_, at)| at);
            let heard = inner.heard.entry(*id).or_insert(Heard { at, ..fresh });
            if heard.incarnation < *incarnation {
                // It has started again since, and gets a full period.
                *heard = fresh;
            }
            let heard = *heard;
            let silent = now.duration_since(heard.at) >= DOWN_AFTER || heard.stalled;
            // After that time, silence says as much.
            let gone =
                matches!(inner.gone.get(id), Some(Gone::Since(at)) if now.duration_since(*at) < DOWN_AFTER);
            if silent || gone {
                dead.push((*id, *incarnation));
            }
        }
        inner.condemned = dead.iter().map(|(id, _)| *id).collect();
        dead
    }

    /// What the leader answers a node: whether that is taken for dead, or was and has not heard all of it. Until it has,
    /// it must not believe that it leads what it led. `applied` is how far each of the two has carried out the log.
    fn is_down(&self, node: NodeId, down: bool, (mine, its): (u64, u64)) -> bool {
        let mut inner = self.0.lock();
        if down {
            inner.told.insert(node, mine);
            return true;
        }
        if inner.told.get(&node).is_some_and(|told| its >= *told) {
            inner.told.remove(&node);
        }
        inner.condemned.contains(&node) || inner.told.contains_key(&node)
    }

    /// This node was stopped itself for a while: that it heard nothing says nothing of the others.
    pub(super) fn was_away(&self) {
        self.0.lock().heard.clear();
    }

    /// Nodes whose process is gone for sure.
    pub(super) fn gone(&self) -> BTreeSet<NodeId> {
        let inner = self.0.lock();
        inner.gone.iter().filter(|(_, gone)| **gone != Gone::Lives).map(|(id, _)| *id).collect()
    }

    /// When a majority last heard this node.
    pub(super) fn contact(&self) -> Option<Duration> {
        self.0.lock().contact.map(|at| at.elapsed())
    }

    /// A majority heard this node at this time.
    pub(super) fn in_contact(&self, at: Option<Instant>) {
        let mut inner = self.0.lock();
        inner.contact = inner.contact.max(at);
    }
}

/// The leader has heard of a node.
pub(super) fn heard(running: &Running, node: NodeId, beat: Beat) -> Pulse {
    let Some(age) = running.council().majority_age().filter(|_| running.council().leads().is_some()) else {
        return Pulse::NotLed;
    };
    running.metadata.note_applied(node, beat.applied);
    let stalled = Duration::from_millis(u64::from(beat.stalled_ms)) >= DOWN_AFTER;
    let heard = Heard { at: Instant::now(), incarnation: beat.incarnation, stalled };
    running.beats.0.lock().heard.insert(node, heard);
    let mine = running.council().applied().borrow().index;
    let (down, stranger) = {
        let view = running.metadata.view();
        let sm = view.read();
        let known = sm.member(node);
        let is_other = |it: &Member| it.state == NodeState::Down || it.incarnation != beat.incarnation;
        (known.is_some_and(is_other), known.is_none())
    };
    Pulse::Leads {
        majority_age_ms: u32::try_from(age.as_millis()).unwrap_or(u32::MAX),
        down: running.beats.is_down(node, down, (mine, beat.applied)),
        stranger,
    }
}

/// A link to a node is up: its process is there.
pub(super) fn peer_is_up(running: &Running, peer: NodeId) {
    running.beats.0.lock().gone.remove(&peer);
    running.council().is_back(peer);
}

/// A link to a node broke. If nobody listens there any more, its process is gone: nobody has to wait until it has
/// been silent for long enough.
pub(super) async fn peer_is_down(running: Arc<Running>, peer: NodeId) {
    let council = running.council();
    if running.beats.0.lock().gone.contains_key(&peer) || !council.may_be_gone(peer) {
        // Known, or being found out.
        return;
    }
    let addresses = running.members().into_iter().find(|it| it.id == peer).map(|it| it.addresses);
    let refused = is_refused(&addresses.unwrap_or_default()).await;
    if !refused || running.links.as_ref().is_some_and(|links| links.is_up(peer)) {
        council.is_back(peer);
        return;
    }
    tracing::info!(%peer, "nobody listens at a node any more: its process is gone");
    running.beats.0.lock().gone.insert(peer, Gone::Since(Instant::now()));
    let led = council.is_gone(peer);
    running.wake_steward.notify_one();
    if led {
        replace_leader(&running, peer).await;
    }
}

/// Sees that somebody leads instead of a node whose process is gone: one after the other, so that their votes are not
/// split, and again, because the others may not know yet that it is.
async fn replace_leader(running: &Running, gone: NodeId) {
    let council = running.council();
    let (voters, _) = council.seats();
    let dead = running.beats.gone();
    let left: Vec<NodeId> = voters.into_iter().filter(|id| !dead.contains(id)).collect();
    let rank = left.iter().position(|id| *id == running.me()).and_then(|rank| u32::try_from(rank).ok());
    let (Some(rank), Ok(count)) = (rank, u32::try_from(left.len())) else { return };
    let mut standing = council.standing();
    let mut wait = HEAD_START * rank;
    for _ in 0..ELECTIONS {
        let replaced = standing.wait_for(|now| now.leader.is_some_and(|leader| leader != gone));
        // Whoever does not get a vote in this time is not told so by everybody.
        if timeout(wait, replaced).await.is_ok() || !running.beats.gone().contains(&gone) {
            return;
        }
        if let Err(error) = council.elect().await {
            tracing::debug!(%error, "no election");
        }
        wait = HEAD_START * count;
    }
}

/// Whether every address says that nobody listens there, and says so again.
async fn is_refused(addresses: &[String]) -> bool {
    let tries = async {
        for attempt in 0..TRIES {
            if attempt > 0 {
                sleep(TRY_AGAIN).await;
            }
            for address in addresses {
                match TcpStream::connect(address.as_str()).await {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    // Somebody listens, or the host does not answer at all: then time decides.
                    _ => return false,
                }
            }
        }
        !addresses.is_empty()
    };
    timeout(TRIES_PATIENCE, tries).await.unwrap_or(false)
}

/// Says each 250 ms that this node lives, and pauses it when nobody has answered for too long.
pub(super) async fn run(running: Weak<Running>, mut ended: watch::Receiver<bool>) {
    let Some(mut standing) = running.upgrade().map(|running| running.council().standing()) else { return };
    loop {
        let Some(strong) = running.upgrade() else { return };
        let leader = standing.borrow().leader;
        strong.look().await;
        drop(strong);
        tokio::select! {
            () = sleep(PERIOD) => {}
            // A new leader is asked at once: the one before may have been silent for long.
            () = change_from(leader, &mut standing) => {}
            _ = ended.wait_for(|ended| *ended) => return,
        }
    }
}

/// Waits until somebody else leads than `leader`, or nobody; for ever when consensus has ended.
pub(super) async fn change_from(leader: Option<NodeId>, standing: &mut watch::Receiver<Standing>) {
    if standing.wait_for(|now| now.leader != leader).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Until when nobody takes a node for dead that a majority heard at this time, and whose log waited for the disk for so
/// long when it asked.
fn lease(heard_at: Option<Instant>, asked_at: Instant, disk_age: Duration) -> Option<Instant> {
    let disk = asked_at + DOWN_AFTER.saturating_sub(disk_age);
    Some((heard_at? + PAUSE_AFTER).min(disk))
}

impl Running {
    async fn look(self: &Arc<Self>) {
        self.note_changed_members();
        if self.view.is_alone() {
            self.beats.in_contact(Some(Instant::now()));
            self.view.set_paused(None);
            return;
        }
        // When it is answered does not count: the process may be stopped meanwhile.
        let (asked_at, disk_age) = (Instant::now(), self.disk_age());
        let pulse = self.beat().await;
        let (down, stranger) = match pulse {
            Some(Pulse::Leads { majority_age_ms, down, stranger }) => {
                let heard_at = asked_at.checked_sub(Duration::from_millis(u64::from(majority_age_ms)));
                self.beats.in_contact(heard_at);
                self.view.set_lease(if down || stranger {
                    None
                } else {
                    lease(heard_at, asked_at, disk_age)
                });
                (down, stranger)
            }
            _ => (false, false),
        };
        let lost = self.beats.contact().is_none_or(|age| age >= PAUSE_AFTER);
        if stranger {
            let text = "the cluster has removed this node; `reset` it, and let it join again if it shall";
            self.view.set_paused(Some(text.to_owned()));
        } else if lost {
            if !self.facts.serves_local {
                self.view.set_paused(Some("no contact with cluster majority".to_owned()));
            }
        } else if down {
            // The others took this node for dead: they have to know that it is not before it serves.
            let hangs = self.disk_age() >= DOWN_AFTER;
            if self.view.paused().is_none() {
                let why =
                    if hangs { "its disk does not answer" } else { "the cluster took this node for dead" };
                self.view.set_paused(Some(why.to_owned()));
            }
            if !hangs {
                self.come_back();
            }
        } else if self.own_state().is_some_and(|state| state != NodeState::Down) {
            self.view.set_paused(None);
        }
    }

    /// Says that this node is there, in a task of its own: heartbeats do not wait for it.
    fn come_back(self: &Arc<Self>) {
        let running = Arc::clone(self);
        tokio::spawn(async move {
            let up = MetaCommand::NodeUp {
                id: running.me(),
                incarnation: running.view.incarnation(),
                storage: u128::from_be_bytes(running.facts.storage),
                lost: Vec::new(),
            };
            running.propose(up).await;
        });
    }

    fn note_changed_members(&self) {
        let known: Vec<NodeId> =
            self.papers.lock().iter().flat_map(|it| &it.peers).map(|it| NodeId(it.node)).collect();
        let members = self.members();
        let others: Vec<NodeId> = members.iter().map(|it| it.id).filter(|id| *id != self.me()).collect();
        if !members.is_empty() && known != others {
            self.note_members();
        }
    }

    /// Asks the leader, which may be this node.
    async fn beat(&self) -> Option<Pulse> {
        let applied = self.council().applied().borrow().index;
        let stalled_ms = u32::try_from(self.disk_age().as_millis()).unwrap_or(u32::MAX);
        let beat = Beat { incarnation: self.view.incarnation(), applied, stalled_ms };
        let standing = *self.council().standing().borrow();
        if standing.leads {
            return Some(heard(self, self.me(), beat));
        }
        let links = self.links.as_ref()?;
        let octets = asks::encode(&beat).ok()?;
        let leader = standing.leader?;
        let mut changes = self.council().standing();
        let answer = tokio::select! {
            answer = links.call(leader, Lane::Control, Kind::Beat, octets, PATIENCE) => answer.ok()?,
            // It is another one's to answer.
            () = change_from(Some(leader), &mut changes) => return None,
        };
        self.beats.0.lock().answered = Some((leader, Instant::now()));
        asks::decode(&answer).ok()
    }
}

/// Tells the leader at once how far this node has carried out the log: answers to clients of other nodes wait for
/// it.
pub(super) async fn report(running: Weak<Running>, mut ended: watch::Receiver<bool>) {
    let Some(mut applied) = running.upgrade().map(|running| running.council().applied()) else { return };
    loop {
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            _ = ended.wait_for(|ended| *ended) => return,
        }
        let Some(running) = running.upgrade() else { return };
        let progress = Progress { applied: applied.borrow_and_update().index };
        let standing = *running.council().standing().borrow();
        if let (Some(leader), Some(links)) =
            (standing.leader.filter(|id| *id != running.me()), &running.links)
            && let Ok(octets) = asks::encode(&progress)
        {
            // What is lost comes with the next heartbeat.
            let _ = links.send(leader, Lane::Control, Kind::Beat, octets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const SERVING: [(NodeId, u64); 2] = [(A, 1), (B, 1)];

    fn ago(age: Duration) -> Instant {
        Instant::now().checked_sub(age).unwrap()
    }

    /// A leader in its second look, that has heard A at this time.
    fn led(at: Instant, stalled: bool) -> Beats {
        let beats = Beats::default();
        assert_eq!(beats.dead(1, &SERVING), [], "a new leader waits for everybody");
        beats.0.lock().heard.insert(A, Heard { at, incarnation: 1, stalled });
        beats
    }

    #[test]
    fn whoever_is_silent_for_too_long_or_hangs_or_is_gone_is_dead() {
        assert_eq!(led(Instant::now(), false).dead(1, &SERVING), []);
        assert_eq!(led(ago(DOWN_AFTER - PERIOD), false).dead(1, &SERVING), []);
        let beats = led(ago(DOWN_AFTER), false);
        assert_eq!(beats.dead(1, &SERVING), [(A, 1)]);
        assert_eq!(beats.dead(1, &[(A, 2), (B, 1)]), [], "it has started again since");
        assert_eq!(led(Instant::now(), true).dead(1, &SERVING), [(A, 1)]);
        let beats = led(Instant::now(), false);
        beats.0.lock().gone.insert(B, Gone::Since(Instant::now()));
        assert_eq!(beats.dead(1, &SERVING), [(B, 1)]);
    }

    #[test]
    fn a_node_that_lives_although_nobody_listens_there_is_taken_for_dead_once() {
        let beats = led(Instant::now(), false);
        let hear = |at| {
            beats.0.lock().heard.insert(B, Heard { at, incarnation: 1, stalled: false });
        };
        beats.0.lock().gone.insert(B, Gone::Since(Instant::now()));
        // This was on its way.
        hear(Instant::now());
        assert_eq!(beats.returned(&SERVING), []);
        assert_eq!(beats.dead(1, &SERVING), [(B, 1)]);
        assert_eq!(beats.returned(&SERVING[..1]), [], "it is decided");
        assert!(beats.gone().contains(&B));
        hear(Instant::now());
        assert_eq!(beats.returned(&SERVING), [B], "it says that it serves");
        assert_eq!(beats.returned(&SERVING), [], "that is told once");
        assert_eq!(beats.dead(1, &SERVING), []);
        assert!(beats.gone().is_empty());
        hear(ago(DOWN_AFTER));
        assert_eq!(beats.dead(1, &SERVING), [(B, 1)], "silence counts as before");
    }

    #[test]
    fn a_new_leader_believes_whom_the_one_before_heard_after_nobody_listened_there() {
        let beats = Beats::default();
        beats.0.lock().gone.insert(B, Gone::Since(ago(DOWN_AFTER)));
        assert_eq!(beats.dead(2, &SERVING), []);
    }

    #[test]
    fn a_node_that_was_taken_for_dead_hears_so_until_it_knows_it_itself() {
        let beats = led(ago(DOWN_AFTER), false);
        assert!(!beats.is_down(A, false, (7, 7)));
        assert_eq!(beats.dead(1, &SERVING), [(A, 1)]);
        assert!(beats.is_down(A, false, (7, 7)), "that is about to be decided");
        assert!(!beats.is_down(B, false, (7, 7)));
        beats.0.lock().heard.insert(A, Heard { at: Instant::now(), incarnation: 1, stalled: false });
        assert_eq!(beats.dead(1, &SERVING), []);
        assert!(beats.is_down(A, true, (9, 7)), "it is decided");
        assert!(beats.is_down(A, false, (10, 8)), "it is back, but has not heard that it was away");
        assert!(!beats.is_down(A, false, (10, 9)));
        assert!(!beats.is_down(A, false, (10, 8)), "once is enough");
    }

    #[test]
    fn a_lease_ends_before_a_silent_node_or_one_whose_disk_hangs_is_dead() {
        let now = Instant::now();
        assert_eq!(lease(Some(now), now, Duration::ZERO), Some(now + PAUSE_AFTER));
        assert_eq!(lease(Some(now), now, DOWN_AFTER - PERIOD), Some(now + PERIOD));
        assert_eq!(lease(Some(now), now, DOWN_AFTER * 2), Some(now));
        assert_eq!(lease(None, now, Duration::ZERO), None);
    }

    #[test]
    fn a_leader_that_was_away_itself_judges_nobody() {
        let beats = led(ago(DOWN_AFTER), false);
        beats.was_away();
        assert_eq!(beats.dead(1, &SERVING), []);
    }

    #[test]
    fn a_new_leader_knows_how_long_the_one_before_is_silent() {
        let beats = led(ago(DOWN_AFTER), false);
        assert_eq!(beats.dead(2, &SERVING), [], "of others it knows nothing");
        beats.0.lock().answered = Some((A, ago(DOWN_AFTER)));
        assert_eq!(beats.dead(2, &SERVING), [], "it waits for them by now");
        assert_eq!(beats.dead(3, &SERVING), [(A, 1)]);
    }
}
