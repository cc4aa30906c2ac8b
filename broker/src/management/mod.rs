//! The HTTP API on port 15672, with the paths, fields and status codes of RabbitMQ's.
//!
//! One file per family of paths. Everything is answered from the metadata and from the node's live
//! counters; nothing is cached except rates, which [`rates`] samples every five seconds.

mod asked;
mod bindings;
mod caller;
mod channels;
mod conditions;
mod connections;
mod consumers;
mod definitions;
mod erlang;
mod events;
mod exchanges;
mod explain;
mod features;
mod fields;
mod front;
mod health;
mod listing;
mod messages;
mod metrics;
mod mirrors;
mod nodes;
mod operate;
mod overview;
mod parameters;
mod paths;
pub(crate) mod peers;
mod permissions;
mod policies;
pub(crate) mod policy_check;
mod queues;
mod rates;
mod reply;
mod secure;
mod server;
mod session;
mod system;
#[cfg(test)]
mod tests;
mod totals;
mod ui;
mod users;
mod vhosts;

use crate::config::WebConfig;
use crate::node::Node;
use crate::tls::TlsServer;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use broker_core::meta::Placement;
pub(crate) use metrics::serve as serve_metrics;
use paths::{ApiPath, at};
use peers::Peers;
use rates::Rates;
use reply::Refusal;
use secure::{Local, Peer, TlsListener};
use session::Sessions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use tokio::net::{TcpListener, UnixListener};

/// Octets a request may have; definitions are the largest.
const MAX_BODY: usize = 64 << 20;

/// What every request can reach.
#[derive(Debug)]
pub(crate) struct Api {
    node: Arc<Node>,
    rates: Rates,
    totals: totals::Cache,
    sessions: Sessions,
    /// Open streams of server-sent events.
    streams: Arc<events::Streams>,
    files: Files,
    /// Where its paths begin, and which pages of other sites may use it.
    web: WebConfig,
    /// The other nodes of the cluster, once there can be any.
    peers: OnceLock<Arc<dyn Peers>>,
    /// Where AMQP clients and HTTP clients are listened for.
    listeners: Vec<Listening>,
}

/// Files of the node that an operator may look for.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// The data folder.
    pub(crate) data: PathBuf,
    /// Configuration files that were read.
    pub(crate) config: Vec<PathBuf>,
    /// Where the log goes.
    pub(crate) log: Vec<String>,
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

impl Api {
    /// Requests that concern other nodes are asked of them by `peers` from now on.
    pub(crate) fn set_peers(&self, peers: Arc<dyn Peers>) {
        let first = self.peers.set(peers).is_ok();
        debug_assert!(first, "one way to the others");
    }
}

impl Api {
    /// Whether this node runs the queue with this placement; a copy that follows another node's is not counted.
    fn runs(&self, placement: &Placement) -> bool {
        let peers = self.peers.get().filter(|peers| !peers.is_alone());
        peers.is_none_or(|peers| placement.leader == Some(peers.me()))
    }
}

/// The API of a node. `listeners` are all listeners of the node, for the overview and the health checks.
pub(crate) fn api(node: &Arc<Node>, listeners: Vec<Listening>, files: Files, web: WebConfig) -> Arc<Api> {
    let api = Arc::new(Api {
        node: Arc::clone(node),
        rates: Rates::default(),
        totals: totals::Cache::default(),
        sessions: Sessions::default(),
        streams: Arc::default(),
        files,
        web,
        peers: OnceLock::new(),
        listeners,
    });
    tokio::spawn(rates::sample(Arc::downgrade(&api)));
    api
}

/// Serves the API on one listener, for as long as the future is kept.
pub(crate) async fn serve(api: Arc<Api>, listener: TcpListener, tls: Option<Arc<TlsServer>>) {
    // The path is looked at before it is routed, hence the router around the router.
    let enter = middleware::from_fn_with_state(Arc::clone(&api), front::enter);
    let outer = Router::new().fallback_service(router(api)).layer(enter);
    match tls {
        Some(tls) => server::serve(TlsListener::new(listener, tls), outer, true).await,
        None => server::serve(listener, outer, false).await,
    }
}

/// Serves the API on the control socket, where nobody has to log in, together with what `with` adds that only belongs
/// there.
pub(crate) async fn serve_local(
    api: Arc<Api>,
    listener: UnixListener,
    with: impl FnOnce(Router) -> Router,
) -> std::io::Result<()> {
    let routes = with(router(api)).layer(Extension(Local));
    let outer = Router::new()
        .fallback_service(routes)
        .layer(middleware::map_request(async |it| front::usual_path(it)));
    axum::serve(listener, outer.into_make_service_with_connect_info::<Peer>()).await
}

