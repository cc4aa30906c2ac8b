//! The life of a node's process: configuration, storage, listeners, ready, stop.

use crate::alarms::Alarms;
use crate::cluster::alone::Alone;
use crate::config::cli::{Environment, NodeArgs, SHOWN_VARIABLES};
use crate::config::{Config, TlsListeners};
use crate::ctl;
use crate::listener::{self, Entrance};
use crate::management::{self, Api, Files, Listening};
use crate::metadata::upgrade::UpgradeError;
use crate::metadata::{OpenError, bootstrap};
use crate::node::{Node, Settings};
use crate::storage::{Storage, StorageError};
use crate::tls::TlsServer;
use broker_store::datadir::{DataDir, DataDirError};
use daemon::exit::Exit;
use daemon::listen::{ListenOptions, bind_tcp};
use daemon::logging::LogError;
use daemon::run::Failure;
use daemon::shutdown::Shutdown;
use daemon::signals::{Signal, Signals};
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

/// Largest transaction, octets of publishes: it has to fit into memory and into one append to the log.
const MAX_TRANSACTION: usize = 256 << 20;
/// How long clients get to answer `connection.close` when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Open files asked of the system: one for each client, and some.
const OPEN_FILES: u64 = 1 << 20;

/// Runs a node until it is told to stop.
pub(crate) fn run(args: &NodeArgs) -> Result<(), Failure> {
    let began = Instant::now();
    let mut config = Config::load(args, &Environment::read())?;
    config.warnings.print();
    if config.check_only {
        let file = config.files.first().map_or("the defaults".into(), |path| path.to_string_lossy());
        let _ = writeln!(std::io::stdout(), "ok  {file}  node {}", config.node_name);
        return Ok(());
    }
    if let Some(kept) = config.data.as_deref().and_then(DataDir::known_node) {
        config.keep_node_name(kept);
    }
    config.log.recent = ctl::server::LOG_LINES;
    daemon::logging::init(&config.log).map_err(log_failure)?;
    daemon::privilege::raise_open_files(OPEN_FILES);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::OsError, format!("cannot start the runtime: {error}")))?;
    let ended = runtime.block_on(serve(config, began));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn serve(config: Config, began: Instant) -> Result<(), Failure> {
    let listeners = bind_all(&config.amqp.listen, "--port")?;
    let tls_listeners = bind_tls(config.amqp.tls.as_ref(), "amqp.tls")?;
    let http_listeners = bind_all(&config.management, "--management-port")?;
    let https_listeners = bind_tls(config.management_tls.as_ref(), "management.tls")?;
    let metrics_listeners = match bind_all(&config.metrics.listen, "--metrics-port") {
        // Nobody asked for it: the next node of this machine goes without.
        Err(error) if !config.metrics.required => {
            tracing::warn!(%error, "no metrics: their port is in use");
            Vec::new()
        }
        bound => bound?,
    };
    let data = DataPlace::new(config.data.clone())?;
    let storage = Storage::open(data.path(), &config.node_name).map_err(storage_failure)?;
    let Storage { directory, metadata, wal, images, segments } = storage;
    let alarms = Alarms::new(&config.limits, data.path());
    let node = Node::start(settings(&config), alarms, metadata, wal, images, segments);
    bootstrap::bootstrap(&node.metadata, &config)
        .await
        .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;

    let mut signals = Signals::new()
        .map_err(|error| Failure::new(Exit::OsError, format!("cannot watch signals: {error}")))?;
    let (shutdown, _token) = Shutdown::new();
    // Port 0 has become a real one by now.
    let bound = Bound {
        amqp: addresses(&listeners),
        amqps: addresses(&tls_listeners),
        http: addresses(&http_listeners),
        https: addresses(&https_listeners),
        metrics: addresses(&metrics_listeners),
    };
    let files =
        Files { data: data.path().to_owned(), config: config.files.clone(), log: config.log_places() };
    let api = management::api(&node, bound.by_protocol(&config), files);
    for listener in metrics_listeners {
        tokio::spawn(serve_metrics(Arc::clone(&api), listener));
    }
    let https = config.management_tls.as_ref().map(|tls| Arc::clone(&tls.server));
    let plain_http = http_listeners.into_iter().map(|listener| (listener, None));
    for (listener, tls) in
        plain_http.chain(https_listeners.into_iter().map(|listener| (listener, https.clone())))
    {
        tokio::spawn(serve_http(Arc::clone(&api), listener, tls));
    }
    let plain = Entrance { proxy_protocol: config.amqp.proxy_protocol, tls: None };
    let tls = config.amqp.tls.as_ref().map(|tls| Arc::clone(&tls.server));
    let secure = Entrance { tls, ..plain.clone() };
    let doors = listeners.into_iter().map(|listener| (listener, plain.clone()));
    let accepting = doors
        .chain(tls_listeners.into_iter().map(|listener| (listener, secure.clone())))
        .map(|(listener, entrance)| {
            tokio::spawn(listener::accept(Arc::clone(&node), listener, entrance, shutdown.token()))
        })
        .collect::<Vec<_>>();
    let control = control(&config, &node, data.path(), &api);
    write_pid(config.pid_file.as_deref());
    banner(&config, &bound, data.path(), began);

    let mut failed = node.failed();
    let storage_failed = async {
        // The node keeps the sender for as long as it lives.
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    };
    let status = format!("node {} running", config.node_name);
    let outcome = tokio::select! {
        reason = storage_failed => Err(Failure::new(Exit::Io, format!("storage failed: {reason}"))),
        () = daemon::run::until_stopped(&mut signals, &shutdown, &status, async |signal| {
            match signal {
                Signal::Hangup => reload_certificates(&config),
                signal => tracing::info!(?signal, "nothing to do for this signal"),
            }
        }) => Ok(()),
    };
    drop(control);
    stop(&node, accepting, &mut signals, &shutdown).await;
    drop(directory);
    outcome
}

