//! `[cluster]`: where other nodes reach this one, which secret they share, and what a minority does.
//!
//! ```toml
//! [cluster]
//! listen = "0.0.0.0:25672"
//! cookie_file = "/etc/broker/cookie"
//! peers = ["rabbit@A", "rabbit@B"]
//! partition_handling = "pause_minority"
//! ```

use super::Checker;
use super::cli::{Environment, NodeArgs};
use super::raw::{RawCluster, RawClusterTls, RawConfig};
use daemon::diagnostic::Diagnostic;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;

/// The port of other nodes beside AMQP's 5672. RabbitMQ: that of AMQP and this.
const ABOVE_AMQP: u16 = 20_000;
/// The port of a peer that is named without one.
pub(crate) const PEER_PORT: u16 = 25_672;
/// Peers that a file may name.
const MOST_PEERS: usize = 64;

/// How this node meets others.
#[derive(Debug, Clone)]
pub(crate) struct ClusterConfig {
    /// Addresses that other nodes connect to.
    pub(crate) listen: Vec<SocketAddr>,
    /// Somebody asked for them: without them the node does not start.
    pub(crate) required: bool,
    /// What other nodes are told to connect to: the host of the node's name, and the port.
    pub(crate) advertised: String,
    /// Where the shared secret comes from.
    pub(crate) cookie: CookieSource,
    /// Nodes that a node without data joins.
    pub(crate) peers: Vec<PeerName>,
    /// What a node does that hears too few others.
    pub(crate) partition_handling: PartitionHandling,
    /// The node votes and holds no queues.
    pub(crate) witness: bool,
    /// Certificates for the links between nodes.
    pub(crate) tls: Option<ClusterTls>,
}

impl ClusterConfig {
    /// What is wrong with where this node listens, if others would look for it at these addresses.
    pub(crate) fn hidden_from(&self, found: impl IntoIterator<Item = IpAddr>) -> Option<String> {
        let hidden = !self.listen.is_empty() && self.listen.iter().all(|it| it.ip().is_loopback());
        let elsewhere = hidden.then(|| found.into_iter().find(|ip| !ip.is_loopback())).flatten()?;
        let listen: Vec<String> = self.listen.iter().map(SocketAddr::to_string).collect();
        Some(format!(
            "other nodes would look for this one at {} ({elsewhere}), but it listens for them on {} only: write listen = \
             \":{PEER_PORT}\" under [cluster], or start it with --bind 0.0.0.0",
            self.advertised,
            listen.join(", ")
        ))
    }
}

/// Where the secret that all nodes share comes from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum CookieSource {
    /// `RABBITMQ_ERLANG_COOKIE`; not to be logged.
    Given(Arc<str>),
    /// A file that must be there.
    File(PathBuf),
    /// `.erlang.cookie` in the data directory, or in the user's home; made when there is none.
    Usual {
        /// The user's home.
        home: Option<PathBuf>,
    },
}

impl std::fmt::Debug for CookieSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CookieSource::Given(_) => f.write_str("CookieSource::Given(…)"),
            CookieSource::File(path) => write!(f, "CookieSource::File({})", path.display()),
            CookieSource::Usual { .. } => f.write_str("CookieSource::Usual"),
        }
    }
}

/// A cookie's name in the data directory and in a home: Erlang's.
const COOKIE_FILE: &str = ".erlang.cookie";

impl CookieSource {
    /// The file that holds it, or shall hold it, for a node whose data is in `data`.
    pub(crate) fn file(&self, data: &Path) -> Option<PathBuf> {
        match self {
            CookieSource::Given(_) => None,
            CookieSource::File(path) => Some(path.clone()),
            CookieSource::Usual { home } => {
                let own = data.join(COOKIE_FILE);
                let at_home = home.as_ref().map(|home| home.join(COOKIE_FILE));
                Some(at_home.filter(|path| path.exists() && !own.exists()).unwrap_or(own))
            }
        }
    }
}