/// Answers on the control socket for a node that does not run.
pub(crate) async fn serve_stopped(listener: UnixListener, routes: Router) -> std::io::Result<()> {
    axum::serve(listener, routes.into_make_service()).await
}

fn router(api: Arc<Api>) -> Router {
    paths::router(all_paths())
        .merge(ui::routes())
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(Arc::clone(&api), peers::spread))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), front::own_pages_only))
        .layer(middleware::from_fn(common_headers))
        .with_state(api)
}

/// RabbitMQ looks for a file then, which can only be read.
async fn unknown(method: Method) -> Response {
    if method.is_safe() {
        Refusal::missing().into_response()
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "HEAD, GET, OPTIONS")]).into_response()
    }
}

/// Every path of the API.
fn all_paths() -> Vec<ApiPath> {
    let mut all = whole();
    all.extend(messaging());
    all.extend(clients());
    all.extend(administration());
    all.extend(policy_paths::<false>("policies"));
    all.extend(policy_paths::<true>("operator-policies"));
    all.extend(parameters());
    all.extend(health_checks());
    all
}

/// What concerns the node or the cluster as a whole.
fn whole() -> Vec<ApiPath> {
    vec![
        at("/api/overview").get(overview::overview, "The node at a glance"),
        at("/api/cluster-name").get(overview::cluster_name, "The cluster's name").put(
            overview::set_cluster_name,
            "Names the cluster",
            "name",
        ),
        at("/api/nodes").get(nodes::all, "The nodes of the cluster"),
        at("/api/nodes/{name}").get(nodes::one, "A node"),
        at("/api/nodes/{name}/memory").get(nodes::memory, "What a node uses memory for"),
        at("/api/whoami").get(users::whoami, "Who is logged in"),
        at("/api/login").post(session::login, "Logs in by form, for a session cookie", "username password"),
        at("/api/logout").post(session::logout, "Ends the session", ""),
        at("/api/auth").get(overview::auth, "How web pages may log in"),
        at("/api/auth/attempts/{node}").get(nodes::login_attempts, "Logins by protocol"),
        at("/api/extensions").get(overview::extensions, "Extensions of the web pages"),
        at("/api/feature-flags").get(features::all, "RabbitMQ's feature flags, all of them enabled"),
        at("/api/feature-flags/{name}/enable").put(features::enable, "Enables a feature flag", "name?"),
        at("/api/definitions").get(definitions::all, "Everything that was declared, for an import").post(
            definitions::import_all,
            "Imports definitions",
            "users? vhosts? permissions? policies? queues? exchanges? bindings?",
        ),
        at("/api/definitions/{vhost}").get(definitions::of_vhost, "The definitions of a vhost").post(
            definitions::import_vhost,
            "Imports definitions into a vhost",
            "policies? queues? exchanges? bindings?",
        ),
        at("/api/rebalance/queues").post(overview::rebalance, "Spreads queue leaders over the nodes", ""),
        at("/api/reset").delete(nodes::reset, "Forgets what rates and charts are made of"),
        at("/api/reset/{node}").delete(nodes::reset_node, "Forgets the samples of a node"),
        at("/api/events").get(events::events, "Server-sent events: the overview at an interval"),
    ]
}

