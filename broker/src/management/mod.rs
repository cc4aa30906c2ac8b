//! The HTTP API on port 15672, with the paths, fields and status codes of RabbitMQ's.
//!
//! One file per family of paths. Everything is answered from the metadata and from the node's live
//! counters; nothing is cached except rates, which [`rates`] samples every five seconds.

mod bindings;
mod caller;
mod connections;
mod definitions;
mod exchanges;
mod health;
mod listing;
mod messages;
mod overview;
mod parameters;
mod permissions;
mod policies;
mod policy_check;
mod queues;
mod rates;
mod reply;
mod secure;
#[cfg(test)]
mod tests;
mod ui;
mod users;
mod vhosts;

use crate::node::Node;
use crate::tls::TlsServer;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Extension, Router};
use rates::Rates;
use reply::Refusal;
use secure::{Local, Peer, TlsListener};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::{TcpListener, UnixListener};

/// Octets a request may have; definitions are the largest.
const MAX_BODY: usize = 64 << 20;

/// What every request can reach.
#[derive(Debug)]
pub(crate) struct Api {
    node: Arc<Node>,
    rates: Rates,
    started: Instant,
    /// Where AMQP clients and HTTP clients are listened for.
    listeners: Vec<Listening>,
}

/// A listener of the node.
#[derive(Debug)]
pub(crate) struct Listening {
    /// `amqp`, `amqp/ssl`, `http` or `https`.
    pub(crate) protocol: &'static str,
    /// Where.
    pub(crate) address: SocketAddr,
    /// Its TLS side.
    pub(crate) tls: Option<Arc<TlsServer>>,
}

/// The API of a node. `listeners` are all listeners of the node, for the overview and the health checks.
pub(crate) fn api(node: &Arc<Node>, listeners: Vec<Listening>) -> Arc<Api> {
    let node = Arc::clone(node);
    let api = Arc::new(Api { node, rates: Rates::default(), started: Instant::now(), listeners });
    tokio::spawn(rates::sample(Arc::downgrade(&api)));
    api
}

/// Serves the API on one listener until the node ends.
pub(crate) async fn serve(
    api: Arc<Api>,
    listener: TcpListener,
    tls: Option<Arc<TlsServer>>,
) -> std::io::Result<()> {
    // The path is looked at before it is routed, hence the router around the router.
    let outer = Router::new().fallback_service(router(api)).layer(middleware::map_request(trim_slash));
    let service = outer.into_make_service_with_connect_info::<Peer>();
    match tls {
        Some(tls) => axum::serve(TlsListener::new(listener, tls), service).await,
        None => axum::serve(listener, service).await,
    }
}

/// Serves the API on the control socket, where nobody has to log in, together with `more` that only belongs there.
pub(crate) async fn serve_local(api: Arc<Api>, listener: UnixListener, more: Router) -> std::io::Result<()> {
    let routes = router(api).merge(more).layer(Extension(Local));
    let outer = Router::new().fallback_service(routes).layer(middleware::map_request(trim_slash));
    axum::serve(listener, outer.into_make_service_with_connect_info::<Peer>()).await
}

fn router(api: Arc<Api>) -> Router {
    Router::new()
        .merge(topology())
        .merge(administration())
        .merge(health_checks())
        .merge(ui::routes())
        .route("/api/overview", get(overview::overview))
        .route("/api/cluster-name", get(overview::cluster_name).put(overview::set_cluster_name))
        .route("/api/nodes", get(overview::nodes))
        .route("/api/nodes/{name}", get(overview::node))
        .route("/api/whoami", get(users::whoami))
        .route("/api/auth", get(overview::auth))
        .route("/api/extensions", get(overview::extensions))
        .route("/api/definitions", get(definitions::all).post(definitions::import_all))
        .route("/api/definitions/{vhost}", get(definitions::of_vhost).post(definitions::import_vhost))
        .fallback(async || Refusal::missing())
        .method_not_allowed_fallback(async || StatusCode::METHOD_NOT_ALLOWED)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(own_pages_only))
        .layer(middleware::from_fn(common_headers))
        .with_state(api)
}

fn topology() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/queues", get(queues::all))
        .route("/api/queues/{vhost}", get(queues::of_vhost))
        .route("/api/queues/{vhost}/{name}", get(queues::one).put(queues::declare).delete(queues::delete))
        .route("/api/queues/{vhost}/{name}/contents", delete(queues::purge))
        .route("/api/queues/{vhost}/{name}/get", post(messages::get))
        .route("/api/queues/{vhost}/{name}/actions", post(queues::act))
        .route("/api/queues/{vhost}/{name}/bindings", get(bindings::of_queue))
        .route("/api/exchanges", get(exchanges::all))
        .route("/api/exchanges/{vhost}", get(exchanges::of_vhost))
        .route(
            "/api/exchanges/{vhost}/{name}",
            get(exchanges::one).put(exchanges::declare).delete(exchanges::delete),
        )
        .route("/api/exchanges/{vhost}/{name}/publish", post(messages::publish))
        .route("/api/exchanges/{vhost}/{name}/bindings/source", get(bindings::of_source))
        .route("/api/exchanges/{vhost}/{name}/bindings/destination", get(bindings::of_destination))
        .route("/api/bindings", get(bindings::all))
        .route("/api/bindings/{vhost}", get(bindings::of_vhost))
        .route("/api/bindings/{vhost}/e/{source}/{kind}/{to}", get(bindings::between).post(bindings::bind))
        .route(
            "/api/bindings/{vhost}/e/{source}/{kind}/{to}/{key}",
            get(bindings::one).delete(bindings::unbind),
        )
        .route("/api/connections", get(connections::all))
        .route("/api/connections/{name}", get(connections::one).delete(connections::close))
        .route("/api/vhosts/{vhost}/connections", get(connections::of_vhost))
        .route("/api/consumers", get(connections::consumers))
        .route("/api/consumers/{vhost}", get(connections::consumers_of_vhost))
}

