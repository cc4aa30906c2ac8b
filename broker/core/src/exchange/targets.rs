//! A sorted list of destinations, each counted, because several bindings may lead to one.

use crate::meta::Destination;

/// Destinations with the number of bindings that lead there.
#[derive(Debug, Default, Clone)]
pub(super) struct Targets {
    list: Vec<(Destination, u32)>,
}

impl Targets {
    pub(super) fn add(&mut self, to: Destination) {
        match self.list.binary_search_by_key(&to, |(target, _)| *target) {
            Ok(at) => self.list[at].1 += 1,
            Err(at) => self.list.insert(at, (to, 1)),
        }
    }

    pub(super) fn remove(&mut self, to: Destination) {
        if let Ok(at) = self.list.binary_search_by_key(&to, |(target, _)| *target) {
            self.list[at].1 -= 1;
            if self.list[at].1 == 0 {
                self.list.remove(at);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn append_to(&self, out: &mut Vec<Destination>) {
        out.extend(self.list.iter().map(|(to, _)| *to));
    }
}
