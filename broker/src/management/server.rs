//! HTTP connections: how many there may be, and how slow their clients.
//!
//! Connections end with the task that serves them: a node that was stopped answers nobody any more.

use super::secure::Peer;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};

/// Connections of one listener at the same time; more clients wait.
const MOST: usize = 4096;
/// How long a client may take to begin and to complete the head of its next request.
const HEAD: Duration = Duration::from_secs(60);
/// How long it may send nothing in the middle of a request.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a request may take to come.
const WHOLE: Duration = Duration::from_secs(600);

/// What clients may take.
#[derive(Clone, Copy)]
struct Limits {
    most: usize,
    head: Duration,
    silence: Duration,
    whole: Duration,
}

/// Serves `router` to the clients of a listener, for as long as the future is kept.
pub(super) async fn serve<L: Listener<Addr = SocketAddr>>(listener: L, router: Router, tls: bool) {
    let limits = Limits { most: MOST, head: HEAD, silence: SILENCE, whole: WHOLE };
    serve_with(listener, router, tls, limits).await;
}

async fn serve_with<L: Listener<Addr = SocketAddr>>(
    mut listener: L,
    router: Router,
    tls: bool,
    limits: Limits,
) {
    let places = Arc::new(Semaphore::new(limits.most));
    let mut connections = JoinSet::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head);
    loop {
        // Nobody closes it.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let (stream, address) = listener.accept().await;
        let (http, router, peer) = (http.clone(), router.clone(), Peer { address, tls });
        connections.spawn(async move {
            let answer = service_fn(move |request: hyper::Request<Incoming>| {
                let mut request = request.map(|body| Body::new(Paced::new(body, limits)));
                request.extensions_mut().insert(ConnectInfo(peer));
                TowerToHyperService::new(router.clone()).call(request)
            });
            if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
                tracing::debug!(%address, %error, "an HTTP connection ended");
            }
            drop(place);
        });
    }
}

/// A request's body, whose sender has to go on sending.
struct Paced {
    body: Incoming,
    silence: Duration,
    end: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Paced {
    fn new(body: Incoming, limits: Limits) -> Paced {
        let now = Instant::now();
        let timer = Box::pin(sleep_until(now + limits.silence));
        Paced { body, silence: limits.silence, end: now + limits.whole, timer }
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            let next = (Instant::now() + this.silence).min(this.end);
            this.timer.as_mut().reset(next);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        this.timer.as_mut().poll(context).map(|()| {
            let error =
                io::Error::new(io::ErrorKind::TimedOut, "the rest of the request did not come in time");
            Some(Err(error.into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// A server whose clients have to be quick, and where it listens.
    async fn server(limits: Limits) -> (tokio::task::JoinHandle<()>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", post(async |body: String| body));
        (tokio::spawn(serve_with(listener, router, false, limits)), address)
    }

    const PATIENT: Limits =
        Limits { most: 8, head: Duration::from_secs(3600), silence: Duration::from_secs(3600), whole: WHOLE };

    async fn told(stream: &mut TcpStream) -> String {
        let mut answer = String::new();
        // Whether it was closed or reset, what came before is the answer.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    async fn said(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn who_does_not_finish_a_request_is_let_go() {
        let quick = Duration::from_millis(20);
        let (task, address) = server(Limits { head: quick, silence: quick, ..PATIENT }).await;
        let mut silent = said(address, "").await;
        assert!(!told(&mut silent).await.contains("200"));
        let mut half = said(address, "POST / HTTP/1.1\r\nhost:").await;
        assert!(!told(&mut half).await.contains("200"));
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc";
        let mut body = said(address, head).await;
        assert!(told(&mut body).await.starts_with("HTTP/1.1 400"));
        task.abort();
    }

    #[tokio::test]
    async fn one_client_more_than_there_is_room_for_waits_and_a_stopped_server_answers_nobody() {
        let (task, address) = server(Limits { most: 1, ..PATIENT }).await;
        let request = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
        let mut first = said(address, request).await;
        let mut octets = [0; 12];
        first.read_exact(&mut octets).await.unwrap();
        assert_eq!(&octets, b"HTTP/1.1 200");
        let mut second = said(address, &request.replace("host: a", "host: a\r\nconnection: close")).await;
        drop(first);
        assert!(told(&mut second).await.ends_with("hi"));
        let mut third = said(address, request).await;
        third.read_exact(&mut octets).await.unwrap();
        task.abort();
        told(&mut third).await;
    }
}
