//! Servers and their options: `server`, `server-template`, `default-server`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Place;
use super::address::{Host, Names, Port, ServerAddress};
use super::checks::CheckKind;
use super::rules::Network;
use super::tls::ServerTls;

/// A server to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Its name.
    pub name: String,
    /// Its number inside the section, from 1; 0 until all are known, when the file gives none.
    pub id: u32,
    /// Where it is.
    pub address: ServerAddress,
    /// Everything else.
    pub options: ServerOptions,
    /// The `server-template` line it is from.
    pub template: Option<Template>,
    /// Where it stands in the file.
    pub place: Place,
}

impl ServerConfig {
    /// The address it begins with (`init-addr`). Looks a name up, which may block.
    pub fn first_address(&self, names: &mut Names) -> Option<SocketAddr> {
        let port = if let Port::Fixed(port) = self.address.port { port } else { 0 };
        match &self.address.host {
            Host::Ip(ip) => return Some(SocketAddr::new(*ip, port)),
            Host::Unix(_) | Host::Abstract(_) => return None,
            Host::Name(_) if self.is_service() => return None,
            Host::Name(_) => {}
        }
        for way in self.ways_to_address() {
            match way {
                // The state file is read when the server exists.
                InitAddr::Last => {}
                InitAddr::Libc => {
                    if let Some(address) = names.resolve(&self.address) {
                        return Some(address);
                    }
                }
                InitAddr::None => return None,
                InitAddr::Address(ip) => return Some(SocketAddr::new(*ip, port)),
            }
        }
        None
    }

    /// Whether it needs an address at the start: it has a name, and nothing says that it may begin without.
    #[must_use]
    pub fn needs_address(&self) -> bool {
        matches!(self.address.host, Host::Name(_))
            && !self.is_service()
            && !self.ways_to_address().contains(&InitAddr::None)
    }

    fn ways_to_address(&self) -> &[InitAddr] {
        match &self.options.init_addr[..] {
            [] => &[InitAddr::Last, InitAddr::Libc],
            ways => ways,
        }
    }

    /// A service of DNS: only its name servers know where it is.
    fn is_service(&self) -> bool {
        self.options.resolvers.is_some()
            && matches!(&self.address.host, Host::Name(name) if name.starts_with('_'))
    }
}

/// `server-template PREFIX LOW-HIGH ADDRESS`: one server for each number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// What names begin with.
    pub prefix: String,
    /// First number.
    pub low: u32,
    /// Last number.
    pub high: u32,
}

