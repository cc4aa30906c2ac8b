//! Virtual servers: one address in front of several real servers.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::Command;

/// A `virtual_server`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VirtualServer {
    /// What it answers to; more than one with a `virtual_server_group`.
    pub(crate) listen: Vec<Listen>,
    pub(crate) protocol: Protocol,
    pub(crate) algorithm: Algorithm,
    /// A hashing algorithm looks at the client's port too.
    pub(crate) hash_port: bool,
    pub(crate) method: Method,
    pub(crate) masquerade: Masquerade,
    pub(crate) persistence: Option<Persistence>,
    /// Weight of living servers below which the service counts as lost.
    pub(crate) quorum: u32,
    pub(crate) hysteresis: u32,
    pub(crate) quorum_up: Option<Command>,
    pub(crate) quorum_down: Option<Command>,
    pub(crate) sorry_server: Option<SorryServer>,
    /// Tell the scripts of a stop as if every server had failed.
    pub(crate) omega: bool,
    /// Ask only while this host has the address.
    pub(crate) ha_suspend: bool,
    pub(crate) real_servers: Vec<RealServer>,
}

/// What traffic belongs to a virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Listen {
    /// From the first to the last address; port 0 is every port.
    Address { first: IpAddr, last: IpAddr, port: u16 },
    /// Packets that something else marked.
    Mark(u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// How a real server is chosen, in IPVS's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rr,
    #[default]
    Wrr,
    Random,
    /// By source address.
    Sh,
    /// The one of the highest weight that lives.
    Fo,
    /// One that only IPVS has, because it counts connections.
    Kernel(&'static str),
}

/// Schedulers of IPVS that rules of nftables cannot follow.
const KERNEL_ONLY: &[&str] = &["lc", "wlc", "lblc", "lblcr", "sed", "nq", "ovf", "dh", "twos"];

/// How packets get to the real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Method {
    /// The destination address is rewritten.
    #[default]
    Nat,
    /// The packet goes on as it is, to the real server's MAC address.
    Dr,
}

/// Whether a NATed connection also gets this host as its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Masquerade {
    /// Only where answers would not come back through this host: in and out by one interface.
    #[default]
    Hairpin,
    Always,
    Never,
}

/// A client stays with its real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Persistence {
    pub(crate) timeout: Duration,
    /// Clients that share so many leading bits count as one.
    pub(crate) prefix: u8,
}

/// Who answers when too few real servers live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SorryServer {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
}

/// A `real_server`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RealServer {
    pub(crate) address: IpAddr,
    /// 0 = the port the client asked for.
    pub(crate) port: u16,
    pub(crate) weight: u32,
    /// A failed server keeps its clients and gets no new ones.
    pub(crate) inhibit_on_failure: bool,
    /// Counts as failed until its checks have passed.
    pub(crate) alpha: bool,
    pub(crate) notify_up: Option<Command>,
    pub(crate) notify_down: Option<Command>,
    pub(crate) checks: Vec<Check>,
}

/// A health check of a real server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Check {
    pub(crate) kind: CheckKind,
    /// Where to connect, when elsewhere than the real server.
    pub(crate) connect_ip: Option<IpAddr>,
    pub(crate) connect_port: Option<u16>,
    /// Where to connect from.
    pub(crate) bind: Option<IpAddr>,
    pub(crate) connect_timeout: Duration,
    /// Time from the end of one check to the next.
    pub(crate) delay_loop: Duration,
    /// How often a failure is looked at again before it counts.
    pub(crate) retry: u32,
    pub(crate) delay_before_retry: Duration,
    /// The first check comes after a random part of this.
    pub(crate) warmup: Duration,
}

/// What a check does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CheckKind {
    Tcp,
    Amqp,
    Http(HttpCheck),
    Misc { command: Command, timeout: Duration, dynamic: bool },
    Smtp { helo: String },
    Dns { record: u16, name: String },
    Udp { payload: Vec<u8>, reply: bool },
}

/// `HTTP_GET` and `SSL_GET`: every page has to be as it should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HttpCheck {
    pub(crate) tls: bool,
    pub(crate) sni: bool,
    pub(crate) version: HttpVersion,
    pub(crate) pages: Vec<Page>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    #[default]
    V10,
    /// Version 1.0 with `Connection: close`.
    V10Close,
    V11,
}

/// A `url` of an HTTP check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) path: String,
    /// Ranges of good status codes.
    pub(crate) status: Vec<(u16, u16)>,
    /// MD5 of the body, as `genhash` prints it.
    pub(crate) digest: Option<String>,
    pub(crate) virtualhost: Option<String>,
}

