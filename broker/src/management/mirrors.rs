//! Which nodes hold a queue, in listings.

use super::erlang;
use super::fields::Fields;
use crate::node::Node;
use broker_core::ids::NodeId;
use broker_core::meta::options::QueueType;
use broker_core::meta::{Member, MetaSm, Placement, Queue};
use serde_json::{Value, json};

/// Name of the node that runs a queue, or would if it were there. On a node alone that is `own`.
pub(super) fn home<'a>(sm: &'a MetaSm, queue: &Queue, own: &'a str) -> &'a str {
    let member = queue.placement.home().and_then(|id| sm.member(id));
    member.map_or(own, |member| &*member.name)
}

/// Writes who holds a queue: of a quorum queue leader and members, of a mirrored one its mirrors. RabbitMQ shows
/// mirrors that run; `recoverable_slaves` are those too that are down. Ours is `copies`, with how much each lacks.
pub(super) fn write(fields: &mut Fields<'_>, sm: &MetaSm, queue: &Queue, node: &Node) {
    let placement = &queue.placement;
    let own = node.settings.node.as_str();
    let name = |id: &NodeId| sm.member(*id).map(|member| &*member.name);
    let runs = |id: &NodeId| sm.member(*id).is_some_and(Member::serves);
    let names = |nodes: &mut dyn Iterator<Item = NodeId>| -> Vec<String> {
        nodes.filter_map(|id| name(&id).map(str::to_owned)).collect()
    };
    if queue.options.queue_type == QueueType::Quorum {
        let alone = sm.members().next().is_none();
        let members =
            if alone { vec![own.to_owned()] } else { names(&mut placement.replicas.iter().copied()) };
        let online =
            if alone { members.clone() } else { names(&mut placement.replicas.iter().copied().filter(runs)) };
        erlang::quorum(fields, home(sm, queue, own), &members, &online);
        return write_copies(fields, sm, queue, node);
    }
    if queue.options.mirroring.is_none() && placement.replicas.len() < 2 {
        fields.field("recoverable_slaves", &Value::Null);
        return;
    }
    let in_sync = |id: &NodeId| placement.isr.contains(id);
    fields.field("slave_nodes", &names(&mut placement.followers().filter(runs)));
    fields.field("synchronised_slave_nodes", &names(&mut placement.followers().filter(runs).filter(in_sync)));
    fields.field("recoverable_slaves", &names(&mut placement.followers()));
    write_copies(fields, sm, queue, node);
}

/// `copies`: each other node that holds the queue or shall, and how many messages it lacks; null while nobody here
/// knows, because another node leads the queue or that one is not connected. `unsynchronised_copies`: how many of all
/// copies do not count.
fn write_copies(fields: &mut Fields<'_>, sm: &MetaSm, queue: &Queue, node: &Node) {
    let placement = &queue.placement;
    if fields.wants("unsynchronised_copies") {
        let all = placement.replicas.iter().filter_map(|id| sm.member(*id));
        let missing = all.filter(|member| state(placement, member) != SYNCHRONISED).count();
        fields.field("unsynchronised_copies", &missing);
    }
    if !fields.wants("copies") {
        return;
    }
    let home = placement.home();
    let lacking = if placement.replicas.len() > 1 { node.mirrors(queue.id) } else { Vec::new() };
    let copy = |member: &Member| {
        let lacks = lacking.iter().find(|(id, _)| *id == member.id).and_then(|(_, lacks)| *lacks);
        json!({
            "node": &*member.name, "state": state(placement, member),
            "messages_missing": if member.serves() { lacks } else { None },
        })
    };
    let others = placement.followers().filter(|id| home != Some(*id));
    fields.field("copies", &others.filter_map(|id| sm.member(id)).map(copy).collect::<Vec<Value>>());
}

/// What a copy is that has every confirmed message and whose node runs.
const SYNCHRONISED: &str = "synchronised";

/// RabbitMQ's words.
fn state(placement: &Placement, member: &Member) -> &'static str {
    match (member.serves(), placement.isr.contains(&member.id)) {
        (false, _) => "down",
        (true, true) => SYNCHRONISED,
        (true, false) => "unsynchronised",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_core::meta::{NodeState, Role};
    use std::sync::Arc;

    #[test]
    fn a_copy_is_synchronised_when_it_counts_and_its_node_runs() {
        let mut placement = Placement::first(NodeId(1), 1, vec![NodeId(1), NodeId(2), NodeId(3)]);
        placement.isr = vec![NodeId(1), NodeId(2)];
        let member = |id, state| Member {
            id: NodeId(id),
            name: Arc::from("rabbit@b"),
            addresses: Vec::new(),
            role: Role::Broker,
            incarnation: 1,
            state,
            storage: 0,
            version: String::new(),
            orderly: false,
        };
        for (id, node, shown) in [
            (2, NodeState::Up, "synchronised"),
            (3, NodeState::Up, "unsynchronised"),
            (3, NodeState::Drain, "unsynchronised"),
            (2, NodeState::Down, "down"),
        ] {
            assert_eq!(state(&placement, &member(id, node)), shown, "{id} {node:?}");
        }
    }
}
