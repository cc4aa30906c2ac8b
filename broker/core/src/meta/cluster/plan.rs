//! What the commands about members and placements change.
//!
//! The rules, each of which the property tests hold:
//! * a queue is led by a node of its in-sync set, except after [`MetaCommand::ForcePromote`];
//! * every change of leader, in-sync set or replicas adds one to `cfg_ver`, and a command that names another
//!   `cfg_ver` than the one there is changes nothing;
//! * a new leader, and a leader that started again, leads in a new epoch;
//! * what says something of an earlier start of a node changes nothing.

use super::{Loads, Member, NodeState, Placement, Role};
use crate::ids::{NodeId, QueueId};
use crate::meta::BATCH_BITS;
use crate::meta::plan::Removal;
use crate::meta::{Change, DeclareQueue, MetaCommand, MetaError, MetaReply, MetaSm, Plan, Queue, TRANSIENT};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most members of a cluster.
const MAX_MEMBERS: usize = 64;
/// Most addresses of a member.
const MAX_ADDRESSES: usize = 16;
/// Longest name, address or version of a member.
const MAX_TEXT: usize = 255;

impl MetaSm {
    /// Plans a command about members or placements.
    pub(in crate::meta) fn plan_cluster(&self, id: u64, command: &MetaCommand) -> Result<Plan, MetaError> {
        match command {
            MetaCommand::AddMember { name, addresses, role, version } => {
                self.plan_add_member(id >> BATCH_BITS, name, addresses, *role, version)
            }
            MetaCommand::UpdateMember { id, name, addresses, version } => {
                self.plan_update_member(*id, name, addresses, version)
            }
            MetaCommand::ForgetMember { id, accept_loss } => self.plan_forget_member(*id, *accept_loss),
            MetaCommand::NodeUp { id, incarnation, storage, lost } => {
                self.plan_node_up(*id, *incarnation, *storage, lost)
            }
            MetaCommand::NodeDown { id, incarnation } => self.plan_node_down(*id, *incarnation),
            MetaCommand::SetNodeState { id, state } => self.plan_node_state(*id, *state),
            MetaCommand::IsrExpand { queue, cfg_ver, add } => self.plan_isr_expand(*queue, *cfg_ver, *add),
            MetaCommand::IsrShrink { leader, incarnation, follower } => {
                self.plan_isr_shrink(*leader, *incarnation, *follower)
            }
            MetaCommand::SetReplicas { queue, cfg_ver, replicas } => {
                self.plan_set_replicas(*queue, *cfg_ver, replicas)
            }
            MetaCommand::Transfer { queue, cfg_ver, to } => self.plan_transfer(*queue, *cfg_ver, *to),
            MetaCommand::ForcePromote { queue, to } => self.plan_force_promote(*queue, *to),
            _ => Err(invalid("not a command about members or placements")),
        }
    }

    /// Where a new queue lives; `None` on a node alone, where there is nothing to say.
    pub(in crate::meta) fn first_placement(
        &self,
        declare: &DeclareQueue,
    ) -> Result<Option<Placement>, MetaError> {
        if self.members.is_empty() {
            return Ok(None);
        }
        let home = self.broker(declare.home)?;
        if !home.serves() {
            return Err(invalid(format!("node '{}' is down and can not lead a new queue", home.name)));
        }
        let mut replicas = vec![home.id];
        // Transient and exclusive queues have one copy.
        if declare.durable && declare.owner.is_none() {
            for mirror in &declare.mirrors {
                let up = self.member(*mirror).is_some_and(Member::takes_queues);
                if up && !replicas.contains(mirror) {
                    replicas.push(*mirror);
                }
            }
        }
        Ok(Some(Placement::first(home.id, home.incarnation, replicas)))
    }

    /// What goes when a node goes, or its start of before is over: its queues that are not on disk, exclusive
    /// ones among them, their bindings, and what lived for those.
    pub fn home_down(&self, node: NodeId) -> Vec<Change> {
        let mut removal = Removal::new(self);
        for (id, queue) in self.queues.range(QueueId(TRANSIENT)..) {
            if queue.placement.leader == Some(node) {
                removal.queue(*id);
            }
        }
        removal.finish(true).changes
    }

