//! How long the disk has been at work for the log: a disk that hangs answers nobody, and reports no error either.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Says how long the operation that the disk has not finished takes already. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct DiskWatch(Arc<Mutex<Option<Instant>>>);

impl DiskWatch {
    /// The age of the operation under way; zero when there is none.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.0.lock().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Carries out an operation of the disk. One after the other.
    pub fn during<T>(&self, operation: impl FnOnce() -> T) -> T {
        *self.0.lock() = Some(Instant::now());
        let outcome = operation();
        *self.0.lock() = None;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_as_old_as_it_takes_and_forgotten_at_its_end() {
        let watch = DiskWatch::default();
        assert_eq!(watch.age(), Duration::ZERO);
        let other = watch.clone();
        let age = watch.during(|| {
            while other.age().is_zero() {
                std::thread::yield_now();
            }
            other.age()
        });
        assert!(age > Duration::ZERO);
        assert_eq!(watch.age(), Duration::ZERO);
    }
}
