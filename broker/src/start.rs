//! The life of a node's process: configuration, data, the node itself, stop. The node may be stopped and started
//! while the process and its control socket stay.

use crate::app::{App, Bound, Ended, Opened, Sockets};
use crate::cluster::life::{Command, Life, Orders};
use crate::cluster::moves;
use crate::cluster::operator::{Done, Operator, Order, Refused, RefusedKind};
use crate::cluster::papers::Papers;
use crate::cluster::stopped::StoppedNode;
use crate::config::Config;
use crate::config::cli::{Environment, NodeArgs, SHOWN_VARIABLES};
use crate::ctl;
use crate::ctl::relay::Relay;
use crate::management;
use crate::metadata::OpenError;
use crate::metadata::upgrade::UpgradeError;
use crate::node::Settings;
use crate::storage::StorageError;
use broker_store::datadir::{DataDir, DataDirError};
use daemon::exit::Exit;
use daemon::logging::LogError;
use daemon::run::Failure;
use daemon::signals::{Signal, Signals};
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

/// Largest transaction, octets of publishes: it has to fit into memory and into one append to the log.
const MAX_TRANSACTION: usize = 256 << 20;
/// Open files asked of the system: one for each client, and some.
const OPEN_FILES: u64 = 1 << 20;
/// Pause before a node that has nobody to join tries again.
const JOIN_AGAIN: Duration = Duration::from_secs(1);

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

/// The process: what stays while the node is stopped.
pub(crate) struct Process {
    pub(crate) config: Config,
    pub(crate) life: Life,
    pub(crate) signals: Signals,
    pub(crate) began: Instant,
    data: DataPlace,
    orders: Orders,
    control: Option<Control>,
    /// Where the node listened the last time.
    pub(crate) places: Option<Bound>,
}

/// The control socket.
struct Control {
    _bound: ctl::Bound,
    listener: StdUnixListener,
    /// Answers on it.
    task: Option<JoinHandle<()>>,
}

/// What the process does.
enum Phase {
    Running(Box<App>),
    Stopped(DataDir),
}

/// How a start ended that was not one.
enum NoStart {
    /// The program ends.
    Failed(Failure),
    /// It was told to end.
    Stopped,
    /// The node was told to stop.
    Ordered(DataDir),
}

async fn serve(config: Config, began: Instant) -> Result<(), Failure> {
    let sockets = Sockets::bind(&config, None)?;
    let data = DataPlace::new(config.data.clone())?;
    let path = data.path().to_owned();
    let directory =
        DataDir::open_after(&path, &config.node_name, || moves::finish(&path).map_err(StorageError::from))
            .map_err(storage_failure)?;
    let signals = Signals::new()
        .map_err(|error| Failure::new(Exit::OsError, format!("cannot watch signals: {error}")))?;
    let (life, orders) = Life::new(&config.node_name);
    let mut process = Process { config, life, signals, began, data, orders, control: None, places: None };
    let started = process.first_start(directory, sockets).await;
    let mut phase = match started {
        Ok(app) => Phase::Running(app),
        Err(NoStart::Failed(failure)) => return Err(failure),
        Err(NoStart::Stopped) => return Ok(()),
        Err(NoStart::Ordered(directory)) => Phase::Stopped(directory),
    };
    loop {
        phase = match phase {
            Phase::Running(mut app) => match process.watch(&mut app).await {
                Ended::Failed(reason) => {
                    app.stop(&mut process).await;
                    return Err(Failure::new(Exit::Io, format!("storage failed: {reason}")));
                }
                Ended::Stopped => {
                    app.stop(&mut process).await;
                    return Ok(());
                }
                Ended::Ordered((order, reply)) => process.order_running(app, order, reply).await?,
            },
            Phase::Stopped(directory) => match process.next_order().await {
                Some((order, reply)) => process.order_stopped(directory, order, reply).await?,
                None => return Ok(()),
            },
        };
    }
}

fn refused(kind: RefusedKind, text: &str) -> Result<Done, Refused> {
    Err(Refused::new(kind, text))
}

impl Process {
    /// The data directory.
    pub(crate) fn path(&self) -> &Path {
        self.data.path()
    }

    /// Starts the node for the first time: a node without data joins its peers, if it was told of any.
    async fn first_start(&mut self, directory: DataDir, sockets: Sockets) -> Result<Box<App>, NoStart> {
        let papers = self.papers().map_err(NoStart::Failed)?;
        let peers: Vec<String> = self.config.cluster.peers.iter().map(|it| it.address.clone()).collect();
        let first = self.config.cluster.peers.first();
        let founds = !self.config.cluster.witness
            && first.is_none_or(|it| it.node.as_deref() == Some(&*self.config.node_name));
        if papers.is_none() && !directory.identity().in_use && !peers.is_empty() && !founds {
            self.serve_control(None);
            let directory = self.join_peers(directory, &peers).await?;
            return self.start(directory, sockets).await;
        }
        if papers.is_some() {
            self.serve_control(None);
        }
        self.start(directory, sockets).await
    }

