//! A node from its start to its stop. The process around it ([`crate::start`]) may start another one then.

use crate::alarms::Alarms;
use crate::cluster::life::Command;
use crate::cluster::link::cookie;
use crate::cluster::link::{LinkIdentity, LinkSettings, Links, Secret};
use crate::cluster::papers::Papers;
use crate::cluster::reach::Reach;
use crate::cluster::running::{Facts, LinkNetwork, Running, identity};
use crate::cluster::{Council, FIRST_NODE, Network, Seat};
use crate::config::cluster::{CookieSource, PartitionHandling};
use crate::config::{Config, TlsListeners};
use crate::doors::{self, Door, Doors};
use crate::listener::Entrance;
use crate::management::peers::Answers;
use crate::management::{self, Api, Files, Listening};
use crate::metadata::{Metadata, bootstrap};
use crate::node::Node;
use crate::replicate::Giving;
use crate::start::{Process, settings, storage_failure};
use crate::storage::Storage;
use crate::tls::nodes::{NodeTls, NodeTlsFiles};
use broker_core::ids::NodeId;
use broker_store::datadir::DataDir;
use daemon::exit::Exit;
use daemon::listen::{ListenOptions, bind_tcp};
use daemon::run::Failure;
use daemon::shutdown::{Shutdown, Stop};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How long clients get to answer `connection.close` when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long other nodes get to take over what a node leads that stops.
const GIVE_AWAY_TIMEOUT: Duration = Duration::from_secs(5);

/// How the life of a node ended.
pub(crate) enum Ended {
    /// Its storage failed.
    Failed(String),
    /// The process was told to end.
    Stopped,
    /// An operator has an order.
    Ordered(Command),
}

/// The listeners of a node.
pub(crate) struct Sockets {
    amqp: Vec<TcpListener>,
    amqps: Vec<TcpListener>,
    http: Vec<TcpListener>,
    https: Vec<TcpListener>,
    metrics: Vec<TcpListener>,
    bound: Bound,
}

impl Sockets {
    /// Listens; where it did `before`, if it did.
    pub(crate) fn bind(config: &Config, before: Option<&Bound>) -> Result<Sockets, Failure> {
        fn places<'a>(
            before: Option<&'a Bound>,
            of: impl FnOnce(&'a Bound) -> &'a Vec<SocketAddr>,
            or: &'a [SocketAddr],
        ) -> &'a [SocketAddr] {
            before.map_or(or, |bound| of(bound).as_slice())
        }
        let tls = |tls: Option<&'_ TlsListeners>| tls.map(|tls| tls.listen.clone()).unwrap_or_default();
        let (amqps, https) = (tls(config.amqp.tls.as_ref()), tls(config.management_tls.as_ref()));
        let amqp = bind_all(places(before, |it| &it.amqp, &config.amqp.listen), "--port")?;
        let amqps = bind_tls(places(before, |it| &it.amqps, &amqps), "amqp.tls")?;
        let http = bind_all(places(before, |it| &it.http, &config.management), "--management-port")?;
        let https = bind_tls(places(before, |it| &it.https, &https), "management.tls")?;
        let metrics =
            match bind_all(places(before, |it| &it.metrics, &config.metrics.listen), "--metrics-port") {
                // Nobody asked for it: the next node of this machine goes without.
                Err(error) if !config.metrics.required => {
                    tracing::warn!(%error, "no metrics: their port is in use");
                    Vec::new()
                }
                bound => bound?,
            };
        // Port 0 has become a real one by now.
        let bound = Bound {
            amqp: addresses(&amqp),
            amqps: addresses(&amqps),
            http: addresses(&http),
            https: addresses(&https),
            metrics: addresses(&metrics),
        };
        Ok(Sockets { amqp, amqps, http, https, metrics, bound })
    }
}

/// A node whose data is open and that takes part in its cluster, and serves nobody yet.
pub(crate) struct Opened {
    running: Arc<Running>,
    metadata: Arc<Metadata>,
    links: Option<Links>,
    kind: Kind,
    sockets: Sockets,
}

/// What a node has besides metadata.
enum Kind {
    /// Messages.
    Broker(Box<Storage>),
    /// Nothing.
    Witness(DataDir),
}

