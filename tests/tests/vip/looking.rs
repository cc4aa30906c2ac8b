//! What an operator and a monitoring system see of the agent, beside what keepalived shows.

use crate::hosts::Hosts;
use harness::scratch::Scratch;
use harness::{Needs, PEERS, programs, ready};
use std::path::Path;
use std::time::Duration;
use xtask::lab::{Network, Process, process, until};
use xtask::stack::{Cast, Maker};

const PATIENCE: Duration = Duration::from_secs(20);

const CONFIG: &str = "global_defs {\n  router_id C\n  script_user root\n}\n\
    vrrp_script chk {\n  script \"/bin/true\"\n  interval 1\n}\n\
    vrrp_instance VI_1 {\n  interface eth0\n  virtual_router_id 6\n  priority 100\n  advert_int 1\n  \
    virtual_ipaddress {\n    192.168.204.66/24\n  }\n  track_script {\n    chk\n  }\n}\n\
    vrrp_instance VI_3 {\n  interface eth0\n  virtual_router_id 7\n  version 3\n  advert_int 0.5\n  nopreempt\n  \
    virtual_ipaddress {\n    192.168.204.67\n  }\n}\n";

/// The files both programs write, which are in a place all of them share: the test takes turns.
const DUMPS: [&str; 3] = ["/tmp/keepalived.data", "/tmp/keepalived.stats", "/tmp/keepalived.json"];

/// Starts a program as master of both instances, asks for its dumps, and answers them.
fn dumps(network: &Network, host: &str, scratch: &Path, program: &Path) -> [String; 3] {
    let file = scratch.join(format!("{host}.conf"));
    std::fs::write(&file, CONFIG).unwrap();
    let mut command = network.command(host, program);
    let pid = scratch.join(format!("{host}.pid"));
    command.args(["-n", "-l", "-P", "-f"]).arg(&file).arg("-p").arg(&pid);
    if program.ends_with("vip-agent") {
        command.arg("--runtime-dir").arg(scratch.join("run"));
    } else {
        command.arg("-r").arg(scratch.join("vrrp.pid"));
    }
    let mut running = Process::spawn(host, command, &scratch.join(format!("{host}.log"))).unwrap();
    let both = || {
        let held = network.addresses(host);
        (held.len() == 3).then_some(())
    };
    until(PATIENCE, "both addresses", both).unwrap_or_else(|error| panic!("{error}: {}", running.log()));
    let main: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let found = DUMPS.map(|path| {
        let _ = std::fs::remove_file(path);
        let number = match path {
            path if path.ends_with("data") => nix::libc::SIGUSR1,
            path if path.ends_with("stats") => nix::libc::SIGUSR2,
            _ => nix::libc::SIGRTMIN() + 2,
        };
        let sent = std::process::Command::new("kill").args([format!("-{number}"), main.to_string()]).status();
        assert!(sent.unwrap().success());
        // keepalived writes into the file itself, so its end has to be waited for.
        let whole = |text: &String| match path {
            path if path.ends_with("data") => text.contains("< Interfaces >"),
            path if path.ends_with("stats") => text.matches("Priority Zero").count() == 2,
            _ => text.trim_end().ends_with(']'),
        };
        until(PATIENCE, path, || std::fs::read_to_string(path).ok().filter(whole)).unwrap()
    });
    running.stop(PATIENCE);
    found
}

/// Lines of a dump as exporters read them: the words before `=` or `:`, without what numbers vary.
fn keys(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split(['=', ':']).next().unwrap_or_default().trim_end().to_owned()).collect()
}

/// One value of one instance of `keepalived.data`.
fn value(data: &str, instance: &str, key: &str) -> String {
    let from = data.find(&format!(" VRRP Instance = {instance}\n")).unwrap();
    let line = data[from..].lines().find(|line| line.trim_start().starts_with(&format!("{key} ="))).unwrap();
    line.split_once('=').unwrap().1.trim().to_owned()
}

#[test]
fn dumps_are_keepalived_s() {
    if Cast::from_environment().agent_c == Maker::Theirs || !ready("dumps", &[Needs::Network, PEERS]) {
        return;
    }
    let scratch = Scratch::new("dumps").unwrap();
    let network = Network::new().unwrap();
    network.add_host("C", 143).unwrap();
    network.add_host("D", 144).unwrap();
    // One after the other; they would fight over the addresses.
    let ours = dumps(&network, "C", scratch.path(), &programs::folder().join("vip-agent"));
    let theirs = dumps(&network, "D", scratch.path(), Path::new("keepalived"));
    let [(our_data, data), (our_statistics, statistics), (our_json, json)] =
        [0, 1, 2].map(|index| (ours[index].as_str(), theirs[index].as_str()));
    for instance in ["VI_1", "VI_3"] {
        for key in [
            "VRRP Version",
            "State",
            "Wantstate",
            "Interface",
            "Gratuitous ARP delay",
            "Gratuitous ARP repeat",
            "Virtual Router ID",
            "Priority",
            "Effective priority",
            "Advert interval",
            "Preempt",
            "Down timer adverts",
        ] {
            assert_eq!(value(our_data, instance, key), value(data, instance, key), "{instance} {key}");
        }
    }
    for line in [
        "     192.168.204.66/24 dev eth0 scope global set",
        "     192.168.204.67 dev eth0 scope global set",
        "   Status = GOOD",
    ] {
        assert!(
            our_data.lines().any(|found| found == line) && data.lines().any(|found| found == line),
            "{line}\n{our_data}\n{data}"
        );
    }
    assert_eq!(keys(our_statistics), keys(statistics));
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let (our_json, json) = (parsed(our_json), parsed(json));
    for index in [0, 1] {
        for part in ["data", "stats"] {
            let theirs = json[index][part].as_object().unwrap();
            let ours = our_json[index][part].as_object().unwrap();
            let names = |object: &serde_json::Map<_, _>| object.keys().cloned().collect::<Vec<String>>();
            assert_eq!(names(ours), names(theirs));
        }
        for key in [
            "iname",
            "ifp_ifname",
            "vrid",
            "state",
            "wantstate",
            "version",
            "vips",
            "adver_int",
            "nopreempt",
            "base_priority",
        ] {
            assert_eq!(our_json[index]["data"][key], json[index]["data"][key], "{key}");
        }
    }
    scratch.passed();
}

