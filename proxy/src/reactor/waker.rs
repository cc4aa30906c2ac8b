//! Wakers that are numbers: which reactor, which task. They own nothing, so copying them costs nothing.
//!
//! ```text
//! 63        54 53              32 31            0
//! ┌───────────┬──────────────────┬───────────────┐
//! │ reactor   │ task: generation │ task: index   │
//! └───────────┴──────────────────┴───────────────┘
//! ```

use std::task::{RawWaker, RawWakerVTable, Waker};

use super::inbox;
use super::slots::{GENERATION_BITS, Key};

const SHIFT: u32 = 32 + GENERATION_BITS;

const _: () = assert!(usize::BITS == 64, "a waker holds 64 bits");

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, drop_nothing);

/// The waker of a task of the reactor with this number (10 bits).
pub(super) fn of(reactor: u16, task: Key) -> Waker {
    let word = u64::from(reactor) << SHIFT | task.to_u64();
    // SAFETY: the data is a number and never used as a pointer. The functions of the table may be called from
    // any thread and any number of times: they read that number only. A clone is a copy, and there is nothing
    // to release. A waker of a task or reactor that is gone wakes nothing.
    unsafe { Waker::new(std::ptr::without_provenance(word as usize), &TABLE) }
}

fn clone(data: *const ()) -> RawWaker {
    RawWaker::new(data, &TABLE)
}

fn wake(data: *const ()) {
    let word = data.addr() as u64;
    let reactor = (word >> SHIFT) as u16;
    inbox::wake(reactor, Key::from_u64(word & ((1 << SHIFT) - 1)));
}

fn drop_nothing(_: *const ()) {}