impl Opened {
    /// Opens the data. On a node alone its state is that of before then.
    pub(crate) async fn new(
        process: &Process,
        directory: DataDir,
        sockets: Sockets,
    ) -> Result<Opened, Failure> {
        let (config, path) = (&process.config, process.path());
        let papers = next_papers(path)?;
        let storage_uuid = directory.identity().storage_uuid;
        let mut seat = Seat::alone(&config.node_name);
        if let Some(papers) = &papers {
            seat.me = NodeId(papers.node);
            seat.joined = seat.me != FIRST_NODE;
            seat.incarnation = papers.incarnation;
        }
        let links = links(config, path, papers.as_ref(), storage_uuid, &seat)?;
        seat.network = links.clone().map(|links| Arc::new(LinkNetwork(links)) as Arc<dyn Network>);
        let witness = papers.as_ref().is_some_and(|papers| papers.witness);
        let (metadata, kind) = if witness {
            let (metadata, directory) = Storage::open_witness(directory, &seat).map_err(storage_failure)?;
            (metadata, Kind::Witness(directory))
        } else {
            let storage = Storage::open(directory, &seat).map_err(storage_failure)?;
            (Arc::clone(&storage.metadata), Kind::Broker(Box::new(storage)))
        };
        let addresses = links.as_ref().map(|links| links.identity().addresses.clone()).unwrap_or_default();
        let facts = Facts {
            data: path.to_owned(),
            storage: storage_uuid,
            addresses,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            serves_local: config.cluster.partition_handling == PartitionHandling::ServeLocal,
            disk: match &kind {
                Kind::Broker(storage) => Some(storage.wal.disk_watch()),
                Kind::Witness(_) => None,
            },
        };
        let running = Running::new(facts, Arc::clone(&metadata), links.clone(), papers);
        Ok(Opened { running, metadata, links, kind, sockets })
    }

    /// The node's part in its cluster.
    pub(crate) fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// Closes everything again.
    pub(crate) async fn abandon(self) -> DataDir {
        self.running.stop().await;
        if let Some(links) = &self.links {
            links.stopped().await;
        }
        close_metadata(&self.metadata).await;
        match self.kind {
            Kind::Broker(storage) => {
                let Storage { directory, wal, .. } = *storage;
                stop_log(wal).await;
                directory
            }
            Kind::Witness(directory) => directory,
        }
    }

    /// Lets clients in.
    pub(crate) async fn serve(self, process: &mut Process) -> Result<App, Failure> {
        let Opened { running, metadata, links, kind, sockets } = self;
        let bound = sockets.bound.clone();
        let (shutdown, _token) = Shutdown::new();
        let storage = match kind {
            Kind::Witness(directory) => {
                if let Some(links) = &links {
                    crate::cluster::ignore_messages(links);
                }
                return Ok(App { running, metadata, links, served: None, directory, bound, shutdown });
            }
            Kind::Broker(storage) => *storage,
        };
        let Storage { directory, metadata, wal, images, segments } = storage;
        let (config, path) = (&process.config, process.path());
        let alarms = Alarms::new(&config.limits, path);
        let place = (Arc::clone(&metadata), running.view().clone());
        let node = Node::start(settings(config), alarms, place, wal, images, segments);
        crate::forward::cluster::attach(&node);
        crate::replicate::attach(&node);
        running.set_queues(Arc::new(Giving::of(&node)));
        bootstrap::bootstrap(&node.metadata, config)
            .await
            .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
        let files = Files { data: path.to_owned(), config: config.files.clone(), log: config.log_places() };
        let api = management::api(&node, bound.by_protocol(config), files, config.web.clone());
        let reach = Reach::new(&running);
        let answers = Arc::new(Answers::new(Arc::clone(&api), running.me()));
        reach.answer(&answers);
        api.set_peers(Arc::new(reach));
        let mut tasks = Vec::new();
        for listener in sockets.metrics {
            tasks.push(tokio::spawn(management::serve_metrics(Arc::clone(&api), listener)));
        }
        for listener in sockets.http {
            tasks.push(tokio::spawn(management::serve(Arc::clone(&api), listener, None)));
        }
        let https = config.management_tls.as_ref().map(|tls| Arc::clone(&tls.server));
        for listener in sockets.https {
            tasks.push(tokio::spawn(management::serve(Arc::clone(&api), listener, https.clone())));
        }
        let plain = Entrance { proxy_protocol: config.amqp.proxy_protocol, tls: None };
        let tls = config.amqp.tls.as_ref().map(|tls| Arc::clone(&tls.server));
        let secure = Entrance { tls, ..plain.clone() };
        let door = |entrance: &Entrance, listener: TcpListener| {
            let address = listener.local_addr().ok()?;
            Some((listener, Door { address, entrance: entrance.clone() }))
        };
        let amqp = sockets.amqp.into_iter().filter_map(|listener| door(&plain, listener));
        let amqps = sockets.amqps.into_iter().filter_map(|listener| door(&secure, listener));
        let doors = Arc::new(tokio::sync::Mutex::new(Doors::new(&node, amqp.chain(amqps).collect())));
        tasks.push(tokio::spawn(doors::keep(
            Arc::clone(&doors),
            running.view().pause(),
            process.life.drained(),
        )));
        process.places = Some(bound.clone());
        let served = Some(Served { node, api, answers, doors, tasks });
        Ok(App { running, metadata, links, served, directory, bound, shutdown })
    }
}

