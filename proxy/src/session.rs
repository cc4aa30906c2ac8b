//! The story of one connection: accept, greet, choose a server, connect, relay, close.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use crate::backend::Backend;
use crate::config::{Mode, Settings, Timeouts};
use crate::connect::{self, Ledger};
use crate::counters::{Counters, Moment};
use crate::early::Early;
use crate::frontend::{Entrance, Frontend, Load};
use crate::greeting::{self, Arrived};
use crate::limit::Place;
use crate::process::Process;
use crate::reactor::{self, Stream};
use crate::registry::{Registered, Session, Stage};
use crate::relay::{Plan, Progress, Relay, Silence, Summary};
use crate::server::Server;
use crate::stats;
use crate::tcplog::{End, Line};

/// A connection that was just accepted, with the places it takes.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, non-blocking.
    pub socket: OwnedFd,
    /// Where it came in.
    pub entrance: Arc<Entrance>,
    /// The client; `None` through a unix socket.
    pub client: Option<SocketAddr>,
    /// When.
    pub at: Instant,
    /// It counts in its worker's load.
    pub load: Load,
    /// Its places in the process, in the frontend, in the listener, and among those with TLS.
    pub _places: [Option<Place>; 4],
}

/// Lives one connection to its end.
pub async fn run(process: Arc<Process>, frontend: Arc<Frontend>, accepted: Accepted) {
    let Accepted { socket, entrance, client: peer, at, load: _load, _places } = accepted;
    let now = Moment::at(process.started, at);
    frontend.counters.begin(now);
    process.counters.begin(now);
    if let Some(counters) = &entrance.counters {
        counters.begin(now);
    }
    let session = Registered::new(peer, frontend.clone(), at);
    let stream = Stream::new(socket, false);
    let is_page = frontend.config.settings.mode == Mode::Http;
    let client = peer;
    let peer = peer.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
    if greeting::is_welcome(&process, &frontend, peer, &|| stream.local_addr()) {
        let limit = frontend.config.settings.timeouts.client.or(is_page.then_some(stats::GREETING_LIMIT));
        // What only happens at the beginning, and here only to some, gives its memory back.
        let greeted = if entrance.is_plain() {
            Ok(Arrived::plain(stream, peer))
        } else {
            Box::pin(greeting::greet(&entrance, stream, peer, limit, &session)).await
        };
        match greeted {
            Ok(arrived) if is_page => {
                Box::pin(stats::serve(&process, &frontend, arrived, client, &session)).await;
            }
            Ok(arrived) => talk(&process, &frontend, &entrance, arrived, at, &session).await,
            Err(failure) => {
                for counters in entrance.counters_beside(&frontend.counters) {
                    counters.request_errors.fetch_add(1, Relaxed);
                }
                greeting::log_failure(&frontend, &entrance, peer, wall(at), failure);
            }
        }
    } else {
        entrance.count_denied();
        stream.reset_on_close();
    }
    frontend.counters.end();
    process.counters.end();
    if let Some(counters) = &entrance.counters {
        counters.end();
    }
}

/// From the greeted client to the end of the transfer and its line in the log.
async fn talk(
    process: &Process,
    frontend: &Frontend,
    entrance: &Entrance,
    mut arrived: Arrived,
    at: Instant,
    session: &Session,
) {
    let mut ledger = Ledger::default();
    let early = RefCell::new(Early::default());
    let routed = routed(process, frontend, &mut arrived, &early, session).await;
    let backend = routed.as_ref().ok().and_then(Option::as_ref);
    if matches!(routed, Err(End::Denied)) {
        entrance.count_denied();
    }
    let summary = match (&routed, backend) {
        (Err(end), _) => failure(*end),
        (Ok(_), None) => failure(End::ConnectFailed),
        (Ok(_), Some(backend)) => {
            session.set_backend(backend.clone());
            backend.counters.begin(Moment::at(process.started, reactor::now()));
            let summary =
                serve(process, frontend, entrance, backend, &mut arrived, &early, at, &mut ledger, session)
                    .await;
            backend.counters.end();
            count(frontend, backend, &ledger, summary.end, at);
            summary
        }
    };
    let closing = Closing::of(process, frontend, backend, &arrived, at);
    // The client's socket closes before the line is written: who waits for it need not wait for the log.
    drop(arrived);
    // `option logasap`: the line was written when the server was connected.
    if !frontend.style.is_early() || ledger.connected.is_none() {
        closing.log(&ledger, summary, false);
    }
}

