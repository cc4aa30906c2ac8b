//! What is tracked, and who is told: built-in checks against real programs, notify scripts beside keepalived's.

use crate::hosts::Hosts;
use crate::ours;
use harness::scratch::Scratch;
use harness::{Needs, PEERS, programs, ready};
use std::process::Command;
use std::time::Duration;
use xtask::lab::Process;
use xtask::lab::process::{read_lossy, run};
use xtask::lab::wait::until_true;
use xtask::stack::{Cast, Maker, Place, Stack};

/// Every check takes another power of two, so that the priority tells which have failed.
const CHECKS: &str = r#"
[[script]]
name = "broker"
amqp = "192.168.204.141:5672"
interval = "200ms"
timeout = "5s"
weight = -1
[[script]]
name = "port"
tcp = "192.168.204.141:5672"
interval = "200ms"
timeout = "5s"
weight = -2
[[script]]
name = "page"
http = "http://127.0.0.1:8100/monitor"
interval = "200ms"
timeout = "5s"
weight = -4
[[script]]
name = "proxy"
proxy = "http://127.0.0.1:8100/monitor;csv"
interval = "200ms"
timeout = "5s"
weight = -8
[[script]]
name = "process"
process = "PROCESS"
interval = "500ms"
timeout = "5s"
weight = -16
[[script]]
name = "user"
command = ["/bin/sh", "-c", "[ $(id -un) = nobody ]"]
user = "nobody"
interval = "500ms"
timeout = "5s"
weight = -32
[[script]]
name = "drain"
file = "FOLDER/drain"
interval = "200ms"
timeout = "5s"
weight = 1
[[instance]]
name = "VI_1"
interface = "eth0"
virtual_router_id = 66
priority = 200
addresses = ["192.168.204.66/24"]
track_scripts = ["broker", "port", "page", "proxy", "process", "user", "drain"]
"#;

/// The built-in checks against our broker, and this maker's proxy before it.
fn built_in_checks(name: &str, proxy: Maker) {
    let name = format!("vip-{name}");
    let Some(cast) = ours().filter(|_| ready(&name, &[Needs::Network, PEERS])) else { return };
    let cast = Cast { broker: Maker::Ours, proxy, ..cast };
    let scratch = Scratch::new(&name).unwrap();
    let stack = Stack::new(Place::network().unwrap(), cast, &programs::folder(), scratch.path()).unwrap();
    stack.start_broker("A").unwrap();
    stack.wait_listening("A", 5672).unwrap();
    stack.start_proxy("C").unwrap();
    stack.wait_listening("C", 8100).unwrap();
    let folder = stack.host_folder("C");
    // A name of its own: other tests run proxies too.
    let process = if proxy == Maker::Ours { "tracked-1" } else { "tracked-2" };
    std::fs::copy("/bin/sleep", folder.join(process)).unwrap();
    let track = || {
        let mut command = stack.place().command("C", folder.join(process));
        command.arg("600");
        Process::spawn(process, command, &folder.join("tracked.log")).unwrap()
    };
    let mut tracked = track();
    let text = CHECKS.replace("PROCESS", process).replace("FOLDER", &folder.to_string_lossy());
    let file = folder.join("vip.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = stack.place().command("C", programs::folder().join("vip-agent"));
    command.arg("-f").arg(&file).arg("--runtime-dir").arg(folder.join("run"));
    let agent = Process::spawn("vip-agent", command, &folder.join("agent.log")).unwrap();
    let priority = || {
        let mut command = Command::new(programs::folder().join("vip-agent"));
        command.args(["status", "--json", "--runtime-dir"]).arg(folder.join("run"));
        let all: serde_json::Value = serde_json::from_str(&run(&mut command).ok()?).ok()?;
        all[0]["instances"][0]["effective_priority"].as_u64()
    };
    let becomes = |expected: u64, what: &str| {
        let what = format!("{what}: priority {expected}");
        until_true(Duration::from_secs(20), &what, || priority() == Some(expected))
            .unwrap_or_else(|error| panic!("{error}, it is {:?}\n{}", priority(), agent.log()));
    };
    becomes(200, "everything works");
    stack.kill("A", "broker").unwrap();
    becomes(200 - 1 - 2 - 8, "no broker, so no server UP");
    stack.kill("C", "proxy").unwrap();
    becomes(200 - 1 - 2 - 8 - 4, "no proxy");
    tracked.kill();
    becomes(200 - 1 - 2 - 8 - 4 - 16, "no process");
    std::fs::write(folder.join("drain"), "-50\n").unwrap();
    becomes(200 - 1 - 2 - 8 - 4 - 16 - 50, "a number in the file");
    stack.start_broker("A").unwrap();
    stack.start_proxy("C").unwrap();
    let tracked = track();
    std::fs::remove_file(folder.join("drain")).unwrap();
    becomes(200, "everything works again");
    drop(tracked);
    drop(agent);
    drop(stack);
    scratch.passed();
}

#[test]
fn built_in_checks_follow_our_proxy_and_broker() {
    built_in_checks("checks", Maker::Ours);
}

#[test]
fn built_in_checks_follow_haproxy() {
    built_in_checks("checks-haproxy", Maker::Theirs);
}

const NOTIFY: &str = "global_defs {
    router_id R
    script_user root
    vrrp_notify_fifo FOLDER/fifo
    vrrp_notify_fifo_script FOLDER/reader.sh
}
vrrp_script check {
    script \"FOLDER/check.sh\"
    interval 1
}
vrrp_instance VI_1 {
    state BACKUP
    interface eth0
    virtual_router_id 66
    priority 100
    advert_int 1
    track_script {
        check
    }
    notify FOLDER/any.sh
    notify_master \"FOLDER/one.sh to master\"
    notify_backup \"FOLDER/one.sh to backup\"
    notify_fault \"FOLDER/one.sh to fault\"
    notify_stop \"FOLDER/one.sh to stop\"
    virtual_ipaddress {
        192.168.204.66/24
    }
}
";

