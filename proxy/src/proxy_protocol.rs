//! The PROXY protocol, versions 1 and 2: reading the header that a proxy before us sends, and writing the one
//! that a server behind us wants. Specification: HAProxy's `doc/proxy-protocol.txt`.
//!
//! ```text
//! 1: PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n
//! 2: 0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a │ 2 + command │ family + protocol │ length (16 bits) │ addresses │ TLVs
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::ProxyProtocol;
use crate::config::server::ProxyV2Options;
use crate::connect::Client;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 1, its end included (specification 2.1).
const MAX_TEXT: usize = 107;
/// Shortest beginning of a connection that shows whether it is a header of version 2.
const MIN_BINARY: usize = 16;
/// Longest header that is read (HAProxy's `tune.bufsize`).
pub const MAX_HEADER: usize = 16 * 1024;

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its length in bytes.
    pub length: usize,
    /// Source and destination; `None`: those of the connection hold.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// What the beginning of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A whole header.
    Header(Header),
    /// The beginning of one.
    Part,
    /// Something else.
    Nonsense,
    /// Begins as a header, but is none.
    Invalid,
    /// A header with addresses of an unknown family.
    Unhandled,
}

/// Looks for a header at the beginning of what a connection has sent so far. What is short may still become one,
/// whatever it is.
#[must_use]
pub fn read(bytes: &[u8]) -> Found {
    if bytes.starts_with(b"PROXY ") {
        read_text(bytes)
    } else if bytes.len() < MIN_BINARY {
        Found::Part
    } else if bytes.starts_with(SIGNATURE) {
        read_binary(bytes)
    } else {
        Found::Nonsense
    }
}

fn read_text(bytes: &[u8]) -> Found {
    let Some(end) = bytes.windows(2).take(MAX_TEXT).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < MAX_TEXT { Found::Part } else { Found::Invalid };
    };
    let Ok(line) = std::str::from_utf8(&bytes[..end]) else { return Found::Invalid };
    let words: Vec<&str> = line.split(' ').collect();
    let addresses = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, target, source_port, target_port] => {
            let ip = |text: &str| text.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == (family == "TCP4"));
            let port = |text: &str| {
                let plain =
                    text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
                text.parse::<u16>().ok().filter(|_| plain)
            };
            let all = (|| {
                let source = SocketAddr::new(ip(source)?, port(source_port)?);
                Some((source, SocketAddr::new(ip(target)?, port(target_port)?)))
            })();
            match all {
                Some(all) => Some(all),
                None => return Found::Invalid,
            }
        }
        ["PROXY", "TCP4" | "TCP6", ..] => return Found::Invalid,
        _ => return Found::Unhandled,
    };
    Found::Header(Header { length: end + 2, addresses })
}

fn read_binary(bytes: &[u8]) -> Found {
    let Some(fixed) = bytes.get(12..16) else { return Found::Part };
    let length = 16 + usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if fixed[0] >> 4 != 2 {
        return Found::Nonsense;
    }
    let Some(body) = bytes.get(16..length) else { return Found::Part };
    if fixed[0] & 15 > 1 {
        return Found::Invalid;
    }
    let is_local = fixed[0] & 15 == 0;
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let addresses = match fixed[1] {
        _ if is_local => None,
        0x11 if body.len() >= 12 => {
            let ip = |at: usize| Ipv4Addr::new(body[at], body[at + 1], body[at + 2], body[at + 3]);
            Some((SocketAddr::new(ip(0).into(), port(8)), SocketAddr::new(ip(4).into(), port(10))))
        }
        0x21 if body.len() >= 36 => {
            let ip = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&body[at..at + 16]);
                Ipv6Addr::from(octets)
            };
            Some((SocketAddr::new(ip(0).into(), port(32)), SocketAddr::new(ip(16).into(), port(34))))
        }
        0x11 | 0x21 => return Found::Invalid,
        // Unix sockets and datagrams have no address for us; unknown families are to be accepted so.
        _ => None,
    };
    Found::Header(Header { length, addresses })
}

/// The header that tells a server who the client is.
#[must_use]
pub fn header(version: ProxyProtocol, options: ProxyV2Options, client: &Client) -> Vec<u8> {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let source = canonical(client.source);
    let target = client.local.map(canonical).filter(|target| target.is_ipv4() == source.is_ipv4());
    match version {
        ProxyProtocol::V1 => text(source, target),
        ProxyProtocol::V2 => binary(source, target, options, client),
    }
}

fn text(source: SocketAddr, target: Option<SocketAddr>) -> Vec<u8> {
    let Some(target) = target else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", source.ip(), target.ip(), source.port(), target.port())
        .into_bytes()
}

fn binary(
    source: SocketAddr,
    target: Option<SocketAddr>,
    options: ProxyV2Options,
    client: &Client,
) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(0x21);
    header.push(match (target, source) {
        (None, _) => 0,
        (_, SocketAddr::V4(_)) => 0x11,
        (_, SocketAddr::V6(_)) => 0x21,
    });
    header.extend([0, 0]);
    if let Some(target) = target {
        for address in [source, target] {
            match address.ip() {
                IpAddr::V4(ip) => header.extend(ip.octets()),
                IpAddr::V6(ip) => header.extend(ip.octets()),
            }
        }
        header.extend(source.port().to_be_bytes());
        header.extend(target.port().to_be_bytes());
    }
    let checksum_at = header.len() + 3;
    if options.crc32c {
        put(&mut header, 0x03, &[0; 4]);
    }
    if let (true, Some(name)) = (options.authority, &client.name) {
        put(&mut header, 0x02, name.as_bytes());
    }
    if options.unique_id {
        put(&mut header, 0x05, client.id.to_string().as_bytes());
    }
    if options.ssl {
        put(&mut header, 0x20, &tls(options, client));
    }
    let length = u16::try_from(header.len() - 16).unwrap_or(u16::MAX);
    header[14..16].copy_from_slice(&length.to_be_bytes());
    if options.crc32c {
        let checksum = crc32c::crc32c(&header);
        header[checksum_at..checksum_at + 4].copy_from_slice(&checksum.to_be_bytes());
    }
    header
}

