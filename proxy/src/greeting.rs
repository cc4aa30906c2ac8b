//! The first moments of a connection: may it come in, a PROXY protocol header, the TLS handshake, and which
//! backend it goes to.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio_rustls::TlsAcceptor;

use crate::backend::Backend;
use crate::config::rules::{self, Facts, Number};
use crate::content::Content;
use crate::early::{Early, Gone};
use crate::frontend::{Entrance, Frontend};
use crate::process::Process;
use crate::proxy_protocol::{self, Found};
use crate::reactor::{self, Stream};
use crate::registry::Session;
use crate::relay::with_buffer;
use crate::server::Server;
use crate::side::Side;
use crate::tcplog::{Accepted, End};
use crate::tls;

/// A client that has introduced itself.
#[derive(Debug)]
pub struct Arrived {
    /// Its connection.
    pub side: Side,
    /// Its address, as a PROXY protocol header told it.
    pub source: SocketAddr,
    /// Where it came to, when a header told it.
    told: Option<SocketAddr>,
}

impl Arrived {
    /// A client that need not introduce itself.
    pub fn plain(stream: Stream, source: SocketAddr) -> Self {
        Self { side: Side::Plain(stream), source, told: None }
    }

    /// Where it came to.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.told.or_else(|| self.side.stream().local_addr())
    }

    /// Where a header said it came to.
    pub fn told(&self) -> Option<SocketAddr> {
        self.told
    }

    /// The name it asked for in its TLS greeting.
    pub fn name(&self) -> Option<String> {
        self.side.server_name().map(str::to_owned)
    }
}

/// Why a greeting came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No PROXY header came in time.
    HeaderTimeout,
    /// The connection was closed before the header.
    HeaderMissing,
    /// Only a part of a header came.
    HeaderTruncated,
    /// What came is no header.
    HeaderWrong,
    /// What came begins as a header, but is none.
    HeaderInvalid,
    /// The header tells addresses of a family that nobody knows.
    HeaderUnhandled,
    /// No TLS handshake came in time.
    TlsTimeout,
    /// The TLS handshake went wrong.
    Tls,
    /// Somebody closed the session.
    Closed,
}

impl Failure {
    /// HAProxy's words.
    fn text(self) -> &'static str {
        match self {
            Self::HeaderTimeout => "Timeout while waiting for PROXY protocol header",
            Self::HeaderMissing => "Connection closed while waiting for PROXY protocol header",
            Self::HeaderTruncated => "Truncated PROXY protocol header received",
            Self::HeaderWrong => "Received something which does not look like a PROXY protocol header",
            Self::HeaderInvalid => "Received an invalid PROXY protocol header",
            Self::HeaderUnhandled => "Received an unhandled protocol in the PROXY protocol header",
            Self::TlsTimeout => "Timeout during SSL handshake",
            Self::Tls => "SSL handshake failure",
            Self::Closed => "Connection closed",
        }
    }
}

/// Whether the rules for connections let it in.
pub fn is_welcome(
    process: &Process,
    frontend: &Frontend,
    peer: SocketAddr,
    local: &dyn Fn() -> Option<SocketAddr>,
) -> bool {
    let rules = &frontend.config.client_rules;
    if rules.is_empty() {
        return true;
    }
    let facts = Known {
        process,
        frontend,
        backend: None,
        source: peer,
        destination: local,
        tls: None,
        content: Content::new(&[], true),
    };
    let welcome = rules::admits_at(rules, rules::Stage::Connection, &facts);
    if !welcome {
        frontend.counters.denied.fetch_add(1, Relaxed);
    }
    welcome
}

