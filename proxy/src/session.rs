//! The story of one connection: accept, choose a server, connect, relay, close.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::backend::{Backend, Choice, Lease};
use crate::config::rules::admits;
use crate::config::{ProxyProtocol, Settings, Timeouts};
use crate::counters::Moment;
use crate::frontend::Frontend;
use crate::process::Process;
use crate::relay::{Progress, Relay, Silence, Summary};
use crate::server::Server;
use crate::syslog::level;
use crate::tcplog::{End, Line};

/// Pause before the same server is tried again (HAProxy: the smaller of this and `timeout connect`).
const TURN_AROUND: Duration = Duration::from_secs(1);

/// A connection that was just accepted, with the places it takes.
#[derive(Debug)]
pub struct Accepted {
    /// The socket.
    pub socket: Incoming,
    /// The client.
    pub client: SocketAddr,
    /// When.
    pub at: Instant,
    /// When, by the wall clock.
    pub wall: SystemTime,
    /// Its place in the process.
    pub _process_place: OwnedSemaphorePermit,
    /// Its place in the frontend.
    pub _frontend_place: OwnedSemaphorePermit,
}

/// An accepted socket.
#[derive(Debug)]
pub enum Incoming {
    /// Known to the reactor of this thread.
    Here(TcpStream),
    /// On its way to another thread; non-blocking.
    Moving(std::net::TcpStream),
}

impl Incoming {
    /// Takes it out of this thread's reactor.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn leave(self) -> std::io::Result<Self> {
        match self {
            Self::Here(stream) => stream.into_std().map(Self::Moving),
            moving @ Self::Moving(_) => Ok(moving),
        }
    }

    fn arrive(self) -> std::io::Result<TcpStream> {
        match self {
            Self::Here(stream) => Ok(stream),
            Self::Moving(socket) => TcpStream::from_std(socket),
        }
    }
}

/// What is known when the connection ends.
struct Ledger {
    waited: Option<Duration>,
    connected: Option<Duration>,
    retries: u32,
    redispatched: bool,
    server: Option<Arc<Server>>,
}

/// Lives one connection to its end.
pub async fn run(process: Arc<Process>, frontend: Arc<Frontend>, accepted: Accepted) {
    let Accepted { socket, client, at, wall, _process_place, _frontend_place } = accepted;
    let now = Moment::since(process.started);
    frontend.counters.begin(now);
    process.counters.begin(now);
    let mut ledger = Ledger { waited: None, connected: None, retries: 0, redispatched: false, server: None };
    let backend = frontend.backend_for(&client).cloned();
    let is_admitted = admits(&frontend.config.client_rules, &client)
        && backend.as_ref().is_none_or(|backend| admits(&backend.config().client_rules, &client));
    let summary = match socket.arrive() {
        Ok(_) if !is_admitted => {
            frontend.counters.denied.fetch_add(1, Relaxed);
            failure(End::Denied)
        }
        Ok(stream) => {
            set_options(&stream, frontend.config.settings.client_keepalive);
            serve(&process, &frontend, backend.as_ref(), stream, client, at, &mut ledger).await
        }
        Err(error) => {
            tracing::warn!(%error, "cannot register a connection");
            failure(End::Resource)
        }
    };
    close(&process, &frontend, backend.as_ref(), Arrival { client, at, wall }, &ledger, summary);
}

fn failure(end: End) -> Summary {
    Summary { up: 0, down: 0, end, reset: false }
}

/// From the accepted socket to the end of the transfer.
async fn serve(
    process: &Process,
    frontend: &Frontend,
    backend: Option<&Arc<Backend>>,
    mut client: TcpStream,
    client_address: SocketAddr,
    accepted: Instant,
    ledger: &mut Ledger,
) -> Summary {
    let Some(backend) = backend else { return failure(End::ConnectFailed) };
    backend.counters.begin(Moment::since(process.started));
    // The session keeps the settings it began with.
    let settings = &Arc::clone(&backend.config()).settings;
    let connected = connect(process, backend, settings, &client, client_address, accepted, ledger).await;
    let summary = match connected {
        Err(end) => failure(end),
        Ok((mut server, lease)) => {
            let greeting = match lease.server.config().options.send_proxy {
                Some(version) => proxy_header(version, client_address, client.local_addr().ok()),
                None => Vec::new(),
            };
            let counted = Counted { frontend, backend, server: &lease.server };
            let mut sleep = std::pin::pin!(tokio::time::sleep(Duration::from_secs(3600)));
            let summary = Relay::new(
                &mut client,
                &mut server,
                greeting,
                silence(&frontend.config.settings.timeouts, &settings.timeouts),
                sleep.as_mut(),
                settings.splice,
                &counted,
            )
            .await;
            if summary.reset {
                reset(&client);
                reset(&server);
            }
            lease.server.counters.end();
            // The sockets close before the place is given to the next one.
            drop((client, server));
            summary
        }
    };
    backend.counters.end();
    count(frontend, backend, ledger, summary.end, accepted);
    summary
}

