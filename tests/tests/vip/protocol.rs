//! IPv6, virtual MAC addresses, and adverts that do not agree with the configuration; with our agent on both hosts and
//! with keepalived on one.

use crate::hosts::Hosts;
use xtask::stack::Maker;

const VIP: &str = "192.168.204.66";
const VIP6: &str = "fd00:204::66";
const LINK_LOCAL: &str = "fe80::66";

fn instance(priority: u8, version: u8, interval: &str, extra: &str, addresses: &[&str]) -> String {
    let addresses: String = addresses.iter().map(|address| format!("        {address}\n")).collect();
    format!(
        "global_defs {{\n    router_id R\n    vrrp_version {version}\n}}\nvrrp_instance VI_1 {{\n    state BACKUP\n    \
         interface eth0\n    virtual_router_id 66\n    priority {priority}\n    advert_int {interval}\n{extra}    \
         virtual_ipaddress {{\n{addresses}    }}\n}}\n"
    )
}

fn ipv6_hosts(name: &str) -> Option<Hosts> {
    let hosts = Hosts::new(name)?;
    for (host, address) in [("C", "fd00:204::143/64"), ("D", "fd00:204::144/64"), ("CL", "fd00:204::200/64")]
    {
        hosts.network.add_ipv6(host, address).unwrap();
    }
    Some(hosts)
}

/// The address moves over IPv6, and the client is told where to.
fn ipv6(name: &str, c: Maker, d: Maker, extra: &str, macs: [&str; 2]) {
    let Some(hosts) = ipv6_hosts(name) else { return };
    let addresses = [&format!("{LINK_LOCAL}/64")[..], &format!("{VIP6}/64")];
    hosts.start(c, "C", &instance(100, 3, "1", extra, &addresses));
    hosts.wait_holder("C", "D", VIP6);
    hosts.start(d, "D", &instance(90, 3, "1", extra, &addresses));
    hosts.wait("the client to know C", || hosts.mac_known_to_client(VIP6) == macs[0]);
    if d == Maker::Ours {
        hosts.wait("D to hear C", || hosts.status("D")["heard"]["priority"] == 100);
    }
    hosts.stop("C");
    hosts.wait_holder("D", "C", VIP6);
    // The client does not ask: it is told, by an unsolicited neighbour advertisement.
    hosts.wait("the client to know D", || hosts.neighbour(VIP6) == macs[1]);
    assert!(hosts.has("D", LINK_LOCAL) && !hosts.has("C", LINK_LOCAL));
    let flags = hosts.network.ip("D", "-6 -o addr show").unwrap();
    assert!(!flags.contains("tentative") && !flags.contains("dadfailed"), "usable at once: {flags}");
    hosts.passed();
}

const MACS: [&str; 2] = ["02:00:00:00:cc:8f", "02:00:00:00:cc:90"];
const VIRTUAL_MAC6: &str = "00:00:5e:00:02:42";
const VIRTUAL_MAC: &str = "00:00:5e:00:01:42";

#[test]
fn ipv6_between_our_agents() {
    ipv6("ipv6", Maker::Ours, Maker::Ours, "", MACS);
}

#[test]
fn ipv6_with_keepalived_as_master() {
    ipv6("ipv6-keepalived-c", Maker::Theirs, Maker::Ours, "", MACS);
}

#[test]
fn ipv6_with_keepalived_as_backup() {
    ipv6("ipv6-keepalived-d", Maker::Ours, Maker::Theirs, "", MACS);
}

#[test]
fn ipv6_with_a_virtual_mac() {
    ipv6("ipv6-vmac", Maker::Ours, Maker::Ours, "    use_vmac\n", [VIRTUAL_MAC6; 2]);
}