/// What a `server` line says after the address; `default-server` gives the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// Run health checks.
    pub check: bool,
    /// Time between checks.
    pub inter: Duration,
    /// Time between checks while going up or down.
    pub fastinter: Option<Duration>,
    /// Time between checks while down.
    pub downinter: Option<Duration>,
    /// Passed checks that bring a server up.
    pub rise: u32,
    /// Failed checks that take a server down.
    pub fall: u32,
    /// Share of connections, 0 to 256.
    pub weight: u32,
    /// Only used when no other server is left.
    pub backup: bool,
    /// Most connections at one time.
    pub maxconn: Option<u32>,
    /// Most connections while the section has few; grows to `maxconn` at `fullconn`.
    pub minconn: Option<u32>,
    /// Most connections that wait for this server.
    pub maxqueue: Option<u32>,
    /// Start in maintenance.
    pub disabled: bool,
    /// Port to check instead.
    pub check_port: Option<u16>,
    /// Address to check instead.
    pub check_address: Option<ServerAddress>,
    /// What the check does, when different from the section.
    pub check_kind: Option<CheckKind>,
    /// Checks begin with a PROXY protocol header (`check-send-proxy`). Also true of checks to the
    /// server's own address and port when `send_proxy` is set.
    pub check_send_proxy: bool,
    /// Weight grows over this time after the server came up.
    pub slowstart: Option<Duration>,
    /// Close the sessions of a server that goes down (`on-marked-down shutdown-sessions`).
    pub on_marked_down_shutdown_sessions: bool,
    /// Close the sessions of backup servers when this one comes up
    /// (`on-marked-up shutdown-backup-sessions`).
    pub on_marked_up_shutdown_backup_sessions: bool,
    /// Take the state of another server instead of checking.
    pub track: Option<Track>,
    /// The agent that reports on the server.
    pub agent: Agent,
    /// Watch sessions for failures (`observe`).
    pub observe: Option<Observe>,
    /// Failures in a row that `observe` needs to act.
    pub error_limit: u32,
    /// What it then does.
    pub on_error: OnError,
    /// Tell the server the client's address (PROXY protocol version 1 or 2).
    pub send_proxy: Option<ProxyProtocol>,
    /// What a version 2 header tells besides the addresses.
    pub proxy_v2_options: ProxyV2Options,
    /// Ways to find the first address, in order; `last,libc` when empty.
    pub init_addr: Vec<InitAddr>,
    /// Section with the name servers that follow the server's name.
    pub resolvers: Option<String>,
    /// Which family of addresses is taken first; IPv6 when unset.
    pub resolve_prefer: Option<AddressFamily>,
    /// Two servers may get the same address (`resolve-opts allow-dup-ip`).
    pub resolve_allow_dup_ip: bool,
    /// Weights in SRV records are not used (`resolve-opts ignore-weight`).
    pub resolve_ignore_weight: bool,
    /// Networks whose addresses are taken first (`resolve-net`).
    pub resolve_net: Vec<Network>,
    /// TLS towards the server.
    pub tls: ServerTls,
    /// Our address towards the server; the section's `source` when unset.
    pub source: Option<Source>,
    /// TCP Fast Open.
    pub tfo: bool,
    /// Time unanswered data may stay before the kernel gives a connection up (`tcp-ut`).
    pub tcp_user_timeout: Option<Duration>,
    /// Network namespace.
    pub namespace: Option<String>,
    /// Value of HTTP's cookie; shown on the statistics page, not used.
    pub cookie: Option<String>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            check: false,
            inter: Duration::from_secs(2),
            fastinter: None,
            downinter: None,
            rise: 2,
            fall: 3,
            weight: 1,
            backup: false,
            maxconn: None,
            minconn: None,
            maxqueue: None,
            disabled: false,
            check_port: None,
            check_address: None,
            check_kind: None,
            check_send_proxy: false,
            slowstart: None,
            on_marked_down_shutdown_sessions: false,
            on_marked_up_shutdown_backup_sessions: false,
            track: None,
            agent: Agent::default(),
            observe: None,
            error_limit: 10,
            on_error: OnError::default(),
            send_proxy: None,
            proxy_v2_options: ProxyV2Options::default(),
            init_addr: Vec::new(),
            resolvers: None,
            resolve_prefer: None,
            resolve_allow_dup_ip: false,
            resolve_ignore_weight: false,
            resolve_net: Vec::new(),
            tls: ServerTls::default(),
            source: None,
            tfo: false,
            tcp_user_timeout: None,
            namespace: None,
            cookie: None,
        }
    }
}

/// The server whose state another one takes (`track [BACKEND/]SERVER`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Its section; the same one when unset.
    pub backend: Option<String>,
    /// Its name.
    pub server: String,
}

/// The agent that reports on a server (`agent-check`, `agent-*`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agent {
    /// Ask it.
    pub check: bool,
    /// Its host; the server's when unset.
    pub address: Option<String>,
    /// Its port; needed for `check`.
    pub port: Option<u16>,
    /// Time between questions; `inter` when unset.
    pub inter: Option<Duration>,
    /// What is sent to it (`agent-send`).
    pub send: Option<String>,
}

/// Which failures of sessions are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observe {
    /// Failed connections.
    Layer4,
    /// Wrong answers too; in TCP the same as `Layer4`.
    Layer7,
}

impl Observe {
    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Layer4 => "layer4",
            Self::Layer7 => "layer7",
        }
    }
}

/// What happens after `error-limit` failures in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnError {
    /// Check at `fastinter` until the next check.
    FastInter,
    /// Count it as a failed check.
    #[default]
    FailCheck,
    /// One more failed check takes the server down.
    SuddenDeath,
    /// The server is down.
    MarkDown,
}