/// Opens the control socket for the tools on this machine. A node without one works, but not they.
fn control(config: &Config, node: &Arc<Node>, data: &Path, api: &Arc<Api>) -> Option<ctl::Bound> {
    let opened = ctl::Bound::new(data, &config.node_name)
        .and_then(|(bound, listener)| Ok((bound, UnixListener::from_std(listener)?)));
    let (bound, listener) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(%error, data = %data.display(), "no control socket: rabbitmqctl can not reach this node");
            return None;
        }
    };
    let variable = |name: &&str| Some(((*name).to_owned(), std::env::var(name).ok()?.into()));
    let alone = Arc::new(Alone { node: Arc::clone(node) });
    let control = ctl::server::Control {
        node: Arc::clone(node),
        operator: alone.clone(),
        relay: alone,
        data: data.to_owned(),
        config_files: config.files.iter().map(|path| path.display().to_string()).collect(),
        log_files: config.log_places(),
        settings: config.shown(),
        environment: SHOWN_VARIABLES.iter().filter_map(variable).collect(),
    };
    let api = Arc::clone(api);
    tokio::spawn(async move {
        let with = |api| ctl::server::routes(api, control);
        if let Err(error) = management::serve_local(api, listener, with).await {
            tracing::error!(%error, "the control socket stopped");
        }
    });
    Some(bound)
}

/// For scripts that wait with `rabbitmqctl wait`.
fn write_pid(file: Option<&Path>) {
    if let Some(path) = file
        && let Err(error) = std::fs::write(path, format!("{}\n", std::process::id()))
    {
        tracing::error!(%error, path = %path.display(), "the process id could not be written");
    }
}

/// SIGHUP: certificate files are read again. Connections keep what they began with.
fn reload_certificates(config: &Config) {
    for (section, tls) in [("amqp.tls", &config.amqp.tls), ("management.tls", &config.management_tls)] {
        match tls.as_ref().map(|tls| tls.server.reload()) {
            Some(Ok(())) => tracing::info!(section, "certificates were read again"),
            Some(Err(error)) => {
                tracing::error!(section, %error, help = error.help, "certificates are kept as they were");
            }
            None => {}
        }
    }
}

