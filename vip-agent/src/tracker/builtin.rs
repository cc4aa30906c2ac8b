//! Checks without a script: a TCP port, an HTTP page, an AMQP handshake, a server of the proxy on this
//! host, a process.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use crate::process::Outcome;

/// No answer is read beyond this.
const MAX_ANSWER: usize = 256 * 1024;
/// The protocol header of AMQP 0-9-1 (section 4.2.2).
const AMQP_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// Frame of type METHOD on channel 0 with class 10, method 10: connection.start.
const CONNECTION_START: ([u8; 3], [u8; 4]) = ([1, 0, 0], [0, 10, 0, 10]);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Something accepts connections there.
    Tcp(SocketAddr),
    /// An HTTP request is answered with a status from 200 to 399.
    Http(HttpTarget),
    /// An AMQP 0-9-1 broker, or a proxy before one, greets there.
    Amqp(SocketAddr),
    /// The statistics of a proxy, as CSV, name at least one server that is UP.
    Proxy(HttpTarget),
    /// The number in a file, which moves the priority.
    File(PathBuf),
    /// At least so many processes of this name run.
    Process { name: String, at_least: usize },
}

/// `http://ADDRESS:PORT/PATH`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpTarget {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
}

impl HttpTarget {
    /// Reads a URL whose host is an IP address: a check must not depend on a name server.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or("must begin with http://")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let address =
            if host.ends_with(']') || !host.contains(':') { format!("{host}:80") } else { host.to_owned() };
        let address =
            address.parse().map_err(|_| "needs an IP address and a port, such as http://127.0.0.1:8100/")?;
        if path.chars().any(|letter| letter.is_ascii_control() || letter == ' ') {
            return Err("has a blank or control character in its path".to_owned());
        }
        Ok(Self { address, path: if path.is_empty() { "/".to_owned() } else { path.to_owned() } })
    }
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Http(target) => write!(f, "http {}{}", target.address, target.path),
            Self::Amqp(address) => write!(f, "amqp {address}"),
            Self::Proxy(target) => write!(f, "proxy {}{}", target.address, target.path),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Process { name, at_least } => write!(f, "process {name} (at least {at_least})"),
        }
    }
}

/// Asks once.
pub(crate) async fn ask(probe: &Probe, timeout: Duration) -> Outcome {
    if let Probe::File(path) = probe {
        return number_in(path);
    }
    let answer = async {
        match probe {
            Probe::Tcp(address) => {
                TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
            }
            Probe::Http(target) => http(target).await.map(drop),
            Probe::Amqp(address) => amqp(*address).await,
            Probe::Proxy(target) => http(target).await.and_then(|body| server_up(&body)),
            Probe::Process { name, at_least } => process(name, *at_least),
            Probe::File(_) => Ok(()),
        }
    };
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(())) => Outcome::Success,
        Ok(Err(reason)) => Outcome::Failed(reason),
        Err(_) => Outcome::TimedOut,
    }
}

/// GET with HTTP/1.0, so that the connection ends with the answer; answers the body. HAProxy answers in chunks all the
/// same.
async fn http(target: &HttpTarget) -> Result<String, String> {
    let mut stream = TcpStream::connect(target.address).await.map_err(|error| error.to_string())?;
    let request =
        format!("GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: vip-agent\r\n\r\n", target.path, target.address);
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    // A server that resets instead of closing has answered all the same.
    let _ = stream.take(MAX_ANSWER as u64).read_to_end(&mut answer).await;
    let (head, body) = match answer.windows(4).position(|end| end == b"\r\n\r\n") {
        Some(end) => (&answer[..end], &answer[end + 4..]),
        None => (&answer[..], &[][..]),
    };
    let text = String::from_utf8_lossy(head);
    let status: u16 = text
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or("no HTTP answer")?;
    if !(200..400).contains(&status) {
        return Err(format!("HTTP status {status}"));
    }
    let chunked = text.lines().skip(1).filter_map(|line| line.split_once(':')).any(|(name, value)| {
        name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked")
    });
    let body = if chunked { joined(body) } else { body.to_vec() };
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// The contents of chunks (RFC 9112 section 7.1), as far as they are whole.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.iter().position(|octet| *octet == b'\n') {
        let size = String::from_utf8_lossy(&chunks[..end]);
        let digits = size.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(digits, 16) else { break };
        let Some(content) = chunks.get(end + 1..).and_then(|rest| rest.get(..size)).filter(|_| size > 0)
        else {
            break;
        };
        body.extend_from_slice(content);
        // The line end behind the contents.
        chunks = chunks.get(end + 1 + size + 2..).unwrap_or_default();
    }
    body
}