/// Takes the PROXY header and the TLS handshake, where the address asks for them.
///
/// # Errors
/// Says what was wrong.
pub async fn greet(
    entrance: &Entrance,
    mut stream: Stream,
    peer: SocketAddr,
    limit: Option<Duration>,
    session: &Session,
) -> Result<Arrived, Failure> {
    let mut arrived = (peer, None);
    if entrance.bind.accept_proxy || entrance.expects_proxy(peer) {
        let reading = closable(session, read_header(&mut stream));
        let header = reactor::timeout(limit, reading).await.ok_or(Failure::HeaderTimeout)??;
        if let Some((source, told)) = header.addresses {
            arrived = (source, Some(told));
        }
    }
    let side = match &entrance.bind.tls {
        None => Side::Plain(stream),
        Some(options) => {
            let config = tls::acceptor(options).map_err(|error| {
                tracing::error!(%error, "a certificate cannot be used");
                Failure::Tls
            })?;
            let handshake =
                async { TlsAcceptor::from(config).accept(stream).await.map_err(|_| Failure::Tls) };
            let handshake = reactor::timeout(limit, closable(session, handshake)).await;
            Side::Tls(Box::new(handshake.ok_or(Failure::TlsTimeout)??.into()))
        }
    };
    Ok(Arrived { side, source: arrived.0, told: arrived.1 })
}

async fn closable<T>(
    session: &Session,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context| {
        if session.asked_to_close(context.waker()).is_some() {
            return Poll::Ready(Err(Failure::Closed));
        }
        work.as_mut().poll(context)
    })
    .await
}

/// Reads a header and not a byte more. As in HAProxy it has to be there as a whole when its first byte is:
/// who sends one writes it at once.
async fn read_header(stream: &mut Stream) -> Result<proxy_protocol::Header, Failure> {
    let found = std::future::poll_fn(|context| {
        with_buffer(|buffer| {
            let buffer = &mut buffer[..proxy_protocol::MAX_HEADER];
            let peeked = std::task::ready!(stream.poll_peek(context, buffer, 0));
            Poll::Ready(match peeked {
                Ok(count) if count > 0 => Ok(proxy_protocol::read(&buffer[..count])),
                // An end, or an error: there is no more to come.
                _ => Err(Failure::HeaderMissing),
            })
        })
    });
    let failure = match found.await? {
        Found::Header(header) => {
            let mut left = header.length;
            while left > 0 {
                let taken = std::future::poll_fn(|context| {
                    with_buffer(|buffer| stream.poll_recv(context, &mut buffer[..left]))
                });
                match taken.await {
                    Ok(taken) if taken > 0 => left -= taken,
                    _ => return Err(Failure::HeaderTruncated),
                }
            }
            return Ok(header);
        }
        Found::Part => Failure::HeaderTruncated,
        Found::Nonsense => Failure::HeaderWrong,
        Found::Invalid => Failure::HeaderInvalid,
        Found::Unhandled => Failure::HeaderUnhandled,
    };
    stream.reset_on_close();
    Err(failure)
}

/// The backend for a client; `Ok(None)` when there is none. Rules that look at what the client sends see what has come
/// so far.
///
/// # Errors
/// A rule keeps it out.
pub fn route(
    process: &Process,
    frontend: &Frontend,
    arrived: &Arrived,
    early: &RefCell<Early>,
) -> Result<Option<Arc<Backend>>, End> {
    let admits = |seen: &Seen<'_>, rules: &[rules::ClientRule]| {
        let stages = [rules::Stage::Session, rules::Stage::Content];
        rules.is_empty()
            || seen.ask(|facts| stages.into_iter().all(|stage| rules::admits_at(rules, stage, facts)))
    };
    let before = Seen { process, frontend, backend: None, arrived, early, is_final: true };
    let denied = || {
        frontend.counters.denied.fetch_add(1, Relaxed);
        End::Denied
    };
    if !admits(&before, &frontend.config.client_rules) {
        return Err(denied());
    }
    let chosen = if frontend.config.backend_rules.is_empty() {
        frontend.backend.as_ref()
    } else {
        before.ask(|facts| frontend.backend_for(facts))
    };
    let Some(backend) = chosen else { return Ok(None) };
    let is_other = backend.name != frontend.name;
    let behind = Seen { backend: Some(backend), ..before };
    if is_other && !admits(&behind, &backend.config().client_rules) {
        return Err(denied());
    }
    Ok(Some(backend.clone()))
}