/// Exchanges, queues, bindings and what lies in queues.
fn messaging() -> Vec<ApiPath> {
    vec![
        at("/api/queues").get(queues::list, "All queues"),
        at("/api/queues/detailed").get(queues::list, "All queues, as newer versions of RabbitMQ are asked"),
        at("/api/queues/{vhost}").get(queues::list, "The queues of a vhost"),
        at("/api/queues/{vhost}/{name}")
            .get(queues::one, "A queue")
            .put(queues::declare, "Declares a queue", "durable? auto_delete? arguments?")
            .delete(queues::delete, "Deletes a queue; if-unused=true, if-empty=true"),
        at("/api/queues/{vhost}/{name}/contents").delete(queues::purge, "Purges a queue"),
        at("/api/queues/{vhost}/{name}/get").post(
            messages::get,
            "Fetches messages",
            "count ackmode encoding truncate?",
        ),
        at("/api/queues/{vhost}/{name}/peek").post(
            operate::peek,
            "Shows messages and leaves the queue as it is",
            "count? offset? encoding? truncate?",
        ),
        at("/api/queues/{vhost}/{name}/move").post(
            operate::move_messages,
            "Moves ready messages to another queue",
            "destination count?",
        ),
        at("/api/queues/{vhost}/{name}/requeue").post(
            operate::requeue,
            "Brings dead letters back to the queues they came from",
            "count?",
        ),
        at("/api/queues/{vhost}/{name}/pause")
            .put(operate::pause, "Holds the consumers of a queue back", "")
            .delete(operate::resume, "Lets them go on"),
        at("/api/queues/{vhost}/{name}/actions").post(queues::act, "Synchronises mirrors", "action"),
        at("/api/queues/{vhost}/{name}/bindings").get(bindings::of_queue, "The bindings of a queue"),
        at("/api/exchanges").get(exchanges::list, "All exchanges"),
        at("/api/exchanges/{vhost}").get(exchanges::list, "The exchanges of a vhost"),
        at("/api/exchanges/{vhost}/{name}")
            .get(exchanges::one, "An exchange")
            .put(
                exchanges::declare,
                "Declares an exchange",
                "type durable? auto_delete? internal? arguments?",
            )
            .delete(exchanges::delete, "Deletes an exchange; if-unused=true"),
        at("/api/exchanges/{vhost}/{name}/publish").post(
            messages::publish,
            "Publishes a message",
            "routing_key payload payload_encoding properties?",
        ),
        at("/api/exchanges/{vhost}/{name}/bindings/source")
            .get(bindings::of_source, "The bindings that lead from an exchange"),
        at("/api/exchanges/{vhost}/{name}/bindings/destination")
            .get(bindings::of_destination, "The bindings that lead to an exchange"),
        at("/api/explain/{vhost}/{exchange}").post(
            explain::explain,
            "Which queues a message would reach, and why",
            "routing_key? headers?",
        ),
        at("/api/bindings").get(bindings::list, "All bindings"),
        at("/api/bindings/{vhost}").get(bindings::list, "The bindings of a vhost"),
        at("/api/bindings/{vhost}/e/{source}/{kind}/{to}")
            .get(bindings::between, "The bindings between an exchange and a queue (q) or exchange (e)")
            .post(bindings::bind, "Binds", "routing_key? arguments?"),
        at("/api/bindings/{vhost}/e/{source}/{kind}/{to}/{key}")
            .get(bindings::one, "A binding by its properties_key")
            .delete(bindings::unbind, "Unbinds"),
    ]
}

/// Who is connected.
fn clients() -> Vec<ApiPath> {
    vec![
        at("/api/connections").get(connections::list, "All connections"),
        at("/api/connections/{name}")
            .get(connections::one, "A connection")
            .delete(connections::close, "Closes a connection; the header X-Reason is told to the client"),
        at("/api/connections/{name}/channels").get(channels::of_connection, "The channels of a connection"),
        at("/api/connections/username/{user}")
            .get(connections::list, "The connections of a user")
            .delete(connections::close_of_user, "Closes the connections of a user"),
        at("/api/vhosts/{vhost}/connections").get(connections::list, "The connections to a vhost"),
        at("/api/vhosts/{vhost}/channels").get(channels::list, "The channels in a vhost"),
        at("/api/channels").get(channels::list, "All channels"),
        at("/api/channels/{name}").get(channels::one, "A channel"),
        at("/api/consumers").get(consumers::list, "All consumers"),
        at("/api/consumers/{vhost}").get(consumers::list, "The consumers in a vhost"),
    ]
}

/// Vhosts, users, permissions, limits.
fn administration() -> Vec<ApiPath> {
    vec![
        at("/api/vhosts").get(vhosts::all, "All vhosts"),
        at("/api/vhosts/{vhost}")
            .get(vhosts::one, "A vhost")
            .put(vhosts::put, "Adds or changes a vhost", "description? tags? tracing? default_queue_type?")
            .delete(vhosts::delete, "Deletes a vhost and everything in it"),
        at("/api/vhosts/{vhost}/start/{node}").post(vhosts::start, "Starts a vhost on a node", ""),
        at("/api/vhosts/{vhost}/permissions").get(permissions::of_vhost, "The permissions in a vhost"),
        at("/api/vhosts/{vhost}/topic-permissions")
            .get(permissions::topics_of_vhost, "The topic permissions in a vhost"),
        at("/api/vhost-limits").get(vhosts::all_limits, "The limits of all vhosts"),
        at("/api/vhost-limits/{vhost}").get(vhosts::limits, "The limits of a vhost"),
        at("/api/vhost-limits/{vhost}/{limit}")
            .put(vhosts::set_limit, "Sets max-connections or max-queues", "value")
            .delete(vhosts::clear_limit, "Clears a limit"),
        at("/api/users").get(users::all, "All users"),
        at("/api/users/without-permissions")
            .get(users::without_permissions, "Users who may not use any vhost"),
        at("/api/users/bulk-delete").post(users::bulk_delete, "Deletes users", "users"),
        at("/api/users/{user}")
            .get(users::one, "A user")
            .put(users::put, "Adds or changes a user", "tags password? password_hash? hashing_algorithm?")
            .delete(users::delete, "Deletes a user"),
        at("/api/users/{user}/permissions").get(permissions::of_user, "The permissions of a user"),
        at("/api/users/{user}/topic-permissions")
            .get(permissions::topics_of_user, "The topic permissions of a user"),
        at("/api/user-limits").get(users::all_limits, "The limits of all users"),
        at("/api/user-limits/{user}").get(users::limits, "The limits of a user"),
        at("/api/user-limits/{user}/{limit}")
            .put(users::set_limit, "Sets max-connections or max-channels", "value")
            .delete(users::clear_limit, "Clears a limit"),
        at("/api/permissions").get(permissions::all, "All permissions"),
        at("/api/permissions/{vhost}/{user}")
            .get(permissions::one, "What a user may do in a vhost")
            .put(permissions::put, "Sets what a user may do in a vhost", "configure write read")
            .delete(permissions::delete, "Takes a user's permissions in a vhost away"),
        at("/api/topic-permissions").get(permissions::all_topics, "All topic permissions"),
        at("/api/topic-permissions/{vhost}/{user}")
            .get(permissions::topics, "The topic permissions of a user in a vhost")
            .put(permissions::put_topic, "Sets topic permissions", "exchange write read")
            .delete(permissions::delete_topics, "Clears topic permissions"),
        at("/api/topic-permissions/{vhost}/{user}/{exchange}")
            .delete(permissions::delete_topics_of_exchange, "Clears the topic permissions for an exchange"),
    ]
}

