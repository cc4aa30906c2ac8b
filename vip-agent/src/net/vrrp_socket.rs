//! The raw socket of one virtual router: adverts out, adverts in.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;
use vrrp::hmac::{self, HmacError, Key};
use vrrp::packet::{self, encode};
use vrrp::{Advert, ChecksumMode, DecodeError, ip};

use super::packet_socket::PacketSocket;
use super::vmac;

/// Larger than any advert: 255 IPv6 addresses are 4088 bytes.
const BUFFER: usize = 8192;
/// Adverts of one wake-up; a flood beyond it waits for the next turn.
pub(crate) const MAX_BATCH: usize = 64;
/// The type of an Ethernet frame with IPv6 in it.
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// Holders of the key whose last time is remembered.
const MAX_SENDERS: usize = 256;

/// Where a virtual router's adverts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) interface: String,
    pub(crate) index: u32,
    /// Address adverts come from.
    pub(crate) source: IpAddr,
    /// Peers; empty = multicast.
    pub(crate) peers: Vec<IpAddr>,
    /// Group of the multicast adverts, of the source's family.
    pub(crate) group: IpAddr,
    /// Interface adverts leave through, when another than `interface`.
    pub(crate) transmit: Option<String>,
    /// Key of the trailer that proves who sends; `None` = plain VRRP.
    pub(crate) hmac_key: Option<Key>,
}

impl Endpoint {
    fn is_multicast(&self) -> bool {
        self.peers.is_empty()
    }

    /// The scope id an address needs: the interface for link-local ones.
    fn scope(&self, address: Ipv6Addr) -> u32 {
        let link_local = address.is_multicast() || (address.segments()[0] & 0xffc0) == 0xfe80;
        if link_local { self.index } else { 0 }
    }
}

/// A packet as it came.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) source: IpAddr,
    pub(crate) hop_limit: u8,
    /// Virtual router the packet claims to speak for, even when it cannot be decoded.
    pub(crate) vrid: Option<u8>,
    pub(crate) advert: Result<Advert, DecodeError>,
    /// Whether the trailer is right; always so without a key.
    pub(crate) authentic: Result<(), HmacError>,
}

/// Socket and running number of one virtual router.
#[derive(Debug)]
pub(crate) struct VrrpSocket {
    socket: AsyncFd<Socket>,
    /// Sends and hears as well, when adverts leave through an interface with a virtual MAC. Adverts of a peer that has
    /// the same MAC arrive there and nowhere else.
    second: Option<Second>,
    /// The last packet of the first interface, which the second one may give too.
    twin: Vec<u8>,
    endpoint: Endpoint,
    /// Identification of the next IPv4 packet; keepalived counts from 1.
    identification: u16,
    buffer: Vec<u8>,
    /// Time in the last trailer of each sender; its length is bounded.
    last_times: HashMap<IpAddr, u64>,
}

impl VrrpSocket {
    /// Opens and prepares the socket. Needs CAP_NET_RAW.
    pub(crate) fn open(endpoint: Endpoint) -> io::Result<Self> {
        let domain = if endpoint.source.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let protocol = Protocol::from(i32::from(ip::PROTOCOL));
        let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
        match endpoint.source {
            IpAddr::V4(source) => prepare_v4(&socket, &endpoint, source)?,
            IpAddr::V6(source) => prepare_v6(&socket, &endpoint, source)?,
        }
        // SAFETY: the socket owns its descriptor, names no other, and lives as long as the registration.
        let socket = unsafe { AsyncFd::register(socket) }?;
        let transmit = endpoint.transmit.as_deref();
        let second = transmit.map(|name| Second::open(name, endpoint.group, protocol)).transpose()?;
        Ok(Self {
            socket,
            second,
            twin: Vec::new(),
            endpoint,
            identification: 1,
            buffer: Vec::new(),
            last_times: HashMap::new(),
        })
    }

