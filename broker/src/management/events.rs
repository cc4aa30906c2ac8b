//! `/api/events`: the overview as server-sent events, so that a page need not ask.

use super::Api;
use super::caller::Caller;
use super::fields::write_object;
use super::listing::Entry as _;
use super::overview::Overview;
use super::peers::add_overviews;
use super::rates::Windows;
use axum::extract::{Query, State};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use broker_core::meta::PasswordHash;
use futures_util::Stream;
use futures_util::stream::unfold;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior};

/// Seconds between events unless told otherwise, and at most.
const INTERVAL: u64 = 5;
const MAX_INTERVAL: u64 = 60;
/// Seconds that one stream lasts; browsers connect again by themselves.
const LIFETIME: u64 = 600;
/// Streams at the same time, and those of one user: nobody takes the places of all others. Beyond that they end after
/// one event.
const MOST: usize = 256;
const MOST_OF_A_USER: usize = 32;

/// How often an event is wanted.
#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    interval: Option<u64>,
}

/// How many streams are open, by user.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<HashMap<Arc<str>, usize>>);

impl Streams {
    fn take(streams: &Arc<Streams>, user: &Arc<str>) -> Option<Place> {
        let mut open = streams.0.lock();
        let own = open.get(user).copied().unwrap_or(0);
        if own >= MOST_OF_A_USER || open.values().sum::<usize>() >= MOST {
            return None;
        }
        open.insert(Arc::clone(user), own + 1);
        Some(Place { streams: Arc::clone(streams), user: Arc::clone(user) })
    }
}

/// One of the open streams.
#[derive(Debug)]
struct Place {
    streams: Arc<Streams>,
    user: Arc<str>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock();
        match open.get_mut(&self.user) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(open.remove(&self.user)),
        }
    }
}

/// A stream between two events.
struct Watching {
    api: Arc<Api>,
    caller: Caller,
    /// What the caller's password was at the beginning: whoever changes it means to end what was begun with it.
    password: Option<PasswordHash>,
    ticks: Interval,
    left: u64,
    _place: Option<Place>,
}

pub(super) async fn events(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(Wish { interval }): Query<Wish>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let seconds = interval.unwrap_or(INTERVAL).clamp(1, MAX_INTERVAL);
    let place = Streams::take(&api.streams, &caller.name);
    let left = if place.is_some() { LIFETIME / seconds } else { 1 };
    let mut ticks = tokio::time::interval(Duration::from_secs(seconds));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let password = api.node.metadata.read().user(&caller.name).and_then(|user| user.password.clone());
    let watching = Watching { api, caller, password, ticks, left, _place: place };
    Sse::new(unfold(watching, next)).keep_alive(KeepAlive::default())
}

/// The next event, unless the stream is at its end or its caller may not look any more.
async fn next(mut watching: Watching) -> Option<(Result<Event, Infallible>, Watching)> {
    watching.left = watching.left.checked_sub(1)?;
    watching.ticks.tick().await;
    let Watching { api, caller, password, .. } = &mut watching;
    {
        let sm = api.node.metadata.read();
        caller.renew(&sm)?;
        let same = caller.local || sm.user(&caller.name).is_some_and(|user| user.password == *password);
        same.then_some(())?;
    }
    let mut text = Vec::new();
    let overview = Overview::new(api, caller, Windows::default());
    write_object(&mut text, None, |fields| overview.write(fields));
    let text = add_overviews(api, caller, text).await;
    let event = Event::default().event("overview").data(String::from_utf8_lossy(&text));
    Some((Ok(event), watching))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_places_to_the_others() {
        let streams = Arc::new(Streams::default());
        let take = |user: &str| Streams::take(&streams, &Arc::from(user));
        let own: Vec<_> = (0..MOST_OF_A_USER).map(|_| take("ann").unwrap()).collect();
        assert!(take("ann").is_none());
        let other = take("bob").unwrap();
        drop(own);
        assert!(take("ann").is_some());
        drop(other);
        assert!(streams.0.lock().is_empty(), "who has no stream is forgotten");
        let all: Vec<_> = (0..MOST).filter_map(|at| take(&format!("user{}", at / MOST_OF_A_USER))).collect();
        assert_eq!(all.len(), MOST);
        assert!(take("bob").is_none());
    }
}
