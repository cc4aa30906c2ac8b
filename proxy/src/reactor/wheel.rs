//! Timers by the millisecond: a wheel of wheels, so that starting and stopping one costs the same however many
//! there are.
//!
//! ```text
//! level 0: 64 places of 1 ms   level 1: 64 of 64 ms   level 2: 64 of 4096 ms   ...   level 5: 64 of 12 days
//! ```
//!
//! A timer lies where its end first differs from now. When now comes to the beginning of its place, it moves
//! down a level, or is due.

use std::task::Waker;

use super::slots::{Key, Slots};

const LEVELS: usize = 6;
const BITS: u32 = 6;
const PLACES: usize = 1 << BITS;
/// What the wheel can hold: about two years ahead.
const SPAN: u64 = 1 << (BITS * LEVELS as u32);

/// The wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    timers: Slots<Timer>,
    now: u64,
    levels: [Level; LEVELS],
    /// Due already.
    due: Option<Key>,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    occupied: u64,
    first: [Option<Key>; PLACES],
}

#[derive(Debug)]
struct Timer {
    at: u64,
    waker: Waker,
    place: Place,
    before: Option<Key>,
    after: Option<Key>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Due,
    Level(u8, u8),
}

impl Default for Wheel {
    fn default() -> Self {
        let level = Level { occupied: 0, first: [None; PLACES] };
        Self { timers: Slots::default(), now: 0, levels: [level; LEVELS], due: None }
    }
}

impl Wheel {
    /// Starts a timer that ends at this millisecond.
    pub(super) fn start(&mut self, at: u64, waker: Waker) -> Key {
        // Half of it, so that the last level never goes round to where now is. Whoever waits for more starts again.
        let at = at.min(self.now + SPAN / 2);
        let key = self.timers.insert(Timer { at, waker, place: Place::Due, before: None, after: None });
        self.link(key);
        key
    }

    /// Stops a timer; nothing happens if it has ended.
    pub(super) fn stop(&mut self, key: Key) {
        if self.timers.get_mut(key).is_some() {
            self.unlink(key);
            self.timers.remove(key);
        }
    }

    /// Whom a running timer is to wake. Says whether it still runs.
    pub(super) fn set_waker(&mut self, key: Key, waker: &Waker) -> bool {
        match self.timers.get_mut(key) {
            Some(timer) => {
                if !timer.waker.will_wake(waker) {
                    timer.waker = waker.clone();
                }
                true
            }
            None => false,
        }
    }

    /// The millisecond at which to look again; `None` when no timer runs.
    pub(super) fn next(&self) -> Option<u64> {
        if self.due.is_some() {
            return Some(self.now);
        }
        self.next_place().map(|(_, _, begin)| begin)
    }

    /// Goes on to this millisecond and takes one timer that is due; call it until it gives none.
    pub(super) fn expire(&mut self, now: u64) -> Option<Waker> {
        loop {
            if let Some(key) = self.due {
                self.unlink(key);
                return self.timers.remove(key).map(|timer| timer.waker);
            }
            match self.next_place() {
                Some((level, place, begin)) if begin <= now => {
                    self.now = self.now.max(begin);
                    while let Some(key) = self.levels[level].first[place] {
                        self.unlink(key);
                        self.link(key);
                    }
                }
                _ => {
                    self.now = self.now.max(now);
                    return None;
                }
            }
        }
    }

    /// The first place with timers: its level, its number, and the millisecond at which it begins.
    fn next_place(&self) -> Option<(usize, usize, u64)> {
        let found = self.levels.iter().enumerate().find(|(_, level)| level.occupied != 0)?;
        let (index, level) = found;
        let shift = BITS * index as u32;
        let here = (self.now >> shift) & (PLACES as u64 - 1);
        let ahead = level.occupied.rotate_right(here as u32).trailing_zeros();
        let place = (here as usize + ahead as usize) % PLACES;
        let round = self.now >> (shift + BITS) << (shift + BITS);
        // Only the last level goes round; the others hold nothing before now.
        let begin =
            round + ((place as u64) << shift) + if (place as u64) < here { 1 << (shift + BITS) } else { 0 };
        Some((index, place, begin))
    }