/// A node that serves.
pub(crate) struct App {
    running: Arc<Running>,
    metadata: Arc<Metadata>,
    links: Option<Links>,
    /// `None` on a witness.
    served: Option<Served>,
    directory: DataDir,
    bound: Bound,
    shutdown: Shutdown,
}

/// What clients meet.
struct Served {
    node: Arc<Node>,
    api: Arc<Api>,
    /// What other nodes are answered by.
    answers: Arc<Answers>,
    doors: Arc<tokio::sync::Mutex<Doors>>,
    tasks: Vec<JoinHandle<()>>,
}

impl App {
    /// Where it listens.
    pub(crate) fn bound(&self) -> &Bound {
        &self.bound
    }

    /// Tells that the process shall end.
    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// The node and its API, unless it is a witness.
    pub(crate) fn served(&self) -> Option<(Arc<Node>, Arc<Api>)> {
        self.served.as_ref().map(|served| (Arc::clone(&served.node), Arc::clone(&served.api)))
    }

    /// Waits until the storage fails.
    pub(crate) async fn failed(&self) -> String {
        let Some(served) = &self.served else { return ended(self.running.council()).await };
        let mut failed = served.node.failed();
        // The node keeps the sender for as long as it lives.
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Says goodbye to the clients and to the cluster, then makes everything durable.
    pub(crate) async fn stop(self: Box<Self>, process: &mut Process) -> DataDir {
        let App { running, metadata, links, served, directory, shutdown, .. } = *self;
        shutdown.stop(Stop::Graceful);
        let Some(Served { node, api, answers, doors, tasks }) = served else {
            running.stop().await;
            close_metadata(&metadata).await;
            return directory;
        };
        tracing::info!(connections = node.connections.len(), "stopping");
        // First, while it can still answer: clients of other nodes need not wait until those here have gone.
        let mut now = false;
        let told_again = daemon::run::next_stop(&mut process.signals, &shutdown);
        tokio::pin!(told_again);
        tokio::select! {
            () = running.give_queues_away(GIVE_AWAY_TIMEOUT) => {}
            () = &mut told_again => {
                tracing::info!("told again to stop: neither mirrors nor clients are waited for");
                now = true;
            }
        }
        let accepting = doors.lock().await.close();
        for task in tasks {
            task.abort();
        }
        node.close_connections(
            amqp::reply_code::CONNECTION_FORCED,
            "broker forced connection closure with reason 'shutdown'",
        );
        if !now {
            let gone = async {
                while node.connections.len() > 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::select! {
                () = gone => {}
                () = tokio::time::sleep(STOP_TIMEOUT) => {}
                () = &mut told_again => tracing::info!("told again to stop: clients are not waited for"),
            }
        }
        for task in accepting {
            task.abort();
        }
        running.stop().await;
        if let Some(links) = &links {
            links.stopped().await;
        }
        node.close();
        close_metadata(&metadata).await;
        let wal = node.wal.clone();
        node.pager.remove_due(wal.durable_lsn());
        stop_log(wal.0).await;
        drop((node, api, answers));
        directory
    }
}

/// Waits until consensus has ended by itself.
async fn ended(council: &Council) -> String {
    let mut standing = council.standing();
    match standing.wait_for(|standing| standing.ended).await {
        Ok(_) | Err(_) => "the replicated log".to_owned(),
    }
}

async fn close_metadata(metadata: &Arc<Metadata>) {
    let metadata = Arc::clone(metadata);
    if let Err(error) = tokio::task::spawn_blocking(move || metadata.close()).await {
        tracing::error!(%error, "closing the metadata failed");
    }
}

async fn stop_log(wal: broker_store::wal::Wal) {
    match tokio::task::spawn_blocking(move || wal.stop()).await {
        Ok(Ok(_)) => tracing::info!("stopped"),
        Ok(Err(error)) => tracing::error!(%error, "the log could not be closed cleanly"),
        Err(error) => tracing::error!(%error, "stopping failed"),
    }
}

/// The papers of this start, which is one more; they are on disk before anybody hears of it.
fn next_papers(data: &Path) -> Result<Option<Papers>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::DataError, error.to_string());
    let Some(mut papers) = Papers::load(data).map_err(|error| failed(&error))? else { return Ok(None) };
    papers.incarnation += 1;
    papers.save(data).map_err(|error| failed(&error))?;
    Ok(Some(papers))
}

