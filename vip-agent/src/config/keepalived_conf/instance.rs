//! `vrrp_instance` and `vrrp_sync_group`.

use std::net::IpAddr;
use std::time::Duration;

use daemon::diagnostic::suggest;
use vrrp::hmac::{Key, SHORTEST_KEY};
use vrrp::{Auth, ChecksumMode, InitialState, InstanceConfig, Password, Version};

use super::globals::garp;
use super::lexer::{Place, Word};
use super::tree::Statement;
use super::{Reader, routes, rules, values};
use crate::config::{GroupConfig, GroupTracks, NotifyConfig, RouterConfig, TrackInterface, TrackScript};
use crate::net::vmac;

const KNOWN: &[&str] = &[
    "state",
    "interface",
    "use_vmac",
    "virtual_router_id",
    "priority",
    "advert_int",
    "authentication",
    "virtual_ipaddress",
    "virtual_ipaddress_excluded",
    "virtual_routes",
    "virtual_rules",
    "nopreempt",
    "preempt",
    "preempt_delay",
    "unicast_src_ip",
    "mcast_src_ip",
    "unicast_peer",
    "track_script",
    "track_process",
    "track_file",
    "track_interface",
    "dont_track_primary",
    "notify",
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "garp_master_delay",
    "garp_master_repeat",
    "garp_master_refresh",
    "garp_master_refresh_repeat",
    "garp_lower_prio_delay",
    "garp_lower_prio_repeat",
    "lower_prio_no_advert",
    "higher_prio_send_advert",
    "down_timer_adverts",
    "version",
    "v3_checksum_as_v2",
    "fast_handover",
    "graceful_release",
    "hmac_key",
];

const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("vmac_xmit_base", ""),
    ("use_vmac_addr", ""),
    ("use_ipvlan", ""),
    ("native_ipv6", ""),
    ("smtp_alert", "mail is not sent; use notify scripts"),
    ("track_bfd", "BFD is not supported"),
    ("track_src_ip", ""),
    ("garp_extra_if", ""),
    ("strict_mode", ""),
    ("accept", ""),
    ("no_accept", "traffic to the virtual address is always accepted"),
    ("promote_secondaries", ""),
    ("lvs_sync_daemon_interface", ""),
    ("linkbeat_use_polling", ""),
    ("skip_check_adv_addr", ""),
    ("check_unicast_src", "adverts of unknown peers are always rejected"),
    ("unicast_ttl", ""),
    ("unicast_fault_no_peer", ""),
    ("kernel_rx_buf_size", ""),
    ("debug", ""),
    ("notify_priority_changes", ""),
    ("notify_master_rx_lower_pri", ""),
    ("notify_deleted", ""),
    ("old_unicast_checksum", ""),
    ("vrrp", ""),
    ("vrf", ""),
    ("mcast_dst_ip", "the standard group is used"),
];

/// What one `vrrp_instance` block said.
struct Draft {
    config: RouterConfig,
    version: Option<Version>,
    auth_type: Option<Word>,
    auth_pass: Option<Word>,
    router_id: Option<Place>,
    advert_int: Option<Place>,
    nopreempt: Option<Place>,
    excluded: Vec<crate::config::VirtualAddress>,
}

pub(super) fn read(reader: &mut Reader, statement: &Statement) {
    let Some(name) = reader.value(statement) else { return };
    if reader.config.instances.iter().any(|other| *other.core.name == *name.text) {
        reader.error(
            name.place,
            "duplicate",
            format!("there are two instances `{}`", name.text),
            "rename one",
        );
        return;
    }
    let mut core = InstanceConfig::new(&name.text, 0, Vec::new());
    core.announce = reader.defaults.announce;
    core.answer_lower_priority = reader.defaults.answer_lower_priority;
    core.advert_before_yielding = reader.defaults.advert_before_yielding;
    core.down_timer_adverts = reader.defaults.down_timer_adverts;
    let config = RouterConfig {
        core,
        vmac: None,
        hmac_key: None,
        interface: reader.defaults.default_interface.clone().unwrap_or_default(),
        addresses: Vec::new(),
        routes: Vec::new(),
        rules: Vec::new(),
        source: None,
        ignore_link: false,
        track_scripts: Vec::new(),
        track_interfaces: Vec::new(),
        notify: NotifyConfig::default(),
    };
    let mut draft = Draft {
        config,
        version: None,
        auth_type: None,
        auth_pass: None,
        router_id: None,
        advert_int: None,
        nopreempt: None,
        excluded: Vec::new(),
    };
    for line in statement.children() {
        if !timing(reader, line, &mut draft)
            && !addressing(reader, line, &mut draft)
            && !tracking(reader, line, &mut draft)
        {
            reader.no_effect_or_unknown(&line.keyword, "in vrrp_instance", KNOWN, WITHOUT_EFFECT);
        }
    }
    finish(reader, name, draft);
}

