//! Tests of whole connections on loopback: real sockets, real worker threads, bounded waits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::diagnostic::Diagnostics;
use daemon::shutdown::{Shutdown, Stop};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::config::haproxy_cfg::Reader;
use crate::config::{Config, validate};
use crate::handover::Inherited;
use crate::process::Process;
use crate::testing::{listener, named, nobody};
use crate::workers::{self, Running};

mod data_path;
mod pages;
mod rules;

/// Nothing here takes longer than this unless it is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// A proxy at work; its addresses are chosen by the system.
struct Proxy {
    process: Arc<Process>,
    addresses: Vec<SocketAddr>,
    shutdown: Shutdown,
    running: Option<Running>,
}

/// Starts a proxy; `bind 127.0.0.1:1` stands for any free port.
fn start(text: &str) -> Proxy {
    let mut config = Config::default();
    let mut remarks = Diagnostics::new();
    Reader::default().read(text, "test.cfg", &mut config, &mut remarks);
    validate::validate(&mut config, &mut remarks);
    assert!(!remarks.has_errors(), "{remarks}");
    for bind in config.proxies.iter_mut().flat_map(|proxy| &mut proxy.binds) {
        bind.address.set_port(0);
    }
    let process = Arc::new(Process::new(config, "haproxy"));
    let listeners = process.bind(&mut Inherited::default(), false).unwrap();
    let addresses = listeners.addresses();
    let (shutdown, token) = Shutdown::new();
    drop(token);
    let running = workers::start(&process, listeners, &shutdown).unwrap();
    Proxy { process, addresses, shutdown, running: Some(running) }
}

