//! `keepalived.data`.

use std::fmt::Write as _;
use std::time::Duration;

use vrrp::priority::TrackStatus;
use vrrp::sync_group::group_state;
use vrrp::{Auth, Version};

use super::{address, addresses, state, wall_clock, wanted};
use crate::agent::Agent;
use crate::config::{Command, ScriptUser};
use crate::instance::Router;

pub(super) fn text(agent: &Agent) -> String {
    let mut text = String::from("------< Global definitions >------\n");
    let global = &agent.config().global;
    line(&mut text, " Router ID", &global.router_id);
    let security = if global.script_security { "enabled" } else { "disabled" };
    let _ = writeln!(text, " Script security {security}");
    text.push_str("------< VRRP Topology >------\n");
    for router in agent.routers() {
        instance(&mut text, agent, router);
    }
    groups(&mut text, agent);
    scripts(&mut text, agent);
    text.push_str("------< Interfaces >------\n");
    for link in agent.links() {
        line(&mut text, " Name", &link.name);
        line(&mut text, "   index", link.index);
        for address in &link.addresses {
            let family = if address.address.is_ipv4() { "IPv4" } else { "IPv6" };
            line(&mut text, &format!("   {family} address"), address.address);
        }
        line(&mut text, "   State", if link.up { "UP, RUNNING" } else { "DOWN" });
    }
    text
}

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "{name} = {value}");
}

fn yes(on: bool) -> &'static str {
    if on { "true" } else { "false" }
}

fn instance(text: &mut String, agent: &Agent, router: &Router) {
    let core = &router.config.core;
    line(text, " VRRP Instance", &core.name);
    line(text, "   VRRP Version", core.version.number());
    if let Some(group) =
        agent.config().groups.iter().find(|group| group.members.iter().any(|member| **member == *core.name))
    {
        line(text, "   Sync group", &group.name);
    }
    line(text, "   State", state(router).word());
    if core.unicast_peers.is_empty() {
        text.push_str("   Flags: none\n");
    } else {
        text.push_str("   Flags:\n     Using unicast\n");
    }
    line(text, "   Wantstate", wanted(router).word());
    line(text, "   Number of interface and track script faults", router.core.tracking().faults);
    let at = wall_clock(agent.now().saturating_sub(router.core.last_transition()));
    line(text, "   Last transition", format!("{}.{:06}", at.as_secs(), at.subsec_micros()));
    line(text, "   Master down timer", format!("{} usecs", router.core.master_down_interval().as_micros()));
    line(text, "   Interface", &router.config.interface);
    if let Some(vmac) = &router.config.vmac {
        line(text, "   VMAC Interface", vmac);
    }
    let from = if router.config.source.is_some() { " (from configuration)" } else { "" };
    line(text, "   Using src_ip", format!("{}{from}", router.core.local()));
    if core.unicast_peers.is_empty() {
        let group = if router.config.is_ipv6() { "ff02::12" } else { "224.0.0.18" };
        let _ = writeln!(text, "   Multicast address {group}");
    }
    details(text, router);
    what_moves(text, agent, router);
}

fn details(text: &mut String, router: &Router) {
    let core = &router.config.core;
    let garp = &core.announce;
    line(text, "   Gratuitous ARP delay", garp.delay.as_secs());
    line(text, "   Gratuitous ARP repeat", garp.repeat);
    line(text, "   Gratuitous ARP refresh", garp.refresh.as_secs());
    line(text, "   Gratuitous ARP refresh repeat", garp.refresh_repeat);
    line(text, "   Gratuitous ARP lower priority delay", garp.lower_priority_delay.as_secs());
    line(text, "   Gratuitous ARP lower priority repeat", garp.lower_priority_repeat);
    line(text, "   Down timer adverts", core.down_timer_adverts);
    line(text, "   Send advert after receive lower priority advert", yes(core.answer_lower_priority));
    line(text, "   Send advert after receive higher priority advert", yes(core.advert_before_yielding));
    line(text, "   Virtual Router ID", core.virtual_router_id);
    line(text, "   Priority", core.priority);
    line(text, "   Effective priority", router.core.effective_priority());
    line(text, "   Total priority", router.core.effective_priority());
    line(text, "   Advert interval", interval(core.version, core.advert_interval));
    text.push_str("   Accept = enabled\n");
    line(text, "   Preempt", if core.preempt { "enabled" } else { "disabled" });
    if !core.preempt_delay.is_zero() {
        line(text, "   Preempt delay", format!("{} secs", core.preempt_delay.as_secs_f64()));
    }
    if core.version == Version::V2 {
        // keepalived writes the password here; a file in /tmp is no place for it.
        line(
            text,
            "   Authentication type",
            if core.auth == Auth::None { "none" } else { "SIMPLE_PASSWORD" },
        );
    }
}