impl OnError {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FastInter, Self::FailCheck, Self::SuddenDeath, Self::MarkDown];

    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::FastInter => "fastinter",
            Self::FailCheck => "fail-check",
            Self::SuddenDeath => "sudden-death",
            Self::MarkDown => "mark-down",
        }
    }
}

/// Version of the PROXY protocol header sent to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// The line of text.
    V1,
    /// The binary header.
    V2,
}

/// What a version 2 header tells besides the addresses (`proxy-v2-options`, `send-proxy-v2-ssl`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProxyV2Options {
    /// Version and use of TLS (PP2_TYPE_SSL).
    pub ssl: bool,
    /// Common name of the client's certificate (PP2_SUBTYPE_SSL_CN).
    pub cert_cn: bool,
    /// Cipher in use (PP2_SUBTYPE_SSL_CIPHER).
    pub ssl_cipher: bool,
    /// Signature algorithm of the certificate (PP2_SUBTYPE_SSL_SIG_ALG).
    pub cert_sig: bool,
    /// Key algorithm of the certificate (PP2_SUBTYPE_SSL_KEY_ALG).
    pub cert_key: bool,
    /// Name the client asked for (PP2_TYPE_AUTHORITY).
    pub authority: bool,
    /// Checksum of the header (PP2_TYPE_CRC32C).
    pub crc32c: bool,
    /// Number of the connection (PP2_TYPE_UNIQUE_ID).
    pub unique_id: bool,
}

impl ProxyV2Options {
    /// HAProxy's names of the options.
    pub const NAMES: [&'static str; 8] =
        ["ssl", "cert-cn", "ssl-cipher", "cert-sig", "cert-key", "authority", "crc32c", "unique-id"];

    fn fields(&mut self) -> [&mut bool; 8] {
        [
            &mut self.ssl,
            &mut self.cert_cn,
            &mut self.ssl_cipher,
            &mut self.cert_sig,
            &mut self.cert_key,
            &mut self.authority,
            &mut self.crc32c,
            &mut self.unique_id,
        ]
    }

    /// Turns an option on by its name; `false` when there is none of this name.
    pub fn set(&mut self, name: &str) -> bool {
        let at = Self::NAMES.iter().position(|known| *known == name);
        if let Some(at) = at {
            // As in HAProxy, what is about a certificate needs what is about TLS.
            self.ssl |= name.starts_with("cert-") || name == "ssl-cipher";
            *self.fields()[at] = true;
        }
        at.is_some()
    }

    /// The names of those that are on.
    #[must_use]
    pub fn names(mut self) -> Vec<&'static str> {
        let fields = self.fields();
        Self::NAMES.iter().zip(fields).filter(|(_, on)| **on).map(|(name, _)| *name).collect()
    }
}

/// A way to find a server's first address (`init-addr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitAddr {
    /// The one in the state file.
    Last,
    /// Ask the system.
    Libc,
    /// None: start in maintenance until it is known.
    None,
    /// This one.
    Address(IpAddr),
}

impl InitAddr {
    /// Reads HAProxy's word for it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "last" => Self::Last,
            "libc" => Self::Libc,
            "none" => Self::None,
            _ => Self::Address(text.parse().ok()?),
        })
    }
}

impl std::fmt::Display for InitAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Last => f.write_str("last"),
            Self::Libc => f.write_str("libc"),
            Self::None => f.write_str("none"),
            Self::Address(ip) => write!(f, "{ip}"),
        }
    }
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl AddressFamily {
    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// Our address towards servers (`source ADDRESS[:PORT[-PORT]] [usesrc ...] [interface NAME]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Address and port; port 0 is any.
    pub address: SocketAddr,
    /// Last port of a range that begins with the address's port.
    pub last_port: Option<u16>,
    /// Show the server another address.
    pub usesrc: Option<UseSource>,
    /// Only through this interface.
    pub interface: Option<String>,
}

/// The address shown to the server (`usesrc`); needs the right to do so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UseSource {
    /// The client's address and port.
    Client,
    /// The client's address.
    ClientIp,
    /// This one.
    Address(SocketAddr),
}