/// Finds a server that takes the connection.
async fn connect(
    process: &Process,
    backend: &Arc<Backend>,
    settings: &Settings,
    stream: &TcpStream,
    client: SocketAddr,
    accepted: Instant,
    ledger: &mut Ledger,
) -> Result<(TcpStream, Lease), End> {
    let limit = settings.timeouts.connect;
    let mut lease = take_place(backend, settings, client, None).await?;
    ledger.waited = Some(accepted.elapsed());
    loop {
        ledger.server = Some(lease.server.clone());
        lease.server.counters.chosen.fetch_add(1, Relaxed);
        backend.counters.chosen.fetch_add(1, Relaxed);
        // Every attempt is a session of the server, as HAProxy counts them.
        lease.server.counters.begin(Moment::since(process.started));
        let (end, refused) = match open(&lease, stream, limit).await {
            Ok(stream) => {
                set_options(&stream, settings.server_keepalive);
                ledger.connected = Some(accepted.elapsed().saturating_sub(ledger.waited.unwrap_or_default()));
                lease.server.counters.connected.fetch_add(1, Relaxed);
                backend.counters.connected.fetch_add(1, Relaxed);
                return Ok((stream, lease));
            }
            Err(OpenError::Refused(error)) => {
                tracing::debug!(server = %lease.server.full_name(), %error, "cannot connect");
                (End::ConnectFailed, true)
            }
            Err(OpenError::Timeout) => (End::ConnectTimeout, false),
            Err(OpenError::Ours(error)) => {
                tracing::warn!(%error, "cannot make a socket");
                (End::Resource, false)
            }
        };
        lease.server.counters.end();
        if ledger.retries >= settings.retries || end == End::Resource {
            lease.server.counters.connect_errors.fetch_add(1, Relaxed);
            backend.counters.connect_errors.fetch_add(1, Relaxed);
            return Err(end);
        }
        ledger.retries += 1;
        let failed = lease.server.clone();
        if moves_on(backend, settings, &lease, ledger.retries, refused) {
            drop(lease);
            lease = take_place(backend, settings, client, Some(&failed)).await?;
        } else {
            drop(lease);
            if refused {
                tokio::time::sleep(limit.map_or(TURN_AROUND, |limit| limit.min(TURN_AROUND))).await;
            }
            lease = match backend.again(&failed) {
                Some(lease) => lease,
                None => take_place(backend, settings, client, Some(&failed)).await?,
            };
        }
        let counter = |counters: &crate::counters::Counters, moved: bool| {
            if moved { &counters.redispatches } else { &counters.retries }.fetch_add(1, Relaxed);
        };
        let moved = !Arc::ptr_eq(&lease.server, &failed);
        ledger.redispatched |= moved;
        counter(&failed.counters, moved);
        counter(&backend.counters, moved);
        // A long row of failures must not hold the thread.
        process.yield_now().await;
    }
}

/// Whether the next attempt goes to another server. `option redispatch N` decides as in HAProxy; and
/// where nothing binds the client to its server, a refusal moves it on at once.
fn moves_on(backend: &Backend, settings: &Settings, lease: &Lease, retry: u32, refused: bool) -> bool {
    let others = backend.usable_count() > usize::from(lease.server.is_usable());
    let due = settings.redispatch.is_some_and(|every| {
        let (retry, all) = (i64::from(retry), i64::from(settings.retries));
        match i64::from(every) {
            every @ 1.. => retry % every == 0,
            every => retry % (all + 1 + every).max(1) == 0,
        }
    });
    let free = settings.balance.is_free_to_move();
    due || (free && others && (refused || settings.redispatch.is_some()))
}

