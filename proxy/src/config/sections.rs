//! Sections beside the proxies: resolvers and user lists.

use std::net::SocketAddr;
use std::time::Duration;

use super::Place;

/// A `resolvers` section: name servers and how long their answers hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolvers {
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub place: Place,
    /// Name servers, all asked at once.
    pub nameservers: Vec<Nameserver>,
    /// Add the name servers of /etc/resolv.conf (`parse-resolv-conf`).
    pub parse_resolv_conf: bool,
    /// Questions before one is given up (`resolve_retries`).
    pub resolve_retries: u32,
    /// Time between resolutions of a name (`timeout resolve`).
    pub timeout_resolve: Duration,
    /// Time until a question without answer is repeated (`timeout retry`).
    pub timeout_retry: Duration,
    /// Largest answer in bytes (`accepted_payload_size`).
    pub accepted_payload_size: u16,
    /// How long the last good answer is kept.
    pub hold: Hold,
}

impl Resolvers {
    /// A section with nothing in it yet.
    #[must_use]
    pub fn new(name: &str, place: Place) -> Self {
        Self {
            name: name.to_owned(),
            place,
            nameservers: Vec::new(),
            parse_resolv_conf: false,
            resolve_retries: 3,
            timeout_resolve: Duration::from_secs(1),
            timeout_retry: Duration::from_secs(1),
            accepted_payload_size: 512,
            hold: Hold::default(),
        }
    }
}

/// A name server of a `resolvers` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nameserver {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
    /// Ask over TCP (`tcp@`).
    pub tcp: bool,
}

/// How long the last good answer is kept, by what the newer ones were (`hold`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// A good answer.
    pub valid: Duration,
    /// An answer without this address any more.
    pub obsolete: Duration,
    /// The name does not exist.
    pub nx: Duration,
    /// No answer.
    pub timeout: Duration,
    /// The name server refused.
    pub refused: Duration,
    /// Any other error.
    pub other: Duration,
}

impl Default for Hold {
    fn default() -> Self {
        let long = Duration::from_secs(30);
        Self {
            valid: Duration::from_secs(10),
            obsolete: Duration::ZERO,
            nx: long,
            timeout: long,
            refused: long,
            other: long,
        }
    }
}

/// A `userlist` section: who may see the statistics page.
#[derive(Clone, PartialEq, Eq)]
pub struct Userlist {
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub place: Place,
    /// Its users.
    pub users: Vec<User>,
    /// Groups and the users in them.
    pub groups: Vec<(String, Vec<String>)>,
}

impl std::fmt::Debug for Userlist {
    /// Leaves the passwords out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Userlist")
            .field("name", &self.name)
            .field("users", &self.users.iter().map(|user| &user.name).collect::<Vec<_>>())
            .field("groups", &self.groups)
            .finish_non_exhaustive()
    }
}

/// A user of a `userlist`.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// Password as it is, or as crypt(3) made it.
    pub password: Option<Password>,
}

/// A password of a `userlist`.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// As it is (`insecure-password`).
    Plain(String),
    /// As crypt(3) made it (`password`).
    Crypt(String),
}