/// Says goodbye to the clients, then makes everything durable.
async fn stop(node: &Arc<Node>, accepting: Vec<JoinHandle<()>>, signals: &mut Signals, shutdown: &Shutdown) {
    shutdown.stop(daemon::shutdown::Stop::Graceful);
    tracing::info!(connections = node.connections.len(), "stopping");
    node.close_connections(
        amqp::reply_code::CONNECTION_FORCED,
        "broker forced connection closure with reason 'shutdown'",
    );
    let gone = async {
        while node.connections.len() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = gone => {}
        () = tokio::time::sleep(STOP_TIMEOUT) => {}
        () = daemon::run::next_stop(signals, shutdown) => {}
    }
    for task in accepting {
        task.abort();
    }
    let wal = node.wal.clone();
    node.pager.remove_due(wal.durable_lsn());
    match tokio::task::spawn_blocking(move || wal.stop()).await {
        Ok(Ok(_)) => tracing::info!("stopped"),
        Ok(Err(error)) => tracing::error!(%error, "the log could not be closed cleanly"),
        Err(error) => tracing::error!(%error, "stopping failed"),
    }
}

/// Where the node listens.
struct Bound {
    amqp: Vec<SocketAddr>,
    amqps: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    metrics: Vec<SocketAddr>,
}

impl Bound {
    fn by_protocol(&self, config: &Config) -> Vec<Listening> {
        let server = |tls: &Option<TlsListeners>| tls.as_ref().map(|tls| Arc::clone(&tls.server));
        [
            ("amqp", &self.amqp, None),
            ("amqp/ssl", &self.amqps, server(&config.amqp.tls)),
            ("http", &self.http, None),
            ("https", &self.https, server(&config.management_tls)),
            ("http/prometheus", &self.metrics, None),
        ]
        .into_iter()
        .flat_map(|(protocol, addresses, tls)| {
            addresses.iter().map(move |address| Listening { protocol, address: *address, tls: tls.clone() })
        })
        .collect()
    }
}

fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// Serves the HTTP API; losing it is no reason to stop the node.
async fn serve_http(api: Arc<Api>, listener: TcpListener, tls: Option<Arc<TlsServer>>) {
    if let Err(error) = management::serve(api, listener, tls).await {
        tracing::error!(%error, "the HTTP API stopped");
    }
}

/// The same for metrics.
async fn serve_metrics(api: Arc<Api>, listener: TcpListener) {
    if let Err(error) = management::serve_metrics(api, listener).await {
        tracing::error!(%error, "the metrics stopped");
    }
}

fn bind_tls(tls: Option<&TlsListeners>, section: &str) -> Result<Vec<TcpListener>, Failure> {
    let listen = tls.map(|tls| tls.listen.as_slice()).unwrap_or_default();
    bind(listen, |port| format!("listen = \":{port}\" in [{section}]   use another port"))
}

fn bind_all(addresses: &[SocketAddr], flag: &str) -> Result<Vec<TcpListener>, Failure> {
    bind(addresses, |port| format!("broker {flag} {port}   use another port"))
}

/// Listens on all of them. `advice` says how to take another port.
fn bind(addresses: &[SocketAddr], advice: impl Fn(u16) -> String) -> Result<Vec<TcpListener>, Failure> {
    let bind = |address: &SocketAddr| {
        let listener = bind_tcp(*address, &ListenOptions { nodelay: true, ..ListenOptions::default() })
            .map_err(|error| Failure::from(error).detail("try", advice(address.port().saturating_add(1))))?;
        TcpListener::from_std(listener).map_err(|error| Failure::new(Exit::OsError, error.to_string()))
    };
    addresses.iter().map(bind).collect()
}

