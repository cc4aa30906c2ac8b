//! The configuration as native text, for `vip-agent migrate`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use vrrp::{Announce, Auth, InitialState, Version};

use super::virtual_server::Listen;
use super::{
    AgentConfig, Command, Global, NotifyConfig, RouterConfig, ScriptConfig, ScriptUser, TrackInterface,
    TrackScript, VirtualAddress,
};
use crate::tracker::builtin::Probe;

mod routes;
mod rules;
mod servers;

/// Writes `config`; reading the text gives the same configuration again.
pub(crate) fn write(config: &AgentConfig) -> String {
    let mut out = Writer::default();
    out.global(&config.global);
    if !config.static_addresses.is_empty() {
        out.set("static_addresses", &list(config.static_addresses.iter().map(address)));
    }
    if !config.static_routes.is_empty() {
        out.set("static_routes", &list(config.static_routes.iter().map(routes::route)));
    }
    for script in &config.scripts {
        out.script(script);
    }
    for instance in &config.instances {
        out.instance(instance);
    }
    for group in &config.groups {
        out.text.push_str("\n[[group]]\n");
        out.set("name", &quoted(&group.name));
        out.set("members", &list(group.members.iter().map(|member| quoted(member))));
        out.notify(&group.notify);
    }
    for server in &config.virtual_servers {
        servers::write(&mut out, server);
    }
    out.text
}

