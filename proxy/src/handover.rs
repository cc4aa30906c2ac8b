//! Handing listening sockets from one process to the next over a unix socket, in HAProxy's way, so that
//! HAProxy can take over from us (`haproxy -x`) and we from HAProxy.
//!
//! ```text
//! new process                                   old process
//!     "_getsocks\n"              ──────────►
//!                                ◄──────────    number of sockets (native int)
//!                                ◄──────────    for each: namespace length (1 byte), namespace,
//!                                               interface length (1 byte), interface, 4 unused bytes;
//!                                               beside it the descriptors (SCM_RIGHTS), up to 252 at once
//!     number so far (native int) ──────────►    awaited after every 252
//! ```
//! The old process closes the connection at the end. Which socket is which, the new process asks the
//! kernel (`getsockname`).

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, RecvMsg, UnixAddr, recvmsg, sendmsg};
use socket2::Socket;

use crate::config::{Bind, BindAddress};
use crate::listener::Key;

/// The command.
pub const COMMAND: &str = "_getsocks";
/// The same for standard output and error; between processes of this program only.
pub const OUTPUTS_COMMAND: &str = "_getoutputs";
/// Descriptors in one message (HAProxy: `MAX_SEND_FD`; Linux allows one more).
const AT_ONCE: usize = 252;
/// No process has more listening sockets than this.
const MOST: usize = 65_536;
/// The other side answers within this time or not at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest namespace and interface names, their lengths and the unused number.
const LONGEST: usize = 1 + 255 + 1 + 255 + 4;

/// A listening socket on its way to another process.
#[derive(Debug)]
pub struct Exported {
    /// The socket.
    pub socket: Socket,
    /// The interface it is bound to.
    pub interface: Option<String>,
}

/// Sockets that another process has handed over.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Exported>,
}

