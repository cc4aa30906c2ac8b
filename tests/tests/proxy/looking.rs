//! What operators and their tools see: the stats socket, hatop, the metrics and log lines, beside a real HAProxy
//! with the same configuration.

use super::beside::{Beside, Which};
use harness::ready;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use xtask::install;
use xtask::lab::wait::until_true;

const NEEDS: &[harness::Needs] = &[harness::PEERS];
const HATOP: &[harness::Needs] = &[harness::PEERS, harness::Needs::Programs(install::HATOP)];

const CONFIG: &str = "
global
    stats socket @DIR/admin.sock mode 660 level admin
    stats socket @DIR/user.sock level user
    maxconn 1000
    node here
defaults
    mode tcp
    timeout connect 1s
    timeout client 30s
    timeout server 30s
listen rabbit
    bind 127.0.0.1:@PORT0 name one
    option tcplog
    log 127.0.0.1:@LOG format raw local0
    server A 127.0.0.1:@ECHO check inter 300ms rise 2 fall 3 weight 10
    server B 127.0.0.1:@DEAD check inter 300ms
    server C 127.0.0.1:@ECHO backup
listen monitor
    bind 127.0.0.1:@PORT1
    mode http
    stats enable
    stats uri /monitor
    stats refresh 5s
    stats admin if TRUE
    http-request use-service prometheus-exporter if { path /metrics }
backend other
    balance leastconn
    server d1 127.0.0.1:@ECHO
";

/// Everything that is a number, an address of memory or a path of this test becomes the same.
fn shape(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (body, end) = word.split_at(word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len());
        let is_number =
            body.starts_with("0x") || (!body.is_empty() && body.bytes().all(|byte| byte.is_ascii_digit()));
        out.push_str(if is_number { "N" } else { body });
        out.push_str(end);
    }
    out
}

/// Each command is given to both; the answers have to be equal to the letter.
const EXACT: &[&str] = &[
    "show backend",
    "show map",
    "show map x",
    "show acl #99",
    "show ssl cert",
    "show ssl cert x",
    "show resolvers nothing",
    "set rate-limit sessions global 5000",
    "set rate-limit sessions global 0",
    "show cli level",
    "show peers",
    "show table nothing",
    "show servers state nothing",
    "show servers conn nothing",
    "show sess 0x1",
    "get weight",
    "get weight a/b",
    "get weight rabbit/A",
    "set weight rabbit/A 20",
    "get weight rabbit/A",
    "set weight rabbit/A",
    "set weight rabbit/A 10",
    "set server",
    "set server rabbit",
    "set server nob/x state ready",
    "set server rabbit/nos state ready",
    "set server rabbit/A state x",
    "set server rabbit/A weight",
    "set server rabbit/A weight x",
    "set server rabbit/A weight 300",
    "set server rabbit/A weight -1",
    "set server rabbit/A weight 50%",
    "get weight rabbit/A",
    "set server rabbit/A weight 100%",
    "set server rabbit/A addr",
    "set server rabbit/A addr bad",
    "set server other/d1 addr 127.0.0.1",
    "set server other/d1 addr 127.0.0.2",
    "set server other/d1 addr 127.0.0.1 port x",
    "set server rabbit/A agent up",
    "set server rabbit/A health",
    "set server rabbit/A health x",
    "set server rabbit/A check-port",
    "set server rabbit/A check-port x",
    "set server rabbit/A check-port 5x",
    "set server rabbit/A check-port 70000",
    "set server rabbit/A check-port -1",
    "set server rabbit/A check-addr",
    "set server rabbit/A check-addr x",
    "set server rabbit/A check-addr 127.0.0.1 port",
    "set server rabbit/A check-addr 127.0.0.1 port x",
    "set server rabbit/A check-addr 127.0.0.1 port 70000",
    "set server other/d1 check-addr 127.0.0.1",
    "set server other/d1 check-port 5",
    "set server rabbit/A fqdn",
    "set server rabbit/A fqdn localhost",
    "set server rabbit/A agent-addr 127.0.0.1",
    "set server rabbit/A agent-send x",
    "enable server",
    "enable server a/b",
    "disable server rabbit/A",
    "enable server rabbit/A",
    "set server rabbit/A state drain",
    "set server rabbit/A state ready",
    "set server rabbit/A state maint",
    "set server rabbit/A state ready",
    "disable health rabbit/A",
    "enable health rabbit/A",
    "enable health other/d1",
    "enable agent rabbit/A",
    "enable frontend",
    "enable frontend nothing",
    "enable frontend other",
    "enable frontend rabbit",
    "disable frontend rabbit",
    "disable frontend rabbit",
    "enable frontend rabbit",
    "add server",
    "add server x",
    "add server nob/d2 127.0.0.1:1",
    "add server other/d1 127.0.0.1:1",
    "add server other/d2",
    "add server other/d2 127.0.0.1:1 weight 5 check",
    "del server other/d1",
    "enable server other/d2",
    "del server other/d2",
    "disable server other/d2",
    "del server other/d2",
    "del server other/d2",
    "del server",
    "set maxconn frontend",
    "set maxconn frontend nothing 5",
    "set maxconn frontend rabbit 50",
    "set maxconn global",
    "set maxconn global 100",
    "set maxconn global 1000000",
    "set maxconn server",
    "set maxconn server rabbit/A",
    "set maxconn server rabbit/A 5",
    "set maxconn server rabbit/A x",
    "set maxconn server rabbit/A 0",
    "set timeout",
    "set timeout cli",
    "set timeout cli 5",
    "set timeout cli x",
    "set rate-limit",
    "set rate-limit connections global",
    "set rate-limit connections global 0",
    "set severity-output",
    "set severity-output number;set server a/b state ready;add server other/d1 127.0.0.1:1",
    "shutdown session",
    "shutdown session 0x1",
    "shutdown sessions server",
    "shutdown sessions server a/b",
    "shutdown sessions server rabbit/A",
    "shutdown frontend",
    "shutdown frontend nothing",
    "clear counters",
    "clear counters all",
    "operator;set weight rabbit/A 1",
    "show cli level;user;show cli level",
    "quit",
];

