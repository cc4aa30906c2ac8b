//! A queue that does not fit into memory: when it writes segments, when it reads them back, when their files go.

use super::paged::{PageOut, Pages, RestoredSegment, SegmentFile, UnreadRange, Window, WindowRead};
use super::ready::Entry;
use super::{Crowd, Effects, Queue};
use crate::message::Message;
use crate::record::{At, QseqRange, QseqSet, Record, SegmentRecords};
use std::sync::Arc;

/// Octets of ready messages in memory above which publishers wait for consumers that are about to empty the queue:
/// memory is better spent than on what goes to the disk and comes back at once.
pub const CROWDED_ABOVE: u64 = 16 << 20;
/// Octets of ready messages in memory above which a queue writes segments.
pub const PAGE_ABOVE: u64 = 32 << 20;
/// Octets above which it writes them when the node is short of memory.
pub const PAGE_ABOVE_SHORT: u64 = 6 << 20;
/// Octets above which publishers wait until the segments are written.
pub const PAGE_BEHIND: u64 = 96 << 20;
/// How long to wait after a segment could not be written or read, milliseconds.
const RETRY_MS: u64 = 1000;

impl<H> Queue<H> {
    /// Sets what recovery knows about positions: the next one to hand out and the delivered mark. Call
    /// before anything else is restored.
    pub fn restore_positions(&mut self, epoch: u32, next_off: u64, next_qseq: u64, hwm: u64) {
        (self.epoch, self.led_since) = (epoch, epoch);
        self.next_off = next_off;
        self.next_qseq = next_qseq.max(1);
        self.hwm = hwm;
        // The mark is reserved ahead: what is published from now on has been seen by nobody.
        self.restored_hwm = hwm.min(self.next_qseq);
    }

    /// Puts back a segment that recovery found. Call in ascending order, after [`Queue::restore_positions`] and
    /// before [`Queue::restore`]. `live` of its messages are not settled.
    pub fn restore_segment(&mut self, segment: RestoredSegment, live: u64) {
        let RestoredSegment { first_qseq, last_qseq, messages, body_bytes, meta, dropped, requeued, epoch } =
            segment;
        self.next_qseq = self.next_qseq.max(last_qseq.saturating_add(1));
        if live > 0 {
            // How large each of them is shows when they are read.
            let share = u128::from(body_bytes) * u128::from(live) / u128::from(messages.max(1));
            let body_bytes = u64::try_from(share).unwrap_or(body_bytes);
            self.ready.restore_segment(first_qseq, last_qseq, live, body_bytes);
        }
        let (transient, redelivered) = (QseqSet::default(), QseqSet::default());
        let file = SegmentFile { last_qseq, live, dropped, transient, redelivered, requeued, meta, epoch };
        self.files.insert(first_qseq, file);
    }

    /// Puts back what recovery found: a message that was in the log and not dropped. Call in ascending
    /// `qseq` order, before any consumer arrives.
    pub fn restore(
        &mut self,
        qseq: u64,
        message: Arc<Message>,
        priority: u8,
        expires_ms: u64,
        returns: u32,
        log_floor: u64,
    ) {
        self.next_qseq = self.next_qseq.max(qseq.saturating_add(1));
        let redelivered = qseq < self.hwm || returns > 0;
        let entry = Entry {
            qseq,
            message,
            expires_ms,
            log_floor,
            returns,
            priority,
            redelivered,
            logged: true,
            stored: false,
        };
        match &mut self.waiting {
            Some(waiting) => waiting.insert(entry),
            None => self.ready.restore(entry),
        }
    }

