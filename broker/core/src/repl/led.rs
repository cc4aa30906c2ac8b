//! A queue that this node leads: its copies, and up to where they all have it.

use super::Placed;
use super::message::Stream;
use super::mids::MidSet;
use super::rules::Rule;
use crate::ids::NodeId;
use crate::record::QseqRange;
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Led {
    pub(super) placed: Placed,
    /// Records shipped in this epoch.
    pub(super) position: u64,
    pub(super) committed: u64,
    pub(super) copies: BTreeMap<NodeId, Copy>,
}

/// What is known of a copy on another node.
#[derive(Debug, Default)]
pub(super) struct Copy {
    pub(super) attached: Option<Attached>,
    pub(super) joining: Joining,
    /// The stream in which it was asked what it has.
    pub(super) asked: Option<Stream>,
    /// It has not answered yet.
    pub(super) owes: bool,
    /// Numbers of its fills never begin again: an answer may be late.
    pub(super) fills: u64,
    /// An operator wants it filled, whatever the policy says.
    pub(super) wanted: bool,
    /// It could not be filled, and that has been said.
    pub(super) unfilled: bool,
}

/// A copy that takes the stream.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) stream: Stream,
    /// The follower has carried out the plan.
    pub(super) planned: bool,
    /// Records of this epoch that it has, once nothing is missing.
    pub(super) acked: u64,
    /// What it lacks from before, and which of it is not on its way.
    pub(super) missing: MidSet,
    pub(super) unsent: MidSet,
    pub(super) fills: BTreeMap<u64, MidSet>,
}

/// How far a copy is on its way into the in-sync set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Joining {
    /// It is not, or it is there.
    #[default]
    No,
    /// It counts; when it has everything up to here it may be proposed.
    Counted { from: u64 },
    /// It is proposed, on top of this version.
    Proposed { cfg_ver: u32 },
}

impl Attached {
    pub(super) fn new(stream: Stream, missing: MidSet) -> Self {
        Attached {
            stream,
            planned: false,
            acked: 0,
            unsent: missing.clone(),
            missing,
            fills: BTreeMap::new(),
        }
    }

    /// Messages left the queue: they need not be filled in any more.
    fn dropped(&mut self, range: QseqRange) {
        if !self.missing.is_empty() {
            self.missing.remove_positions(range);
            self.unsent.remove_positions(range);
            self.fills.values_mut().for_each(|fill| fill.remove_positions(range));
        }
    }

    fn has_all_older<const BROKEN: u8>(&self) -> bool {
        self.planned && (self.missing.is_empty() || !Rule::FillsCount.holds::<BROKEN>())
    }
}

impl Led {
    pub(super) fn new(me: NodeId, placed: Placed) -> Self {
        let others = placed.replicas.iter().filter(|node| **node != me);
        let copies = others.map(|node| (*node, Copy::default())).collect();
        Led { placed, position: 0, committed: 0, copies }
    }

    /// A later decision of the same epoch.
    pub(super) fn replace(&mut self, me: NodeId, placed: Placed) {
        self.copies.retain(|node, _| placed.replicas.contains(node));
        for node in placed.replicas.iter().filter(|node| **node != me) {
            self.copies.entry(*node).or_default();
        }
        for (node, copy) in &mut self.copies {
            let decided = match copy.joining {
                Joining::No => false,
                Joining::Counted { .. } => placed.isr.contains(node),
                // Made on top of an older decision than this one, a proposal can only have been refused.
                Joining::Proposed { cfg_ver } => placed.isr.contains(node) || placed.cfg_ver > cfg_ver,
            };
            if decided {
                copy.joining = Joining::No;
            }
        }
        self.placed = placed;
    }

    pub(super) fn is_in_sync(&self, node: NodeId) -> bool {
        self.placed.isr.contains(&node)
    }

    pub(super) fn dropped(&mut self, range: QseqRange) {
        self.copies.values_mut().filter_map(|copy| copy.attached.as_mut()).for_each(|to| to.dropped(range));
    }

    /// Up to where every copy that counts has the stream.
    fn commonly_held<const BROKEN: u8>(&self) -> u64 {
        let counts = |node: &NodeId, copy: &Copy| match copy.joining {
            _ if self.is_in_sync(*node) => true,
            Joining::No => false,
            Joining::Counted { .. } | Joining::Proposed { .. } => Rule::JoinersCount.holds::<BROKEN>(),
        };
        let counted = self.copies.iter().filter(|(node, copy)| counts(node, copy));
        counted.fold(self.position, |held, (_, copy)| {
            let attached = copy.attached.as_ref().filter(|to| to.has_all_older::<BROKEN>());
            held.min(attached.map_or(0, |to| to.acked))
        })
    }

    /// The new committed position, if it is one.
    pub(super) fn advance<const BROKEN: u8>(&mut self) -> Option<u64> {
        let held = self.commonly_held::<BROKEN>();
        (held > self.committed).then(|| {
            self.committed = held;
            held
        })
    }

    /// Takes a copy further on its way into the in-sync set. `true` when it is to be proposed now.
    pub(super) fn join<const BROKEN: u8>(&mut self, node: NodeId) -> bool {
        let (in_sync, position, cfg_ver) = (self.is_in_sync(node), self.position, self.placed.cfg_ver);
        let Some(copy) = self.copies.get_mut(&node) else { return false };
        let Some(attached) = copy.attached.as_ref().filter(|to| to.has_all_older::<BROKEN>()) else {
            let hasty = !Rule::JoinersHaveAll.holds::<BROKEN>() && copy.attached.is_some();
            if !in_sync && hasty && copy.joining == Joining::No {
                copy.joining = Joining::Proposed { cfg_ver };
                return true;
            }
            return false;
        };
        if in_sync {
            return false;
        }
        if copy.joining == Joining::No {
            copy.joining = Joining::Counted { from: position };
        }
        let Joining::Counted { from } = copy.joining else { return false };
        if attached.acked < from && Rule::JoinersHaveAll.holds::<BROKEN>() {
            return false;
        }
        copy.joining = Joining::Proposed { cfg_ver };
        true
    }
}