impl VirtualServer {
    /// One without servers, with keepalived's defaults.
    pub(crate) fn new(mut listen: Vec<Listen>) -> Self {
        // However they were written: addresses, then marks.
        listen.sort_by_key(|listen| matches!(listen, Listen::Mark(_)));
        Self {
            listen,
            protocol: Protocol::default(),
            algorithm: Algorithm::default(),
            hash_port: false,
            method: Method::default(),
            masquerade: Masquerade::default(),
            persistence: None,
            quorum: 1,
            hysteresis: 0,
            quorum_up: None,
            quorum_down: None,
            sorry_server: None,
            omega: false,
            ha_suspend: false,
            real_servers: Vec::new(),
        }
    }

    /// Two of the same name are one virtual server, before and after a reload.
    pub(crate) fn name(&self) -> String {
        let listen: Vec<String> = self.listen.iter().map(ToString::to_string).collect();
        format!("{}/{}", listen.join(","), self.protocol.word())
    }

    /// Whether it stands before IPv6 servers.
    pub(crate) fn is_ipv6(&self) -> bool {
        let listen = self.listen.iter().find_map(|listen| match listen {
            Listen::Address { first, .. } => Some(first.is_ipv6()),
            Listen::Mark(_) => None,
        });
        let servers = self.real_servers.first().map(|server| server.address.is_ipv6());
        listen.or(servers).unwrap_or(false)
    }
}

impl RealServer {
    /// One with keepalived's defaults.
    pub(crate) fn new(address: IpAddr, port: u16) -> Self {
        Self {
            address,
            port,
            weight: 1,
            inhibit_on_failure: false,
            alpha: false,
            notify_up: None,
            notify_down: None,
            checks: Vec::new(),
        }
    }
}

impl Check {
    /// keepalived's default pauses for this kind.
    pub(crate) fn new(kind: CheckKind) -> Self {
        let delay_loop = Duration::from_secs(60);
        let (retry, delay_before_retry) = default_retry(&kind, delay_loop);
        Self {
            kind,
            connect_ip: None,
            connect_port: None,
            bind: None,
            connect_timeout: Duration::from_secs(5),
            delay_loop,
            retry,
            delay_before_retry,
            warmup: delay_loop,
        }
    }
}

/// keepalived's retries and the pause before each, unless the file says otherwise.
pub(crate) fn default_retry(kind: &CheckKind, delay_loop: Duration) -> (u32, Duration) {
    match kind {
        CheckKind::Dns { .. } => (3, delay_loop),
        CheckKind::Http(_) => (1, Duration::from_secs(3)),
        CheckKind::Misc { .. } => (0, Duration::from_secs(1)),
        _ => (1, Duration::from_secs(1)),
    }
}

impl Protocol {
    pub(crate) const ALL: &[Self] = &[Self::Tcp, Self::Udp, Self::Sctp];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl Algorithm {
    pub(crate) const ALL: &[Self] = &[Self::Rr, Self::Wrr, Self::Random, Self::Sh, Self::Fo];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Random => "random",
            Self::Sh => "sh",
            Self::Fo => "fo",
            Self::Kernel(word) => word,
        }
    }

    /// The scheduler of IPVS, when nothing else will do.
    pub(crate) fn kernel(self) -> Option<&'static str> {
        if let Self::Kernel(word) = self { Some(word) } else { None }
    }

    /// Reads IPVS's word for a scheduler.
    ///
    /// # Errors
    ///
    /// Says why this one cannot be had, and what to write instead.
    pub(crate) fn parse(word: &str) -> Result<Self, String> {
        if let Some(known) = Self::ALL.iter().find(|known| known.word() == word) {
            return Ok(*known);
        }
        if word == "mh" {
            return Ok(Self::Sh);
        }
        match KERNEL_ONLY.iter().find(|known| **known == word) {
            Some(known) if crate::virtual_server::has_ipvs() => Ok(Self::Kernel(known)),
            Some(_) => Err(
                "needs IPVS, which this kernel does not have; let the proxy balance (balance leastconn), or write wrr"
                    .to_owned(),
            ),
            None => Err("is not known; write rr, wrr, random, sh or fo".to_owned()),
        }
    }
}

impl Method {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Dr => "dr",
        }
    }
}

impl Masquerade {
    pub(crate) const ALL: &[Self] = &[Self::Hairpin, Self::Always, Self::Never];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hairpin => "hairpin",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

impl HttpVersion {
    pub(crate) const ALL: &[Self] = &[Self::V10, Self::V10Close, Self::V11];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::V10 => "1.0",
            Self::V10Close => "1.0C",
            Self::V11 => "1.1",
        }
    }
}

