//! The cluster as forwarding sees it.

use super::frames::Frames;
use super::{Around, Home};
use crate::cluster::ClusterView;
use crate::cluster::link::{Kind, Lane};
use crate::node::Node;
use broker_core::ids::{NodeId, QueueId};
use bytes::Bytes;
use std::sync::Arc;

impl Around for ClusterView {
    fn me(&self) -> NodeId {
        ClusterView::me(self)
    }

    fn incarnation(&self) -> u64 {
        ClusterView::incarnation(self)
    }

    fn is_alone(&self) -> bool {
        ClusterView::is_alone(self)
    }

    fn home(&self, queue: QueueId) -> Option<Home> {
        self.leader_of(queue)
    }

    fn send(&self, to: NodeId, frame: Bytes) -> bool {
        let sent = self.links().map(|links| links.send(to, Lane::Data, Kind::Forward, frame));
        matches!(sent, Some(Ok(_)))
    }

    fn name(&self, node: NodeId) -> String {
        self.name_of(node).map_or_else(|| format!("node {node}"), |name| name.to_string())
    }

    fn with_slot(&self, slot: u16) -> Option<NodeId> {
        let me = ClusterView::me(self);
        let of = |member: &broker_core::meta::Member| member.id != me && member.id.0 as u16 == slot;
        self.members().iter().find(|member| of(member)).map(|member| member.id)
    }
}

/// Attaches a node to its cluster.
pub(crate) fn attach(node: &Arc<Node>) {
    if let Some(links) = node.cluster.links() {
        links.handle(Kind::Forward, Arc::new(Frames::to(node)));
        node.begin_forwarding(Arc::new(node.cluster.clone()));
        // Those that were connected before have told nobody here, whether the metadata knows them yet or not.
        links.data_peers().into_iter().for_each(|peer| node.forward_up(peer));
    }
}
