//! What queues ask for while a turn is at them: it is collected, and carried out when the turn moves on.

use super::TurnBuffers;
use super::letters::Letter;
use crate::connection::outbox::{ConsumerHandle, Output};
use crate::firehose::Sighting;
use crate::pager::Removal;
use broker_core::ids::QueueId;
use broker_core::queue::dead_letter::DeadLetter;
use broker_core::queue::delayed::Due;
use broker_core::queue::paged::{PageOut, Window, WindowRead};
use broker_core::queue::{Crowd, Delivered, Delivery, Effects};
use broker_core::record::Record;
use std::sync::Arc;

impl Effects for TurnBuffers {
    type Handle = ConsumerHandle;

    fn log(&mut self, record: &Record<'_>) {
        if self.shipping.is_on() {
            let start = self.log.len();
            self.log.push(record);
            self.shipping.note(record, start..self.log.len());
        } else {
            self.log.push(record);
        }
        // Nobody waits for the other kinds; losing one only means that a settled message comes back.
        self.urgent |= matches!(record, Record::Enq(_) | Record::EnqMulti { .. } | Record::Hwm { .. });
    }

    fn deliver(&mut self, to: &ConsumerHandle, delivery: &Delivery<'_>) -> Delivered {
        let outbox = match &to.output {
            Output::Here(outbox) => outbox,
            Output::Far(far) => {
                let (delivered, first) = far.deliver(to.no_ack, delivery);
                if first {
                    self.touched_far.push(Arc::clone(far.served()));
                }
                return delivered;
            }
        };
        let (delivered, first) = outbox.deliver(to, delivery);
        if first {
            self.touched.push(Arc::clone(outbox));
        }
        if self.tracing && delivered == Delivered::Sent {
            self.saw(Sighting::delivered(outbox, to.channel, delivery));
        }
        delivered
    }

    fn dead_letter(&mut self, letter: DeadLetter) {
        self.letters.push(Letter::Dead(letter));
    }

    fn due(&mut self, due: Due) {
        self.letters.push(Letter::Due(due));
    }

    fn wake_at(&mut self, queue: QueueId, at_ms: u64) {
        self.wakes.push((at_ms, queue));
    }

    fn unused(&mut self, queue: QueueId) {
        self.unused.push(queue);
    }

    fn backlog(&mut self, slowest: &ConsumerHandle, octets: usize) {
        self.behind.take_if(|(behind, _)| behind.strong_count() == 0);
        // A consumer elsewhere is its own node's to wait for.
        let Output::Here(outbox) = &slowest.output else { return };
        let (behind, debt) = self.behind.get_or_insert_with(|| (Arc::downgrade(outbox), 0));
        if std::ptr::eq(behind.as_ptr(), Arc::as_ptr(outbox)) {
            *debt += octets;
        }
    }

    fn page_out(&mut self, page_out: PageOut) {
        self.paging.page_outs.push(page_out);
    }

    fn crowded(&mut self, queue: QueueId, crowd: Crowd) {
        if crowd == Crowd::Paged || self.crowded.is_none() {
            self.crowded = Some((queue, crowd));
        }
    }

    fn read_ahead(&mut self, window: Window) {
        self.paging.windows.push(window);
    }

    fn read_now(&mut self, window: &Window) -> Option<WindowRead> {
        let read = self.pager.as_ref()?.read(window);
        read.inspect_err(|error| {
            tracing::error!(queue = %window.queue, %error, "messages can not be read from their segment");
        })
        .ok()
    }

    fn remove_segment(&mut self, queue: QueueId, first_qseq: u64, durable: bool) {
        self.paging.removals.push(Removal::Segment { queue, first_qseq, durable });
    }

    fn may_be_deposed(&self) -> bool {
        self.deposed
    }

    fn log_floor(&self) -> u64 {
        self.log_floor
    }
}
