//! Tests of members, placements and what the controller wants.

use super::*;
use crate::ids::{ConnectionId, VhostId};
use crate::meta::options::LeaderLocator;
use crate::meta::policy::PolicyBook;
use crate::meta::{
    ApplyTo, BATCH_BITS, BindingRequest, Change, DeclareExchange, DeclareQueue, DestinationName, MetaCommand,
    MetaError, MetaReply, Patterns, Policy, TRANSIENT,
};
use amqp::table::{FieldTable, FieldValue};
use proptest::prelude::*;
use std::collections::BTreeSet;

const A: NodeId = NodeId(1);

/// A cluster of brokers `rabbit@a`, `rabbit@b` and so on, all up in their first start, with the vhost `/`.
struct World {
    sm: MetaSm,
    book: PolicyBook,
    index: u64,
    vhost: VhostId,
    nodes: Vec<NodeId>,
}

impl World {
    fn new(brokers: usize) -> World {
        let (sm, book) = (MetaSm::new(), PolicyBook::new(Arc::new(Patterns::default())));
        let mut world = World { sm, book, index: 0, vhost: VhostId(0), nodes: Vec::new() };
        world.apply(&MetaCommand::PutVhost {
            name: "/".into(),
            description: String::new(),
            tags: Vec::new(),
            tracing: false,
            default_queue_type: None,
        });
        world.vhost = world.sm.vhost_id("/").unwrap();
        for name in ["rabbit@a", "rabbit@b", "rabbit@c", "rabbit@d", "rabbit@e"].into_iter().take(brokers) {
            let node = world.add(name, Role::Broker);
            world.up(node, 1);
        }
        world
    }

    fn try_apply(&mut self, command: &MetaCommand) -> Result<MetaReply, MetaError> {
        self.index += 1;
        let reply = self.sm.apply(self.index, command);
        self.book.refresh_all(&mut self.sm);
        reply
    }

