//! What links are told: who this node is, and how patient it is.

use super::secret::Secret;
use crate::tls::nodes::NodeTls;
use broker_core::ids::NodeId;
use broker_core::link::Lane;
use broker_core::link::greet::{Protocols, Who};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Versions of the protocol between nodes that this program speaks.
pub(super) const PROTOCOLS: Protocols = Protocols { oldest: 1, newest: 1 };

/// This node, as it presents itself to others.
#[derive(Clone, Debug)]
pub(crate) struct LinkIdentity {
    /// Which cluster it is of; 0 before it joined its first.
    pub(crate) cluster_id: u128,
    /// How often that cluster was recovered after a loss of its majority.
    pub(crate) generation: u64,
    /// Its number there. Without one, it can ask to join, and nothing else.
    pub(crate) node: Option<NodeId>,
    /// `rabbit@host`
    pub(crate) name: String,
    /// Counts the starts of this node.
    pub(crate) incarnation: u64,
    /// Where it listens for other nodes, as they can reach it.
    pub(crate) addresses: Vec<String>,
    /// Of the program.
    pub(crate) version: String,
    /// What it could do, if all could.
    pub(crate) features: u32,
    /// The secret of the cluster; a second one is taken too while it is replaced.
    pub(crate) secrets: Vec<Secret>,
    /// Certificates, if nodes talk by TLS.
    pub(crate) tls: Option<Arc<NodeTls>>,
}

impl LinkIdentity {
    /// As it is told to `expects`, for a connection with this session number.
    pub(super) fn who(&self, session: u64, expects: Option<NodeId>) -> Who {
        Who {
            cluster_id: self.cluster_id,
            generation: self.generation,
            node: self.node,
            incarnation: self.incarnation,
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            version: self.version.clone(),
            features: self.features,
            session,
            expects,
            clock_ms: clock_ms(),
        }
    }
}

/// What time it is here, in milliseconds since 1970.
pub(super) fn clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Patience and bounds.
#[derive(Clone, Debug)]
pub(crate) struct LinkSettings {
    /// How often each side of each connection says that it is there.
    pub(crate) ping: Duration,
    /// After so long without a word the other node counts as gone.
    pub(crate) silence: Duration,
    /// For one attempt: to resolve the name, to connect, and to greet.
    pub(crate) dial: Duration,
    /// Between the first attempts; doubled up to [`LinkSettings::longest_backoff`].
    pub(crate) backoff: Duration,
    /// Between later attempts.
    pub(crate) longest_backoff: Duration,
    /// Octets of one payload, by lane.
    pub(crate) payload: [usize; 3],
    /// Octets that may wait to be sent, by lane. One payload may go beyond it.
    pub(crate) waiting: [usize; 3],
    /// The runtime for the control lane, if it is to have one of its own: clients that keep the node busy then
    /// delay no heartbeat.
    pub(crate) control: Option<tokio::runtime::Handle>,
}

impl Default for LinkSettings {
    fn default() -> LinkSettings {
        LinkSettings {
            ping: Duration::from_millis(500),
            silence: Duration::from_secs(2),
            dial: Duration::from_millis(1900),
            backoff: Duration::from_millis(50),
            longest_backoff: Duration::from_secs(1),
            // RabbitMQ's longest message has 512 MiB.
            payload: [64 << 20, 520 << 20, 520 << 20],
            waiting: [16 << 20, 64 << 20, 64 << 20],
            control: None,
        }
    }
}

impl LinkSettings {
    pub(super) fn payload_limit(&self, lane: Lane) -> usize {
        self.payload[lane.index()]
    }

    pub(super) fn waiting_limit(&self, lane: Lane) -> usize {
        self.waiting[lane.index()]
    }
}