    fn link(&mut self, key: Key) {
        let now = self.now;
        let Some(timer) = self.timers.get_mut(key) else { return };
        timer.place = if timer.at <= now {
            Place::Due
        } else {
            let differs = 63 - (timer.at ^ now).leading_zeros();
            let level = (differs / BITS).min(LEVELS as u32 - 1);
            let place = (timer.at >> (BITS * level)) & (PLACES as u64 - 1);
            Place::Level(level as u8, place as u8)
        };
        let place = timer.place;
        timer.before = None;
        let first = self.first(place).replace(key);
        if let Some(timer) = self.timers.get_mut(key) {
            timer.after = first;
        }
        if let Some(next) = first.and_then(|first| self.timers.get_mut(first)) {
            next.before = Some(key);
        }
        if let Place::Level(level, place) = place {
            self.levels[usize::from(level)].occupied |= 1 << place;
        }
    }

    fn unlink(&mut self, key: Key) {
        let Some(timer) = self.timers.get_mut(key) else { return };
        let (place, before, after) = (timer.place, timer.before.take(), timer.after.take());
        if let Some(next) = after.and_then(|after| self.timers.get_mut(after)) {
            next.before = before;
        }
        match before.and_then(|before| self.timers.get_mut(before)) {
            Some(previous) => previous.after = after,
            None => *self.first(place) = after,
        }
        if let Place::Level(level, place) = place {
            let level = &mut self.levels[usize::from(level)];
            if level.first[usize::from(place)].is_none() {
                level.occupied &= !(1 << place);
            }
        }
    }

    fn first(&mut self, place: Place) -> &mut Option<Key> {
        match place {
            Place::Due => &mut self.due,
            Place::Level(level, place) => &mut self.levels[usize::from(level)].first[usize::from(place)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    struct Counter(AtomicU64);

    impl std::task::Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn count(wheel: &mut Wheel, now: u64) -> usize {
        std::iter::from_fn(|| wheel.expire(now)).count()
    }

    #[test]
    fn timers_end_at_their_millisecond() {
        let waker = Waker::from(Arc::new(Counter(AtomicU64::new(0))));
        for at in [1, 2, 63, 64, 65, 127, 4095, 4096, 4097, 100_000, 16_777_216, 3_000_000_000] {
            let mut wheel = Wheel::default();
            wheel.start(at, waker.clone());
            // Follow the wheel's own advice; it must never be late, and end at the very time.
            let mut now = 0;
            while let Some(next) = wheel.next() {
                assert!(next >= now && next <= at, "{at}: {next} after {now}");
                now = next;
                let ended = count(&mut wheel, now);
                assert_eq!(ended, usize::from(now == at), "{at} at {now}");
            }
            assert_eq!(now, at);
        }
    }

    #[test]
    fn a_stopped_timer_does_not_end() {
        let waker = Waker::from(Arc::new(Counter(AtomicU64::new(0))));
        let mut wheel = Wheel::default();
        let keys: Vec<Key> = (0..10).map(|_| wheel.start(50, waker.clone())).collect();
        for key in keys.iter().step_by(2) {
            wheel.stop(*key);
        }
        assert!(wheel.set_waker(keys[1], &waker));
        assert!(!wheel.set_waker(keys[0], &waker));
        assert_eq!(count(&mut wheel, 49), 0);
        assert_eq!(count(&mut wheel, 50), 5);
        assert_eq!(wheel.next(), None);
    }

    /// Against a plain list of ends, with jumps of any size.
    #[test]
    fn the_wheel_agrees_with_a_list() {
        let waker = Waker::from(Arc::new(Counter(AtomicU64::new(0))));
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let (mut wheel, mut list, mut now) = (Wheel::default(), Vec::new(), 0_u64);
        for _ in 0..20_000 {
            let spread = 1 << draw(28);
            let at = now + draw(spread);
            list.push((at, wheel.start(at, waker.clone())));
            if draw(4) == 0 && !list.is_empty() {
                let index = usize::try_from(draw(list.len() as u64)).unwrap();
                let (_, key) = list.swap_remove(index);
                wheel.stop(key);
            }
            if draw(3) == 0 {
                now += 1 << draw(20);
                let expected = list.iter().filter(|(at, _)| *at <= now).count();
                list.retain(|(at, _)| *at > now);
                assert_eq!(count(&mut wheel, now), expected, "at {now}");
            }
            let earliest = list.iter().map(|(at, _)| *at).min();
            assert!(
                wheel.next() <= earliest.or(Some(u64::MAX)) && wheel.next().is_some() == earliest.is_some()
            );
        }
    }
}
