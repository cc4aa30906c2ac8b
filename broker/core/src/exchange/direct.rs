//! Direct exchanges: the routing key equals the binding key.

use super::Targets;
use crate::meta::Destination;
use std::collections::HashMap;
use std::sync::Arc;

/// Binding keys to destinations. The map is hashed with a random seed, because clients choose the
/// keys; its order is never looked at.
#[derive(Debug, Default)]
pub struct Direct {
    keys: HashMap<Arc<str>, Targets>,
}

impl Direct {
    pub(super) fn bind(&mut self, to: Destination, key: &Arc<str>) {
        self.keys.entry(Arc::clone(key)).or_default().add(to);
    }

    pub(super) fn unbind(&mut self, to: Destination, key: &Arc<str>) {
        if let Some(targets) = self.keys.get_mut(key) {
            targets.remove(to);
            if targets.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    pub(super) fn route(&self, key: &str, out: &mut Vec<Destination>) {
        if let Some(targets) = self.keys.get(key) {
            targets.append_to(out);
        }
    }
}