    fn papers(&self) -> Result<Option<Papers>, Failure> {
        Papers::load(self.path()).map_err(|error| Failure::new(Exit::DataError, error.to_string()))
    }

    /// Tries to join until it works.
    async fn join_peers(&mut self, directory: DataDir, peers: &[String]) -> Result<DataDir, NoStart> {
        let mut said = String::new();
        loop {
            let Process { config, data, signals, .. } = &mut *self;
            let outcome = match stopped_node(config, data.path()) {
                Ok(stopped) => {
                    tokio::select! {
                        outcome = stopped.join(peers, None) => outcome,
                        _ = signals.recv() => return Err(NoStart::Stopped),
                    }
                }
                Err(failure) => return Err(NoStart::Failed(failure)),
            };
            match outcome {
                Ok(done) => {
                    tracing::info!(remarks = ?done.remarks, "joined");
                    let reopened = directory.reopen(&self.config.node_name).map_err(StorageError::from);
                    return reopened.map_err(|error| NoStart::Failed(storage_failure(error)));
                }
                Err(refused) => {
                    if said != refused.text {
                        tracing::warn!(reason = refused.text, "the node waits for a peer that it can join");
                        said = refused.text;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(JOIN_AGAIN) => {}
                _ = self.signals.recv() => return Err(NoStart::Stopped),
            }
        }
    }

    /// Whether others can reach this node where it says it is, as far as can be told here.
    async fn check_reachable(&self) -> Result<(), Refused> {
        let cluster = &self.config.cluster;
        // A name that does not resolve here may do so elsewhere.
        let found = tokio::net::lookup_host(cluster.advertised.as_str()).await;
        let found = found.into_iter().flatten().map(|address| address.ip());
        cluster.hidden_from(found).map_or(Ok(()), |text| Err(Refused::new(RefusedKind::Invalid, text)))
    }

    fn stopped_node(&self) -> Result<StoppedNode<'_>, Failure> {
        stopped_node(&self.config, self.path())
    }

    /// Starts the node. In a cluster, waits until a majority knows of it.
    async fn start(&mut self, directory: DataDir, sockets: Sockets) -> Result<Box<App>, NoStart> {
        let opened = Opened::new(self, directory, sockets).await.map_err(NoStart::Failed)?;
        self.life.set_running(opened.running());
        let running = Arc::clone(opened.running());
        let coming = running.come_up();
        tokio::pin!(coming);
        loop {
            tokio::select! {
                biased;
                up = &mut coming => match up {
                    Ok(()) => break,
                    Err(error) => {
                        let text = format!("the cluster does not take this node: {error}");
                        // Nothing was changed; the operator decides.
                        tracing::error!(reason = text, "the node is stopped; `rabbitmqctl reset` makes it leave");
                        let directory = opened.abandon().await;
                        self.be_stopped();
                        return Err(NoStart::Ordered(directory));
                    }
                },
                signal = self.signals.recv() => match signal {
                    Signal::Terminate | Signal::Interrupt | Signal::Quit => {
                        drop(opened.abandon().await);
                        return Err(NoStart::Stopped);
                    }
                    signal => tracing::info!(?signal, "nothing to do for this signal"),
                },
                Some((order, reply)) = self.orders.recv() => match order {
                    Order::StopApp => {
                        let directory = opened.abandon().await;
                        self.be_stopped();
                        // Whoever asked may be gone.
                        let _ = reply.send(Ok(Done::default()));
                        return Err(NoStart::Ordered(directory));
                    }
                    _ => {
                        let text = "the node is starting, and waits for a majority of the cluster; stop it first with `rabbitmqctl stop_app`";
                        let _ = reply.send(refused(RefusedKind::Running, text));
                    }
                },
            }
        }
        let app = opened.serve(self).await.map_err(NoStart::Failed)?;
        self.life.set_serving();
        self.serve_control(Some(&app));
        write_pid(self.config.pid_file.as_deref());
        banner(&self.config, app.bound(), self.path(), self.began);
        Ok(Box::new(app))
    }

    fn be_stopped(&mut self) {
        self.life.set_stopped(self.papers().ok().flatten());
        self.serve_control(None);
        // It waits for orders: a service manager must not take it for a start that hangs.
        daemon::notify::ready(&format!("node {} stopped", self.config.node_name));
    }

    /// Waits until something ends the node.
    async fn watch(&mut self, app: &mut App) -> Ended {
        let status = format!("node {} running", self.config.node_name);
        let (config, shutdown) = (&self.config, app.shutdown());
        tokio::select! {
            reason = app.failed() => Ended::Failed(reason),
            Some(command) = self.orders.recv() => Ended::Ordered(command),
            () = daemon::run::until_stopped(&mut self.signals, shutdown, &status, async |signal| {
                match signal {
                    Signal::Hangup => reload_certificates(config),
                    signal => tracing::info!(?signal, "nothing to do for this signal"),
                }
            }) => Ended::Stopped,
        }
    }

    /// What a stopped node is told next; `None` to end.
    async fn next_order(&mut self) -> Option<Command> {
        loop {
            tokio::select! {
                order = self.orders.recv() => return order,
                signal = self.signals.recv() => {
                    if let Signal::Terminate | Signal::Interrupt | Signal::Quit = signal {
                        return None;
                    }
                }
            }
        }
    }

    async fn order_running(&mut self, app: Box<App>, order: Order, reply: Reply) -> Result<Phase, Failure> {
        let outcome = match order {
            Order::StopApp => {
                let directory = app.stop(self).await;
                self.be_stopped();
                let _ = reply.send(Ok(Done::default()));
                return Ok(Phase::Stopped(directory));
            }
            Order::Leave => {
                let directory = app.stop(self).await;
                self.be_stopped();
                let outcome = match self.stopped_node() {
                    Ok(stopped) => stopped.leave(false).await,
                    Err(failure) => refused(RefusedKind::Failed, &failure.message),
                };
                let (directory, _) = self.look_again(directory)?;
                let phase = self.restart(directory).await?;
                let _ = reply.send(outcome);
                return Ok(phase);
            }
            Order::StartApp => Ok(Done { already: true, ..Done::default() }),
            Order::Join { .. } | Order::Reset { .. } | Order::ForceBoot | Order::Recover => refused(
                RefusedKind::Running,
                "the node is running; stop it first with `rabbitmqctl stop_app`",
            ),
            _ => refused(RefusedKind::Invalid, "this order is not one for the process"),
        };
        let _ = reply.send(outcome);
        Ok(Phase::Running(app))
    }

    async fn order_stopped(
        &mut self,
        directory: DataDir,
        order: Order,
        reply: Reply,
    ) -> Result<Phase, Failure> {
        let stopped = match self.stopped_node() {
            Ok(stopped) => stopped,
            Err(failure) => {
                let _ = reply.send(refused(RefusedKind::Failed, &failure.message));
                return Ok(Phase::Stopped(directory));
            }
        };
        let outcome = match order {
            Order::StartApp => {
                let phase = self.restart(directory).await?;
                let outcome = match &phase {
                    Phase::Running(_) => Ok(Done::default()),
                    Phase::Stopped(_) => {
                        refused(RefusedKind::Failed, "the node did not start; its log says why")
                    }
                };
                let _ = reply.send(outcome);
                return Ok(phase);
            }
            Order::StopApp => Ok(Done { already: true, ..Done::default() }),
            Order::Join { members, token } => match self.check_reachable().await {
                Ok(()) => stopped.join(&members, token.as_deref()).await,
                Err(refused) => Err(refused),
            },
            Order::Leave => stopped.leave(false).await,
            Order::Reset { force } => stopped.reset(force).await,
            Order::ForceBoot | Order::Recover => stopped.recover(&directory),
            Order::Rename { names } => {
                let (directory, outcome) = self.rename(directory, &names).await;
                let _ = reply.send(outcome);
                return Ok(Phase::Stopped(directory));
            }
            _ => refused(RefusedKind::Stopped, "the node is stopped; start it with `rabbitmqctl start_app`"),
        };
        let (directory, papers) = self.look_again(directory)?;
        self.life.set_stopped(papers);
        let _ = reply.send(outcome);
        Ok(Phase::Stopped(directory))
    }

    /// Gives the node the name that `names` has for it: tells the others, then writes it down.
    async fn rename(
        &mut self,
        mut directory: DataDir,
        names: &[(String, String)],
    ) -> (DataDir, Result<Done, Refused>) {
        let old = self.config.node_name.clone();
        let Some((_, new)) = names.iter().find(|(from, _)| *from == old) else {
            let text =
                format!("{old} is not among the names: each node renames itself, and tells the others");
            return (directory, refused(RefusedKind::Invalid, &text));
        };
        let place = self.config.place_under(new);
        let told = match self.stopped_node() {
            Ok(stopped) => stopped.rename(new, vec![place]).await,
            Err(failure) => Err(Refused::new(RefusedKind::Failed, failure.message)),
        };
        let outcome = told.and_then(|()| {
            let written = directory.rename(new);
            written.map_err(|error| Refused::new(RefusedKind::Failed, error.to_string()))
        });
        if let Err(refused) = outcome {
            return (directory, Err(refused));
        }
        self.config.rename_node(new);
        self.life.rename(new);
        // The socket has the node's name.
        self.control = None;
        self.serve_control(None);
        let remark = format!(
            "{old} is {new} from now on, and the other nodes know: say so wherever the name is given, as --node or \
             RABBITMQ_NODENAME"
        );
        (directory, Ok(Done { remarks: vec![remark], ..Done::default() }))
    }

    /// The data may be another one now.
    fn look_again(&self, directory: DataDir) -> Result<(DataDir, Option<Papers>), Failure> {
        let reopened = directory.reopen(&self.config.node_name).map_err(StorageError::from);
        Ok((reopened.map_err(storage_failure)?, self.papers()?))
    }

    /// Starts the node again. What keeps it from starting is said, and it stays stopped.
    async fn restart(&mut self, directory: DataDir) -> Result<Phase, Failure> {
        let sockets = match Sockets::bind(&self.config, self.places.as_ref()) {
            Ok(sockets) => sockets,
            Err(failure) => {
                tracing::error!(error = failure.message, "the node can not start");
                return Ok(Phase::Stopped(directory));
            }
        };
        match self.start(directory, sockets).await {
            Ok(app) => Ok(Phase::Running(app)),
            Err(NoStart::Ordered(directory)) => Ok(Phase::Stopped(directory)),
            Err(NoStart::Failed(failure)) => Err(failure),
            // The signal came while it started.
            Err(NoStart::Stopped) => Err(Failure::new(Exit::TempFail, "stopped while the node started")),
        }
    }

    /// Answers on the control socket for a node that runs, or for one that does not.
    fn serve_control(&mut self, app: Option<&App>) {
        if self.control.is_none() {
            self.control = open_control(&self.config, self.data.path());
        }
        let Some(control) = &mut self.control else { return };
        if let Some(task) = control.task.take() {
            task.abort();
        }
        let listener = control.listener.try_clone().and_then(UnixListener::from_std);
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the control socket can not be used"),
        };
        let operator: Arc<dyn Operator> = Arc::new(self.life.clone());
        let relay: Arc<dyn Relay> = Arc::new(self.life.clone());
        let (node, data) = (self.config.node_name.clone(), self.data.path().to_owned());
        let config_files: Vec<String> =
            self.config.files.iter().map(|path| path.display().to_string()).collect();
        let variable = |name: &&str| Some(((*name).to_owned(), std::env::var(name).ok()?.into()));
        let environment = SHOWN_VARIABLES.iter().filter_map(variable).collect();
        let settings = self.config.shown();
        let log_files = self.config.log_places();
        let (runs, served) = (app.is_some(), app.and_then(App::served));
        control.task = Some(tokio::spawn(async move {
            let outcome = match served {
                Some((node, api)) => {
                    let control = ctl::server::Control {
                        node,
                        operator,
                        relay,
                        data,
                        config_files,
                        log_files,
                        settings,
                        environment,
                    };
                    management::serve_local(api, listener, |api| ctl::server::routes(api, control)).await
                }
                None => {
                    let stopped = ctl::server::Stopped {
                        node,
                        witness: runs,
                        operator,
                        data,
                        config_files,
                        log_files,
                        environment,
                    };
                    let routes = if runs {
                        ctl::server::witness(stopped, relay)
                    } else {
                        ctl::server::stopped(stopped)
                    };
                    management::serve_stopped(listener, routes).await
                }
            };
            if let Err(error) = outcome {
                tracing::error!(%error, "the control socket stopped");
            }
        }));
    }
}

