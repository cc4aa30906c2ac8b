//! `global_defs`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use vrrp::{Announce, Version};

use super::Reader;
use super::tree::Statement;

/// What global_defs sets for every instance.
pub(super) struct Defaults {
    pub(super) version: Version,
    pub(super) announce: Announce,
    pub(super) default_interface: Option<String>,
    pub(super) answer_lower_priority: bool,
    pub(super) advert_before_yielding: bool,
    pub(super) down_timer_adverts: u32,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            version: Version::V2,
            announce: Announce::default(),
            default_interface: None,
            answer_lower_priority: true,
            advert_before_yielding: true,
            down_timer_adverts: 3,
        }
    }
}

const KNOWN: &[&str] = &[
    "router_id",
    "script_user",
    "enable_script_security",
    "vrrp_version",
    "vrrp_garp_master_delay",
    "vrrp_garp_master_repeat",
    "vrrp_garp_master_refresh",
    "vrrp_garp_master_refresh_repeat",
    "vrrp_garp_lower_prio_delay",
    "vrrp_garp_lower_prio_repeat",
    "vrrp_garp_interval",
    "vrrp_gna_interval",
    "vrrp_min_garp",
    "vrrp_lower_prio_no_advert",
    "vrrp_higher_prio_send_advert",
    "vrrp_down_timer_adverts",
    "default_interface",
    "notify_fifo",
    "vrrp_notify_fifo",
    "notify_fifo_script",
    "vrrp_notify_fifo_script",
    "address_lease",
    "guard",
    "http",
    "vrrp_rt_priority",
    "vrrp_mcast_group4",
    "vrrp_mcast_group6",
];

