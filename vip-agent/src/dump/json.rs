//! `keepalived.json`.

use serde_json::{Value, json};
use vrrp::Auth;

use super::{address, addresses, state, state_number, wall_clock, wanted};
use crate::agent::Agent;
use crate::instance::Router;

pub(super) fn text(agent: &Agent) -> String {
    let status = crate::status::of(agent);
    let instances = agent.routers().iter().zip(&status.instances);
    let all: Vec<Value> = instances
        .map(|(router, shown)| {
            let c = &shown.counters;
            json!({
                "data": data(agent, router),
                "stats": {
                    "advert_rcvd": c.adverts_received,
                    "advert_sent": c.adverts_sent,
                    "become_master": c.become_master,
                    "release_master": c.release_master,
                    "packet_len_err": c.packet_length_errors,
                    "advert_interval_err": c.interval_errors,
                    "ip_ttl_err": c.hop_limit_errors,
                    "invalid_type_rcvd": c.unknown_packets + c.version_errors,
                    "addr_list_err": c.address_mismatches,
                    "invalid_authtype": 0,
                    "authtype_mismatch": c.auth_type_errors,
                    "auth_failure": c.auth_failures,
                    "pri_zero_rcvd": c.priority_zero_received,
                    "pri_zero_sent": c.priority_zero_sent,
                },
            })
        })
        .collect();
    Value::from(all).to_string()
}

/// keepalived writes whole seconds without a point.
fn number(seconds: f64) -> Value {
    if seconds.fract() == 0.0 { Value::from(seconds as u64) } else { Value::from(seconds) }
}

fn data(agent: &Agent, router: &Router) -> Value {
    let (config, core) = (&router.config, &router.config.core);
    let announce = &core.announce;
    let (vips, evips) = addresses(router);
    let shown = |vips: &[crate::config::VirtualAddress]| -> Vec<String> {
        vips.iter().map(|vip| address(router, vip)).collect()
    };
    let scripts: Vec<String> = config
        .track_scripts
        .iter()
        .filter_map(|track| agent.config().scripts.iter().find(|script| script.name == track.name))
        .map(|script| format!("'{}'", script.command.argv.join(" ")))
        .collect();
    let interfaces: Vec<&str> = config.track_interfaces.iter().map(|track| track.name.as_str()).collect();
    let ago = agent.now().saturating_sub(router.core.last_transition());
    let interval = number(core.advert_interval.as_secs_f64());
    let mut data = json!({
        "iname": &*core.name,
        "dont_track_primary": u8::from(config.ignore_link),
        "skip_check_adv_addr": 0,
        "strict_mode": 0,
        "vmac_ifname": config.vmac.as_deref().unwrap_or_default(),
        "ifp_ifname": config.interface,
        "master_priority": router.core.heard().map_or(0, |heard| heard.priority),
        "last_transition": wall_clock(ago).as_secs_f64(),
        "garp_delay": announce.delay.as_secs(),
        "garp_refresh": announce.refresh.as_secs(),
        "garp_rep": announce.repeat,
        "garp_refresh_rep": announce.refresh_repeat,
        "garp_lower_prio_delay": announce.lower_priority_delay.as_secs(),
        "garp_lower_prio_rep": announce.lower_priority_repeat,
        "lower_prio_no_advert": u8::from(!core.answer_lower_priority),
        "higher_prio_send_advert": u8::from(core.advert_before_yielding),
        "vrid": core.virtual_router_id,
        "base_priority": core.priority,
        "effective_priority": router.core.effective_priority(),
        "vipset": !router.held().is_empty(),
        "promote_secondaries": false,
        "adver_int": interval,
        "master_adver_int": interval,
        "accept": 1,
        "nopreempt": !core.preempt,
        "preempt_delay": core.preempt_delay.as_secs(),
        "state": state_number(state(router)),
        "wantstate": state_number(wanted(router)),
        "version": core.version.number(),
        "smtp_alert": false,
        "notify_deleted": false,
        "vips": shown(vips),
        "auth_type": u8::from(core.auth != Auth::None),
    });
    for (key, list) in [
        ("evips", Value::from(shown(evips))),
        ("track_ifp", Value::from(interfaces)),
        ("track_script", Value::from(scripts)),
    ] {
        if list.as_array().is_some_and(|list| !list.is_empty()) {
            data[key] = list;
        }
    }
    data
}
