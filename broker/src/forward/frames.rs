//! Frames of other nodes on their way from the links to the node.

use crate::cluster::link::{Handler, Session};
use crate::node::Node;
use broker_core::ids::NodeId;
use bytes::Bytes;
use std::sync::{Arc, Weak};

/// Takes what comes for [`crate::cluster::link::Kind::Forward`].
pub(crate) struct Frames(Weak<Node>);

impl Frames {
    /// Frames for a node.
    pub(crate) fn to(node: &Arc<Node>) -> Frames {
        Frames(Arc::downgrade(node))
    }
}

impl Handler for Frames {
    fn on_up(&self, peer: NodeId, _: Session) {
        if let Some(node) = self.0.upgrade() {
            node.forward_up(peer);
        }
    }

    fn on_down(&self, peer: NodeId, _: Session) {
        if let Some(node) = self.0.upgrade() {
            node.forward_down(peer);
        }
    }

    fn on_frame(&self, from: NodeId, session: Session, payload: Bytes) {
        if let Some(node) = self.0.upgrade() {
            node.forward_frame(from, session.0, &payload);
        }
    }

    fn on_accepted_down(&self, from: NodeId, session: Session) {
        if let Some(node) = self.0.upgrade() {
            node.forward_accepted_down(from, session.0);
        }
    }
}