#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn set(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.text, "{key} = {value}");
    }

    /// Writes what differs from the default.
    fn set_if<T: PartialEq>(&mut self, key: &str, value: &T, default: &T, show: impl FnOnce(&T) -> String) {
        if value != default {
            let shown = show(value);
            self.set(key, &shown);
        }
    }

    fn global(&mut self, global: &Global) {
        let default = Global::default();
        self.text.push_str("[agent]\n");
        self.set("router_id", &quoted(&global.router_id));
        self.user("script_user", "script_group", global.script_user);
        self.set_if("script_security", &global.script_security, &default.script_security, bool::to_string);
        self.set_if("address_lease", &global.address_lease, &default.address_lease, span);
        self.set_if("guard", &global.guard, &default.guard, bool::to_string);
        self.set_if("realtime", &global.realtime, &default.realtime, bool::to_string);
        let priority = (&global.realtime_priority, &default.realtime_priority);
        self.set_if("realtime_priority", priority.0, priority.1, i32::to_string);
        self.set_if("garp_interval", &global.garp_interval, &default.garp_interval, span);
        let (four, six) = (&global.multicast_v4, &global.multicast_v6);
        self.set_if("multicast_v4", four, &default.multicast_v4, |group| quoted(&group.to_string()));
        self.set_if("multicast_v6", six, &default.multicast_v6, |group| quoted(&group.to_string()));
        if let Some(path) = &global.notify_fifo {
            self.set("notify_fifo", &quoted(&path.display().to_string()));
        }
        if let Some(script) = &global.notify_fifo_script {
            self.set("notify_fifo_script", &program(script));
        }
        if let Some(address) = &global.http {
            self.set("http", &quoted(&address.to_string()));
        }
    }

    fn user(&mut self, user_key: &str, group_key: &str, user: Option<ScriptUser>) {
        if let Some(user) = user {
            self.set(user_key, &quoted(&user.uid.to_string()));
            self.set(group_key, &quoted(&user.gid.to_string()));
        }
    }

    fn script(&mut self, script: &ScriptConfig) {
        self.text.push_str("\n[[script]]\n");
        self.set("name", &quoted(&script.name));
        match &script.probe {
            None => self.set("command", &command(&script.command)),
            Some(Probe::Tcp(address)) => self.set("tcp", &quoted(&address.to_string())),
            Some(Probe::Amqp(address)) => self.set("amqp", &quoted(&address.to_string())),
            Some(Probe::Http(target)) => {
                self.set("http", &quoted(&format!("http://{}{}", target.address, target.path)));
            }
            Some(Probe::Proxy(target)) => {
                self.set("proxy", &quoted(&format!("http://{}{}", target.address, target.path)));
            }
            Some(Probe::File(path)) => self.set("file", &quoted(&path.display().to_string())),
            Some(Probe::Process { name, at_least }) => {
                self.set("process", &quoted(name));
                self.set_if("at_least", at_least, &1, usize::to_string);
            }
        }
        self.set("interval", &span(&script.interval));
        self.set_if("timeout", &script.timeout, &script.interval, span);
        self.set_if("rise", &script.rise, &1, u32::to_string);
        self.set_if("fall", &script.fall, &1, u32::to_string);
        self.set("weight", &script.weight.to_string());
        self.set_if("reverse", &script.reverse, &false, bool::to_string);
        self.set_if("init_fail", &script.init_fail, &false, bool::to_string);
        self.user("user", "group", script.command.user);
    }

    fn instance(&mut self, instance: &RouterConfig) {
        let core = &instance.core;
        self.text.push_str("\n[[instance]]\n");
        self.set("name", &quoted(&core.name));
        self.set("interface", &quoted(&instance.interface));
        self.set("virtual_router_id", &core.virtual_router_id.to_string());
        if core.version != if instance.is_ipv6() { Version::V3 } else { Version::V2 } {
            self.set("version", &core.version.number().to_string());
        }
        let master = core.initial_state == InitialState::Master;
        self.set("state", if master { "\"master\"" } else { "\"backup\"" });
        self.set("priority", &core.priority.to_string());
        self.set("advert_interval", &span(&core.advert_interval));
        if let Auth::Simple(password) = &core.auth {
            let bytes = password.bytes();
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            self.set("auth_pass", &quoted(&String::from_utf8_lossy(&bytes[..end])));
        }
        let (advertised, excluded) =
            instance.addresses.split_at(core.addresses.len().min(instance.addresses.len()));
        self.set("addresses", &list(advertised.iter().map(address)));
        if !excluded.is_empty() {
            self.set("unadvertised_addresses", &list(excluded.iter().map(address)));
        }
        if !instance.routes.is_empty() {
            self.set("routes", &list(instance.routes.iter().map(routes::route)));
        }
        if !instance.rules.is_empty() {
            self.set("rules", &list(instance.rules.iter().map(rules::rule)));
        }
        self.set_if("preempt", &core.preempt, &true, bool::to_string);
        self.set_if("preempt_delay", &core.preempt_delay, &Duration::ZERO, span);
        if let Some(vmac) = &instance.vmac {
            self.set("vmac", &quoted(vmac));
        }
        if let Some(key) = &instance.hmac_key {
            self.set("hmac_key", &quoted(&key.expose()));
        }
        if let Some(source) = instance.source {
            self.set("source", &quoted(&source.to_string()));
        }
        if !core.unicast_peers.is_empty() {
            self.set("unicast_peers", &list(core.unicast_peers.iter().map(|peer| quoted(&peer.to_string()))));
        }
        if !instance.track_scripts.is_empty() {
            self.set("track_scripts", &list(instance.track_scripts.iter().map(track_script)));
        }
        if !instance.track_interfaces.is_empty() {
            self.set("track_interfaces", &list(instance.track_interfaces.iter().map(track_interface)));
        }
        self.set_if("track_link", &!instance.ignore_link, &true, bool::to_string);
        self.details(instance);
        self.garp(&core.announce);
        self.notify(&instance.notify);
    }

    /// Settings few people change.
    fn details(&mut self, instance: &RouterConfig) {
        let core = &instance.core;
        self.set_if("fast_handover", &core.fast_handover, &true, bool::to_string);
        self.set_if("graceful_release", &core.graceful_release, &true, bool::to_string);
        self.set_if("answer_lower_priority", &core.answer_lower_priority, &true, bool::to_string);
        self.set_if("advert_before_yielding", &core.advert_before_yielding, &true, bool::to_string);
        self.set_if("down_timer_adverts", &core.down_timer_adverts, &3, u32::to_string);
        let v2_sum = core.checksum == vrrp::ChecksumMode::PacketOnly;
        self.set_if("v3_checksum_as_v2", &v2_sum, &false, bool::to_string);
    }

    fn garp(&mut self, announce: &Announce) {
        let default = Announce::default();
        self.set_if("garp.repeat", &announce.repeat, &default.repeat, u32::to_string);
        self.set_if("garp.delay", &announce.delay, &default.delay, span);
        self.set_if("garp.refresh", &announce.refresh, &default.refresh, span);
        self.set_if("garp.refresh_repeat", &announce.refresh_repeat, &default.refresh_repeat, u32::to_string);
        let (repeat, standard) = (&announce.lower_priority_repeat, &default.lower_priority_repeat);
        self.set_if("garp.lower_priority_repeat", repeat, standard, u32::to_string);
        let (delay, standard) = (&announce.lower_priority_delay, &default.lower_priority_delay);
        self.set_if("garp.lower_priority_delay", delay, standard, span);
    }

    fn notify(&mut self, notify: &NotifyConfig) {
        let NotifyConfig { any, master, backup, fault, stop } = notify;
        let all = [("any", any), ("master", master), ("backup", backup), ("fault", fault), ("stop", stop)];
        for (key, script) in all {
            if let Some(script) = script {
                self.set(&format!("notify.{key}"), &program(script));
            }
        }
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", control as u32);
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn command(command: &Command) -> String {
    list(command.argv.iter().map(|word| quoted(word)))
}

/// A program with its user, if it has one of its own.
fn program(program: &Command) -> String {
    match program.user {
        None => command(program),
        Some(ScriptUser { uid, gid }) => {
            format!("{{ command = {}, user = \"{uid}\", group = \"{gid}\" }}", command(program))
        }
    }
}

fn span(span: &Duration) -> String {
    match span.as_micros() {
        whole if whole.is_multiple_of(1_000_000) => format!("\"{}s\"", span.as_secs()),
        whole if whole.is_multiple_of(1000) => format!("\"{}ms\"", span.as_millis()),
        whole => format!("\"{whole}us\""),
    }
}

fn address(vip: &VirtualAddress) -> String {
    let mut text = format!("address = \"{}/{}\"", vip.address, vip.prefix);
    let plain = text.clone();
    if let Some(dev) = &vip.dev {
        let _ = write!(text, ", dev = {}", quoted(dev));
    }
    if let Some(label) = &vip.label {
        let _ = write!(text, ", label = {}", quoted(label));
    }
    if let Some(broadcast) = &vip.broadcast {
        let _ = write!(text, ", broadcast = \"{broadcast}\"");
    }
    if vip.scope != 0 {
        let _ = write!(text, ", scope = {}", vip.scope);
    }
    if text == plain { format!("\"{}/{}\"", vip.address, vip.prefix) } else { format!("{{ {text} }}") }
}

fn track_script(track: &TrackScript) -> String {
    let mut text = format!("name = {}", quoted(&track.name));
    if let Some(weight) = track.weight {
        let _ = write!(text, ", weight = {weight}");
    }
    if let Some(reverse) = track.reverse {
        let _ = write!(text, ", reverse = {reverse}");
    }
    if track.weight.is_none() && track.reverse.is_none() {
        quoted(&track.name)
    } else {
        format!("{{ {text} }}")
    }
}

fn track_interface(track: &TrackInterface) -> String {
    match track.weight {
        0 => quoted(&track.name),
        weight => format!("{{ name = {}, weight = {weight} }}", quoted(&track.name)),
    }
}

/// What `migrate` changed on purpose.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) notes: Vec<String>,
}