    fn plan_add_member(
        &self,
        index: u64,
        name: &Arc<str>,
        addresses: &[String],
        role: Role,
        version: &str,
    ) -> Result<Plan, MetaError> {
        check_member(name, addresses, version)?;
        if self.member_named(name).is_some() {
            return Err(MetaError::MemberExists(name.to_string()));
        }
        if self.members.len() >= MAX_MEMBERS {
            return Err(invalid(format!("a cluster has at most {MAX_MEMBERS} members")));
        }
        let member = Member {
            id: if self.members.is_empty() { NodeId::FIRST } else { self.free_id(index) },
            name: Arc::clone(name),
            addresses: addresses.to_vec(),
            role,
            incarnation: 0,
            state: NodeState::Down,
            storage: 0,
            version: version.to_owned(),
            orderly: false,
        };
        Ok(Plan { reply: MetaReply::Member(member.id), changes: vec![Change::PutMember(member)] })
    }

    /// An identity that no node ever had and whose slot no member has. Nearly always it is the index; two
    /// indexes never come to the same one.
    fn free_id(&self, index: u64) -> NodeId {
        const STEP: u64 = (1 << 40) + 1;
        let free = |id: &NodeId| id.slot() != 0 && self.member_of_slot(id.slot()).is_none();
        // More candidates than members: one of them is free.
        (0..=MAX_MEMBERS as u64 + 1)
            .map(|step| NodeId(index.wrapping_add(step * STEP)))
            .find(free)
            .unwrap_or(NodeId(index))
    }

    fn plan_update_member(
        &self,
        id: NodeId,
        name: &Arc<str>,
        addresses: &[String],
        version: &str,
    ) -> Result<Plan, MetaError> {
        check_member(name, addresses, version)?;
        let known = self.known_member(id)?;
        if self.member_named(name).is_some_and(|other| other.id != id) {
            return Err(MetaError::MemberExists(name.to_string()));
        }
        let member = Member {
            name: Arc::clone(name),
            addresses: addresses.to_vec(),
            version: version.to_owned(),
            ..known.clone()
        };
        let changes = if member == *known { Vec::new() } else { vec![Change::PutMember(member)] };
        Ok(done(changes))
    }

    fn plan_forget_member(&self, id: NodeId, accept_loss: bool) -> Result<Plan, MetaError> {
        let member = self.known_member(id)?;
        if member.state == NodeState::Up {
            return Err(invalid(format!(
                "node '{}' is running; stop it before it is forgotten",
                member.name
            )));
        }
        let only = |queue: &&Queue| queue.durable && queue.placement.isr == [id];
        if !accept_loss && self.queues().any(|queue| only(&queue)) {
            let names = self.queues().filter(only).map(|queue| self.queue_title(queue.vhost, &queue.name));
            return Err(MetaError::OnlyCopies(names.collect()));
        }
        let mut election = Election::new(self, id);
        let mut gone = Removal::new(self);
        let mut placements = Vec::new();
        for queue in self.queues() {
            let old = &queue.placement;
            if is_transient(queue) {
                if old.leader == Some(id) {
                    gone.queue(queue.id);
                }
            } else if old.replicas.contains(&id) {
                let heirs: Vec<NodeId> = old.replicas.iter().copied().filter(|other| *other != id).collect();
                if heirs.is_empty() {
                    gone.queue(queue.id);
                    continue;
                }
                let next =
                    if old.isr == [id] { election.inherit(old, &heirs) } else { election.without(old) };
                let next = Placement { replicas: heirs, ..next };
                placements.push(put_placement(queue.id, next));
            }
        }
        let Plan { mut changes, reply } = gone.finish(true);
        changes.append(&mut placements);
        changes.push(Change::RemoveMember { id });
        Ok(Plan { changes, reply })
    }

