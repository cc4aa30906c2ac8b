//! Agents, programs that check, and orders of operators: the same states beside a real HAProxy.

use super::beside::{Beside, Which};
use harness::ready;
use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use xtask::lab::wait::until_true;

const NEEDS: &[harness::Needs] = &[harness::PEERS];
const BOTH: [Which; 2] = [Which::Ours, Which::Haproxy];
const PATIENCE: Duration = Duration::from_secs(15);

const HEAD: &str = "
global
    stats socket @DIR/admin.sock level admin
    maxconn 1000
    external-check
    insecure-fork-wanted
defaults
    mode tcp
    timeout connect 1s
    timeout client 30s
    timeout server 30s
listen l
    bind 127.0.0.1:@PORT0
    server other 127.0.0.1:@ECHO backup
listen m
    bind 127.0.0.1:@PORT1
";

/// Columns of a server's line of `show stat`.
fn columns(beside: &Beside, which: Which, server: &str, names: &[&str]) -> Vec<String> {
    let table = beside.ask(which, "admin.sock", "show stat").unwrap();
    let mut lines = table.lines();
    let known: Vec<&str> = lines.next().unwrap().trim_start_matches("# ").split(',').collect();
    let line = lines.find(|line| line.starts_with(&format!("m,{server},"))).unwrap_or_default();
    let values: Vec<&str> = line.split(',').collect();
    let value = |name: &&str| {
        let at = known.iter().position(|it| it == name).unwrap();
        values.get(at).copied().unwrap_or("no such line").trim_start_matches("* ").to_owned()
    };
    names.iter().map(value).collect()
}

#[test]
fn a_server_does_what_its_agent_says() {
    if !ready("agents beside haproxy", NEEDS) {
        return;
    }
    let agent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = agent.local_addr().unwrap().port();
    let (word, asked) = (Arc::new(Mutex::new("up\n")), Arc::new(AtomicUsize::new(0)));
    let (answer, count) = (word.clone(), asked.clone());
    std::thread::spawn(move || {
        for mut stream in agent.incoming().flatten() {
            let _ = stream.write_all(answer.lock().unwrap().as_bytes());
            count.fetch_add(1, SeqCst);
        }
    });
    let servers =
        format!("    server s 127.0.0.1:@ECHO weight 40 agent-check agent-port {port} agent-inter 100ms\n");
    let beside = Beside::start("proxy-agents", &format!("{HEAD}{servers}")).unwrap();
    let names = ["status", "weight", "uweight", "slim", "agent_status", "act"];
    let mut seen = Vec::new();
    for told in [
        "up\n",
        "75%\n",
        "drain\n",
        "ready\n",
        "down #out of order\n",
        "up\n",
        "maint\n",
        "ready\n",
        "up 50% maxconn:7\n",
        "failed\n",
        "ready up 100%\n",
        "stopped\n",
        "nonsense\n",
        "up\n",
    ] {
        *word.lock().unwrap() = told;
        let before = asked.load(SeqCst);
        // Each has asked a few times since.
        until_true(PATIENCE, "the agent to be asked", || asked.load(SeqCst) >= before + 8).unwrap();
        let of = |which| columns(&beside, which, "s", &names);
        let mut both = (Vec::new(), Vec::new());
        let equal = until_true(PATIENCE, told, || {
            both = (of(Which::Ours), of(Which::Haproxy));
            both.0 == both.1
        });
        assert!(equal.is_ok(), "{told:?}: {names:?} ours {:?}, theirs {:?}", both.0, both.1);
        seen.push(both.0);
    }
    // It did make a difference.
    seen.dedup();
    assert!(seen.len() > 7, "{seen:?}");
    beside.passed();
}

