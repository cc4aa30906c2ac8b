//! What goes over the links for copies, and its way to the node.
//!
//! ```text
//! data lane   0 | 1 ...  of a leader's stream ([`broker_core::repl`])
//!             2 | answer of a follower
//! bulk lane   fills
//! ```

use crate::cluster::link::{Handler, Session};
use crate::node::Node;
use broker_core::ids::NodeId;
use broker_core::repl::{Fill, ToLeader};
use bytes::Bytes;
use std::sync::{Arc, Weak};

/// An answer of a follower.
const ANSWER: u8 = 2;

/// What is said to a leader, as a frame.
pub(super) fn answer(said: &ToLeader) -> Bytes {
    let mut frame = vec![ANSWER];
    frame.extend_from_slice(&said.encode());
    frame.into()
}

/// Takes what comes for [`crate::cluster::link::Kind::Replicate`].
pub(super) struct Frames(Weak<Node>);

impl Frames {
    pub(super) fn to(node: &Arc<Node>) -> Frames {
        Frames(Arc::downgrade(node))
    }
}

impl Handler for Frames {
    fn on_up(&self, peer: NodeId, _: Session) {
        if let Some(node) = self.0.upgrade() {
            node.copies_up(peer);
        }
    }

    fn on_down(&self, peer: NodeId, _: Session) {
        if let Some(node) = self.0.upgrade() {
            node.copies_down(peer);
        }
    }

    fn on_frame(&self, from: NodeId, _: Session, payload: Bytes) {
        let Some(node) = self.0.upgrade() else { return };
        match payload.split_first() {
            Some((&ANSWER, said)) => match ToLeader::decode(said) {
                Ok(said) => node.hear_follower(from, said),
                Err(error) => {
                    tracing::error!(node = %from, %error, "an answer can not be read; the stream begins anew");
                    node.restart_stream(from);
                }
            },
            _ => node.take_frame(from, &payload),
        }
    }

    fn on_accepted_down(&self, from: NodeId, _: Session) {
        if let Some(node) = self.0.upgrade() {
            node.lose_leader(from);
        }
    }
}

/// Takes what comes for [`crate::cluster::link::Kind::Fill`].
pub(super) struct Fills(Weak<Node>);

impl Fills {
    pub(super) fn to(node: &Arc<Node>) -> Fills {
        Fills(Arc::downgrade(node))
    }
}

impl Handler for Fills {
    fn on_frame(&self, from: NodeId, _: Session, payload: Bytes) {
        let Some(node) = self.0.upgrade() else { return };
        match Fill::decode(&payload) {
            Ok(fill) => node.take_fill(from, &fill),
            Err(error) => {
                tracing::error!(node = %from, %error, "messages for a copy can not be read");
                node.lose_leader(from);
            }
        }
    }
}