    fn plan_node_up(
        &self,
        id: NodeId,
        incarnation: u64,
        storage: u128,
        lost: &[QueueId],
    ) -> Result<Plan, MetaError> {
        let known = self.known_member(id)?;
        if incarnation < known.incarnation {
            return Err(invalid(format!(
                "node '{}' says start {incarnation}, but start {} was seen: it runs twice, or on an old copy of \
                 its data",
                known.name, known.incarnation
            )));
        }
        let again = incarnation > known.incarnation;
        let resumes = !again && known.state == NodeState::Down;
        let other_data = known.storage != 0 && storage != known.storage;
        let member = Member {
            incarnation,
            storage,
            state: if again || resumes { NodeState::Up } else { known.state },
            orderly: false,
            ..known.clone()
        };
        let mut changes = if again { self.home_down(id) } else { Vec::new() };
        if member != *known {
            changes.push(Change::PutMember(member.clone()));
        }
        if again || resumes || other_data || !lost.is_empty() {
            let lost: BTreeSet<QueueId> = lost.iter().copied().collect();
            let mut election = Election::new(self, id);
            for queue in self.queues().filter(|queue| !is_transient(queue)) {
                let old = &queue.placement;
                let missing = other_data || lost.contains(&queue.id);
                let next = if missing && old.isr.contains(&id) {
                    election.lose(old)
                } else if old.leader == Some(id) && again
                    || old.leader.is_none() && old.isr.contains(&id) && !old.lost
                {
                    old.next(|next| next.lead(&member))
                } else {
                    continue;
                };
                changes.push(put_placement(queue.id, next));
            }
        }
        Ok(done(changes))
    }

    fn plan_node_down(&self, id: NodeId, incarnation: u64) -> Result<Plan, MetaError> {
        let known = self.known_member(id)?;
        if known.incarnation != incarnation || known.state == NodeState::Down {
            return Ok(done(Vec::new()));
        }
        let orderly = known.state == NodeState::Drain;
        let mut changes = self.home_down(id);
        changes.push(Change::PutMember(Member { state: NodeState::Down, orderly, ..known.clone() }));
        let mut election = Election::new(self, id);
        for queue in self.queues().filter(|queue| !is_transient(queue)) {
            let old = &queue.placement;
            if old.isr.contains(&id) && (old.isr.len() > 1 || old.leader == Some(id)) {
                changes.push(put_placement(queue.id, election.without(old)));
            }
        }
        Ok(done(changes))
    }

    fn plan_node_state(&self, id: NodeId, state: NodeState) -> Result<Plan, MetaError> {
        let known = self.known_member(id)?;
        match (known.state, state) {
            (NodeState::Down, _) => Err(invalid(format!("node '{}' is down; start it first", known.name))),
            (_, NodeState::Down) => Err(invalid(format!(
                "node '{}' goes down when it stops, not because it is told to",
                known.name
            ))),
            (from, to) if from == to => Ok(done(Vec::new())),
            _ => Ok(done(vec![Change::PutMember(Member { state, ..known.clone() })])),
        }
    }

    fn plan_isr_expand(&self, queue: QueueId, cfg_ver: u32, add: NodeId) -> Result<Plan, MetaError> {
        let old = self.current(queue, cfg_ver)?;
        if old.isr.contains(&add) {
            return Ok(done(Vec::new()));
        }
        let member = self.broker(add)?;
        if !old.replicas.contains(&add) || old.leader.is_none() {
            return Err(invalid(format!("node '{}' does not mirror the queue now", member.name)));
        }
        // A node that went down meanwhile is not let in. Its leader waits for a decision, whatever it is, and no other
        // proposal of the same may come after this one.
        let next = old.next(|next| {
            if member.serves() {
                next.isr.push(add);
                next.isr.sort_unstable();
            }
        });
        Ok(done(vec![put_placement(queue, next)]))
    }