#[test]
fn status_page_and_metrics_tell_who_is_master() {
    if Cast::from_environment().agent_c == Maker::Theirs || !ready("looking", &[Needs::Network]) {
        return;
    }
    let scratch = Scratch::new("looking").unwrap();
    let network = Network::new().unwrap();
    network.add_host("C", 143).unwrap();
    let program = programs::folder().join("vip-agent");
    let file = scratch.path().join("C.conf");
    std::fs::write(&file, CONFIG.replacen("router_id C", "router_id C\n  http 127.0.0.1:9650", 1)).unwrap();
    let runtime = scratch.path().join("run");
    let mut command = network.command("C", &program);
    command.arg("-f").arg(&file).arg("--runtime-dir").arg(&runtime);
    let agent = Process::spawn("vip-agent", command, &scratch.path().join("log")).unwrap();
    let json = || {
        let output = std::process::Command::new(&program)
            .args(["status", "--json", "--runtime-dir"])
            .arg(&runtime)
            .output()
            .ok()?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        (status[0]["instances"][0]["state"] == "MASTER").then_some(status)
    };
    let status =
        until(PATIENCE, "the master", json).unwrap_or_else(|error| panic!("{error}: {}", agent.log()));
    let instance = &status[0]["instances"][0];
    assert_eq!(instance["checks"][0]["status"], "good");
    assert!(instance["checks"][0]["if_it_fails"].as_str().unwrap().contains("FAULT"), "{instance}");
    let last = &instance["transitions"][0];
    assert_eq!((&last["from"], &last["to"]), (&"BACKUP".into(), &"MASTER".into()), "{instance}");
    assert!(!last["reason"].as_str().unwrap().is_empty(), "{instance}");
    let human = std::process::Command::new(&program)
        .args(["status", "--runtime-dir"])
        .arg(&runtime)
        .output()
        .unwrap();
    let human = String::from_utf8(human.stdout).unwrap();
    assert!(
        human.contains("last    BACKUP to MASTER") && human.contains("this host (192.168.204.143)"),
        "{human}"
    );
    let get = |path: &str| {
        let script =
            format!("exec 3<>/dev/tcp/127.0.0.1/9650; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
        let output = network.command("C", "bash").args(["-c", &script]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let metrics = get("/metrics");
    let line =
        "keepalived_vrrp_state{iname=\"VI_1\",intf=\"eth0\",vrid=\"6\",ip_address=\"192.168.204.66\"} 2";
    assert!(metrics.lines().any(|found| found.trim_end() == line), "{metrics}");
    assert!(get("/").contains("<td class=good>MASTER"), "{}", get("/"));
    process::signal(agent.pid(), nix::sys::signal::Signal::SIGTERM);
    scratch.passed();
}

/// Asks for pages without ever waiting for them, over many connections.
const GREEDY: &str = r#"
import socket, threading, time
end = time.time() + 6
def ask():
    connection = socket.create_connection(("127.0.0.1", 9650))
    while time.time() < end:
        try:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
            connection.recv(65536)
        except OSError:
            return
threads = [threading.Thread(target=ask) for _ in range(30)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"#;

/// The agent runs with real-time priority, and the kernel ends real-time programs that never wait.
#[test]
fn a_page_that_is_asked_for_all_the_time_does_not_end_the_agent() {
    let Some(hosts) = Hosts::new("greedy") else { return };
    hosts.ours(
        "C",
        "keepalived.conf",
        &CONFIG.replacen("router_id C", "router_id C\n  http 127.0.0.1:9650", 1),
    );
    hosts.wait("the master", || hosts.status("C")["state"] == "MASTER");
    let pid = hosts.pid("C");
    let asked = hosts.network.command("C", "python3").args(["-c", GREEDY]).status().unwrap();
    assert!(asked.success());
    let status = hosts.agent_status("C");
    assert_eq!(status["pid"], pid, "{}", hosts.log("C"));
    assert_eq!(status["instances"][0]["counters"]["become_master"], 1, "{}", hosts.log("C"));
    hosts.passed();
}

/// `vip-agent --check … | head` and a full disk.
#[test]
fn an_answer_nobody_reads_is_no_crash() {
    let scratch = Scratch::new("unread").unwrap();
    let file = scratch.path().join("C.conf");
    std::fs::write(&file, CONFIG).unwrap();
    let program = programs::folder().join("vip-agent");
    let answer = |output: &str, words: &[&str]| {
        let full = std::fs::OpenOptions::new().write(true).open(output).unwrap();
        let mut command = std::process::Command::new(&program);
        command.args(words).arg(&file).stdout(full);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for words in [&["--check", "-f"][..], &["migrate"]] {
        let (code, errors) = answer("/dev/full", words);
        assert_eq!(code, Some(73), "{errors}");
        assert!(errors.contains("cannot write to standard output"), "{errors}");
    }
    let script =
        format!("'{}' migrate '{}' | true; echo ${{PIPESTATUS[0]}}", program.display(), file.display());
    let piped = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&piped.stdout).trim(), "0");
    scratch.passed();
}
