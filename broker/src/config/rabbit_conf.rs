//! `rabbitmq.conf`: the keys that people use, read into the same form as `broker.toml`.
//!
//! ```text
//! listeners.tcp.default = 5672        # a comment
//! default_pass = 'with a # in it'
//! ```
//!
//! A key of RabbitMQ that has no meaning here, and one that nobody knows, is a warning and no reason not to
//! start; a value that can not be used is an error. As with RabbitMQ, and other than with `broker.toml`, a node
//! listens on all addresses unless the file says otherwise, and definitions are imported at every start.

use super::cluster::partition_handling_refused;
use super::raw::{Addresses, RawConfig, RawTls, Size, Watermark};
use daemon::diagnostic::{Diagnostic, Diagnostics, suggest};
use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use toml::Spanned;

/// Keys that mean something here; `*` stands for any word.
const KNOWN: &[&str] = &[
    "listeners.tcp",
    "listeners.tcp.*",
    "listeners.ssl",
    "listeners.ssl.*",
    "ssl_options.cacertfile",
    "ssl_options.certfile",
    "ssl_options.keyfile",
    "ssl_options.verify",
    "ssl_options.fail_if_no_peer_cert",
    "ssl_options.versions.*",
    "management.tcp.port",
    "management.tcp.ip",
    "management.ssl.port",
    "management.ssl.ip",
    "management.ssl.cacertfile",
    "management.ssl.certfile",
    "management.ssl.keyfile",
    "management.ssl.verify",
    "management.ssl.fail_if_no_peer_cert",
    "management.ssl.versions.*",
    "management.path_prefix",
    "management.cors.allow_origins.*",
    "management.cors.max_age",
    "prometheus.tcp.port",
    "prometheus.tcp.ip",
    "loopback_users",
    "loopback_users.*",
    "default_user",
    "default_pass",
    "default_vhost",
    "default_permissions.configure",
    "default_permissions.read",
    "default_permissions.write",
    "default_user_tags.*",
    "heartbeat",
    "frame_max",
    "channel_max",
    "max_message_size",
    "max_connections",
    "ranch_connection_max",
    "vm_memory_high_watermark.relative",
    "vm_memory_high_watermark.absolute",
    "disk_free_limit.absolute",
    "disk_free_limit.relative",
    "cluster_name",
    "cluster_formation.peer_discovery_backend",
    "cluster_formation.classic_config.nodes.*",
    "cluster_partition_handling",
    "distribution.listener.interface",
    "distribution.listener.port_range.min",
    "distribution.listener.port_range.max",
    "load_definitions",
    "management.load_definitions",
    "definitions.import_backend",
    "definitions.local.path",
    "definitions.skip_if_unchanged",
    "consumer_timeout",
    "log.console",
    "log.console.level",
    "log.console.formatter",
    "log.file.formatter",
    "log.default.level",
    "log.file.level",
    "log.file",
    "log.file.rotation.size",
    "log.file.rotation.date",
    "log.file.rotation.count",
    "log.dir",
    "auth_mechanisms.*",
    "auth_backends.*",
    "ssl_cert_login_from",
    "ssl_cert_login_san_type",
    "ssl_cert_login_san_index",
    "proxy_protocol",
    "password_hashing_module",
];

/// Beginnings of keys that RabbitMQ knows and that have no meaning here.
const WITHOUT_MEANING: &[&str] = &[
    "auth_",
    "background_gc_",
    "channel_",
    "classic_queue.",
    "cluster_",
    "collect_statistics",
    "consumer_",
    "credential_validator.",
    "default_limits.",
    "default_policies.",
    "default_queue_type",
    "default_worker_pool_size",
    "delegate_count",
    "definitions.",
    "distribution.",
    "erlang.",
    "handshake_timeout",
    "hipe_compile",
    "initial_frame_max",
    "listener",
    "log.",
    "lazy_queue",
    "management.",
    "management_agent.",
    "memory_monitor_interval",
    "mirroring_",
    "mnesia_",
    "motd_file",
    "msg_store_",
    "net_ticktime",
    "node_tags.",
    "num_acceptors.",
    "plugins.",
    "prometheus.",
    "queue_",
    "quorum_queue.",
    "raft.",
    "reverse_dns_lookups",
    "runtime_parameters.",
    "socket_writer.",
    "ssl_",
    "stream.",
    "sysmon_handler.",
    "tcp_listen_options.",
    "total_memory_available_override_value",
    "trace_vhosts",
    "vhost_",
    "vm_memory_",
    "web_",
    "mqtt.",
    "stomp.",
];

