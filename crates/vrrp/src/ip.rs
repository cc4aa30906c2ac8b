//! The parts of IP that VRRP needs: the Internet checksum, the pseudo-headers and the IPv4 header.
//!
//! ```text
//!  0                   1                   2                   3
//! |Version|  IHL  |Type of Service|          Total Length         |
//! |         Identification        |Flags|      Fragment Offset    |
//! |  Time to Live |    Protocol   |        Header Checksum        |
//! |                       Source Address                          |
//! |                    Destination Address                        |
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The IP protocol number of VRRP (RFC 9568 section 5.1.1.4).
pub const PROTOCOL: u8 = 112;
/// The multicast group of VRRP over IPv4 (RFC 9568 section 5.1.1.2).
pub const MULTICAST_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// The multicast group of VRRP over IPv6 (RFC 9568 section 5.1.2.2).
pub const MULTICAST_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// The only hop limit a VRRP packet may arrive with (RFC 9568 section 7.1).
pub const HOP_LIMIT: u8 = 255;
/// Type of service of an advert: precedence "internetwork control", as keepalived sends it.
pub const TOS_INTERNETWORK_CONTROL: u8 = 0xc0;

const IPV4_HEADER: usize = 20;

/// A running Internet checksum (RFC 1071).
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum(u32);

impl Checksum {
    /// Adds `bytes`, padded with a zero byte when their number is odd.
    pub fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            self.0 += u32::from(u16::from_be_bytes([pair[0], low]));
            self.0 = (self.0 & 0xffff) + (self.0 >> 16);
        }
    }

    /// Adds the pseudo-header of `source`, `destination` and the upper-layer `length`
    /// (RFC 9568 section 5.2.8; the mixed case of two families adds nothing).
    pub fn add_pseudo_header(&mut self, source: IpAddr, destination: IpAddr, length: u16) {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.add(&source.octets());
                self.add(&destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.add(&source.octets());
                self.add(&destination.octets());
            }
            _ => return,
        }
        self.add(&[0, PROTOCOL]);
        self.add(&length.to_be_bytes());
    }

    /// The ones' complement of the sum: the value to write, or 0 when a received packet is intact.
    pub fn finish(self) -> u16 {
        !(self.0 as u16)
    }
}

/// What the IPv4 header of a received packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Envelope {
    /// Sender.
    pub source: Ipv4Addr,
    /// Group or host the packet was sent to.
    pub destination: Ipv4Addr,
    /// Time to live as it arrived.
    pub ttl: u8,
}

/// Splits a packet as a raw IPv4 socket hands it over into header and payload.
///
/// Answers `None` when the bytes are not a whole IPv4 packet of protocol 112.
pub fn split_ipv4(packet: &[u8]) -> Option<(Ipv4Envelope, &[u8])> {
    let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_length < IPV4_HEADER || header[9] != PROTOCOL {
        return None;
    }
    let payload = packet.get(header_length..total)?;
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    Some((Ipv4Envelope { source: address(12), destination: address(16), ttl: header[8] }, payload))
}

/// Appends an IPv4 header for `payload_length` bytes of VRRP, as keepalived writes it: type of service
/// 0xc0, no fragment flags, time to live 255 and a running `identification`.
pub fn push_ipv4_header(
    out: &mut Vec<u8>,
    identification: u16,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    payload_length: usize,
) {
    let total = u16::try_from(IPV4_HEADER + payload_length).unwrap_or(u16::MAX);
    let mut header = [0u8; IPV4_HEADER];
    header[0] = 0x45;
    header[1] = TOS_INTERNETWORK_CONTROL;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[4..6].copy_from_slice(&identification.to_be_bytes());
    header[8] = HOP_LIMIT;
    header[9] = PROTOCOL;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let mut checksum = Checksum::default();
    checksum.add(&header);
    header[10..12].copy_from_slice(&checksum.finish().to_be_bytes());
    out.extend_from_slice(&header);
}

/// Appends an IPv6 header for `payload_length` bytes of VRRP with the same class and hop limit as over IPv4.
pub fn push_ipv6_header(out: &mut Vec<u8>, source: Ipv6Addr, destination: Ipv6Addr, payload_length: usize) {
    let class = TOS_INTERNETWORK_CONTROL;
    out.extend_from_slice(&[0x60 | class >> 4, class << 4, 0, 0]);
    out.extend_from_slice(&u16::try_from(payload_length).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(&[PROTOCOL, HOP_LIMIT]);
    out.extend_from_slice(&source.octets());
    out.extend_from_slice(&destination.octets());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_refuses_what_is_not_a_whole_vrrp_packet() {
        let mut packet = Vec::new();
        push_ipv4_header(&mut packet, 7, Ipv4Addr::new(10, 0, 0, 1), MULTICAST_V4, 4);
        packet.extend_from_slice(&[1, 2, 3, 4]);
        let (envelope, payload) = split_ipv4(&packet).unwrap();
        assert_eq!((envelope.ttl, envelope.destination, payload), (255, MULTICAST_V4, &[1, 2, 3, 4][..]));
        for cut in 0..packet.len() {
            assert_eq!(split_ipv4(&packet[..cut]), None, "{cut} bytes");
        }
        packet[9] = 6;
        assert_eq!(split_ipv4(&packet), None, "another protocol");
    }

    #[test]
    fn split_refuses_a_header_length_below_the_minimum() {
        let mut packet = vec![0u8; 40];
        packet[0] = 0x42;
        packet[3] = 40;
        packet[9] = PROTOCOL;
        assert_eq!(split_ipv4(&packet), None);
    }
}
