//! What nodes ask each other about membership and liveness. Encoded by postcard, with a format octet before.

use super::operator::RefusedKind;
use super::papers::Peer;
use broker_core::ids::NodeId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

const FORMAT: u8 = 1;

/// A call of kind "member".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Let me in.
    Join {
        /// `rabbit@B`
        name: String,
        /// Where it is reached.
        addresses: Vec<String>,
        /// What it runs.
        version: String,
        /// It will vote and hold no queues.
        witness: bool,
    },
    /// I go for good.
    Leave {
        /// Who.
        node: NodeId,
    },
    /// Take out a node that is down.
    Forget {
        /// Its name.
        name: String,
        /// Also when it has the only copy of something.
        accept_loss: bool,
    },
    /// I stop, with all that I do.
    Goodbye {
        /// Who.
        node: NodeId,
        /// Which start of it.
        incarnation: u64,
    },
    /// I have another name, or am reached elsewhere.
    Update {
        /// Who.
        node: NodeId,
        /// `rabbit@B`
        name: String,
        /// Where it is reached.
        addresses: Vec<String>,
        /// What it runs.
        version: String,
    },
}

/// What is answered to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    /// You are in.
    Welcome {
        /// Your number.
        node: NodeId,
        /// The cluster's identity.
        cluster: u128,
        /// How often it was begun anew.
        generation: u64,
        /// The others.
        peers: Vec<Peer>,
    },
    /// Done.
    Done,
    /// Ask the leader, who is reached there; nowhere if there is none now.
    Elsewhere(Vec<String>),
    /// No.
    Refused(RefusedKind, String),
}

/// A heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beat {
    /// Which start of the node.
    pub(super) incarnation: u64,
    /// How far it has carried out the log.
    pub(super) applied: u64,
    /// For how long its log has waited for the disk, milliseconds.
    pub(super) stalled_ms: u32,
}

/// What the leader answers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Pulse {
    /// This node leads; a majority answered it so many milliseconds ago.
    Leads {
        /// At most.
        majority_age_ms: u32,
        /// It takes the node that asks for dead, or for an earlier start.
        down: bool,
        /// It knows no such node.
        stranger: bool,
    },
    /// It does not lead.
    NotLed,
}

/// A frame of kind "beat": how far a node has carried out the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// So far.
    pub(super) applied: u64,
}

pub(super) fn encode(value: &impl Serialize) -> Result<Bytes, String> {
    postcard::to_extend(value, vec![FORMAT]).map(Bytes::from).map_err(|error| error.to_string())
}

pub(super) fn decode<'a, T: Deserialize<'a>>(octets: &'a [u8]) -> Result<T, String> {
    match octets.split_first() {
        Some((&FORMAT, rest)) => match postcard::take_from_bytes(rest) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(format!("{} octets too many", rest.len())),
            Err(error) => Err(error.to_string()),
        },
        Some((format, _)) => Err(format!("format {format} is unknown to this version")),
        None => Err("an empty message".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_come_back_and_what_is_cut_off_is_refused() {
        let ask = Ask::Join {
            name: "rabbit@B".to_owned(),
            addresses: vec!["B:25672".to_owned()],
            version: "0.1".to_owned(),
            witness: true,
        };
        let octets = encode(&ask).unwrap();
        assert_eq!(decode::<Ask>(&octets).unwrap(), ask);
        for end in 0..octets.len() {
            decode::<Ask>(&octets[..end]).unwrap_err();
        }
        let mut more = octets.to_vec();
        more.push(0);
        decode::<Ask>(&more).unwrap_err();
        more[0] = 7;
        assert!(decode::<Ask>(&more).unwrap_err().contains("format 7"));
    }
}
