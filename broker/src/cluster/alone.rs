//! The operator of a node that stands alone: it tells about itself, and has nothing to join or to leave.

use super::operator::{ClusterStatus, Done, MemberStatus, Operator, Order, Refused, RefusedKind};
use crate::ctl::relay::Relay;
use crate::node::Node;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// A node without others.
pub(crate) struct Alone {
    /// The node.
    pub(crate) node: Arc<Node>,
}

impl Operator for Alone {
    fn status(&self) -> ClusterStatus {
        let name = &self.node.settings.node;
        let own = MemberStatus {
            name: name.clone(),
            running: true,
            vote: "voter".to_owned(),
            version: self.node.settings.version.clone(),
            ..MemberStatus::default()
        };
        ClusterStatus { node: name.clone(), members: vec![own], ..ClusterStatus::default() }
    }

    fn carry_out(&self, _order: Order) -> BoxFuture<'static, Result<Done, Refused>> {
        let text = "clusters of several nodes are not supported yet: this node stays on its own";
        async move { Err(Refused::new(RefusedKind::Invalid, text)) }.boxed()
    }
}

impl Relay for Alone {
    fn pass_on(&self, _node: String, _question: Vec<u8>) -> BoxFuture<'static, Result<Bytes, String>> {
        async { Err("this node stands alone".to_owned()) }.boxed()
    }
}