/// What the scripts of this maker's agent were told from its start to its stop: by `notify`, by the scripts of each
/// state, and through the pipe.
fn told(maker: Maker) -> Option<[String; 3]> {
    let hosts = Hosts::new(&format!("notify-{maker:?}").to_lowercase())?;
    hosts.program("C", "any.sh", "#!/bin/sh\necho \"$@\" >> FOLDER/any\n");
    hosts.program("C", "one.sh", "#!/bin/sh\necho \"$@\" >> FOLDER/one\n");
    hosts.program("C", "reader.sh", "#!/bin/sh\nexec cat \"$1\" >> FOLDER/pipe\n");
    hosts.program("C", "check.sh", "#!/bin/sh\n[ ! -e FOLDER/fail ]\n");
    let folder = hosts.folder("C");
    let read = |name: &str| read_lossy(&folder.join(name));
    hosts.start(maker, "C", NOTIFY);
    let words = |count: usize, word: &str| {
        hosts.wait(word, || ["any", "pipe"].iter().all(|name| read(name).matches(word).count() == count));
    };
    words(1, " MASTER ");
    hosts.write("C", "fail", "");
    words(1, " FAULT ");
    std::fs::remove_file(folder.join("fail")).unwrap();
    words(2, " MASTER ");
    hosts.stop("C");
    let said = ["any", "one", "pipe"].map(read);
    hosts.passed();
    Some(said)
}

#[test]
fn notify_scripts_and_the_fifo_are_told_what_keepalived_tells() {
    let (Some(ours), Some(theirs)) = (told(Maker::Ours), told(Maker::Theirs)) else { return };
    assert_eq!(ours[..2], theirs[..2]);
    // keepalived ends its reader without waiting for the last lines.
    assert!(!theirs[2].is_empty() && ours[2].starts_with(&theirs[2]), "{ours:?} {theirs:?}");
    assert!(ours[2].ends_with("STOP 100\n"), "{ours:?}");
    assert!(ours[0].starts_with("INSTANCE VI_1 BACKUP 100\nINSTANCE VI_1 MASTER 100\n"), "{ours:?}");
}
