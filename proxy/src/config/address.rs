//! Addresses as HAProxy writes them: `:5672`, `*:5672`, `10.0.0.1:5672`, `[::1]:5672`, `host:5672`.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// An address to accept on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BindAddress {
    /// Address and port.
    Tcp(SocketAddr),
    /// A unix socket with this path (`unix@/run/x.sock`, `/run/x.sock`).
    Unix(PathBuf),
    /// A unix socket with a name outside the file system (`abns@name`).
    Abstract(String),
    /// A listening socket the parent has opened (`fd@5`).
    Fd(i32),
}

impl BindAddress {
    /// Address and port, when it has them.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            _ => None,
        }
    }

    /// The port; 0 when it has none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.tcp().map_or(0, |address| address.port())
    }

    /// Changes the port of an address that has one.
    pub fn set_port(&mut self, port: u16) {
        if let Self::Tcp(address) = self {
            address.set_port(port);
        }
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix@{}", path.display()),
            Self::Abstract(name) => write!(f, "abns@{name}"),
            Self::Fd(fd) => write!(f, "fd@{fd}"),
        }
    }
}

/// Where a server is; a name is looked up at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: Port,
}

/// A host by number or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// By number.
    Ip(IpAddr),
    /// By name.
    Name(String),
    /// A unix socket with this path.
    Unix(PathBuf),
    /// A unix socket with a name outside the file system (`abns@`).
    Abstract(String),
}

/// A server's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// This one.
    Fixed(u16),
    /// The port the client connected to, plus this.
    Relative(i32),
}

impl ServerAddress {
    /// The address to connect to for a client that came to `client_port`. Looks a name up, which may
    /// block; call it at start or in a helper thread.
    ///
    /// # Errors
    /// When the name is not known.
    pub fn resolve(&self) -> std::io::Result<SocketAddr> {
        let port = match self.port {
            Port::Fixed(port) => port,
            Port::Relative(_) => 0,
        };
        match &self.host {
            Host::Ip(ip) => Ok(SocketAddr::new(*ip, port)),
            Host::Unix(_) | Host::Abstract(_) => {
                Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "a unix socket"))
            }
            Host::Name(name) => {
                let mut found: Vec<SocketAddr> = (name.as_str(), port).to_socket_addrs()?.collect();
                // HAProxy prefers IPv4 here unless told otherwise.
                found.sort_by_key(SocketAddr::is_ipv6);
                found.into_iter().next().ok_or_else(|| std::io::Error::other("no address for this name"))
            }
        }
    }
}

/// Names that were looked up: each is asked for once, however many servers have it.
#[derive(Debug, Default)]
pub struct Names(HashMap<String, Option<IpAddr>>);

impl Names {
    /// As [`ServerAddress::resolve`]; `None` when the name is not known.
    pub fn resolve(&mut self, address: &ServerAddress) -> Option<SocketAddr> {
        let Host::Name(name) = &address.host else { return address.resolve().ok() };
        let known = match self.0.get(name) {
            Some(known) => *known,
            None => {
                let found = address.resolve().ok().map(|found| found.ip());
                self.0.insert(name.clone(), found);
                found
            }
        };
        let port = if let Port::Fixed(port) = address.port { port } else { 0 };
        known.map(|ip| SocketAddr::new(ip, port))
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
            Host::Ip(ip) => write!(f, "{ip}")?,
            Host::Name(name) => f.write_str(name)?,
            Host::Unix(path) => return write!(f, "unix@{}", path.display()),
            Host::Abstract(name) => return write!(f, "abns@{name}"),
        }
        match self.port {
            Port::Fixed(port) => write!(f, ":{port}"),
            Port::Relative(0) => Ok(()),
            Port::Relative(offset) => write!(f, ":{offset:+}"),
        }
    }
}

/// Reads one entry of a `bind` list; a port range gives several addresses.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_bind(text: &str) -> Result<Vec<BindAddress>, String> {
    if let Some(path) = unix_path(text) {
        return path.map(|path| vec![BindAddress::Unix(path)]);
    }
    if let Some(name) = text.strip_prefix("abns@") {
        return abstract_name(name).map(|name| vec![BindAddress::Abstract(name)]);
    }
    if let Some(number) = text.strip_prefix("fd@") {
        return match number.parse::<i32>() {
            Ok(fd) if fd >= 0 => Ok(vec![BindAddress::Fd(fd)]),
            _ => Err(format!("`{number}` is not the number of an open file")),
        };
    }
    let text = strip_family(text)?;
    let (host, ports) = split_port(text)
        .ok_or_else(|| format!("`{text}` has no port; write ADDRESS:PORT, or :PORT for all addresses"))?;
    let ip = match host {
        "" | "*" | "0.0.0.0" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "::" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => match host.parse() {
            Ok(ip) => ip,
            Err(_) => (host, 0)
                .to_socket_addrs()
                .ok()
                .and_then(|mut found| found.next())
                .map(|found| found.ip())
                .ok_or_else(|| format!("`{host}` is neither an address nor a name this host knows"))?,
        },
    };
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("`{text}` is not a port; ports are 1 to 65535")),
    };
    let (low, high) = match ports.split_once('-') {
        Some((low, high)) => (port(low)?, port(high)?),
        None => (port(ports)?, port(ports)?),
    };
    if low > high {
        return Err(format!("port range {low}-{high} is empty"));
    }
    Ok((low..=high).map(|port| BindAddress::Tcp(SocketAddr::new(ip, port))).collect())
}

