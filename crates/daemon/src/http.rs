//! A small HTTP/1 server for status pages: everything bounded, nothing configurable that need not be.
//!
//! It serves a few people and scrapers, not the public. Header size, body size, number of
//! connections, idle time and a connection's whole life are limited, so that nobody can hold memory
//! or descriptors by being slow.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
pub use hyper::body::Body;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
pub use hyper::{Method, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::shutdown::ShutdownToken;

/// The bounds of a server.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Largest request header in bytes.
    pub header_bytes: usize,
    /// Largest request body in bytes.
    pub body_bytes: usize,
    /// Connections at one time; more wait in the accept queue.
    pub connections: usize,
    /// How long a request's header may take, and how long a connection may be idle between requests.
    pub idle: Duration,
    /// How long a connection may live at all.
    pub lifetime: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            header_bytes: 16 * 1024,
            body_bytes: 64 * 1024,
            connections: 256,
            idle: Duration::from_secs(15),
            lifetime: Duration::from_secs(300),
        }
    }
}

/// A request, read whole.
#[derive(Debug)]
pub struct Request {
    /// GET, POST, ...
    pub method: Method,
    /// The path as sent, still percent-encoded, with anything after `;`.
    pub path: String,
    /// What follows `?`, without it; empty when absent.
    pub query: String,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Who asks, when known.
    pub peer: Option<SocketAddr>,
}

/// A response with a whole body.
pub type Response = hyper::Response<Full<Bytes>>;

/// A response with a status, a content type and a body.
#[must_use]
pub fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Accepts connections until a stop is asked for and answers each request with `handler`. Waits for
/// running requests on a graceful stop; returns at once on an immediate one.
pub async fn serve<H, F>(listener: TcpListener, limits: HttpLimits, mut stop: ShutdownToken, handler: H)
where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(limits.connections.max(1)));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &permits) => accepted,
            _ = stop.requested() => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                let (limits, stop, handler) = (limits.clone(), stop.clone(), handler.clone());
                connections.spawn(async move {
                    serve_connection(stream, Some(peer), &limits, stop, handler).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, or the peer was gone already: wait a little rather than spin.
                tracing::debug!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        () = stop.forced() => {}
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit =
        permits.clone().acquire_owned().await.map_err(|_| std::io::Error::other("server is closed"))?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

/// Serves one connection that was accepted elsewhere, until it ends.
pub async fn serve_connection<S, H, F>(
    stream: S,
    peer: Option<SocketAddr>,
    limits: &HttpLimits,
    mut stop: ShutdownToken,
    handler: H,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    let body_bytes = limits.body_bytes;
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let handler = &handler;
        async move {
            let answer = match read_request(request, peer, body_bytes).await {
                Some(request) => handler(request).await,
                None => response(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "request body too large\n"),
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(limits.header_bytes.max(8192))
        .half_close(false);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let end = tokio::select! {
        result = connection.as_mut() => Some(result),
        _ = stop.requested() => None,
        () = tokio::time::sleep(limits.lifetime) => None,
    };
    let result = match end {
        Some(result) => result,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(limits.idle, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "http connection ended");
    }
}

/// `None` when the body is too large or broke off.
async fn read_request(
    request: hyper::Request<Incoming>,
    peer: Option<SocketAddr>,
    body_bytes: usize,
) -> Option<Request> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, body_bytes).collect().await.ok()?.to_bytes();
    Some(Request {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body,
        peer,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::shutdown::{Shutdown, Stop};

    async fn echo(request: Request) -> Response {
        let text = format!("{} {} {} {}", request.method, request.path, request.query, request.body.len());
        response(StatusCode::OK, "text/plain", text)
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn start(limits: HttpLimits) -> (SocketAddr, Shutdown, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, token) = Shutdown::new();
        (address, shutdown, tokio::spawn(serve(listener, limits, token, echo)))
    }

    #[tokio::test]
    async fn requests_are_answered_and_a_stop_ends_the_server() {
        let (address, shutdown, server) = start(HttpLimits::default()).await;
        let answer = ask(
            address,
            "POST /monitor;csv?scope=x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with("POST /monitor;csv scope=x 3"), "{answer}");
        shutdown.stop(Stop::Graceful);
        server.await.unwrap();
    }

    #[tokio::test]
    async fn large_headers_and_bodies_are_refused() {
        let limits = HttpLimits { body_bytes: 10, ..HttpLimits::default() };
        let (address, _shutdown, _server) = start(limits).await;
        let long = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(40_000));
        let answer = ask(address, &long).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        let body = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 11\r\n\r\n01234567890";
        assert!(ask(address, body).await.starts_with("HTTP/1.1 413"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_dropped() {
        let (client, server) = tokio::io::duplex(1024);
        let (_shutdown, token) = Shutdown::new();
        let limits = HttpLimits::default();
        serve_connection(server, None, &limits, token, echo).await;
        drop(client);
    }
}
