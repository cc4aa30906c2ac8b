//! The PROXY protocol, versions 1 and 2: who the client of a proxy is, said in front of everything else.
//!
//! ```text
//! 1:  PROXY TCP4 192.0.2.1 192.0.2.9 40000 5672 CR LF
//! 2:  12 octets of signature, version and command, family, length (2), addresses and more
//! ```
//!
//! Exactly the header is taken off the socket; what follows it is TLS's or AMQP's.

use ppp::{v1, v2};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Octets that tell the versions apart, and from anything that is no header.
const BEGIN: usize = 8;
/// The signature, version, family and length of version 2.
const FIXED: usize = 16;
/// Longest header of version 1, its line end included (section 2.1).
const LONGEST_LINE: usize = 107;
/// Longest header of version 2 that is read: its addresses and what proxies add to them.
const LONGEST: usize = 4096;

/// Both ends of a connection, as the proxy saw it: the client's and the one that it connected to.
pub(crate) type Ends = (SocketAddr, SocketAddr);

/// Reads a header. `None` when the proxy speaks for itself (a health check), or does not know.
///
/// # Errors
/// When there is none, or when it is malformed.
pub(crate) async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Ends>> {
    let mut header = vec![0; BEGIN];
    stream.read_exact(&mut header).await?;
    if v2::PROTOCOL_PREFIX.starts_with(&header) {
        header.resize(FIXED, 0);
        stream.read_exact(&mut header[BEGIN..]).await?;
        let length = FIXED + usize::from(u16::from_be_bytes([header[14], header[15]]));
        if length > LONGEST {
            return Err(malformed("it is too long"));
        }
        header.resize(length, 0);
        stream.read_exact(&mut header[FIXED..]).await?;
        return binary(&header);
    }
    if !header.starts_with(b"PROXY ") {
        return Err(malformed("the client, or the proxy, does not send one"));
    }
    while !header.ends_with(b"\r\n") {
        if header.len() == LONGEST_LINE {
            return Err(malformed("it is too long"));
        }
        header.push(stream.read_u8().await?);
    }
    line(&header)
}

fn line(header: &[u8]) -> io::Result<Option<Ends>> {
    let header = v1::Header::try_from(header).map_err(|error| malformed(&error.to_string()))?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(ends) => Some(ends_of(
            ends.source_address,
            ends.source_port,
            ends.destination_address,
            ends.destination_port,
        )),
        v1::Addresses::Tcp6(ends) => Some(ends_of(
            ends.source_address,
            ends.source_port,
            ends.destination_address,
            ends.destination_port,
        )),
        v1::Addresses::Unknown => None,
    })
}

fn binary(header: &[u8]) -> io::Result<Option<Ends>> {
    let header = v2::Header::try_from(header).map_err(|error| malformed(&error.to_string()))?;
    if header.command == v2::Command::Local {
        return Ok(None);
    }
    Ok(match header.addresses {
        v2::Addresses::IPv4(ends) => Some(ends_of(
            ends.source_address,
            ends.source_port,
            ends.destination_address,
            ends.destination_port,
        )),
        v2::Addresses::IPv6(ends) => Some(ends_of(
            ends.source_address,
            ends.source_port,
            ends.destination_address,
            ends.destination_port,
        )),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    })
}

fn ends_of(from: impl Into<IpAddr>, from_port: u16, to: impl Into<IpAddr>, to_port: u16) -> Ends {
    (SocketAddr::new(from.into(), from_port), SocketAddr::new(to.into(), to_port))
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no PROXY protocol header: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, and what is left for others.
    async fn read(octets: &[u8]) -> (io::Result<Option<Ends>>, usize) {
        let mut stream = octets;
        let ends = read_header(&mut stream).await;
        (ends, stream.len())
    }

    fn ends(from: &str, to: &str) -> Option<Ends> {
        Some((from.parse().unwrap(), to.parse().unwrap()))
    }

    #[tokio::test]
    async fn lines_name_both_ends_and_nothing_behind_them_is_taken() {
        let (got, left) = read(b"PROXY TCP4 192.0.2.1 192.0.2.9 40000 5672\r\nAMQP\0\0\x09\x01").await;
        assert_eq!((got.unwrap(), left), (ends("192.0.2.1:40000", "192.0.2.9:5672"), 8));
        let (got, left) = read(b"PROXY TCP6 2001:db8::1 2001:db8::9 1 2\r\n").await;
        assert_eq!((got.unwrap(), left), (ends("[2001:db8::1]:1", "[2001:db8::9]:2"), 0));
        assert_eq!(read(b"PROXY UNKNOWN\r\nAMQP").await.0.unwrap(), None);
    }

    #[tokio::test]
    async fn binary_headers_name_both_ends() {
        let v4 = v2::Builder::with_addresses(
            v2::Version::Two | v2::Command::Proxy,
            v2::Protocol::Stream,
            ("192.0.2.1:40000".parse::<SocketAddr>().unwrap(), "192.0.2.9:5672".parse().unwrap()),
        )
        .write_tlv(v2::Type::NoOp, b"more")
        .unwrap()
        .build()
        .unwrap();
        let (got, left) = read(&[&v4[..], b"AMQP"].concat()).await;
        assert_eq!((got.unwrap(), left), (ends("192.0.2.1:40000", "192.0.2.9:5672"), 4));
        let mut local = v4.clone();
        local[12] = 0x20;
        assert_eq!(read(&local).await.0.unwrap(), None);
        for length in 0..v4.len() {
            assert!(read(&v4[..length]).await.0.is_err(), "{length} octets of it");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for wrong in [
            &b"AMQP\0\0\x09\x01AMQP\0\0\x09\x01"[..],
            b"PROXY TCP4 192.0.2.1 192.0.2.9 40000\r\n",
            b"PROXY TCP4 192.0.2.256 192.0.2.9 40000 5672\r\n",
            b"PROXY TCP4 2001:db8::1 192.0.2.9 40000 5672\r\n",
            b"PROXY TCP9 192.0.2.1 192.0.2.9 40000 5672\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0cxxxxxxxxxxxx",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04xxxx",
        ] {
            let error = read(wrong).await.0.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        assert!(read(&endless).await.0.unwrap_err().to_string().contains("too long"));
    }
}