/// `unix@PATH`, `uxst@PATH` or a path by itself.
fn unix_path(text: &str) -> Option<Result<PathBuf, String>> {
    let path = ["unix@", "uxst@"]
        .iter()
        .find_map(|family| text.strip_prefix(family))
        .or_else(|| text.starts_with('/').then_some(text))?;
    // sun_path has 108 bytes; HAProxy needs some of them for a temporary name.
    Some(if path.is_empty() || path.len() > 96 || path.contains('\0') {
        Err(format!("`{path}` is not the path of a unix socket; it has 1 to 96 bytes"))
    } else {
        Ok(PathBuf::from(path))
    })
}

fn abstract_name(name: &str) -> Result<String, String> {
    if name.is_empty() || name.len() > 107 || name.contains('\0') {
        return Err(format!("`{name}` is not the name of a unix socket; it has 1 to 107 bytes"));
    }
    Ok(name.to_owned())
}

/// Reads a server's address.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_server(text: &str) -> Result<ServerAddress, String> {
    let plain = |host| ServerAddress { host, port: Port::Relative(0) };
    if let Some(path) = unix_path(text) {
        return path.map(|path| plain(Host::Unix(path)));
    }
    if let Some(name) = text.strip_prefix("abns@") {
        return abstract_name(name).map(|name| plain(Host::Abstract(name)));
    }
    let text = strip_family(text)?;
    let (host, port) = match split_port(text) {
        Some((host, port)) => (host, parse_port(port)?),
        None => (text, Port::Relative(0)),
    };
    let host = match host.parse() {
        Ok(ip) => Host::Ip(ip),
        Err(_) if is_host_name(host) => Host::Name(host.to_owned()),
        Err(_) => return Err(format!("`{host}` is neither an address nor a host name")),
    };
    Ok(ServerAddress { host, port })
}

fn parse_port(text: &str) -> Result<Port, String> {
    if text.is_empty() {
        return Ok(Port::Relative(0));
    }
    let wrong = || format!("`{text}` is not a port; ports are 1 to 65535");
    if text.starts_with(['+', '-']) {
        // HAProxy takes any number: it is added in 16 bits.
        return text.parse().map(Port::Relative).map_err(|_| wrong());
    }
    match text.parse::<u16>() {
        Ok(0) => Ok(Port::Relative(0)),
        Ok(port) => Ok(Port::Fixed(port)),
        Err(_) => Err(wrong()),
    }
}

/// `ipv4@` and `ipv6@` change nothing here; other families are not TCP addresses.
fn strip_family(text: &str) -> Result<&str, String> {
    for family in ["ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@"] {
        if let Some(rest) = text.strip_prefix(family) {
            return Ok(rest);
        }
    }
    if text.starts_with('/') || text.contains('@') {
        let what = text.split('@').next().unwrap_or(text);
        return Err(format!("`{text}`: addresses of the kind `{what}` are not supported; use ADDRESS:PORT"));
    }
    Ok(text)
}

/// `[::1]:5672`, `::1:5672` (HAProxy splits at the last colon), `10.0.0.1:5672`.
fn split_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    Some((host, port))
}

fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_addresses_are_read_as_haproxy_does() {
        let one = |text: &str| parse_bind(text).unwrap()[0].to_string();
        assert_eq!(one(":5672"), "0.0.0.0:5672");
        assert_eq!(one("*:5672"), "0.0.0.0:5672");
        assert_eq!(one("10.0.0.1:80"), "10.0.0.1:80");
        assert_eq!(one("[::1]:80"), "[::1]:80");
        assert_eq!(one(":::80"), "[::]:80");
        assert_eq!(one("ipv4@10.0.0.1:80"), "10.0.0.1:80");
        assert_eq!(parse_bind(":8000-8003").unwrap().len(), 4);
        for text in ["unix@/run/x.sock", "abns@x", "fd@5"] {
            assert_eq!(one(text), text);
        }
        assert_eq!(one("/run/x.sock"), "unix@/run/x.sock");
        for wrong in
            ["5672", ":0", ":99999", ":9-3", "unix@", "fd@x", "fd@-1", "abns@", "nosuch.invalid:1", ""]
        {
            assert!(parse_bind(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn server_addresses_are_read_as_haproxy_does() {
        assert_eq!(parse_server("10.0.0.1:5672").unwrap().to_string(), "10.0.0.1:5672");
        assert_eq!(parse_server("rabbit-1.example:5672").unwrap().to_string(), "rabbit-1.example:5672");
        assert_eq!(parse_server("[::1]:5672").unwrap().to_string(), "[::1]:5672");
        assert_eq!(parse_server("/run/x").unwrap().to_string(), "unix@/run/x");
        assert_eq!(parse_server("abns@x").unwrap().host, Host::Abstract("x".to_owned()));
        assert_eq!(parse_server("10.0.0.1").unwrap().port, Port::Relative(0));
        assert_eq!(parse_server("10.0.0.1:+1000").unwrap().port, Port::Relative(1000));
        for wrong in ["", ":", "a b:1", "10.0.0.1:x", "10.0.0.1:70000", "fd@3", "unix@"] {
            assert!(parse_server(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_server("127.0.0.1:7").unwrap().resolve().unwrap().to_string(), "127.0.0.1:7");
    }
}
