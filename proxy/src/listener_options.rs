//! Options of listening sockets that the libraries have no words for, and sockets of other network namespaces.

use std::os::fd::AsFd;
use std::path::Path;

use nix::libc;
use nix::sys::socket::sockopt::SetStruct;
use nix::sys::socket::{SetSockOpt, setsockopt};

/// Where `ip netns` keeps the namespaces.
const NAMESPACES: &str = "/run/netns";

/// Wakes the one who accepts only when the client has sent something (tcp(7), `TCP_DEFER_ACCEPT`).
#[derive(Debug, Clone, Copy)]
pub struct DeferAccept;

nix::setsockopt_impl!(
    DeferAccept,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    libc::c_int,
    SetStruct<libc::c_int>
);

/// Clients may send with their first packet (tcp(7), `TCP_FASTOPEN`); the value is how many such may wait.
#[derive(Debug, Clone, Copy)]
pub struct FastOpen;

nix::setsockopt_impl!(FastOpen, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, libc::c_int, SetStruct<libc::c_int>);

/// Sets one of them; a kernel without it only costs time, which the log says.
pub fn set<O>(socket: &impl AsFd, option: O, value: i32, word: &str)
where
    O: SetSockOpt<Val = libc::c_int>,
{
    if let Err(error) = setsockopt(socket, option, &value) {
        tracing::warn!(%error, "`{word}` on a bind line has no effect");
    }
}

/// Whether there is a network namespace of this name.
#[must_use]
pub fn namespace_exists(name: &str) -> bool {
    !name.contains('/') && Path::new(NAMESPACES).join(name).exists()
}

/// Does something in another network namespace, on a thread of its own: a socket stays where it was made.
///
/// # Errors
/// There is no such namespace, or it may not be entered.
pub fn in_namespace<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    let file = std::fs::File::open(Path::new(NAMESPACES).join(name))
        .map_err(|error| std::io::Error::other(format!("network namespace {name}: {error}")))?;
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)
                .map_err(|error| std::io::Error::other(format!("network namespace {name}: {error}")))?;
            Ok(work())
        });
        inside.join().unwrap_or_else(|_| Err(std::io::Error::other("a thread has ended unexpectedly")))
    })
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_client_that_says_nothing_is_not_accepted_where_that_is_put_off() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set(&listener, DeferAccept, 30, "defer-accept");
        let address = listener.local_addr().unwrap();
        let _silent = TcpStream::connect(address).unwrap();
        let mut other = TcpStream::connect(address).unwrap();
        let theirs = other.local_addr().unwrap();
        other.write_all(b"x").unwrap();
        let (accepted, from) = listener.accept().unwrap();
        // The silent one came first.
        assert_eq!(from, theirs);
        accepted.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }

    nix::getsockopt_impl!(
        FastOpenSet,
        libc::IPPROTO_TCP,
        libc::TCP_FASTOPEN,
        libc::c_int,
        nix::sys::socket::sockopt::GetStruct<libc::c_int>
    );

    #[derive(Debug, Clone, Copy)]
    struct FastOpenSet;

    #[test]
    fn clients_may_send_with_their_first_packet_where_a_bind_line_says_so() {
        let mut config = crate::config::Config::default();
        let mut remarks = daemon::diagnostic::Diagnostics::new();
        let text = "defaults\n mode tcp\n timeout connect 1s\n timeout client 1s\n timeout server 1s\nlisten l\n \
                    bind 127.0.0.1:1\n bind 127.0.0.1:2 tfo\n server a 127.0.0.1:3\n";
        crate::config::haproxy_cfg::Reader::default().read(text, "t.cfg", &mut config, &mut remarks);
        for bind in &mut config.proxies[0].binds {
            bind.address.set_port(0);
        }
        let process = crate::process::Process::new(config, "haproxy");
        let listeners = process.bind(&mut crate::handover::Inherited::default(), false).unwrap();
        let set = |at: usize| getsockopt(&listeners.all[at].socket, FastOpenSet).unwrap();
        assert_eq!(set(0), 0);
        assert!(set(1) > 0);
    }

    #[test]
    fn a_namespace_that_is_not_there_is_named() {
        let error = in_namespace("no-such-namespace", || ()).unwrap_err();
        assert!(error.to_string().contains("no-such-namespace"), "{error}");
    }
}