    /// Goes on where the socket before it ended: what was heard there under the same key stays a replay here.
    pub(crate) fn remember_times_of(&mut self, before: Self) {
        if before.endpoint.hmac_key == self.endpoint.hmac_key {
            self.last_times = before.last_times;
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends one advert to the group or to every peer; answers the last error.
    pub(crate) fn send(&mut self, advert: &Advert, mode: ChecksumMode) -> io::Result<()> {
        let targets = if self.endpoint.is_multicast() {
            vec![self.endpoint.group]
        } else {
            self.endpoint.peers.clone()
        };
        let mut result = Ok(());
        for target in targets {
            if let Err(error) = self.send_to(advert, mode, target) {
                result = Err(error);
            }
        }
        result
    }

    fn send_to(&mut self, advert: &Advert, mode: ChecksumMode, target: IpAddr) -> io::Result<()> {
        let bytes = self.packet(advert, mode, target);
        let address = match target {
            IpAddr::V4(_) => SocketAddr::new(target, 0),
            IpAddr::V6(target) => SocketAddrV6::new(target, 0, 0, self.endpoint.scope(target)).into(),
        };
        match &self.second {
            Some(Second { frames: Some(frames), .. }) => {
                let mut frame = group_mac(target).to_vec();
                frame.extend_from_slice(&vmac::mac(advert.vrid, true));
                frame.extend_from_slice(&ETHERTYPE_IPV6);
                frame.extend_from_slice(&bytes);
                frames.send(&frame)
            }
            Some(second) => second.socket.get_ref().send_to(&bytes, &address.into()).map(drop),
            None => self.socket.get_ref().send_to(&bytes, &address.into()).map(drop),
        }
    }

    /// The bytes of one advert to `target`, with an IPv4 header when the family is IPv4.
    fn packet(&mut self, advert: &Advert, mode: ChecksumMode, target: IpAddr) -> Vec<u8> {
        let mut payload = Vec::with_capacity(64);
        let source = self.endpoint.source;
        match &self.endpoint.hmac_key {
            None => encode(advert, source, target, mode, &mut payload),
            Some(key) => hmac::encode(key, advert, source, target, mode, microseconds(), &mut payload),
        }
        let mut packet = Vec::with_capacity(40 + payload.len());
        match (self.endpoint.source, target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                ip::push_ipv4_header(&mut packet, self.identification, source, target, payload.len());
                // 0 would make the kernel choose.
                self.identification = self.identification.wrapping_add(1).max(1);
            }
            (IpAddr::V6(source), IpAddr::V6(target)) if self.second.is_some() => {
                ip::push_ipv6_header(&mut packet, source, target, payload.len());
            }
            _ => return payload,
        }
        packet.extend_from_slice(&payload);
        packet
    }

    /// Waits until something is there to read. Call `receive` until it answers `None` afterwards.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        // Both are asked, so that each leaves its waker.
        let ready = self.sockets().fold(false, |any, socket| match socket.poll_read_ready(context) {
            Poll::Ready(Ok(_)) => true,
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "cannot wait for adverts");
                any
            }
            Poll::Pending => any,
        });
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes the next packet; `None` when there is none.
    pub(crate) fn receive(&mut self) -> Option<Incoming> {
        self.buffer.resize(BUFFER, 0);
        let mut buffer = std::mem::take(&mut self.buffer);
        let incoming = self.receive_from_either(&mut buffer);
        self.buffer = buffer;
        incoming
    }

    fn receive_from_either(&mut self, buffer: &mut [u8]) -> Option<Incoming> {
        for second in [false, true] {
            loop {
                let Some(socket) = self.sockets().nth(usize::from(second)) else { break };
                let raw = match self.endpoint.source {
                    IpAddr::V4(_) => receive_v4(socket.get_ref(), buffer),
                    IpAddr::V6(own) => receive_v6(socket.get_ref(), buffer, own),
                };
                let raw = match raw {
                    Ok(raw) => raw,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        if error.kind() == io::ErrorKind::WouldBlock {
                            clear_readiness(socket);
                        } else {
                            // A link that went down reports itself here; netlink tells us the rest.
                            tracing::debug!(%error, "cannot receive");
                        }
                        break;
                    }
                };
                if !self.is_twin(second, &buffer[..raw.length]) {
                    return Some(self.opened(&raw, buffer));
                }
            }
        }
        None
    }

    /// Whether the second interface heard what the first one has given already: adverts of a peer with its real MAC
    /// arrive on both.
    fn is_twin(&mut self, second: bool, packet: &[u8]) -> bool {
        if self.second.is_none() {
            return false;
        }
        if !second {
            self.twin.clear();
            self.twin.extend_from_slice(packet);
            return false;
        }
        let same = self.twin == packet;
        self.twin.clear();
        same
    }

    /// Where adverts arrive.
    fn sockets(&self) -> impl Iterator<Item = &AsyncFd<Socket>> {
        std::iter::once(&self.socket).chain(self.second.as_ref().map(|second| &second.socket))
    }

    /// Decodes what has arrived.
    fn opened(&mut self, raw: &Raw, buffer: &[u8]) -> Incoming {
        let Some(payload) = raw.payload.clone().and_then(|range| buffer.get(range)) else {
            let error = DecodeError::TooShort { needed: 28, got: raw.length };
            let (source, hop_limit) = (raw.source, raw.hop_limit);
            return Incoming { source, hop_limit, vrid: None, advert: Err(error), authentic: Ok(()) };
        };
        Incoming {
            source: raw.source,
            hop_limit: raw.hop_limit,
            vrid: packet::peek_vrid(payload),
            advert: packet::decode(payload, raw.source, raw.destination),
            authentic: self.authenticate(payload, raw.source),
        }
    }

    /// Checks the trailer, when a key is set.
    fn authenticate(&mut self, payload: &[u8], source: IpAddr) -> Result<(), HmacError> {
        let Some(key) = &self.endpoint.hmac_key else { return Ok(()) };
        let time = hmac::verify(key, payload, source, self.last_times.get(&source).copied())?;
        if self.last_times.len() < MAX_SENDERS || self.last_times.contains_key(&source) {
            self.last_times.insert(source, time);
        }
        Ok(())
    }
}

