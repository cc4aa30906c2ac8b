//! Waiting for a moment.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::slots::Key;
use super::{now, with};

/// A future that ends at a moment. Moving the moment later costs nothing.
#[derive(Debug)]
pub struct Sleep {
    until: Instant,
    timer: Option<Key>,
}

/// Waits for a duration, rounded up to milliseconds.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(now() + duration)
}

/// Waits for a moment, rounded up to milliseconds.
pub fn sleep_until(until: Instant) -> Sleep {
    Sleep { until, timer: None }
}

impl Sleep {
    /// Waits for another moment instead. A running timer is stopped only when it would end too late.
    pub fn reset(&mut self, until: Instant) {
        if until < self.until {
            self.stop();
        }
        self.until = until;
    }

    fn stop(&mut self) {
        if let Some(timer) = self.timer.take() {
            with(|core| core.wheel.borrow_mut().stop(timer));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        with(|core| {
            let mut wheel = core.wheel.borrow_mut();
            if core.now.get() >= until {
                if let Some(timer) = self.timer.take() {
                    wheel.stop(timer);
                }
                return Poll::Ready(());
            }
            let runs = self.timer.is_some_and(|timer| wheel.set_waker(timer, context.waker()));
            if !runs {
                // The millisecond after the one that the moment lies in.
                self.timer = Some(wheel.start(core.tick_of(until) + 1, context.waker().clone()));
            }
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The result of a future, or `None` when it takes longer than `limit`.
pub async fn timeout<F: Future>(limit: Option<Duration>, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut sleep = limit.map(sleep);
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        match &mut sleep {
            Some(sleep) => Pin::new(sleep).poll(context).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}