/// A line with a value.
struct Entry<'a> {
    key: &'a str,
    key_at: Range<usize>,
    value: String,
    value_at: Range<usize>,
}

impl Entry<'_> {
    fn spanned<T>(&self, value: T) -> Spanned<T> {
        Spanned::new(self.value_at.clone(), value)
    }
}

/// Reads a file; what is wrong in it is in the remarks.
pub(super) fn read(text: &str, file: &str) -> (RawConfig, Diagnostics) {
    let mut reader = Reader {
        text,
        file,
        found: Diagnostics::new(),
        config: RawConfig::default(),
        tcp: Vec::new(),
        ssl: Vec::new(),
        amqp_tls: RawTls::default(),
        management: [Place::default(), Place::default()],
        management_tls: RawTls::default(),
        metrics: Place::default(),
        distribution: Place::default(),
        loopback: vec!["guest".to_owned()],
        last: 0..0,
    };
    reader.read();
    reader.finish()
}

/// Adds a value to a list whose entries have a line each.
fn append(list: &mut Option<Spanned<Vec<String>>>, entry: &Entry<'_>) {
    let old = list.take().map(Spanned::into_inner);
    *list = Some(entry.spanned(old.into_iter().flatten().chain([entry.value.clone()]).collect()));
}

/// A listener of the HTTP API, of metrics, or of other nodes.
#[derive(Default)]
struct Place {
    ip: Option<String>,
    port: Option<String>,
    at: Range<usize>,
}

impl Place {
    /// Takes its `ip` or its `port`.
    fn take(&mut self, what: &str, entry: &Entry<'_>) {
        let field = if what == "ip" { &mut self.ip } else { &mut self.port };
        *field = Some(entry.value.clone());
        self.at = entry.value_at.clone();
    }

    fn address(&self, default: u16) -> String {
        let port = self.port.clone().unwrap_or_else(|| default.to_string());
        match &self.ip {
            Some(ip) if ip.contains(':') && !ip.starts_with('[') => format!("[{ip}]:{port}"),
            Some(ip) => format!("{ip}:{port}"),
            None => format!(":{port}"),
        }
    }

    fn is_given(&self) -> bool {
        self.ip.is_some() || self.port.is_some()
    }
}

struct Reader<'a> {
    text: &'a str,
    file: &'a str,
    found: Diagnostics,
    config: RawConfig,
    /// Addresses of AMQP; `none` empties it.
    tcp: Vec<String>,
    ssl: Vec<String>,
    amqp_tls: RawTls,
    /// Plain and TLS.
    management: [Place; 2],
    management_tls: RawTls,
    /// Where Prometheus scrapes.
    metrics: Place,
    /// Where other nodes connect to.
    distribution: Place,
    loopback: Vec<String>,
    /// Where the last listener was named.
    last: Range<usize>,
}

impl<'a> Reader<'a> {
    fn read(&mut self) {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let mut start = 0;
        for (index, line) in self.text.split_inclusive('\n').enumerate() {
            let begin = start;
            start += line.len();
            let Some(entry) = self.entry(line, begin) else { continue };
            if let Some(before) = seen.insert(entry.key, index + 1) {
                let message = format!("`{}` was set in line {before} already; this one counts", entry.key);
                self.warn(entry.key_at.clone(), "duplicate", message, "");
            }
            self.take(&entry);
        }
    }

    /// Takes a line apart.
    fn entry(&mut self, line: &'a str, begin: usize) -> Option<Entry<'a>> {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return None;
        }
        let indent = line.len() - line.trim_start().len();
        let Some((key, rest)) = line.split_once('=') else {
            let at = begin + indent..begin + indent + trimmed.len();
            self.wrong(at, "syntax", "not of the form `key = value`", "a comment begins with #");
            return None;
        };
        let key_at = begin + indent..begin + indent + key.trim().len();
        let (value, offset) = self.value(rest, begin + key.len() + 1);
        let at = begin + key.len() + 1 + offset;
        Some(Entry { key: key.trim(), key_at, value_at: at..at + value.len(), value })
    }