/// What a socket says about a packet.
struct Raw {
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    length: usize,
    /// Where the VRRP packet is in the buffer; `None` when there is none.
    payload: Option<std::ops::Range<usize>>,
}

fn receive_v4(mut socket: &Socket, buffer: &mut [u8]) -> io::Result<Raw> {
    let length = io::Read::read(&mut socket, buffer)?;
    let nobody: IpAddr = Ipv4Addr::UNSPECIFIED.into();
    Ok(match ip::split_ipv4(&buffer[..length]) {
        Some((envelope, payload)) => {
            let start = usize::from(buffer[0] & 0x0f) * 4;
            Raw {
                source: envelope.source.into(),
                destination: envelope.destination.into(),
                hop_limit: envelope.ttl,
                length,
                payload: Some(start..start + payload.len()),
            }
        }
        None => Raw { source: nobody, destination: nobody, hop_limit: 0, length, payload: None },
    })
}

fn receive_v6(socket: &Socket, buffer: &mut [u8], own: Ipv6Addr) -> io::Result<Raw> {
    let mut space = nix::cmsg_space!([i32; 2], nix::libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)
        .map_err(io::Error::from)?;
    let source = message.address.map_or(Ipv6Addr::UNSPECIFIED, |address| address.ip());
    let (mut hop_limit, mut destination) = (0, own);
    for control in message.cmsgs().map_err(io::Error::from)? {
        match control {
            ControlMessageOwned::Ipv6HopLimit(hops) => hop_limit = u8::try_from(hops).unwrap_or(0),
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                destination = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            }
            _ => {}
        }
    }
    let length = message.bytes;
    Ok(Raw {
        source: source.into(),
        destination: destination.into(),
        hop_limit,
        length,
        payload: Some(0..length),
    })
}

/// The Ethernet address of a multicast group: RFC 1112 section 6.4, RFC 2464 section 7.
fn group_mac(group: IpAddr) -> [u8; 6] {
    match group {
        IpAddr::V4(group) => {
            let [_, a, b, c] = group.octets();
            [0x01, 0x00, 0x5e, a & 0x7f, b, c]
        }
        IpAddr::V6(group) => {
            let octets = group.octets();
            [0x33, 0x33, octets[12], octets[13], octets[14], octets[15]]
        }
    }
}

/// Tells tokio that a socket was read empty.
fn clear_readiness(socket: &AsyncFd<Socket>) {
    let waker = std::task::Waker::noop();
    if let Poll::Ready(Ok(mut guard)) = socket.poll_read_ready(&mut Context::from_waker(waker)) {
        guard.clear_ready();
    }
}