    fn plan_isr_shrink(&self, leader: NodeId, incarnation: u64, follower: NodeId) -> Result<Plan, MetaError> {
        if leader == follower {
            return Err(invalid("a leader does not leave its own in-sync set"));
        }
        let changes = self
            .queues()
            .filter(|queue| {
                let placement = &queue.placement;
                placement.leader == Some(leader)
                    && placement.incarnation == incarnation
                    && placement.isr.contains(&follower)
            })
            .map(|queue| {
                put_placement(
                    queue.id,
                    queue.placement.next(|next| next.isr.retain(|node| *node != follower)),
                )
            })
            .collect();
        Ok(done(changes))
    }

    fn plan_set_replicas(
        &self,
        queue: QueueId,
        cfg_ver: u32,
        replicas: &[NodeId],
    ) -> Result<Plan, MetaError> {
        let old = self.current(queue, cfg_ver)?;
        let mut unique: Vec<NodeId> = Vec::with_capacity(replicas.len().min(MAX_MEMBERS));
        for id in replicas {
            self.broker(*id)?;
            if !unique.contains(id) {
                unique.push(*id);
            }
        }
        if unique == old.replicas {
            return Ok(done(Vec::new()));
        }
        let shared = self.queue(queue).is_some_and(|queue| queue.durable && queue.owner.is_none());
        if unique.len() > 1 && !shared {
            return Err(invalid("transient and exclusive queues have one copy"));
        }
        let isr: Vec<NodeId> = old.isr.iter().copied().filter(|node| unique.contains(node)).collect();
        if isr.is_empty() || old.leader.is_some_and(|leader| !unique.contains(&leader)) {
            return Err(invalid(
                "the nodes of a queue include its leader, or else one that has all its messages",
            ));
        }
        let next = old.next(|next| {
            next.replicas = unique;
            next.isr = isr;
        });
        Ok(done(vec![put_placement(queue, next)]))
    }

    fn plan_transfer(&self, queue: QueueId, cfg_ver: u32, to: NodeId) -> Result<Plan, MetaError> {
        let old = self.current(queue, cfg_ver)?;
        let member = self.broker(to)?;
        if old.leader == Some(to) {
            return Ok(done(Vec::new()));
        }
        if !member.serves() || !old.isr.contains(&to) || old.leader.is_none() {
            return Err(invalid(format!("node '{}' does not have all messages of the queue", member.name)));
        }
        Ok(done(vec![put_placement(queue, old.next(|next| next.lead(member)))]))
    }

    fn plan_force_promote(&self, queue: QueueId, to: NodeId) -> Result<Plan, MetaError> {
        let old = self.known_placement(queue)?;
        let member = self.broker(to)?;
        if old.leader.is_some() {
            return Err(invalid("the queue has a leader; transfer it instead"));
        }
        if !member.serves() || !old.replicas.contains(&to) {
            return Err(invalid(format!("node '{}' is down or has no copy of the queue", member.name)));
        }
        let next = old.next(|next| force(next, member));
        Ok(done(vec![put_placement(queue, next)]))
    }

    fn known_member(&self, id: NodeId) -> Result<&Member, MetaError> {
        self.member(id).ok_or(MetaError::NoSuchMember(id))
    }

    /// A member that can hold queues.
    fn broker(&self, id: NodeId) -> Result<&Member, MetaError> {
        let member = self.known_member(id)?;
        match member.role {
            Role::Broker => Ok(member),
            Role::Witness => Err(invalid(format!("node '{}' is a witness and holds no queues", member.name))),
        }
    }

    fn known_placement(&self, queue: QueueId) -> Result<&Arc<Placement>, MetaError> {
        self.placement(queue).ok_or_else(|| invalid("the queue is gone"))
    }

    /// The placement of a queue, if it still has the number that a command names.
    fn current(&self, queue: QueueId, given: u32) -> Result<&Arc<Placement>, MetaError> {
        let placement = self.known_placement(queue)?;
        match placement.cfg_ver {
            is if is == given => Ok(placement),
            is => Err(MetaError::Stale { is, given }),
        }
    }
}

