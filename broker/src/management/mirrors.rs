//! Which nodes hold a queue, in listings.

use super::erlang;
use super::fields::Fields;
use broker_core::ids::NodeId;
use broker_core::meta::options::QueueType;
use broker_core::meta::{Member, MetaSm, Queue};
use serde_json::Value;

/// Name of the node that runs a queue, or would if it were there. On a node alone that is `own`.
pub(super) fn home<'a>(sm: &'a MetaSm, queue: &Queue, own: &'a str) -> &'a str {
    let member = queue.placement.home().and_then(|id| sm.member(id));
    member.map_or(own, |member| &*member.name)
}

/// Writes who holds a queue: of a quorum queue leader and members, of a mirrored one its mirrors. RabbitMQ shows
/// mirrors that run; `recoverable_slaves` are those too that are down.
pub(super) fn write(fields: &mut Fields<'_>, sm: &MetaSm, queue: &Queue, own: &str) {
    let placement = &queue.placement;
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
        return erlang::quorum(fields, home(sm, queue, own), &members, &online);
    }
    if queue.options.mirroring.is_none() && placement.replicas.len() < 2 {
        fields.field("recoverable_slaves", &Value::Null);
        return;
    }
    let in_sync = |id: &NodeId| placement.isr.contains(id);
    fields.field("slave_nodes", &names(&mut placement.followers().filter(runs)));
    fields.field("synchronised_slave_nodes", &names(&mut placement.followers().filter(runs).filter(in_sync)));
    fields.field("recoverable_slaves", &names(&mut placement.followers()));
}
