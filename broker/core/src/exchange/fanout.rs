//! Fanout exchanges: every message goes to everything that is bound.

use super::Targets;
use crate::meta::Destination;

/// The destinations.
#[derive(Debug, Default)]
pub struct Fanout {
    targets: Targets,
}

impl Fanout {
    pub(super) fn bind(&mut self, to: Destination) {
        self.targets.add(to);
    }

    pub(super) fn unbind(&mut self, to: Destination) {
        self.targets.remove(to);
    }

    pub(super) fn route(&self, out: &mut Vec<Destination>) {
        self.targets.append_to(out);
    }
}