/// What a node does that hears no majority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PartitionHandling {
    /// Closes its AMQP port and waits.
    #[default]
    PauseMinority,
    /// Goes on serving the queues whose only copy it has.
    ServeLocal,
}

impl PartitionHandling {
    /// Its word in a file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            PartitionHandling::PauseMinority => "pause_minority",
            PartitionHandling::ServeLocal => "serve_local",
        }
    }
}

/// Certificates that nodes show each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterTls {
    /// This node's certificate, and those between it and the authority.
    pub(crate) cert: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// Who may sign the certificates of nodes.
    pub(crate) ca: PathBuf,
}

/// Another node, as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerName {
    /// Its node name, if that was said.
    pub(crate) node: Option<String>,
    /// `host:port`.
    pub(crate) address: String,
}

impl PeerName {
    /// Reads `rabbit@A`, `rabbit@A:25673`, `A` or `A:25673`; an IPv6 address stands in brackets.
    pub(crate) fn parse(text: &str) -> Option<PeerName> {
        let (name, place) = match text.split_once('@') {
            Some((name, place)) => (Some(name), place),
            None => (None, text),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse::<u16>().ok().filter(|it| *it > 0)?)
            }
            _ => (place, PEER_PORT),
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let known = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
        let fits = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.len() <= 253 && host.chars().all(known),
        };
        let named = name.is_none_or(|name| !name.is_empty() && name.len() <= 64 && name.chars().all(known));
        (fits && named).then(|| PeerName {
            node: name.map(|name| format!("{name}@{host}")),
            address: format!("{host}:{port}"),
        })
    }
}

