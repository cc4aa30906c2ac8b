//! From a client that wants a server to a connection with one: choose, wait for a place, connect, try again.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::backend::{Backend, Choice, Lease};
use crate::balance::Visitor;
use crate::config::address::Port;
use crate::config::{Algorithm, HashKey, Settings};
use crate::counters::{Counters, Moment};
use crate::early::{Early, Gone};
use crate::greeting::Arrived;
use crate::outgoing;
use crate::process::Process;
use crate::proxy_protocol;
use crate::reactor::{self, Stream};
use crate::registry::{Session, Stage};
use crate::server::Server;
use crate::side::Side;
use crate::tcplog::End;

/// Pause before the same server is tried again (HAProxy: the smaller of this and `timeout connect`).
const TURN_AROUND: Duration = Duration::from_secs(1);

/// What is known of the way to a server, for the log and the counters.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Time until a server was chosen.
    pub waited: Option<Duration>,
    /// Time to connect.
    pub connected: Option<Duration>,
    /// Repeated attempts.
    pub retries: u32,
    /// Another server was tried.
    pub redispatched: bool,
    /// The last server.
    pub server: Option<Arc<Server>>,
    /// Connections that waited before this one: for the server, for the backend.
    pub queues: (u32, u32),
    /// Our address towards the server, when the line in the log shows it.
    pub source: Option<SocketAddr>,
}

/// A connection to a server.
pub struct Connected {
    /// The connection.
    pub side: Side,
    /// The place on the server.
    pub lease: Lease,
    /// What is still to be sent to the server first.
    pub greeting: Vec<u8>,
    /// How many bytes of the greeting, sent or not, are none of the client's.
    pub header: u64,
    /// How many bytes of it have been sent.
    pub sent: u64,
}

/// Finds a server that takes the connection.
///
/// # Errors
/// How the session ends instead.
#[expect(clippy::too_many_arguments, reason = "one call, from the session that owns them all")]
pub async fn connect(
    process: &Process,
    backend: &Arc<Backend>,
    settings: &Settings,
    wanted: Option<Arc<Server>>,
    arrived: &mut Arrived,
    early: &RefCell<Early>,
    accepted: Instant,
    ledger: &mut Ledger,
    session: &Session,
) -> Result<Connected, End> {
    let mut client = Client::of(arrived, wanted, session.id());
    let watch = Watch { early, session, abort_on_close: settings.abortonclose };
    let told = arrived.told();
    let side = &mut arrived.side;
    let mut lease = take_place(backend, settings, &client, side, None, &watch, accepted, ledger).await?;
    loop {
        ledger.server = Some(lease.server.clone());
        session.set_server(ledger.server.clone());
        session.set_stage(Stage::Connecting);
        for counters in [&lease.server.counters, &backend.counters] {
            counters.chosen.fetch_add(1, Relaxed);
        }
        // Every attempt is a session of the server, as HAProxy counts them.
        lease.server.counters.begin(Moment::at(process.started, reactor::now()));
        let begun = reactor::now();
        if client.local.is_none() && needs_local(&lease.server) {
            client.local = told.or_else(|| side.stream().local_addr());
        }
        let attempt = open(&lease, settings, &client, early);
        let attempt = watch.run(side, reactor::timeout(settings.timeouts.connect, attempt)).await;
        let (end, refused) = match attempt {
            Ok(Some(Ok(opened))) => {
                backend.observed(&lease.server, true);
                ledger.connected = Some(reactor::now().saturating_duration_since(begun));
                for counters in [&lease.server.counters, &backend.counters] {
                    counters.connected.fetch_add(1, Relaxed);
                }
                return Ok(opened.with(lease));
            }
            Ok(Some(Err(error))) if is_ours(&error) => {
                tracing::warn!(%error, "cannot make a socket");
                (End::Resource, false)
            }
            Ok(Some(Err(error))) if error.kind() == io::ErrorKind::TimedOut => (End::ConnectTimeout, false),
            Ok(Some(Err(error))) => {
                tracing::debug!(server = %lease.server.full_name(), %error, "cannot connect");
                (End::ConnectFailed, true)
            }
            Ok(None) => (End::ConnectTimeout, false),
            Err(stopped) => {
                lease.server.counters.end();
                return Err(stopped.end(End::ClientConnect));
            }
        };
        if end != End::Resource {
            backend.observed(&lease.server, false);
        }
        lease.server.counters.end();
        if ledger.retries >= settings.retries || end == End::Resource {
            for counters in [&lease.server.counters, &backend.counters] {
                counters.connect_errors.fetch_add(1, Relaxed);
            }
            return Err(end);
        }
        ledger.retries += 1;
        lease =
            next_place(backend, settings, &client, side, lease, refused, &watch, accepted, ledger).await?;
        // A long row of failures must not hold the thread.
        reactor::yield_now().await;
    }
}