fn log_failure(error: LogError) -> Failure {
    let exit = if matches!(error, LogError::File { .. }) { Exit::CannotCreate } else { Exit::Usage };
    Failure::new(exit, error.to_string())
}

fn storage_failure(error: StorageError) -> Failure {
    let exit = match &error {
        StorageError::DataDir(DataDirError::InUse { .. }) => Exit::TempFail,
        StorageError::DataDir(DataDirError::OtherNode { .. }) => Exit::Config,
        StorageError::Metadata(OpenError::Snapshot(_) | OpenError::Start(_)) => Exit::DataError,
        StorageError::Upgrade(UpgradeError::Snapshot(_) | UpgradeError::Entry { .. }) => Exit::DataError,
        _ => Exit::Io,
    };
    Failure::new(exit, error.to_string())
}

/// What connections and queues need of the configuration.
pub(crate) fn settings(config: &Config) -> Settings {
    Settings {
        node: config.node_name.clone(),
        product: config.amqp.product.clone(),
        version: config.amqp.version.clone(),
        cluster_name: config.amqp.cluster_name.clone(),
        frame_max: config.amqp.frame_max,
        channel_max: config.amqp.channel_max,
        heartbeat: config.amqp.heartbeat,
        max_message_size: config.amqp.max_message_size,
        consumer_timeout_ms: config.amqp.consumer_timeout_ms,
        max_transaction_size: MAX_TRANSACTION,
        max_connections: config.limits.max_connections,
        loopback_users: config.amqp.loopback_users.0.clone(),
        auth_mechanisms: config.amqp.auth_mechanisms.clone(),
        cert_login: config.amqp.cert_login,
    }
}

/// Where the data lies; a directory of an ephemeral node goes with it.
struct DataPlace {
    path: PathBuf,
    ephemeral: bool,
}

impl DataPlace {
    fn new(configured: Option<PathBuf>) -> Result<DataPlace, Failure> {
        if let Some(path) = configured {
            return Ok(DataPlace { path, ephemeral: false });
        }
        let path =
            std::env::temp_dir().join(format!("broker-{}-{:08x}", std::process::id(), rand::random::<u32>()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            Failure::new(Exit::CannotCreate, format!("cannot create {}: {error}", path.display()))
        })?;
        Ok(DataPlace { path, ephemeral: true })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataPlace {
    fn drop(&mut self) {
        if self.ephemeral
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "could not remove the data of an ephemeral node");
        }
    }
}

/// Tells the person at the terminal, or the log, what was started.
fn banner(config: &Config, bound: &Bound, data: &Path, began: Instant) {
    let millis = began.elapsed().as_millis();
    let mut out = std::io::stdout();
    if out.is_terminal() {
        let port = |addresses: &[SocketAddr]| addresses.first().map_or(0, SocketAddr::port);
        let (port, http) = (port(&bound.amqp), port(&bound.http));
        let user = &config.default_user.name;
        let kept = if config.data.is_some() {
            "(kept between runs; --ephemeral to discard)"
        } else {
            "(discarded at the end)"
        };
        let _ = writeln!(
            out,
            "  broker {}  ready in {millis} ms{:40}node {} · pid {}\n\n  AMQP        amqp://{user}@localhost:{port}/\n  HTTP API    http://localhost:{http}/api/\n  Data        {}  {kept}\n\n  Stop:       Ctrl-C",
            env!("CARGO_PKG_VERSION"),
            "",
            config.node_name,
            std::process::id(),
            data.display(),
        );
    }
    let list =
        |addresses: &[SocketAddr]| addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
    let (amqp, amqps, http) = (list(&bound.amqp), list(&bound.amqps), list(&bound.http));
    let https = list(&bound.https);
    tracing::info!(node = config.node_name, amqp, amqps, http, https, data = %data.display(), ready_ms = millis, "node started");
    // Testcontainers and other harnesses wait for RabbitMQ's words.
    tracing::info!("Server startup complete; 0 plugins started.");
}
