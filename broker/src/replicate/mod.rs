//! Copies of queues: what their leader ships to other nodes, what this node keeps for other leaders.
//!
//! ```text
//!   turn ── records ──► log                         link ──► frames ──► following ── records ──► log
//!     │ (same order)     │ fsync                                                             │ fsync
//!     └──► leading ═══ link ═══► followers             leader ◄═══ link ═══ acknowledgements ◄┘
//!            ▲  │
//!   marks ◄──┘  └── gates: a confirm waits until every copy that counts has it
//! ```
//!
//! Who has to get what, and what counts as safe, is decided in [`broker_core::repl`], without I/O; who leads, and
//! which copies are in sync, in the metadata. Here the two meet links, shards, log and gates:
//!
//! * [`leading`]: a turn hands over its records while their shard is locked, so that followers get each queue's in the
//!   order of the log;
//! * [`following`]: what leaders send becomes part of this node's log, and is acknowledged when it is on disk;
//! * [`hand_over`]: a queue goes to another node in good order;
//! * [`work`]: what takes its time: proposals, and messages that are read for a copy that lacks them.
//!
//! Lock order: metadata, what is followed, one shard, what is led, then gates and links.

mod following;
mod frames;
mod hand_over;
mod leading;
pub(crate) mod shipping;
#[cfg(test)]
mod tests;
mod work;

use crate::cluster::link::Kind;
use crate::node::Node;
use crate::shard::TurnBuffers;
use broker_core::ids::NodeId;
use broker_core::repl::{FollowerCore, LeaderCore};
use frames::{Fills, Frames};
pub(crate) use hand_over::Giving;
use leading::Leading;
pub(crate) use leading::Over;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use work::Work;

/// How often it is looked who owes an answer for too long.
const TICK: Duration = Duration::from_millis(100);
/// Octets that may wait for the disk until copies fall behind.
const ROOM: usize = 64 << 20;

/// The node's part in keeping copies.
#[derive(Debug)]
pub(crate) struct Replicate {
    /// Queues with copies are led here.
    leads: AtomicBool,
    /// Leaders have sent something.
    follows: AtomicBool,
    /// Much waits to be sent to followers.
    behind: AtomicBool,
    leading: Mutex<Leading>,
    following: Mutex<Following>,
    /// Buffers for the next frame that comes.
    spare: Mutex<TurnBuffers>,
    work: mpsc::UnboundedSender<Work>,
    inbox: Mutex<Option<mpsc::UnboundedReceiver<Work>>>,
    wake: Arc<Notify>,
    /// Octets that may wait for the disk; what leaders send beyond that is not taken.
    room: AtomicUsize,
    /// Octets of records and of fills that were sent.
    shipped: AtomicU64,
    filled: AtomicU64,
}

/// What is followed.
#[derive(Debug, Default)]
struct Following {
    core: FollowerCore,
    /// Leaders that could not be told something.
    unsaid: BTreeSet<NodeId>,
}

impl Replicate {
    /// A node that leads and follows nothing yet.
    pub(crate) fn new(me: NodeId, incarnation: u64) -> Replicate {
        let (work, inbox) = mpsc::unbounded_channel();
        Replicate {
            leads: AtomicBool::new(false),
            follows: AtomicBool::new(false),
            behind: AtomicBool::new(false),
            leading: Mutex::new(Leading::new(LeaderCore::new(me, incarnation))),
            following: Mutex::default(),
            spare: Mutex::default(),
            work,
            inbox: Mutex::new(Some(inbox)),
            wake: Arc::default(),
            room: AtomicUsize::new(ROOM),
            shipped: AtomicU64::new(0),
            filled: AtomicU64::new(0),
        }
    }

    /// Whether some queue that is led here has copies. It is set while that queue's shard is locked.
    pub(crate) fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    fn follows(&self) -> bool {
        self.follows.load(Ordering::Relaxed)
    }
}

/// Attaches a node to its cluster, which has to know the handlers of everything else by now.
pub(crate) fn attach(node: &Arc<Node>) {
    let Some(links) = node.cluster.links() else { return };
    let Some(inbox) = node.replicate.inbox.lock().take() else { return };
    links.handle(Kind::Replicate, Arc::new(Frames::to(node)));
    links.handle(Kind::Fill, Arc::new(Fills::to(node)));
    links.hear_anew();
    tokio::spawn(run(Arc::downgrade(node)));
    tokio::spawn(work::run(Arc::downgrade(node), inbox));
    // Those that were connected before have told nobody here, whether the metadata knows them yet or not.
    links.data_peers().into_iter().for_each(|peer| node.copies_up(peer));
}

/// The task that follows the log and the time.
async fn run(node: Weak<Node>) {
    let Some(strong) = node.upgrade() else { return };
    let (mut durable, wake) = (strong.durable(), Arc::clone(&strong.replicate.wake));
    drop(strong);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let Some(strong) = node.upgrade() else { return };
        let (follows, leads) = (strong.replicate.follows(), strong.replicate.leads());
        // The task does not keep the node alive while it waits.
        drop(strong);
        let is_tick = tokio::select! {
            changed = durable.changed(), if follows => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
            () = wake.notified() => false,
            _ = tick.tick(), if follows || leads => true,
        };
        let Some(strong) = node.upgrade() else { return };
        if is_tick {
            strong.copies_tick();
        }
        strong.answer_leaders();
    }
}