/// State, priority, intervals, preemption.
fn timing(reader: &mut Reader, line: &Statement, draft: &mut Draft) -> bool {
    let core = &mut draft.config.core;
    match line.keyword.text.as_str() {
        "state" => {
            if let Some(word) = reader.value(line) {
                match word.text.as_str() {
                    "MASTER" => core.initial_state = InitialState::Master,
                    "BACKUP" => core.initial_state = InitialState::Backup,
                    _ => reader.error(word.place, "wrong-value", "`state` is MASTER or BACKUP", "neither"),
                }
            }
        }
        "virtual_router_id" => {
            if let Some(number) = reader.number(line, 1..=255) {
                core.virtual_router_id = number as u8;
            }
            draft.router_id = Some(line.keyword.place);
        }
        "priority" => {
            if let Some(number) = reader.number(line, 1..=255) {
                core.priority = number as u8;
            }
        }
        "advert_int" => {
            if let Some(interval) = reader.seconds(line, 0.01..=255.0) {
                core.advert_interval = interval;
            }
            draft.advert_int = line.words.first().map(|word| word.place);
        }
        "nopreempt" => {
            core.preempt = false;
            draft.nopreempt = Some(line.keyword.place);
        }
        "preempt" => core.preempt = true,
        "preempt_delay" => {
            if let Some(delay) = reader.seconds(line, 0.0..=1000.0) {
                core.preempt_delay = delay;
            }
        }
        "lower_prio_no_advert" => core.answer_lower_priority = !reader.switch(line),
        "higher_prio_send_advert" => core.advert_before_yielding = reader.switch(line),
        "fast_handover" => core.fast_handover = reader.switch(line),
        "graceful_release" => core.graceful_release = reader.switch(line),
        "down_timer_adverts" => {
            if let Some(number) = reader.number(line, 1..=100) {
                core.down_timer_adverts = number as u32;
            }
        }
        "version" => {
            if let Some(number) = reader.number(line, 2..=3) {
                draft.version = Some(if number == 3 { Version::V3 } else { Version::V2 });
            }
        }
        "v3_checksum_as_v2" => {
            if reader.switch(line) {
                core.checksum = ChecksumMode::PacketOnly;
            }
        }
        word => return garp(reader, line, word, &mut core.announce),
    }
    true
}

/// Interface, addresses, peers, password.
fn addressing(reader: &mut Reader, line: &Statement, draft: &mut Draft) -> bool {
    match line.keyword.text.as_str() {
        "interface" => {
            if let Some(word) = reader.value(line) {
                draft.config.interface = word.text.clone();
            }
        }
        "hmac_key" => {
            if let Some(word) = reader.value(line) {
                let key =
                    Key::new(&word.text).ok_or_else(|| format!("is shorter than {SHORTEST_KEY} characters"));
                // The message must not show the key.
                let hidden = Word { text: "…".to_owned(), place: word.place };
                draft.config.hmac_key = reader.taken(&hidden, "hmac_key", key);
            }
        }
        "use_vmac" => {
            // The name may be left out; an empty one is filled in when the number is known.
            draft.config.vmac = Some(line.words.first().map_or_else(String::new, |word| word.text.clone()));
        }
        "unicast_src_ip" | "mcast_src_ip" => {
            if let Some(word) = reader.value(line) {
                let address = values::address(word);
                draft.config.source = reader.taken(word, &line.keyword.text, address);
            }
        }
        "unicast_peer" => {
            for peer in line.children() {
                let address = values::address(&peer.keyword);
                if let Some(address) = reader.taken(&peer.keyword, "unicast_peer", address) {
                    draft.config.core.unicast_peers.push(address);
                }
            }
        }
        "virtual_ipaddress" | "virtual_ipaddress_excluded" => {
            for vip in line.children() {
                let words: Vec<&Word> = std::iter::once(&vip.keyword).chain(&vip.words).collect();
                match values::virtual_address(&words) {
                    Ok(address) if line.keyword.text == "virtual_ipaddress" => {
                        draft.config.core.addresses.push(address.address);
                        draft.config.addresses.push(address);
                    }
                    Ok(address) => draft.excluded.push(address),
                    Err((at, reason)) => {
                        let word = words.get(at).copied().unwrap_or(&vip.keyword);
                        let message = format!("`{}`: `{}` {reason}", line.keyword.text, word.text);
                        reader.error(word.place, "wrong-value", message, reason);
                    }
                }
            }
        }
        "virtual_routes" => {
            let routes = routes::read(reader, line);
            draft.config.routes.extend(routes);
        }
        "virtual_rules" => {
            let rules = rules::read(reader, line);
            draft.config.rules.extend(rules);
        }
        "authentication" => {
            for part in line.children() {
                match part.keyword.text.as_str() {
                    "auth_type" => draft.auth_type = reader.value(part).cloned(),
                    "auth_pass" => draft.auth_pass = reader.value(part).cloned(),
                    _ => reader.unknown(&part.keyword, "in authentication", &["auth_type", "auth_pass"], &[]),
                }
            }
        }
        _ => return false,
    }
    true
}