/// The interface with the virtual MAC.
#[derive(Debug)]
struct Second {
    socket: AsyncFd<Socket>,
    /// Sends over IPv6: that interface has no link-local address, without which the kernel routes nothing through it.
    frames: Option<PacketSocket>,
}

impl Second {
    fn open(interface: &str, group: IpAddr, protocol: Protocol) -> io::Result<Self> {
        let domain = if group.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let index = nix::net::if_::if_nametoindex(interface).map_err(io::Error::from)?;
        let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
        socket.bind_device(Some(interface.as_bytes()))?;
        let mut frames = None;
        match group {
            IpAddr::V4(group) => {
                socket.set_header_included_v4(true)?;
                socket.set_multicast_all_v4(false)?;
                socket.set_multicast_loop_v4(false)?;
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
            }
            IpAddr::V6(group) => {
                setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true).map_err(io::Error::from)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).map_err(io::Error::from)?;
                socket.set_multicast_all_v6(false)?;
                socket.join_multicast_v6(&group, index)?;
                frames = Some(PacketSocket::open(index)?);
            }
        }
        // SAFETY: the socket owns its descriptor, names no other, and lives as long as the registration.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { socket, frames })
    }
}

/// Wall-clock time for the trailer. It must grow: when the clock of this host is set back, or two adverts fall into one
/// microsecond, the last time counts on, or the peers would take our adverts for replays.
fn microseconds() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    later_than(&LAST, u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// `now`, or one more than what was answered last, whichever is later.
fn later_than(last: &AtomicU64, now: u64) -> u64 {
    let mut answered = 0;
    let next = |before: u64| {
        answered = now.max(before.saturating_add(1));
        Some(answered)
    };
    // It cannot fail: `next` always has an answer.
    let _ = last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    answered
}

fn prepare_v4(socket: &Socket, endpoint: &Endpoint, source: Ipv4Addr) -> io::Result<()> {
    socket.set_header_included_v4(true)?;
    if endpoint.is_multicast() {
        socket.bind_device(Some(endpoint.interface.as_bytes()))?;
        socket.set_multicast_all_v4(false)?;
        socket.set_multicast_loop_v4(false)?;
        if let IpAddr::V4(group) = endpoint.group {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(endpoint.index))?;
        }
    } else {
        socket.bind(&SocketAddr::new(source.into(), 0).into())?;
    }
    Ok(())
}

fn prepare_v6(socket: &Socket, endpoint: &Endpoint, source: Ipv6Addr) -> io::Result<()> {
    socket.set_unicast_hops_v6(u32::from(ip::HOP_LIMIT))?;
    socket.set_multicast_hops_v6(u32::from(ip::HOP_LIMIT))?;
    socket.set_tclass_v6(u32::from(ip::TOS_INTERNETWORK_CONTROL))?;
    setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true).map_err(io::Error::from)?;
    setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true).map_err(io::Error::from)?;
    if endpoint.is_multicast() {
        socket.bind_device(Some(endpoint.interface.as_bytes()))?;
        socket.set_multicast_all_v6(false)?;
        socket.set_multicast_loop_v6(false)?;
        socket.set_multicast_if_v6(endpoint.index)?;
        if let IpAddr::V6(group) = endpoint.group {
            socket.join_multicast_v6(&group, endpoint.index)?;
        }
    }
    // Unbound, the kernel would choose the source, and a link-local virtual address would be its choice.
    // The checksum covers the source, so the peers would refuse every advert.
    socket.bind(&SocketAddrV6::new(source, 0, 0, endpoint.scope(source)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_their_ethernet_addresses() {
        assert_eq!(group_mac(ip::MULTICAST_V4.into()), [0x01, 0x00, 0x5e, 0, 0, 18]);
        assert_eq!(group_mac("239.129.1.2".parse().unwrap()), [0x01, 0x00, 0x5e, 1, 1, 2]);
        assert_eq!(group_mac(ip::MULTICAST_V6.into()), [0x33, 0x33, 0, 0, 0, 0x12]);
    }

    #[test]
    fn the_time_of_the_trailer_grows_when_the_clock_is_set_back() {
        let last = AtomicU64::new(0);
        assert_eq!(later_than(&last, 1000), 1000);
        assert_eq!(later_than(&last, 1000), 1001);
        assert_eq!(later_than(&last, 20), 1002);
        assert_eq!(later_than(&last, 5000), 5000);
    }
}
