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
}

#[derive(Debug)]
struct Pending {
    last: u64,
    position: u64,
}

impl Confirms {
    /// Number of the next publish, counting from 1.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Ends a batch: everything numbered so far may be confirmed once the log is durable up to `position`
    /// (0: needs no log). Returns the number up to which to acknowledge now.
    pub fn end_batch(&mut self, position: u64, durable: u64) -> Option<u64> {
        let batch_start = self.pending.back().map_or(self.confirmed, |pending| pending.last);
        if self.last == batch_start {
            return None;
        }
        match self.pending.back_mut() {
            Some(back) if back.position >= position => back.last = self.last,
            _ => self.pending.push_back(Pending { last: self.last, position }),
        }
        self.durable(durable)
    }

    /// The log is durable up to `position`. Returns the number up to which to acknowledge now.
    pub fn durable(&mut self, position: u64) -> Option<u64> {
        let mut upto = None;
        while let Some(front) = self.pending.front() {
            if front.position > position {
                break;
            }
            upto = Some(front.last);
            self.pending.pop_front();
        }
        if let Some(upto) = upto {
            self.confirmed = upto;
        }
        upto
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

    #[test]
    fn a_batch_without_log_is_confirmed_at_once() {
        let mut confirms = Confirms::default();
        confirms.number();
        confirms.number();
        assert_eq!(confirms.end_batch(0, 0), Some(2));
        assert_eq!(confirms.end_batch(0, 0), None);
    }

    #[test]
    fn a_logged_batch_waits_for_its_position_and_later_ones_wait_behind_it() {
        let mut confirms = Confirms::default();
        confirms.number();
        assert_eq!(confirms.end_batch(10, 5), None);
        confirms.number();
        assert_eq!(confirms.end_batch(0, 5), None);
        confirms.number();
        assert_eq!(confirms.end_batch(12, 5), None);
        assert!(confirms.is_waiting());
        assert_eq!(confirms.durable(9), None);
        assert_eq!(confirms.durable(11), Some(2));
        assert_eq!(confirms.durable(12), Some(3));
        assert!(!confirms.is_waiting());
        assert_eq!(confirms.unconfirmed(), 0);
    }
}
