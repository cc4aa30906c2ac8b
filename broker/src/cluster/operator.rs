//! What an operator can ask of a node's part in the cluster, and what the node tells about it.
//!
//! The commands of the control socket (`crate::ctl`) know no more of the cluster than this.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// Whoever carries orders out.
pub(crate) trait Operator: Send + Sync + 'static {
    /// The cluster as this node knows it.
    fn status(&self) -> ClusterStatus;

    /// Carries an order out, and returns when it is done.
    fn carry_out(&self, order: Order) -> BoxFuture<'static, Result<Done, Refused>>;
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Order {
    /// Stops everything but the process and its control socket.
    StopApp,
    /// Starts it again.
    StartApp,
    /// Makes a stopped node a member of the cluster in which these are.
    Join {
        /// `rabbit@A`, `A:25672`.
        members: Vec<String>,
        /// The proof that this node may join, where that is not the cookie.
        token: Option<String>,
    },
    /// Leaves the cluster, and takes up the data again that the node had before.
    Leave,
    /// Makes a stopped node an empty one that stands alone.
    Reset {
        /// Also when the other nodes can not be told.
        force: bool,
    },
    /// Removes another node that is down.
    Forget {
        /// Its name.
        node: String,
        /// Also when it has the only copy of something.
        accept_loss: bool,
    },
    /// Lets a stopped node start without waiting for those that were there when it stopped.
    ForceBoot,
    /// Gives leadership away and closes the AMQP port.
    Drain,
    /// Ends that.
    Revive,
    /// Makes a token with which another node can join.
    Token {
        /// How long it is good for, seconds.
        seconds: u64,
    },
    /// Changes which nodes have a copy of a queue.
    Replicas {
        /// Its vhost.
        vhost: String,
        /// Its name.
        queue: String,
        /// A node that gets a copy.
        add: Option<String>,
        /// One that loses its copy.
        remove: Option<String>,
    },
    /// Makes this node the only voter of a new generation, with what it knows.
    Recover,
    /// Gives a stopped node another name.
    Rename {
        /// Old names and new ones; those of other nodes are for those nodes.
        names: Vec<(String, String)>,
    },
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Done {
    /// It was so already.
    pub(crate) already: bool,
    /// What is worth telling, a sentence each.
    pub(crate) remarks: Vec<String>,
    /// A token that was made.
    pub(crate) token: Option<String>,
}

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refused {
    /// What kind of reason it is.
    pub(crate) kind: RefusedKind,
    /// A sentence.
    pub(crate) text: String,
}

impl Refused {
    /// A reason.
    pub(crate) fn new(kind: RefusedKind, text: impl Into<String>) -> Refused {
        Refused { kind, text: text.into() }
    }
}

/// Kinds of reasons, each with an exit code of its own on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RefusedKind {
    /// The node runs, and has to be stopped first.
    Running,
    /// The node is stopped, and has to run.
    Stopped,
    /// Another node can not be reached, or does not accept this one.
    Unreachable,
    /// There is no such node.
    Unknown,
    /// It would lose messages.
    Loss,
    /// It makes no sense for this node now.
    Invalid,
    /// It failed.
    Failed,
}

/// The cluster as a node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ClusterStatus {
    /// This node.
    pub(crate) node: String,
    /// Whether it serves, and if not, why.
    pub(crate) app: AppState,
    /// All nodes, this one among them.
    pub(crate) members: Vec<MemberStatus>,
    /// What is wrong and what to do, a sentence each.
    pub(crate) warnings: Vec<String>,
}

/// Whether a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub(crate) enum AppState {
    /// It serves.
    #[default]
    Running,
    /// `stop_app`.
    Stopped,
    /// It hears too few others; in words.
    Paused(String),
}

/// A node, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MemberStatus {
    /// `rabbit@A`.
    pub(crate) name: String,
    /// It votes and holds no queues.
    pub(crate) witness: bool,
    /// It is there and serves.
    pub(crate) running: bool,
    /// It serves no clients until it is revived.
    pub(crate) drained: bool,
    /// What votes it has: `voter`, `learner`.
    pub(crate) vote: String,
    /// Nodes that it can not reach although they run.
    pub(crate) partitions: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn orders_have_one_form_on_the_control_socket() {
        for (order, form) in [
            (Order::StopApp, json!({"order": "stop_app"})),
            (
                Order::Join { members: vec!["rabbit@A".to_owned()], token: None },
                json!({"order": "join", "members": ["rabbit@A"], "token": null}),
            ),
            (Order::Reset { force: true }, json!({"order": "reset", "force": true})),
        ] {
            assert_eq!(serde_json::to_value(&order).unwrap(), form);
            assert_eq!(serde_json::from_value::<Order>(form).unwrap(), order);
        }
        assert!(serde_json::from_value::<Order>(json!({"order": "halt"})).is_err());
    }

    #[test]
    fn a_status_without_its_newer_fields_is_read() {
        let status: ClusterStatus = serde_json::from_value(
            json!({"node": "rabbit@A", "app": {"state": "paused", "reason": "alone"}}),
        )
        .unwrap();
        assert_eq!(status.app, AppState::Paused("alone".to_owned()));
        assert!(status.members.is_empty());
    }
}