/// Adverts go to another group than the standard's, and whoever is not in it hears nothing of them.
fn own_group(name: &str, c: Maker, d: Maker, own: &str, version: u8, addresses: &[&str]) {
    let Some(hosts) = ipv6_hosts(name) else { return };
    let text = |priority| {
        let text = instance(priority, version, "1", "", addresses);
        text.replacen("router_id R\n", &format!("router_id R\n    {own}\n"), 1)
    };
    let address = addresses.last().unwrap().split('/').next().unwrap();
    hosts.start(c, "C", &text(100));
    hosts.wait_holder("C", "D", address);
    hosts.start(d, "D", &text(90));
    let ours = if d == Maker::Ours { "D" } else { "C" };
    if d == Maker::Ours {
        hosts.wait("D to hear C", || hosts.status("D")["heard"]["priority"] == 100);
    }
    hosts.stop("C");
    hosts.wait_holder("D", "C", address);
    // A host with the standard group hears nothing and becomes master beside the other one.
    if ours == "D" {
        hosts.ours("C", "other.conf", &instance(80, version, "1", "", addresses));
        hosts.wait("two masters that do not hear each other", || {
            hosts.has("C", address) && hosts.has("D", address)
        });
        // A reload puts it into the group.
        let path = hosts.write("C", "other.conf", &text(80));
        assert!(path.exists());
        xtask::lab::process::signal(hosts.pid("C"), nix::sys::signal::Signal::SIGHUP);
        hosts.wait_holder("D", "C", address);
    }
    hosts.passed();
}

const OWN_GROUP: &str = "vrrp_mcast_group4 224.0.0.99";
const OWN_GROUP6: &str = "vrrp_mcast_group6 ff02::99";

#[test]
fn adverts_go_to_a_group_of_ones_own() {
    own_group("own-group", Maker::Ours, Maker::Ours, OWN_GROUP, 2, &["192.168.204.66/24"]);
}

#[test]
fn adverts_go_to_keepaliveds_group() {
    own_group("own-group-keepalived", Maker::Theirs, Maker::Ours, OWN_GROUP, 2, &["192.168.204.66/24"]);
}

#[test]
fn keepalived_hears_adverts_of_a_group_of_ones_own() {
    own_group("own-group-to-keepalived", Maker::Ours, Maker::Theirs, OWN_GROUP, 2, &["192.168.204.66/24"]);
}

#[test]
fn adverts_over_ipv6_go_to_a_group_of_ones_own() {
    let addresses = [&format!("{LINK_LOCAL}/64")[..], &format!("{VIP6}/64")];
    own_group("own-group-ipv6", Maker::Theirs, Maker::Ours, OWN_GROUP6, 3, &addresses);
}

/// With `use_vmac` the neighbours know one MAC, whoever holds the address.
fn virtual_mac(name: &str, c: Maker, d: Maker) {
    let Some(hosts) = Hosts::new(name) else { return };
    let text = |priority| instance(priority, 2, "1", "    use_vmac\n", &["192.168.204.66/24"]);
    hosts.start(c, "C", &text(100));
    hosts.wait_holder("C", "D", VIP);
    hosts.start(d, "D", &text(90));
    hosts.wait("the client to know the virtual MAC", || hosts.mac_known_to_client(VIP) == VIRTUAL_MAC);
    if d == Maker::Ours {
        hosts.wait("D to hear C", || hosts.status("D")["heard"]["priority"] == 100);
    }
    hosts.stop("C");
    hosts.wait_holder("D", "C", VIP);
    let _ = hosts.network.ip("CL", "neigh flush dev eth0");
    hosts.wait("the client to find the virtual MAC at D", || hosts.mac_known_to_client(VIP) == VIRTUAL_MAC);
    if c == Maker::Ours {
        let links = hosts.network.ip("C", "link show").unwrap();
        assert!(!links.contains("vrrp.66"), "a stopped agent takes its interface along: {links}");
    }
    hosts.passed();
}

#[test]
fn virtual_mac_between_our_agents() {
    virtual_mac("vmac", Maker::Ours, Maker::Ours);
}

#[test]
fn virtual_mac_with_keepalived_as_master() {
    virtual_mac("vmac-keepalived", Maker::Theirs, Maker::Ours);
}

