//! Sockets for whole Ethernet frames on one interface.

use std::io;

use nix::libc;
use socket2::{Domain, SockAddr, Socket, Type};

/// Receives ARP frames only (`ETH_P_ARP`).
pub(crate) const ARP_FRAMES: u16 = 0x0806;

/// Sends frames on one interface and receives nothing.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: Socket,
}

impl PacketSocket {
    /// Opens a socket on interface `index`. Protocol 0 keeps the kernel from queueing received frames.
    pub(crate) fn open(index: u32) -> io::Result<Self> {
        bound(index, 0).map(|socket| Self { socket })
    }

    /// Sends one frame.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).map(drop)
    }
}

/// A socket for frames of one `protocol` on interface `index`.
pub(crate) fn bound(index: u32, protocol: u16) -> io::Result<Socket> {
    // Opened without a protocol, it hears nothing before it is bound to the interface.
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
    let index = i32::try_from(index).map_err(io::Error::other)?;
    // SAFETY: the storage is zeroed, large and aligned enough for any socket address, and the length
    // set is that of the `sockaddr_ll` written into it.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = libc::AF_PACKET as libc::sa_family_t;
            (*address).sll_protocol = protocol.to_be();
            (*address).sll_ifindex = index;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    socket.bind(&address)?;
    Ok(socket)
}
