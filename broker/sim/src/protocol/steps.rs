//! What can happen next in a state of the model.

use super::state::{AT_START, Config, NODES, Node, Op, Peer, Proposal, State, Wire, bit};
use super::{Bounds, Mutant};

/// One step; nodes, messages and epochs are their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The first state.
    Start,
    /// A node applies the next configuration.
    Apply(u8),
    /// A leader takes a message.
    Publish(u8, u8),
    /// A consumer of a leader acknowledges a message.
    Acknowledge(u8, u8),
    /// A node writes a message again, so that its old record can go.
    Collect(u8, u8),
    /// A node's disk takes what was written.
    Sync(u8),
    /// A leader and a follower reconcile; the follower takes the leader's stream from then on.
    Attach(u8, u8),
    /// A follower takes the next record of its stream.
    Take(u8),
    /// A leader reads an acknowledgement of a follower.
    ReadAck(u8, u8, u8),
    /// A leader sends a follower a message that it lacks.
    Fill(u8, u8, u8),
    /// A message of an epoch arrives that a follower lacked.
    Filled(u8, u8, u8),
    /// A leader reads that a follower has a message that it lacked.
    ReadFilled(u8, u8, u8),
    /// A leader proposes to take a follower into the in-sync set.
    Propose(u8, u8),
    /// A proposal is decided on.
    Decide(u8, u8),
    /// A leader has a follower taken out of the in-sync set.
    Shrink(u8, u8),
    /// The mutant stops counting a follower.
    StopCounting(u8, u8),
    /// A node loses its power and starts again.
    Crash(u8),
    /// A node is declared down; who leads now.
    Down(u8, u8),
    /// A leader that started again is given a new epoch.
    Up(u8),
    /// The mutant makes a node leader that is not in sync.
    Promote(u8),
}

type Visit<'v> = &'v mut dyn FnMut(Step, State);

/// The steps of one exploration.
#[derive(Clone, Copy)]
struct Rules {
    bounds: Bounds,
    mutant: Option<Mutant>,
}

/// Visits every state that can come next.
pub(super) fn each(state: &State, bounds: Bounds, mutant: Option<Mutant>, visit: Visit<'_>) {
    let rules = Rules { bounds, mutant };
    for node in 0..NODES {
        rules.any_node(state, node, visit);
        if state.nodes[node].leads != 0 {
            rules.leader(state, node, visit);
            for follower in (0..NODES).filter(|follower| *follower != node) {
                rules.leader_and_follower(state, node, follower, visit);
            }
        }
        rules.follower(state, node, visit);
        rules.decisions(state, node, visit);
    }
    rules.proposals(state, visit);
}

