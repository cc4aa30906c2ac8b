//! What a queue appends to the log for the log's own sake: so that old files can go, and when its life begins and ends.

use super::log::entry_record;
use super::{Effects, Queue};
use crate::record::{At, Record};

/// Messages that one step of relocating appends again.
const RELOCATE_STEP: usize = 8192;
/// Octets of messages after which such a step ends, so that it fits into one append to the log.
const RELOCATE_BYTES: usize = 4 << 20;

impl<H> Queue<H> {
    /// Appends again what lies in the log below `floor`, ready or held, so that old log files become free. One
    /// call is a step of bounded size; call until it returns 0. Returns the number of messages.
    pub fn relocate<E: Effects<Handle = H>>(&mut self, now: u64, floor: u64, fx: &mut E) -> usize {
        let (queue_id, current, mut off) = (self.id.0, self.epoch, self.next_off);
        let mirror = self.mirror.as_deref();
        let waiting = self.waiting.iter_mut().flat_map(|waiting| waiting.iter_mut());
        let held = self.held.values_mut().map(|held| &mut held.entry);
        let entries = self.ready.iter_mut().chain(held).chain(waiting);
        let (mut moved, mut octets) = (0, 0);
        for entry in entries
            .filter(|entry| entry.logged && !entry.stored && entry.log_floor < floor)
            .take(RELOCATE_STEP)
        {
            entry.log_floor = fx.log_floor();
            off = off.saturating_add(1);
            // With its position, the epoch is what a message is known by.
            let epoch = mirror.map_or(current, |mirror| mirror.epoch_of(entry.qseq));
            let at = At { queue_id, epoch, off };
            fx.log(&entry_record(at, now, entry));
            moved += 1;
            octets += entry.message.memory();
            if octets >= RELOCATE_BYTES {
                break;
            }
        }
        self.next_off = off;
        moved
    }

    /// Writes down the counters and the segments, so that they outlive the log files that hold the records they
    /// came from.
    pub fn log_open<E: Effects<Handle = H>>(&mut self, fx: &mut E) {
        let (at, next_qseq, hwm) = (self.at(), self.next_qseq, self.hwm);
        fx.log(&Record::QOpen { at, next_qseq, hwm });
        self.log_origins(fx);
        self.log_segments(fx);
    }

    /// Writes down which publishes of other nodes were taken.
    pub(super) fn log_origins<E: Effects<Handle = H>>(&mut self, fx: &mut E) {
        let Some(origins) = self.origins.as_ref().map(|origins| origins.encode()) else { return };
        let at = self.at();
        fx.log(&Record::Taken { at, origins: &origins });
    }

    /// Writes down that the queue is gone with everything in it.
    pub fn log_close<E: Effects<Handle = H>>(&mut self, fx: &mut E) {
        let at = self.at();
        fx.log(&Record::QClose { at });
    }
}
