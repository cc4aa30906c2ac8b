//! What SIGUSR1 and SIGUSR2 write, in the form and place keepalived's exporters read.

use std::fmt::Write as _;
use std::path::Path;

use vrrp::State;

use crate::agent::Agent;
use crate::status::of;

/// SIGUSR1: the state of everything, where keepalived's exporters look for it.
pub(crate) fn data(agent: &Agent) {
    let status = of(agent);
    let mut text = String::from("------< VRRP Topology >------\n");
    for (instance, router) in status.instances.iter().zip(agent.routers()) {
        let wanted = match router.config.core.initial_state {
            vrrp::InitialState::Master => "MASTER",
            vrrp::InitialState::Backup => "BACKUP",
        };
        let state = if instance.state == State::Releasing.word() { "MASTER" } else { &instance.state };
        let _ = writeln!(text, " VRRP Instance = {}", instance.name);
        let _ = writeln!(text, "   VRRP Version = {}", instance.version);
        let _ = writeln!(text, "   State = {state}\n   Wantstate = {wanted}");
        let _ = writeln!(text, "   Interface = {}", instance.interface);
        let _ = writeln!(text, "   Using src_ip = {}", instance.source);
        let _ = writeln!(text, "   Gratuitous ARP delay = {}", router.config.core.announce.delay.as_secs());
        let _ = writeln!(text, "   Virtual Router ID = {}", instance.virtual_router_id);
        let _ = writeln!(text, "   Priority = {}", instance.base_priority);
        let _ = writeln!(text, "   Effective priority = {}", instance.effective_priority);
        let _ =
            writeln!(text, "   Advert interval = {} sec", router.config.core.advert_interval.as_secs_f64());
        let _ = writeln!(text, "   Virtual IP ({}):", instance.addresses.len());
        for held in &router.config.addresses {
            let set = if router.held().iter().any(|known| known.vip == *held) { " set" } else { "" };
            let dev = held.dev.as_deref().unwrap_or(&instance.interface);
            let _ = writeln!(text, "     {}/{} dev {dev} scope global{set}", held.address, held.prefix);
        }
    }
    text.push_str("------< VRRP Scripts >------\n");
    for script in &agent.config().scripts {
        let Some(view) = agent.scripts().view(&script.name) else { continue };
        let status = match view.status {
            vrrp::priority::TrackStatus::Good => "GOOD",
            vrrp::priority::TrackStatus::Failed => "BAD",
            vrrp::priority::TrackStatus::Unknown => "INIT",
        };
        let _ = writeln!(text, " VRRP Script = {}", script.name);
        let _ = writeln!(text, "   Command = '{}'", script.command.argv.join(" "));
        let _ = writeln!(text, "   Interval = {} sec", script.interval.as_secs_f64());
        let _ = writeln!(
            text,
            "   Weight = {}\n   Rise = {}\n   Fall = {}",
            script.weight, script.rise, script.fall
        );
        let _ = writeln!(text, "   Status = {status}\n   State = idle");
    }
    write_dump(agent, "keepalived.data", &text);
}

/// SIGUSR2: the counters, where keepalived's exporters look for them.
pub(crate) fn statistics(agent: &Agent) {
    let mut text = String::new();
    for instance in of(agent).instances {
        let c = &instance.counters;
        let lines = [
            ("Advertisements", vec![("Received", c.adverts_received), ("Sent", c.adverts_sent)]),
            ("", vec![]),
            ("Became master", vec![("", c.become_master)]),
            ("Released master", vec![("", c.release_master)]),
            (
                "Packet Errors",
                vec![
                    ("Length", c.packet_length_errors),
                    ("TTL", c.hop_limit_errors),
                    ("Invalid Type", c.unknown_packets + c.version_errors),
                    ("Advertisement Interval", c.interval_errors),
                    ("Address List", c.address_mismatches),
                ],
            ),
            (
                "Authentication Errors",
                vec![
                    ("Invalid Type", 0),
                    ("Type Mismatch", c.auth_type_errors),
                    ("Failure", c.auth_failures),
                ],
            ),
            ("Priority Zero", vec![("Received", c.priority_zero_received), ("Sent", c.priority_zero_sent)]),
        ];
        let _ = writeln!(text, "VRRP Instance: {}", instance.name);
        for (title, values) in lines.iter().filter(|(title, _)| !title.is_empty()) {
            match values.as_slice() {
                [("", value)] => {
                    let _ = writeln!(text, "  {title}: {value}");
                }
                values => {
                    let _ = writeln!(text, "  {title}:");
                    for (name, value) in values {
                        let _ = writeln!(text, "    {name}: {value}");
                    }
                }
            }
        }
    }
    write_dump(agent, "keepalived.stats", &text);
}

/// Writes a dump into /tmp as keepalived does. A fresh file is made and moved into place, because anybody
/// can put links into /tmp.
fn write_dump(agent: &Agent, name: &str, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = Path::new("/tmp").join(name);
    let fresh = Path::new("/tmp").join(format!(".{name}.{}.{}", std::process::id(), agent.now().as_nanos()));
    let result = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&fresh, &path));
    match result {
        Ok(()) => tracing::info!(path = %path.display(), "written"),
        Err(error) => {
            let _ = std::fs::remove_file(&fresh);
            tracing::error!(path = %path.display(), %error, "cannot write");
        }
    }
}