impl Rules {
    fn is(self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn may_change(self, state: &State) -> bool {
        state.version < self.bounds.changes
    }

    fn any_node(self, state: &State, at: usize, visit: Visit<'_>) {
        let node = &state.nodes[at];
        if node.view < state.version {
            let mut next = *state;
            self.apply(&mut next, at);
            visit(Step::Apply(at as u8), next);
        }
        if node.tail.len() > 0 || node.synced_fence != node.fence || self.would_tell(state, node) {
            let mut next = *state;
            self.sync(&mut next, at);
            visit(Step::Sync(at as u8), next);
        }
        if state.collections < self.bounds.collections {
            // Only what is still in the queue is written again, and the queue knows what is on its way to the disk.
            let alive = state.alive(at) & node.disk;
            for message in (0..state.published).filter(|message| alive & bit(usize::from(*message)) != 0) {
                let mut next = *state;
                next.collections += 1;
                let node = &mut next.nodes[at];
                node.tail.push(Op::Enqueue(message));
                if self.is(Mutant::CollectedEarly) {
                    node.disk &= !bit(message.into());
                }
                visit(Step::Collect(at as u8, message), next);
            }
        }
        if state.crashes < self.bounds.crashes {
            let mut next = *state;
            next.crashes += 1;
            self.crash(&mut next.nodes[at]);
            for other in (0..NODES).filter(|other| *other != at) {
                next.nodes[other].peers[at] = Peer::default();
            }
            visit(Step::Crash(at as u8), next);
        }
    }

    /// Whether a sync has something to say although nothing is unsynced.
    fn would_tell(self, state: &State, node: &Node) -> bool {
        let leads = usize::from(node.leads);
        leads != 0 && node.local != state.streams[leads].len()
    }

    /// A restart: what was not synced is lost, and with it all that was in memory.
    fn crash(self, node: &mut Node) {
        let fence = if self.is(Mutant::FenceForgotten) { 0 } else { node.synced_fence };
        *node = Node {
            incarnation: node.incarnation + 1,
            fence,
            synced_fence: fence,
            disk: node.disk,
            synced_next: node.synced_next,
            ..Node::default()
        };
    }

    fn sync(self, state: &mut State, at: usize) {
        let (disk, synced_next) = (state.alive(at), state.next(at));
        let node = &mut state.nodes[at];
        (node.disk, node.synced_next, node.synced_fence) = (disk, synced_next, node.fence);
        node.tail = Default::default();
        if node.leads != 0 {
            node.local = state.streams[usize::from(node.leads)].len();
            self.confirm(state, at);
        }
        self.tell(state, at);
    }

    /// A follower says what it has.
    fn tell(self, state: &mut State, at: usize) {
        let node = &mut state.nodes[at];
        if node.follows != 0 {
            let (epoch, ack) = (node.follows, node.taken + 1);
            let filled = std::mem::take(&mut node.filled);
            let wire = state.wire(epoch, at);
            wire.ack = wire.ack.max(ack);
            wire.fill_acks |= filled;
        }
    }

    fn confirm(self, state: &mut State, at: usize) {
        let held = state.commonly_held(at, !self.is(Mutant::FillUncounted));
        let committed = held.max(state.nodes[at].committed);
        state.nodes[at].committed = committed;
        let stream = state.streams[usize::from(state.nodes[at].leads)];
        for op in &stream.as_slice()[..usize::from(committed)] {
            match *op {
                Op::Nothing => {}
                Op::Enqueue(message) => state.confirmed |= bit(message.into()),
                Op::Drop(message) => state.gone |= bit(message.into()),
            }
        }
    }

    /// Applies the next configuration.
    fn apply(self, state: &mut State, at: usize) {
        state.nodes[at].view += 1;
        let view = state.nodes[at].view;
        self.take_view(state, at, view);
        if state.nodes[at].leads != 0 {
            self.confirm(state, at);
        }
    }

    fn take_view(self, state: &mut State, at: usize, view: u8) {
        let config = state.config(view);
        self.raise_fence(&mut state.nodes[at], config.epoch);
        let node = &mut state.nodes[at];
        let is_mine = usize::from(config.leader) == at
            && (config.incarnation == node.incarnation || self.is(Mutant::ResumedEpoch));
        if !is_mine {
            if node.leads != 0 && config.epoch >= node.leads {
                step_down(node);
            }
            return;
        }
        if node.leads == config.epoch {
            node.effective = config.isr;
            if let Some(pending) = node.pending {
                let follower = bit(pending.follower.into());
                if config.isr & follower != 0 || view > pending.version {
                    node.pending = None;
                } else {
                    node.effective |= follower;
                }
            }
        } else if node.leads < config.epoch && node.fence == config.epoch {
            step_down(node);
            (node.leads, node.effective, node.follows) = (config.epoch, config.isr, 0);
            if self.is(Mutant::ResumedEpoch) {
                // A second stream of the same epoch: whoever took the first one has lost its connection.
                *state.stream(config.epoch) = Default::default();
                state.wires[usize::from(config.epoch)] = Default::default();
                for other in state.nodes.iter_mut().filter(|other| other.follows == config.epoch) {
                    other.follows = 0;
                }
            }
        }
    }

    fn raise_fence(self, node: &mut Node, epoch: u8) {
        node.fence = node.fence.max(epoch);
        if node.follows < node.fence && !self.is(Mutant::NoFence) {
            (node.follows, node.missing, node.filled) = (0, 0, 0);
        }
    }

    fn leader(self, state: &State, at: usize, visit: Visit<'_>) {
        let epoch = state.nodes[at].leads;
        if state.published - AT_START < self.bounds.publishes {
            let mut next = *state;
            let message = next.published;
            next.positions[usize::from(message)] = next.next(at);
            next.published += 1;
            next.nodes[at].tail.push(Op::Enqueue(message));
            next.stream(epoch).push(Op::Enqueue(message));
            visit(Step::Publish(at as u8, message), next);
        }
        if state.drops < self.bounds.drops {
            let alive = state.alive(at);
            for message in (0..state.published).filter(|message| alive & bit(usize::from(*message)) != 0) {
                let mut next = *state;
                next.drops += 1;
                next.settled |= bit(message.into());
                next.nodes[at].tail.push(Op::Drop(message));
                next.stream(epoch).push(Op::Drop(message));
                for peer in &mut next.nodes[at].peers {
                    peer.missing &= !bit(message.into());
                }
                self.confirm(&mut next, at);
                visit(Step::Acknowledge(at as u8, message), next);
            }
        }
    }

    fn leader_and_follower(self, state: &State, at: usize, follower: usize, visit: Visit<'_>) {
        let (node, other) = (&state.nodes[at], &state.nodes[follower]);
        let (epoch, peer, names) = (node.leads, node.peers[follower], (at as u8, follower as u8));
        let fenced = other.fence > epoch && !self.is(Mutant::NoFence);
        let is_attached = other.follows == epoch && peer.attached;
        if !fenced && !is_attached && (other.leads < epoch || self.is(Mutant::NoFence)) {
            let mut next = *state;
            self.attach(&mut next, at, follower);
            visit(Step::Attach(names.0, names.1), next);
        }
        let wire = state.wires[usize::from(epoch)][follower];
        if peer.attached {
            for ack in peer.acked + 1..=wire.ack {
                let mut next = *state;
                next.nodes[at].peers[follower].acked = ack;
                self.confirm(&mut next, at);
                visit(Step::ReadAck(names.0, names.1, ack), next);
            }
            for message in
                (0..state.published).filter(|message| peer.missing & bit(usize::from(*message)) != 0)
            {
                let bit = bit(message.into());
                if wire.fill_acks & bit != 0 {
                    let mut next = *state;
                    next.nodes[at].peers[follower].missing &= !bit;
                    self.confirm(&mut next, at);
                    visit(Step::ReadFilled(names.0, names.1, message), next);
                } else if wire.fills & bit == 0 {
                    let mut next = *state;
                    next.wire(epoch, follower).fills |= bit;
                    visit(Step::Fill(names.0, names.1, message), next);
                }
            }
        }
        if node.effective & bit(follower) != 0 {
            if self.is(Mutant::EarlyShrink) {
                let mut next = *state;
                next.nodes[at].effective &= !bit(follower);
                self.confirm(&mut next, at);
                visit(Step::StopCounting(names.0, names.1), next);
            }
            return;
        }
        let has_all = (peer.missing == 0 || self.is(Mutant::FillUncounted)) && peer.acked > node.committed;
        let proposes = has_all || self.is(Mutant::ExpandBehind);
        let room = state.proposals.iter().position(Option::is_none);
        if let (None, true, true, Some(room)) = (node.pending, peer.attached, proposes, room) {
            let mut next = *state;
            let proposal = Proposal { follower: names.1, version: node.view };
            next.nodes[at].pending = Some(proposal);
            if !self.is(Mutant::ExpansionUncounted) {
                next.nodes[at].effective |= bit(follower);
            }
            next.proposals[room] = Some(proposal);
            next.proposals.sort_unstable();
            visit(Step::Propose(names.0, names.1), next);
        }
    }

    fn attach(self, state: &mut State, at: usize, follower: usize) {
        let epoch = state.nodes[at].leads;
        let (mine, theirs) = (state.alive(at), state.alive(follower));
        let (mut extra, mut missing) = (theirs & !mine, mine & !theirs);
        if self.is(Mutant::ReconcileByPosition) {
            let same = |one: u8, set: u8| {
                let position = |message: usize| state.positions[message];
                (0..state.published.into())
                    .any(|other| set & bit(other) != 0 && position(other) == position(one.into()))
            };
            for message in 0..state.published {
                let bit = bit(message.into());
                extra &= if same(message, mine) { !bit } else { u8::MAX };
                missing &= if same(message, theirs) { !bit } else { u8::MAX };
            }
        }
        if self.is(Mutant::ReconcileKeeps) {
            extra = 0;
        }
        let taken = state.stream(epoch).len();
        let published = state.published;
        let other = &mut state.nodes[follower];
        self.raise_fence(other, epoch);
        step_down(other);
        (other.follows, other.taken, other.missing, other.filled) = (epoch, taken, missing, 0);
        for message in (0..published).filter(|message| extra & bit(usize::from(*message)) != 0) {
            other.tail.push(Op::Drop(message));
        }
        // The reconciliation is acknowledged with the sync that takes its removals; one that removes nothing, at once.
        let is_settled = other.tail.len() == 0 && other.synced_fence == other.fence;
        *state.wire(epoch, follower) = Wire::default();
        state.nodes[at].peers[follower] = Peer { attached: true, acked: 0, missing };
        if is_settled || self.is(Mutant::AckBeforeSync) {
            self.tell(state, follower);
        }
    }

    fn follower(self, state: &State, at: usize, visit: Visit<'_>) {
        let node = &state.nodes[at];
        let epoch = node.follows;
        if epoch == 0 {
            return;
        }
        let stream = state.streams[usize::from(epoch)];
        if let Some(&op) = stream.as_slice().get(usize::from(node.taken)) {
            let mut next = *state;
            let node = &mut next.nodes[at];
            node.taken += 1;
            if let Op::Drop(message) = op {
                node.missing &= !bit(message.into());
            }
            node.tail.push(op);
            if self.is(Mutant::AckBeforeSync) {
                self.tell(&mut next, at);
            }
            visit(Step::Take(at as u8), next);
        }
        let wire = state.wires[usize::from(epoch)][at];
        for message in (0..state.published).filter(|message| wire.fills & bit(usize::from(*message)) != 0) {
            let mut next = *state;
            next.wire(epoch, at).fills &= !bit(message.into());
            let node = &mut next.nodes[at];
            if node.missing & bit(message.into()) != 0 || self.is(Mutant::FillRevives) {
                node.missing &= !bit(message.into());
                node.filled |= bit(message.into());
                node.tail.push(Op::Enqueue(message));
            }
            visit(Step::Filled(at as u8, epoch, message), next);
        }
    }

    fn decisions(self, state: &State, at: usize, visit: Visit<'_>) {
        let current = state.current();
        let names = (current.leader, at as u8);
        if !self.may_change(state) {
            return;
        }
        let leads = usize::from(current.leader) == at;
        let is_member = current.isr & bit(at) != 0;
        if !leads && is_member && state.nodes[usize::from(current.leader)].incarnation == current.incarnation
        {
            // However long ago it was proposed.
            let mut next = *state;
            next.decide(Config { isr: current.isr & !bit(at), ..current });
            visit(Step::Shrink(names.0, names.1), next);
        }
        if leads && state.nodes[at].incarnation != current.incarnation {
            let mut next = *state;
            next.decide(Config {
                incarnation: state.nodes[at].incarnation,
                epoch: current.epoch + 1,
                ..current
            });
            visit(Step::Up(names.1), next);
        }
        if state.downs >= self.bounds.downs {
            return;
        }
        if is_member {
            let rest = current.isr & !bit(at);
            let heirs = if leads && rest == 0 { bit(at) } else { rest };
            for heir in (0..NODES).filter(|heir| heirs & bit(*heir) != 0) {
                let mut next = *state;
                next.downs += 1;
                let config = if leads {
                    let incarnation = state.nodes[heir].incarnation;
                    Config { leader: heir as u8, incarnation, epoch: current.epoch + 1, isr: heirs }
                } else {
                    Config { isr: rest, ..current }
                };
                next.decide(config);
                visit(Step::Down(names.1, config.leader), next);
                if !leads {
                    break;
                }
            }
        } else if self.is(Mutant::UnsyncedPromoted) {
            let mut next = *state;
            next.downs += 1;
            let incarnation = state.nodes[at].incarnation;
            next.decide(Config { leader: names.1, incarnation, epoch: current.epoch + 1, isr: bit(at) });
            visit(Step::Promote(names.1), next);
        }
    }

    fn proposals(self, state: &State, visit: Visit<'_>) {
        for (index, proposal) in state.proposals.iter().enumerate() {
            let Some(proposal) = *proposal else { continue };
            let mut next = *state;
            next.proposals[index] = None;
            next.proposals.sort_unstable();
            let fits = proposal.version == state.version || self.is(Mutant::StaleExpand);
            if fits && self.may_change(state) {
                let current = state.current();
                next.decide(Config { isr: current.isr | bit(proposal.follower.into()), ..current });
            }
            visit(Step::Decide(proposal.follower, proposal.version), next);
        }
    }
}

fn step_down(node: &mut Node) {
    node.leads = 0;
    node.effective = 0;
    node.pending = None;
    (node.local, node.committed) = (0, 0);
    node.peers = Default::default();
}
