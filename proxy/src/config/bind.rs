//! Addresses to accept on: `bind`.

use std::time::Duration;

use super::Place;
use super::address::BindAddress;
use super::tls::BindTls;

/// An address to accept on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// The address.
    pub address: BindAddress,
    /// Its name on the statistics page.
    pub name: Option<String>,
    /// Its number on the statistics page (`id`).
    pub id: Option<u32>,
    /// Only through this interface.
    pub interface: Option<String>,
    /// `v6only` / `v4v6`.
    pub v6only: Option<bool>,
    /// Length of the accept queue.
    pub backlog: Option<u32>,
    /// `transparent`.
    pub transparent: bool,
    /// Most connections through this address.
    pub maxconn: Option<u32>,
    /// Every connection begins with a PROXY protocol header (`accept-proxy`).
    pub accept_proxy: bool,
    /// Wake up only when the client has sent something (`defer-accept`).
    pub defer_accept: bool,
    /// TCP Fast Open (`tfo`).
    pub tfo: bool,
    /// Largest segment (`mss`); negative: so much less than the interface allows.
    pub mss: Option<i32>,
    /// Time unanswered data may stay before the kernel gives a connection up (`tcp-ut`).
    pub tcp_user_timeout: Option<Duration>,
    /// Network namespace (`namespace`).
    pub namespace: Option<String>,
    /// Owner and rights of a unix socket.
    pub unix: UnixSocket,
    /// Clients speak TLS (`ssl`).
    pub tls: Option<BindTls>,
    /// Where it stands in the file.
    pub place: Place,
}

impl Bind {
    /// An address without any option.
    #[must_use]
    pub fn new(address: BindAddress, place: Place) -> Self {
        Self {
            address,
            name: None,
            id: None,
            interface: None,
            v6only: None,
            backlog: None,
            transparent: false,
            maxconn: None,
            accept_proxy: false,
            defer_accept: false,
            tfo: false,
            mss: None,
            tcp_user_timeout: None,
            namespace: None,
            unix: UnixSocket::default(),
            tls: None,
            place,
        }
    }
}

/// Owner and rights of a unix socket's file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnixSocket {
    /// Rights, e.g. `0o660`.
    pub mode: Option<u32>,
    /// Owner by name.
    pub user: Option<String>,
    /// Owner by number.
    pub uid: Option<u32>,
    /// Group by name.
    pub group: Option<String>,
    /// Group by number.
    pub gid: Option<u32>,
}