/// A server with a free place, waiting for one if need be.
async fn take_place(
    backend: &Arc<Backend>,
    settings: &Settings,
    client: SocketAddr,
    avoid: Option<&Arc<Server>>,
) -> Result<Lease, End> {
    let mut pending = match backend.choose(client.ip(), avoid) {
        Choice::Now(lease) => return Ok(lease),
        Choice::Nobody => return Err(End::ConnectFailed),
        Choice::Wait(pending) => pending,
    };
    let timeouts = &settings.timeouts;
    // HAProxy: `timeout queue` is `timeout connect` when unset.
    let place = match timeouts.queue.or(timeouts.connect) {
        Some(limit) => tokio::time::timeout(limit, pending.wait()).await.unwrap_or(None),
        None => pending.wait().await,
    };
    place.ok_or(End::QueueTimeout)
}

enum OpenError {
    /// The server or the network said no.
    Refused(std::io::Error),
    /// Nobody answered in time.
    Timeout,
    /// This host has no socket, port or memory left.
    Ours(std::io::Error),
}

async fn open(lease: &Lease, client: &TcpStream, limit: Option<Duration>) -> Result<TcpStream, OpenError> {
    let address = lease
        .server
        .connect_address(|| client.local_addr().map_or(0, |address| address.port()))
        .ok_or_else(|| OpenError::Refused(std::io::ErrorKind::AddrNotAvailable.into()))?;
    let attempt = TcpStream::connect(address);
    let result = match limit {
        Some(limit) => tokio::time::timeout(limit, attempt).await.map_err(|_| OpenError::Timeout)?,
        None => attempt.await,
    };
    result.map_err(|error| match error.raw_os_error() {
        Some(
            nix::libc::EMFILE
            | nix::libc::ENFILE
            | nix::libc::ENOBUFS
            | nix::libc::ENOMEM
            | nix::libc::EAGAIN,
        ) => OpenError::Ours(error),
        Some(nix::libc::ETIMEDOUT) => OpenError::Timeout,
        _ => OpenError::Refused(error),
    })
}

fn set_options(stream: &TcpStream, keepalive: bool) {
    // Neither is needed for correctness.
    let _ = stream.set_nodelay(true);
    if keepalive {
        let idle =
            TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
        let _ = SockRef::from(&stream.as_fd()).set_tcp_keepalive(&idle);
    }
}

/// The next close of this socket sends a reset.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(&stream.as_fd()).set_linger(Some(Duration::ZERO));
}

fn silence(front: &Timeouts, back: &Timeouts) -> Silence {
    let tunnel = back.tunnel;
    Silence {
        client: tunnel.or(front.client),
        server: tunnel.or(back.server),
        client_fin: front.client_fin,
        server_fin: back.server_fin,
    }
}

/// Where moved bytes are counted.
struct Counted<'a> {
    frontend: &'a Frontend,
    backend: &'a Backend,
    server: &'a Server,
}

impl Progress for Counted<'_> {
    fn moved(&self, up: u64, down: u64) {
        for counters in [&self.frontend.counters, &self.backend.counters, &self.server.counters] {
            counters.bytes_in.fetch_add(up, Relaxed);
            counters.bytes_out.fetch_add(down, Relaxed);
        }
    }
}

