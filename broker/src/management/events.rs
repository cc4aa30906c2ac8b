//! `/api/events`: the overview as server-sent events, so that a page need not ask.

use super::Api;
use super::caller::Caller;
use super::fields::write_object;
use super::listing::Entry as _;
use super::overview::Overview;
use super::rates::Windows;
use axum::extract::{Query, State};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Seconds between events unless told otherwise, and at most.
const INTERVAL: u64 = 5;
const MAX_INTERVAL: u64 = 60;
/// How long one stream lasts; browsers connect again by themselves, and whoever may not look any more is out then.
const LIFETIME: u32 = 600;
/// Streams at the same time. Beyond that they end after one event.
const MOST: usize = 256;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// How often an event is wanted.
#[derive(Debug, Deserialize)]
pub(super) struct Interval {
    interval: Option<u64>,
}

/// One of the open streams.
struct Place;

impl Place {
    fn take() -> (Place, bool) {
        (Place, OPEN.fetch_add(1, Ordering::Relaxed) < MOST)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn events(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(Interval { interval }): Query<Interval>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let seconds = interval.unwrap_or(INTERVAL).clamp(1, MAX_INTERVAL);
    let (place, free) = Place::take();
    let left = if free { LIFETIME / u32::try_from(seconds).unwrap_or(1) } else { 1 };
    let mut ticks = tokio::time::interval(Duration::from_secs(seconds));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let stream = unfold((api, caller, ticks, left, place), async |(api, caller, mut ticks, left, place)| {
        let left = left.checked_sub(1)?;
        ticks.tick().await;
        let mut text = Vec::new();
        let overview = Overview::new(&api, &caller, Windows::default());
        write_object(&mut text, None, |fields| overview.write(fields));
        let event = Event::default().event("overview").data(String::from_utf8_lossy(&text));
        Some((Ok(event), (api, caller, ticks, left, place)))
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}
