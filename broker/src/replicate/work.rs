//! What takes its time: proposals to the metadata, and messages that are read for copies that lack them.

use crate::cluster::link::{Kind, Lane, LinkError};
use crate::node::Node;
use crate::shard::{Turn, TurnBuffers};
use broker_core::ids::{NodeId, QueueId};
use broker_core::meta::{Member, MetaCommand};
use broker_core::repl::{Fill, MidSet, PART, Stream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Octets of messages in one frame.
const FILL_BYTES: usize = 1 << 20;
/// Pause before something is proposed again that was not decided.
const PROPOSE_AGAIN: Duration = Duration::from_millis(300);
/// How often it is tried to send where too much waits.
const SEND_AGAIN: Duration = Duration::from_millis(10);
/// And for how long.
const SEND_PATIENCE: Duration = Duration::from_secs(20);

/// Something to do.
#[derive(Debug)]
pub(super) enum Work {
    /// Propose this.
    Propose(MetaCommand),
    /// Read these messages, and send what is left of them.
    Fill {
        /// To whom.
        to: NodeId,
        /// Of which queue.
        queue: QueueId,
        /// In which epoch it is led.
        epoch: u32,
        /// In which stream they were asked for.
        stream: Stream,
        /// The fill's number.
        serial: u64,
        /// The messages.
        wanted: MidSet,
    },
}

/// Does what comes in until the node is gone.
pub(super) async fn run(node: Weak<Node>, mut inbox: mpsc::UnboundedReceiver<Work>) {
    while let Some(work) = inbox.recv().await {
        let Some(strong) = node.upgrade() else { return };
        match work {
            Work::Propose(command) => drop(tokio::spawn(propose(Weak::clone(&node), command))),
            fill => drop(tokio::task::spawn_blocking(move || strong.fill_copy(fill))),
        }
    }
}

/// Proposes until it is decided, or pointless.
async fn propose(node: Weak<Node>, command: MetaCommand) {
    let Some(strong) = node.upgrade() else { return };
    if let MetaCommand::IsrExpand { queue, cfg_ver, add } = command {
        let serves = strong.metadata.read().member(add).is_some_and(Member::serves);
        if !serves {
            return strong.put_off(queue, cfg_ver, add);
        }
    }
    drop(strong);
    loop {
        let Some(metadata) = node.upgrade().map(|node| Arc::clone(&node.metadata)) else { return };
        match metadata.propose(command.clone()).await {
            Ok(_) => return,
            Err(error) => tracing::debug!(?command, %error, "not decided"),
        }
        tokio::time::sleep(PROPOSE_AGAIN).await;
        if !node.upgrade().is_some_and(|node| node.still_wants(&command)) {
            return;
        }
    }
}

impl Node {
    /// Whether a proposal is worth repeating.
    fn still_wants(&self, command: &MetaCommand) -> bool {
        if self.is_closed() {
            return false;
        }
        let sm = self.metadata.read();
        match command {
            MetaCommand::IsrExpand { queue, cfg_ver, add } => {
                let placement = sm.placement(*queue);
                placement.is_some_and(|it| it.cfg_ver == *cfg_ver && it.replicas.contains(add))
            }
            // Whoever owes an answer is given up again.
            _ => false,
        }
    }

    /// Reads messages for a copy and sends them.
    fn fill_copy(&self, work: Work) {
        let Work::Fill { to, queue, epoch, stream, serial, wanted } = work else { return };
        let mut turn = Turn::new(self, TurnBuffers::default(), self.now_ms());
        let head = |serial| Fill::head(queue, epoch, stream, serial);
        let mut frames = vec![head(PART)];
        let read = turn.shard(queue, |shard, now, fx| {
            let queue = shard.source_mut(queue).filter(|queue| !queue.is_closing())?;
            Some(queue.read_missing(now, &wanted, fx, |record| {
                if frames.last().is_none_or(|frame| frame.len() > FILL_BYTES) {
                    frames.push(head(PART));
                }
                if let Some(frame) = frames.last_mut() {
                    record.encode(frame);
                }
            }))
        });
        turn.finish();
        // That the fill is complete, the last frame says.
        frames.push(head(serial));
        let sent = match read {
            Some(true) => frames.into_iter().all(|frame| self.send_fill(to, frame)),
            Some(false) => return self.can_not_fill(to, queue, epoch, stream),
            // It is led here no more, and so the stream means nothing for it.
            None => return,
        };
        if !sent {
            self.restart_stream(to);
        }
    }

    /// Waits while too much waits already. `false`: it can not be sent.
    fn send_fill(&self, to: NodeId, frame: Vec<u8>) -> bool {
        let Some(links) = self.cluster.links() else { return false };
        let frame = bytes::Bytes::from(frame);
        let since = Instant::now();
        loop {
            match links.send(to, Lane::Bulk, Kind::Fill, frame.clone()) {
                Ok(_) => {
                    self.replicate.filled.fetch_add(frame.len() as u64, Ordering::Relaxed);
                    return true;
                }
                Err(LinkError::Full(_)) if since.elapsed() < SEND_PATIENCE => std::thread::sleep(SEND_AGAIN),
                Err(error) => {
                    tracing::warn!(%error, "a copy does not get what it lacks");
                    return false;
                }
            }
        }
    }
}