/// Where the client goes, once what rules look at has come.
async fn routed(
    process: &Process,
    frontend: &Frontend,
    arrived: &mut Arrived,
    early: &RefCell<Early>,
    session: &Session,
) -> Result<Option<Arc<Backend>>, End> {
    if frontend.inspects {
        Box::pin(greeting::inspect(process, frontend, None, arrived, early, session)).await?;
    }
    let found = greeting::route(process, frontend, arrived, early)?;
    match &found {
        Some(backend) if backend.name != frontend.name && backend.config().inspect_delay.is_some() => {
            Box::pin(greeting::inspect(process, frontend, Some(backend), arrived, early, session)).await?;
            // What has come meanwhile decides about the same rules.
            greeting::route(process, frontend, arrived, early)
        }
        _ => Ok(found),
    }
}

fn failure(end: End) -> Summary {
    Summary { up: 0, down: 0, end, reset: false }
}

/// Finds a server, connects to it and moves bytes until both have finished.
#[expect(clippy::too_many_arguments, reason = "one call, from the one that owns them all")]
async fn serve(
    process: &Process,
    frontend: &Frontend,
    entrance: &Entrance,
    backend: &Arc<Backend>,
    arrived: &mut Arrived,
    early: &RefCell<Early>,
    at: Instant,
    ledger: &mut Ledger,
    session: &Session,
) -> Summary {
    // The session keeps the settings it began with.
    let config = Arc::clone(&backend.config());
    let settings = &config.settings;
    let wanted = greeting::wanted_server(process, frontend, backend, arrived, early);
    // An idle session has no use for the memory that this takes.
    let connecting =
        connect::connect(process, backend, settings, wanted, arrived, early, at, ledger, session);
    let connected = Box::pin(connecting).await;
    let mut connected = match connected {
        Ok(connected) => connected,
        Err(end) => {
            let up = early.borrow().bytes.len() as u64;
            return Summary { up, ..failure(end) };
        }
    };
    session.set_stage(Stage::Relaying);
    if frontend.logs_addresses() {
        ledger.source = connected.side.stream().local_addr();
    }
    if frontend.style.is_early() {
        let sofar = Summary { up: early.borrow().bytes.len() as u64, ..failure(End::Normal) };
        Closing::of(process, frontend, Some(backend), arrived, at).log(ledger, sofar, true);
    }
    let plan = Plan {
        greeting: connected.greeting,
        sent: connected.sent,
        header: connected.header,
        client_finished: early.borrow().finished,
        silence: silence(&frontend.config.settings.timeouts, &settings.timeouts),
        splice_up: splices(&frontend.config.settings, settings),
        splice_down: splices(&frontend.config.settings, settings),
        independent: settings.independent_streams || frontend.config.settings.independent_streams,
    };
    let counted = Counted { frontend, entrance, backend, server: &connected.lease.server };
    let summary = Relay::new(&mut arrived.side, &mut connected.side, plan, session, &counted).await;
    if summary.reset {
        arrived.side.stream().reset_on_close();
        connected.side.stream().reset_on_close();
    }
    if frontend.config.settings.nolinger {
        arrived.side.stream().reset_on_close();
    }
    if settings.nolinger {
        connected.side.stream().reset_on_close();
    }
    connected.lease.server.counters.end();
    // The socket closes before the place is given to the next one.
    drop(connected.side);
    summary
}

fn splices(front: &Settings, back: &Settings) -> bool {
    front.splice && back.splice
}

fn silence(front: &Timeouts, back: &Timeouts) -> Silence {
    Silence {
        client: back.tunnel.or(front.client),
        server: back.tunnel.or(back.server),
        client_fin: front.client_fin,
        server_fin: back.server_fin,
    }
}

/// Where moved bytes are counted.
struct Counted<'a> {
    frontend: &'a Frontend,
    entrance: &'a Entrance,
    backend: &'a Backend,
    server: &'a Server,
}

impl Progress for Counted<'_> {
    fn moved(&self, up: u64, down: u64) {
        let all = [&*self.frontend.counters, &self.backend.counters, &self.server.counters];
        for counters in all.into_iter().chain(self.entrance.counters.as_deref()) {
            counters.bytes_in.fetch_add(up, Relaxed);
            counters.bytes_out.fetch_add(down, Relaxed);
        }
    }
}

