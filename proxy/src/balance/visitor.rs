//! What is known of a client when a server is chosen for it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::HashKey;

/// A client that needs a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visitor {
    /// Its address.
    pub source: SocketAddr,
    /// The address it came to, where it is known.
    pub destination: Option<SocketAddr>,
}

impl Visitor {
    /// A client without an address, e.g. through a unix socket.
    pub const UNKNOWN: Self =
        Self { source: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), destination: None };

    /// The bytes that are hashed, as HAProxy has them: an address as it is, a port as a 64-bit number.
    #[must_use]
    pub fn bytes(&self, key: HashKey) -> Vec<u8> {
        let ip = |address: SocketAddr| match address.ip().to_canonical() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let port = |address: SocketAddr| u64::from(address.port()).to_be_bytes().to_vec();
        match key {
            HashKey::Source => ip(self.source),
            HashKey::SourcePort => port(self.source),
            HashKey::Destination => self.destination.map(ip).unwrap_or_default(),
            HashKey::DestinationPort => self.destination.map(port).unwrap_or_default(),
        }
    }
}

impl From<IpAddr> for Visitor {
    fn from(ip: IpAddr) -> Self {
        Self { source: SocketAddr::new(ip, 0), destination: None }
    }
}

impl From<SocketAddr> for Visitor {
    fn from(source: SocketAddr) -> Self {
        Self { source, destination: None }
    }
}
