//! What all virtual routers of this agent share: the kernel's links, the sockets to change them, limits
//! on repeated log lines.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Global;
use crate::net::netlink::{Event, Link, LinkAddress, Netlink};
use crate::net::packet_socket::PacketSocket;

/// The host as the agent sees it.
pub(crate) struct Host {
    pub(crate) netlink: Netlink,
    pub(crate) links: Vec<Link>,
    pub(crate) global: Global,
    packet_sockets: HashMap<u32, PacketSocket>,
}

impl Host {
    pub(crate) fn new(netlink: Netlink, links: Vec<Link>, global: Global) -> Self {
        Self { netlink, links, global, packet_sockets: HashMap::new() }
    }

    /// The link of this name.
    pub(crate) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// Interface names, for messages.
    pub(crate) fn names(&self) -> Vec<String> {
        self.links.iter().map(|link| link.name.clone()).collect()
    }

    /// Address adverts leave from: the first one of the family that is no virtual address.
    pub(crate) fn source(&self, interface: &str, six: bool, virtual_addresses: &[IpAddr]) -> Option<IpAddr> {
        let link = self.link(interface)?;
        let usable = |found: &&LinkAddress| {
            let of_family = match found.address {
                IpAddr::V4(_) => !six && !found.secondary,
                // RFC 9568 section 5.1.2.1: adverts over IPv6 come from the link-local address.
                IpAddr::V6(address) => six && (address.segments()[0] & 0xffc0) == 0xfe80,
            };
            of_family && !found.tentative && !virtual_addresses.contains(&found.address)
        };
        link.addresses.iter().find(usable).map(|found| found.address)
    }

    /// Follows a report of the kernel.
    pub(crate) fn follow(&mut self, event: &Event) {
        match event {
            Event::Link { index, name, mac, up } => {
                match self.links.iter_mut().find(|link| link.index == *index) {
                    Some(link) => {
                        if !name.is_empty() {
                            link.name.clone_from(name);
                        }
                        (link.mac, link.up) = (*mac, *up);
                    }
                    None => self.links.push(Link {
                        index: *index,
                        name: name.clone(),
                        mac: *mac,
                        up: *up,
                        addresses: Vec::new(),
                    }),
                }
            }
            Event::LinkGone { index } => {
                self.links.retain(|link| link.index != *index);
                self.packet_sockets.remove(index);
            }
            Event::AddressAdded { index, address } => {
                if let Some(link) = self.links.iter_mut().find(|link| link.index == *index) {
                    link.addresses
                        .retain(|known| known.address != address.address || known.prefix != address.prefix);
                    link.addresses.push(*address);
                }
            }
            Event::AddressGone { index, address } => {
                if let Some(link) = self.links.iter_mut().find(|link| link.index == *index) {
                    link.addresses
                        .retain(|known| known.address != address.address || known.prefix != address.prefix);
                }
            }
        }
    }

    /// Sends a frame on the interface.
    pub(crate) fn send_frame(&mut self, index: u32, frame: &[u8]) -> std::io::Result<()> {
        let socket = match self.packet_sockets.entry(index) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(PacketSocket::open(index)?),
        };
        socket.send(frame)
    }
}

/// Lets a log line through once, then again after a pause, with the number of those held back.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    last: Option<Duration>,
    held_back: u64,
}

impl Quiet {
    /// `Some(held back since the last line)` when the line may be written now.
    pub(crate) fn pass(&mut self, now: Duration, pause: Duration) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + pause) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_lines_are_counted_instead_of_written() {
        let mut quiet = Quiet::default();
        let at = Duration::from_secs;
        assert_eq!(quiet.pass(at(1), at(10)), Some(0));
        assert_eq!(quiet.pass(at(2), at(10)), None);
        assert_eq!(quiet.pass(at(3), at(10)), None);
        assert_eq!(quiet.pass(at(11), at(10)), Some(2));
    }
}
