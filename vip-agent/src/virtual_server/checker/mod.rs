//! The health checks of real servers: each asks once and says what it found.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::service::Verdict;
use crate::config::ScriptUser;
use crate::config::virtual_server::{Check, CheckKind};
use crate::process::{self, Outcome};
use crate::tracker::builtin::{self, Probe};

mod dns;
mod http;
mod smtp;
mod tls;

/// A UDP answer is never longer.
const MAX_DATAGRAM: usize = 4096;

/// What every check has to know of its server.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) bind: Option<IpAddr>,
}

impl Target {
    /// Where a check of the server at `address` and `port` connects to.
    pub(crate) fn of(check: &Check, address: IpAddr, port: u16) -> Self {
        let address = check.connect_ip.unwrap_or(address);
        Self { address: SocketAddr::new(address, check.connect_port.unwrap_or(port)), bind: check.bind }
    }

    async fn connect(&self) -> Result<TcpStream, String> {
        let connect = async {
            let socket = if self.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            if let Some(from) = self.bind {
                socket.bind(SocketAddr::new(from, 0))?;
            }
            socket.connect(self.address).await
        };
        connect.await.map_err(|error: std::io::Error| format!("{}: {error}", self.address))
    }

    async fn datagrams(&self) -> Result<UdpSocket, String> {
        let any: IpAddr =
            if self.address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let open = async {
            let socket = UdpSocket::bind((self.bind.unwrap_or(any), 0)).await?;
            socket.connect(self.address).await?;
            Ok(socket)
        };
        open.await.map_err(|error: std::io::Error| format!("{}: {error}", self.address))
    }
}

/// Asks once.
pub(crate) async fn ask(check: &Check, target: &Target, user: Option<ScriptUser>) -> Verdict {
    if let CheckKind::Misc { command, timeout, dynamic } = &check.kind {
        return misc(&process::run(command, &[], user, *timeout, || {}).await, *dynamic);
    }
    if let CheckKind::Udp { payload, reply } = &check.kind {
        return udp(payload, *reply, target, check.connect_timeout).await;
    }
    let answer = async {
        match &check.kind {
            CheckKind::Tcp => target.connect().await.map(drop),
            CheckKind::Amqp => {
                match builtin::ask(&Probe::Amqp(target.address), check.connect_timeout).await {
                    Outcome::Success => Ok(()),
                    other => Err(other.to_string()),
                }
            }
            CheckKind::Http(http) => http::ask(http, target).await,
            CheckKind::Smtp { helo } => smtp::ask(helo, target).await,
            CheckKind::Dns { record, name } => dns::ask(*record, name, target).await,
            CheckKind::Misc { .. } | CheckKind::Udp { .. } => Ok(()),
        }
    };
    match tokio::time::timeout(check.connect_timeout, answer).await {
        Ok(Ok(())) => Verdict::Good,
        Ok(Err(reason)) => Verdict::Bad(reason),
        Err(_) => Verdict::Bad(format!("{}: no answer within {:?}", target.address, check.connect_timeout)),
    }
}

/// keepalived: 0 good, 1 bad, and with `misc_dynamic` 2 to 255 a weight of 0 to 253.
fn misc(outcome: &Outcome, dynamic: bool) -> Verdict {
    match outcome {
        Outcome::Success => Verdict::Good,
        Outcome::Exited(code) if dynamic && *code >= 2 => {
            Verdict::Weight(u32::try_from(code - 2).unwrap_or(0))
        }
        other => Verdict::Bad(other.to_string()),
    }
}

