//! What an operator has to hear of: split brain, foreign masters, rejected adverts, conflicts, weights that do nothing;
//! and that a forger is not obeyed where a key is set.

use crate::hosts::Hosts;
use nix::sys::signal::Signal;
use xtask::lab::Process;
use xtask::lab::process::signal;

const VIP: &str = "192.168.204.66";

fn text(priority: u8, extra: &str, address: &str) -> String {
    format!(
        "global_defs {{\n    router_id R\n    script_user root\n}}\nvrrp_script tiny {{\n    script \"/bin/true\"\n    \
         interval 1\n    weight -5\n}}\nvrrp_instance VI_1 {{\n    state BACKUP\n    interface eth0\n    \
         virtual_router_id 66\n    priority {priority}\n    advert_int 1\n{extra}    track_script {{\n        tiny\n    }}\n    \
         virtual_ipaddress {{\n        {address}/24\n    }}\n}}\n"
    )
}

fn pass(password: &str) -> String {
    format!("    authentication {{\n        auth_type PASS\n        auth_pass {password}\n    }}\n")
}

fn counter(hosts: &Hosts, host: &str, name: &str) -> u64 {
    hosts.status(host)["counters"][name].as_u64().unwrap_or(0)
}

/// Two agents that refuse each other's adverts are both master. Each says why, that somebody else claims the virtual
/// router, and that another host answers for the address.
#[test]
fn a_split_brain_is_told_from_all_sides() {
    let Some(hosts) = Hosts::new("split") else { return };
    hosts.ours("C", "keepalived.conf", &text(100, &pass("1111"), VIP));
    hosts.ours("D", "keepalived.conf", &text(90, &pass("2222"), VIP));
    hosts.wait("both to be master", || hosts.has("C", VIP) && hosts.has("D", VIP));
    for host in ["C", "D"] {
        hosts.wait("the rejected adverts", || counter(&hosts, host, "auth_failures") > 0);
        hosts.wait("the address conflict", || counter(&hosts, host, "address_conflicts") > 0);
        hosts.wait("the log", || {
            let log = hosts.log(host);
            log.contains("wrong password") && log.contains("another host uses the virtual address too")
        });
    }
    hosts.passed();
}

/// Hosts that do not hear each other, and one that hears both.
#[test]
fn a_backup_that_hears_two_masters_says_so() {
    let Some(hosts) = Hosts::new("two-masters") else { return };
    hosts.network.isolate(&["C", "D"], true).unwrap();
    hosts.ours("C", "keepalived.conf", &text(100, "", VIP));
    hosts.ours("D", "keepalived.conf", &text(90, "", VIP));
    hosts.wait("both to be master", || hosts.has("C", VIP) && hosts.has("D", VIP));
    hosts.ours("CL", "keepalived.conf", &text(80, "", VIP));
    hosts.wait("the alarm", || hosts.log("CL").contains("two other hosts are both master"));
    hosts.passed();
}

/// 100 against 90 with a weight of 5: only the wire shows that this check never does anything. The other list of
/// addresses is told as well, and obeyed.
#[test]
fn a_weight_that_cannot_move_the_address_is_told() {
    let Some(hosts) = Hosts::new("weight") else { return };
    hosts.ours("C", "keepalived.conf", &text(100, "", VIP));
    hosts.wait_holder("C", "D", VIP);
    hosts.ours("D", "keepalived.conf", &text(90, "", "192.168.204.67"));
    hosts.wait("the warning", || hosts.log("D").contains("this weight cannot move the address"));
    hosts.wait("the mismatch", || counter(&hosts, "D", "address_mismatches") > 4);
    let status = hosts.status("D");
    assert_eq!((&status["state"], &status["counters"]["become_master"]), (&"BACKUP".into(), &0.into()));
    assert_eq!(
        hosts.log("D").matches("names other virtual addresses").count(),
        1,
        "once, not for every advert"
    );
    assert_eq!(hosts.log("D").matches("this weight cannot move").count(), 1, "once for each gap");
    hosts.passed();
}

const KEY: &str = "hmac_key = \"sixteen characters at least\"\n";

fn sealed(priority: u8, key: &str) -> String {
    format!(
        "[[instance]]\nname = \"VI_1\"\ninterface = \"eth0\"\nvirtual_router_id = 66\npriority = {priority}\n\
         addresses = [\"192.168.204.66/24\"]\n{key}"
    )
}