fn interval(version: Version, interval: Duration) -> String {
    if version == Version::V2 || interval.subsec_nanos() == 0 {
        format!("{} sec", interval.as_secs())
    } else {
        format!("{} milli-sec", interval.as_millis())
    }
}

fn what_moves(text: &mut String, agent: &Agent, router: &Router) {
    let (vips, excluded) = addresses(router);
    let _ = writeln!(text, "   Virtual IP ({}):", vips.len());
    for vip in vips {
        let _ = writeln!(text, "     {}", address(router, vip));
    }
    if !excluded.is_empty() {
        text.push_str("   Virtual IP Excluded :\n");
        for vip in excluded {
            let _ = writeln!(text, "     {}", address(router, vip));
        }
    }
    if !router.config.core.unicast_peers.is_empty() {
        text.push_str("   Unicast Peer :\n");
        for peer in &router.config.core.unicast_peers {
            let _ = writeln!(text, "     {peer}");
        }
    }
    if !router.config.track_interfaces.is_empty() {
        text.push_str("   Tracked interfaces :\n");
        for track in &router.config.track_interfaces {
            let _ = writeln!(text, "     {} weight {}", track.name, track.weight);
        }
    }
    if !router.config.track_scripts.is_empty() {
        text.push_str("   Tracked scripts :\n");
        for track in &router.config.track_scripts {
            let own = agent.scripts().view(&track.name).map_or(0, |view| view.config.weight);
            let _ = writeln!(text, "     {} weight {}", track.name, track.weight.unwrap_or(own));
        }
    }
    let notify = &router.config.notify;
    for (name, script) in [
        ("Backup state transition script", &notify.backup),
        ("Fault state transition script", &notify.fault),
        ("Master state transition script", &notify.master),
        ("Stop state transition script", &notify.stop),
        ("Generic state transition script", &notify.any),
    ] {
        if let Some(script) = script {
            let _ = writeln!(text, "   {name} = {}", program(script, agent.config().global.script_user));
        }
    }
}

fn program(command: &Command, default: Option<ScriptUser>) -> String {
    let words: Vec<String> = command.argv.iter().map(|word| format!("'{word}'")).collect();
    let user = command.user.or(default).map_or_else(
        || format!("{}:{}", nix::unistd::geteuid(), nix::unistd::getegid()),
        |user| format!("{}:{}", user.uid, user.gid),
    );
    format!("{}, uid:gid {user}", words.join(" "))
}

fn groups(text: &mut String, agent: &Agent) {
    if agent.config().groups.is_empty() {
        return;
    }
    text.push_str("------< VRRP Sync groups >------\n");
    for group in &agent.config().groups {
        let members =
            agent.routers().iter().filter(|router| group.members.iter().any(|name| name == router.name()));
        let states: Vec<_> = members.map(state).collect();
        let word = group_state(&states).map_or("INIT", vrrp::State::word);
        let _ = writeln!(text, " VRRP Sync Group = {}, {word}\n   VRRP member instances :", group.name);
        for member in &group.members {
            let _ = writeln!(text, "     {member}");
        }
    }
}

fn scripts(text: &mut String, agent: &Agent) {
    text.push_str("------< VRRP Scripts >------\n");
    for script in &agent.config().scripts {
        let Some(view) = agent.scripts().view(&script.name) else { continue };
        let status = match view.status {
            TrackStatus::Good => "GOOD",
            TrackStatus::Failed => "BAD",
            TrackStatus::Unknown => "INIT",
        };
        let command = match &script.probe {
            Some(probe) => probe.to_string(),
            None => script.command.argv.join(" "),
        };
        line(text, " VRRP Script", &script.name);
        let _ = writeln!(text, "   Command = '{command}'");
        line(text, "   Interval", format!("{} sec", script.interval.as_secs_f64()));
        line(text, "   Timeout", format!("{} sec", script.timeout.as_secs_f64()));
        line(text, "   Weight", script.weight);
        line(text, "   Rise", script.rise);
        line(text, "   Fall", script.fall);
        line(text, "   Status", status);
        text.push_str("   State = idle\n");
    }
}
