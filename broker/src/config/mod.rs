//! What a node is told: command line, environment and `broker.toml`, checked together.
//!
//! [`raw`] is the file as written. [`Config`] has a value for everything; every mistake of the file
//! is reported at once, with its place.

pub(crate) mod cli;
pub(crate) mod cluster;
mod log;
mod rabbit_conf;
mod raw;
mod shown;
#[cfg(test)]
mod tests;
mod tls;
mod web;

use crate::auth::{LoopbackUsers, Mechanism, hash_is_well_formed};
use crate::tls::{CertLogin, Verify};
use broker_core::meta::access::Pattern;
use broker_core::meta::{HashAlgorithm, PasswordHash, PermissionPatterns};
use cli::{Environment, NodeArgs};
use cluster::ClusterConfig;
use daemon::diagnostic::{Diagnostic, Diagnostics};
use daemon::logging::LogOptions;
use raw::{Addresses, RawConfig, RawUser, Watermark};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
pub(crate) use tls::TlsListeners;
use toml::Spanned;
pub(crate) use web::WebConfig;

/// What `server-properties` announce as product.
///
/// Client libraries choose semantics by it: kombu (Celery) uses per-consumer prefetch only when
/// the product is `RabbitMQ` and the version lies between 3.3 and 4.0, and the Java client's and
/// others' feature tests look at the version. This broker behaves as RabbitMQ 3.10 does, so that is
/// what it announces unless told otherwise; `platform` and `information` say what it really is.
const PRODUCT: &str = "RabbitMQ";
/// The RabbitMQ version whose behaviour was taken as reference.
pub(crate) const VERSION: &str = "3.10.8";

const AMQP_PORT: u16 = 5672;
const MANAGEMENT_PORT: u16 = 15672;
const METRICS_PORT: u16 = 15692;

/// A checked configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Node name, such as `rabbit@host`.
    pub(crate) node_name: String,
    /// Data directory; `None` for a node that keeps nothing.
    pub(crate) data: Option<PathBuf>,
    /// `definitions.json` to import when the data directory is new.
    pub(crate) definitions: Option<PathBuf>,
    /// Import it at every start.
    pub(crate) definitions_at_every_start: bool,
    /// Files that were read.
    pub(crate) files: Vec<PathBuf>,
    /// The node's name was asked for; otherwise it comes from the host, or from the data directory.
    pub(crate) node_name_given: bool,
    /// The cluster's name was asked for.
    cluster_name_given: bool,
    /// Where to write the process id.
    pub(crate) pid_file: Option<PathBuf>,
    /// AMQP.
    pub(crate) amqp: AmqpConfig,
    /// How the node meets others.
    pub(crate) cluster: ClusterConfig,
    /// Addresses of the HTTP API; empty when it is off.
    pub(crate) management: Vec<SocketAddr>,
    /// The HTTP API over TLS.
    pub(crate) management_tls: Option<TlsListeners>,
    /// Where its paths begin, and which pages may use it.
    pub(crate) web: WebConfig,
    /// Where Prometheus scrapes.
    pub(crate) metrics: MetricsConfig,
    /// Logging.
    pub(crate) log: LogOptions,
    /// Bounds of the node.
    pub(crate) limits: Limits,
    /// What a new data directory gets.
    pub(crate) default_user: DefaultUser,
    /// Users that are added when they are missing.
    pub(crate) users: Vec<ConfiguredUser>,
    /// Vhosts that are added when they are missing: name and description.
    pub(crate) vhosts: Vec<(String, String)>,
    /// Stop after checking.
    pub(crate) check_only: bool,
    /// Remarks that do not keep the node from starting.
    pub(crate) warnings: Diagnostics,
}

/// Where Prometheus scrapes.
#[derive(Debug, Clone)]
pub(crate) struct MetricsConfig {
    /// Addresses to listen on; empty when it is off.
    pub(crate) listen: Vec<SocketAddr>,
    /// Somebody asked for them: without them the node does not start.
    pub(crate) required: bool,
}