/// The server that a rule of the backend sends a client to (`use-server`).
pub fn wanted_server(
    process: &Process,
    frontend: &Frontend,
    backend: &Arc<Backend>,
    arrived: &Arrived,
    early: &RefCell<Early>,
) -> Option<Arc<Server>> {
    let config = backend.config();
    if config.server_rules.is_empty() {
        return None;
    }
    let persists = config.settings.persist;
    let seen = Seen { process, frontend, backend: Some(backend), arrived, early, is_final: true };
    seen.ask(|facts| {
        config.server_rules.iter().filter(|rule| rule.condition.holds(facts)).find_map(|rule| {
            // HAProxy: a server that is down is passed over, unless `option persist` is set.
            backend.server(&rule.server).filter(|server| persists || server.takes_directed())
        })
    })
}

/// Waits for what the content rules of a section look at, up to its `inspect-delay`.
///
/// # Errors
/// How the session ends instead.
pub async fn inspect(
    process: &Process,
    frontend: &Frontend,
    backend: Option<&Arc<Backend>>,
    arrived: &mut Arrived,
    early: &RefCell<Early>,
    session: &Session,
) -> Result<(), End> {
    let config = backend.map_or_else(|| frontend.config.clone(), |backend| Arc::clone(&backend.config()));
    if !config.looks_at_content() {
        return Ok(());
    }
    let Some(delay) = config.inspect_delay else { return Ok(()) };
    let until = reactor::now() + delay;
    loop {
        let is_final = early.borrow().is_complete() || reactor::now() >= until;
        let seen = Seen { process, frontend, backend, arrived, early, is_final };
        let verdict = seen.ask(|facts| rules::judge_at(&config.client_rules, rules::Stage::Content, facts));
        if is_final || verdict != rules::Verdict::Unknown {
            return Ok(());
        }
        more(&mut arrived.side, early, session, until).await?;
    }
}

/// Waits until the client has sent more, or until a moment.
async fn more(
    side: &mut Side,
    early: &RefCell<Early>,
    session: &Session,
    until: std::time::Instant,
) -> Result<(), End> {
    let seen = early.borrow().bytes.len();
    let mut sleep = reactor::sleep_until(until);
    std::future::poll_fn(|context| {
        if let Some(cause) = session.asked_to_close(context.waker()) {
            return Poll::Ready(Err(End::Killed(cause)));
        }
        let gone = early.borrow_mut().poll(context, side, false);
        if gone == Poll::Ready(Gone::Broken) {
            return Poll::Ready(Err(End::ClientAbort));
        }
        let early = early.borrow();
        if early.bytes.len() > seen || early.is_complete() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut sleep).poll(context).map(Ok)
    })
    .await
}

/// What rules may look at.
struct Known<'a> {
    process: &'a Process,
    frontend: &'a Frontend,
    backend: Option<&'a Arc<Backend>>,
    source: SocketAddr,
    destination: &'a dyn Fn() -> Option<SocketAddr>,
    /// The client's TLS, when it ends here: the name it asked for.
    tls: Option<Option<&'a str>>,
    content: Content<'a>,
}

/// A client as rules see it.
#[derive(Clone, Copy)]
struct Seen<'a> {
    process: &'a Process,
    frontend: &'a Frontend,
    backend: Option<&'a Arc<Backend>>,
    arrived: &'a Arrived,
    early: &'a RefCell<Early>,
    is_final: bool,
}