/// How it ended, for the statistics page.
fn count(frontend: &Frontend, backend: &Backend, ledger: &Ledger, end: End, accepted: Instant) {
    let server = ledger.server.as_ref().map(|server| &server.counters);
    let total = u64::try_from(since(accepted).as_millis()).unwrap_or(u64::MAX);
    for counters in [Some(&backend.counters), server].into_iter().flatten() {
        match end {
            End::ClientAbort | End::ClientConnect | End::ClientQueue => {
                counters.client_aborts.fetch_add(1, Relaxed);
            }
            End::ServerAbort => {
                counters.server_aborts.fetch_add(1, Relaxed);
            }
            _ => {}
        }
        if let Some(connected) = ledger.connected {
            counters.times.connect.add(millis(connected).unsigned_abs());
            counters.times.queue.add(ledger.waited.map_or(0, |time| millis(time).unsigned_abs()));
            counters.times.total.add(total);
        }
    }
    if matches!(end, End::ClientAbort | End::ClientConnect | End::ClientQueue) {
        frontend.counters.client_aborts.fetch_add(1, Relaxed);
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn since(moment: Instant) -> Duration {
    reactor::now().saturating_duration_since(moment)
}

/// The wall clock at a moment of the past.
fn wall(at: Instant) -> SystemTime {
    SystemTime::now().checked_sub(at.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What the line in the log is about.
struct Closing<'a> {
    process: &'a Process,
    frontend: &'a Frontend,
    backend: Option<&'a Arc<Backend>>,
    client: SocketAddr,
    /// Where the client came to, when the line shows it.
    local: Option<SocketAddr>,
    /// Version and cipher towards the client.
    tls: Option<(&'static str, &'static str)>,
    at: Instant,
}

impl<'a> Closing<'a> {
    fn of(
        process: &'a Process,
        frontend: &'a Frontend,
        backend: Option<&'a Arc<Backend>>,
        arrived: &Arrived,
        at: Instant,
    ) -> Self {
        let local = if frontend.logs_addresses() { arrived.destination() } else { None };
        let tls = arrived.side.is_tls().then(|| arrived.side.tls().map_or(("-", "-"), tls_words));
        Self { process, frontend, backend, client: arrived.source, local, tls, at }
    }

    /// One line.
    fn log(&self, ledger: &Ledger, summary: Summary, early: bool) {
        let (frontend, backend) = (self.frontend, self.backend);
        if frontend.logger.is_silent() {
            return;
        }
        let now = |counters: &Counters| counters.current.load(Relaxed);
        // Counted down already, but this session belongs to what the line shows.
        let line = Line {
            client: self.client,
            accepted: wall(self.at),
            frontend: &frontend.name,
            backend: backend.map_or(&frontend.name, |backend| &backend.name),
            server: ledger.server.as_ref().map_or("<NOSRV>", |server| server.name()),
            waited_ms: ledger.waited.map_or(-1, millis),
            connect_ms: ledger.connected.map_or(-1, millis),
            total_ms: millis(since(self.at)),
            bytes: summary.down,
            bytes_in: summary.up,
            handshake_ms: 0,
            local: self.local,
            source: ledger.source,
            target: ledger.server.as_ref().and_then(|server| server.known_address()),
            tls: self.tls,
            early,
            end: summary.end,
            process: now(&self.process.counters),
            frontend_connections: now(&frontend.counters),
            backend_connections: backend.map_or(0, |backend| now(&backend.counters)),
            server_connections: ledger.server.as_ref().map_or(0, |server| now(&server.counters)),
            retries: ledger.retries,
            redispatched: ledger.redispatched,
            queues: ledger.queues,
        };
        frontend.style.write(&frontend.logger, &line);
    }
}

/// Version and cipher in HAProxy's words.
fn tls_words(state: &rustls::CommonState) -> (&'static str, &'static str) {
    let version = match state.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "-",
    };
    let cipher = state.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("-");
    // HAProxy has OpenSSL's names; those of TLS 1.3 differ by their beginning only.
    (version, cipher.strip_prefix("TLS13_").unwrap_or(cipher))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// What every idle connection holds.
    #[test]
    fn a_session_is_small() {
        assert!(size(run) <= 1600, "{} bytes", size(run));
    }
}
