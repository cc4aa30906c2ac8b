//! The node's side of the control socket: what the HTTP API does not have, because it is for this machine only.

use super::cluster_server;
use super::relay::{self, Relay};
use crate::alarms::machine_memory;
use crate::cluster::operator::{AppState, Operator};
use crate::config::{MemoryLimit, octets_of};
use crate::node::Node;
use axum::Router;
use axum::extract::{Json, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Lines of the log that the node keeps for `log_tail`.
pub(crate) const LOG_LINES: usize = 1000;

/// What the node knows about how it was started.
pub(crate) struct Control {
    /// The node.
    pub(crate) node: Arc<Node>,
    /// Whoever carries out what concerns the cluster.
    pub(crate) operator: Arc<dyn Operator>,
    /// Whoever reaches the other nodes.
    pub(crate) relay: Arc<dyn Relay>,
    /// Where its data is.
    pub(crate) data: PathBuf,
    /// Files it was configured by.
    pub(crate) config_files: Vec<String>,
    /// Where its log goes.
    pub(crate) log_files: Vec<String>,
    /// Its settings, without secrets.
    pub(crate) settings: Map<String, Value>,
    /// The variables of the environment that it read, without secrets.
    pub(crate) environment: Map<String, Value>,
}

/// The API's routes, and those beside them.
pub(crate) fn routes(api: Router, control: Control) -> Router {
    let (me, relay) = (control.node.settings.node.clone(), Arc::clone(&control.relay));
    let cluster = cluster_server::routes(Arc::clone(&control.operator));
    let own = Router::new()
        .route("/local/identity", get(identity))
        .route("/local/environment", get(environment))
        .route("/local/stop", post(stop))
        .route("/local/memory-watermark", put(set_memory_watermark))
        .route("/local/disk-limit", put(set_disk_limit))
        .route("/local/log-level", put(set_log_level))
        .route("/local/log", get(log))
        .route("/local/give-back-memory", post(give_back_memory))
        .route("/local/listeners", put(suspend))
        .with_state(Arc::new(control));
    relay::around(api.merge(own).merge(cluster), me, relay)
}

/// What is known of a node that does not run.
pub(crate) struct Stopped {
    /// Its name.
    pub(crate) node: String,
    /// It is a witness that has started, and no broker on its way.
    pub(crate) witness: bool,
    /// Whoever starts it.
    pub(crate) operator: Arc<dyn Operator>,
    /// Where its data is.
    pub(crate) data: PathBuf,
    /// Files it was configured by.
    pub(crate) config_files: Vec<String>,
    /// Where its log goes.
    pub(crate) log_files: Vec<String>,
    /// The variables of the environment that it read, without secrets.
    pub(crate) environment: Map<String, Value>,
}

/// The routes of a node that is stopped or on its way: who it is, and how to start it.
pub(crate) fn stopped(stopped: Stopped) -> Router {
    let cluster = cluster_server::routes(Arc::clone(&stopped.operator));
    let own = Router::new()
        .route("/local/identity", get(stopped_identity))
        .route("/local/stop", post(stop))
        .route("/local/log-level", put(set_log_level))
        .route("/local/log", get(log))
        .fallback(not_running)
        .with_state(Arc::new(stopped));
    own.merge(cluster)
}

/// The routes of a witness that runs: it has no API, and asks the other nodes for what they have.
pub(crate) fn witness(witness: Stopped, relay: Arc<dyn Relay>) -> Router {
    let me = witness.node.clone();
    relay::around(stopped(witness), me, relay)
}

impl Stopped {
    /// It is a witness, and `stop_app` has not been called.
    fn is_running_witness(&self) -> bool {
        self.witness && self.operator.status().app != AppState::Stopped
    }
}

async fn stopped_identity(State(stopped): State<Arc<Stopped>>) -> Json<Value> {
    let members: Vec<String> =
        stopped.operator.status().members.into_iter().map(|member| member.name).collect();
    Json(json!({
        "node": stopped.node, "members": members, "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION"),
        "db_dir": stopped.data, "config_files": stopped.config_files, "log_files": stopped.log_files,
        "environment": stopped.environment, "running": stopped.is_running_witness(),
    }))
}

/// RabbitMQ's words.
async fn not_running(State(stopped): State<Arc<Stopped>>) -> Response {
    if stopped.is_running_witness() {
        let reason = format!(
            "{} is a witness: it votes, and has no queues and no API. Ask another node of the cluster, with -n",
            stopped.node
        );
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"error": "witness", "reason": reason})))
            .into_response();
    }
    let reason = format!(
        "this command requires the 'rabbit' app to be running on the target node. Start it with 'rabbitmqctl \
         start_app'. Node: {}",
        stopped.node
    );
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"error": "stopped", "reason": reason}))).into_response()
}

