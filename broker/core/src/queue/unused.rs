//! When a queue goes for not being used: its last consumer left (auto-delete), or nobody used it for `x-expires`.

use super::consumers::ConsumerRef;
use super::{Effects, Queue};

/// How long a queue that lost its consumers waits for them before it goes for having none, milliseconds.
const SPARE_MS: u64 = 10_000;

impl<H> Queue<H> {
    /// Timer work: expires the head, and the queue itself when it was not used for `x-expires`.
    pub fn tick<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        if now >= self.timer_at {
            self.timer_at = u64::MAX;
        }
        if self.waiting.is_some() {
            return self.release_due(now, fx);
        }
        self.sweep(fx);
        self.expire_head(now, fx);
        self.read_ahead(fx);
        if !self.consumers.is_empty() || self.rests() {
            return;
        }
        let lost_last = self.auto_delete && self.spared_until_ms != 0;
        if lost_last && now < self.spared_until_ms {
            self.arm(self.spared_until_ms, fx);
        }
        match self.idle_until() {
            // Nobody has come back.
            _ if lost_last && now >= self.spared_until_ms => self.close_unused(fx),
            Some(until) if now >= until => self.close_unused(fx),
            Some(_) => self.arm_idle_timer(fx),
            None => {}
        }
    }

    /// When the queue goes for not being used, if it does and has no consumers.
    fn idle_until(&self) -> Option<u64> {
        let until = self.last_used_ms.saturating_add(self.config.expires_ms?);
        Some(until.max(self.spared_until_ms))
    }

    /// Whether the queue has decided to go and only waits for its deletion: whoever comes now has come too late.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    pub(super) fn close_unused<E: Effects<Handle = H>>(&mut self, fx: &mut E) {
        self.closing = true;
        fx.unused(self.id);
    }

    /// Marks the queue as used now (declare and get postpone `x-expires`).
    pub fn touch<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        self.last_used_ms = now;
        self.arm_idle_timer(fx);
    }

    /// As [`withdraw`](Self::withdraw) for a consumer that was lost and may come back soon: for a while the queue does not
    /// go for having no consumers.
    pub fn lose<E: Effects<Handle = H>>(&mut self, now: u64, consumer: ConsumerRef, fx: &mut E) -> Option<H> {
        let handle = self.consumers.remove(consumer)?;
        self.last_used_ms = now;
        if self.consumers.is_empty() {
            self.spared_until_ms = now.saturating_add(SPARE_MS);
            if self.auto_delete {
                self.arm(self.spared_until_ms, fx);
            }
            self.arm_idle_timer(fx);
        }
        Some(handle)
    }

    pub(super) fn arm_idle_timer<E: Effects<Handle = H>>(&mut self, fx: &mut E) {
        if let Some(until) = self.idle_until()
            && self.consumers.is_empty()
        {
            self.arm(until, fx);
        }
    }
}