/// How it ended, for the statistics page.
fn count(frontend: &Frontend, backend: &Backend, ledger: &Ledger, end: End, accepted: Instant) {
    let server = ledger.server.as_ref().map(|server| &server.counters);
    let all = [Some(&backend.counters), server];
    let total = u64::try_from(accepted.elapsed().as_millis()).unwrap_or(u64::MAX);
    for counters in all.into_iter().flatten() {
        match end {
            End::ClientAbort => counters.client_aborts.fetch_add(1, Relaxed),
            End::ServerAbort => counters.server_aborts.fetch_add(1, Relaxed),
            _ => 0,
        };
        if let Some(connected) = ledger.connected {
            counters.times.connect.add(millis(connected).unsigned_abs());
            counters.times.queue.add(ledger.waited.map_or(0, |time| millis(time).unsigned_abs()));
            counters.times.total.add(total);
        }
    }
    if end == End::ClientAbort {
        frontend.counters.client_aborts.fetch_add(1, Relaxed);
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Who came and when.
struct Arrival {
    client: SocketAddr,
    at: Instant,
    wall: SystemTime,
}

/// Counters down, one log line.
fn close(
    process: &Process,
    frontend: &Frontend,
    backend: Option<&Arc<Backend>>,
    arrival: Arrival,
    ledger: &Ledger,
    summary: Summary,
) {
    let settings = &frontend.config.settings;
    let wanted = !settings.dontlognull || summary.up > 0;
    if wanted && !frontend.logger.is_silent() {
        if settings.tcplog {
            let now = |counters: &crate::counters::Counters| counters.current.load(Relaxed);
            let line = Line {
                client: arrival.client,
                accepted: arrival.wall,
                frontend: &frontend.name,
                backend: backend.map_or(&frontend.name, |backend| &backend.name),
                server: ledger.server.as_ref().map_or("<NOSRV>", |server| server.name()),
                waited_ms: ledger.waited.map_or(-1, millis),
                connect_ms: ledger.connected.map_or(-1, millis),
                total_ms: millis(arrival.at.elapsed()),
                bytes: summary.down,
                end: summary.end,
                process: now(&process.counters),
                frontend_connections: now(&frontend.counters),
                backend_connections: backend.map_or(0, |backend| now(&backend.counters)),
                server_connections: ledger.server.as_ref().map_or(0, |server| now(&server.counters)),
                retries: ledger.retries,
                redispatched: ledger.redispatched,
                queues: (
                    ledger.server.as_ref().map_or(0, |server| server.counters.pending.load(Relaxed)),
                    backend.map_or(0, |backend| backend.counters.pending.load(Relaxed)),
                ),
            };
            frontend.logger.send(level::INFO, &line.to_string());
        } else {
            let text = format!(
                "Connect from {}:{} ({}/TCP)",
                arrival.client.ip().to_canonical(),
                arrival.client.port(),
                frontend.name
            );
            frontend.logger.send(level::INFO, &text);
        }
    }
    frontend.counters.end();
    process.counters.end();
}

/// The PROXY protocol header that names the client (specification sections 2.1 and 2.2).
fn proxy_header(version: ProxyProtocol, client: SocketAddr, local: Option<SocketAddr>) -> Vec<u8> {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let source = canonical(client);
    let target = local.map(canonical).filter(|target| target.is_ipv4() == source.is_ipv4());
    match (version, target) {
        (ProxyProtocol::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
        (ProxyProtocol::V1, Some(target)) => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", source.ip(), target.ip(), source.port(), target.port())
                .into_bytes()
        }
        (ProxyProtocol::V2, target) => {
            let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
            let octets = |address: SocketAddr| match address.ip() {
                std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
                std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            match target {
                None => header.extend([0, 0, 0]),
                Some(target) => {
                    let (family, length): (u8, u16) = if source.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
                    header.push(family);
                    header.extend(length.to_be_bytes());
                    header.extend(octets(source));
                    header.extend(octets(target));
                    header.extend(source.port().to_be_bytes());
                    header.extend(target.port().to_be_bytes());
                }
            }
            header
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_headers_are_as_specified() {
        let client: SocketAddr = "192.168.0.1:56324".parse().unwrap();
        let local: SocketAddr = "192.168.0.11:443".parse().unwrap();
        assert_eq!(
            proxy_header(ProxyProtocol::V1, client, Some(local)),
            b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
        );
        assert_eq!(proxy_header(ProxyProtocol::V1, client, None), b"PROXY UNKNOWN\r\n");
        let header = proxy_header(ProxyProtocol::V2, client, Some(local));
        assert_eq!(&header[..12], b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(header[12..16], [0x21, 0x11, 0, 12]);
        assert_eq!(header[16..], [192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 1, 0xbb]);
        let six: SocketAddr = "[::1]:1".parse().unwrap();
        assert_eq!(proxy_header(ProxyProtocol::V2, six, Some(six)).len(), 16 + 36);
        assert_eq!(proxy_header(ProxyProtocol::V2, six, Some(local)).len(), 16);
    }
}