type Shared = State<Arc<Control>>;

async fn identity(State(control): Shared) -> Json<Value> {
    let members: Vec<String> =
        control.operator.status().members.into_iter().map(|member| member.name).collect();
    Json(json!({
        "node": control.node.settings.node, "members": members, "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION"),
        "db_dir": control.data, "config_files": control.config_files, "log_files": control.log_files,
        "environment": control.environment, "available_memory": machine_memory(),
    }))
}

async fn environment(State(control): Shared) -> Json<Value> {
    let mut settings = control.settings.clone();
    let alarms = &control.node.alarms;
    settings.insert("limits.memory_high_watermark".to_owned(), json!(alarms.memory_limit()));
    settings.insert("limits.disk_free".to_owned(), json!(alarms.disk_limit()));
    Json(Value::Object(settings))
}

/// The same as SIGTERM. The answer leaves before the node has closed its sockets.
async fn stop() -> Response {
    tracing::info!("stop asked for on the control socket");
    match kill(Pid::this(), Signal::SIGTERM) {
        Ok(()) => Json(json!({"pid": std::process::id()})).into_response(),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// `relative` to the machine's memory, or `absolute`.
#[derive(Debug, Deserialize)]
struct Limit {
    relative: Option<f64>,
    absolute: Option<String>,
}

async fn set_memory_watermark(State(control): Shared, Json(limit): Json<Limit>) -> Response {
    let limit = match limit {
        Limit { relative: Some(share), .. } if (0.0..=1.0).contains(&share) => MemoryLimit::Share(share),
        Limit { absolute: Some(size), .. } => match octets_of(&size) {
            Some(octets) => MemoryLimit::Octets(octets),
            None => return not_a_size(&size),
        },
        _ => return refused(StatusCode::BAD_REQUEST, "a share lies between 0.0 and 1.0"),
    };
    tracing::warn!(?limit, "memory high watermark changed until the next start");
    control.node.alarms.set_memory_limit(limit);
    StatusCode::NO_CONTENT.into_response()
}

async fn set_disk_limit(State(control): Shared, Json(limit): Json<Limit>) -> Response {
    let octets = match limit {
        Limit { relative: Some(share), .. } => (machine_memory() as f64 * share) as u64,
        Limit { absolute: Some(size), .. } => match octets_of(&size) {
            Some(octets) => octets,
            None => return not_a_size(&size),
        },
        _ => return refused(StatusCode::BAD_REQUEST, "no limit is given"),
    };
    tracing::warn!(octets, "disk free limit changed until the next start");
    control.node.alarms.set_disk_limit(octets);
    StatusCode::NO_CONTENT.into_response()
}

/// The level to log at.
#[derive(Debug, Deserialize)]
struct Level {
    level: String,
}

async fn set_log_level(Json(Level { level }): Json<Level>) -> Response {
    // RabbitMQ's names.
    let own = match level.as_str() {
        "warning" | "notice" => "warn",
        "critical" | "alert" | "emergency" => "error",
        "none" => "off",
        known @ ("debug" | "info" | "error" | "trace" | "warn" | "off") => known,
        other => {
            let reason = format!("log level `{other}` is not known; use debug, info, warning, error or none");
            return refused(StatusCode::BAD_REQUEST, &reason);
        }
    };
    match daemon::logging::set_level(own) {
        Ok(()) => {
            tracing::warn!(level = own, "log level changed until the next start");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

/// How many lines.
#[derive(Debug, Deserialize)]
struct Lines {
    lines: usize,
}

async fn log(Query(Lines { lines }): Query<Lines>) -> Json<Value> {
    Json(json!({"lines": daemon::logging::recent(lines)}))
}

async fn give_back_memory() -> StatusCode {
    match tokio::task::spawn_blocking(crate::allocator::give_back).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Whether new connections are refused.
#[derive(Debug, Deserialize)]
struct Suspended {
    suspended: bool,
}

async fn suspend(State(control): Shared, Json(Suspended { suspended }): Json<Suspended>) -> StatusCode {
    tracing::warn!(suspended, "client listeners");
    control.node.suspended.store(suspended, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}

fn not_a_size(text: &str) -> Response {
    let reason =
        format!("`{text}` is not a size; write octets, or a number with a unit such as 2GiB or 500MB");
    refused(StatusCode::BAD_REQUEST, &reason)
}

fn refused(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({"error": "bad_request", "reason": reason}))).into_response()
}