impl Proxy {
    async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.addresses[0])).await.unwrap()
    }

    fn column(&self, server: &str, column: &str) -> u64 {
        let section = &self.process.sections()[0];
        let rows = crate::stats::row::rows(&self.process, section, true);
        rows.iter().find(|row| row.string("svname") == server).unwrap().number(column)
    }

    /// Waits until a column has a value.
    async fn until(&self, server: &str, column: &str, value: u64) {
        within(async {
            while self.column(server, column) != value {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    async fn stop(mut self) {
        self.shutdown.stop(Stop::Now);
        within(self.running.take().unwrap().join()).await;
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("took too long")
}

async fn name_of(stream: &mut TcpStream) -> String {
    let mut name = [0; 1];
    match within(stream.read(&mut name)).await {
        Ok(1) => String::from_utf8_lossy(&name).into_owned(),
        other => format!("{other:?}"),
    }
}

const DEFAULTS: &str = "defaults\n mode tcp\n timeout connect 2s\n timeout client 60s\n timeout server 60s\nlisten l\n bind 127.0.0.1:1\n";

#[tokio::test]
async fn connections_go_in_turn_and_bytes_go_both_ways() {
    let (a, b) = (named("A").await, named("B").await);
    let proxy = start(&format!("{DEFAULTS} server a {a} weight 2\n server b {b}\n"));
    let mut seen = String::new();
    for _ in 0..6 {
        let mut stream = proxy.connect().await;
        seen.push_str(&name_of(&mut stream).await);
        stream.write_all(b"hello").await.unwrap();
        let mut echo = [0; 5];
        within(stream.read_exact(&mut echo)).await.unwrap();
        assert_eq!(&echo, b"hello");
    }
    assert_eq!(seen, "AABAAB");
    proxy.until("FRONTEND", "scur", 0).await;
    proxy.until("a", "bin", 20).await;
    assert_eq!((proxy.column("a", "stot"), proxy.column("b", "stot")), (4, 2));
    assert_eq!((proxy.column("BACKEND", "bin"), proxy.column("BACKEND", "bout")), (30, 36));
    proxy.stop().await;
}

#[tokio::test]
async fn a_finished_side_leaves_the_other_open() {
    let (server, address) = listener().await;
    let proxy = start(&format!("{DEFAULTS} server a {address}\n"));
    let mut client = proxy.connect().await;
    let (mut behind, _) = within(server.accept()).await.unwrap();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = String::new();
    // Ends only because the FIN was passed on.
    within(behind.read_to_string(&mut question)).await.unwrap();
    assert_eq!(question, "question");
    behind.write_all(b"answer").await.unwrap();
    behind.shutdown().await.unwrap();
    let mut answer = String::new();
    within(client.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "answer");
    proxy.until("FRONTEND", "scur", 0).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_reset_becomes_a_reset_in_both_directions() {
    let (server, address) = listener().await;
    let proxy = start(&format!("{DEFAULTS} server a {address}\n"));
    for client_resets in [true, false] {
        let mut client = proxy.connect().await;
        let (mut behind, _) = within(server.accept()).await.unwrap();
        client.write_all(b"x").await.unwrap();
        let mut byte = [0; 1];
        within(behind.read_exact(&mut byte)).await.unwrap();
        let (resetting, mut other) = if client_resets { (client, behind) } else { (behind, client) };
        socket2::SockRef::from(&resetting).set_linger(Some(Duration::ZERO)).unwrap();
        drop(resetting);
        let error = within(other.read(&mut byte)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "client resets: {client_resets}");
    }
    proxy.until("a", "cli_abrt", 1).await;
    proxy.until("a", "srv_abrt", 1).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_refused_connection_goes_to_another_server_at_once() {
    let (dead, alive) = (nobody().await, named("B").await);
    let proxy = start(&format!("{DEFAULTS} retries 1\n server a {dead}\n server b {alive}\n"));
    let begun = std::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(name_of(&mut proxy.connect().await).await, "B");
    }
    // No turn-around pause of a second in any of them.
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    assert!(proxy.column("BACKEND", "wredis") >= 2);
    assert_eq!(proxy.column("BACKEND", "econ"), 0);
    proxy.stop().await;
}

#[tokio::test]
async fn with_every_server_dead_the_client_is_let_go_and_the_log_says_why() {
    let log = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let dead = nobody().await;
    let proxy = start(&format!(
        "{DEFAULTS} log {} len 300 format raw local0\n option tcplog\n retries 0\n server a {dead}\n",
        log.local_addr().unwrap()
    ));
    let mut client = proxy.connect().await;
    let mut byte = [0; 1];
    // Closed or reset, but soon.
    assert!(!matches!(within(client.read(&mut byte)).await, Ok(1)));
    let mut line = [0; 300];
    let length = within(log.recv(&mut line)).await.unwrap();
    let line = String::from_utf8_lossy(&line[..length]);
    let fields: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((fields[2], fields[3]), ("l", "l/a"), "{line}");
    // Chosen, never connected; nothing sent; no server; counted once.
    assert!(fields[4].contains("/-1/"), "{line}");
    assert_eq!(fields[5..], ["0", "SC", "1/1/0/0/0", "0/0"], "{line}");
    assert_eq!(proxy.column("a", "econ"), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn connections_wait_for_a_place_on_a_full_server() {
    let server = named("A").await;
    let proxy = start(&format!("{DEFAULTS} timeout queue 10s\n server a {server} maxconn 1\n"));
    let mut first = proxy.connect().await;
    assert_eq!(name_of(&mut first).await, "A");
    let mut second = proxy.connect().await;
    proxy.until("BACKEND", "qcur", 1).await;
    let mut third = proxy.connect().await;
    proxy.until("BACKEND", "qcur", 2).await;
    assert_eq!(proxy.column("a", "scur"), 1);
    // One after the other, in the order they came.
    drop(first);
    assert_eq!(name_of(&mut second).await, "A");
    proxy.until("BACKEND", "qcur", 1).await;
    drop(second);
    assert_eq!(name_of(&mut third).await, "A");
    assert_eq!((proxy.column("a", "smax"), proxy.column("BACKEND", "qmax")), (1, 2));
    proxy.stop().await;
}

#[tokio::test]
async fn waiting_has_an_end() {
    let server = named("A").await;
    let log = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let proxy = start(&format!(
        "{DEFAULTS} log {} format raw local0\n option tcplog\n timeout queue 50ms\n server a {server} maxconn 1\n",
        log.local_addr().unwrap()
    ));
    let mut first = proxy.connect().await;
    assert_eq!(name_of(&mut first).await, "A");
    let mut second = proxy.connect().await;
    let mut byte = [0; 1];
    assert!(!matches!(within(second.read(&mut byte)).await, Ok(1)));
    let mut line = [0; 300];
    let length = within(log.recv(&mut line)).await.unwrap();
    let line = String::from_utf8_lossy(&line[..length]);
    // The time in the queue is told although no server was found; one of the two is the first connection's.
    let fields: Vec<&str> = line.split_whitespace().collect();
    assert!(
        fields[3] == "l/<NOSRV>" && fields[4].contains("/-1/") && !fields[4].starts_with("-1/"),
        "{line}"
    );
    assert_eq!(fields[6], "sQ", "{line}");
    proxy.until("BACKEND", "qcur", 0).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let (server, address) = listener().await;
    let log = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let proxy = start(&format!(
        "{DEFAULTS} log {} format raw local0\n option tcplog\n timeout server 80ms\n server a {address}\n",
        log.local_addr().unwrap()
    ));
    let mut client = proxy.connect().await;
    let (_behind, _) = within(server.accept()).await.unwrap();
    let mut byte = [0; 1];
    assert_eq!(within(client.read(&mut byte)).await.unwrap(), 0);
    // As in HAProxy the client may go on after that end; the line comes when it has finished too.
    drop(client);
    let mut line = [0; 300];
    let length = within(log.recv(&mut line)).await.unwrap();
    assert!(String::from_utf8_lossy(&line[..length]).contains(" 0 sD "));
    proxy.stop().await;
}

/// Megabytes through both ways of moving bytes, with a reader that starts late.
#[tokio::test]
async fn bulk_data_arrives_whole_by_copy_and_by_splice() {
    const SIZE: usize = 24 << 20;
    let pattern: Arc<Vec<u8>> = Arc::new((0..SIZE).map(|at| (at * 31 + at / 4096) as u8).collect());
    for splice in ["option splice-auto", "no option splice-auto"] {
        let (server, address) = listener().await;
        let proxy = start(&format!("{DEFAULTS} {splice}\n server a {address}\n"));
        let client = proxy.connect().await;
        let (behind, _) = within(server.accept()).await.unwrap();
        let (mut client_read, mut client_write) = client.into_split();
        let (mut behind_read, mut behind_write) = behind.into_split();
        let (up, down) = (pattern.clone(), pattern.clone());
        let writers = [
            tokio::spawn(async move {
                client_write.write_all(&up).await.unwrap();
                client_write.shutdown().await.unwrap();
            }),
            tokio::spawn(async move {
                behind_write.write_all(&down).await.unwrap();
                behind_write.shutdown().await.unwrap();
            }),
        ];
        // Nobody reads yet: bytes pile up on the way until the proxy has to stop reading.
        within(async {
            while proxy.column("FRONTEND", "bin") == 0 || proxy.column("FRONTEND", "bout") == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
        let both = async {
            tokio::join!(behind_read.read_to_end(&mut got_up), client_read.read_to_end(&mut got_down))
        };
        let (up, down) = timeout(Duration::from_secs(60), both).await.unwrap();
        up.unwrap();
        down.unwrap();
        assert!(got_up == *pattern && got_down == *pattern, "{splice}");
        for writer in writers {
            writer.await.unwrap();
        }
        proxy.until("a", "bin", SIZE as u64).await;
        proxy.stop().await;
    }
}

#[tokio::test]
async fn a_failing_server_is_taken_out_and_comes_back() {
    let (gone, address) = listener().await;
    drop(gone);
    let alive = named("B").await;
    let proxy = start(&format!(
        "{DEFAULTS} server a {address} check inter 20ms rise 2 fall 2\n server b {alive} check inter 20ms\n"
    ));
    proxy.until("a", "chkdown", 1).await;
    for _ in 0..4 {
        assert_eq!(name_of(&mut proxy.connect().await).await, "B");
    }
    assert_eq!(proxy.column("BACKEND", "wredis"), 0);
    let _back = TcpListener::bind(address).await.unwrap();
    proxy.until("BACKEND", "act", 2).await;
    assert_eq!(proxy.column("a", "check_health"), 3);
    proxy.stop().await;
}

#[tokio::test]
async fn the_server_is_told_the_client_by_the_proxy_protocol() {
    let (server, address) = listener().await;
    let proxy = start(&format!("{DEFAULTS} server a {address} send-proxy\n"));
    let mut client = proxy.connect().await;
    let (mut behind, _) = within(server.accept()).await.unwrap();
    client.write_all(b"data").await.unwrap();
    let expected = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\ndata",
        client.local_addr().unwrap().port(),
        proxy.addresses[0].port()
    );
    let mut got = vec![0; expected.len()];
    within(behind.read_exact(&mut got)).await.unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), expected);
    proxy.stop().await;
}

#[tokio::test]
async fn a_full_frontend_lets_others_wait_outside() {
    let server = named("A").await;
    let proxy = start(&format!("{DEFAULTS} maxconn 1\n server a {server}\n"));
    let mut first = proxy.connect().await;
    assert_eq!(name_of(&mut first).await, "A");
    assert_eq!(proxy.process.sections()[0].frontend.as_ref().unwrap().status(), "FULL");
    // The kernel takes the connection, the proxy does not yet.
    let mut second = proxy.connect().await;
    let mut byte = [0; 1];
    assert!(timeout(Duration::from_millis(100), second.read(&mut byte)).await.is_err());
    drop(first);
    assert_eq!(name_of(&mut second).await, "A");
    proxy.stop().await;
}

#[tokio::test]
async fn several_addresses_share_the_places_of_a_frontend() {
    let server = named("A").await;
    let proxy = start(&format!("{DEFAULTS} bind 127.0.0.1:2,127.0.0.1:3\n maxconn 1\n server a {server}\n"));
    for address in &proxy.addresses {
        let mut stream = within(TcpStream::connect(address)).await.unwrap();
        assert_eq!(name_of(&mut stream).await, "A");
        drop(stream);
        proxy.until("FRONTEND", "scur", 0).await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_soft_stop_keeps_what_runs_and_takes_nothing_new() {
    let server = named("A").await;
    let mut proxy = start(&format!("{DEFAULTS} server a {server}\n"));
    let mut stream = proxy.connect().await;
    assert_eq!(name_of(&mut stream).await, "A");
    within(proxy.running.as_mut().unwrap().close_listeners()).await;
    within(async {
        while TcpStream::connect(proxy.addresses[0]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stream.write_all(b"B").await.unwrap();
    assert_eq!(name_of(&mut stream).await, "B");
    drop(stream);
    within(proxy.running.as_mut().unwrap().drained(&proxy.shutdown, None)).await;
    proxy.stop().await;
}

#[tokio::test]
async fn clients_are_kept_out_or_sent_elsewhere_by_their_address() {
    let (a, b) = (named("A").await, named("B").await);
    let backends = format!(
        "backend a\n timeout connect 2s\n timeout server 60s\n server s {a}\n\
         backend b\n timeout connect 2s\n timeout server 60s\n server s {b}\n"
    );
    let head = "frontend l\n bind 127.0.0.1:1\n timeout client 60s\n default_backend a\n";
    let moved = start(&format!("{head} use_backend b if LOCALHOST\n{backends}"));
    assert_eq!(name_of(&mut moved.connect().await).await, "B");
    moved.stop().await;
    let closed = start(&format!("{head} tcp-request connection reject if {{ src 127.0.0.0/8 }}\n{backends}"));
    // As HAProxy does it: a reset.
    let mut refused = closed.connect().await;
    let mut byte = [0; 1];
    let error = within(refused.read(&mut byte)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    closed.until("FRONTEND", "dreq", 1).await;
    closed.stop().await;
}

#[tokio::test]
async fn an_unresolvable_server_is_down_and_not_fatal() {
    let alive = named("B").await;
    let proxy = start(&format!("{DEFAULTS} server a no-such-host.invalid:1\n server b {alive}\n"));
    for _ in 0..3 {
        assert_eq!(name_of(&mut proxy.connect().await).await, "B");
    }
    proxy.stop().await;
}