/// The value of PP2_TYPE_SSL: flags (1 TLS, 4 a certificate in this session), 0 when it was verified, details.
fn tls(options: ProxyV2Options, client: &Client) -> Vec<u8> {
    let Some(tls) = &client.tls else { return vec![0, 0, 0, 0, 0] };
    let certificate = if tls.certificate { 0x06 } else { 0 };
    let mut value = vec![0x01 | certificate, 0, 0, 0, 0];
    put(&mut value, 0x21, tls.version.as_bytes());
    if let (true, Some(name)) = (options.cert_cn, &tls.common_name) {
        put(&mut value, 0x22, name.as_bytes());
    }
    if let (true, Some(cipher)) = (options.ssl_cipher, &tls.cipher) {
        put(&mut value, 0x23, cipher.as_bytes());
    }
    value
}

fn put(header: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let value = &value[..value.len().min(1024)];
    header.push(kind);
    header.extend((value.len() as u16).to_be_bytes());
    header.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(source: &str, local: Option<&str>) -> Client {
        Client {
            source: source.parse().unwrap(),
            local: local.map(|local| local.parse().unwrap()),
            name: Some("mq.example".to_owned()),
            tls: None,
            id: 7,
            wanted: None,
        }
    }

    fn write(version: ProxyProtocol, source: &str, local: Option<&str>) -> Vec<u8> {
        header(version, ProxyV2Options::default(), &client(source, local))
    }

    #[test]
    fn headers_are_as_specified() {
        let (source, local) = ("192.168.0.1:56324", Some("192.168.0.11:443"));
        let text = write(ProxyProtocol::V1, source, local);
        assert_eq!(text, b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
        assert_eq!(write(ProxyProtocol::V1, source, None), b"PROXY UNKNOWN\r\n");
        let header = write(ProxyProtocol::V2, source, local);
        assert_eq!(&header[..12], SIGNATURE);
        assert_eq!(header[12..16], [0x21, 0x11, 0, 12]);
        assert_eq!(header[16..], [192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 1, 0xbb]);
        assert_eq!(write(ProxyProtocol::V2, "[::1]:1", Some("[::1]:1")).len(), 16 + 36);
        assert_eq!(write(ProxyProtocol::V2, "[::1]:1", local).len(), 16);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let options = ProxyV2Options {
            crc32c: true,
            authority: true,
            ssl: true,
            unique_id: true,
            ..Default::default()
        };
        for (source, local) in [("10.0.0.1:5", "10.0.0.2:6"), ("[fe80::1]:5", "[fe80::2]:6")] {
            let addresses = Some((source.parse().unwrap(), local.parse().unwrap()));
            for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
                let bytes = header(version, options, &client(source, Some(local)));
                let length = bytes.len();
                assert_eq!(read(&bytes), Found::Header(Header { length, addresses }), "{version:?}");
                let more = [&bytes[..], b"and more"].concat();
                assert_eq!(read(&more), Found::Header(Header { length, addresses }));
                for part in 0..length {
                    assert_eq!(read(&bytes[..part]), Found::Part, "{version:?} {part}");
                }
            }
        }
    }

    #[test]
    fn the_checksum_covers_the_header() {
        let options = ProxyV2Options { crc32c: true, ..Default::default() };
        let mut bytes = header(ProxyProtocol::V2, options, &client("10.0.0.1:5", Some("10.0.0.2:6")));
        assert_eq!(bytes[28..31], [3, 0, 4]);
        let told = u32::from_be_bytes(bytes[31..35].try_into().unwrap());
        bytes[31..35].fill(0);
        assert_eq!(crc32c::crc32c(&bytes), told);
    }

    #[test]
    fn nonsense_is_refused() {
        let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
        for wrong in [
            "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n",
            "PROXY TCP4 ::1 5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
            "PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
            &long,
        ] {
            assert_eq!(read(wrong.as_bytes()), Found::Invalid, "{wrong}");
        }
        assert_eq!(read(b"PROXY TCP5 x\r\n"), Found::Unhandled);
        for other in ["GET / HTTP/1.0\r\n", "proxy unknown   \r\n", "PROXYX0123456789"] {
            assert_eq!(read(other.as_bytes()), Found::Nonsense, "{other}");
            assert_eq!(read(&other.as_bytes()[..9]), Found::Part, "{other}");
        }
        let binary = |rest: &[u8]| read(&[SIGNATURE, rest].concat());
        assert_eq!(binary(&[0x11, 0x11, 0, 12]), Found::Nonsense);
        assert_eq!(binary(&[0x22, 0x11, 0, 0]), Found::Invalid);
        assert_eq!(binary(&[0x21, 0x11, 0xff, 0xff]), Found::Part);
        assert_eq!(binary(&[0x21, 0x11, 0, 2, 1, 1]), Found::Invalid);
        let local = Found::Header(Header { length: 16, addresses: None });
        assert_eq!(binary(&[0x20, 0, 0, 0]), local);
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), Found::Header(Header { length: 15, addresses: None }));
    }
}