/// Policies or operator policies.
fn policy_paths<const OPERATOR: bool>(name: &str) -> [ApiPath; 3] {
    let kind = if OPERATOR { "operator policy" } else { "policy" };
    let kinds = kind.replace("policy", "policies");
    [
        at(format!("/api/{name}")).get(policies::list::<OPERATOR>, format!("All {kinds}")),
        at(format!("/api/{name}/{{vhost}}"))
            .get(policies::list::<OPERATOR>, format!("The {kinds} of a vhost")),
        at(format!("/api/{name}/{{vhost}}/{{name}}"))
            .get(policies::one::<OPERATOR>, format!("One {kind}"))
            .put(
                policies::put::<OPERATOR>,
                format!("Sets one {kind}"),
                "pattern definition priority? apply-to?",
            )
            .delete(policies::delete::<OPERATOR>, format!("Clears one {kind}")),
    ]
}

/// Parameters.
fn parameters() -> Vec<ApiPath> {
    vec![
        at("/api/parameters").get(parameters::all, "All parameters"),
        at("/api/parameters/{component}").get(parameters::of_component, "The parameters of a component"),
        at("/api/parameters/{component}/{vhost}")
            .get(parameters::of_vhost, "The parameters of a component in a vhost"),
        at("/api/parameters/{component}/{vhost}/{name}")
            .get(parameters::one, "A parameter")
            .put(parameters::put, "Sets a parameter", "value")
            .delete(parameters::delete, "Clears a parameter"),
        at("/api/global-parameters").get(policies::global_parameters, "All global parameters"),
        at("/api/global-parameters/{name}")
            .get(policies::global_parameter, "A global parameter")
            .put(policies::put_global_parameter, "Sets a global parameter", "value")
            .delete(policies::delete_global_parameter, "Clears a global parameter"),
    ]
}

fn health_checks() -> Vec<ApiPath> {
    vec![
        at("/api/aliveness-test/{vhost}")
            .get(health::aliveness, "Declares a queue and sends a message through"),
        at("/api/healthchecks/node").get(health::fine, "Whether the node runs"),
        at("/api/healthchecks/node/{node}").get(health::fine_node, "Whether a node runs"),
        at("/api/health/checks/alarms").get(health::alarms, "Whether no alarm is on in the cluster"),
        at("/api/health/checks/local-alarms").get(health::local_alarms, "Whether no alarm is on at the node"),
        at("/api/health/checks/virtual-hosts").get(health::fine, "Whether all vhosts run"),
        at("/api/health/checks/node-is-mirror-sync-critical")
            .get(health::mirrors, "Whether no mirror would be lost with the node"),
        at("/api/health/checks/node-is-quorum-critical")
            .get(health::quorums, "Whether no quorum would be lost with the node"),
        at("/api/health/checks/certificate-expiration/{within}/{unit}")
            .get(health::certificates, "Whether no certificate ends within a time"),
        at("/api/health/checks/port-listener/{port}").get(health::port, "Whether a port is listened on"),
        at("/api/health/checks/protocol-listener/{protocol}")
            .get(health::protocol, "Whether a protocol is listened for"),
    ]
}

/// What pages of ours may do: load what the node serves, and nothing that a script or a form of others brings.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

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
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::VARY, "accept, accept-encoding, origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if head {
        *response.body_mut() = axum::body::Body::empty();
    }
    response
}