/// Puts native checks in the place of scripts that look for a process by its name, and leaves notes.
/// `port` is where the service of the virtual address listens, as the virtual_server block tells.
pub(crate) fn modernise(config: &mut AgentConfig, keep_scripts: bool) -> Changes {
    let mut changes = Changes::default();
    let port =
        config.virtual_servers.iter().flat_map(|server| &server.listen).find_map(|listen| match listen {
            Listen::Address { port, .. } if *port != 0 => Some(*port),
            _ => None,
        });
    for script in &mut config.scripts {
        let codes: Vec<&str> = super::script_lint::remarks(script).iter().map(|remark| remark.code).collect();
        let by_name = codes.contains(&"script-process-name");
        let Some(program) = script.command.argv.first().filter(|_| by_name).cloned() else { continue };
        let name = Path::new(&program).display();
        match port.filter(|_| !keep_scripts) {
            Some(port) => {
                script.probe = Some(Probe::Tcp(std::net::SocketAddr::from(([127, 0, 0, 1], port))));
                script.command = Command::default();
                changes.notes.push(format!(
                    "script {name} looks for a process by its name; replaced by a check of TCP port {port} \
                     (it no longer restarts the process: let the service manager do that). --keep-script keeps it"
                ));
            }
            None => changes.notes.push(format!("script {name} looks for a process by its name; kept")),
        }
    }
    for instance in &config.instances {
        let name = &instance.core.name;
        if instance.core.auth != Auth::None {
            changes.notes.push(format!("{name}: the password goes over the wire in clear text; kept, because keepalived peers need it"));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{keepalived_conf, toml};

    fn there_and_back(text: &str) {
        let (config, remarks) = keepalived_conf::parse(text, "f", None);
        assert!(!remarks.has_errors(), "{remarks}");
        let native = write(&config);
        let (again, _) = toml::parse(&native, "t").unwrap_or_else(|remarks| panic!("{remarks}\n{native}"));
        assert_eq!(again, config, "{native}");
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        there_and_back(include_str!("../../../configs/tutorial/keepalived.conf"));
        there_and_back(
            "global_defs {\n router_id \"a \\\" b\"\n script_user root\n vrrp_garp_master_repeat 2\n address_lease 4.5\n}\n\
             vrrp_script c {\n script \"/bin/x 'a \\\"b'\"\n interval 0.25\n timeout 3\n fall 4\n weight 5 reverse\n init_fail\n}\n\
             vrrp_track_file f {\n file /x/y\n weight 2\n}\nvrrp_track_process p {\n process haproxy\n quorum 2\n weight -3\n}\n\
             vrrp_sync_group G {\n group {\n A\n B\n }\n notify_master \"/bin/g m\"\n}\n\
             vrrp_instance A {\n interface e0\n virtual_router_id 1\n version 3\n advert_int 0.1\n nopreempt\n preempt_delay 1.5\n\
             use_vmac\n hmac_key 0123456789abcdef\n unicast_src_ip 10.0.0.1\n unicast_peer {\n 10.0.0.2\n }\n track_script {\n c weight 7 noreverse\n p\n }\n\
             track_file {\n f weight -1\n }\n track_interface {\n e1 weight -9\n e2\n }\n virtual_ipaddress {\n 10.0.0.9/24 dev e1 label e1:0 brd + scope link\n }\n\
             virtual_ipaddress_excluded {\n fd00::9/64\n }\n garp_lower_prio_repeat 0\n higher_prio_send_advert off\n\
             lower_prio_no_advert\n v3_checksum_as_v2\n dont_track_primary\n notify \"/bin/n\"\n}\n\
             vrrp_instance B {\n interface e0\n virtual_router_id 1\n virtual_ipaddress {\n fd00::66/64\n }\n}\n",
        );
    }
}
