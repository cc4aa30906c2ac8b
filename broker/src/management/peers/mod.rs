//! The API in a cluster: what other nodes know is asked of them, over the links between nodes.
//!
//! Lists are put together from all nodes' ([`merge`]), sums are added up, and what concerns one queue, node or
//! connection is done by the node that has it ([`mod@spread`]). A request travels as it is, with who asks; the other
//! node answers it from what it has itself, and checks what its caller may, as if it had come to it.

mod merge;
mod spread;
#[cfg(test)]
mod tests;

pub(super) use spread::{add_overviews, end_session, session_user, spread};

use super::caller::{Caller, Peer};
use super::{Api, MAX_BODY, all_paths, paths, session, unknown};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use broker_core::ids::NodeId;
use broker_core::meta::Queue;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What a client may tell whoever is disconnected; the only header that travels.
const REASON: HeaderName = HeaderName::from_static("x-reason");

/// Octets of an answer that go to another node at once: a little less than links take.
const MAX_TOLD: usize = (64 << 20) - 4096;

/// The way to the other nodes.
pub(crate) trait Peers: Debug + Send + Sync {
    /// This node.
    fn me(&self) -> NodeId;

    /// Whether there is nobody to ask.
    fn is_alone(&self) -> bool;

    /// Asks a node; its [`Answers`] answer. The error is a sentence for people.
    fn ask(
        &self,
        node: NodeId,
        request: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, String>>;
}

/// A request on its way to another node.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ask {
    method: String,
    /// Path and query.
    uri: String,
    reason: Option<Vec<u8>>,
    body: Vec<u8>,
    user: Arc<str>,
    tags: Vec<String>,
    local: bool,
    /// A session to ask about, instead of a user who is logged in.
    session: Option<String>,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    status: u16,
    content_type: Option<Vec<u8>>,
    body: Vec<u8>,
}

/// Marks a request that other nodes answer their part of: lists show what this node has.
#[derive(Debug, Clone, Default)]
pub(super) struct Share {
    /// The node whose share it is.
    me: NodeId,
    /// Show what nobody has, too.
    rest: bool,
    /// Nodes that did not answer: what they have is shown without its numbers.
    silent: Vec<NodeId>,
}

impl Share {
    /// Whether a queue is in this share.
    pub(super) fn shows(&self, queue: &Queue) -> bool {
        match queue.placement.leader {
            Some(leader) if leader == self.me => true,
            Some(leader) => self.silent.contains(&leader),
            None => self.rest,
        }
    }
}

/// What other nodes' requests are answered by.
pub(crate) struct Answers {
    me: NodeId,
    router: Router,
}

impl Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Answers {
    /// Answers from what `api` has. To be called once the node knows which one it is.
    pub(crate) fn new(api: Arc<Api>, me: NodeId) -> Answers {
        let router = paths::router(all_paths()).fallback(unknown).layer(DefaultBodyLimit::max(MAX_BODY));
        Answers { me, router: router.with_state(api) }
    }

    /// Answers a request of another member of the cluster.
    pub(crate) async fn answer(&self, request: Bytes) -> Result<Bytes, String> {
        let ask: Ask = postcard::from_bytes(&request).map_err(|_| "the request makes no sense".to_owned())?;
        let mut request = Request::builder()
            .method(ask.method.as_str())
            .uri(ask.uri)
            .body(Body::from(ask.body))
            .map_err(|error| error.to_string())?;
        if let Some(reason) = ask.reason.and_then(|reason| HeaderValue::from_bytes(&reason).ok()) {
            request.headers_mut().insert(REASON, reason);
        }
        match ask.session {
            Some(cookie) => {
                let cookie =
                    HeaderValue::from_str(&session::written(&cookie)).map_err(|it| it.to_string())?;
                request.headers_mut().insert(header::COOKIE, cookie);
                // Where the user is, is for the node that asks.
                let peer = Peer { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls: false };
                request.extensions_mut().insert(ConnectInfo(peer));
            }
            None => {
                let caller = Caller { name: ask.user, tags: ask.tags, local: ask.local };
                request.extensions_mut().insert(caller);
            }
        }
        request.extensions_mut().insert(Share { me: self.me, ..Share::default() });
        let service = TowerToHyperService::new(self.router.clone());
        let Ok(response) = service.call(request).await;
        let (parts, body) = response.into_parts();
        let told = match to_bytes(body, MAX_TOLD).await {
            Ok(body) => Told {
                status: parts.status.as_u16(),
                content_type: parts.headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes().to_vec()),
                body: body.to_vec(),
            },
            Err(_) => Told::too_long(),
        };
        postcard::to_stdvec(&told).map(Bytes::from).map_err(|error| error.to_string())
    }
}

impl Ask {
    /// A look at what another node has, as `caller` may see it.
    fn get(uri: &str, caller: &Caller) -> Ask {
        Ask {
            method: "GET".to_owned(),
            uri: uri.to_owned(),
            reason: None,
            body: Vec::new(),
            user: Arc::clone(&caller.name),
            tags: caller.tags.clone(),
            local: caller.local,
            session: None,
        }
    }

    /// A request about a session.
    fn about_session(method: &str, uri: &str, cookie: &str) -> Ask {
        Ask {
            method: method.to_owned(),
            uri: uri.to_owned(),
            reason: None,
            body: Vec::new(),
            user: Arc::from(""),
            tags: Vec::new(),
            local: false,
            session: Some(cookie.to_owned()),
        }
    }

    fn encode(&self) -> Result<Bytes, String> {
        postcard::to_stdvec(self).map(Bytes::from).map_err(|error| error.to_string())
    }
}

impl Told {
    fn decode(octets: &[u8]) -> Result<Told, String> {
        postcard::from_bytes(octets).map_err(|_| "the answer of the other node makes no sense".to_owned())
    }

    /// Instead of an answer that does not go to another node at once.
    fn too_long() -> Told {
        let body = json!({
            "error": "bad_request",
            "reason": "the list is too long to be put together from several nodes: ask for pages of it \
                       (page, page_size) or for fewer columns",
        });
        Told {
            status: StatusCode::PAYLOAD_TOO_LARGE.as_u16(),
            content_type: Some(b"application/json".to_vec()),
            body: body.to_string().into_bytes(),
        }
    }

    fn is_too_long(&self) -> bool {
        self.status == StatusCode::PAYLOAD_TOO_LARGE.as_u16()
    }

    fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_GATEWAY);
        if let Some(kind) = self.content_type.and_then(|kind| HeaderValue::from_bytes(&kind).ok()) {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        response
    }
}