/// What clients meet.
#[derive(Debug, Clone)]
pub(crate) struct AmqpConfig {
    /// Addresses to listen on.
    pub(crate) listen: Vec<SocketAddr>,
    /// Suggested heartbeat in seconds, 0 for none.
    pub(crate) heartbeat: u16,
    /// Largest frame in octets.
    pub(crate) frame_max: u32,
    /// Channels per connection.
    pub(crate) channel_max: u16,
    /// Largest message body in octets.
    pub(crate) max_message_size: u64,
    /// How long a delivery may wait for its acknowledgement, milliseconds; 0 for ever.
    pub(crate) consumer_timeout_ms: u64,
    /// Users who may connect from this host only.
    pub(crate) loopback_users: LoopbackUsers,
    /// Announced product.
    pub(crate) product: String,
    /// Announced version, x.y.z.
    pub(crate) version: String,
    /// Announced cluster name.
    pub(crate) cluster_name: String,
    /// What clients may log in with.
    pub(crate) auth_mechanisms: Vec<Mechanism>,
    /// Where EXTERNAL takes the user name from.
    pub(crate) cert_login: CertLogin,
    /// Clients come through a proxy that says who they are.
    pub(crate) proxy_protocol: bool,
    /// AMQP over TLS.
    pub(crate) tls: Option<TlsListeners>,
}

/// Bounds of the node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Client connections.
    pub(crate) max_connections: usize,
    /// Memory above which publishers are held back.
    pub(crate) memory: MemoryLimit,
    /// Free disk space in octets below which publishers are held back.
    pub(crate) disk_free: u64,
}

/// Memory above which publishers are held back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum MemoryLimit {
    /// A share of the machine's memory, between 0 and 1.
    Share(f64),
    /// Octets.
    Octets(u64),
}

/// Who may log in to a new node.
#[derive(Clone)]
pub(crate) struct DefaultUser {
    /// Login name.
    pub(crate) name: String,
    /// Password; not to be logged.
    pub(crate) password: String,
    /// The vhost that is made, with all permissions for the user.
    pub(crate) vhost: String,
    /// Its tags.
    pub(crate) tags: Vec<String>,
    /// What it may do there.
    pub(crate) permissions: PermissionPatterns,
}

impl std::fmt::Debug for DefaultUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DefaultUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A password as configured: to be hashed, or hashed already.
#[derive(Clone)]
pub(crate) enum ConfiguredPassword {
    /// In clear.
    Clear(String),
    /// A hash.
    Hashed(PasswordHash),
    /// None: the user can not log in with a password.
    None,
}

impl std::fmt::Debug for ConfiguredPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConfiguredPassword(…)")
    }
}

/// `[[users]]`.
#[derive(Debug, Clone)]
pub(crate) struct ConfiguredUser {
    /// Login name.
    pub(crate) name: String,
    /// Password.
    pub(crate) password: ConfiguredPassword,
    /// Tags.
    pub(crate) tags: Vec<String>,
    /// Permissions by vhost.
    pub(crate) permissions: Vec<(String, PermissionPatterns)>,
}

impl Config {
    /// Reads the file named on the command line, if any, and puts everything together.
    pub(crate) fn load(args: &NodeArgs, environment: &Environment) -> Result<Config, Diagnostics> {
        let Some(path) = args.config.clone().or_else(|| environment.config_file()) else {
            return Config::from_text("", "", args, environment);
        };
        let text = daemon::config::read_text(&path)?;
        let mut config = Config::from_text(&text, &path.display().to_string(), args, environment)?;
        config.files.push(path);
        Ok(config)
    }

    /// Where its log goes.
    pub(crate) fn log_places(&self) -> Vec<String> {
        log::places(&self.log)
    }

    /// Takes over the name that the data directory has, when no other was asked for: a host that was renamed
    /// is still the same node.
    pub(crate) fn keep_node_name(&mut self, kept: String) {
        if self.node_name_given || kept == self.node_name {
            return;
        }
        if !self.cluster_name_given {
            self.amqp.cluster_name.clone_from(&kept);
        }
        self.node_name = kept;
    }

    /// The node has another name from now on.
    pub(crate) fn rename_node(&mut self, name: &str) {
        self.cluster.advertised = self.place_under(name);
        if self.amqp.cluster_name == self.node_name {
            name.clone_into(&mut self.amqp.cluster_name);
        }
        name.clone_into(&mut self.node_name);
    }