impl Checker<'_> {
    pub(super) fn cluster(
        &mut self,
        raw: &RawConfig,
        args: &NodeArgs,
        environment: &Environment,
        node_name: &str,
        amqp: &[SocketAddr],
    ) -> ClusterConfig {
        let cluster = &raw.cluster;
        let listen = self.cluster_addresses(cluster, args, environment, amqp);
        let host = node_name.split('@').nth(1).unwrap_or_default();
        let port = listen.first().map_or(PEER_PORT, SocketAddr::port);
        ClusterConfig {
            required: cluster.listen.is_some() || environment.cluster_port.is_some(),
            advertised: match &cluster.advertise {
                Some(written) => self.advertised(written, port),
                None => format!("{host}:{port}"),
            },
            listen,
            cookie: self.cookie(cluster, environment),
            peers: if args.witness_of.is_empty() { self.peers(cluster) } else { args.witness_of.clone() },
            partition_handling: self.partition_handling(cluster),
            witness: self.witness(cluster, args),
            tls: cluster.tls.as_ref().and_then(|tls| self.cluster_tls(tls)),
        }
    }

    /// As with RabbitMQ, the port is AMQP's and 20,000 unless something else is said; the addresses are
    /// AMQP's, so that a node that only its own host reaches is not reached by others here either.
    fn cluster_addresses(
        &mut self,
        cluster: &RawCluster,
        args: &NodeArgs,
        environment: &Environment,
        amqp: &[SocketAddr],
    ) -> Vec<SocketAddr> {
        let wanted = environment.cluster_port.as_ref().and_then(|port| {
            let parsed = port.parse().ok().filter(|port: &u16| *port > 0);
            if parsed.is_none() {
                let message = format!("RABBITMQ_DIST_PORT is `{port}`, which is not a port");
                self.found.push(Diagnostic::error("environment", message).help("write 25672"));
            }
            parsed
        });
        let mut listen = match &cluster.listen {
            Some(_) => self.addresses(cluster.listen.as_ref(), PEER_PORT),
            None => {
                let first = amqp.first().map_or(5672, SocketAddr::port);
                // Any free port of AMQP is any free port here.
                let port = if first == 0 { Some(0) } else { first.checked_add(ABOVE_AMQP) };
                let mut hosts: Vec<IpAddr> = amqp.iter().map(SocketAddr::ip).collect();
                if hosts.is_empty() {
                    hosts.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
                }
                let port = wanted.or(port);
                hosts.into_iter().filter_map(|host| Some(SocketAddr::new(host, port?))).collect()
            }
        };
        for address in &mut listen {
            if let Some(port) = wanted {
                address.set_port(port);
            }
            if let Some(ip) = args.bind {
                address.set_ip(ip);
            }
        }
        listen.sort();
        listen.dedup();
        listen
    }

    fn advertised(&mut self, written: &Spanned<String>, port: u16) -> String {
        let text = written.get_ref();
        match PeerName::parse(text) {
            Some(peer) if !text.contains('@') => {
                let port_given = text.rsplit_once(':').is_some_and(|(_, end)| !end.contains(']'));
                let host = peer.address.rsplit_once(':').map_or("", |(host, _)| host);
                if port_given { peer.address } else { format!("{host}:{port}") }
            }
            _ => {
                let message = format!("`{text}` is not a place that other nodes can connect to");
                self.wrong("cluster", written, message, "write \"host\", \"host:25672\" or an address");
                text.clone()
            }
        }
    }

    fn witness(&mut self, cluster: &RawCluster, args: &NodeArgs) -> bool {
        let Some(written) = cluster.witness.as_ref().filter(|written| *written.get_ref()) else {
            return !args.witness_of.is_empty();
        };
        if args.witness_of.is_empty() && cluster.peers.as_ref().is_none_or(Vec::is_empty) {
            let help = "name a node of the cluster: peers = [\"rabbit@A\"]";
            self.wrong("cluster", written, "a witness alone is of no use to anybody", help);
        }
        true
    }

    fn cookie(&mut self, cluster: &RawCluster, environment: &Environment) -> CookieSource {
        if let Some(cookie) = &environment.cookie {
            if let Err(reason) = check_cookie(cookie) {
                let message = format!("RABBITMQ_ERLANG_COOKIE {reason}");
                self.found.push(Diagnostic::error("environment", message));
            }
            return CookieSource::Given(Arc::from(cookie.as_str()));
        }
        match &cluster.cookie_file {
            Some(path) => CookieSource::File(path.clone()),
            None => CookieSource::Usual { home: environment.home.clone() },
        }
    }

    fn peers(&mut self, cluster: &RawCluster) -> Vec<PeerName> {
        let Some(written) = &cluster.peers else { return Vec::new() };
        let mut peers: Vec<PeerName> = Vec::new();
        for entry in written {
            match PeerName::parse(entry.get_ref()) {
                Some(peer) if peers.contains(&peer) => {
                    let message = format!("peer `{}` is named twice", entry.get_ref());
                    self.wrong("cluster", entry, message, "name each node once");
                }
                Some(peer) => peers.push(peer),
                None => {
                    let message = format!("`{}` is not a node", entry.get_ref());
                    self.wrong("cluster", entry, message, "write \"rabbit@host\" or \"rabbit@host:25672\"");
                }
            }
        }
        if let Some(entry) = written.get(MOST_PEERS) {
            self.wrong(
                "cluster",
                entry,
                format!("more than {MOST_PEERS} peers"),
                "name a few: one is enough to join",
            );
        }
        peers
    }

    fn partition_handling(&mut self, cluster: &RawCluster) -> PartitionHandling {
        let Some(written) = &cluster.partition_handling else { return PartitionHandling::default() };
        match written.get_ref().as_str() {
            "pause_minority" => PartitionHandling::PauseMinority,
            "serve_local" => PartitionHandling::ServeLocal,
            other => {
                let (message, help) = partition_handling_refused(other);
                self.wrong("cluster", written, message, help);
                PartitionHandling::default()
            }
        }
    }

    fn cluster_tls(&mut self, section: &Spanned<RawClusterTls>) -> Option<ClusterTls> {
        let raw = section.get_ref();
        for (name, file) in [("cert", &raw.cert), ("key", &raw.key), ("ca", &raw.ca)] {
            match file {
                None => {
                    let help = format!(
                        "add {name} = \"/etc/broker/{name}.pem\"; nodes show each other certificates"
                    );
                    self.wrong("tls", section, format!("`{name}` is missing"), &help);
                }
                Some(path) => {
                    if let Err(error) = std::fs::File::open(path.get_ref()) {
                        let message = format!("cannot read {}: {error}", path.get_ref().display());
                        self.wrong("tls", path, message, "");
                    }
                }
            }
        }
        let path = |file: &Option<Spanned<PathBuf>>| Some(file.as_ref()?.get_ref().clone());
        Some(ClusterTls { cert: path(&raw.cert)?, key: path(&raw.key)?, ca: path(&raw.ca)? })
    }
}