impl Seen<'_> {
    fn ask<T>(&self, question: impl FnOnce(&Known<'_>) -> T) -> T {
        let Self { process, frontend, backend, arrived, early, is_final } = *self;
        let early = early.borrow();
        question(&Known {
            process,
            frontend,
            backend,
            source: arrived.source,
            destination: &|| arrived.destination(),
            tls: arrived.side.is_tls().then(|| arrived.side.server_name()),
            content: Content::new(&early.bytes, is_final),
        })
    }
}

impl Facts for Known<'_> {
    fn source(&self) -> IpAddr {
        self.source.ip()
    }

    fn source_port(&self) -> Option<u16> {
        Some(self.source.port())
    }

    fn destination(&self) -> Option<SocketAddr> {
        (self.destination)()
    }

    fn content(&self) -> Content<'_> {
        self.content
    }

    fn tls_name(&self) -> Option<&str> {
        self.tls.flatten()
    }

    fn number(&self, what: &Number) -> Option<i64> {
        let now = |counters: &crate::counters::Counters| i64::from(counters.current.load(Relaxed));
        let rate = |counters: &crate::counters::Counters| {
            i64::from(counters.rate.read(crate::counters::Moment::since(self.process.started)))
        };
        match what {
            Number::UsableServers(name) => Some(self.backend(name)?.usable_count() as i64),
            Number::ServerIsUp(name, server) => {
                Some(self.backend(name)?.server(server)?.condition().is_up().into())
            }
            Number::ServerSessions(name, server) => Some(now(&self.backend(name)?.server(server)?.counters)),
            Number::FrontendSessions(name) => Some(now(&*self.frontend(name)?)),
            Number::FrontendRate(name) => Some(rate(&*self.frontend(name)?)),
            Number::BackendSessions(name) => Some(now(&self.backend(name)?.counters)),
            Number::BackendRate(name) => Some(rate(&self.backend(name)?.counters)),
            Number::Pending(name) => Some(self.backend(name)?.pending_count() as i64),
            Number::AveragePending(name) => {
                let backend = self.backend(name)?;
                Some(backend.pending_count().div_ceil(backend.usable_count().max(1)) as i64)
            }
            Number::SpeaksTls => Some(self.tls.is_some().into()),
            // The last two are asked of the content.
            Number::FreePlaces(_)
            | Number::ListenerSessions
            | Number::ListenerId
            | Number::ContentLength
            | Number::HelloType => None,
        }
    }
}

impl Known<'_> {
    fn backend(&self, name: &Option<String>) -> Option<Arc<Backend>> {
        let Some(name) = name else { return self.backend.or(self.frontend.backend.as_ref()).cloned() };
        let sections = self.process.sections();
        sections.iter().filter_map(|section| section.backend.as_ref()).find(|it| *it.name == **name).cloned()
    }

    fn frontend(&self, name: &Option<String>) -> Option<Arc<crate::counters::Counters>> {
        let Some(name) = name else { return Some(self.frontend.counters.clone()) };
        let sections = self.process.sections();
        let mut all = sections.iter().filter_map(|section| section.frontend.as_ref());
        all.find(|it| *it.name == **name).map(|frontend| frontend.counters.clone())
    }
}

/// HAProxy's line about a connection that did not get through its greeting.
pub fn log_failure(
    frontend: &Frontend,
    entrance: &Entrance,
    peer: SocketAddr,
    accepted: SystemTime,
    failure: Failure,
) {
    let silent = matches!(failure, Failure::HeaderMissing | Failure::HeaderTimeout | Failure::TlsTimeout);
    if frontend.logger.is_silent() || (silent && frontend.config.settings.dontlognull) {
        return;
    }
    let text = format!(
        "{}:{} [{}] {}/{}: {}",
        peer.ip().to_canonical(),
        peer.port(),
        Accepted(accepted),
        frontend.name,
        entrance.name,
        failure.text()
    );
    frontend.style.write_failure(&frontend.logger, &frontend.name, peer, accepted, &text);
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::other(failure.text())
    }
}