    /// Where other nodes would reach this one if it were called `name`: on the host in the name, unless another
    /// place was said.
    pub(crate) fn place_under(&self, name: &str) -> String {
        let host = |name: &str| name.split_once('@').map_or(String::new(), |(_, host)| host.to_owned());
        match self.cluster.advertised.rsplit_once(':') {
            Some((before, port)) if before == host(&self.node_name) => format!("{}:{port}", host(name)),
            _ => self.cluster.advertised.clone(),
        }
    }

    /// The same with the file's text at hand; `file` is its name for messages. A name that ends in `.conf` is
    /// that of a `rabbitmq.conf`.
    pub(crate) fn from_text(
        text: &str,
        file: &str,
        args: &NodeArgs,
        environment: &Environment,
    ) -> Result<Config, Diagnostics> {
        let (mut raw, found) = if file.ends_with(".conf") {
            rabbit_conf::read(text, file)
        } else {
            (daemon::config::parse_toml(text, file)?, Diagnostics::new())
        };
        let mut check = Checker { text, file, found };
        check.tls_of_environment(&mut raw, environment);
        let mut config = check.config(&raw, args, environment);
        if check.found.has_errors() {
            check.found.sort();
            return Err(check.found);
        }
        config.warnings = check.found;
        Ok(config)
    }
}

/// Turns raw values into checked ones and collects what is wrong.
struct Checker<'a> {
    text: &'a str,
    file: &'a str,
    found: Diagnostics,
}