/// Given to both; the answers have to be equal once numbers are taken out.
const SHAPED: &[&str] = &[
    "show servers state",
    "show servers state rabbit",
    "show servers conn",
    "show errors",
    "show cli sockets",
];

#[test]
fn the_stats_socket_answers_as_haproxys() {
    if !ready("the stats socket beside haproxy", NEEDS) {
        return;
    }
    let beside = Beside::start("proxy-socket", CONFIG).unwrap();
    settled(&beside);
    let mut different = Vec::new();
    let mut compare = |command: &str, [ours, theirs]: [String; 2]| {
        if ours != theirs {
            different.push(format!("{command}\nours: {ours:?}\nHAProxy's: {theirs:?}\n"));
        }
    };
    for command in EXACT {
        compare(command, both(&beside, command));
    }
    // A check of one of them may just have ended, or have taken too long on a machine that has much to do: what depends
    // on checks is asked for until both have come to the same.
    let agreed = |command: &str, part: &dyn Fn(&str) -> String| -> [String; 2] {
        let mut last = both(&beside, command).map(|text| part(&text));
        let _ = until_true(Duration::from_secs(10), command, || {
            last = both(&beside, command).map(|text| part(&text));
            last[0] == last[1]
        });
        last
    };
    for command in SHAPED {
        compare(command, agreed(command, &shape));
    }
    // Names, numbers and kinds of values, without the values.
    for (command, parts) in [("show info", 1), ("show info typed", 3), ("show stat typed", 3)] {
        let names = |text: &str| -> Vec<String> {
            text.lines()
                .map(|line| line.splitn(parts + 1, ':').take(parts).collect::<Vec<_>>().join(":"))
                .collect()
        };
        compare(command, agreed(command, &|text| names(text).join("\n")));
    }
    // Which columns have a value in which row.
    let filled = |text: &str| -> Vec<String> {
        let cells = |line: &str| {
            line.split(',').map(|cell| if cell.is_empty() { '.' } else { 'x' }).collect::<String>()
        };
        text.lines()
            .map(|line| format!("{} {}", line.split(',').take(2).collect::<Vec<_>>().join("/"), cells(line)))
            .collect()
    };
    for command in ["show stat", "show stat 1 -1 -1", "show stat -1 4 -1", "show stat 2 4 2"] {
        let [ours, theirs] = both(&beside, command);
        assert_eq!(ours.lines().next(), theirs.lines().next());
        compare(command, agreed(command, &|text| filled(text).join("\n")));
    }
    // Where servers are hidden, backends say how many of theirs are up.
    let statuses = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(',').nth(17).unwrap_or_default().to_owned()).collect()
    };
    for command in ["show stat -1 2 -1", "show stat -1 2 -1 no-maint", "show stat -1 2 -1 up"] {
        compare(command, agreed(command, &|text| statuses(text).join("\n")));
    }
    // Who may see but not change.
    for command in [
        "show stat",
        "show sess",
        "show env",
        "set weight rabbit/A 1",
        "disable server rabbit/A",
        "clear counters",
    ] {
        let denied = |which| beside.ask(which, "user.sock", command).unwrap() == "Permission denied\n\n";
        compare(command, [Which::Ours, Which::Haproxy].map(|which| format!("denied {}", denied(which))));
    }
    for command in ["", "nonsense", "show", "help", "help set"] {
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        compare(command, both(&beside, command).map(|text| first(&text)));
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    beside.passed();
}

