//! Hears whether another host uses a virtual IPv4 address this host holds (RFC 5227).
//!
//! One probe goes out a moment after this host became master; a host that kept the address, because its
//! agent was killed for example, answers it. From then on every ARP packet that names the address with
//! another MAC is a conflict.

use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::task::{Context, Poll};

use pnet::packet::arp::ArpPacket;
use pnet::packet::ethernet::EtherTypes;
use pnet::util::MacAddr;
use socket2::Socket;
use tokio::io::unix::AsyncFd;

use super::{announce, packet_socket};

const ETHERNET: usize = 14;
/// ARP packets looked at in one turn; a flood beyond it waits.
const BATCH: usize = 32;

/// ARP traffic of one interface.
#[derive(Debug)]
pub(crate) struct ArpWatch {
    socket: AsyncFd<Socket>,
}

/// Somebody else says that the address is theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: [u8; 6],
}

impl ArpWatch {
    /// Starts to listen on interface `index`.
    pub(crate) fn open(index: u32) -> io::Result<Self> {
        let socket = packet_socket::bound(index, packet_socket::ARP_FRAMES)?;
        // SAFETY: the socket owns its descriptor, names no other, and lives as long as the registration.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { socket })
    }

    /// Waits until a packet is there.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_read_ready(context).map(|_| ())
    }

    /// Reads what has arrived; answers conflicts about `addresses` that are not from `own`.
    pub(crate) fn conflicts(&self, addresses: &[Ipv4Addr], own: [u8; 6]) -> Vec<Conflict> {
        let mut found = Vec::new();
        let mut frame = [0; 128];
        for _ in 0..BATCH {
            match self.socket.get_ref().read(&mut frame) {
                Ok(length) => found.extend(conflict(&frame[..length], addresses, own)),
                Err(error) => {
                    if error.kind() == io::ErrorKind::WouldBlock {
                        let waker = std::task::Waker::noop();
                        let ready = self.socket.poll_read_ready(&mut Context::from_waker(waker));
                        if let Poll::Ready(Ok(mut guard)) = ready {
                            guard.clear_ready();
                        }
                    }
                    break;
                }
            }
        }
        found
    }
}

/// Whether an Ethernet frame claims one of `addresses` for another MAC than `own`.
fn conflict(frame: &[u8], addresses: &[Ipv4Addr], own: [u8; 6]) -> Option<Conflict> {
    let arp = ArpPacket::new(frame.get(ETHERNET..)?)?;
    let is_ipv4 = arp.get_protocol_type() == EtherTypes::Ipv4 && arp.get_proto_addr_len() == 4;
    let address = arp.get_sender_proto_addr();
    let mac = arp.get_sender_hw_addr().octets();
    (is_ipv4 && addresses.contains(&address) && mac != own).then_some(Conflict { address, mac })
}

/// An ARP probe: who has `address`? The sender names no address of its own (RFC 5227 section 2.1.1).
pub(crate) fn probe(address: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    announce::arp_request(mac, Ipv4Addr::UNSPECIFIED, MacAddr::zero(), address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 66);

    #[test]
    fn only_a_claim_of_another_mac_is_a_conflict() {
        let theirs = announce::frame(VIP.into(), OTHER);
        assert_eq!(conflict(&theirs, &[VIP], OWN), Some(Conflict { address: VIP, mac: OTHER }));
        assert_eq!(conflict(&theirs, &[VIP], OTHER), None, "our own announcement");
        assert_eq!(conflict(&theirs, &[Ipv4Addr::new(10, 0, 0, 67)], OWN), None);
        assert_eq!(conflict(&probe(VIP, OTHER), &[VIP], OWN), None, "a question is no claim");
        for cut in 0..theirs.len() {
            let _ = conflict(&theirs[..cut], &[VIP], OWN);
        }
    }
}