    /// Octets of ready messages in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.ready.memory()
    }

    /// The node is short of memory: writes out more than the queue would by itself.
    pub fn page_out<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        if self.ready.memory() > PAGE_ABOVE_SHORT {
            self.start_page_out(now, fx);
        }
    }

    /// The messages of `page_out` are in a segment, which `meta` describes. Returns what left memory, to be
    /// freed where nobody waits; `None` when the segment is not wanted any more: it has to be removed, and then
    /// [`Queue::page_out_removed`] called, because another one may get its name.
    pub fn paged_out<E: Effects<Handle = H>>(
        &mut self,
        now: u64,
        page_out: &PageOut,
        meta: &[u8],
        fx: &mut E,
    ) -> Option<Vec<Entry>> {
        let entries = self.ready.drop_written(page_out)?;
        self.paging_out = false;
        let (first_qseq, last_qseq) = (page_out.first_qseq(), entries.last()?.qseq);
        let mut transient = QseqSet::default();
        for entry in entries.iter().filter(|entry| self.durable && !entry.logged) {
            transient.insert(QseqRange::one(entry.qseq));
        }
        let mut redelivered = QseqSet::default();
        for entry in entries.iter().filter(|entry| entry.redelivered) {
            redelivered.insert(QseqRange::one(entry.qseq));
        }
        // What is not in it is gone, so that the positions alone tell what is.
        let mut dropped = QseqSet::default();
        for pair in entries.windows(2).filter(|pair| pair[0].qseq + 1 < pair[1].qseq) {
            dropped.insert(QseqRange { first: pair[0].qseq + 1, last: pair[1].qseq - 1 });
        }
        let file = SegmentFile {
            last_qseq,
            live: entries.len() as u64,
            dropped,
            transient,
            redelivered,
            requeued: Default::default(),
            meta: meta.into(),
            epoch: page_out.epoch,
        };
        self.files.insert(first_qseq, file);
        if self.durable {
            self.log_segment(first_qseq, fx);
        }
        self.page_if_large(now, fx);
        self.drain(now, fx);
        Some(entries)
    }

    /// A segment that was not wanted any more is removed.
    pub fn page_out_removed<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        self.paging_out = false;
        self.page_if_large(now, fx);
    }

    /// A segment could not be written; its messages stay in memory.
    pub fn page_out_failed<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        self.paging_out = false;
        if let Some(paged) = self.ready.paged() {
            paged.write_failed();
        }
        self.page_retry_ms = now.saturating_add(RETRY_MS);
        self.arm(self.page_retry_ms, fx);
    }

    /// The messages of a window were read. Ignored when something else was asked for since.
    pub fn arrived<E: Effects<Handle = H>>(
        &mut self,
        now: u64,
        window: &Window,
        read: WindowRead,
        fx: &mut E,
    ) {
        if self.take_in(window, read) {
            self.trim(fx);
            self.drain(now, fx);
        }
    }

    /// The messages of a window could not be read. They are tried again after a while.
    pub fn read_failed<E: Effects<Handle = H>>(&mut self, now: u64, window: &Window, fx: &mut E) {
        if let Some(paged) = self.ready.paged()
            && paged.awaits(window)
        {
            paged.read_failed();
            self.arm(now.saturating_add(RETRY_MS), fx);
        }
    }

    /// A dead letter is at its target: its place in a segment is free.
    pub fn letter_gone<E: Effects<Handle = H>>(&mut self, stored_qseq: u64, fx: &mut E) {
        self.stored_gone(stored_qseq, fx);
    }

    /// Has publishers wait, or writes a segment, when much lies in memory. Called for each message that waits.
    pub(super) fn page_if_large<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        self.pace.look(now, self.stats.acked + self.stats.delivered_no_ack + self.stats.got_no_ack);
        let memory = self.ready.memory();
        if memory > CROWDED_ABOVE && self.pace.empties_soon(self.ready.len() as u64) {
            fx.crowded(self.id, Crowd::Consumed);
        }
        if memory > PAGE_ABOVE {
            self.start_page_out(now, fx);
        }
        // What can not be written out is not worth waiting for: memory's alarm is there for that.
        if memory > PAGE_BEHIND && self.paging_out {
            fx.crowded(self.id, Crowd::Paged);
        }
    }

    fn start_page_out<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) {
        if self.config.max_priority.is_some() || now < self.page_retry_ms || self.paging_out {
            return;
        }
        let held = self.held.keys().copied().max().unwrap_or(0);
        let pages = Pages { epoch: self.epoch, mirror: self.mirror.as_deref() };
        match self.ready.page_out(self.id, &pages, self.durable, held) {
            Some(page_out) => {
                self.paging_out = true;
                fx.page_out(page_out);
            }
            // What is in the way stays there for a while, and looking for it takes time.
            None => self.page_retry_ms = now.saturating_add(RETRY_MS),
        }
    }

    /// Asks for messages before the consumers need them.
    pub(super) fn read_ahead<E: Effects<Handle = H>>(&mut self, fx: &mut E) {
        if let Some(window) = self.ready.window(self.id, self.durable) {
            fx.read_ahead(window);
        }
    }

    /// Reads the next messages while somebody waits. `false` when there is nothing to read.
    pub(super) fn read_now<E: Effects<Handle = H>>(&mut self, now: u64, fx: &mut E) -> bool {
        let (id, durable) = (self.id, self.durable);
        let Some(window) = self.ready.paged().and_then(|paged| paged.window_now(id, durable)) else {
            return false;
        };
        match fx.read_now(&window) {
            Some(read) => self.take_in(&window, read),
            None => {
                self.read_failed(now, &window, fx);
                false
            }
        }
    }

    fn take_in(&mut self, window: &Window, read: WindowRead) -> bool {
        let (hwm, durable) = (self.restored_hwm, self.durable);
        let Some(paged) = self.ready.paged().filter(|paged| paged.awaits(window)) else { return false };
        let arrived = paged.arrived(read, hwm, durable, &self.files);
        self.ready.arrived(arrived);
        true
    }

    /// A message that a segment holds is settled.
    pub(super) fn stored_gone<E: Effects<Handle = H>>(&mut self, qseq: u64, fx: &mut E) {
        let Some((&first, file)) = self.files.range_mut(..=qseq).next_back() else { return };
        file.dropped.insert(QseqRange::one(qseq));
        file.live = file.live.saturating_sub(1);
        if file.live == 0 {
            self.remove_file(first, fx);
        }
    }

    /// What was never read of a segment was purged.
    pub(super) fn unread_gone<E: Effects<Handle = H>>(&mut self, unread: &UnreadRange, fx: &mut E) {
        let Some(file) = self.files.get_mut(&unread.segment) else { return };
        file.dropped.insert(unread.range);
        file.live = file.live.saturating_sub(unread.messages);
        if file.live == 0 {
            self.remove_file(unread.segment, fx);
        }
    }

    /// Removes the files that recovery found without anything alive in them.
    pub(super) fn sweep<E: Effects<Handle = H>>(&mut self, fx: &mut E) {
        let dead: Vec<u64> =
            self.files.iter().filter(|(_, file)| file.live == 0).map(|(&first, _)| first).collect();
        for first in dead {
            self.remove_file(first, fx);
        }
    }

    fn remove_file<E: Effects<Handle = H>>(&mut self, first_qseq: u64, fx: &mut E) {
        self.files.remove(&first_qseq);
        if let Some(paged) = self.ready.paged() {
            paged.forget(first_qseq);
        }
        if self.durable {
            let at = self.at();
            fx.log(&Record::SegDel { at, first_qseq });
        }
        fx.remove_segment(self.id, first_qseq, self.durable);
    }

    /// Says of every segment again what the log has to know.
    pub(super) fn log_segments<E: Effects<Handle = H>>(&mut self, fx: &mut E) {
        if self.durable {
            let firsts: Vec<u64> = self.files.keys().copied().collect();
            firsts.into_iter().for_each(|first| self.log_segment(first, fx));
        }
    }

    fn log_segment<E: Effects<Handle = H>>(&mut self, first_qseq: u64, fx: &mut E) {
        let at = self.at();
        let Some(file) = self.files.get(&first_qseq) else { return };
        let at = At { epoch: file.epoch, ..at };
        let records = SegmentRecords {
            at,
            first_qseq,
            last_qseq: file.last_qseq,
            meta: &file.meta,
            // A message that the log does not know would be alive after a restart otherwise.
            gone: &[&file.dropped, &file.transient],
            requeued: &file.requeued,
        };
        records.visit(|record| fx.log(&record));
    }
}
