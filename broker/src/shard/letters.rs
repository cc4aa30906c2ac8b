//! Messages that left their queue and have to be routed: dead letters, those whose delay is over, and what the
//! firehose saw.

use super::{Turn, append};
use crate::firehose::Sighting;
use crate::forward::letters::Letter as FarLetter;
use crate::forward::outgoing::Waiter;
use amqp::content::Properties;
use broker_core::exchange::delayed;
use broker_core::ids::QueueId;
use broker_core::message::Publish;
use broker_core::queue::Effects;
use broker_core::queue::dead_letter::{DeadLetter, Reason};
use broker_core::queue::delayed::Due;
use broker_core::record::{At, DropReason, QseqRange, Record};
use std::sync::Arc;

/// A message that left its queue and has to be routed.
#[derive(Debug)]
pub(super) enum Letter {
    /// It was dead lettered.
    Dead(DeadLetter),
    /// Its delay is over.
    Due(Due),
}

impl Turn<'_> {
    /// Publishes a dead letter. The target's record and the source's are one append: after a crash the
    /// message is in exactly one of the two queues. `false`: it is still on its way to another node.
    pub(super) fn publish_dead_letter(&mut self, letter: &DeadLetter) -> bool {
        self.close();
        let rewritten = letter.rewrite(self.now / 1000);
        let mut targets = self.node.route_dead_letter(letter, &rewritten);
        let forced = letter.reason != Reason::Rejected;
        if forced {
            targets.retain(|(_, name)| !rewritten.is_cycle(name));
        }
        let mut publish = Publish::of(&rewritten.message, None, rewritten.priority);
        let gone = gone_record(letter.queue, letter.epoch, letter.logged_qseq);
        let source = (letter.queue, letter.stored_qseq);
        self.hand_on(&mut publish, targets.into_iter().map(|(queue, _)| queue), gone, source)
    }

    /// Routes a message whose delay is over; as with dead letters, arrival and departure are one append.
    pub(super) fn publish_due(&mut self, due: &Due) -> bool {
        self.close();
        let mut message = Arc::new(delayed::negated(&due.message));
        let targets = self.node.route_due(due, &message);
        if let Some(plain) = delayed::without_bcc(&message) {
            message = Arc::new(plain);
        }
        let properties = Properties::parse(message.view().properties).ok();
        let priority = properties.as_ref().and_then(Properties::priority).unwrap_or(0);
        // Checked when it was published; its time to live begins now.
        let expiration = properties.as_ref().and_then(Properties::expiration);
        let expiration_ms =
            expiration.and_then(|octets| std::str::from_utf8(octets).ok()).and_then(|text| text.parse().ok());
        let mut publish = Publish::of(&message, expiration_ms, priority);
        let gone = gone_record(due.store, due.epoch, due.logged_qseq);
        self.hand_on(&mut publish, targets.into_iter(), gone, (due.store, None))
    }

    pub(super) fn publish_sighting(&mut self, sighting: &Sighting) {
        self.close();
        let Some((message, targets)) = self.node.trace(sighting) else { return };
        let message = Arc::new(message);
        let mut publish = Publish::of(&message, None, 0);
        for queue in targets {
            if self.queue(queue, |queue, now, fx| queue.publish(now, &mut publish, fx)).is_none() {
                self.far_target(queue);
            }
        }
        self.forward(&publish, &Waiter::Nobody);
    }

    /// Gives a message to queues; `gone` is logged together with its arrival in the last one. `false`: it is
    /// still on its way to another node, and `gone` waits for that.
    fn hand_on(
        &mut self,
        publish: &mut Publish<'_>,
        targets: impl ExactSizeIterator<Item = QueueId>,
        gone: Option<Record<'static>>,
        (source, stored_qseq): (QueueId, Option<u64>),
    ) -> bool {
        let mut left = targets.len();
        let mut together = false;
        for queue in targets {
            if self.queue(queue, |queue, now, fx| queue.publish(now, publish, fx)).is_none() {
                self.far_letter_target(queue);
            }
            left -= 1;
            if left == 0
                && !self.has_far_targets()
                && let Some(gone) = &gone
            {
                self.buffers.log(gone);
                together = true;
            }
        }
        if self.has_far_targets() {
            let (expiration_ms, priority) = (publish.expiration_ms, publish.priority);
            let message = publish.share();
            let letter = FarLetter { message, expiration_ms, priority, source, gone, stored_qseq, parts: 0 };
            return !self.forward_letter(letter);
        }
        if let Some(gone) = gone.filter(|_| !together) {
            self.buffers.log(&gone);
            append(self.node, &mut self.buffers, &mut self.position);
        }
        if let Some(qseq) = stored_qseq {
            self.held(source, |queue, _, fx| queue.letter_gone(qseq, fx));
        }
        true
    }

    /// A message that went to queues of other nodes has left its queue.
    pub(crate) fn letter_left(
        &mut self,
        source: QueueId,
        gone: Option<&Record<'static>>,
        stored_qseq: Option<u64>,
    ) {
        self.held(source, |queue, _, fx| {
            if let Some(gone) = gone {
                fx.log(gone);
            }
            if let Some(qseq) = stored_qseq {
                queue.letter_gone(qseq, fx);
            }
        });
    }
}

/// What the log has to hear of a message that left its queue to be routed, if it knows it.
fn gone_record(queue: QueueId, epoch: u32, logged_qseq: Option<u64>) -> Option<Record<'static>> {
    let at = At { queue_id: queue.0, epoch, off: 0 };
    let ranges = QseqRange::one(logged_qseq?).into();
    Some(Record::Drop { at, reason: DropReason::DeadLettered, ranges })
}