/// A port that is closed answers by ICMP; one that is open need not answer at all.
async fn udp(payload: &[u8], reply: bool, target: &Target, patience: std::time::Duration) -> Verdict {
    let socket = match target.datagrams().await {
        Ok(socket) => socket,
        Err(reason) => return Verdict::Bad(reason),
    };
    if let Err(error) = socket.send(payload).await {
        return Verdict::Bad(format!("{}: {error}", target.address));
    }
    let mut buffer = [0; MAX_DATAGRAM];
    match tokio::time::timeout(patience, socket.recv(&mut buffer)).await {
        Ok(Ok(_)) => Verdict::Good,
        Ok(Err(error)) => Verdict::Bad(format!("{}: {error}", target.address)),
        Err(_) if reply => Verdict::Bad(format!("{}: no answer within {patience:?}", target.address)),
        Err(_) => Verdict::Good,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::virtual_server::{HttpCheck, HttpVersion, Page};

    /// A server that reads a first line, or nothing, and answers each of its connections the same.
    pub(super) async fn server(reads: bool, answer: &'static [u8]) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                if reads {
                    let mut request = [0; 16];
                    let _ = stream.read(&mut request).await;
                }
                let _ = stream.write_all(answer).await;
                // What else comes is read, so that closing does not reset.
                let _ = stream.shutdown().await;
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            }
        });
        Target { address, bind: None }
    }

    async fn verdict(kind: CheckKind, target: &Target) -> Verdict {
        let mut check = Check::new(kind);
        check.connect_timeout = Duration::from_secs(5);
        ask(&check, target, None).await
    }

    fn http(page: Page) -> CheckKind {
        CheckKind::Http(HttpCheck { tls: false, sni: false, version: HttpVersion::V11, pages: vec![page] })
    }

    fn page(status: &[(u16, u16)], digest: Option<&str>) -> Page {
        Page {
            path: "/".into(),
            status: status.to_vec(),
            digest: digest.map(str::to_owned),
            virtualhost: Some("example".into()),
        }
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const HELLO: &str = "5d41402abc4b2a76b9719d911017c592";

    #[tokio::test]
    async fn tcp_wants_an_open_port() {
        let target = server(false, b"").await;
        assert_eq!(verdict(CheckKind::Tcp, &target).await, Verdict::Good);
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let target = Target { address: closed, bind: None };
        assert!(matches!(verdict(CheckKind::Tcp, &target).await, Verdict::Bad(_)));
    }

    #[tokio::test]
    async fn http_looks_at_status_and_digest() {
        let target = server(true, OK).await;
        assert_eq!(verdict(http(page(&[(200, 299)], None)), &target).await, Verdict::Good);
        assert_eq!(verdict(http(page(&[(200, 299)], Some(HELLO))), &target).await, Verdict::Good);
        assert_eq!(verdict(http(page(&[], Some(HELLO))), &target).await, Verdict::Good);
        let Verdict::Bad(reason) = verdict(http(page(&[(301, 301)], None)), &target).await else { panic!() };
        assert!(reason.contains("200"), "{reason}");
        let other = "00000000000000000000000000000000";
        let Verdict::Bad(reason) = verdict(http(page(&[], Some(other))), &target).await else { panic!() };
        assert!(reason.contains(HELLO), "{reason}");
        let target = server(true, b"hello\r\n").await;
        assert!(matches!(verdict(http(page(&[(200, 299)], None)), &target).await, Verdict::Bad(_)));
    }

    #[tokio::test]
    async fn a_program_says_good_bad_or_a_weight() {
        let ask = |script: &str, dynamic| {
            let argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
            let command = crate::config::Command { argv, user: None };
            CheckKind::Misc { command, timeout: Duration::from_secs(10), dynamic }
        };
        let target = Target { address: "127.0.0.1:1".parse().unwrap(), bind: None };
        assert_eq!(verdict(ask("exit 0", false), &target).await, Verdict::Good);
        assert_eq!(verdict(ask("exit 0", true), &target).await, Verdict::Good);
        assert!(matches!(verdict(ask("exit 1", true), &target).await, Verdict::Bad(_)));
        assert!(matches!(verdict(ask("exit 9", false), &target).await, Verdict::Bad(_)));
        assert_eq!(verdict(ask("exit 9", true), &target).await, Verdict::Weight(7));
    }

    #[tokio::test]
    async fn a_closed_udp_port_is_bad_and_a_silent_one_good() {
        let open = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = Target { address: open.local_addr().unwrap(), bind: None };
        let patience = Duration::from_millis(200);
        assert_eq!(udp(b"x", false, &target, patience).await, Verdict::Good);
        assert!(matches!(udp(b"x", true, &target, patience).await, Verdict::Bad(_)));
        drop(open);
        assert!(matches!(udp(b"x", false, &target, Duration::from_secs(5)).await, Verdict::Bad(_)));
    }

    #[tokio::test]
    async fn smtp_is_greeted_and_left_politely() {
        let target = server(false, b"220-mail\r\n220 mail ready\r\n250 hello\r\n221 bye\r\n").await;
        assert_eq!(verdict(CheckKind::Smtp { helo: "me".into() }, &target).await, Verdict::Good);
        let target = server(false, b"554 go away\r\n").await;
        assert!(matches!(verdict(CheckKind::Smtp { helo: "me".into() }, &target).await, Verdict::Bad(_)));
    }

    /// A server with a certificate that nobody vouches for.
    async fn tls_server(answer: &'static [u8]) -> Target {
        let certified = rcgen::generate_simple_self_signed(vec!["example".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 16];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        });
        Target { address, bind: None }
    }

    #[tokio::test]
    async fn ssl_get_reads_pages_by_tls_and_asks_nobody_for_a_pedigree() {
        let target = tls_server(OK).await;
        for sni in [false, true] {
            let pages = vec![page(&[(200, 200)], Some(HELLO))];
            let kind = CheckKind::Http(HttpCheck { tls: true, sni, version: HttpVersion::V10, pages });
            assert_eq!(verdict(kind, &target).await, Verdict::Good);
        }
        let pages = vec![page(&[(404, 404)], None)];
        let kind = CheckKind::Http(HttpCheck { tls: true, sni: false, version: HttpVersion::V10, pages });
        assert!(matches!(verdict(kind, &target).await, Verdict::Bad(_)));
        // A server without TLS.
        let plain = server(true, OK).await;
        let pages = vec![page(&[(200, 200)], None)];
        let kind = CheckKind::Http(HttpCheck { tls: true, sni: false, version: HttpVersion::V10, pages });
        assert!(matches!(verdict(kind, &plain).await, Verdict::Bad(_)));
    }

    #[tokio::test]
    async fn a_name_server_has_to_answer_without_an_error() {
        for (code, good) in [(0, true), (3, true), (2, false)] {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let target = Target { address: socket.local_addr().unwrap(), bind: None };
            tokio::spawn(async move {
                let mut packet = [0; 512];
                let (count, from) = socket.recv_from(&mut packet).await.unwrap();
                packet[2] |= 0x80;
                packet[3] = code;
                socket.send_to(&packet[..count], from).await.unwrap();
            });
            let found = verdict(CheckKind::Dns { record: 1, name: "www.example".into() }, &target).await;
            assert_eq!(found == Verdict::Good, good, "{code}: {found:?}");
        }
    }

    #[tokio::test]
    async fn amqp_wants_a_greeting() {
        let greeting = server(true, b"\x01\0\0\0\0\x01\xf4\0\x0a\0\x0a").await;
        assert_eq!(verdict(CheckKind::Amqp, &greeting).await, Verdict::Good);
        let other = server(true, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert!(matches!(verdict(CheckKind::Amqp, &other).await, Verdict::Bad(_)));
    }
}