/// With a key, a host without it is not obeyed, whatever priority it claims, and old adverts do not keep a dead master
/// alive.
#[test]
fn neither_forged_nor_replayed_adverts_count() {
    let Some(hosts) = Hosts::new("hmac") else { return };
    hosts.ours("C", "vip.toml", &sealed(100, KEY));
    hosts.wait_holder("C", "D", VIP);
    let record = hosts.folder("CL").join("record");
    let mut command = hosts.network.command("CL", xtask::install::python().unwrap());
    command.arg("-B").arg(harness::clients::script("adverts")).arg("--out").arg(&record);
    command.args(["--replay", "192.168.204.143"]);
    let _adverts = Process::spawn("adverts", command, &hosts.folder("CL").join("adverts.log")).unwrap();
    hosts.ours("D", "vip.toml", &sealed(90, KEY));
    let replayed = || xtask::lab::process::read_lossy(&record).matches("replay ").count();
    hosts.wait("D to hear C", || hosts.status("D")["heard"]["priority"] == 100 && replayed() > 0);
    // Between two adverts of C the recorder sends the old ones again already.
    hosts.wait("replays to be seen through", || counter(&hosts, "D", "auth_failures") > 3);
    assert_eq!(hosts.status("D")["state"], "BACKUP");
    hosts.network.unplug("C").unwrap();
    hosts.wait("D to take over although C's adverts go on", || hosts.has("D", VIP));
    assert!(hosts.log("D").contains("an old advert was replayed"), "{}", hosts.log("D"));
    // Another source needs another socket; what the old one has heard stays old.
    hosts.network.ip("D", "addr add 192.168.204.145/24 dev eth0").unwrap();
    hosts.write("D", "vip.toml", &sealed(90, &format!("{KEY}source = \"192.168.204.145\"\n")));
    signal(hosts.pid("D"), Signal::SIGHUP);
    hosts.wait("the reload", || hosts.log("D").contains("reloaded"));
    let before = counter(&hosts, "D", "auth_failures");
    hosts.wait("more replays", || counter(&hosts, "D", "auth_failures") > before + 3);
    assert_eq!(hosts.status("D")["state"], "MASTER", "{}", hosts.log("D"));
    hosts.passed();
}

/// Adverts with one list and with another in turns.
const TWO_LISTS: &str = r#"
import socket, struct
def checksum(data):
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    total = (total & 0xffff) + (total >> 16)
    return ~((total & 0xffff) + (total >> 16)) & 0xffff
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("192.168.204.200"))
for turn in range(200):
    address = socket.inet_aton("192.168.204.%d" % (66 + turn % 2))
    packet = struct.pack(">BBBBBBH", 0x21, 66, 50, 1, 0, 1, 0) + address + bytes(8)
    raw.sendto(packet[:6] + struct.pack(">H", checksum(packet)) + packet[8:], ("224.0.0.18", 0))
"#;

#[test]
fn a_flood_of_odd_adverts_does_not_fill_the_log() {
    let Some(hosts) = Hosts::new("odd-flood") else { return };
    hosts.ours("C", "keepalived.conf", &text(100, "", VIP));
    hosts.wait_holder("C", "D", VIP);
    let sent = hosts.network.command("CL", "python3").args(["-c", TWO_LISTS]).status().unwrap();
    assert!(sent.success());
    hosts.wait("all of them", || counter(&hosts, "C", "adverts_received") == 200);
    assert_eq!(counter(&hosts, "C", "address_mismatches"), 100);
    assert_eq!(hosts.status("C")["state"], "MASTER");
    let lines = hosts.log("C").matches("names other virtual addresses").count();
    assert!(lines < 5, "{lines} lines for 100 adverts");
    hosts.passed();
}

#[test]
fn a_host_without_the_key_is_not_obeyed() {
    let Some(hosts) = Hosts::new("hmac-forged") else { return };
    hosts.ours("C", "vip.toml", &sealed(100, KEY));
    hosts.wait_holder("C", "D", VIP);
    hosts.ours("D", "vip.toml", &sealed(200, ""));
    hosts.wait("the rejected adverts", || counter(&hosts, "C", "auth_failures") > 2);
    assert_eq!(hosts.status("C")["state"], "MASTER");
    assert!(hosts.log("C").contains("no HMAC"), "{}", hosts.log("C"));
    hosts.passed();
}