fn stopped_node<'a>(config: &Config, data: &'a Path) -> Result<StoppedNode<'a>, Failure> {
    let identity =
        crate::app::base_identity(config, data, None).map_err(|error| Failure::new(Exit::Config, error))?;
    Ok(StoppedNode { identity, witness: config.cluster.witness, data })
}

type Reply = tokio::sync::oneshot::Sender<Result<Done, Refused>>;

/// Opens the control socket for the tools on this machine. A node without one works, but not they.
fn open_control(config: &Config, data: &Path) -> Option<Control> {
    match ctl::Bound::new(data, &config.node_name) {
        Ok((bound, listener)) => Some(Control { _bound: bound, listener, task: None }),
        Err(error) => {
            tracing::error!(%error, data = %data.display(), "no control socket: rabbitmqctl can not reach this node");
            None
        }
    }
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

fn log_failure(error: LogError) -> Failure {
    let exit = if matches!(error, LogError::File { .. }) { Exit::CannotCreate } else { Exit::Usage };
    Failure::new(exit, error.to_string())
}

pub(crate) fn storage_failure(error: StorageError) -> Failure {
    let exit = match &error {
        StorageError::DataDir(DataDirError::InUse { .. }) => Exit::TempFail,
        StorageError::DataDir(DataDirError::OtherNode { .. }) => Exit::Config,
        StorageError::Move(_) => Exit::DataError,
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