/// The place for the next attempt: on another server, or after a pause on the same.
#[expect(clippy::too_many_arguments, reason = "one call, see above")]
async fn next_place(
    backend: &Arc<Backend>,
    settings: &Settings,
    client: &Client,
    side: &mut Side,
    lease: Lease,
    refused: bool,
    watch: &Watch<'_>,
    accepted: Instant,
    ledger: &mut Ledger,
) -> Result<Lease, End> {
    let failed = lease.server.clone();
    let moves = moves_on(backend, settings, client, &lease, ledger.retries, refused);
    drop(lease);
    let lease = if moves {
        take_place(backend, settings, client, side, Some(&failed), watch, accepted, ledger).await?
    } else {
        if refused {
            let pause = settings.timeouts.connect.map_or(TURN_AROUND, |limit| limit.min(TURN_AROUND));
            let waited = watch.run(side, reactor::sleep(pause)).await;
            waited.map_err(|stopped| stopped.end(End::ClientConnect))?;
        }
        match backend.again(&failed) {
            Some(lease) => lease,
            None => {
                take_place(backend, settings, client, side, Some(&failed), watch, accepted, ledger).await?
            }
        }
    };
    let moved = !Arc::ptr_eq(&lease.server, &failed);
    ledger.redispatched |= moved;
    for counters in [&failed.counters, &backend.counters] {
        let counter = |counters: &'_ Counters| {
            if moved { &counters.redispatches } else { &counters.retries }.fetch_add(1, Relaxed);
        };
        counter(counters);
    }
    Ok(lease)
}

/// Whether the next attempt goes to another server. `option redispatch N` decides as in HAProxy; and
/// where nothing binds the client to its server, a refusal moves it on at once.
fn moves_on(
    backend: &Backend,
    settings: &Settings,
    client: &Client,
    lease: &Lease,
    retry: u32,
    refused: bool,
) -> bool {
    let others = backend.usable_count() > usize::from(lease.server.is_usable());
    let due = settings.redispatch.is_some_and(|every| {
        let (retry, all) = (i64::from(retry), i64::from(settings.retries));
        match i64::from(every) {
            every @ 1.. => retry % every == 0,
            every => retry % (all + 1 + every).max(1) == 0,
        }
    });
    let free = settings.balance.is_free_to_move() && client.wanted.is_none();
    due || (free && others && (refused || settings.redispatch.is_some()))
}

/// A server with a free place, waiting for one if need be.
#[expect(clippy::too_many_arguments, reason = "one call, see above")]
async fn take_place(
    backend: &Arc<Backend>,
    settings: &Settings,
    client: &Client,
    side: &mut Side,
    avoid: Option<&Arc<Server>>,
    watch: &Watch<'_>,
    accepted: Instant,
    ledger: &mut Ledger,
) -> Result<Lease, End> {
    let destination = match settings.balance {
        Algorithm::Hash(HashKey::Destination | HashKey::DestinationPort) => {
            client.local.or_else(|| side.stream().local_addr())
        }
        _ => None,
    };
    let visitor = Visitor { source: client.source, destination };
    let choice = match &client.wanted {
        // A rule's server comes first; once a redispatch is due, any other will do.
        Some(wanted) if avoid.is_none() => backend.choose_server(visitor, wanted),
        _ => backend.choose(visitor, avoid),
    };
    let mut pending = match choice {
        Choice::Now(lease) => {
            ledger.waited.get_or_insert_with(|| reactor::now().saturating_duration_since(accepted));
            return Ok(lease);
        }
        Choice::Nobody => return Err(End::ConnectFailed),
        Choice::Wait(pending) => pending,
    };
    ledger.queues = pending.queues();
    watch.session.set_stage(Stage::Queued);
    // HAProxy: `timeout queue` is `timeout connect` when unset.
    let limit = settings.timeouts.queue.or(settings.timeouts.connect);
    let place = watch.run(side, reactor::timeout(limit, pending.wait())).await;
    ledger.waited = Some(reactor::now().saturating_duration_since(accepted));
    match place {
        Ok(place) => place.flatten().ok_or(End::QueueTimeout),
        Err(stopped) => Err(stopped.end(End::ClientQueue)),
    }
}

/// Who wants a server.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its address, as the PROXY protocol may have told it.
    pub source: SocketAddr,
    /// Where it came to; only known when somebody needs it.
    pub local: Option<SocketAddr>,
    /// The name it asked for in its TLS greeting.
    pub name: Option<String>,
    /// Its TLS.
    pub tls: Option<ClientTls>,
    /// The number of its session.
    pub id: u64,
    /// The server that a rule sends it to (`use-server`).
    pub wanted: Option<Arc<Server>>,
}

