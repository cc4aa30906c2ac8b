//! The files a host's programs read, from `configs/stack`.

use crate::root;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// RabbitMQ's configuration in the role of our broker: the same account.
pub(super) const RABBITMQ: &str = "\
listeners.tcp.default = 5672
default_user = laosun
default_pass = 123456
default_vhost = /lagou
default_user_tags.administrator = true
default_permissions.configure = .*
default_permissions.read = .*
default_permissions.write = .*
log.console = true
log.console.level = info
log.file = false
";

/// A file of `configs/stack`.
pub(super) fn config(name: &str) -> Result<String> {
    let path = root().join("configs/stack").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// The balancer's configuration with a server for each broker, as the file has them for two.
pub(super) fn with_servers(text: &str, addresses: &[String]) -> String {
    let is_server = |line: &&str| line.trim_start().starts_with("server rabbitmqNode");
    let Some(pattern) = text.lines().find(is_server) else { return text.to_owned() };
    let words: String = pattern.split_whitespace().skip(3).flat_map(|word| [" ", word]).collect();
    let mut made = String::new();
    for line in text.lines() {
        if line == pattern {
            for (index, address) in addresses.iter().enumerate() {
                let _ = writeln!(made, "    server rabbitmqNode{} {address}:5672{words}", index + 1);
            }
        } else if !is_server(&line) {
            let _ = writeln!(made, "{line}");
        }
    }
    made
}

/// The script that starts a balancer, for its check script and for us: it leaves its process id in
/// `proxy.pid` and its output in `proxy.log`.
pub(super) fn start_proxy(folder: &Path, call: &str) -> String {
    let folder = folder.display();
    format!("#!/bin/sh\necho $$ >'{folder}/proxy.pid'\nexec {call} >>'{folder}/proxy.log' 2>&1\n")
}

/// Sets the execute bits.
pub(super) fn make_executable(path: &Path) -> Result<()> {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755))
        .with_context(|| format!("make {} executable", path.display()))
}

/// Makes a RabbitMQ keep to a folder, and to the loopback interface with what is not AMQP.
pub fn rabbitmq_environment(command: &mut Command, folder: &Path, host: &str) {
    let at = |name: &str| folder.join(name);
    command
        .env("HOME", folder)
        .env("RABBITMQ_NODENAME", format!("rabbit{host}@localhost"))
        .env("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", at("none.config"))
        .env("RABBITMQ_CONF_ENV_FILE", at("none.conf"))
        .env("RABBITMQ_MNESIA_BASE", at("data"))
        .env("RABBITMQ_LOG_BASE", at("log"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins"))
        .env("RABBITMQ_PID_FILE", at("rabbitmq.pid"))
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balancer_has_a_server_for_each_broker() {
        let text = config("haproxy.cfg").unwrap();
        let address = |octet: u8| format!("192.168.204.{octet}");
        assert_eq!(with_servers(&text, &[address(141), address(142)]), text);
        let three = with_servers(&text, &[address(141), address(142), address(145)]);
        assert!(three.contains("    server rabbitmqNode3 192.168.204.145:5672\n"), "{three}");
    }
}
