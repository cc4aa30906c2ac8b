//! The raw socket of one virtual router: adverts out, adverts in.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;
use vrrp::hmac::{self, HmacError, Key};
use vrrp::packet::{self, encode};
use vrrp::{Advert, ChecksumMode, DecodeError, ip};

/// Larger than any advert: 255 IPv6 addresses are 4088 bytes.
const BUFFER: usize = 8192;
/// Adverts of one wake-up; a flood beyond it waits for the next turn.
pub(crate) const MAX_BATCH: usize = 64;
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
    /// Interface adverts leave through, when another than `interface`.
    pub(crate) transmit: Option<String>,
    /// Key of the trailer that proves who sends; `None` = plain VRRP.
    pub(crate) hmac_key: Option<Key>,
}

impl Endpoint {
    fn is_multicast(&self) -> bool {
        self.peers.is_empty()
    }

    fn group(&self) -> IpAddr {
        if self.source.is_ipv4() { ip::MULTICAST_V4.into() } else { ip::MULTICAST_V6.into() }
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
    /// Sends when adverts leave through another interface.
    sender: Option<Socket>,
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
        let sender = endpoint.transmit.as_deref().map(|name| sender_v4(name, protocol)).transpose()?;
        Ok(Self {
            socket,
            sender,
            endpoint,
            identification: 1,
            buffer: Vec::new(),
            last_times: HashMap::new(),
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends one advert to the group or to every peer; answers the last error.
    pub(crate) fn send(&mut self, advert: &Advert, mode: ChecksumMode) -> io::Result<()> {
        let targets = if self.endpoint.is_multicast() {
            vec![self.endpoint.group()]
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
        let socket = self.sender.as_ref().unwrap_or(self.socket.get_ref());
        socket.send_to(&bytes, &address.into()).map(drop)
    }

    /// The bytes of one advert to `target`, with an IPv4 header when the family is IPv4.
    fn packet(&mut self, advert: &Advert, mode: ChecksumMode, target: IpAddr) -> Vec<u8> {
        let mut payload = Vec::with_capacity(64);
        let source = self.endpoint.source;
        match &self.endpoint.hmac_key {
            None => encode(advert, source, target, mode, &mut payload),
            Some(key) => hmac::encode(key, advert, source, target, mode, microseconds(), &mut payload),
        }
        let (IpAddr::V4(source), IpAddr::V4(target)) = (self.endpoint.source, target) else { return payload };
        let mut packet = Vec::with_capacity(20 + payload.len());
        ip::push_ipv4_header(&mut packet, self.identification, source, target, payload.len());
        // 0 would make the kernel choose.
        self.identification = self.identification.wrapping_add(1).max(1);
        packet.extend_from_slice(&payload);
        packet
    }

    /// Waits until something is there to read. Call `receive` until it answers `None` afterwards.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.socket.poll_read_ready(context) {
            Poll::Ready(Ok(_)) => Poll::Ready(()),
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "cannot wait for adverts");
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Takes the next packet; `None` when there is none.
    pub(crate) fn receive(&mut self) -> Option<Incoming> {
        self.buffer.resize(BUFFER, 0);
        let mut buffer = std::mem::take(&mut self.buffer);
        let incoming = match self.endpoint.source {
            IpAddr::V4(_) => self.receive_v4(&mut buffer),
            IpAddr::V6(own) => self.receive_v6(&mut buffer, own),
        };
        self.buffer = buffer;
        match incoming {
            Ok(incoming) => Some(incoming),
            Err(error) => {
                if error.kind() == io::ErrorKind::WouldBlock {
                    self.clear_readiness();
                } else if error.kind() != io::ErrorKind::Interrupted {
                    // A link that went down reports itself here; netlink tells us the rest.
                    tracing::debug!(%error, "cannot receive");
                }
                None
            }
        }
    }

    /// Tells tokio that the socket was read empty.
    fn clear_readiness(&self) {
        let waker = std::task::Waker::noop();
        if let Poll::Ready(Ok(mut guard)) = self.socket.poll_read_ready(&mut Context::from_waker(waker)) {
            guard.clear_ready();
        }
    }

    fn receive_v4(&mut self, buffer: &mut [u8]) -> io::Result<Incoming> {
        let length = io::Read::read(&mut self.socket.get_ref(), buffer)?;
        let Some((envelope, payload)) = ip::split_ipv4(&buffer[..length]) else {
            return Ok(Incoming {
                source: Ipv4Addr::UNSPECIFIED.into(),
                hop_limit: 0,
                vrid: None,
                advert: Err(DecodeError::TooShort { needed: 28, got: length }),
                authentic: Ok(()),
            });
        };
        let (source, destination) = (envelope.source.into(), envelope.destination.into());
        Ok(Incoming {
            source,
            hop_limit: envelope.ttl,
            vrid: packet::peek_vrid(payload),
            advert: packet::decode(payload, source, destination),
            authentic: self.authenticate(payload, source),
        })
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

    fn receive_v6(&mut self, buffer: &mut [u8], own: Ipv6Addr) -> io::Result<Incoming> {
        let mut space = nix::cmsg_space!([i32; 2], nix::libc::in6_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let fd = self.socket.get_ref().as_raw_fd();
        let message = recvmsg::<SockaddrIn6>(fd, &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT)
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
        let payload = &buffer[..length];
        Ok(Incoming {
            source: source.into(),
            hop_limit,
            vrid: packet::peek_vrid(payload),
            advert: packet::decode(payload, source.into(), destination.into()),
            authentic: self.authenticate(payload, source.into()),
        })
    }
}

/// Wall-clock time for the trailer.
fn microseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A socket that only sends, through the named interface.
fn sender_v4(interface: &str, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
    socket.set_header_included_v4(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_multicast_all_v4(false)?;
    socket.set_multicast_loop_v4(false)?;
    // What arrives here nobody reads.
    socket.set_recv_buffer_size(1)?;
    Ok(socket)
}

fn prepare_v4(socket: &Socket, endpoint: &Endpoint, source: Ipv4Addr) -> io::Result<()> {
    socket.set_header_included_v4(true)?;
    if endpoint.is_multicast() {
        socket.bind_device(Some(endpoint.interface.as_bytes()))?;
        socket.set_multicast_all_v4(false)?;
        socket.set_multicast_loop_v4(false)?;
        socket.join_multicast_v4_n(&ip::MULTICAST_V4, &InterfaceIndexOrAddress::Index(endpoint.index))?;
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
        socket.join_multicast_v6(&ip::MULTICAST_V6, endpoint.index)?;
    }
    // Unbound, the kernel would choose the source, and a link-local virtual address would be its choice.
    // The checksum covers the source, so the peers would refuse every advert.
    socket.bind(&SocketAddrV6::new(source, 0, 0, endpoint.scope(source)).into())
}