/// The answers of both; each one's own folder is called the same.
fn both(beside: &Beside, command: &str) -> [String; 2] {
    [Which::Ours, Which::Haproxy].map(|which| {
        let folder = beside.folder(which).display().to_string();
        beside.ask(which, "admin.sock", command).unwrap().replace(&folder, "FOLDER")
    })
}

/// Until the checks of both have found out about the servers.
fn settled(beside: &Beside) {
    until_true(Duration::from_secs(20), "both to know their servers", || {
        both(beside, "show stat -1 4 -1")
            .iter()
            .all(|text| text.contains(",UP,10,") && text.contains(",DOWN,"))
    })
    .unwrap();
}

#[test]
fn sessions_are_listed_and_ended_from_the_socket() {
    if !ready("sessions on the stats socket beside haproxy", NEEDS) {
        return;
    }
    let beside = Beside::start("proxy-sessions", CONFIG).unwrap();
    settled(&beside);
    for which in [Which::Ours, Which::Haproxy] {
        let mut client = beside.connect(which, 0).unwrap();
        client.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        let listed = beside.ask(which, "admin.sock", "show sess").unwrap();
        let line = listed.lines().find(|line| line.contains("fe=rabbit be=rabbit srv=A")).unwrap().to_owned();
        let port = client.local_addr().unwrap().port();
        assert!(line.contains(&format!("proto=tcpv4 src=127.0.0.1:{port} ")), "{line}");
        // The same keys in the same order.
        let keys: Vec<&str> = line.split(' ').skip(1).map(|word| word.split('=').next().unwrap()).collect();
        assert_eq!(
            keys,
            [
                "proto", "src", "fe", "be", "srv", "ts", "epoch", "age", "calls", "rate", "cpu", "lat",
                "rq[f", "rp[f", "scf", "scb", "exp", "rc", "c_exp"
            ]
        );
        let id = line.split(':').next().unwrap();
        let shown = beside.ask(which, "admin.sock", &format!("show sess {id}")).unwrap();
        assert!(shown.starts_with(&format!("{id}: [")) && shown.contains("frontend=rabbit (id="), "{shown}");
        assert_eq!(beside.ask(which, "admin.sock", &format!("shutdown session {id}")).unwrap(), "\n");
        // Closed by the proxy: the end of the stream, or a reset.
        assert_eq!(client.read(&mut answer).unwrap_or(0), 0);
        until_true(Duration::from_secs(5), "the session to be gone", || {
            !beside.ask(which, "admin.sock", "show sess").unwrap().contains("be=rabbit")
        })
        .unwrap();
    }
    beside.passed();
}

/// Sends a request and returns the whole answer; HAProxy sends tables in chunks, even to HTTP/1.0.
fn http(beside: &Beside, which: Which, request: &str) -> String {
    let mut stream = beside.connect(which, 1).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return answer;
    }
    let (mut rest, mut whole) = (body, format!("{head}\r\n\r\n"));
    loop {
        let (size, after) = rest.split_once("\r\n").unwrap();
        let (chunk, after) = after.split_at(usize::from_str_radix(size, 16).unwrap());
        if chunk.is_empty() {
            return whole;
        }
        whole.push_str(chunk);
        rest = after.strip_prefix("\r\n").unwrap();
    }
}

