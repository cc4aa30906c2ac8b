//! `-n` with the name of another node of the cluster: this node passes the question on, and the answer back.
//!
//! ```text
//! rabbitmqctl -n rabbit@B ──► control socket of A ──link──► B ──► control socket of B
//!        x-node: rabbit@B
//! ```
//!
//! Whoever can open A's control socket may do so: the nodes of a cluster trust each other.

use super::{client, place};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixStream;

/// The header that names the node that is meant.
pub(super) const NODE: &str = "x-node";
/// Why something is deleted, the only header beside it that matters.
const REASON: &str = "x-reason";
/// Octets of a question, and of an answer: definitions are the longest.
const LARGEST: usize = 64 << 20;

/// Whoever reaches the other nodes.
pub(crate) trait Relay: Send + Sync + 'static {
    /// Asks a node of this name.
    fn pass_on(&self, node: String, question: Vec<u8>) -> BoxFuture<'static, Result<Bytes, String>>;
}

/// A question on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Question {
    method: String,
    path: String,
    reason: Option<String>,
    body: Vec<u8>,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// The routes of the control socket of the node `me`, which pass on what is meant for others.
pub(crate) fn around(routes: Router, me: String, relay: Arc<dyn Relay>) -> Router {
    routes.layer(middleware::from_fn_with_state((Arc::<str>::from(me), relay), turn))
}

async fn turn(
    State((me, relay)): State<(Arc<str>, Arc<dyn Relay>)>,
    request: Request,
    next: Next,
) -> Response {
    let text = |headers: &HeaderMap, name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let Some(node) = text(request.headers(), NODE).filter(|node| **node != *me) else {
        return next.run(request).await;
    };
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else {
        return failed(StatusCode::PAYLOAD_TOO_LARGE, "it is too large to be passed on");
    };
    let question = Question {
        method: head.method.as_str().to_owned(),
        path: head.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        reason: text(&head.headers, REASON),
        body: body.to_vec(),
    };
    let Ok(question) = postcard::to_allocvec(&question) else {
        return failed(StatusCode::INTERNAL_SERVER_ERROR, "the question has no form");
    };
    match relay.pass_on(node.clone(), question).await {
        Ok(octets) => answered(&octets, &node),
        Err(reason) => failed(StatusCode::BAD_GATEWAY, &format!("node {node} did not answer: {reason}")),
    }
}

fn answered(octets: &[u8], node: &str) -> Response {
    let Ok(answer) = postcard::from_bytes::<Answer>(octets) else {
        return failed(StatusCode::BAD_GATEWAY, &format!("what node {node} answered makes no sense"));
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    (status, [(CONTENT_TYPE, "application/json")], Body::from(answer.body)).into_response()
}

fn failed(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({"error": "not_passed_on", "reason": reason}))).into_response()
}

/// Answers what another node passed on, by the control socket of the node whose data is in `data`.
pub(crate) async fn answer(data: &Path, question: &[u8]) -> Result<Bytes, String> {
    let question: Question =
        postcard::from_bytes(question).map_err(|_| "the question makes no sense".to_owned())?;
    let socket = place::socket_in(data);
    let stream = place::connect(&socket).map_err(|error| format!("{}: {error}", socket.display()))?;
    let answer = ask(stream, question).await.map_err(|error| error.to_string())?;
    postcard::to_allocvec(&answer).map(Bytes::from).map_err(|error| error.to_string())
}

async fn ask(stream: std::os::unix::net::UnixStream, question: Question) -> io::Result<Answer> {
    stream.set_nonblocking(true)?;
    let mut sender = client::handshake(UnixStream::from_std(stream)?).await?;
    let mut request = hyper::Request::builder()
        .method(question.method.as_str())
        .uri(question.path)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json");
    if let Some(reason) = question.reason {
        request = request.header(REASON, reason);
    }
    let request = request.body(Full::new(Bytes::from(question.body))).map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), LARGEST).collect().await.map_err(io::Error::other)?;
    Ok(Answer { status, body: body.to_bytes().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::post;
    use futures_util::FutureExt as _;

    /// Two nodes: the relay of A reaches the control socket of B.
    struct ToB(std::path::PathBuf);

    impl Relay for ToB {
        fn pass_on(&self, node: String, question: Vec<u8>) -> BoxFuture<'static, Result<Bytes, String>> {
            let data = self.0.clone();
            async move {
                if node != "rabbit@B" {
                    return Err("no such node".to_owned());
                }
                answer(&data, &question).await
            }
            .boxed()
        }
    }

    fn serve(data: &Path, name: &'static str, routes: Router) -> super::super::Bound {
        let (bound, listener) = super::super::Bound::new(data, name).unwrap();
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        bound
    }

    async fn asked(data: &Path, node: &str) -> (u16, String) {
        let stream = place::connect(&place::socket_in(data)).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut sender = client::handshake(UnixStream::from_std(stream).unwrap()).await.unwrap();
        let request = hyper::Request::builder()
            .method("POST")
            .uri("/echo?x=1")
            .header(HOST, "localhost")
            .header(NODE, node)
            .body(Full::new(Bytes::from_static(b"body")))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn a_question_for_another_node_is_answered_by_it() {
        let echo = |name: &'static str| {
            let echo = move |request: Request| async move {
                let path = request.uri().to_string();
                let body = to_bytes(request.into_body(), 100).await.unwrap();
                (StatusCode::ACCEPTED, format!("{name} {path} {}", String::from_utf8_lossy(&body)))
            };
            Router::new().route("/echo", post(echo))
        };
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let relay = Arc::new(ToB(b.path().to_owned()));
        let _at_a = serve(a.path(), "rabbit@relay-a", around(echo("A"), "rabbit@A".to_owned(), relay));
        let _at_b = serve(b.path(), "rabbit@relay-b", echo("B"));
        assert_eq!(asked(a.path(), "rabbit@A").await, (202, "A /echo?x=1 body".to_owned()));
        assert_eq!(asked(a.path(), "rabbit@B").await, (202, "B /echo?x=1 body".to_owned()));
        let (status, text) = asked(a.path(), "rabbit@C").await;
        assert!(status == 502 && text.contains("node rabbit@C did not answer: no such node"), "{text}");
        assert!(answer(b.path(), b"nonsense").await.is_err());
    }
}
