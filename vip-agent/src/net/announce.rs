//! Gratuitous ARP and unsolicited neighbour advertisements: "this address is at my MAC now".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet::packet::Packet;
use pnet::packet::arp::{ArpHardwareTypes, ArpOperation, MutableArpPacket};
use pnet::packet::ethernet::{EtherTypes, MutableEthernetPacket};
use pnet::packet::icmpv6::{self, Icmpv6Packet};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv6::MutableIpv6Packet;
use pnet::util::MacAddr;

const ETHERNET: usize = 14;
const ARP: usize = 28;
const IPV6: usize = 40;
const NEIGHBOUR_ADVERTISEMENT: usize = 32;
const OVERRIDE: u8 = 0x20;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The frame that announces `address` at `mac`.
pub(crate) fn frame(address: IpAddr, mac: [u8; 6]) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => gratuitous_arp(address, mac),
        IpAddr::V6(address) => neighbour_advertisement(address, mac),
    }
}

/// A request for one's own address, to everybody, with the broadcast address as target, as keepalived
/// sends it (RFC 5227 section 3 allows either operation).
fn gratuitous_arp(address: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    arp_request(mac, address, MacAddr::broadcast(), address)
}

/// A broadcast ARP request: `sender` at `mac` asks who has `target`.
pub(super) fn arp_request(mac: [u8; 6], sender: Ipv4Addr, target_mac: MacAddr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET + ARP];
    let mac = MacAddr::from(mac);
    if let Some(mut arp) = MutableArpPacket::new(&mut frame[ETHERNET..]) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(ArpOperation(1));
        arp.set_sender_hw_addr(mac);
        arp.set_sender_proto_addr(sender);
        arp.set_target_hw_addr(target_mac);
        arp.set_target_proto_addr(target);
    }
    ethernet(&mut frame, MacAddr::broadcast(), mac, EtherTypes::Arp);
    frame
}

/// RFC 4861 section 7.2.6: unsolicited, override set, to all nodes, with the link-layer address.
fn neighbour_advertisement(address: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET + IPV6 + NEIGHBOUR_ADVERTISEMENT];
    let message = &mut frame[ETHERNET + IPV6..];
    message[0] = icmpv6::Icmpv6Types::NeighborAdvert.0;
    message[4] = OVERRIDE;
    message[8..24].copy_from_slice(&address.octets());
    message[24..26].copy_from_slice(&[2, 1]);
    message[26..32].copy_from_slice(&mac);
    let checksum =
        Icmpv6Packet::new(message).map_or(0, |packet| icmpv6::checksum(&packet, &address, &ALL_NODES));
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    if let Some(mut ip) = MutableIpv6Packet::new(&mut frame[ETHERNET..]) {
        ip.set_version(6);
        ip.set_payload_length(NEIGHBOUR_ADVERTISEMENT as u16);
        ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
        ip.set_hop_limit(255);
        ip.set_source(address);
        ip.set_destination(ALL_NODES);
        debug_assert_eq!(ip.packet().len(), IPV6 + NEIGHBOUR_ADVERTISEMENT);
    }
    let all_nodes = MacAddr::new(0x33, 0x33, 0, 0, 0, 1);
    ethernet(&mut frame, all_nodes, MacAddr::from(mac), EtherTypes::Ipv6);
    frame
}

fn ethernet(frame: &mut [u8], to: MacAddr, from: MacAddr, kind: pnet::packet::ethernet::EtherType) {
    if let Some(mut header) = MutableEthernetPacket::new(frame) {
        header.set_destination(to);
        header.set_source(from);
        header.set_ethertype(kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x02, 0, 0, 0, 0xcc, 0x8f];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Recorded from keepalived 2.2.7.
    #[test]
    fn gratuitous_arp_is_keepaliveds_byte_for_byte() {
        assert_eq!(
            hex(&frame([192, 168, 204, 66].into(), MAC)),
            "ffffffffffff02000000cc8f0806000108000604000102000000cc8fc0a8cc42ffffffffffffc0a8cc42"
        );
    }

    /// Recorded from keepalived 2.2.7.
    #[test]
    fn neighbour_advertisement_is_keepaliveds_byte_for_byte() {
        assert_eq!(
            hex(&frame("fe80::66".parse().unwrap(), MAC)),
            "33330000000102000000cc8f86dd6000000000203afffe800000000000000000000000000066ff02000000000000\
             000000000000000188008a4220000000fe800000000000000000000000000066020102000000cc8f"
        );
    }
}