#[test]
fn metrics_and_the_page_speak_haproxys_language() {
    if !ready("metrics and page beside haproxy", NEEDS) {
        return;
    }
    let beside = Beside::start("proxy-metrics", CONFIG).unwrap();
    settled(&beside);
    let get = |which, path: &str| http(&beside, which, &format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n"));
    let types = |text: &str| -> BTreeSet<String> {
        text.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect()
    };
    let series = |text: &str| -> BTreeSet<String> {
        let samples =
            text.lines().filter(|line| line.starts_with("haproxy_") && !line.contains("build_info"));
        samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    let [ours, theirs] = [Which::Ours, Which::Haproxy].map(|which| get(which, "/metrics"));
    assert_eq!(types(&ours), types(&theirs));
    assert_eq!(series(&ours), series(&theirs));
    // HAProxy's form, as a script sends it.
    for (body, result) in [
        ("s=A&action=drain&b=%231", "DONE"),
        ("s=A&action=ready&b=rabbit", "DONE"),
        ("s=A&action=nonsense&b=%231", "ERRP"),
        ("s=nobody&action=drain&b=%231", "ERRP"),
        ("action=drain&b=%231", "NONE"),
        ("s=A&s=nobody&action=ready&b=%231", "PART"),
        ("", "NONE"),
    ] {
        // A stats socket takes the first number of a section.
        let body = body.replace("%231", "%232");
        let request = format!(
            "POST /monitor;up?scope=rab HTTP/1.0\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        for which in [Which::Ours, Which::Haproxy] {
            let answer = http(&beside, which, &request).to_lowercase();
            let location = format!("location: /monitor;st={};up?scope=rab\r\n", result.to_lowercase());
            assert!(answer.contains(" 303 ") && answer.contains(&location), "{which:?} {body}: {answer}");
        }
    }
    for path in
        ["/monitor;csv", "/monitor;csv;norefresh?scope=rabbit", "/monitor;csv;up", "/monitor;csv;no-maint"]
    {
        // Names and states.
        let names = |text: &str| -> Vec<String> {
            let body = text.split_once("\r\n\r\n").unwrap().1;
            let cells = body.lines().map(|line| line.split(',').collect::<Vec<_>>());
            cells
                .map(|cells| [0, 1, 17].map(|at| cells.get(at).copied().unwrap_or_default()).join(","))
                .collect()
        };
        assert_eq!(names(&get(Which::Ours, path)), names(&get(Which::Haproxy, path)), "{path}");
    }
    beside.passed();
}

#[test]
fn log_lines_are_haproxys() {
    if !ready("log lines beside haproxy", NEEDS) {
        return;
    }
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let config = CONFIG.replace("@LOG", &receiver.local_addr().unwrap().port().to_string());
    let beside = Beside::start("proxy-lines", &config).unwrap();
    settled(&beside);
    // Lines about servers and of those who only looked whether the ports answer came before.
    let next = |client: SocketAddr| loop {
        let mut buffer = [0; 2000];
        let length = receiver.recv(&mut buffer).unwrap();
        let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if line.starts_with(&format!("{client} ")) {
            return line;
        }
    };
    let mut lines = Vec::new();
    for which in [Which::Ours, Which::Haproxy] {
        let mut client = beside.connect(which, 0).unwrap();
        client.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut answer).unwrap(), 0);
        let address = client.local_addr().unwrap();
        drop(client);
        lines.push(next(address));
    }
    // 127.0.0.1:PORT [22/Nov/2026:14:37:19.696] rabbit rabbit/A 1/0/15057 5 -- 1/1/0/0/0 0/0
    for line in &lines {
        assert!(line.ends_with("/0 0/0\n") && line.contains("] rabbit rabbit/A "), "{line}");
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!((words[5], words[6]), ("5", "--"), "{line}");
    }
    assert_eq!(shape(&lines[0]), shape(&lines[1]));
    beside.passed();
}

/// hatop in a terminal of its own shows our servers.
#[test]
fn hatop_works() {
    if !ready("hatop on our stats socket", HATOP) {
        return;
    }
    let beside = Beside::start("proxy-hatop", CONFIG).unwrap();
    settled(&beside);
    let socket = beside.folder(Which::Ours).join("admin.sock");
    // script(1) gives it a terminal; q ends it once it has drawn its table.
    let command = format!("stty rows 40 columns 150; hatop -s {}", socket.display());
    let mut child = std::process::Command::new("script")
        .args(["-qefc", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let (sender, screen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            let _ = sender.send(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    });
    let mut seen = String::new();
    let shown = until_true(Duration::from_secs(20), "hatop to show our servers", || {
        seen.extend(screen.try_iter());
        ["rabbit", "L4OK", "DOWN", "BACKEND", "2.6.12"].iter().all(|word| seen.contains(word))
    });
    let _ = child.stdin.take().unwrap().write_all(b"q");
    let ended = child.wait().unwrap();
    assert!(shown.is_ok(), "{seen}");
    assert!(ended.success(), "{ended}: {seen}");
    beside.passed();
}

/// `proxy status` and `proxy check` say the same about our servers, and by their exit code too.
#[test]
fn status_and_check_tell_people() {
    if !ready("proxy status and proxy check", NEEDS) {
        return;
    }
    let beside = Beside::start("proxy-status", CONFIG).unwrap();
    settled(&beside);
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(harness::programs::folder().join("proxy"))
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), text)
    };
    for which in [Which::Ours, Which::Haproxy] {
        let socket = beside.folder(which).join("admin.sock");
        let (code, text) = run(&["status", "--from", socket.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains("rabbit frontend") && text.contains("L4CON") && text.contains("no check"),
            "{text}"
        );
        let page = format!("http://127.0.0.1:{}/monitor", beside.port(which, 1));
        let (code, same) = run(&["status", "--from", &page]);
        assert_eq!((code, same.lines().count()), (Some(0), text.lines().count()), "{same}");
    }
    let file = beside.folder(Which::Ours).join("haproxy.cfg");
    let (code, text) = run(&["check", file.to_str().unwrap()]);
    assert_eq!(code, Some(69), "{text}");
    assert!(
        text.contains("rabbit/A") && text.contains("rabbit/B") && text.contains("Connection refused"),
        "{text}"
    );
    assert_eq!(run(&["status", "--from", "/no/such.sock"]).0, Some(69));
    beside.passed();
}