impl CheckKind {
    /// keepalived's name for it.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Tcp => "TCP_CHECK",
            Self::Amqp => "AMQP_CHECK",
            Self::Http(HttpCheck { tls: false, .. }) => "HTTP_GET",
            Self::Http(_) => "SSL_GET",
            Self::Misc { .. } => "MISC_CHECK",
            Self::Smtp { .. } => "SMTP_CHECK",
            Self::Dns { .. } => "DNS_CHECK",
            Self::Udp { .. } => "UDP_CHECK",
        }
    }
}

/// `ADDRESS:PORT`, with brackets where they are needed.
pub(crate) fn endpoint(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Mark(mark) => write!(f, "fwmark {mark}"),
            Self::Address { first, last, port } if first == last => f.write_str(&endpoint(first, port)),
            Self::Address { first, last, port } => write!(f, "{first}-{}", endpoint(last, port)),
        }
    }
}

/// `ADDRESS`, `FIRST-LAST`, `10.0.0.1-9` or `ADDRESS/PREFIX`, as in a `virtual_server_group`.
///
/// # Errors
///
/// Says what is wrong, to be put behind the text.
pub(crate) fn range(text: &str) -> Result<(IpAddr, IpAddr), String> {
    let address = |text: &str| text.parse::<IpAddr>().map_err(|_| "is not an IP address".to_owned());
    if let Some((first, last)) = text.split_once('-') {
        let first = address(first)?;
        let last = match (first, last.parse::<IpAddr>()) {
            (_, Ok(last)) => last,
            (IpAddr::V4(v4), Err(_)) => {
                let byte: u8 = last.parse().map_err(|_| "is not a range of addresses".to_owned())?;
                let [a, b, c, _] = v4.octets();
                IpAddr::from([a, b, c, byte])
            }
            (IpAddr::V6(v6), Err(_)) => {
                let group =
                    u16::from_str_radix(last, 16).map_err(|_| "is not a range of addresses".to_owned())?;
                let mut segments = v6.segments();
                segments[7] = group;
                IpAddr::from(segments)
            }
        };
        let ordered = first.is_ipv4() == last.is_ipv4() && first <= last;
        return if ordered { Ok((first, last)) } else { Err("is not a range of addresses".to_owned()) };
    }
    if text.contains('/') {
        let (address, prefix) = super::keepalived_conf::address_with_prefix(text)?;
        return Ok(match address {
            IpAddr::V4(v4) => {
                let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                let first = u32::from(v4) & !host;
                (std::net::Ipv4Addr::from(first).into(), std::net::Ipv4Addr::from(first | host).into())
            }
            IpAddr::V6(v6) => {
                let host = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                let first = u128::from(v6) & !host;
                (std::net::Ipv6Addr::from(first).into(), std::net::Ipv6Addr::from(first | host).into())
            }
        });
    }
    address(text).map(|address| (address, address))
}

/// Types of DNS records a check may ask for, with their numbers.
pub(crate) const RECORDS: &[(&str, u16)] =
    &[("A", 1), ("NS", 2), ("CNAME", 5), ("SOA", 6), ("MX", 15), ("TXT", 16), ("AAAA", 28)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_group() {
        let v4 = |text: &str| range(text).map(|(first, last)| format!("{first} {last}"));
        assert_eq!(v4("10.0.0.1").unwrap(), "10.0.0.1 10.0.0.1");
        assert_eq!(v4("10.0.0.1-9").unwrap(), "10.0.0.1 10.0.0.9");
        assert_eq!(v4("10.0.0.250-10.0.1.5").unwrap(), "10.0.0.250 10.0.1.5");
        assert_eq!(v4("10.0.0.8/29").unwrap(), "10.0.0.8 10.0.0.15");
        assert_eq!(v4("fd00::1-f").unwrap(), "fd00::1 fd00::f");
        for wrong in ["10.0.0.9-1", "10.0.0.1-300", "x", "10.0.0.1-fd00::1", "10.0.0.0/40", ""] {
            assert!(v4(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn least_connections_need_ipvs_or_the_proxy() {
        match Algorithm::parse("wlc") {
            Ok(found) => assert_eq!(found.kernel(), Some("wlc")),
            Err(advice) => assert!(advice.contains("proxy"), "{advice}"),
        }
        assert_eq!(Algorithm::parse("mh"), Ok(Algorithm::Sh));
        assert!(Algorithm::parse("rrr").is_err());
    }
}