/// Opens the door for other nodes. A node that is in no cluster, and whose port is taken, goes on without.
fn links(
    config: &Config,
    data: &Path,
    papers: Option<&Papers>,
    storage: [u8; 16],
    seat: &Seat,
) -> Result<Option<Links>, Failure> {
    let needed = papers.is_some() || config.cluster.required;
    let Some(address) = config.cluster.listen.first() else { return Ok(None) };
    let options = ListenOptions { nodelay: true, ..ListenOptions::default() };
    let listener = match bind_tcp(*address, &options) {
        Err(error) if !needed => {
            tracing::warn!(%error, "other nodes can not join this one: the port for them is in use");
            return Ok(None);
        }
        bound => {
            TcpListener::from_std(bound?).map_err(|error| Failure::new(Exit::OsError, error.to_string()))?
        }
    };
    let local = listener.local_addr().ok().map(|address| address.port());
    let base = match base_identity(config, data, local) {
        Err(error) if !needed => {
            tracing::warn!(error, "other nodes can not join this one");
            return Ok(None);
        }
        base => base.map_err(|error| Failure::new(Exit::Config, error))?,
    };
    Ok(Some(Links::start(identity(base, papers, storage, seat), LinkSettings::default(), listener)))
}

/// How a node presents itself to others, without its place in a cluster. `port` is the one it listens on.
pub(crate) fn base_identity(config: &Config, data: &Path, port: Option<u16>) -> Result<LinkIdentity, String> {
    let secrets = match (&config.cluster.cookie, config.cluster.cookie.file(data)) {
        (CookieSource::Given(given), _) => vec![Secret::new(given.as_bytes())],
        (CookieSource::File(path), _) => cookie::load(path).map_err(|error| error.to_string())?,
        (CookieSource::Usual { .. }, path) => {
            let path = path.unwrap_or_else(|| data.join(".erlang.cookie"));
            cookie::load_or_make(&path).map_err(|error| error.to_string())?
        }
    };
    let tls = config.cluster.tls.as_ref().map(|files| {
        let files = NodeTlsFiles { cert: files.cert.clone(), key: files.key.clone(), ca: files.ca.clone() };
        NodeTls::load(&files, &config.node_name).map(Arc::new).map_err(|error| error.to_string())
    });
    // Any free port is known only now.
    let advertised = match (config.cluster.advertised.strip_suffix(":0"), port) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        _ => config.cluster.advertised.clone(),
    };
    Ok(LinkIdentity {
        cluster_id: 0,
        generation: 0,
        node: None,
        name: config.node_name.clone(),
        incarnation: 0,
        addresses: vec![advertised],
        version: env!("CARGO_PKG_VERSION").to_owned(),
        features: 0,
        secrets,
        tls: tls.transpose()?,
    })
}

/// Where the node listens.
#[derive(Clone)]
pub(crate) struct Bound {
    pub(crate) amqp: Vec<SocketAddr>,
    pub(crate) amqps: Vec<SocketAddr>,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) https: Vec<SocketAddr>,
    pub(crate) metrics: Vec<SocketAddr>,
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

fn bind_tls(listen: &[SocketAddr], section: &str) -> Result<Vec<TcpListener>, Failure> {
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
