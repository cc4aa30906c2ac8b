//! The settings of a node as `environment` shows them: what is secret is not among them.

use super::{Config, MemoryLimit};
use serde_json::{Map, Value, json};

impl Config {
    /// Every setting by its name in `broker.toml`.
    pub(crate) fn shown(&self) -> Map<String, Value> {
        let list = |addresses: &[std::net::SocketAddr]| -> Value {
            addresses.iter().map(|address| Value::from(address.to_string())).collect()
        };
        let tls = |tls: &Option<super::TlsListeners>| tls.as_ref().map(|tls| list(&tls.listen));
        let tls_file = |file: fn(&super::cluster::ClusterTls) -> &std::path::PathBuf| {
            self.cluster.tls.as_ref().map(file)
        };
        let amqp = &self.amqp;
        let mechanisms: Vec<&str> = amqp.auth_mechanisms.iter().map(|mechanism| mechanism.name()).collect();
        let all = [
            ("node.name", json!(self.node_name)),
            ("node.data", json!(self.data)),
            ("node.definitions", json!(self.definitions)),
            ("node.definitions_at_every_start", json!(self.definitions_at_every_start)),
            ("amqp.listen", list(&amqp.listen)),
            ("amqp.tls.listen", json!(tls(&amqp.tls))),
            ("amqp.heartbeat", json!(amqp.heartbeat)),
            ("amqp.frame_max", json!(amqp.frame_max)),
            ("amqp.channel_max", json!(amqp.channel_max)),
            ("amqp.max_message_size", json!(amqp.max_message_size)),
            ("amqp.consumer_timeout", json!(amqp.consumer_timeout_ms)),
            ("amqp.loopback_users", json!(amqp.loopback_users.0)),
            ("amqp.default_user", json!(self.default_user.name)),
            ("amqp.default_vhost", json!(self.default_user.vhost)),
            ("amqp.default_user_tags", json!(self.default_user.tags)),
            ("amqp.product", json!(amqp.product)),
            ("amqp.version", json!(amqp.version)),
            ("amqp.cluster_name", json!(amqp.cluster_name)),
            ("amqp.auth_mechanisms", json!(mechanisms)),
            ("amqp.proxy_protocol", json!(amqp.proxy_protocol)),
            ("cluster.listen", list(&self.cluster.listen)),
            ("cluster.advertise", json!(self.cluster.advertised)),
            (
                "cluster.peers",
                self.cluster.peers.iter().map(|peer| Value::from(peer.address.as_str())).collect(),
            ),
            (
                "cluster.cookie_file",
                json!(self.data.as_ref().and_then(|data| self.cluster.cookie.file(data))),
            ),
            ("cluster.tls.cert", json!(tls_file(|tls| &tls.cert))),
            ("cluster.tls.key", json!(tls_file(|tls| &tls.key))),
            ("cluster.tls.ca", json!(tls_file(|tls| &tls.ca))),
            ("cluster.partition_handling", json!(self.cluster.partition_handling.name())),
            ("cluster.witness", json!(self.cluster.witness)),
            ("management.listen", list(&self.management)),
            ("management.tls.listen", json!(tls(&self.management_tls))),
            ("management.path_prefix", json!(self.web.path_prefix)),
            ("management.allow_origins", json!(self.web.allow_origins)),
            ("log.level", json!(self.log.level)),
            ("log.places", json!(self.log_places())),
            ("limits.max_connections", json!(self.limits.max_connections)),
            ("limits.disk_free", json!(self.limits.disk_free)),
            (
                "limits.memory_high_watermark",
                match self.limits.memory {
                    MemoryLimit::Share(share) => json!(share),
                    MemoryLimit::Octets(octets) => json!(octets),
                },
            ),
            ("users", self.users.iter().map(|user| Value::from(user.name.as_str())).collect()),
            ("vhosts", self.vhosts.iter().map(|(name, _)| Value::from(name.as_str())).collect()),
        ];
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