/// A client's TLS, for PROXY headers.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// `TLSv1.3`
    pub version: &'static str,
    /// The cipher in rustls's words.
    pub cipher: Option<String>,
    /// It showed a certificate, which was verified.
    pub certificate: bool,
    /// The common name in that.
    pub common_name: Option<String>,
}

impl Client {
    fn of(arrived: &Arrived, wanted: Option<Arc<Server>>, id: u64) -> Self {
        let tls = arrived.side.tls().map(|tls| ClientTls {
            version: match tls.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: tls.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())),
            certificate: tls.peer_certificates().is_some_and(|chain| !chain.is_empty()),
            common_name: tls.peer_certificates().and_then(|chain| crate::tls::common_name(chain.first()?)),
        });
        Self { source: arrived.source, local: None, name: arrived.name(), tls, id, wanted }
    }
}

/// Whether the way to a server depends on where the client came to.
fn needs_local(server: &Server) -> bool {
    let config = server.config();
    config.options.send_proxy.is_some() || matches!(config.address.port, Port::Relative(_))
}

/// Looks at the client and at orders from outside while something else is under way.
struct Watch<'a> {
    early: &'a RefCell<Early>,
    session: &'a Session,
    abort_on_close: bool,
}

/// Why what was under way is given up.
enum Stopped {
    Gone(Gone),
    Killed(crate::registry::Cause),
}

impl Stopped {
    /// `closed` is how it is called when the client closes at this stage.
    fn end(&self, closed: End) -> End {
        match self {
            Self::Gone(Gone::Closed) => closed,
            // HAProxy: an error of the client is always "during data".
            Self::Gone(Gone::Broken) => End::ClientAbort,
            Self::Killed(cause) => End::Killed(*cause),
        }
    }
}

impl Watch<'_> {
    async fn run<F: Future>(&self, client: &mut Side, work: F) -> Result<F::Output, Stopped> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|context| {
            if let Some(cause) = self.session.asked_to_close(context.waker()) {
                return Poll::Ready(Err(Stopped::Killed(cause)));
            }
            // First, so that what the client has sent already goes with the connection.
            let early = self.early.borrow_mut().poll(context, client, self.abort_on_close);
            if let Poll::Ready(gone) = early {
                return Poll::Ready(Err(Stopped::Gone(gone)));
            }
            work.as_mut().poll(context).map(Ok)
        })
        .await
    }
}

/// A connection that stands.
struct Opened {
    side: Side,
    greeting: Vec<u8>,
    header: u64,
    sent: u64,
}

impl Opened {
    fn with(self, lease: Lease) -> Connected {
        let Self { side, greeting, header, sent } = self;
        Connected { side, lease, greeting, header, sent }
    }
}

/// One attempt.
async fn open(
    lease: &Lease,
    settings: &Settings,
    client: &Client,
    early: &RefCell<Early>,
) -> io::Result<Opened> {
    let server = &lease.server;
    let config = server.config();
    let options = &config.options;
    let target = outgoing::target(server, client)?;
    let socket = outgoing::socket(&target, settings, options, client)?;
    let mut greeting = match options.send_proxy {
        Some(version) => proxy_protocol::header(version, options.proxy_v2_options, client),
        None => Vec::new(),
    };
    let header = greeting.len() as u64;
    if !options.tls.enabled {
        greeting.extend_from_slice(&early.borrow().bytes);
    }
    if target.is_tcp() && !greeting.is_empty() {
        outgoing::hold_back_ack(&socket);
    }
    let stands = target.connect(&socket)?;
    let mut stream =
        if stands { Stream::new(socket, false) } else { Stream::connecting(socket, target.is_tcp()) };
    let mut sent = 0;
    if !stands && !greeting.is_empty() {
        sent = stream.try_first(&greeting)?;
    }
    if !stands && sent == 0 {
        stream.connected().await?;
    }
    if sent > 0 {
        greeting.drain(..sent);
    }
    let mut side = Side::Plain(stream);
    if options.tls.enabled {
        side.send_all(&greeting).await?;
        side = Box::pin(outgoing::encrypt(side, server, client)).await?;
        return Ok(Opened { side, greeting: early.borrow().bytes.clone(), header: 0, sent: 0 });
    }
    // The client may have sent more meanwhile: a greeting holds what had come when the attempt began.
    let known = header as usize;
    let taken = greeting.len() + sent - known;
    greeting.extend_from_slice(early.borrow().bytes.get(taken..).unwrap_or_default());
    Ok(Opened { side, greeting, header, sent: sent as u64 })
}

/// This host has no socket, port or memory left.
fn is_ours(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM | EAGAIN | EADDRNOTAVAIL))
}
