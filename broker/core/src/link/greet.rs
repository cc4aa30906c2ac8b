//! The greeting: what two nodes say before they believe each other.
//!
//! ```text
//! dialer                                              acceptor
//!   PREFACE, Hello{nonce, protocol, purpose} ──────────►
//!   ◄───────────────────────── Challenge{nonce, protocol}
//!   Proof{who I am, MACs over all so far} ─────────────►   knows the secret: now it says who it is
//!   ◄─────────── Welcome{who I am, MAC over all so far}    or Refusal{why}, at any point
//! ```
//!
//! Each message has its length before it, 4 octets, little endian. The MACs are HMAC-SHA256 with the shared
//! secret, which itself is not sent; the broker computes them.

use super::Lane;
use crate::ids::NodeId;
use serde::{Deserialize, Serialize};

/// How every connection begins. The last octet is the version of the greeting.
pub const PREFACE: [u8; 8] = *b"WARREN\0\x01";
/// Octets of one message of the greeting at most.
pub const MAX_MESSAGE: usize = 16 << 10;

/// A message of the greeting.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Greet {
    /// The first of who dials.
    Hello(Hello),
    /// The first of who accepts.
    Challenge(Challenge),
    /// Who dials knows the secret.
    Proof(Proof),
    /// Who accepts knows the secret, and lets the other in.
    Welcome(Welcome),
    /// It does not.
    Refusal(Refusal),
}

/// Versions of the protocol that a node speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Protocols {
    /// The oldest.
    pub oldest: u16,
    /// The newest.
    pub newest: u16,
}

impl Protocols {
    /// The newest version that both speak.
    #[must_use]
    pub fn agree(self, other: Protocols) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// The first message of who dials.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Drawn for this connection.
    pub nonce: [u8; 32],
    /// What it speaks.
    pub protocol: Protocols,
    /// What it wants.
    pub purpose: Purpose,
    /// What it proves its knowledge of instead of the secret: the token made from this.
    pub token: Option<Claim>,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Purpose {
    /// A lane between two members.
    Lane(Lane),
    /// Calls about membership, by whoever knows the secret.
    Ask,
}

/// What can be read of a token that lets a node join.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Which cluster.
    pub cluster_id: u128,
    /// Where its nodes listen, `host:port`.
    pub addresses: Vec<String>,
    /// Until when it is good, in seconds since 1970.
    pub expires: u64,
}

/// The first message of who accepts. It says nothing about the node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Challenge {
    /// Drawn for this connection.
    pub nonce: [u8; 32],
    /// What it speaks.
    pub protocol: Protocols,
}

/// Shows that who dials knows the secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Proof {
    /// A [`Who`], as it was encoded.
    pub who: Vec<u8>,
    /// One for each secret that it would take.
    pub macs: Vec<[u8; 32]>,
}

/// Shows that who accepts knows the secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// A [`Who`], as it was encoded.
    pub who: Vec<u8>,
    /// The secret of the cluster, encrypted for who has the token.
    pub sealed: Option<Vec<u8>>,
    /// Over all that was said.
    pub mac: [u8; 32],
}

/// Why a node does not let another in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// In short.
    pub reason: Reason,
    /// In words.
    pub text: String,
}

/// Why, in short.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reason {
    /// The secrets differ.
    Cookie,
    /// The token is not good, or not any more.
    Token,
    /// They are of different clusters.
    Cluster,
    /// They are of different generations of one cluster.
    Generation,
    /// There is no version that both speak.
    Version,
    /// It is another node than it should be.
    Node,
    /// It is no member of the cluster.
    NotMember,
    /// One speaks TLS and the other does not, or a certificate is not good.
    Tls,
    /// It is not ready, or has too much to do.
    Busy,
    /// It does not keep to the protocol.
    Protocol,
}

/// A node, as it presents itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Who {
    /// Which cluster it is of. 0 for a node that joins its first.
    pub cluster_id: u128,
    /// How often that cluster was recovered after a loss of its majority.
    pub generation: u64,
    /// Its number there.
    pub node: Option<NodeId>,
    /// How often it was started.
    pub incarnation: u64,
    /// `rabbit@host`
    pub name: String,
    /// Where it listens for other nodes.
    pub addresses: Vec<String>,
    /// Of the program.
    pub version: String,
    /// What it could do, if all could.
    pub features: u32,
    /// Of the connection, from who dials; 0 from who accepts.
    pub session: u64,
    /// Whom it expects to talk to.
    pub expects: Option<NodeId>,
    /// What time it is there, in milliseconds since 1970.
    pub clock_ms: u64,
}

/// Octets that are no message of the greeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GreetError {
    /// It is longer than any.
    #[error("a message of {0} octets in the greeting, where {max} are the most", max = MAX_MESSAGE)]
    Length(usize),
    /// It is none.
    #[error("octets that are no message of the greeting")]
    Malformed,
}

impl Greet {
    /// As it is sent, without its length.
    ///
    /// # Errors
    /// It is longer than the other side takes: a list of addresses has thousands.
    pub fn encode(&self) -> Result<Vec<u8>, GreetError> {
        encode(self)
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(octets: &[u8]) -> Result<Greet, GreetError> {
        decode(octets)
    }
}

impl Who {
    /// As it stands in a proof or a welcome.
    ///
    /// # Errors
    /// As [`Greet::encode`].
    pub fn encode(&self) -> Result<Vec<u8>, GreetError> {
        encode(self)
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(octets: &[u8]) -> Result<Who, GreetError> {
        decode(octets)
    }
}

impl Claim {
    /// As it is signed.
    ///
    /// # Errors
    /// As [`Greet::encode`].
    pub fn encode(&self) -> Result<Vec<u8>, GreetError> {
        encode(self)
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(octets: &[u8]) -> Result<Claim, GreetError> {
        decode(octets)
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, GreetError> {
    let octets = postcard::to_stdvec(value).map_err(|_| GreetError::Malformed)?;
    if octets.len() > MAX_MESSAGE { Err(GreetError::Length(octets.len())) } else { Ok(octets) }
}

fn decode<T: for<'a> Deserialize<'a>>(octets: &[u8]) -> Result<T, GreetError> {
    if octets.len() > MAX_MESSAGE {
        return Err(GreetError::Length(octets.len()));
    }
    match postcard::take_from_bytes(octets) {
        Ok((value, [])) => Ok(value),
        _ => Err(GreetError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_agree_on_the_newest_version_that_both_speak() {
        let range = |oldest, newest| Protocols { oldest, newest };
        assert_eq!(range(1, 3).agree(range(2, 5)), Some(3));
        assert_eq!(range(2, 5).agree(range(1, 3)), Some(3));
        assert_eq!(range(1, 1).agree(range(1, 1)), Some(1));
        assert_eq!(range(1, 2).agree(range(3, 4)), None);
    }

    #[test]
    fn messages_have_a_bound_and_end_where_they_end() {
        let refusal = Greet::Refusal(Refusal { reason: Reason::Busy, text: "later".to_owned() });
        let mut octets = refusal.encode().unwrap();
        assert_eq!(Greet::decode(&octets), Ok(refusal));
        octets.push(0);
        assert_eq!(Greet::decode(&octets), Err(GreetError::Malformed));
        let long = Greet::Refusal(Refusal { reason: Reason::Busy, text: "x".repeat(MAX_MESSAGE) });
        assert_eq!(long.encode(), Err(GreetError::Length(MAX_MESSAGE + 5)));
        assert_eq!(Greet::decode(&vec![0; MAX_MESSAGE + 1]), Err(GreetError::Length(MAX_MESSAGE + 1)));
    }
}