/// Words of keepalived's that need nothing done, or that this program does not do.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("notification_email", "mail is not sent; use notify scripts"),
    ("notification_email_from", "mail is not sent; use notify scripts"),
    ("smtp_server", "mail is not sent; use notify scripts"),
    ("smtp_connect_timeout", "mail is not sent; use notify scripts"),
    ("smtp_helo_name", "mail is not sent; use notify scripts"),
    ("smtp_alert", "mail is not sent; use notify scripts"),
    ("smtp_alert_vrrp", "mail is not sent; use notify scripts"),
    ("smtp_alert_checker", "mail is not sent; use notify scripts"),
    ("no_email_faults", "mail is not sent; use notify scripts"),
    ("vrrp_strict", "the rules it enforces are checked where they matter"),
    ("vrrp_skip_check_adv_addr", ""),
    ("vrrp_check_unicast_src", ""),
    ("vrrp_iptables", "no firewall rules are made"),
    ("vrrp_ipsets", "no firewall rules are made"),
    ("nftables", "no firewall rules are made"),
    ("dynamic_interfaces", "an unknown interface is an error at the start"),
    ("vrrp_priority", ""),
    ("vrrp_no_swap", ""),
    ("vrrp_rlimit_rttime", ""),
    ("vrrp_cpu_affinity", ""),
    ("max_auto_priority", ""),
    ("min_auto_priority_delay", ""),
    ("process_names", ""),
    ("use_pid_dir", "name the pid file with -p"),
    ("instance", ""),
    ("net_namespace", "start the agent in the namespace: ip netns exec NAME vip-agent …"),
    ("lvs_flush", ""),
    ("lvs_flush_on_stop", ""),
    ("lvs_sync_daemon", ""),
    ("lvs_timeouts", ""),
    ("enable_traps", "SNMP is not spoken"),
    ("enable_snmp_vrrp", "SNMP is not spoken"),
    ("enable_snmp_checker", "SNMP is not spoken"),
    ("snmp_socket", "SNMP is not spoken"),
    ("enable_dbus", "D-Bus is not spoken; see `vip-agent status --json`"),
    ("reload_check_config", "a wrong file is never loaded"),
    ("startup_script", "use the unit file's ExecStartPre"),
    ("shutdown_script", "use the unit file's ExecStopPost"),
    ("vrrp_startup_delay", ""),
    ("vrrp_notify_priority_changes", ""),
    ("script_security", "the word is enable_script_security"),
    ("checker_log_all_failures", ""),
    ("log_unknown_vrids", ""),
    ("umask", ""),
    ("random_seed", ""),
    ("lvs_notify_fifo", "real servers have notify_up and notify_down"),
    ("lvs_notify_fifo_script", "real servers have notify_up and notify_down"),
    ("reload_file", ""),
    ("reload_repeat", ""),
    ("reload_time_file", ""),
    ("config_save_dir", ""),
    ("include_check", ""),
    ("process_monitor_rcv_bufs", ""),
    ("process_monitor_rcv_bufs_force", ""),
    ("lvs_netlink_cmd_rcv_bufs", ""),
    ("lvs_netlink_cmd_rcv_bufs_force", ""),
    ("lvs_netlink_monitor_rcv_bufs", ""),
    ("lvs_netlink_monitor_rcv_bufs_force", ""),
    ("vrrp_netlink_cmd_rcv_bufs", ""),
    ("vrrp_netlink_cmd_rcv_bufs_force", ""),
    ("vrrp_netlink_monitor_rcv_bufs", ""),
    ("vrrp_netlink_monitor_rcv_bufs_force", ""),
    ("vrrp_rx_bufs_policy", ""),
    ("vrrp_rx_bufs_multiplier", ""),
    ("disable_local_igmp", ""),
    ("data_use_instance", ""),
    ("tmp_config_directory", ""),
    ("vmac_prefix", "name the interface in use_vmac"),
    ("vmac_addr_prefix", "name the interface in use_vmac"),
    ("nftables_counters", ""),
    ("nftables_ifindex", ""),
    ("nftables_priority", ""),
    ("nftables_ipvs", ""),
    ("nftables_ipvs_priority", ""),
    ("nftables_ipvs_start_fwmark", ""),
    ("checker_priority", ""),
    ("checker_no_swap", ""),
    ("checker_rt_priority", ""),
    ("checker_rlimit_rttime", ""),
    ("checker_cpu_affinity", ""),
    ("checker_process_name", ""),
    ("bfd_priority", "BFD is not supported"),
    ("bfd_no_swap", "BFD is not supported"),
    ("bfd_rt_priority", "BFD is not supported"),
    ("bfd_rlimit_rttime", "BFD is not supported"),
    ("bfd_cpu_affinity", "BFD is not supported"),
    ("bfd_process_name", "BFD is not supported"),
    ("vrrp_process_name", ""),
    ("lvs_process_name", ""),
    ("lvs_flush_onstop", ""),
    ("dbus_service_name", "D-Bus is not spoken; see `vip-agent status --json`"),
    ("enable_snmp_keepalived", "SNMP is not spoken"),
    ("enable_snmp_rfc", "SNMP is not spoken"),
    ("enable_snmp_rfcv2", "SNMP is not spoken"),
    ("enable_snmp_rfcv3", "SNMP is not spoken"),
    ("no_checker_emails", "mail is not sent; use notify scripts"),
    ("startup_script_timeout", ""),
    ("shutdown_script_timeout", ""),
    ("fifo_write_vrrp_states_on_reload", ""),
    ("vrrp_garp_extra_if", ""),
    ("nopreempt", "it belongs into vrrp_instance"),
];

pub(super) fn read(reader: &mut Reader, statement: &Statement) {
    for line in statement.children() {
        one(reader, line);
    }
}

/// The group that adverts go to.
fn multicast_group<T: std::str::FromStr>(
    reader: &mut Reader,
    line: &Statement,
    is_multicast: impl Fn(&T) -> bool,
    example: &str,
) -> Option<T> {
    let word = reader.value(line)?;
    let group = word.text.parse().ok().filter(is_multicast);
    let group = group.ok_or_else(|| format!("is no multicast address such as {example}"));
    reader.taken(word, &line.keyword.text, group)
}

