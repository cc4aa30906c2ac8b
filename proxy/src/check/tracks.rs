//! `track`: servers that take their state from another one.

use std::sync::Arc;
use std::time::Instant;

use super::announce::{Cause, settle};
use crate::backend::Backend;
use crate::server::Server;

/// Makes every server that tracks another one follow it from now on. A track to nobody, or one that leads
/// back to itself, is left out with a warning; the configuration refuses those that can be seen there.
pub(super) fn link(backends: &[Arc<Backend>]) {
    let all: Vec<(&Arc<Backend>, Arc<Server>)> = backends
        .iter()
        .flat_map(|backend| {
            backend.servers().iter().cloned().map(move |server| (backend, server)).collect::<Vec<_>>()
        })
        .collect();
    let mut pairs = Vec::new();
    for (backend, server) in &all {
        server.forget_tracks();
        let config = server.config();
        let Some(track) = &config.options.track else { continue };
        let section = track.backend.as_deref().unwrap_or(&backend.name);
        match backends.iter().find(|it| *it.name == *section).and_then(|it| it.server(&track.server)) {
            Some(tracked) => pairs.push((*backend, server, tracked)),
            None => {
                tracing::warn!(server = %server.full_name(), section, tracked = track.server, "track: no such server");
            }
        }
    }
    let next = |server: &Arc<Server>| {
        pairs.iter().find(|(_, from, _)| Arc::ptr_eq(from, server)).map(|(_, _, to)| to.clone())
    };
    let mut linked = Vec::new();
    for (backend, server, tracked) in &pairs {
        let mut seen = Some(tracked.clone());
        let mut steps = 0;
        while let Some(at) = seen.filter(|at| !Arc::ptr_eq(at, server)) {
            steps += 1;
            seen = if steps > pairs.len() { Some((*server).clone()) } else { next(&at) };
            if seen.is_none() {
                server.track(backend, tracked);
                linked.push((steps, *backend, *server, tracked));
            }
        }
        if linked.last().is_none_or(|(_, _, last, _)| !Arc::ptr_eq(last, server)) {
            tracing::warn!(server = %server.full_name(), "track: the chain leads back to where it began");
        }
    }
    // Those next to a server with checks first, so that the chain settles in one go.
    linked.sort_by_key(|(steps, ..)| *steps);
    for (_, backend, server, tracked) in linked {
        let state = tracked.look(Clone::clone);
        let transition = server.change(|condition| condition.follow(&state, Instant::now()));
        settle(backend, server, transition, Cause::Via(&tracked.full_name()));
    }
}