/// Version 3: the master's interval counts, also keepalived's.
#[test]
fn the_interval_of_the_master_is_learned() {
    let Some(hosts) = Hosts::new("learned") else { return };
    hosts.keepalived("C", &instance(100, 3, "2", "", &["192.168.204.66/24"]));
    hosts.wait_holder("C", "D", VIP);
    hosts.ours("D", "keepalived.conf", &instance(90, 3, "0.5", "", &["192.168.204.66/24"]));
    // 3 x 2 s and the skew time; with its own interval it would be 1.8 s.
    hosts.wait("D to learn", || hosts.status("D")["master_down_seconds"].as_f64().is_some_and(|it| it > 6.0));
    assert_eq!(hosts.status("D")["state"], "BACKUP");
    assert!(hosts.log("D").contains("the master's advert interval is used"), "{}", hosts.log("D"));
    hosts.passed();
}

/// Two hosts of the same priority, both master after a split: the higher address wins, whoever made the program.
fn tie(name: &str, c: Maker, d: Maker) {
    let Some(hosts) = Hosts::new(name) else { return };
    let text = instance(100, 2, "1", "", &["192.168.204.66/24"]);
    hosts.network.isolate(&["C", "D"], true).unwrap();
    hosts.start(c, "C", &text);
    hosts.start(d, "D", &text);
    hosts.wait("both to be master", || hosts.has("C", VIP) && hosts.has("D", VIP));
    hosts.network.isolate(&["C", "D"], false).unwrap();
    hosts.wait_holder("D", "C", VIP);
    hosts.passed();
}

#[test]
fn the_higher_address_wins_a_tie() {
    tie("tie", Maker::Ours, Maker::Ours);
}

#[test]
fn the_higher_address_wins_a_tie_against_keepalived() {
    tie("tie-keepalived-c", Maker::Theirs, Maker::Ours);
}

#[test]
fn the_lower_address_loses_a_tie_against_keepalived() {
    tie("tie-keepalived-d", Maker::Ours, Maker::Theirs);
}

/// `-V` leaves the addresses at the end, for good; `-D` logs more.
#[test]
fn switches_of_the_line_are_obeyed() {
    let Some(hosts) = Hosts::new("switches") else { return };
    let text = instance(100, 2, "1", "", &["192.168.204.66/24"]);
    for switches in [&[][..], &["-V", "-D"]] {
        hosts.ours_with("C", "keepalived.conf", &text, switches);
        hosts.wait("a master", || hosts.status("C")["state"] == "MASTER");
        let detailed = hosts.log("C").contains(" debug ");
        hosts.stop("C");
        let wanted = !switches.is_empty();
        assert_eq!((detailed, hosts.has("C", "192.168.204.66")), (wanted, wanted), "{switches:?}");
    }
    let shown = hosts.network.ip("C", "addr show eth0").unwrap();
    let (_, own) = shown.split_once(" 192.168.204.66/").unwrap();
    assert!(own.lines().nth(1).is_some_and(|line| line.contains("valid_lft forever")), "{shown}");
    hosts.passed();
}

/// Real-time scheduling and locked memory, where this machine allows them.
#[test]
fn the_agent_is_scheduled_before_everybody_else() {
    use xtask::lab::process::{read_lossy, run};
    let Some(hosts) = Hosts::new("realtime") else { return };
    let instance = instance(100, 2, "1", "", &["192.168.204.66/24"]);
    hosts.ours("C", "keepalived.conf", &format!("global_defs {{\n    vrrp_rt_priority 7\n}}\n{instance}"));
    hosts.wait("the status", || hosts.status("C")["state"] == "BACKUP");
    if run(std::process::Command::new("chrt").args(["-r", "1", "true"])).is_err() {
        assert!(hosts.log("C").contains("no real-time scheduling"), "{}", hosts.log("C"));
        return hosts.passed();
    }
    let pid = hosts.pid("C");
    let policy =
        || run(std::process::Command::new("chrt").args(["-p", &pid.to_string()])).unwrap_or_default();
    hosts.wait("SCHED_RR", || policy().contains("SCHED_RR"));
    assert!(policy().contains("priority: 7"), "{}", policy());
    let status = read_lossy(format!("/proc/{pid}/status").as_ref());
    let locked =
        status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap_or_default().trim().to_owned();
    assert!(!locked.starts_with('0'), "memory is locked: {locked}");
    hosts.passed();
}
