//! Random numbers for `balance random`: small and fast, not for secrets.

use std::hash::{BuildHasher, RandomState};

/// An xorshift generator.
#[derive(Debug)]
pub(super) struct Draw {
    state: u64,
}

impl Draw {
    /// Seeded from the operating system.
    pub(super) fn new() -> Self {
        Self { state: RandomState::new().hash_one(1u8) | 1 }
    }

    /// A place in `weights`, by weight; `None` when there is none.
    pub(super) fn weighted(&mut self, weights: &[u64], total: u64) -> Option<usize> {
        if total == 0 {
            return None;
        }
        let mut left = self.next() % total;
        weights.iter().position(|weight| {
            let here = left < *weight;
            left = left.saturating_sub(*weight);
            here
        })
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}