    /// The value in what is behind `=`, and where in it. It ends at a `#`, unless it is quoted.
    fn value(&mut self, rest: &str, begin: usize) -> (String, usize) {
        let offset = rest.len() - rest.trim_start().len();
        let text = rest.trim();
        if let Some(quoted) = text.strip_prefix('\'').and_then(|text| text.split_once('\'')) {
            return (quoted.0.to_owned(), offset + 1);
        }
        let Some(at) = text.find('#') else { return (text.to_owned(), offset) };
        let value = text[..at].trim_end();
        if value.len() == at && at > 0 {
            let message = "the value ends here, because # begins a comment";
            let help = "write 'value' in single quotes to keep the #";
            self.warn(begin + offset + at..begin + offset + text.len(), "comment", message.to_owned(), help);
        }
        (value.to_owned(), offset)
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each key")]
    fn take(&mut self, entry: &Entry<'_>) {
        let parts: Vec<&str> = entry.key.split('.').collect();
        let value = entry.value.as_str();
        match parts.as_slice() {
            ["listeners", "tcp"] => self.none_only(entry, |it| it.tcp = vec!["none".to_owned()]),
            ["listeners", "ssl"] => self.none_only(entry, |it| it.ssl.clear()),
            ["listeners", kind @ ("tcp" | "ssl"), _] => {
                let address =
                    if value.parse::<u16>().is_ok() { format!(":{value}") } else { value.to_owned() };
                let all = if *kind == "tcp" { &mut self.tcp } else { &mut self.ssl };
                all.push(address);
                self.last = entry.value_at.clone();
            }
            ["ssl_options", rest @ ..] => {
                let mut tls = std::mem::take(&mut self.amqp_tls);
                self.tls(&mut tls, rest, entry);
                self.amqp_tls = tls;
            }
            ["management", kind @ ("tcp" | "ssl"), what @ ("ip" | "port")] => {
                self.management[usize::from(*kind == "ssl")].take(what, entry);
            }
            ["management", "path_prefix"] => {
                self.config.management.path_prefix = Some(entry.spanned(entry.value.clone()));
            }
            ["management", "cors", "allow_origins", _] => {
                append(&mut self.config.management.allow_origins, entry);
            }
            ["management", "cors", "max_age"] => self.config.management.cors_max_age = self.number(entry),
            ["prometheus", "tcp", what @ ("ip" | "port")] => self.metrics.take(what, entry),
            ["management", "ssl", rest @ ..] => {
                let mut tls = std::mem::take(&mut self.management_tls);
                self.tls(&mut tls, rest, entry);
                self.management_tls = tls;
            }
            ["loopback_users"] => self.none_only(entry, |it| it.loopback.clear()),
            ["loopback_users", user] => {
                let Some(on) = self.flag(entry) else { return };
                self.loopback.retain(|known| known != user);
                if on {
                    self.loopback.push((*user).to_owned());
                }
            }
            ["default_user"] => self.config.amqp.default_user = Some(entry.value.clone()),
            ["default_pass"] => self.config.amqp.default_pass = Some(entry.value.clone()),
            ["default_vhost"] => self.config.amqp.default_vhost = Some(entry.value.clone()),
            ["default_permissions", which] => {
                let all = &mut self.config.amqp.default_permissions;
                match *which {
                    "configure" => all.configure = Some(entry.spanned(entry.value.clone())),
                    "write" => all.write = Some(entry.spanned(entry.value.clone())),
                    "read" => all.read = Some(entry.spanned(entry.value.clone())),
                    _ => self.unknown(entry),
                }
            }
            ["default_user_tags", tag] => {
                if self.flag(entry) == Some(true) {
                    self.config.amqp.default_user_tags.get_or_insert_default().push((*tag).to_owned());
                }
            }
            ["heartbeat"] => self.config.amqp.heartbeat = self.number(entry),
            ["frame_max"] => self.config.amqp.frame_max = self.number(entry),
            ["channel_max"] => self.config.amqp.channel_max = self.number(entry),
            ["max_message_size"] => self.config.amqp.max_message_size = self.number(entry),
            ["consumer_timeout"] => self.config.amqp.consumer_timeout = self.number(entry),
            ["max_connections" | "ranch_connection_max"] if value == "infinity" => {}
            ["max_connections" | "ranch_connection_max"] => {
                self.config.limits.max_connections = self.number(entry);
            }
            ["vm_memory_high_watermark", "relative"] => {
                let share = value.parse().ok().map(|share| entry.spanned(Watermark::Share(share)));
                if share.is_none() {
                    self.wrong(entry.value_at.clone(), "limit", "not a number", "write a share such as 0.4");
                }
                self.config.limits.memory_high_watermark = share;
            }
            ["vm_memory_high_watermark", "absolute"] => {
                let size = Watermark::Size(Size::Text(entry.value.clone()));
                self.config.limits.memory_high_watermark = Some(entry.spanned(size));
            }
            ["disk_free_limit", "absolute"] => {
                self.config.limits.disk_free = Some(entry.spanned(Size::Text(entry.value.clone())));
            }
            ["disk_free_limit", "relative"] => self.disk_share(entry),
            ["cluster_name"] => self.config.amqp.cluster_name = Some(entry.value.clone()),
            ["cluster_formation", "peer_discovery_backend"] => self.discovery(entry),
            ["cluster_formation", "classic_config", "nodes", _] => {
                let peers = self.config.cluster.peers.get_or_insert_default();
                peers.push(Spanned::new(entry.value_at.clone(), entry.value.clone()));
            }
            ["cluster_partition_handling"] => {
                self.config.cluster.partition_handling = Some(entry.spanned(entry.value.clone()));
            }
            ["cluster_partition_handling", word, ..] => {
                let (message, help) = partition_handling_refused(word);
                self.wrong(entry.key_at.clone(), "cluster", &message, help);
            }
            ["distribution", "listener", "interface"] => self.distribution.take("ip", entry),
            ["distribution", "listener", "port_range", "min"] => self.distribution.take("port", entry),
            // One port is enough here: the first of the range.
            ["distribution", "listener", "port_range", "max"] => drop(self.number(entry)),
            ["load_definitions"] | ["management", "load_definitions"] | ["definitions", "local", "path"] => {
                self.config.node.definitions = Some(PathBuf::from(value));
                self.config.node.definitions_at_every_start = true;
            }
            // Importing what is there already changes nothing.
            ["definitions", "skip_if_unchanged"] => drop(self.flag(entry)),
            ["definitions", "import_backend"] => {
                self.only(entry, &["local_filesystem"], "definitions come from a file");
            }
            ["log", "console"] => self.config.log.console = self.flag(entry),
            ["log", "console" | "default" | "file", "level"] => self.level(entry),
            ["log", "file"] => self.config.log.file = (value != "false").then(|| PathBuf::from(value)),
            ["log", "dir"] => self.config.log.dir = Some(PathBuf::from(value)),
            ["log", "file", "rotation", what @ ("size" | "date" | "count")] => {
                let rotation = &mut self.config.log.rotation;
                match *what {
                    "size" => rotation.size = Some(entry.spanned(Size::Text(entry.value.clone()))),
                    "date" => rotation.date = Some(entry.spanned(entry.value.clone())),
                    _ => self.config.log.rotation.count = self.number(entry),
                }
            }
            ["log", "console" | "file", "formatter"] => {
                let format = if value == "json" { "json" } else { "text" };
                self.only(entry, &["json", "plaintext"], "lines are text or JSON");
                self.config.log.format = Some(entry.spanned(format.to_owned()));
            }
            ["auth_mechanisms", _] => append(&mut self.config.amqp.auth_mechanisms, entry),
            ["auth_backends", _] => {
                self.only(entry, &["internal", "rabbit_auth_backend_internal"], "users are the broker's own");
            }
            ["ssl_cert_login_from"] => {
                self.amqp_tls.cert_login_from = Some(entry.spanned(entry.value.clone()));
            }
            ["ssl_cert_login_san_type"] => {
                self.amqp_tls.cert_login_san_type = Some(entry.spanned(entry.value.clone()));
            }
            ["ssl_cert_login_san_index"] => self.amqp_tls.cert_login_san_index = self.number(entry),
            ["proxy_protocol"] => self.config.amqp.proxy_protocol = self.flag(entry) == Some(true),
            ["password_hashing_module"] => {
                let message = "new passwords are hashed with argon2id; RabbitMQ's hashes are understood";
                self.warn(entry.key_at.clone(), "no-meaning", message.to_owned(), "");
            }
            _ => self.unknown(entry),
        }
    }

    fn tls(&mut self, tls: &mut RawTls, key: &[&str], entry: &Entry<'_>) {
        let path = || Some(entry.spanned(PathBuf::from(&entry.value)));
        match key {
            ["cacertfile"] => tls.ca = path(),
            ["certfile"] => tls.cert = path(),
            ["keyfile"] => tls.key = path(),
            ["verify"] => tls.verify = Some(entry.spanned(entry.value.clone())),
            ["fail_if_no_peer_cert"] => {
                tls.fail_if_no_peer_cert = self.flag(entry).map(|on| entry.spanned(on));
            }
            ["versions", _] => append(&mut tls.versions, entry),
            _ => self.unknown(entry),
        }
    }

    fn none_only(&mut self, entry: &Entry<'_>, then: impl FnOnce(&mut Self)) {
        if entry.value == "none" {
            then(self);
        } else {
            let help = format!("write `{} = none`, or `{}.NAME = VALUE`", entry.key, entry.key);
            self.wrong(entry.value_at.clone(), "value", "only `none` may stand here", &help);
        }
    }

    /// Nodes find each other by the names in the file.
    fn discovery(&mut self, entry: &Entry<'_>) {
        if !["classic_config", "rabbit_peer_discovery_classic_config"].contains(&entry.value.as_str()) {
            let message = format!("`{}` is not supported: peers are named in the file", entry.value);
            let help = "write classic_config, and cluster_formation.classic_config.nodes.1 = rabbit@host for each node";
            self.wrong(entry.value_at.clone(), "cluster", &message, help);
        }
    }

    fn only(&mut self, entry: &Entry<'_>, allowed: &[&str], why: &str) {
        if !allowed.contains(&entry.value.as_str()) {
            let message = format!("`{}` is not supported: {why}", entry.value);
            self.warn(entry.value_at.clone(), "not-supported", message, &format!("use {}", allowed[0]));
        }
    }

    fn flag(&mut self, entry: &Entry<'_>) -> Option<bool> {
        match entry.value.as_str() {
            "true" | "on" => Some(true),
            "false" | "off" => Some(false),
            other => {
                let message = format!("`{other}` is neither true nor false");
                self.wrong(entry.value_at.clone(), "value", &message, "");
                None
            }
        }
    }

    fn number(&mut self, entry: &Entry<'_>) -> Option<Spanned<i64>> {
        match entry.value.parse() {
            Ok(number) => Some(entry.spanned(number)),
            Err(_) => {
                let message = format!("`{}` is not a number", entry.value);
                self.wrong(entry.value_at.clone(), "value", &message, "");
                None
            }
        }
    }

    /// A share of the machine's memory.
    fn disk_share(&mut self, entry: &Entry<'_>) {
        match entry.value.parse::<f64>() {
            Ok(share) if share.is_finite() && share >= 0.0 => {
                let octets = (crate::alarms::machine_memory() as f64 * share) as i64;
                self.config.limits.disk_free = Some(entry.spanned(Size::Octets(octets)));
            }
            _ => self.wrong(entry.value_at.clone(), "limit", "not a number", "write a share such as 1.0"),
        }
    }

    fn level(&mut self, entry: &Entry<'_>) {
        let own = match entry.value.as_str() {
            "debug" | "info" | "error" => entry.value.as_str(),
            "notice" | "warning" => "warn",
            "critical" | "alert" | "emergency" => "error",
            "none" => "off",
            other => {
                let message = format!("log level `{other}` is not known");
                let help = "use debug, info, warning, error or none";
                return self.wrong(entry.value_at.clone(), "value", &message, help);
            }
        };
        self.config.log.level = Some(own.to_owned());
    }

    fn unknown(&mut self, entry: &Entry<'_>) {
        let key = entry.key;
        if WITHOUT_MEANING.iter().any(|begin| key.starts_with(begin)) {
            let message = format!("`{key}` has no meaning here and is left out");
            return self.warn(entry.key_at.clone(), "no-meaning", message, "");
        }
        let help = suggest(key, KNOWN.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        let message = format!("unknown key `{key}` is left out");
        self.warn(entry.key_at.clone(), "unknown-key", message, &help.unwrap_or_default());
    }

    fn warn(&mut self, at: Range<usize>, code: &'static str, message: String, help: &str) {
        let remark = Diagnostic::warning(code, message).in_file(self.file).at_bytes(self.text, at);
        self.found.push(if help.is_empty() { remark } else { remark.help(help) });
    }

    fn wrong(&mut self, at: Range<usize>, code: &'static str, message: &str, help: &str) {
        let remark = Diagnostic::error(code, message).in_file(self.file).at_bytes(self.text, at);
        self.found.push(if help.is_empty() { remark } else { remark.help(help) });
    }

    fn finish(mut self) -> (RawConfig, Diagnostics) {
        let addresses =
            |all: Vec<String>, at: &Range<usize>| Some(Spanned::new(at.clone(), Addresses::Many(all)));
        let config = &mut self.config;
        config.amqp.listen = match self.tcp.as_slice() {
            [none] if none == "none" => addresses(Vec::new(), &self.last),
            [] => addresses(vec![":5672".to_owned()], &self.last),
            _ => addresses(self.tcp.into_iter().filter(|address| address != "none").collect(), &self.last),
        };
        let (certificate, ssl) = (self.amqp_tls.cert.as_ref().map(Spanned::span), self.ssl);
        if !ssl.is_empty() {
            self.amqp_tls.listen = addresses(ssl, &self.last);
            config.amqp.tls = Some(Spanned::new(self.last.clone(), self.amqp_tls));
        } else if let Some(at) = certificate {
            let remark =
                Diagnostic::warning("no-listener", "ssl_options are not used: nothing listens for TLS")
                    .in_file(self.file)
                    .at_bytes(self.text, at)
                    .help("add listeners.ssl.default = 5671");
            self.found.push(remark);
        }
        let [plain, secure] = &self.management;
        config.management.listen = addresses(vec![plain.address(15672)], &plain.at);
        if secure.is_given() {
            // As with RabbitMQ, TLS takes the place of plain HTTP unless that is asked for too.
            if !plain.is_given() {
                config.management.listen = addresses(Vec::new(), &plain.at);
            }
            self.management_tls.listen = addresses(vec![secure.address(15671)], &secure.at);
            config.management.tls = Some(Spanned::new(secure.at.clone(), self.management_tls));
        }
        // Without a word about it they are for this host only: RabbitMQ has none then.
        if self.metrics.is_given() {
            config.metrics.listen =
                addresses(vec![self.metrics.address(super::METRICS_PORT)], &self.metrics.at);
        }
        if self.distribution.is_given() {
            let address = self.distribution.address(super::cluster::PEER_PORT);
            config.cluster.listen = addresses(vec![address], &self.distribution.at);
        }
        config.amqp.loopback_users = Some(self.loopback);
        (self.config, self.found)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::cli::{Environment, NodeArgs};
    use crate::config::{Config, MemoryLimit};
    use daemon::diagnostic::Diagnostics;

    fn read(text: &str) -> Result<Config, Diagnostics> {
        let environment = Environment { host: "host".to_owned(), ..Environment::default() };
        Config::from_text(text, "rabbitmq.conf", &NodeArgs::default(), &environment)
    }

    #[test]
    fn an_empty_file_listens_everywhere_as_rabbitmq_does() {
        let config = read("# nothing\n").unwrap();
        assert_eq!(config.amqp.listen, ["0.0.0.0:5672".parse().unwrap()]);
        assert_eq!(config.management, ["0.0.0.0:15672".parse().unwrap()]);
        assert!(config.amqp.tls.is_none() && config.warnings.is_empty());
        assert_eq!(config.amqp.loopback_users.0, ["guest"]);
    }

    #[test]
    fn the_keys_people_use() {
        let config = read(
            "listeners.tcp.default = 5690\nlisteners.tcp.local = 127.0.0.1:5691 # a comment\n\
             management.tcp.ip = 127.0.0.1\nmanagement.tcp.port=15690\nprometheus.tcp.port = 15699\n\
             loopback_users.guest = false\nloopback_users.ops = true\n\
             default_user = ops\ndefault_pass = 'a # b'\ndefault_vhost = /lagou\n\
             default_permissions.configure = ^a\ndefault_permissions.read = .*\ndefault_permissions.write = .*\n\
             default_user_tags.administrator = true\n\
             heartbeat = 30\nframe_max = 65536\nchannel_max = 100\nmax_message_size = 1000\nconsumer_timeout = 5\n\
             vm_memory_high_watermark.relative = 0.6\ndisk_free_limit.absolute = 2GB\nmax_connections = 10\n\
             cluster_name = prod\nload_definitions = /d.json\nlog.console.level = warning\nlog.console.formatter = json\n\
             auth_mechanisms.1 = PLAIN\nproxy_protocol = true\n",
        )
        .unwrap();
        assert_eq!(config.amqp.listen, ["0.0.0.0:5690".parse().unwrap(), "127.0.0.1:5691".parse().unwrap()]);
        assert_eq!(config.management, ["127.0.0.1:15690".parse().unwrap()]);
        assert_eq!(config.metrics.listen, ["0.0.0.0:15699".parse().unwrap()]);
        assert_eq!(config.amqp.loopback_users.0, ["ops"]);
        let user = &config.default_user;
        assert_eq!(
            (user.name.as_str(), user.password.as_str(), user.vhost.as_str()),
            ("ops", "a # b", "/lagou")
        );
        assert_eq!((&*user.permissions.configure, &*user.permissions.read), ("^a", ".*"));
        assert_eq!(user.tags, ["administrator"]);
        assert_eq!(
            (config.amqp.heartbeat, config.amqp.frame_max, config.amqp.channel_max),
            (30, 65_536, 100)
        );
        assert_eq!((config.amqp.max_message_size, config.amqp.consumer_timeout_ms), (1000, 5));
        assert_eq!(config.limits.memory, MemoryLimit::Share(0.6));
        assert_eq!((config.limits.disk_free, config.limits.max_connections), (2_000_000_000, 10));
        assert_eq!(config.amqp.cluster_name, "prod");
        assert!(config.definitions_at_every_start && config.amqp.proxy_protocol);
        assert_eq!(
            (config.log.level.as_str(), config.log.format),
            ("warn", daemon::logging::LogFormat::Json)
        );
        assert!(config.warnings.is_empty(), "{}", config.warnings.render(false));
    }

    #[test]
    fn strange_keys_are_remarks_with_the_nearest() {
        let config =
            read("hearbeat = 5\nnum_acceptors.tcp = 10\ndefault_pass = a#b\nheartbeat = 1\nheartbeat = 2\n")
                .unwrap();
        let said = config.warnings.render(false);
        for part in [
            "rabbitmq.conf:1:1",
            "did you mean `heartbeat`?",
            "has no meaning here",
            "the value ends here",
            "set in line 4 already",
        ] {
            assert!(said.contains(part), "{part} is missing in:\n{said}");
        }
        assert_eq!((config.amqp.heartbeat, config.default_user.password.as_str()), (2, "a"));
    }

    #[test]
    fn every_wrong_value_is_named_at_once() {
        let said = read("heartbeat = soon\nlisteners.tcp.default = nowhere\nloopback_users.guest = maybe\nnonsense\nvm_memory_high_watermark.relative = 7\n")
            .unwrap_err()
            .render(false);
        for part in ["conf:1:13", "conf:2:25", "conf:3:24", "conf:4:1", "conf:5:37"] {
            assert!(said.contains(part), "{part} is missing in:\n{said}");
        }
    }

    #[test]
    fn tls_in_rabbitmqs_words() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = crate::tls::testing::server();
        let mut options = String::new();
        for (name, text) in [
            ("certfile", &certificate),
            ("keyfile", &key),
            ("cacertfile", &crate::tls::testing::authority().0),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            options.push_str(&format!("ssl_options.{name} = {}\n", path.display()));
        }
        let config = read(&format!(
            "listeners.tcp = none\nlisteners.ssl.default = 5671\n{options}ssl_options.verify = verify_peer\n\
             ssl_options.versions.1 = tlsv1.2\n{}management.ssl.port = 15671\n",
            options.replace("ssl_options", "management.ssl")
        ))
        .unwrap();
        assert!(config.amqp.listen.is_empty() && config.management.is_empty());
        assert_eq!(config.amqp.tls.unwrap().listen, ["0.0.0.0:5671".parse().unwrap()]);
        assert_eq!(config.management_tls.unwrap().listen, ["0.0.0.0:15671".parse().unwrap()]);
        let said = read(&options).unwrap().warnings.render(false);
        assert!(said.contains("add listeners.ssl.default"), "{said}");
    }
}