/// Sends the protocol header and waits for connection.start.
async fn amqp(address: SocketAddr) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    stream.write_all(AMQP_HEADER).await.map_err(|error| error.to_string())?;
    let mut start = [0; 11];
    stream.read_exact(&mut start).await.map_err(|_| "closed without an AMQP greeting".to_owned())?;
    let (frame, method) = CONNECTION_START;
    if start[..3] == frame && start[7..] == method {
        Ok(())
    } else {
        Err("no AMQP 0-9-1 greeting".to_owned())
    }
}

/// HAProxy's CSV: the first line names the columns.
fn server_up(csv: &str) -> Result<(), String> {
    let mut lines = csv.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let position = |name: &str| columns.iter().position(|column| *column == name);
    let (Some(server), Some(status)) = (position("svname"), position("status")) else {
        return Err("no statistics in CSV; add ;csv to the address".to_owned());
    };
    let up = lines.any(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        let is_server = fields.get(server).is_some_and(|name| !matches!(*name, "FRONTEND" | "BACKEND"));
        // A server that is not checked is used like one that is UP.
        let usable = |status: &&str| status.starts_with("UP") || *status == "no check";
        is_server && fields.get(status).is_some_and(usable)
    });
    if up { Ok(()) } else { Err("no server is UP".to_owned()) }
}

/// The number at the start of a file. A file that is not there, or is empty, counts as 0, as in keepalived.
fn number_in(path: &Path) -> Outcome {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(64).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Outcome::Failed(error.to_string()),
        _ => match text.split_whitespace().next().map_or(Ok(0), str::parse) {
            Ok(number) => Outcome::Value(number),
            Err(_) => Outcome::Failed("holds no number".to_owned()),
        },
    }
}

/// Counts processes by name, zombies left out.
fn process(name: &str, at_least: usize) -> Result<(), String> {
    let running = running(name, at_least).map_err(|error| error.to_string())?.len();
    if running >= at_least { Ok(()) } else { Err(format!("{running} of {at_least} processes `{name}` run")) }
}

/// The first processes of this name, at most so many.
fn running(name: &str, at_most: usize) -> std::io::Result<Vec<i32>> {
    let numbers = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        is_named(&entry.path(), name).then_some(number)
    });
    Ok(numbers.take(at_most).collect())
}

/// Waits until one of the processes that count has ended. Returns at once when there are none to wait for, and never
/// where the kernel cannot tell.
pub(crate) async fn one_ends(name: &str, at_least: usize) {
    let pids = running(name, at_least).unwrap_or_default();
    if pids.is_empty() || pids.len() < at_least {
        return;
    }
    let mut handles = Vec::new();
    for pid in pids.into_iter().filter_map(Pid::from_raw) {
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(handle) => handles.extend(watched(handle)),
            Err(rustix::io::Errno::SRCH) => return,
            Err(_) => {}
        }
    }
    if handles.is_empty() {
        return std::future::pending().await;
    }
    let ends = handles.iter().map(|handle| Box::pin(handle.readable()));
    let _ = futures_util::future::select_all(ends).await;
}

fn watched(handle: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor names no other while it lives, and it lives as long as the registration.
    unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }.ok()
}

