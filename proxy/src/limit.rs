//! A number of places, of which each connection takes one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// The places. Taking and giving back is one atomic step while nobody waits.
#[derive(Debug)]
pub struct Places {
    limit: AtomicU32,
    used: AtomicU32,
    /// Somebody waits; checked after each place that is given back.
    awaited: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

/// A place; dropping it gives it back.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl Places {
    /// So many places, all free.
    pub fn new(limit: u32) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            used: AtomicU32::new(0),
            awaited: AtomicBool::new(false),
            waiting: Mutex::default(),
        }
    }

    /// How many places there are.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes that. Those who have a place keep it.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::SeqCst);
        self.wake();
    }

    /// How many places are taken.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether none is free.
    pub fn is_full(&self) -> bool {
        self.used() >= self.limit()
    }

    /// Takes a place if one is free.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let limit = self.limit.load(Ordering::SeqCst);
        if self.used.fetch_add(1, Ordering::SeqCst) < limit {
            return Some(Place(self.clone()));
        }
        self.used.fetch_sub(1, Ordering::SeqCst);
        None
    }

    /// Ready when a place is free. It is not taken by that; others may be faster.
    pub fn poll_free(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_full() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock();
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        self.awaited.store(true, Ordering::SeqCst);
        drop(waiting);
        // One that was given back before it could see that somebody waits.
        if self.used.load(Ordering::SeqCst) < self.limit.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn wake(&self) {
        if self.awaited.swap(false, Ordering::SeqCst) {
            for waker in std::mem::take(&mut *self.waiting.lock()) {
                waker.wake();
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::SeqCst);
        if self.0.awaited.load(Ordering::SeqCst) {
            self.0.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let places = Arc::new(Places::new(2));
        let (first, second) = (places.take().unwrap(), places.take().unwrap());
        assert!(places.take().is_none() && places.is_full());
        let mut context = Context::from_waker(Waker::noop());
        assert!(places.poll_free(&mut context).is_pending());
        drop(first);
        assert!(places.poll_free(&mut context).is_ready());
        let _third = places.take().unwrap();
        places.set_limit(1);
        drop(second);
        assert!(places.take().is_none());
        assert_eq!((places.used(), places.limit()), (1, 1));
    }

    #[test]
    fn those_who_wait_are_woken() {
        struct Flag(AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let places = Arc::new(Places::new(1));
        let place = places.take().unwrap();
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(flag.clone());
        assert!(places.poll_free(&mut Context::from_waker(&waker)).is_pending());
        drop(place);
        assert!(flag.0.load(Ordering::SeqCst));
    }
}
