//! Publisher confirms (RabbitMQ extension `confirm.select`): numbers publishes and says which may be
//! acknowledged.
//!
//! Messages of one read batch are confirmed together. A batch that touched the log waits until the log is
//! durable up to the batch's position; one that did not is confirmed at once, unless an earlier batch still
//! waits: confirms go out in order, so that each is one `basic.ack` with `multiple`.

use std::collections::VecDeque;

/// Publisher confirms of one channel.
#[derive(Debug, Default)]
pub struct Confirms {
    last: u64,
    confirmed: u64,
    pending: VecDeque<Pending>,
    rejected: VecDeque<u64>,
}

#[derive(Debug)]
struct Pending {
    last: u64,
    position: u64,
}

/// What to tell the publisher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confirm {
    /// `basic.ack`.
    Ack {
        /// Number of the publish.
        tag: u64,
        /// Everything before it too.
        multiple: bool,
    },
    /// `basic.nack` of one publish.
    Nack {
        /// Number of the publish.
        tag: u64,
    },
}

impl Confirms {
    /// Number of the next publish, counting from 1.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The publish numbered last was refused by a queue.
    pub fn reject(&mut self) {
        self.rejected.push_back(self.last);
    }

    /// Ends a batch: everything numbered so far may be confirmed once the log is durable up to `position`
    /// (0: needs no log).
    pub fn end_batch(&mut self, position: u64, durable: u64, emit: impl FnMut(Confirm)) {
        let batch_start = self.pending.back().map_or(self.confirmed, |pending| pending.last);
        if self.last == batch_start {
            return;
        }
        match self.pending.back_mut() {
            Some(back) if back.position >= position => back.last = self.last,
            _ => self.pending.push_back(Pending { last: self.last, position }),
        }
        self.durable(durable, emit);
    }

    /// The log is durable up to `position`.
    pub fn durable(&mut self, position: u64, mut emit: impl FnMut(Confirm)) {
        let mut upto = self.confirmed;
        while let Some(front) = self.pending.front() {
            if front.position > position {
                break;
            }
            upto = front.last;
            self.pending.pop_front();
        }
        while let Some(&tag) = self.rejected.front() {
            if tag > upto {
                break;
            }
            self.rejected.pop_front();
            self.ack(tag - 1, &mut emit);
            emit(Confirm::Nack { tag });
            self.confirmed = tag;
        }
        self.ack(upto, &mut emit);
    }

    fn ack(&mut self, tag: u64, emit: &mut impl FnMut(Confirm)) {
        if tag > self.confirmed {
            emit(Confirm::Ack { tag, multiple: tag > self.confirmed + 1 });
            self.confirmed = tag;
        }
    }

    /// Whether confirms wait for the log.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Publishes not yet confirmed.
    pub fn unconfirmed(&self) -> u64 {
        self.last - self.confirmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ack(tag: u64, multiple: bool) -> Confirm {
        Confirm::Ack { tag, multiple }
    }

    fn end(confirms: &mut Confirms, position: u64, durable: u64) -> Vec<Confirm> {
        let mut out = Vec::new();
        confirms.end_batch(position, durable, |confirm| out.push(confirm));
        out
    }

    fn durable(confirms: &mut Confirms, position: u64) -> Vec<Confirm> {
        let mut out = Vec::new();
        confirms.durable(position, |confirm| out.push(confirm));
        out
    }

    #[test]
    fn a_batch_without_log_is_confirmed_at_once() {
        let mut confirms = Confirms::default();
        confirms.number();
        assert_eq!(end(&mut confirms, 0, 0), [ack(1, false)]);
        confirms.number();
        confirms.number();
        assert_eq!(end(&mut confirms, 0, 0), [ack(3, true)]);
        assert_eq!(end(&mut confirms, 0, 0), []);
    }

    #[test]
    fn a_logged_batch_waits_for_its_position_and_later_ones_wait_behind_it() {
        let mut confirms = Confirms::default();
        confirms.number();
        assert_eq!(end(&mut confirms, 10, 5), []);
        confirms.number();
        assert_eq!(end(&mut confirms, 0, 5), []);
        confirms.number();
        assert_eq!(end(&mut confirms, 12, 5), []);
        assert!(confirms.is_waiting());
        assert_eq!(durable(&mut confirms, 9), []);
        assert_eq!(durable(&mut confirms, 11), [ack(2, true)]);
        assert_eq!(durable(&mut confirms, 12), [ack(3, false)]);
        assert!(!confirms.is_waiting());
        assert_eq!(confirms.unconfirmed(), 0);
    }

    #[test]
    fn every_publish_is_settled_once_also_around_refused_ones() {
        let mut confirms = Confirms::default();
        for tag in 1..=6 {
            confirms.number();
            if tag == 3 || tag == 6 {
                confirms.reject();
            }
        }
        let expected = [ack(2, true), Confirm::Nack { tag: 3 }, ack(5, true), Confirm::Nack { tag: 6 }];
        assert_eq!(end(&mut confirms, 0, 0), expected);
    }
}