fn administration() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/vhosts", get(vhosts::all))
        .route("/api/vhosts/{vhost}", get(vhosts::one).put(vhosts::put).delete(vhosts::delete))
        .route("/api/vhosts/{vhost}/permissions", get(permissions::of_vhost))
        .route("/api/vhosts/{vhost}/topic-permissions", get(permissions::topics_of_vhost))
        .route("/api/vhost-limits", get(vhosts::all_limits))
        .route("/api/vhost-limits/{vhost}", get(vhosts::limits))
        .route("/api/vhost-limits/{vhost}/{limit}", put(vhosts::set_limit).delete(vhosts::clear_limit))
        .route("/api/users", get(users::all))
        .route("/api/users/without-permissions", get(users::without_permissions))
        .route("/api/users/bulk-delete", post(users::bulk_delete))
        .route("/api/users/{user}", get(users::one).put(users::put).delete(users::delete))
        .route("/api/users/{user}/permissions", get(permissions::of_user))
        .route("/api/users/{user}/topic-permissions", get(permissions::topics_of_user))
        .route("/api/user-limits", get(users::all_limits))
        .route("/api/user-limits/{user}", get(users::limits))
        .route("/api/user-limits/{user}/{limit}", put(users::set_limit).delete(users::clear_limit))
        .route("/api/permissions", get(permissions::all))
        .route(
            "/api/permissions/{vhost}/{user}",
            get(permissions::one).put(permissions::put).delete(permissions::delete),
        )
        .route("/api/topic-permissions", get(permissions::all_topics))
        .route(
            "/api/topic-permissions/{vhost}/{user}",
            get(permissions::topics).put(permissions::put_topic).delete(permissions::delete_topics),
        )
        .route("/api/policies", get(policies::all))
        .route("/api/policies/{vhost}", get(policies::of_vhost))
        .route("/api/policies/{vhost}/{name}", get(policies::one).put(policies::put).delete(policies::delete))
        .route("/api/operator-policies", get(policies::all_operator))
        .route("/api/operator-policies/{vhost}", get(policies::operator_of_vhost))
        .route(
            "/api/operator-policies/{vhost}/{name}",
            get(policies::one_operator).put(policies::put_operator).delete(policies::delete_operator),
        )
        .route("/api/parameters", get(parameters::all))
        .route("/api/parameters/{component}", get(parameters::of_component))
        .route("/api/parameters/{component}/{vhost}", get(parameters::of_vhost))
        .route("/api/parameters/{component}/{vhost}/{name}", put(parameters::put).delete(parameters::delete))
        .route("/api/rebalance/queues", post(overview::rebalance))
        .route("/api/global-parameters", get(policies::global_parameters))
        .route(
            "/api/global-parameters/{name}",
            get(policies::global_parameter)
                .put(policies::put_global_parameter)
                .delete(policies::delete_global_parameter),
        )
}

fn health_checks() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/aliveness-test/{vhost}", get(health::aliveness))
        .route("/api/healthchecks/node", get(health::fine))
        .route("/api/health/checks/alarms", get(health::alarms))
        .route("/api/health/checks/local-alarms", get(health::alarms))
        .route("/api/health/checks/virtual-hosts", get(health::fine))
        .route("/api/health/checks/node-is-mirror-sync-critical", get(health::fine))
        .route("/api/health/checks/node-is-quorum-critical", get(health::fine))
        .route("/api/health/checks/certificate-expiration/{within}/{unit}", get(health::certificates))
        .route("/api/health/checks/port-listener/{port}", get(health::port))
        .route("/api/health/checks/protocol-listener/{protocol}", get(health::protocol))
}

/// RabbitMQ takes a path with a slash at its end for the one without; clients use both.
async fn trim_slash(mut request: axum::extract::Request) -> axum::extract::Request {
    let uri = request.uri();
    if let Some(path) = uri.path().strip_suffix('/').filter(|path| !path.is_empty()) {
        let trimmed = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        if let Ok(trimmed) = trimmed.parse() {
            *request.uri_mut() = trimmed;
        }
    }
    request
}

/// Refuses changes that a page of another site asks a browser for: a browser adds the login by
/// itself, so the login proves nothing. Programs send neither header.
async fn own_pages_only(request: axum::extract::Request, next: Next) -> Response {
    if !request.method().is_safe() && is_foreign(request.headers()) {
        return Refusal::not_authorised("Requests from pages of other sites are refused").into_response();
    }
    next.run(request).await
}

fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => !matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").map(|(_, host)| host) != text("host"),
        (None, None) => false,
    }
}

/// Headers of every answer. Other sites may not frame or sniff it, and nothing is kept in caches.
async fn common_headers(request: axum::extract::Request, next: Next) -> Response {
    let head = request.method() == Method::HEAD;
    let by_script = request.headers().contains_key("x-requested-with");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    // The pages have a login of their own: the browser's must not come up.
    if by_script {
        headers.remove(header::WWW_AUTHENTICATE);
    }
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'self'; frame-ancestors 'none'"),
        (header::VARY, "accept, accept-encoding, origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if head {
        *response.body_mut() = axum::body::Body::empty();
    }
    response
}