impl Checker<'_> {
    fn config(&mut self, raw: &RawConfig, args: &NodeArgs, environment: &Environment) -> Config {
        let node_name = self.node_name(raw, args, environment);
        let mut amqp = self.amqp(raw, args, environment, &node_name);
        let cluster = self.cluster(raw, args, environment, &node_name, &amqp.listen);
        let mut management = self.management(raw, args);
        if cluster.witness {
            // It holds no queues and knows no users' passwords: clients have nothing to ask of it.
            amqp.listen.clear();
            amqp.tls = None;
            management.clear();
        }
        let data = (!args.ephemeral).then(|| data_directory(raw.node.data.clone(), args, environment));
        Config {
            definitions: raw.node.definitions.clone(),
            definitions_at_every_start: raw.node.definitions_at_every_start,
            files: Vec::new(),
            node_name_given: args.node.is_some()
                || environment.node_name.is_some()
                || raw.node.name.is_some(),
            cluster_name_given: raw.amqp.cluster_name.is_some(),
            pid_file: environment.pid_file.clone(),
            management,
            management_tls: if cluster.witness { None } else { self.management_tls(raw, args) },
            web: self.web(&raw.management),
            metrics: self.metrics(raw, args),
            log: self.log(raw, args, environment, data.as_deref()),
            data,
            limits: self.limits(raw, environment),
            default_user: self.default_user(raw, environment),
            users: raw.users.iter().map(|user| self.user(user)).collect(),
            vhosts: raw
                .vhosts
                .iter()
                .map(|vhost| (self.name("vhost", &vhost.name), vhost.description.clone()))
                .collect(),
            check_only: args.check,
            warnings: Diagnostics::new(),
            node_name,
            amqp,
            cluster,
        }
    }

    fn node_name(&mut self, raw: &RawConfig, args: &NodeArgs, environment: &Environment) -> String {
        let written = raw.node.name.as_ref();
        let name = args
            .node
            .clone()
            .or_else(|| environment.node_name.clone())
            .or_else(|| written.map(|name| name.get_ref().clone()))
            .unwrap_or_else(|| format!("rabbit@{}", environment.host));
        // RabbitMQ: a name without a host gets this machine's.
        let name = if name.contains('@') { name } else { format!("{name}@{}", environment.host) };
        let valid = name.len() <= 255
            && name.split('@').count() == 2
            && name.split('@').all(|part| {
                !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
            });
        if !valid {
            let message = format!("node name `{name}` is not of the form rabbit@host");
            match written.filter(|_| args.node.is_none() && environment.node_name.is_none()) {
                Some(span) => self.wrong("node-name", span, message, "letters, digits, - _ . around one @"),
                None => self.found.push(Diagnostic::error("node-name", message)),
            }
        }
        name
    }

    fn amqp(
        &mut self,
        raw: &RawConfig,
        args: &NodeArgs,
        environment: &Environment,
        node_name: &str,
    ) -> AmqpConfig {
        let mut listen = self.addresses(raw.amqp.listen.as_ref(), AMQP_PORT);
        let environment_port = environment.port.as_ref().and_then(|port| {
            port.parse()
                .map_err(|_| {
                    self.found.push(Diagnostic::error(
                        "environment",
                        format!("RABBITMQ_NODE_PORT is `{port}`, which is not a port"),
                    ));
                })
                .ok()
        });
        let environment_address = environment.address.as_ref().and_then(|address| {
            if address == "auto" {
                return Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            }
            address
                .parse()
                .map_err(|_| {
                    self.found.push(Diagnostic::error(
                        "environment",
                        format!("RABBITMQ_NODE_IP_ADDRESS is `{address}`, which is not an address"),
                    ));
                })
                .ok()
        });
        for address in &mut listen {
            if let Some(port) = args.port.or(environment_port) {
                address.set_port(port);
            }
            if let Some(ip) = args.bind.or(environment_address) {
                address.set_ip(ip);
            }
        }
        listen.dedup();
        let tls = self.amqp_tls(raw, args);
        let verifies = tls.as_ref().is_some_and(|tls| tls.server.options().verify != Verify::None);
        AmqpConfig {
            listen,
            auth_mechanisms: self.auth_mechanisms(raw, verifies),
            cert_login: self.cert_login(raw),
            proxy_protocol: raw.amqp.proxy_protocol,
            tls,
            heartbeat: self.number(raw.amqp.heartbeat.as_ref(), 60, 0..=65_535) as u16,
            frame_max: self.number(raw.amqp.frame_max.as_ref(), 131_072, 4096..=i64::from(i32::MAX)) as u32,
            channel_max: self.number(raw.amqp.channel_max.as_ref(), 2047, 1..=65_535) as u16,
            // RabbitMQ takes at most 512 MiB.
            max_message_size: self.number(raw.amqp.max_message_size.as_ref(), 134_217_728, 1..=536_870_912)
                as u64,
            consumer_timeout_ms: self.number(raw.amqp.consumer_timeout.as_ref(), 1_800_000, 0..=i64::MAX)
                as u64,
            loopback_users: LoopbackUsers(
                raw.amqp.loopback_users.clone().unwrap_or_else(|| vec!["guest".to_owned()]),
            ),
            product: raw.amqp.product.clone().unwrap_or_else(|| PRODUCT.to_owned()),
            version: self.version(raw.amqp.version.as_ref()),
            cluster_name: raw.amqp.cluster_name.clone().unwrap_or_else(|| node_name.to_owned()),
        }
    }

    fn management(&mut self, raw: &RawConfig, args: &NodeArgs) -> Vec<SocketAddr> {
        if raw.management.enabled == Some(false) {
            return Vec::new();
        }
        let listen = self.addresses(raw.management.listen.as_ref(), MANAGEMENT_PORT);
        overridden(listen, args.management_port, args.bind)
    }

    fn metrics(&mut self, raw: &RawConfig, args: &NodeArgs) -> MetricsConfig {
        let required = args.metrics_port.is_some() || raw.metrics.listen.is_some();
        if raw.metrics.enabled == Some(false) {
            return MetricsConfig { listen: Vec::new(), required: false };
        }
        let listen = self.addresses(raw.metrics.listen.as_ref(), METRICS_PORT);
        MetricsConfig { listen: overridden(listen, args.metrics_port, args.bind), required }
    }

    fn limits(&mut self, raw: &RawConfig, environment: &Environment) -> Limits {
        let mut memory = match raw.limits.memory_high_watermark.as_ref() {
            None => MemoryLimit::Share(0.4),
            Some(span) => match span.get_ref() {
                Watermark::Share(share) if (0.0..=1.0).contains(share) => MemoryLimit::Share(*share),
                Watermark::Size(size) if size.octets().is_some() => {
                    MemoryLimit::Octets(size.octets().unwrap_or_default())
                }
                _ => {
                    let help = "write a share such as 0.4 or a size such as \"2GiB\"";
                    self.wrong("limit", span, "not a share of memory and not a size", help);
                    MemoryLimit::Share(0.4)
                }
            },
        };
        if let Some(written) = &environment.memory_high_watermark {
            // The container image: a share, a percentage or a size.
            let share = written.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
            let percent =
                written.strip_suffix('%').and_then(|text| text.parse::<f64>().ok()).map(|it| it / 100.0);
            memory = match (share.or(percent.filter(|share| (0.0..=1.0).contains(share))), octets_of(written))
            {
                (Some(share), _) => MemoryLimit::Share(share),
                (None, Some(octets)) => MemoryLimit::Octets(octets),
                (None, None) => {
                    let message = format!(
                        "RABBITMQ_VM_MEMORY_HIGH_WATERMARK is `{written}`, which is no share and no size"
                    );
                    self.found.push(Diagnostic::error("environment", message).help("write 0.4, 40% or 2GiB"));
                    memory
                }
            };
        }
        let disk_free = match raw.limits.disk_free.as_ref() {
            None => 50_000_000,
            Some(span) => span.get_ref().octets().unwrap_or_else(|| {
                self.wrong("limit", span, "not a size", "write octets or a size such as \"50MB\"");
                0
            }),
        };
        Limits {
            max_connections: self.number(raw.limits.max_connections.as_ref(), 65_536, 1..=10_000_000)
                as usize,
            memory,
            disk_free,
        }
    }

    fn default_user(&mut self, raw: &RawConfig, environment: &Environment) -> DefaultUser {
        let pick = |environment: &Option<String>, raw: &Option<String>, default: &str| {
            environment.clone().or_else(|| raw.clone()).unwrap_or_else(|| default.to_owned())
        };
        let patterns = &raw.amqp.default_permissions;
        let mut pattern = |text: &Option<Spanned<String>>| match text {
            Some(text) => self.pattern(text),
            None => Arc::from(".*"),
        };
        let permissions = PermissionPatterns {
            configure: pattern(&patterns.configure),
            write: pattern(&patterns.write),
            read: pattern(&patterns.read),
        };
        let tags = environment.default_user_tags.clone().or_else(|| raw.amqp.default_user_tags.clone());
        DefaultUser {
            name: pick(&environment.default_user, &raw.amqp.default_user, "guest"),
            password: pick(&environment.default_pass, &raw.amqp.default_pass, "guest"),
            vhost: pick(&environment.default_vhost, &raw.amqp.default_vhost, "/"),
            tags: tags.unwrap_or_else(|| vec!["administrator".to_owned()]),
            permissions,
        }
    }

    fn pattern(&mut self, text: &Spanned<String>) -> Arc<str> {
        if let Err(error) = Pattern::new(text.get_ref()) {
            self.wrong("pattern", text, format!("not a regular expression: {error}"), "");
        }
        Arc::from(text.get_ref().as_str())
    }

    fn user(&mut self, raw: &RawUser) -> ConfiguredUser {
        let name = self.name("user", &raw.name);
        let password = match (&raw.password, &raw.password_hash) {
            (Some(_), Some(hash)) => {
                self.wrong("user", hash, "both password and password_hash are given", "keep one of them");
                ConfiguredPassword::None
            }
            (Some(password), None) => ConfiguredPassword::Clear(password.clone()),
            (None, Some(hash)) => self.hash(hash, raw.hashing_algorithm.as_ref()),
            (None, None) => ConfiguredPassword::None,
        };
        let permissions = raw
            .permissions
            .iter()
            .map(|permission| {
                let patterns = PermissionPatterns {
                    configure: self.pattern(&permission.configure),
                    write: self.pattern(&permission.write),
                    read: self.pattern(&permission.read),
                };
                (permission.vhost.clone(), patterns)
            })
            .collect();
        ConfiguredUser { name, password, tags: raw.tags.clone(), permissions }
    }

    fn hash(&mut self, hash: &Spanned<String>, algorithm: Option<&Spanned<String>>) -> ConfiguredPassword {
        let default =
            if hash.get_ref().starts_with('$') { "argon2id" } else { "rabbit_password_hashing_sha256" };
        let name = algorithm.map_or(default, |name| name.get_ref().as_str());
        let Some(algorithm_known) = HashAlgorithm::from_name(name) else {
            let message = format!("hashing algorithm `{name}` is not known");
            let help = "use rabbit_password_hashing_sha256, rabbit_password_hashing_sha512, \
                        rabbit_password_hashing_md5 or argon2id";
            self.wrong("user", algorithm.unwrap_or(hash), message, help);
            return ConfiguredPassword::None;
        };
        let stored = PasswordHash { algorithm: algorithm_known, hash: hash.get_ref().clone() };
        if !hash_is_well_formed(&stored) {
            self.wrong("user", hash, format!("not a hash of the algorithm {name}"), "");
        }
        ConfiguredPassword::Hashed(stored)
    }

    fn addresses(&mut self, raw: Option<&Spanned<Addresses>>, default_port: u16) -> Vec<SocketAddr> {
        let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), default_port);
        let Some(raw) = raw else { return vec![default] };
        let mut addresses = Vec::new();
        for written in raw.get_ref().iter() {
            match parse_address(written, default_port) {
                Some(address) => addresses.push(address),
                None => {
                    let message = format!("`{written}` is not an address to listen on");
                    let help = format!(
                        "write \"0.0.0.0:{default_port}\", \":{default_port}\" or \"[::]:{default_port}\""
                    );
                    self.wrong("address", raw, message, &help);
                }
            }
        }
        addresses
    }

    fn version(&mut self, raw: Option<&Spanned<String>>) -> String {
        let Some(written) = raw else { return VERSION.to_owned() };
        let parts: Vec<&str> = written.get_ref().split('.').collect();
        if parts.len() != 3 || parts.iter().any(|part| part.parse::<u32>().is_err()) {
            self.wrong(
                "version",
                written,
                "not of the form x.y.z",
                "clients parse it, for example \"3.10.8\"",
            );
        }
        written.get_ref().clone()
    }

    fn name(&mut self, what: &str, raw: &Spanned<String>) -> String {
        let name = raw.get_ref();
        if name.is_empty() || name.len() > 255 {
            self.wrong("name", raw, format!("a {what} name has 1 to 255 octets"), "");
        }
        name.clone()
    }

    fn number(
        &mut self,
        raw: Option<&Spanned<i64>>,
        default: i64,
        range: std::ops::RangeInclusive<i64>,
    ) -> i64 {
        let Some(written) = raw else { return default };
        let value = *written.get_ref();
        if range.contains(&value) {
            return value;
        }
        let help = format!("it must lie between {} and {}", range.start(), range.end());
        self.wrong("range", written, format!("{value} is out of range"), &help);
        default
    }

    fn wrong<T>(&mut self, code: &'static str, at: &Spanned<T>, message: impl Into<String>, help: &str) {
        let mut diagnostic =
            Diagnostic::error(code, message).in_file(self.file).at_bytes(self.text, at.span());
        if !help.is_empty() {
            diagnostic = diagnostic.help(help);
        }
        self.found.push(diagnostic);
    }
}

