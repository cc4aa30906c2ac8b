//! Connections to the statistics page: they come in as all others do (limits, rules, PROXY header, TLS, unix
//! sockets) and are read on a worker; what is answered is made on the control thread, so that a large page holds
//! no other connection up.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use daemon::http::{self, HttpLimits, StatusCode};
use daemon::shutdown::ShutdownToken;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;

use super::{UNAVAILABLE, answer};
use crate::counters::Counters;
use crate::frontend::Frontend;
use crate::greeting::{self, Arrived};
use crate::process::Process;
use crate::registry::{Session, Stage};
use crate::side::Side;

/// How long a client of the page may take to introduce itself when `timeout client` says nothing.
pub const GREETING_LIMIT: Duration = Duration::from_secs(15);

/// What the page needs of the control thread.
#[derive(Debug, Clone)]
pub struct Kitchen {
    /// Where answers are made, and whose timers are used.
    pub runtime: Handle,
    /// Open connections end their last request on a stop.
    pub stop: ShutdownToken,
}

/// Answers the requests of one client until it ends, or somebody closes its session.
pub async fn serve(
    process: &Arc<Process>,
    frontend: &Arc<Frontend>,
    arrived: Arrived,
    client: Option<SocketAddr>,
    session: &Session,
) {
    let Some(kitchen) = process.kitchen.get().cloned() else { return };
    if greeting::route(process, frontend, &arrived, &RefCell::default()).is_err() {
        arrived.side.stream().reset_on_close();
        return;
    }
    session.set_stage(Stage::Relaying);
    // Through a unix socket nobody has an address, unless a header told one.
    let peer = arrived.told().map(|_| arrived.source).or(client);
    let counted = Counted { side: arrived.side, counters: frontend.counters.clone() };
    let runtime = &kitchen.runtime;
    let handler = |request: http::Request| {
        let (process, frontend) = (process.clone(), frontend.clone());
        let made = runtime.spawn(async move { answer(&process, &frontend, &request) });
        async move {
            let made = made.await;
            made.unwrap_or_else(|_| http::response(StatusCode::SERVICE_UNAVAILABLE, "text/html", UNAVAILABLE))
        }
    };
    let limits = HttpLimits::default();
    let mut talk = std::pin::pin!(http::serve_connection(counted, peer, &limits, kitchen.stop, handler));
    std::future::poll_fn(|context| {
        if session.asked_to_close(context.waker()).is_some() {
            return Poll::Ready(());
        }
        // The timers are tokio's.
        let _inside = runtime.enter();
        talk.as_mut().poll(context)
    })
    .await;
}

/// A client's side whose bytes count for the frontend.
struct Counted {
    side: Side,
    counters: Arc<Counters>,
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = ready!(this.side.poll_recv(context, buffer.initialize_unfilled()))?;
        buffer.advance(read);
        this.counters.bytes_in.fetch_add(read as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = ready!(this.side.poll_send(context, bytes))?;
        this.counters.bytes_out.fetch_add(sent as u64, Relaxed);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().side.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().side.poll_finish(context)
    }
}