/// What is tracked and who is told.
fn tracking(reader: &mut Reader, line: &Statement, draft: &mut Draft) -> bool {
    let config = &mut draft.config;
    match line.keyword.text.as_str() {
        "dont_track_primary" => config.ignore_link = true,
        _ if tracks(reader, line, &mut config.track_scripts, &mut config.track_interfaces) => {}
        _ => return notify(reader, line, &mut config.notify),
    }
    true
}

/// The `track_*` blocks of an instance or a sync group; false when the line is none of them.
fn tracks(
    reader: &mut Reader,
    line: &Statement,
    scripts: &mut Vec<TrackScript>,
    interfaces: &mut Vec<TrackInterface>,
) -> bool {
    match line.keyword.text.as_str() {
        "track_script" | "track_process" | "track_file" => {
            for part in line.children() {
                scripts.extend(track_script(reader, part));
            }
        }
        "track_interface" => {
            for part in line.children() {
                let weight = part.words.iter().position(|word| word.text == "weight");
                let weight = match weight.and_then(|at| part.words.get(at + 1)) {
                    Some(word) => {
                        let number = values::number(word, -253..=253);
                        reader.taken(word, "weight", number).unwrap_or(0) as i16
                    }
                    None => 0,
                };
                interfaces.push(TrackInterface { name: part.keyword.text.clone(), weight });
            }
        }
        _ => return false,
    }
    true
}

fn track_script(reader: &mut Reader, part: &Statement) -> Option<TrackScript> {
    let name = &part.keyword;
    let names: Vec<String> = reader.config.scripts.iter().map(|script| script.name.clone()).collect();
    if !names.contains(&name.text) {
        let label = match suggest(&name.text, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "add a vrrp_script block of this name".to_owned(),
        };
        reader.error(name.place, "unknown-script", format!("there is no vrrp_script `{}`", name.text), label);
        return None;
    }
    let mut track = TrackScript { name: name.text.clone(), weight: None, reverse: None };
    let mut words = part.words.iter();
    while let Some(word) = words.next() {
        match (word.text.as_str(), words.as_slice().first()) {
            ("weight", Some(value)) => {
                let number = values::number(value, -253..=253);
                track.weight = reader.taken(value, "weight", number).map(|number| number as i16);
                words.next();
            }
            ("reverse", _) => track.reverse = Some(true),
            ("noreverse", _) => track.reverse = Some(false),
            _ => reader.unknown(word, "in track_script", &["weight", "reverse", "noreverse"], &[]),
        }
    }
    Some(track)
}

fn notify(reader: &mut Reader, line: &Statement, notify: &mut NotifyConfig) -> bool {
    let slot = match line.keyword.text.as_str() {
        "notify" => &mut notify.any,
        "notify_master" => &mut notify.master,
        "notify_backup" => &mut notify.backup,
        "notify_fault" => &mut notify.fault,
        "notify_stop" => &mut notify.stop,
        _ => return false,
    };
    if reader.value_of_several(line) {
        *slot = reader.notify_command(line);
    }
    true
}