/// Who takes over what a node led, so that the others share it evenly.
struct Election<'a> {
    sm: &'a MetaSm,
    /// The node that goes.
    leaving: NodeId,
    loads: Loads,
}

impl<'a> Election<'a> {
    fn new(sm: &'a MetaSm, leaving: NodeId) -> Self {
        Election { sm, leaving, loads: sm.loads().clone() }
    }

    /// The placement when the node is gone. A queue of which it has the only complete copy waits for it.
    fn without(&mut self, old: &Placement) -> Placement {
        let leaving = self.leaving;
        if !old.isr.contains(&leaving) {
            return old.next(|_| ());
        }
        if old.isr.len() == 1 {
            return old.next(|next| next.leader = None);
        }
        let isr: Vec<NodeId> = old.isr.iter().copied().filter(|node| *node != leaving).collect();
        let leader = if old.leader == Some(leaving) { self.choose(&isr) } else { None };
        let headless = old.leader == Some(leaving) && leader.is_none();
        let next = old.next(|next| {
            next.isr = isr;
            match leader {
                Some(member) => next.lead(member),
                None if headless => next.leader = None,
                None => {}
            }
        });
        self.loads.replace(old, &next);
        next
    }

    /// The placement when the node's copy is gone while the node is not.
    fn lose(&mut self, old: &Placement) -> Placement {
        if old.isr.len() > 1 {
            return self.without(old);
        }
        old.next(|next| {
            next.leader = None;
            next.lost = true;
        })
    }

    /// The placement when the node had the only complete copy and never comes back: one of the others goes on
    /// with what it has.
    fn inherit(&mut self, old: &Placement, heirs: &[NodeId]) -> Placement {
        let next = old.next(|next| match self.choose(heirs) {
            Some(member) => force(next, member),
            None => {
                next.leader = None;
                next.isr = vec![heirs[0]];
                next.lost = false;
                next.forced = next.forced.saturating_add(1);
            }
        });
        self.loads.replace(old, &next);
        next
    }

    /// The node that leads the fewest queues; one that is being drained only if there is no other.
    fn choose(&self, among: &[NodeId]) -> Option<&'a Member> {
        let sm = self.sm;
        among
            .iter()
            .filter_map(|node| sm.member(*node))
            .filter(|member| member.serves() && member.role == Role::Broker && member.id != self.leaving)
            .min_by_key(|member| (!member.takes_queues(), self.loads.leads(member.id), member.id))
    }
}

/// Makes a node leader whatever it has.
fn force(next: &mut Placement, member: &Member) {
    next.lead(member);
    next.isr = vec![member.id];
    next.lost = false;
    next.forced = next.forced.saturating_add(1);
}

/// Whether it is not on disk: it has one copy and goes with its node.
fn is_transient(queue: &Queue) -> bool {
    crate::meta::arguments::is_transient(queue.id.0)
}

fn put_placement(queue: QueueId, placement: Placement) -> Change {
    Change::PutPlacement { queue, placement: Arc::new(placement) }
}

fn check_member(name: &str, addresses: &[String], version: &str) -> Result<(), MetaError> {
    let sound = |text: &str| !text.is_empty() && text.len() <= MAX_TEXT && !text.contains(char::is_control);
    if !sound(name) || !name.split_once('@').is_some_and(|(node, host)| !node.is_empty() && !host.is_empty())
    {
        return Err(invalid(format!(
            "'{}' is no name of a node; it looks like rabbit@host",
            name.escape_debug()
        )));
    }
    if addresses.len() > MAX_ADDRESSES || !addresses.iter().all(|address| sound(address)) {
        return Err(invalid(format!("a node has at most {MAX_ADDRESSES} addresses, each like host:25672")));
    }
    if version.len() > MAX_TEXT {
        return Err(invalid("the version of a node is too long"));
    }
    Ok(())
}

fn invalid(text: impl Into<String>) -> MetaError {
    MetaError::Invalid(text.into())
}

fn done(changes: Vec<Change>) -> Plan {
    Plan { changes, reply: MetaReply::Done }
}