/// Sends sockets to the process at the other end, which has sent the command already. Blocks; close the
/// stream afterwards.
///
/// # Errors
/// When the other side goes away or stays silent for seconds.
pub fn send(stream: &mut UnixStream, sockets: &[Exported]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let count = i32::try_from(sockets.len()).map_err(io::Error::other)?;
    stream.write_all(&count.to_ne_bytes())?;
    for part in sockets.chunks(AT_ONCE) {
        let mut text = Vec::new();
        for exported in part {
            // No namespaces here.
            text.push(0);
            let interface = exported.interface.as_deref().unwrap_or("").as_bytes();
            let interface = interface.get(..255).unwrap_or(interface);
            text.push(u8::try_from(interface.len()).unwrap_or(0));
            text.extend(interface);
            text.extend([0; 4]);
        }
        let descriptors: Vec<RawFd> = part.iter().map(|exported| exported.socket.as_raw_fd()).collect();
        let sent = sendmsg::<UnixAddr>(
            stream.as_raw_fd(),
            &[IoSlice::new(&text)],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        stream.write_all(text.get(sent..).unwrap_or_default())?;
        if part.len() == AT_ONCE {
            stream.read_exact(&mut [0; 4])?;
        }
    }
    Ok(())
}

/// Asks the process at the other end for its sockets. Blocks.
///
/// # Errors
/// When it does not hand them out, or stays silent for seconds.
pub fn receive(stream: &mut UnixStream) -> io::Result<Inherited> {
    let (descriptors, text) = receive_all(stream, COMMAND)?;
    let names = interfaces(&text);
    let sockets = descriptors
        .into_iter()
        .zip(names.into_iter().chain(std::iter::repeat(None)))
        .map(|(descriptor, interface)| Exported { socket: Socket::from(descriptor), interface })
        .filter(|exported| exported.socket.is_listener().unwrap_or(false))
        // As ours are; it is shared with the other process, which has it so too.
        .filter(|exported| exported.socket.set_nonblocking(true).is_ok())
        .collect();
    Ok(Inherited { sockets })
}

/// Asks a process of this program for its standard output and error. Blocks.
///
/// # Errors
/// When it does not hand them out.
pub fn receive_outputs(stream: &mut UnixStream) -> io::Result<[OwnedFd; 2]> {
    let (descriptors, _) = receive_all(stream, OUTPUTS_COMMAND)?;
    descriptors.try_into().map_err(|_| io::Error::other("it has no standard output"))
}

/// Standard output and error of this process, to be sent.
///
/// # Errors
/// When there are none.
pub fn outputs() -> io::Result<Vec<Exported>> {
    let both = [io::stdout().as_fd().try_clone_to_owned()?, io::stderr().as_fd().try_clone_to_owned()?];
    Ok(both.into_iter().map(|output| Exported { socket: Socket::from(output), interface: None }).collect())
}

fn receive_all(stream: &mut UnixStream, command: &str) -> io::Result<(Vec<OwnedFd>, Vec<u8>)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut count = [0; 4];
    stream.read_exact(&mut count)?;
    let count = usize::try_from(i32::from_ne_bytes(count)).ok().filter(|count| *count <= MOST);
    let count = count.ok_or_else(|| io::Error::other("it does not hand out its listening sockets"))?;
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    let mut text = Vec::new();
    let mut buffer = vec![0; AT_ONCE * LONGEST];
    while descriptors.len() < count {
        let mut space = nix::cmsg_space!([RawFd; AT_ONCE + 1]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message: RecvMsg<'_, '_, UnixAddr> =
            recvmsg(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let length = message.bytes;
        descriptors.extend(owned::descriptors(&message)?);
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        text.extend_from_slice(buffer.get(..length).unwrap_or_default());
        if text.len() > count * LONGEST {
            return Err(io::Error::other("it says too much about its listening sockets"));
        }
        let so_far = i32::try_from(descriptors.len()).unwrap_or(i32::MAX);
        // A HAProxy that has sent everything does not wait for it.
        let _ = stream.write_all(&so_far.to_ne_bytes());
    }
    Ok((descriptors, text))
}

/// The interface of each socket, from what was said beside the descriptors.
fn interfaces(mut text: &[u8]) -> Vec<Option<String>> {
    fn block<'a>(text: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (length, rest) = text.split_first()?;
        let (block, rest) = rest.split_at_checked(usize::from(*length))?;
        *text = rest;
        Some(block)
    }
    let mut names = Vec::new();
    while let Some((_namespace, interface)) = block(&mut text).zip(block(&mut text)) {
        let name = String::from_utf8_lossy(interface).into_owned();
        names.push((!name.is_empty()).then_some(name));
        text = text.get(4..).unwrap_or_default();
    }
    names
}

impl Inherited {
    /// Adds those of another process.
    pub fn extend(&mut self, other: Self) {
        self.sockets.extend(other.sockets);
    }

    /// How many are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Takes out the socket that does what `bind` asks for.
    pub fn take(&mut self, bind: &Bind) -> Option<Socket> {
        let key = Key::of(bind);
        let at = self.sockets.iter().position(|exported| is_for(&key, exported))?;
        Some(self.sockets.swap_remove(at).socket)
    }
}

fn is_for(key: &Key, exported: &Exported) -> bool {
    let Ok(address) = exported.socket.local_addr() else { return false };
    let only_v6 = exported.socket.only_v6().unwrap_or(false);
    let is_same = match &key.address {
        BindAddress::Tcp(wanted) => address.as_socket() == Some(*wanted),
        BindAddress::Abstract(name) => address.as_abstract_namespace() == Some(name.as_bytes()),
        // A path is bound anew and moved over the old one; a number is inherited as it is.
        BindAddress::Unix(_) | BindAddress::Fd(_) => false,
    };
    is_same
        // Which namespace a socket is of, nobody says.
        && key.namespace.is_none()
        && exported.interface == key.interface
        && key.v6only.is_none_or(|wanted| address.is_ipv4() || wanted == only_v6)
}

mod owned;
