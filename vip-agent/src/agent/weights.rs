//! Warns when a weight can never move the addresses, judged by the priorities heard on the wire.
//!
//! A single file cannot show this: the gap that a weight must be larger than is the distance to the peer. A
//! backup hears the master's priority and judges for it, because both hosts usually have the same checks; a
//! master judges for itself once it has heard a peer.

use std::net::IpAddr;

use vrrp::State;
use vrrp::priority::{TrackStatus, keeps_after};

use super::Agent;

/// What was judged last; the same again says nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weighed {
    state: State,
    peer: IpAddr,
    theirs: u8,
    ours: u8,
}

impl Agent {
    /// Looks at the priorities of this instance and its peer, when one of them has changed.
    pub(super) fn weigh(&mut self, index: usize) {
        let router = &self.routers[index];
        let (core, state) = (&router.core, router.core.state());
        let Some(heard) = core.heard().filter(|heard| heard.priority > 0) else { return };
        if !matches!(state, State::Master | State::Backup) {
            return;
        }
        let ours = core.effective_priority();
        let weighed = Weighed { state, peer: heard.source, theirs: heard.priority, ours };
        if router.weighed == Some(weighed) {
            return;
        }
        let (master, backup) = match state {
            State::Master => (ours, heard.priority),
            _ => (heard.priority, ours),
        };
        // With a master below its backup the addresses are moving already.
        let remarks = if master < backup { Vec::new() } else { self.remarks(index, master, backup) };
        for (check, weight, left) in &remarks {
            let instance = self.routers[index].name();
            let peer = heard.source;
            tracing::warn!(
                instance, check, weight, %peer, master, left, backup,
                "this weight cannot move the address: a master whose check fails still has the higher priority"
            );
        }
        self.routers[index].weighed = Some(weighed);
    }

    /// Checks whose weight is too small: name, weight, priority left.
    fn remarks(&self, index: usize, master: u8, backup: u8) -> Vec<(String, i16, u8)> {
        let config = &self.routers[index].config;
        let scripts = config.track_scripts.iter().filter_map(|track| {
            let view = self.scripts.view(&track.name)?;
            // What has failed here is in the priority already, and a file's number is no yes or no.
            let counts = view.status != TrackStatus::Failed && view.value.is_none();
            counts.then(|| (track.name.clone(), track.weight.unwrap_or(view.config.weight)))
        });
        let interfaces = config.track_interfaces.iter().map(|track| (track.name.clone(), track.weight));
        scripts
            .chain(interfaces)
            .filter_map(|(name, weight)| Some((name, weight, keeps_after(master, backup, weight)?)))
            .collect()
    }
}
