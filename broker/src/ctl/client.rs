//! Asks a node: HTTP over its control socket, or over the network.

use super::error::CtlError;
use super::{place, relay};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use daemon::exit::Exit;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;

/// Octets an answer may have.
const LARGEST: usize = 256 << 20;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Where Debian and others keep certificates of authorities.
const AUTHORITIES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// A node that answers HTTP on the network.
#[derive(Clone)]
pub(super) struct Remote {
    secure: bool,
    host: String,
    port: u16,
    login: Option<(String, String)>,
}

impl Remote {
    /// `http://user:password@host:15672`.
    pub(super) fn parse(url: &str) -> Option<Remote> {
        let (scheme, rest) = url.split_once("://")?;
        let secure = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let rest = rest.split('/').next()?;
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (Some((decoded(user)?, decoded(password)?)), place)
            }
            None => (None, rest),
        };
        let default = if secure { 15671 } else { 15672 };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (place, default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| Remote { secure, host: host.to_owned(), port, login })
    }

    /// The user, where one is named.
    pub(super) fn user(self) -> Option<String> {
        self.login.map(|(user, _)| user)
    }

    /// Without the password.
    pub(super) fn shown(&self) -> String {
        format!("http{}://{}:{}", if self.secure { "s" } else { "" }, self.host, self.port)
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

/// A connection to a node.
pub(super) struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    authorization: Option<HeaderValue>,
    /// How long an answer may take.
    pub(super) timeout: Duration,
    /// Through the control socket.
    pub(super) local: bool,
    /// That socket.
    socket: Option<PathBuf>,
    /// The node there is stopped.
    pub(super) stopped: bool,
    /// The node of the cluster that is meant, where it is not the one that is connected to.
    pub(super) other: Option<HeaderValue>,
}

/// What a node said.
#[derive(Debug)]
pub(super) struct Answer {
    /// HTTP's status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: Value,
}

impl Answer {
    /// It was done.
    pub(super) fn is_fine(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// It is not there.
    pub(super) fn is_missing(&self) -> bool {
        self.status == 404
    }

    /// Why not.
    pub(super) fn reason(&self) -> String {
        match &self.body["reason"] {
            Value::String(text) => text.clone(),
            Value::Null => format!("the node answered with status {}", self.status),
            other => other.to_string(),
        }
    }

    /// The body, or the refusal.
    pub(super) fn fine(self) -> Result<Value, CtlError> {
        if self.is_fine() {
            return Ok(self.body);
        }
        let exit = if self.status == 401 { Exit::NoPermission } else { Exit::Unavailable };
        Err(CtlError::refused(exit.code(), self.reason()))
    }
}

impl Client {
    /// Connects to a control socket.
    pub(super) fn local(path: &Path) -> io::Result<Client> {
        let runtime = runtime()?;
        let stream = place::connect(path)?;
        stream.set_nonblocking(true)?;
        let sender = runtime.block_on(async { handshake(UnixStream::from_std(stream)?).await })?;
        Ok(Client {
            runtime,
            sender,
            authorization: None,
            timeout: Duration::from_secs(60),
            local: true,
            socket: Some(path.to_owned()),
            stopped: false,
            other: None,
        })
    }

    /// Connects to the control socket anew: who answers there is another one after an order to start or stop.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        let Some(path) = &self.socket else { return Ok(()) };
        let stream = place::connect(path)?;
        stream.set_nonblocking(true)?;
        self.sender = self.runtime.block_on(async { handshake(UnixStream::from_std(stream)?).await })?;
        Ok(())
    }

    /// Connects to a node on the network. `authorities` is a file with certificates to trust.
    pub(super) fn remote(remote: &Remote, authorities: Option<&Path>) -> io::Result<Client> {
        let runtime = runtime()?;
        let sender = runtime.block_on(async {
            let connecting = TcpStream::connect((remote.host.as_str(), remote.port));
            let stream = tokio::time::timeout(CONNECT, connecting).await??;
            if !remote.secure {
                return handshake(stream).await;
            }
            let name = ServerName::try_from(remote.host.clone()).map_err(io::Error::other)?;
            let connector = tokio_rustls::TlsConnector::from(trusting(authorities)?);
            let stream = tokio::time::timeout(CONNECT, connector.connect(name, stream)).await??;
            handshake(stream).await
        })?;
        let authorization =
            remote.login.as_ref().map(|(user, password)| basic(user, password)).transpose()?;
        Ok(Client {
            runtime,
            sender,
            authorization,
            timeout: Duration::from_secs(60),
            local: false,
            socket: None,
            stopped: false,
            other: None,
        })
    }