/// Why another way than ours is refused, and what to write.
pub(super) fn partition_handling_refused(word: &str) -> (String, &'static str) {
    const INSTEAD: &str =
        "write pause_minority: the side that hears a majority goes on, the other pauses and loses nothing";
    let message = match word {
        "ignore" => "`ignore` lets both sides of a partition go on, and what one of them confirmed is lost".to_owned(),
        "autoheal" => "`autoheal` restarts the losing side of a partition, and what it confirmed is lost".to_owned(),
        "pause_if_all_down" => {
            "`pause_if_all_down` can leave both sides of a partition running, and what one of them confirmed is lost"
                .to_owned()
        }
        other => format!("`{other}` is no way to handle a partition"),
    };
    (message, INSTEAD)
}

/// Whether a text can be the shared secret, and if not, why: completes a sentence that begins with its name.
pub(crate) fn check_cookie(cookie: &str) -> Result<(), &'static str> {
    match cookie {
        "" => Err("is empty"),
        long if long.len() > 255 => Err("is longer than 255 octets"),
        text if text.chars().any(|it| it.is_control() || it == ' ') => {
            Err("has spaces or control characters in it")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use daemon::diagnostic::Diagnostics;

    fn environment() -> Environment {
        Environment { host: "A".to_owned(), home: Some(PathBuf::from("/home/a")), ..Environment::default() }
    }

    fn read_with(text: &str, file: &str, environment: &Environment) -> Result<Config, Diagnostics> {
        Config::from_text(text, file, &NodeArgs::default(), environment)
    }

    fn read(text: &str) -> Result<Config, Diagnostics> {
        read_with(text, "broker.toml", &environment())
    }

    fn peer(node: Option<&str>, address: &str) -> PeerName {
        PeerName { node: node.map(str::to_owned), address: address.to_owned() }
    }

    #[test]
    fn a_node_nobody_configured_listens_for_nodes_where_it_listens_for_clients() {
        let cluster = read("").unwrap().cluster;
        assert_eq!(cluster.listen, ["127.0.0.1:25672".parse().unwrap()]);
        assert!(!cluster.required && cluster.peers.is_empty() && !cluster.witness && cluster.tls.is_none());
        assert_eq!(cluster.advertised, "A:25672");
        assert_eq!(cluster.partition_handling, PartitionHandling::PauseMinority);
        assert_eq!(cluster.cookie, CookieSource::Usual { home: Some(PathBuf::from("/home/a")) });
        let cluster = read("[amqp]\nlisten = ['0.0.0.0:5673', '[::1]:5674']\n").unwrap().cluster;
        assert_eq!(cluster.listen, ["0.0.0.0:25673".parse().unwrap(), "[::1]:25673".parse().unwrap()]);
        let none = read("[amqp]\nlisten = '0.0.0.0:60000'\n").unwrap().cluster;
        assert!(none.listen.is_empty(), "there is no port 80000");
        let any = read("[amqp]\nlisten = '127.0.0.1:0'\n").unwrap().cluster;
        assert_eq!(any.listen, ["127.0.0.1:0".parse().unwrap()]);
    }

    #[test]
    fn a_cookie_lies_with_the_data_unless_there_is_one_at_home_only() {
        let (home, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let usual = CookieSource::Usual { home: Some(home.path().to_owned()) };
        let (at_home, own) = (home.path().join(COOKIE_FILE), data.path().join(COOKIE_FILE));
        assert_eq!(usual.file(data.path()), Some(own.clone()));
        std::fs::write(&at_home, "X").unwrap();
        assert_eq!(usual.file(data.path()), Some(at_home));
        std::fs::write(&own, "X").unwrap();
        assert_eq!(usual.file(data.path()), Some(own));
        assert_eq!(CookieSource::Given(Arc::from("X")).file(data.path()), None);
    }

    #[test]
    fn the_table_says_everything() {
        let folder = tempfile::tempdir().unwrap();
        let pem = folder.path().join("x.pem");
        std::fs::write(&pem, "").unwrap();
        let text = format!(
            "[cluster]\nlisten = '0.0.0.0:25000'\nadvertise = '10.0.0.1'\ncookie_file = '/c'\n\
             peers = ['rabbit@A', 'rabbit@B:25001', 'C', '[::1]:7']\npartition_handling = 'serve_local'\n\
             witness = true\n[cluster.tls]\ncert = '{0}'\nkey = '{0}'\nca = '{0}'\n",
            pem.display()
        );
        let cluster = read(&text).unwrap().cluster;
        assert_eq!(cluster.listen, ["0.0.0.0:25000".parse().unwrap()]);
        assert!(cluster.required && cluster.witness);
        assert_eq!(cluster.advertised, "10.0.0.1:25000");
        assert_eq!(cluster.cookie, CookieSource::File(PathBuf::from("/c")));
        assert_eq!(
            cluster.peers,
            [
                peer(Some("rabbit@A"), "A:25672"),
                peer(Some("rabbit@B"), "B:25001"),
                peer(None, "C:25672"),
                peer(None, "[::1]:7")
            ]
        );
        assert_eq!(cluster.partition_handling, PartitionHandling::ServeLocal);
        assert_eq!(cluster.tls, Some(ClusterTls { cert: pem.clone(), key: pem.clone(), ca: pem }));
    }

    #[test]
    fn a_node_that_others_can_not_reach_is_told_what_to_write() {
        let hidden = |text: &str, found: &str| {
            let config = Config::from_text(text, "", &NodeArgs::default(), &environment()).unwrap();
            config.cluster.hidden_from([found.parse().unwrap()])
        };
        let said = hidden("[node]\nname = 'rabbit@A'\n", "192.0.2.1").unwrap();
        assert!(said.contains("A:25672 (192.0.2.1)") && said.contains("--bind 0.0.0.0"), "{said}");
        assert_eq!(hidden("[node]\nname = 'rabbit@A'\n", "127.0.1.1"), None);
        assert_eq!(hidden("[cluster]\nlisten = ':25672'\n", "192.0.2.1"), None);
    }

    #[test]
    fn a_witness_serves_no_clients() {
        let args = NodeArgs { witness_of: vec![peer(None, "A:25672")], ..NodeArgs::default() };
        let config =
            Config::from_text("[amqp]\nlisten = '0.0.0.0:5672'\n", "", &args, &environment()).unwrap();
        assert!(config.cluster.witness && config.amqp.listen.is_empty() && config.management.is_empty());
        assert_eq!(config.cluster.listen, ["0.0.0.0:25672".parse().unwrap()]);
        assert_eq!(config.cluster.peers, [peer(None, "A:25672")]);
    }

    #[test]
    fn mistakes_say_what_to_write_instead() {
        let said = read(
            "[cluster]\nlisten = 'nowhere'\nadvertise = 'rabbit@x'\npeers = ['a b', 'A', 'A']\n\
             partition_handling = 'autoheal'\n[cluster.tls]\ncert = '/does/not/exist'\n",
        )
        .unwrap_err()
        .render(false);
        for part in [
            "`nowhere` is not an address",
            "`rabbit@x` is not a place",
            "`a b` is not a node",
            "rabbit@host:25672",
            "peer `A` is named twice",
            "restarts the losing side",
            "write pause_minority",
            "cannot read /does/not/exist",
            "`key` is missing",
            "broker.toml:5:",
        ] {
            assert!(said.contains(part), "{part} is missing in:\n{said}");
        }
        let said = read("[cluster]\nwitness = true\n").unwrap_err().render(false);
        assert!(said.contains("broker.toml:2:11") && said.contains("peers = ["), "{said}");
        let said = read("[cluster]\npeer = ['A']\n").unwrap_err().render(false);
        assert!(said.contains("did you mean `peers`?"), "{said}");
    }

    #[test]
    fn the_environment_of_the_container_image() {
        let environment = Environment {
            cluster_port: Some("25999".to_owned()),
            cookie: Some("SECRETSECRET".to_owned()),
            ..environment()
        };
        let cluster = read_with("", "", &environment).unwrap().cluster;
        assert_eq!(cluster.listen, ["127.0.0.1:25999".parse().unwrap()]);
        assert!(cluster.required);
        assert_eq!(cluster.cookie, CookieSource::Given(Arc::from("SECRETSECRET")));
        assert!(!format!("{cluster:?}").contains("SECRETSECRET"), "a secret is not shown");
        let wrong = Environment {
            cluster_port: Some("none".to_owned()),
            cookie: Some("a b".to_owned()),
            ..environment
        };
        let said = read_with("", "", &wrong).unwrap_err().render(false);
        assert!(
            said.contains("RABBITMQ_DIST_PORT is `none`") && said.contains("COOKIE has spaces"),
            "{said}"
        );
    }

    #[test]
    fn rabbitmq_conf_names_peers_and_what_a_minority_does() {
        let cluster = read_with(
            "cluster_formation.peer_discovery_backend = classic_config\n\
             cluster_formation.classic_config.nodes.1 = rabbit@A\n\
             cluster_formation.classic_config.nodes.2 = rabbit@B\n\
             cluster_partition_handling = pause_minority\ncluster_name = prod\n\
             distribution.listener.interface = 10.0.0.1\ndistribution.listener.port_range.min = 25700\n",
            "rabbitmq.conf",
            &environment(),
        )
        .unwrap();
        assert!(cluster.warnings.is_empty(), "{}", cluster.warnings.render(false));
        assert_eq!(cluster.amqp.cluster_name, "prod");
        let cluster = cluster.cluster;
        assert_eq!(cluster.peers, [peer(Some("rabbit@A"), "A:25672"), peer(Some("rabbit@B"), "B:25672")]);
        assert_eq!(cluster.listen, ["10.0.0.1:25700".parse().unwrap()]);
        let said = read_with(
            "cluster_formation.peer_discovery_backend = dns\ncluster_partition_handling = ignore\n\
             cluster_partition_handling.pause_if_all_down.recover = ignore\n\
             cluster_formation.classic_config.nodes.1 = ra bbit\n",
            "rabbitmq.conf",
            &environment(),
        )
        .unwrap_err()
        .render(false);
        for part in [
            "rabbitmq.conf:1:44",
            "`dns` is not supported",
            "write classic_config",
            "rabbitmq.conf:2:30",
            "lets both sides of a partition go on",
            "`pause_if_all_down` can leave both sides",
            "`ra bbit` is not a node",
        ] {
            assert!(said.contains(part), "{part} is missing in:\n{said}");
        }
    }
}