#[expect(clippy::too_many_lines, reason = "one arm for each word")]
fn one(reader: &mut Reader, line: &Statement) {
    match line.keyword.text.as_str() {
        "router_id" => {
            if let Some(word) = reader.value(line) {
                reader.config.global.router_id = word.text.clone();
            }
        }
        "script_user" => {
            if reader.value_of_several(line) {
                reader.config.global.script_user = reader.user(&line.words);
            }
        }
        "enable_script_security" => reader.config.global.script_security = reader.switch(line),
        "vrrp_version" => {
            if let Some(number) = reader.number(line, 2..=3) {
                reader.defaults.version = if number == 3 { Version::V3 } else { Version::V2 };
            }
        }
        "vrrp_lower_prio_no_advert" => reader.defaults.answer_lower_priority = !reader.switch(line),
        "vrrp_higher_prio_send_advert" => reader.defaults.advert_before_yielding = reader.switch(line),
        "vrrp_down_timer_adverts" => {
            if let Some(number) = reader.number(line, 1..=100) {
                reader.defaults.down_timer_adverts = number as u32;
            }
        }
        "default_interface" => {
            reader.defaults.default_interface = reader.value(line).map(|word| word.text.clone());
        }
        "notify_fifo" | "vrrp_notify_fifo" => {
            if reader.value_of_several(line) {
                reader.config.global.notify_fifo = line.words.first().map(|word| PathBuf::from(&word.text));
            }
        }
        "notify_fifo_script" | "vrrp_notify_fifo_script" => {
            if reader.value_of_several(line) {
                reader.config.global.notify_fifo_script = reader.notify_command(line);
            }
        }
        "address_lease" => {
            if let Some(lease) = reader.seconds(line, 0.0..=86_400.0) {
                reader.config.global.address_lease = lease;
            }
        }
        "http" => {
            if let Some(word) = reader.value(line) {
                let address = word.text.parse().map_err(|_| "is not an address and a port".to_owned());
                reader.config.global.http = reader.taken(word, "http", address);
            }
        }
        "vrrp_mcast_group4" => {
            if let Some(group) = multicast_group(reader, line, Ipv4Addr::is_multicast, "224.0.0.18") {
                reader.config.global.multicast_v4 = group;
            }
        }
        "vrrp_mcast_group6" => {
            if let Some(group) = multicast_group(reader, line, Ipv6Addr::is_multicast, "ff02::12") {
                reader.config.global.multicast_v6 = group;
            }
        }
        "guard" => reader.config.global.guard = reader.switch(line),
        "vrrp_rt_priority" => {
            if let Some(number) = reader.number(line, 1..=99) {
                reader.config.global.realtime_priority = number as i32;
            }
        }
        "vrrp_min_garp" => {
            if reader.switch(line) {
                reader.defaults.announce.repeat = 1;
                reader.defaults.announce.delay = Duration::ZERO;
                reader.defaults.announce.lower_priority_repeat = 1;
                reader.defaults.announce.lower_priority_delay = Duration::ZERO;
            }
        }
        "vrrp_garp_interval" | "vrrp_gna_interval" => {
            if let Some(interval) = reader.seconds(line, 0.0..=10.0) {
                reader.config.global.garp_interval = interval;
            }
        }
        word if word.starts_with("vrrp_garp_") => {
            let mut announce = reader.defaults.announce;
            if garp(reader, line, &word["vrrp_".len()..], &mut announce) {
                reader.defaults.announce = announce;
            } else {
                reader.no_effect_or_unknown(&line.keyword, "in global_defs", KNOWN, WITHOUT_EFFECT);
            }
        }
        _ => reader.no_effect_or_unknown(&line.keyword, "in global_defs", KNOWN, WITHOUT_EFFECT),
    }
}

/// The `garp_*` words, shared with vrrp_instance; false when the word is none of them.
pub(super) fn garp(reader: &mut Reader, line: &Statement, word: &str, announce: &mut Announce) -> bool {
    let day = 0.0..=86_400.0;
    match word {
        "garp_master_delay" => {
            if let Some(delay) = reader.seconds(line, day) {
                announce.delay = delay;
            }
        }
        "garp_master_repeat" => {
            if let Some(number) = reader.number(line, 1..=100) {
                announce.repeat = number as u32;
            }
        }
        "garp_master_refresh" => {
            if let Some(refresh) = reader.seconds(line, day) {
                announce.refresh = refresh;
            }
        }
        "garp_master_refresh_repeat" => {
            if let Some(number) = reader.number(line, 1..=100) {
                announce.refresh_repeat = number as u32;
            }
        }
        "garp_lower_prio_delay" => {
            if let Some(delay) = reader.seconds(line, day) {
                announce.lower_priority_delay = delay;
            }
        }
        "garp_lower_prio_repeat" => {
            if let Some(number) = reader.number(line, 0..=100) {
                announce.lower_priority_repeat = number as u32;
            }
        }
        _ => return false,
    }
    true
}

impl Reader {
    /// Like `value`, for statements that take several words.
    pub(super) fn value_of_several(&mut self, line: &Statement) -> bool {
        if line.words.is_empty() {
            self.value(line);
        }
        !line.words.is_empty()
    }
}