    fn apply(&mut self, command: &MetaCommand) -> MetaReply {
        self.try_apply(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    fn add(&mut self, name: &str, role: Role) -> NodeId {
        let addresses = vec!["127.0.0.1:25672".to_owned()];
        let command = MetaCommand::AddMember { name: name.into(), addresses, role, version: "1".to_owned() };
        let MetaReply::Member(id) = self.apply(&command) else { panic!("no number") };
        self.nodes.push(id);
        id
    }

    fn up(&mut self, id: NodeId, incarnation: u64) {
        self.apply(&MetaCommand::NodeUp { id, incarnation, storage: u128::from(id.0), lost: Vec::new() });
    }

    fn down(&mut self, id: NodeId, incarnation: u64) {
        self.apply(&MetaCommand::NodeDown { id, incarnation });
    }

    fn request(&self, name: &str, home: NodeId) -> DeclareQueue {
        DeclareQueue {
            vhost: self.vhost,
            name: name.into(),
            durable: true,
            auto_delete: false,
            owner: None,
            arguments: Arc::default(),
            home,
            mirrors: Vec::new(),
        }
    }

    fn declare(&mut self, request: DeclareQueue) -> QueueId {
        match self.apply(&MetaCommand::DeclareQueue(request)) {
            MetaReply::Queue { id, created: true } => id,
            other => panic!("{other:?}"),
        }
    }

    /// A queue on all these nodes, led by the first.
    fn queue(&mut self, name: &str, nodes: &[NodeId]) -> QueueId {
        let request = DeclareQueue { mirrors: nodes[1..].to_vec(), ..self.request(name, nodes[0]) };
        self.declare(request)
    }

    fn placed(&self, queue: QueueId) -> &Placement {
        self.sm.placement(queue).unwrap()
    }

    fn policy(&mut self, definition: &str) {
        let policy = Policy {
            name: "p".into(),
            pattern: ".*".into(),
            apply_to: ApplyTo::All,
            priority: 0,
            definition: definition.to_owned(),
        };
        self.apply(&MetaCommand::SetPolicy { vhost: "/".into(), operator: false, policy });
    }

    /// Does what the controller wants until it wants nothing more, and lets every mirror catch up.
    fn settle(&mut self, controller: &mut Controller, now: u64) {
        for _ in 0..20 {
            let wanted = controller.decide(&self.sm, now);
            let done = wanted.is_empty();
            wanted.iter().for_each(|command| drop(self.apply(command)));
            if self.catch_up() == 0 && done {
                return;
            }
        }
        panic!("the controller never rests: {:?}", controller.decide(&self.sm, now));
    }

    fn catch_up(&mut self) -> usize {
        let mut missing = Vec::new();
        for queue in self.sm.queues().filter(|queue| queue.placement.leader.is_some()) {
            let out = queue.placement.replicas.iter().find(|id| {
                !queue.placement.isr.contains(id) && self.sm.member(**id).is_some_and(Member::serves)
            });
            let cfg_ver = queue.placement.cfg_ver;
            missing.extend(out.map(|add| MetaCommand::IsrExpand { queue: queue.id, cfg_ver, add: *add }));
        }
        missing.iter().for_each(|command| drop(self.apply(command)));
        missing.len()
    }

    fn transient(&mut self, name: &str, home: NodeId, owner: Option<ConnectionId>) -> QueueId {
        let request = DeclareQueue { durable: false, owner, ..self.request(name, home) };
        self.declare(request)
    }
}

fn sorted(nodes: &[NodeId]) -> Vec<NodeId> {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes
}

#[test]
fn a_node_alone_says_nothing_of_placements_in_its_log() {
    let mut world = World::new(0);
    let request = DeclareQueue { mirrors: vec![NodeId(7)], ..world.request("q", NodeId(9)) };
    let plan = world.sm.plan(99 << BATCH_BITS, &MetaCommand::DeclareQueue(request.clone())).unwrap();
    assert!(matches!(plan.changes.as_slice(), [Change::PutQueue(_)]), "{:?}", plan.changes);
    let queue = world.declare(request);
    assert!(Arc::ptr_eq(world.sm.placement(queue).unwrap(), &Placement::alone()), "one for all");
    assert_eq!((world.placed(queue).leader, world.placed(queue).epoch), (Some(A), 1));
    assert_eq!(world.sm.snapshot(false)[0], 1, "versions without clusters can read it");
}

#[test]
fn what_was_written_before_there_were_clusters_is_read() {
    let mut sm = MetaSm::new();
    sm.restore(include_bytes!("../testdata/format-1.snapshot")).unwrap();
    assert_eq!((sm.applied(), sm.queues().count(), sm.members().count()), (17, 2, 0));
    assert!(sm.queues().all(|queue| queue.placement == Placement::alone()));
    assert_eq!(sm.snapshot(true), include_bytes!("../testdata/format-1.snapshot"), "written as it was");

    let octets = include_bytes!("../testdata/format-1.command");
    let command = crate::meta::log::Command::decode(octets).unwrap();
    let mut writer = crate::meta::log::CommandWriter::new(command.id);
    let mut sm = MetaSm::new();
    for logged in command {
        let logged = logged.unwrap();
        logged.changes.iter().for_each(|change| sm.commit(change));
        writer.push(&logged).unwrap();
    }
    assert_eq!(sm.queues().map(|queue| &*queue.name).collect::<Vec<_>>(), ["q"]);
    assert_eq!(writer.into_octets(), octets, "written as it was");
}

#[test]
fn a_command_of_the_log_with_members_in_it_is_refused_by_versions_that_know_none() {
    use crate::meta::log::{Command, CommandWriter, LoggedChanges, RoundId};
    let world = World::new(1);
    let changes = vec![Change::PutMember(world.sm.member(A).unwrap().clone())];
    let id = RoundId::first(5);
    let mut writer = CommandWriter::new(id);
    writer.push(&LoggedChanges { index: 1, changes: changes.clone() }).unwrap();
    let octets = writer.into_octets();
    assert_eq!(octets[0], 2);
    let mut command = Command::decode(&octets).unwrap();
    assert_eq!(command.id, id, "the round knows its command again");
    assert_eq!(command.next().unwrap().unwrap().changes, changes);
    assert_eq!(world.sm.snapshot(false)[0], 2);
}

#[test]
fn numbers_of_members_are_those_of_their_entries_and_their_slots_differ() {
    let mut world = World::new(1);
    world.index = 0x1_0000;
    let b = world.add("rabbit@b", Role::Broker);
    assert_eq!(
        b,
        NodeId(0x1_0000 + (1 << 40) + 2),
        "its slot would be the one of a node alone, or the founder's"
    );
    world.index = 0x2_0002;
    let c = world.add("rabbit@c", Role::Witness);
    assert_eq!(c, NodeId(0x2_0003));
    assert_eq!(world.sm.member_named("rabbit@b").map(|member| member.id), Some(b));
    let connection = ConnectionId::on(c, 77);
    assert_eq!((connection.slot(), connection.0 & 0xffff), (3, 77));
    assert_eq!(world.sm.member_of_slot(connection.slot()).map(|member| member.id), Some(c));
    let again = MetaCommand::AddMember {
        name: "rabbit@b".into(),
        addresses: Vec::new(),
        role: Role::Broker,
        version: String::new(),
    };
    assert_eq!(world.try_apply(&again), Err(MetaError::MemberExists("rabbit@b".to_owned())));
}

#[test]
fn when_a_leader_dies_the_node_in_sync_that_leads_the_fewest_takes_over() {
    let mut world = World::new(3);
    let [a, b, c] = world.nodes[..] else { panic!() };
    let queues: Vec<QueueId> = (0..4).map(|number| world.queue(&format!("q{number}"), &[a, b, c])).collect();
    let busy = world.queue("busy", &[b, c]);
    let alone = world.queue("alone", &[a]);
    world.down(a, 1);
    let leaders: Vec<NodeId> = queues.iter().filter_map(|queue| world.placed(*queue).leader).collect();
    assert_eq!(leaders, [c, b, c, b], "b led one before");
    for queue in &queues {
        let placed = world.placed(*queue);
        assert_eq!((placed.epoch, placed.cfg_ver, placed.isr.as_slice()), (2, 2, &[b, c][..]));
        assert_eq!(placed.replicas, [a, b, c], "it may come back");
    }
    assert_eq!(world.placed(busy).epoch, 1, "a follower's end ends no leader");
    let placed = world.placed(alone);
    assert_eq!((placed.leader, placed.isr.as_slice(), placed.epoch), (None, &[a][..], 1));
    let queue = world.sm.queue(alone).unwrap();
    assert_eq!(
        world.sm.home_is_down(queue).text,
        "home node 'rabbit@a' of durable queue 'alone' in vhost '/' is down or inaccessible"
    );
    world.up(a, 2);
    let placed = world.placed(alone);
    assert_eq!((placed.leader, placed.incarnation, placed.epoch), (Some(a), 2, 2));
    assert_eq!(world.placed(queues[0]).isr, [b, c], "it comes back in by catching up only");
}

#[test]
fn a_restarted_leader_leads_in_a_new_epoch_and_late_news_of_its_end_do_nothing() {
    let mut world = World::new(2);
    let [a, b] = world.nodes[..] else { panic!() };
    let queue = world.queue("q", &[a, b]);
    world.up(a, 2);
    let placed = world.placed(queue).clone();
    assert_eq!((placed.leader, placed.incarnation, placed.epoch), (Some(a), 2, 2));
    let before = world.sm.snapshot(true);
    let index = world.sm.applied();
    world.down(a, 1);
    let mut after = world.sm.snapshot(true);
    assert_ne!(after, before, "the number of the last command");
    world.sm.restore(&before).unwrap();
    world.sm.note_applied(index + 1);
    assert_eq!(world.sm.snapshot(true), std::mem::take(&mut after));
    let stale = MetaCommand::NodeUp { id: a, incarnation: 1, storage: 1, lost: Vec::new() };
    assert!(matches!(world.try_apply(&stale), Err(MetaError::Invalid(_))));
    // The same start, after it was taken for dead, leads what nobody else could.
    world.down(b, 1);
    world.down(a, 2);
    assert_eq!(world.placed(queue).leader, None);
    world.up(a, 2);
    assert_eq!((world.placed(queue).leader, world.placed(queue).epoch), (Some(a), 3));
    world.up(a, 2);
    assert_eq!(world.placed(queue).epoch, 3, "saying it twice changes nothing");
}

#[test]
fn a_node_whose_data_is_gone_leaves_the_in_sync_sets() {
    let mut world = World::new(2);
    let [a, b] = world.nodes[..] else { panic!() };
    let both = world.queue("both", &[a, b]);
    let only = world.queue("only", &[a]);
    let listed = world.queue("listed", &[b]);
    world.apply(&MetaCommand::NodeUp { id: a, incarnation: 2, storage: 99, lost: Vec::new() });
    assert_eq!((world.placed(both).leader, world.placed(both).isr.as_slice()), (Some(b), &[b][..]));
    assert_eq!((world.placed(only).leader, world.placed(only).lost), (None, true));
    world.apply(&MetaCommand::NodeUp { id: b, incarnation: 2, storage: u128::from(b.0), lost: vec![listed] });
    assert!(world.placed(listed).lost && !world.placed(both).lost);
    // Another start does not bring back what is gone; an operator does.
    world.up(b, 3);
    assert_eq!(world.placed(listed).leader, None);
    world.apply(&MetaCommand::ForcePromote { queue: listed, to: b });
    let placed = world.placed(listed);
    assert_eq!((placed.leader, placed.lost, placed.forced), (Some(b), false, 1));
}

#[test]
fn what_is_not_on_disk_goes_with_its_node_and_with_a_new_start_of_it() {
    let mut world = World::new(2);
    let [a, b] = world.nodes[..] else { panic!() };
    let exchange = DeclareExchange {
        vhost: world.vhost,
        name: "goes".into(),
        kind: crate::exchange::ExchangeType::Fanout,
        durable: false,
        auto_delete: true,
        internal: false,
        arguments: Arc::default(),
    };
    world.apply(&MetaCommand::DeclareExchange(exchange));
    let mine = world.transient("mine", a, Some(ConnectionId::on(a, 1)));
    let open = DeclareQueue { mirrors: vec![b], durable: false, ..world.request("open", a) };
    let open = world.declare(open);
    assert_eq!(world.placed(open).replicas, [a], "never mirrored");
    let other = world.transient("other", b, None);
    world.apply(&MetaCommand::Bind(BindingRequest {
        vhost: world.vhost,
        source: "goes".into(),
        destination: DestinationName::Queue("mine".into()),
        routing_key: "".into(),
        arguments: Arc::default(),
        connection: None,
    }));
    assert!(world.sm.home_down(a).contains(&Change::RemoveQueue { id: mine, durable: false }));
    world.up(a, 2);
    assert_eq!(world.sm.queues().map(|queue| queue.id).collect::<Vec<_>>(), [other]);
    assert!(world.sm.exchange_named(world.vhost, "goes").is_none() && world.sm.owned.is_empty());
    assert!(other.0 & TRANSIENT != 0);
    world.down(b, 1);
    assert_eq!(world.sm.queues().count(), 0);
}

#[test]
fn a_mirror_that_went_down_is_not_let_in_and_its_proposal_is_decided() {
    let mut world = World::new(3);
    let [a, b, c] = world.nodes[..] else { panic!() };
    let queue = world.queue("q", &[a, b]);
    world.apply(&MetaCommand::SetReplicas { queue, cfg_ver: 1, replicas: vec![a, b, c] });
    world.down(c, 1);
    let cfg_ver = world.placed(queue).cfg_ver;
    let expand = MetaCommand::IsrExpand { queue, cfg_ver, add: c };
    world.apply(&expand);
    let placed = world.placed(queue);
    assert_eq!((placed.isr.as_slice(), placed.cfg_ver), (&[a, b][..], cfg_ver + 1));
    world.up(c, 2);
    assert!(
        matches!(world.try_apply(&expand), Err(MetaError::Stale { .. })),
        "the same made twice comes too late"
    );
}

#[test]
fn changes_of_a_placement_name_the_one_they_know() {
    let mut world = World::new(3);
    let [a, b, c] = world.nodes[..] else { panic!() };
    let queue = world.queue("q", &[a, b]);
    let replicas = |cfg_ver| MetaCommand::SetReplicas { queue, cfg_ver, replicas: vec![a, b, c] };
    world.apply(&replicas(1));
    assert_eq!(world.try_apply(&replicas(1)), Err(MetaError::Stale { is: 2, given: 1 }));
    assert_eq!(world.placed(queue).isr, [a, b], "a new mirror has nothing yet");
    let transfer = |cfg_ver, to| MetaCommand::Transfer { queue, cfg_ver, to };
    assert!(matches!(world.try_apply(&transfer(2, c)), Err(MetaError::Invalid(_))), "c lacks messages");
    world.apply(&MetaCommand::IsrExpand { queue, cfg_ver: 2, add: c });
    assert_eq!(world.try_apply(&transfer(2, c)), Err(MetaError::Stale { is: 3, given: 2 }));
    world.apply(&transfer(3, c));
    let placed = world.placed(queue);
    assert_eq!((placed.leader, placed.epoch, placed.cfg_ver), (Some(c), 2, 4));
    let without_leader = MetaCommand::SetReplicas { queue, cfg_ver: 4, replicas: vec![a, b] };
    assert!(matches!(world.try_apply(&without_leader), Err(MetaError::Invalid(_))));
    world.apply(&MetaCommand::IsrShrink { leader: c, incarnation: 9, follower: a });
    assert_eq!(world.placed(queue).cfg_ver, 4, "another start of the leader said so");
    world.apply(&MetaCommand::IsrShrink { leader: c, incarnation: 1, follower: a });
    assert_eq!((world.placed(queue).cfg_ver, world.placed(queue).isr.as_slice()), (5, &[b, c][..]));
    let forced = MetaCommand::ForcePromote { queue, to: a };
    assert!(matches!(world.try_apply(&forced), Err(MetaError::Invalid(_))), "there is a leader");
}

#[test]
fn a_forgotten_node_takes_along_only_what_was_accepted() {
    let mut world = World::new(3);
    let [a, b, c] = world.nodes[..] else { panic!() };
    let both = world.queue("both", &[a, b]);
    let only = world.queue("only", &[a]);
    let heir = world.queue("heir", &[a, c]);
    let forget = |accept_loss| MetaCommand::ForgetMember { id: a, accept_loss };
    assert!(matches!(world.try_apply(&forget(true)), Err(MetaError::Invalid(_))), "it runs");
    world.apply(&MetaCommand::IsrShrink { leader: a, incarnation: 1, follower: c });
    world.down(a, 1);
    let names = ["only", "heir"].map(|name| format!("queue '{name}' in vhost '/'"));
    let refused = world.try_apply(&forget(false)).unwrap_err();
    assert_eq!(refused, MetaError::OnlyCopies(names.to_vec()));
    assert!(
        refused.to_string().contains("queue 'only' in vhost '/'")
            && refused.to_string().contains("--accept-loss")
    );
    world.apply(&forget(true));
    assert!(world.sm.member(a).is_none() && world.sm.placement(only).is_none());
    assert_eq!((world.placed(both).replicas.as_slice(), world.placed(both).leader), (&[b][..], Some(b)));
    let placed = world.placed(heir);
    assert_eq!((placed.leader, placed.isr.as_slice(), placed.forced), (Some(c), &[c][..], 1));
}

#[test]
fn witnesses_hold_no_queues() {
    let mut world = World::new(2);
    let [a, b] = world.nodes[..] else { panic!() };
    let witness = world.add("witness@w", Role::Witness);
    world.up(witness, 1);
    world.policy(r#"{"ha-mode":"all"}"#);
    let queue = world.queue("q", &[a]);
    world.settle(&mut Controller::default(), 0);
    assert_eq!(sorted(&world.placed(queue).replicas), [a, b]);
    let cfg_ver = world.placed(queue).cfg_ver;
    let onto = MetaCommand::SetReplicas { queue, cfg_ver, replicas: vec![a, witness] };
    assert!(matches!(world.try_apply(&onto), Err(MetaError::Invalid(_))));
}

#[test]
fn policies_mirror_and_unmirror_live_queues() {
    let mut world = World::new(4);
    let [a, b, c, d] = world.nodes[..] else { panic!() };
    let mut controller = Controller::default();
    let queues: Vec<QueueId> = (0..3).map(|number| world.queue(&format!("q{number}"), &[a])).collect();
    world.settle(&mut controller, 0);
    world.policy(r#"{"ha-mode":"exactly","ha-params":2}"#);
    world.settle(&mut controller, 0);
    let mirrors: BTreeSet<NodeId> =
        queues.iter().flat_map(|queue| world.placed(*queue).followers()).collect();
    assert_eq!(mirrors, BTreeSet::from([b, c, d]), "those that hold the fewest");
    world.policy(r#"{"ha-mode":"all"}"#);
    world.settle(&mut controller, 0);
    assert_eq!(world.placed(queues[0]).isr, [a, b, c, d]);
    world.policy(r#"{"ha-mode":"nodes","ha-params":["rabbit@c","rabbit@d"]}"#);
    world.settle(&mut controller, 0);
    for queue in &queues {
        assert_eq!(sorted(&world.placed(*queue).replicas), [c, d]);
    }
    let leaders: BTreeSet<NodeId> = queues.iter().filter_map(|queue| world.placed(*queue).leader).collect();
    assert_eq!(leaders, BTreeSet::from([c, d]), "the lead went to nodes of the list, and not all to one");
    world.apply(&MetaCommand::ClearPolicy { vhost: "/".into(), operator: false, name: "p".into() });
    world.settle(&mut controller, 0);
    assert!(queues.iter().all(|queue| world.placed(*queue).replicas.len() == 1));
    assert!(controller.decide(&world.sm, 0).is_empty());
}

#[test]
fn the_leader_stays_until_a_node_of_the_list_has_everything() {
    let mut world = World::new(2);
    let [a, b] = world.nodes[..] else { panic!() };
    let queue = world.queue("q", &[a]);
    world.policy(r#"{"ha-mode":"nodes","ha-params":["rabbit@b"]}"#);
    let mut controller = Controller::default();
    let first = controller.decide(&world.sm, 0);
    assert_eq!(first, [MetaCommand::SetReplicas { queue, cfg_ver: 1, replicas: vec![a, b] }]);
    world.apply(&first[0]);
    assert_eq!(controller.decide(&world.sm, 0), [], "b has nothing yet");
    world.catch_up();
    assert_eq!(controller.decide(&world.sm, 0), [MetaCommand::Transfer { queue, cfg_ver: 3, to: b }]);
}

#[test]
fn a_missing_mirror_is_replaced_after_a_minute() {
    let mut world = World::new(3);
    let [a, b, c] = world.nodes[..] else { panic!() };
    world.policy(r#"{"ha-mode":"exactly","ha-params":2}"#);
    let queue = world.queue("q", &[a, b]);
    let mut controller = Controller::default();
    world.settle(&mut controller, 1_000);
    world.down(b, 1);
    assert_eq!(controller.decide(&world.sm, 5_000), []);
    assert_eq!(controller.wake_at(), Some(5_000 + REPLACE_AFTER_MS));
    assert_eq!(controller.decide(&world.sm, 4_999 + REPLACE_AFTER_MS), []);
    let wanted = controller.decide(&world.sm, 5_000 + REPLACE_AFTER_MS);
    assert_eq!(wanted, [MetaCommand::SetReplicas { queue, cfg_ver: 2, replicas: vec![a, c] }]);
    // It was only late: nothing is moved.
    world.up(b, 2);
    assert_eq!(controller.decide(&world.sm, 6_000 + REPLACE_AFTER_MS), []);
}

#[test]
fn nobody_who_lacks_messages_leads_unless_the_policy_says_so() {
    let mut world = World::new(2);
    let [a, b] = world.nodes[..] else { panic!() };
    let queue = world.queue("q", &[a, b]);
    world.policy(r#"{"ha-mode":"all"}"#);
    world.apply(&MetaCommand::IsrShrink { leader: a, incarnation: 1, follower: b });
    world.down(a, 1);
    let mut controller = Controller::default();
    assert_eq!(controller.decide(&world.sm, 0), []);
    world.policy(r#"{"ha-mode":"all","ha-promote-on-shutdown":"always"}"#);
    assert_eq!(controller.decide(&world.sm, 0), [], "it died");
    world.policy(r#"{"ha-mode":"all","ha-promote-on-failure":"always"}"#);
    let promote = MetaCommand::ForcePromote { queue, to: b };
    assert_eq!(controller.decide(&world.sm, 0), std::slice::from_ref(&promote));
    world.up(a, 2);
    world.apply(&MetaCommand::SetNodeState { id: a, state: NodeState::Drain });
    world.down(a, 2);
    assert_eq!(controller.decide(&world.sm, 0), [], "it was stopped in order");
    world.policy(r#"{"ha-mode":"all","ha-promote-on-shutdown":"always"}"#);
    assert_eq!(controller.decide(&world.sm, 0), std::slice::from_ref(&promote));
    world.apply(&promote);
    let placed = world.placed(queue);
    assert_eq!((placed.leader, placed.isr.as_slice(), placed.forced), (Some(b), &[b][..], 1));
}

#[test]
fn quorum_queues_have_three_nodes_or_as_many_as_they_asked_for_and_need_a_majority() {
    let mut world = World::new(5);
    let a = world.nodes[0];
    let quorum = |size: Option<i32>| {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type", FieldValue::LongStr(b"quorum".to_vec()));
        if let Some(size) = size {
            arguments.insert("x-quorum-initial-group-size", FieldValue::SignedInt(size));
        }
        Arc::new(arguments)
    };
    for (name, size, copies) in
        [("three", None, 3), ("five", Some(5), 5), ("many", Some(9), 5), ("one", Some(1), 1)]
    {
        let mut request = DeclareQueue { arguments: quorum(size), ..world.request(name, a) };
        locate(&world.sm, &world.book, &mut request, a, LeaderLocator::default(), 0);
        let queue = world.declare(request);
        assert_eq!((world.placed(queue).leader, world.placed(queue).isr.len()), (Some(a), copies), "{name}");
        let options = Arc::clone(&world.sm.queue(queue).unwrap().options);
        assert_eq!(options.min_in_sync(copies), copies / 2 + 1);
    }
    assert_eq!(Controller::default().decide(&world.sm, 0), [], "they are where they shall be");
}

#[test]
fn new_queues_live_where_their_locator_says() {
    let mut world = World::new(3);
    let [a, b, c] = world.nodes[..] else { panic!() };
    world.queue("q0", &[a]);
    world.queue("q1", &[b]);
    let place = |world: &World, arguments: &[(&str, &str)], default| {
        let fields = arguments.iter().map(|(key, value)| ((*key).to_owned(), FieldValue::from(*value)));
        let arguments = Arc::new(FieldTable::from_iter(fields));
        let mut request = DeclareQueue { arguments, ..world.request("new", a) };
        locate(&world.sm, &world.book, &mut request, a, default, 4);
        (request.home, request.mirrors)
    };
    assert_eq!(place(&world, &[], LeaderLocator::ClientLocal), (a, vec![]));
    assert_eq!(place(&world, &[], LeaderLocator::MinMasters), (c, vec![]));
    assert_eq!(place(&world, &[("x-queue-master-locator", "min-masters")], LeaderLocator::ClientLocal).0, c);
    assert_eq!(place(&world, &[("x-queue-master-locator", "random")], LeaderLocator::ClientLocal).0, b);
    world.policy(r#"{"queue-master-locator":"min-masters","ha-mode":"exactly","ha-params":2}"#);
    assert_eq!(place(&world, &[], LeaderLocator::ClientLocal), (c, vec![a]));
    world.policy(r#"{"ha-mode":"nodes","ha-params":["rabbit@b","rabbit@c","rabbit@x"]}"#);
    assert_eq!(place(&world, &[], LeaderLocator::ClientLocal), (b, vec![c]), "a is not in the list");
    // RabbitMQ ends the connection with an internal error here.
    let fields = [("x-queue-master-locator".to_owned(), FieldValue::from("near"))];
    let near =
        DeclareQueue { arguments: Arc::new(FieldTable::from_iter(fields)), ..world.request("near", a) };
    let refused = world.try_apply(&MetaCommand::DeclareQueue(near)).unwrap_err().into_exception();
    assert_eq!(
        refused.text,
        "invalid arg 'x-queue-master-locator' for queue 'near' in vhost '/': invalid_queue_locator_arg"
    );
    let mut exclusive = DeclareQueue { owner: Some(ConnectionId(1)), ..world.request("mine", a) };
    locate(&world.sm, &world.book, &mut exclusive, a, LeaderLocator::MinMasters, 0);
    assert_eq!((exclusive.home, exclusive.mirrors), (a, vec![]));
    world.down(c, 1);
    let refused = world.try_apply(&MetaCommand::DeclareQueue(world.request("q", c)));
    assert!(matches!(refused, Err(MetaError::Invalid(_))));
}

#[test]
fn draining_and_rebalancing_move_what_others_have_whole() {
    let mut world = World::new(3);
    let [a, b, c] = world.nodes[..] else { panic!() };
    for number in 0..6 {
        world.queue(&format!("q{number}"), &[a, b, c]);
    }
    let only = world.queue("only", &[a]);
    let moves = rebalance(&world.sm, |queue| queue.id != only);
    assert_eq!(moves.len(), 4);
    moves.iter().for_each(|command| drop(world.apply(command)));
    assert_eq!([a, b, c].map(|node| world.sm.loads().leads(node)), [3, 2, 2]);
    assert!(rebalance(&world.sm, |queue| queue.id != only).is_empty());
    world.apply(&MetaCommand::SetNodeState { id: a, state: NodeState::Drain });
    let moves = drain(&world.sm, a);
    moves.iter().for_each(|command| drop(world.apply(command)));
    assert_eq!([a, b, c].map(|node| world.sm.loads().leads(node)), [1, 3, 3]);
    assert_eq!(world.placed(only).leader, Some(a), "nobody else has it");
}

#[test]
fn a_node_that_stops_knows_whether_a_copy_may_be_in_sync_soon() {
    let mut world = World::new(3);
    let [a, b, c] = world.nodes[..] else { panic!() };
    world.queue("only", &[a]);
    let both = world.queue("both", &[a, b]);
    assert_eq!(catching_up(&world.sm, a), None, "one has no other copy, the other is in sync");
    world.down(b, 1);
    assert_eq!(world.placed(both).isr, [a]);
    assert_eq!(catching_up(&world.sm, a), None, "nobody waits for a node that is down");
    world.up(b, 2);
    assert_eq!(catching_up(&world.sm, a), Some(CatchingUp::All));
    assert_eq!(catching_up(&world.sm, c), None, "it leads nothing");
    world.policy(r#"{"ha-mode":"nodes","ha-params":["rabbit@a","rabbit@b"],"ha-sync-mode":"manual"}"#);
    assert_eq!(catching_up(&world.sm, a), Some(CatchingUp::IfNothingLacks));
    world.apply(&MetaCommand::SetNodeState { id: b, state: NodeState::Drain });
    assert_eq!(catching_up(&world.sm, a), None, "what is drained takes no queues");
}

#[test]
fn answers_and_refusals_travel_over_links() {
    let refusals = [
        MetaError::Exception(Exception::channel(404, "no queue 'q'").at(50, 10)),
        MetaError::NoSuchEntry { what: "policy".into(), name: "p".to_owned() },
        MetaError::Stale { is: 3, given: 2 },
        MetaError::OnlyCopies(vec!["q".to_owned()]),
    ];
    for refusal in refusals {
        let octets = postcard::to_stdvec(&refusal).unwrap();
        assert_eq!(postcard::from_bytes::<MetaError>(&octets).unwrap(), refusal);
    }
    let reply = MetaReply::Batch(vec![
        Ok(MetaReply::Queue { id: QueueId(7), created: true }),
        Ok(MetaReply::Member(NodeId(9))),
        Err(MetaError::NoSuchMember(NodeId(4))),
    ]);
    let octets = postcard::to_stdvec(&reply).unwrap();
    assert_eq!(postcard::from_bytes::<MetaReply>(&octets).unwrap(), reply);
    let command = MetaCommand::NodeUp { id: A, incarnation: 3, storage: u128::MAX, lost: vec![QueueId(1)] };
    let octets = postcard::to_stdvec(&command).unwrap();
    assert_eq!(postcard::from_bytes::<MetaCommand>(&octets).unwrap(), command);
}

/// A command with the numbers still to be looked up: nodes and queues by position, versions by how far they are off.
#[derive(Clone, Debug)]
enum Step {
    Declare { name: u8, home: usize, mirrors: Vec<usize>, durable: bool },
    Delete { queue: usize },
    Up { node: usize, newer: u64, other_data: bool, lost: Vec<usize> },
    Down { node: usize, stale: bool },
    State { node: usize, drain: bool },
    Expand { queue: usize, off: u32, node: usize },
    Shrink { leader: usize, stale: bool, node: usize },
    Replicas { queue: usize, off: u32, nodes: Vec<usize> },
    Transfer { queue: usize, off: u32, node: usize },
    Promote { queue: usize, node: usize },
    Forget { node: usize, accept_loss: bool },
    Add,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = || 0..4_usize;
    let queue = || 0..6_usize;
    let off = || prop_oneof![6 => Just(0_u32), 1 => 1..3_u32];
    let nodes = || prop::collection::vec(0..4_usize, 1..4);
    let rare = || prop_oneof![5 => Just(false), 1 => Just(true)];
    let one = prop_oneof![
        5 => (0..8_u8, node(), nodes(), any::<bool>())
            .prop_map(|(name, home, mirrors, durable)| Step::Declare { name, home, mirrors, durable }),
        1 => queue().prop_map(|queue| Step::Delete { queue }),
        6 => (node(), 0..3_u64, rare(), prop::collection::vec(queue(), 0..2))
            .prop_map(|(node, newer, other_data, lost)| Step::Up { node, newer, other_data, lost }),
        4 => (node(), rare()).prop_map(|(node, stale)| Step::Down { node, stale }),
        1 => (node(), any::<bool>()).prop_map(|(node, drain)| Step::State { node, drain }),
        6 => (queue(), off(), node()).prop_map(|(queue, off, node)| Step::Expand { queue, off, node }),
        3 => (node(), rare(), node()).prop_map(|(leader, stale, node)| Step::Shrink { leader, stale, node }),
        4 => (queue(), off(), nodes()).prop_map(|(queue, off, nodes)| Step::Replicas { queue, off, nodes }),
        3 => (queue(), off(), node()).prop_map(|(queue, off, node)| Step::Transfer { queue, off, node }),
        1 => (queue(), node()).prop_map(|(queue, node)| Step::Promote { queue, node }),
        1 => (node(), any::<bool>()).prop_map(|(node, accept_loss)| Step::Forget { node, accept_loss }),
        1 => Just(Step::Add),
    ];
    prop::collection::vec(one, 0..60)
}

impl Step {
    fn command(&self, world: &World) -> Option<MetaCommand> {
        let node = |at: &usize| world.nodes[at % world.nodes.len()];
        let queue = |at: &usize| {
            let all: Vec<QueueId> = world.sm.queues().map(|queue| queue.id).collect();
            all.get(at % all.len().max(1)).copied()
        };
        let version = |queue: QueueId, off: u32| world.placed(queue).cfg_ver.wrapping_sub(off);
        let start = |id: NodeId| world.sm.member(id).map_or(0, |member| member.incarnation);
        Some(match self {
            Step::Declare { name, home, mirrors, durable } => MetaCommand::DeclareQueue(DeclareQueue {
                durable: *durable,
                mirrors: mirrors.iter().map(node).collect(),
                ..world.request(&format!("q{name}"), node(home))
            }),
            Step::Delete { queue: at } => MetaCommand::DeleteQueues { ids: vec![queue(at)?] },
            Step::Up { node: at, newer, other_data, lost } => MetaCommand::NodeUp {
                id: node(at),
                incarnation: start(node(at)) + newer,
                storage: u128::from(node(at).0) + u128::from(*other_data),
                lost: lost.iter().filter_map(queue).collect(),
            },
            Step::Down { node: at, stale } => {
                let id = node(at);
                MetaCommand::NodeDown { id, incarnation: start(id).saturating_sub(u64::from(*stale)) }
            }
            Step::State { node: at, drain } => {
                let state = if *drain { NodeState::Drain } else { NodeState::Up };
                MetaCommand::SetNodeState { id: node(at), state }
            }
            Step::Expand { queue: at, off, node: add } => {
                let queue = queue(at)?;
                MetaCommand::IsrExpand { queue, cfg_ver: version(queue, *off), add: node(add) }
            }
            Step::Shrink { leader, stale, node: follower } => MetaCommand::IsrShrink {
                leader: node(leader),
                incarnation: start(node(leader)).saturating_sub(u64::from(*stale)),
                follower: node(follower),
            },
            Step::Replicas { queue: at, off, nodes } => {
                let queue = queue(at)?;
                let replicas = nodes.iter().map(node).collect();
                MetaCommand::SetReplicas { queue, cfg_ver: version(queue, *off), replicas }
            }
            Step::Transfer { queue: at, off, node: to } => {
                let queue = queue(at)?;
                MetaCommand::Transfer { queue, cfg_ver: version(queue, *off), to: node(to) }
            }
            Step::Promote { queue: at, node: to } => {
                MetaCommand::ForcePromote { queue: queue(at)?, to: node(to) }
            }
            Step::Forget { node: at, accept_loss } => {
                MetaCommand::ForgetMember { id: node(at), accept_loss: *accept_loss }
            }
            Step::Add => MetaCommand::AddMember {
                name: format!("rabbit@n{}", world.index).into(),
                addresses: Vec::new(),
                role: Role::Broker,
                version: String::new(),
            },
        })
    }
}

fn placements(sm: &MetaSm) -> BTreeMap<QueueId, Arc<Placement>> {
    sm.queues().map(|queue| (queue.id, Arc::clone(&queue.placement))).collect()
}

/// What must hold of every placement, whatever was done.
fn check_state(sm: &MetaSm) -> Result<(), TestCaseError> {
    let mut loads = Loads::default();
    for queue in sm.queues() {
        let placement = &queue.placement;
        loads.add(placement);
        prop_assert!(
            !placement.isr.is_empty() && placement.isr.is_sorted_by(|a, b| a < b),
            "{:?}",
            placement
        );
        prop_assert!(placement.isr.iter().all(|node| placement.replicas.contains(node)), "{:?}", placement);
        prop_assert!(placement.replicas.iter().all(|node| sm.member(*node).is_some()), "{:?}", placement);
        let transient = queue.id.0 & TRANSIENT != 0;
        prop_assert!(!transient || (placement.replicas.len() == 1 && placement.leader.is_some()));
        if let Some(leader) = placement.leader {
            prop_assert!(placement.isr.contains(&leader) && !placement.lost, "{:?}", placement);
            let member = sm.member(leader).filter(|member| member.serves());
            prop_assert!(member.is_some(), "{:?} is led by a node that is down", placement);
            prop_assert_eq!(member.map(|member| member.incarnation), Some(placement.incarnation));
        }
    }
    for member in sm.members() {
        prop_assert_eq!(sm.loads().leads(member.id), loads.leads(member.id));
        prop_assert_eq!(sm.loads().copies(member.id), loads.copies(member.id));
    }
    Ok(())
}

/// What must hold between a placement and the next.
fn check_step(command: &MetaCommand, before: &Placement, after: &Placement) -> Result<(), TestCaseError> {
    if before == after {
        return Ok(());
    }
    prop_assert_eq!(after.cfg_ver, before.cfg_ver + 1, "{:?}", command);
    prop_assert!(after.epoch >= before.epoch);
    let (was, is) = ((before.leader, before.incarnation), (after.leader, after.incarnation));
    prop_assert!(is.0.is_none() || was == is || after.epoch == before.epoch + 1, "{:?}", command);
    let forced = matches!(command, MetaCommand::ForcePromote { .. } | MetaCommand::ForgetMember { .. });
    prop_assert!(after.forced == before.forced || forced, "{:?}", command);
    if after.forced == before.forced {
        prop_assert!(is.0.is_none_or(|leader| before.isr.contains(&leader)), "{:?}", command);
        let joined = after.isr.iter().filter(|node| !before.isr.contains(node)).count();
        let expands = matches!(command, MetaCommand::IsrExpand { .. });
        // None joins whose node is down.
        prop_assert!(joined <= usize::from(expands), "{:?}", command);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// One log makes one state, restored at any point or not; and no sequence of commands breaks the rules of
    /// placements.
    #[test]
    fn whatever_is_asked_the_rules_of_placements_hold(steps in steps()) {
        let mut world = World::new(3);
        let mut log = Vec::new();
        let mut other = MetaSm::new();
        other.restore(&world.sm.snapshot(true)).unwrap();
        for step in &steps {
            let Some(command) = step.command(&world) else { continue };
            let before = placements(&world.sm);
            let octets = world.sm.snapshot(true);
            let starts: BTreeMap<NodeId, u64> =
                world.sm.members().map(|member| (member.id, member.incarnation)).collect();
            let applied = world.sm.applied();
            let outcome = world.try_apply(&command);
            prop_assert_eq!(&other.apply(world.index, &command), &outcome);
            if let Ok(MetaReply::Member(id)) = outcome {
                prop_assert!(!world.nodes.contains(&id), "a number is never given twice");
                world.nodes.push(id);
            }
            let stale = match &command {
                MetaCommand::IsrExpand { queue, cfg_ver, .. }
                | MetaCommand::SetReplicas { queue, cfg_ver, .. }
                | MetaCommand::Transfer { queue, cfg_ver, .. } => before[queue].cfg_ver != *cfg_ver,
                _ => false,
            };
            prop_assert_eq!(stale, matches!(outcome, Err(MetaError::Stale { .. })), "{:?}", command);
            let late = matches!(&command, MetaCommand::NodeDown { id, incarnation }
                if starts.get(id).is_some_and(|start| start != incarnation));
            if late || outcome.is_err() {
                let mut same = MetaSm::new();
                same.restore(&octets).unwrap();
                same.note_applied(world.sm.applied().max(applied));
                prop_assert_eq!(same.snapshot(true), world.sm.snapshot(true), "{:?}", command);
            }
            for (queue, after) in placements(&world.sm) {
                if let Some(before) = before.get(&queue) {
                    check_step(&command, before, &after)?;
                }
            }
            check_state(&world.sm)?;
            // A node that takes the snapshot here goes on as the others.
            let snapshot = other.snapshot(true);
            other = MetaSm::new();
            other.restore(&snapshot).unwrap();
            prop_assert_eq!(&other.snapshot(true), &world.sm.snapshot(true));
            log.push((world.index, command));
        }
        let mut replayed = World::new(3).sm;
        for (index, command) in &log {
            let _ = replayed.apply(*index, command);
        }
        replayed.note_applied(world.sm.applied());
        prop_assert_eq!(replayed.snapshot(true), world.sm.snapshot(true));
        prop_assert_eq!(replayed.snapshot(false), world.sm.snapshot(false));
    }

    /// The controller comes to rest, and then every queue has as many nodes as it shall, if there are as many.
    #[test]
    fn the_controller_comes_to_rest(steps in steps(), copies in 1..4_u32) {
        let mut world = World::new(3);
        world.policy(&format!(r#"{{"ha-mode":"exactly","ha-params":{copies}}}"#));
        for step in &steps {
            if let Some(command) = step.command(&world)
                && let Ok(MetaReply::Member(id)) = world.try_apply(&command)
            {
                world.nodes.push(id);
            }
        }
        let mut controller = Controller::default();
        controller.decide(&world.sm, 0);
        world.settle(&mut controller, REPLACE_AFTER_MS);
        let up = world.sm.members().filter(|member| member.takes_queues()).count();
        for queue in world.sm.queues().filter(|queue| queue.durable && queue.placement.leader.is_some()) {
            let placement = &queue.placement;
            prop_assert!(placement.replicas.len() <= copies as usize, "{:?}", placement);
            prop_assert!(placement.isr.len() >= up.min(copies as usize), "{:?} of {}", placement, up);
        }
    }
}