/// `1.2.3.4:5672`, `[::]:5672`, `:5672` and addresses without a port.
fn parse_address(text: &str, default_port: u16) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(port) = text.strip_prefix(':').or_else(|| text.strip_prefix("*:")) {
        return Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port.parse().ok()?));
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        return Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?));
    }
    text.parse().ok().map(|ip| SocketAddr::new(ip, default_port))
}

/// Octets of a size as it is written in files and on command lines.
pub(crate) fn octets_of(text: &str) -> Option<u64> {
    raw::Size::Text(text.to_owned()).octets()
}

/// Addresses with the port and the address of the command line, where they are given.
fn overridden(mut listen: Vec<SocketAddr>, port: Option<u16>, bind: Option<IpAddr>) -> Vec<SocketAddr> {
    for address in &mut listen {
        if let Some(port) = port {
            address.set_port(port);
        }
        if let Some(ip) = bind {
            address.set_ip(ip);
        }
    }
    listen.dedup();
    listen
}

/// Where the data is when the file does not say so; also where tools look for it.
pub(crate) fn data_directory(
    configured: Option<PathBuf>,
    args: &NodeArgs,
    environment: &Environment,
) -> PathBuf {
    let home =
        || environment.data_home.as_ref().filter(|_| !environment.root).map(|home| home.join("broker"));
    args.data
        .clone()
        .or_else(|| environment.data.clone())
        .or(configured)
        .or_else(home)
        .unwrap_or_else(|| PathBuf::from("/var/lib/broker"))
}