#[test]
fn orders_of_operators_lead_to_haproxys_states() {
    if !ready("states beside haproxy", NEEDS) {
        return;
    }
    let servers = "    server checked 127.0.0.1:@ECHO check inter 60s weight 10\n    server plain 127.0.0.1:@ECHO weight 20\n    \
                   server off 127.0.0.1:@ECHO disabled\n    server backup 127.0.0.1:@ECHO backup\n    server follower 127.0.0.1:@ECHO track m/checked\n";
    let beside = Beside::start("proxy-states", &format!("{HEAD}{servers}")).unwrap();
    for which in BOTH {
        until_true(PATIENCE, "the first check", || {
            columns(&beside, which, "checked", &["check_status"]) == ["L4OK"]
        })
        .unwrap();
    }
    let state = |which| {
        let mut all: Vec<String> = Vec::new();
        for server in ["checked", "plain", "off", "backup", "follower", "BACKEND"] {
            let names = ["status", "weight", "uweight", "act", "bck", "chkfail", "chkdown", "tracked"];
            all.push(format!("{server} {:?}", columns(&beside, which, server, &names)));
        }
        let table = beside.ask(which, "admin.sock", "show servers state m").unwrap();
        for line in table.lines().skip(2) {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Name, operational and administrative state, weights; health with checks and without.
            let health = if matches!(words.get(3), Some(&"checked" | &"plain")) { &[12][..] } else { &[] };
            let shown = [3, 5, 6, 7, 8].iter().chain(health).filter_map(|at| words.get(*at).copied());
            all.push(shown.collect::<Vec<_>>().join(" "));
        }
        all
    };
    let compare = |when: &str| {
        let mut both = (Vec::new(), Vec::new());
        // What follows from an order may take a moment.
        let equal = until_true(PATIENCE, when, || {
            both = (state(Which::Ours), state(Which::Haproxy));
            both.0 == both.1
        });
        assert!(equal.is_ok(), "{when}: ours {:?}\ntheirs {:?}", both.0, both.1);
    };
    compare("at the start");
    for order in [
        "set server m/plain state drain",
        "set server m/plain state maint",
        "set server m/plain state ready",
        "disable server m/plain",
        "enable server m/plain",
        "set server m/plain weight 0",
        "set server m/plain weight 50%",
        "set server m/off state ready",
        "set server m/off state drain",
        "set server m/off state maint",
        "enable server m/off",
        "set server m/checked state drain",
        "set server m/checked state ready",
        "set server m/checked health down",
        "set server m/checked health up",
        "set server m/checked health stopping",
        "set server m/checked health up",
        "disable health m/checked",
        "enable health m/checked",
        "set server m/checked state maint",
        "set server m/follower state ready",
        "set server m/checked state ready",
        "disable server m/checked",
        "set server m/checked health up",
        "enable server m/checked",
        "set server m/follower state maint",
        "set server m/follower state ready",
        "set server m/backup state drain",
        "enable server m/backup",
        "set server m/backup state ready",
    ] {
        for which in BOTH {
            beside.ask(which, "admin.sock", order).unwrap();
        }
        compare(&format!("after `{order}`"));
    }
    beside.passed();
}

#[test]
fn a_program_that_checks_is_told_what_haproxy_tells_it() {
    if !ready("external checks beside haproxy", NEEDS) {
        return;
    }
    // The status it ends with is in a file; what it was told goes into another.
    let settings = "    option external-check\n    external-check path /usr/bin:/bin\n    external-check command @DIR/check.sh\n    \
                    server s 127.0.0.1:@ECHO id 7 maxconn 5 check inter 200ms rise 1 fall 1\n";
    let scratch = harness::scratch::Scratch::new("proxy-external-program").unwrap();
    let program = scratch.path().join("check.sh");
    let script = format!(
        "#!/bin/sh\nout={0}/$HAPROXY_PROXY_PORT\nenv | grep -v '^PWD=\\|^_=\\|^SHLVL=\\|^OLDPWD=' | sort > $out.tmp\n\
         echo \"$@\" >> $out.tmp\nmv $out.tmp $out\nexit $(cat {0}/status)\n",
        scratch.path().display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let set = |status: &str| std::fs::write(scratch.path().join("status"), status).unwrap();
    set("0");
    let settings = settings.replace("@DIR/check.sh", &program.display().to_string());
    let beside = Beside::start("proxy-external", &format!("{HEAD}{settings}")).unwrap();
    let until = |what: &str, wanted: [&str; 2]| {
        for which in BOTH {
            let names = ["status", "check_status"];
            let mut seen = Vec::new();
            let found = until_true(PATIENCE, what, || {
                seen = columns(&beside, which, "s", &names);
                seen == wanted
            });
            assert!(found.is_ok(), "{which:?} {what}: {seen:?}");
        }
    };
    until("pass", ["UP", "PROCOK"]);
    set("3");
    until("fail", ["DOWN", "PROCERR"]);
    for which in BOTH {
        assert_eq!(columns(&beside, which, "s", &["check_code"]), ["3"], "{which:?}");
    }
    let told = |which| {
        let port = beside.port(which, 1).to_string();
        let text = std::fs::read_to_string(scratch.path().join(&port)).unwrap();
        text.replace(&port, "PORT")
    };
    assert_eq!(told(Which::Ours), told(Which::Haproxy));
    beside.passed();
    scratch.passed();
}
