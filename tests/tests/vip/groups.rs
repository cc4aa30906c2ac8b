//! Sync groups: instances that hold their addresses together or not at all.

use crate::hosts::Hosts;
use xtask::stack::Maker;

const FIRST: &str = "192.168.204.66";
const SECOND: &str = "192.168.204.67";

fn instance(name: &str, router: u8, priority: u8, address: &str, extra: &str) -> String {
    format!(
        "vrrp_instance {name} {{\n    state BACKUP\n    interface eth0\n    virtual_router_id {router}\n    \
         priority {priority}\n    advert_int 1\n{extra}    virtual_ipaddress {{\n        {address}/24\n    }}\n}}\n"
    )
}

/// Both addresses, the second one bound to an interface of its own as well.
fn group(priority: u8) -> String {
    let track = "    track_interface {\n        second0\n    }\n";
    format!(
        "global_defs {{\n    router_id R\n}}\nvrrp_sync_group G {{\n    group {{\n        VI_1\n        VI_2\n    }}\n}}\n{}{}",
        instance("VI_1", 66, priority, FIRST, ""),
        instance("VI_2", 67, priority, SECOND, track)
    )
}

/// The same, but it is the group that tracks the interface.
fn tracking_group(priority: u8) -> String {
    let track = "    track_interface {\n        second0\n    }\n";
    group(priority).replace(track, "").replacen("    group {", &format!("{track}    group {{"), 1)
}

/// Another interface of a host, which leads nowhere.
fn second_interface(hosts: &Hosts, host: &str) {
    for args in ["add second0 type veth peer name second1", "set second0 up", "set second1 up"] {
        hosts.network.ip(host, &format!("link {args}")).unwrap();
    }
}

fn both_on(hosts: &Hosts, host: &str, other: &str) {
    hosts.wait_holder(host, other, FIRST);
    hosts.wait_holder(host, other, SECOND);
}

/// The link of one member fails, and the whole group moves; when it is back, so does the group.
fn moves_together(name: &str, c: Maker, d: Maker) {
    moves_with(name, c, d, group);
}

fn moves_with(name: &str, c: Maker, d: Maker, group: fn(u8) -> String) {
    let Some(hosts) = Hosts::new(name) else { return };
    for host in ["C", "D"] {
        second_interface(&hosts, host);
    }
    hosts.start(c, "C", &group(100));
    both_on(&hosts, "C", "D");
    hosts.start(d, "D", &group(90));
    if d == Maker::Ours {
        let hears = |at: usize| hosts.agent_status("D")["instances"][at]["heard"]["priority"] == 100;
        hosts.wait("D to hear both", || hears(0) && hears(1));
    }
    hosts.network.ip("C", "link set second0 down").unwrap();
    both_on(&hosts, "D", "C");
    hosts.network.ip("C", "link set second0 up").unwrap();
    both_on(&hosts, "C", "D");
    hosts.passed();
}

#[test]
fn a_group_moves_together() {
    moves_together("group", Maker::Ours, Maker::Ours);
}

#[test]
fn a_group_moves_when_what_it_tracks_itself_fails() {
    assert!(tracking_group(1).contains("track_interface"));
    moves_with("group-tracks", Maker::Ours, Maker::Ours, tracking_group);
}

#[test]
fn keepalived_moves_a_group_that_tracks_as_well() {
    moves_with("group-tracks-keepalived", Maker::Theirs, Maker::Ours, tracking_group);
}

#[test]
fn a_group_moves_together_to_keepalived() {
    moves_together("group-keepalived-d", Maker::Ours, Maker::Theirs);
}

#[test]
fn a_group_moves_together_from_keepalived() {
    moves_together("group-keepalived-c", Maker::Theirs, Maker::Ours);
}

/// C runs the first virtual router only. D hears nobody of the second one, and must not take both because of that: it
/// would give them up at the next advert of the first, again and again.
#[test]
fn a_group_waits_until_all_its_members_can_be_master() {
    let Some(hosts) = Hosts::new("group-waits") else { return };
    hosts.ours("C", "keepalived.conf", &instance("VI_1", 66, 100, FIRST, ""));
    hosts.wait_holder("C", "D", FIRST);
    second_interface(&hosts, "D");
    hosts.ours("D", "keepalived.conf", &group(90));
    let heard = |count: u64| {
        let received = &hosts.agent_status("D")["instances"][0]["counters"]["adverts_received"];
        received.as_u64().is_some_and(|received| received >= count)
    };
    // Two master-down intervals of adverts.
    hosts.wait("eight adverts", || heard(8));
    let status = hosts.agent_status("D");
    let counted = |at: usize| status["instances"][at]["counters"]["become_master"].as_u64();
    assert_eq!((counted(0), counted(1)), (Some(0), Some(0)), "{}", hosts.log("D"));
    hosts.stop("C");
    both_on(&hosts, "D", "C");
    hosts.passed();
}