    /// Asks `path`, which is encoded already, and returns whatever is answered.
    pub(super) fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, CtlError> {
        self.ask_with(method, path, body, None)
    }

    /// Asks who `user` is by its own password.
    pub(super) fn ask_as(&mut self, user: &str, password: &str, path: &str) -> Result<Answer, CtlError> {
        let login = Some((AUTHORIZATION, basic(user, password)?));
        self.ask_with(Method::GET, path, None, login)
    }

    /// Asks with a header of its own.
    pub(super) fn ask_with(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        header: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Answer, CtlError> {
        let octets = body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(octets)))
            .map_err(|error| CtlError::plain(Exit::Software, format!("Error: {error}")))?;
        if let Some(login) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, login.clone());
        }
        if let Some(node) = &self.other {
            request.headers_mut().insert(HeaderName::from_static(relay::NODE), node.clone());
        }
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, value);
        }
        let timeout = self.timeout;
        let sender = &mut self.sender;
        // The timer needs the runtime: it is made inside.
        let answered = self.runtime.block_on(async {
            tokio::time::timeout(timeout, async {
                sender.ready().await.map_err(io::Error::other)?;
                let response = sender.send_request(request).await.map_err(io::Error::other)?;
                let status = response.status().as_u16();
                let body = Limited::new(response.into_body(), LARGEST).collect().await;
                Ok::<_, io::Error>((status, body.map_err(io::Error::other)?.to_bytes()))
            })
            .await
        });
        let (status, octets) = match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let text = format!("Error: the node went away while it was asked: {error}");
                return Err(CtlError::plain(Exit::Unavailable, text));
            }
            Err(_) => {
                let text = format!(
                    "Error: operation timed out after {} s; -t N waits longer",
                    timeout.as_secs_f32()
                );
                return Err(CtlError::plain(Exit::TempFail, text));
            }
        };
        let body = serde_json::from_slice(&octets)
            .unwrap_or_else(|_| json!({"reason": String::from_utf8_lossy(&octets)}));
        Ok(Answer { status, body: if octets.is_empty() { Value::Null } else { body } })
    }
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

pub(super) async fn handshake<S>(stream: S) -> io::Result<SendRequest<Full<Bytes>>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Runs while something is asked; ends with the client.
    tokio::spawn(connection);
    Ok(sender)
}

/// TLS that trusts the certificates of a file, or those that the system trusts.
pub(crate) fn trusting(authorities: Option<&Path>) -> io::Result<Arc<rustls::ClientConfig>> {
    let known = AUTHORITIES.map(PathBuf::from);
    let file = authorities.or_else(|| known.iter().map(PathBuf::as_path).find(|path| path.exists()));
    let file = file.ok_or_else(|| {
        io::Error::other("no certificates of authorities are known; name a file with --cacert")
    })?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(io::Error::other)? {
        // One that can not be used is one that is not trusted.
        let _ = roots.add(certificate.map_err(io::Error::other)?);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn basic(user: &str, password: &str) -> io::Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        .map_err(io::Error::other)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A path of the API with its parts encoded: `/api/queues/%2F/name`.
pub(super) fn path(parts: &[&str]) -> String {
    let mut path = String::from("/api");
    for part in parts {
        path.push('/');
        path.push_str(&encoded(part));
    }
    path
}

/// Percent-encoding of everything but unreserved characters.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            // Writing to a string can not fail.
            let _ = write!(out, "%{octet:02X}");
        }
    }
    out
}

/// The reverse.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((octet, tail)) = rest.split_first() {
        rest = tail;
        if *octet != b'%' {
            octets.push(*octet);
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        octets.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_nodes_are_read() {
        let remote = Remote::parse("http://op%40x:p%3Aw@b:1/api").unwrap();
        assert_eq!(remote.login, Some(("op@x".into(), "p:w".into())));
        assert_eq!((remote.host.as_str(), remote.port, remote.secure), ("b", 1, false));
        assert_eq!(format!("{remote:?}"), "http://b:1", "no password");
        let remote = Remote::parse("https://[::1]").unwrap();
        assert_eq!((remote.host.as_str(), remote.port), ("::1", 15671));
        assert!(Remote::parse("rabbit@host").is_none() && Remote::parse("ftp://x").is_none());
    }

    #[test]
    fn names_survive_a_path() {
        assert_eq!(path(&["queues", "/", "a b/ü"]), "/api/queues/%2F/a%20b%2F%C3%BC");
        assert_eq!(decoded("a%20b%2F%C3%BC").as_deref(), Some("a b/ü"));
        assert_eq!((decoded("%"), decoded("%zz")), (None, None));
    }
}