/// What no single line of the block can show.
fn finish(reader: &mut Reader, name: &Word, draft: Draft) {
    let Draft { mut config, version, auth_type, auth_pass, router_id, advert_int, nopreempt, excluded } =
        draft;
    let place = name.place;
    config.addresses.extend(excluded);
    if config.interface.is_empty() {
        reader.error(place, "missing-value", "this vrrp_instance has no `interface`", "add: interface eth0");
    }
    if router_id.is_none() {
        reader.error(
            place,
            "missing-value",
            "this vrrp_instance has no `virtual_router_id`",
            "add a number from 1 to 255",
        );
    }
    if config.core.addresses.is_empty() {
        reader.error(
            place,
            "missing-value",
            "this vrrp_instance has no `virtual_ipaddress`",
            "add the address that floats",
        );
    }
    let six = config.is_ipv6();
    if config.vmac.as_ref().is_some_and(String::is_empty) {
        config.vmac = Some(vmac::default_name(config.core.virtual_router_id, config.core.addresses.first()));
    }
    if config.core.addresses.iter().any(|address| address.is_ipv6() != six) {
        reader.error(
            place,
            "family",
            "`virtual_ipaddress` mixes IPv4 and IPv6",
            "put the other family into virtual_ipaddress_excluded or a second instance",
        );
    }
    config.core.version = match version {
        Some(version) => version,
        None if six => Version::V3,
        None => reader.defaults.version,
    };
    if six && config.core.version == Version::V2 {
        reader.error(place, "family", "IPv6 needs VRRP version 3", "write: version 3");
    }
    interval(reader, &config.core, advert_int.unwrap_or(place));
    authentication(reader, &mut config.core, auth_type.as_ref(), auth_pass.as_ref());
    if let (Some(place), InitialState::Master) = (nopreempt, config.core.initial_state) {
        let help = "write state BACKUP on both hosts";
        reader.warning(place, "nopreempt", "nopreempt does not work with state MASTER and is ignored", help);
        config.core.preempt = true;
    }
    let wrong = |address: &IpAddr| address.is_ipv6() != six;
    if config.core.unicast_peers.iter().any(wrong) || config.source.as_ref().is_some_and(wrong) {
        reader.error(place, "family", "peers and source must be of the family of the virtual address", "");
    }
    reader.config.instances.push(config);
}

fn interval(reader: &mut Reader, core: &InstanceConfig, place: Place) {
    let (interval, version) = (core.advert_interval, core.version);
    if version == Version::V2 && interval.subsec_nanos() != 0 {
        let label = "write whole seconds, or `version 3` on every host";
        reader.error(place, "wrong-value", "VRRP version 2 has whole seconds", label);
    }
    if version == Version::V3 && interval > Duration::from_millis(40_950) {
        reader.error(place, "wrong-value", "VRRP version 3 has at most 40.95 seconds", "too long");
    }
}

fn authentication(
    reader: &mut Reader,
    core: &mut InstanceConfig,
    auth_type: Option<&Word>,
    auth_pass: Option<&Word>,
) {
    let Some(kind) = auth_type else {
        if let Some(pass) = auth_pass {
            reader.error(
                pass.place,
                "missing-value",
                "`auth_pass` without `auth_type`",
                "add: auth_type PASS",
            );
        }
        return;
    };
    match (kind.text.as_str(), auth_pass) {
        ("PASS", Some(pass)) => {
            if pass.text.len() > 8 {
                let help = "write the same eight characters on every host";
                reader.warning(
                    pass.place,
                    "auth-pass",
                    "only the first 8 characters of auth_pass count",
                    help,
                );
            }
            core.auth = Auth::Simple(Password::new(&pass.text));
        }
        ("PASS", None) => {
            reader.error(
                kind.place,
                "missing-value",
                "`auth_type PASS` without `auth_pass`",
                "add: auth_pass SECRET",
            );
        }
        ("AH", _) => {
            let label = "use PASS, or no authentication and a closed network";
            reader.error(
                kind.place,
                "wrong-value",
                "auth_type AH is not supported (RFC 5798 took it out)",
                label,
            );
        }
        _ => reader.error(kind.place, "wrong-value", "`auth_type` is PASS", "not known"),
    }
    if core.version == Version::V3 {
        let help = "it is sent with version 2 only; VRRP version 3 has no authentication";
        reader.warning(kind.place, "auth", "authentication is ignored in version 3", help);
        core.auth = Auth::None;
    }
}

/// `vrrp_sync_group`.
pub(super) fn read_group(reader: &mut Reader, statement: &Statement) {
    let Some(name) = reader.value(statement) else { return };
    let mut group =
        GroupConfig { name: name.text.clone(), members: Vec::new(), notify: NotifyConfig::default() };
    let mut own = GroupTracks::default();
    const KNOWN: &[&str] = &[
        "group",
        "notify",
        "notify_master",
        "notify_backup",
        "notify_fault",
        "notify_stop",
        "track_interface",
        "track_script",
        "track_process",
        "track_file",
    ];
    const QUIET: &[(&str, &str)] = &[
        ("smtp_alert", "mail is not sent; use notify scripts"),
        ("global_tracking", ""),
        ("sync_group_tracking_weight", ""),
    ];
    for line in statement.children() {
        if line.keyword.text == "group" {
            for member in line.children() {
                group.members.push(member.keyword.text.clone());
                group.members.extend(member.texts());
            }
        } else if !notify(reader, line, &mut group.notify)
            && !tracks(reader, line, &mut own.scripts, &mut own.interfaces)
        {
            reader.no_effect_or_unknown(&line.keyword, "in vrrp_sync_group", KNOWN, QUIET);
        }
    }
    own.members.clone_from(&group.members);
    reader.tracks.push(own);
    reader.config.groups.push(group);
}