fn is_named(process: &Path, name: &str) -> bool {
    let Ok(stat) = std::fs::read_to_string(process.join("stat")) else { return false };
    // PID (NAME) STATE …; the name may hold parentheses.
    let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else { return false };
    let state = stat[close + 1..].trim_start().chars().next();
    // The kernel keeps 15 bytes of a name.
    let kept: String = name.chars().take(15).collect();
    open < close && stat[open + 1..close] == kept && !matches!(state, Some('Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 8];
            let _ = stream.read_exact(&mut request).await;
            stream.write_all(answer).await.unwrap();
        });
        address
    }

    fn target(address: SocketAddr) -> HttpTarget {
        HttpTarget { address, path: "/".into() }
    }

    const SECOND: Duration = Duration::from_secs(2);

    #[tokio::test]
    async fn ports_pages_and_brokers() {
        assert_eq!(ask(&Probe::Tcp(server(b"").await), SECOND).await, Outcome::Success);
        let refused = ask(&Probe::Tcp("127.0.0.1:1".parse().unwrap()), SECOND).await;
        assert!(matches!(refused, Outcome::Failed(_)), "{refused:?}");
        let page = server(b"HTTP/1.1 200 OK\r\n\r\nhello").await;
        assert_eq!(ask(&Probe::Http(target(page)), SECOND).await, Outcome::Success);
        let broken = server(b"HTTP/1.1 503 Sorry\r\n\r\n").await;
        assert_eq!(
            ask(&Probe::Http(target(broken)), SECOND).await,
            Outcome::Failed("HTTP status 503".into())
        );
        let broker = server(b"\x01\0\0\0\0\x01\xff\0\x0a\0\x0a\0\x09").await;
        assert_eq!(ask(&Probe::Amqp(broker), SECOND).await, Outcome::Success);
        let other = server(b"SSH-2.0-OpenSSH_9").await;
        assert_eq!(ask(&Probe::Amqp(other), SECOND).await, Outcome::Failed("no AMQP 0-9-1 greeting".into()));
    }

    #[test]
    fn a_proxy_is_good_when_a_server_is_up() {
        let csv = |status: &str| {
            format!("# pxname,svname,qcur,status\nr,FRONTEND,0,OPEN\nr,A,0,{status}\nr,BACKEND,0,UP\n")
        };
        assert_eq!(server_up(&csv("UP")), Ok(()));
        assert_eq!(server_up(&csv("UP 1/2")), Ok(()));
        assert_eq!(server_up(&csv("no check")), Ok(()));
        assert!(server_up(&csv("MAINT")).is_err());
        assert!(server_up(&csv("DOWN")).is_err());
        assert!(server_up("<html>").is_err());
    }

    #[test]
    fn chunks_are_joined_as_far_as_they_go() {
        assert_eq!(joined(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), b"abcde");
        assert_eq!(joined(b"3\r\nabc\r\n9\r\nde"), b"abc");
        assert_eq!(joined(b"ffffffffffffffff\r\nabc"), b"");
        assert_eq!(joined(b"nothing"), b"");
    }

    #[tokio::test]
    async fn haproxy_answers_in_chunks() {
        let page = server(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1e\r\n# pxname,svname,status\nr,A,UP\n\r\n0\r\n\r\n",
        );
        assert_eq!(ask(&Probe::Proxy(target(page.await)), SECOND).await, Outcome::Success);
    }

    #[test]
    fn processes_are_found_by_name() {
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        let name = own[own.find('(').unwrap() + 1..own.rfind(')').unwrap()].to_owned();
        assert_eq!(process(&name, 1), Ok(()));
        assert!(process("no-such-process-name", 1).is_err());
    }

    #[tokio::test]
    async fn numbers_in_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("n");
        let probe = Probe::File(path.clone());
        assert_eq!(ask(&probe, SECOND).await, Outcome::Value(0), "no file");
        std::fs::write(&path, "-12\n").unwrap();
        assert_eq!(ask(&probe, SECOND).await, Outcome::Value(-12));
        std::fs::write(&path, "many").unwrap();
        assert!(matches!(ask(&probe, SECOND).await, Outcome::Failed(_)));
    }

    #[test]
    fn addresses_of_pages() {
        let parse = HttpTarget::parse;
        assert_eq!(parse("http://127.0.0.1:8100/monitor;csv").unwrap().path, "/monitor;csv");
        assert_eq!(parse("http://127.0.0.1").unwrap().address.port(), 80);
        assert_eq!(parse("http://[::1]").unwrap().address.port(), 80);
        for wrong in ["https://127.0.0.1/", "http://example.org/", "http://127.0.0.1/a b", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
