//! Health checks of every kind: the same log lines as a real haproxy beside ours, on loopback.
//!
//! Passes without a word when haproxy is not installed.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may end it")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a server does with a connection.
#[derive(Clone, Copy)]
enum Act {
    Send(&'static [u8]),
    /// Waits for something to come.
    Read,
    Close,
    /// Waits until the client is gone.
    Silence,
}
use Act::{Close, Read as Hear, Send, Silence};

const GREETING: &[u8] = b"\x34\0\0\0\x0a8.0.33\x00\x01\x00\x00\x0012345678\x00\xff\xf7!\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00123456789012\x00";
const DENIED: &[u8] = b"\x1d\0\0\x02\xff\x15\x04#28000Access denied for us";

/// (name, what the server does, lines of the section, words of the server)
type Case = (&'static str, &'static [Act], &'static [&'static str], &'static str);

const CASES: &[Case] = &[
    ("plain", &[Silence], &[], ""),
    ("script_nothing", &[Silence], &["option tcp-check"], ""),
    (
        "expect_ok",
        &[Send(b"hello world\r\n"), Silence],
        &["option tcp-check", "tcp-check expect string hello"],
        "",
    ),
    (
        "expect_other",
        &[Send(b"hello\r\n"), Close],
        &["option tcp-check", "tcp-check expect string bye comment \"the greeting\""],
        "",
    ),
    (
        "expect_not",
        &[Send(b"hello\r\n"), Silence],
        &["option tcp-check", "tcp-check expect ! string hello"],
        "",
    ),
    (
        "expect_regex",
        &[Send(b"hello world\r\n"), Silence],
        &["option tcp-check", "tcp-check expect rstring ^hello.*world"],
        "",
    ),
    (
        "expect_binary",
        &[Send(b"\xca\xfe\x01"), Silence],
        &["option tcp-check", "tcp-check expect rbinary ^CAFE"],
        "",
    ),
    (
        "expect_nothing",
        &[Silence],
        &[
            "option tcp-check",
            "tcp-check connect",
            "tcp-check send PING\\r\\n",
            "tcp-check expect string PONG",
        ],
        "",
    ),
    (
        "expect_hangup",
        &[Hear, Close],
        &["option tcp-check", "tcp-check send hi", "tcp-check expect string x"],
        "",
    ),
    (
        "expect_two",
        &[Send(b"one\r\n"), Hear, Send(b"two\r\n"), Silence],
        &[
            "option tcp-check",
            "tcp-check expect string one",
            "tcp-check send-binary 50494e47",
            "tcp-check expect string two",
        ],
        "",
    ),
    (
        "expect_condition",
        &[Send(b"ready\r\n"), Silence],
        &["option tcp-check", "tcp-check expect string ready ok-status L7OKC on-success later"],
        "",
    ),
    (
        "smtp",
        &[
            Send(b"220 mail ESMTP\r\n"),
            Hear,
            Send(b"250 mail\r\n"),
            Hear,
            Send(b"221 2.0.0 Bye\r\n"),
            Silence,
        ],
        &["option smtpchk"],
        "",
    ),
    ("smtp_no", &[Send(b"554 5.7.1 no thanks\r\n"), Silence], &["option smtpchk"], ""),
    ("redis", &[Hear, Send(b"+PONG\r\n"), Silence], &["option redis-check"], ""),
    ("redis_no", &[Hear, Send(b"-NOAUTH Authentication required.\r\n"), Close], &["option redis-check"], ""),
    (
        "mysql",
        &[Send(GREETING), Hear, Send(b"\x07\0\0\x02\0\0\0\x02\0\0\0"), Silence],
        &["option mysql-check user haproxy"],
        "",
    ),
    ("mysql_no", &[Send(GREETING), Hear, Send(DENIED), Silence], &["option mysql-check user haproxy"], ""),
    ("pgsql", &[Hear, Send(b"R\0\0\0\x08\0\0\0\0"), Silence], &["option pgsql-check user haproxy"], ""),
    (
        "pgsql_no",
        &[Hear, Send(b"E\0\0\0\x60SFATAL\0C28000\0Mno pg_hba.conf entry\0\0"), Silence],
        &["option pgsql-check user haproxy"],
        "",
    ),
    (
        "ldap",
        &[Hear, Send(b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\0\x04\0\x04\0"), Silence],
        &["option ldap-check"],
        "",
    ),
    (
        "ldap_no",
        &[Hear, Send(b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x02\x04\0\x04\0"), Silence],
        &["option ldap-check"],
        "",
    ),
    (
        "http",
        &[Hear, Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), Silence],
        &["option httpchk"],
        "",
    ),
    (
        "http_body",
        &[Hear, Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), Silence],
        &["option httpchk GET /x", "http-check expect string bye"],
        "",
    ),
    (
        "http_busy",
        &[Hear, Send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), Silence],
        &["option httpchk"],
        "",
    ),
    (
        "http_404",
        &[Hear, Send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), Silence],
        &["option httpchk", "http-check disable-on-404"],
        "",
    ),
    ("http_nonsense", &[Hear, Send(b"garbage\r\n\r\n"), Silence], &["option httpchk"], ""),
    (
        "proxy_header",
        &[Hear, Send(b"FOO\r\n"), Silence],
        &["option tcp-check", "tcp-check send x", "tcp-check expect string FOO"],
        "check-send-proxy",
    ),
    ("tls_no", &[Hear, Send(b"this is not TLS, is it\r\n"), Silence], &[], "check-ssl verify none"),
];

fn serve(acts: &'static [Act]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || act(stream, acts));
        }
    });
    port
}

/// A client that has gone ends it; that is no failure of the test.
fn act(mut stream: TcpStream, acts: &[Act]) {
    let mut bytes = [0; 4096];
    for act in acts {
        let gone = match act {
            Send(bytes) => stream.write_all(bytes).is_err(),
            Hear => stream.read(&mut bytes).map_or(true, |length| length == 0),
            Close => {
                let _ = stream.shutdown(Shutdown::Write);
                false
            }
            Silence => false,
        };
        if gone {
            return;
        }
    }
    while stream.read(&mut bytes).is_ok_and(|length| length > 0) {}
}

fn configuration() -> String {
    let mut text = String::from(
        "global\n log stdout format raw daemon\n stats socket \"${SOCKET}\"\ndefaults\n mode tcp\n log global\n option log-health-checks\n \
         timeout connect 2s\n timeout check 1500ms\n timeout client 5s\n timeout server 5s\n \
         default-server check inter 5s fall 1 rise 1\n",
    );
    for (name, acts, lines, words) in CASES {
        let _ = writeln!(text, "backend {name}");
        for line in *lines {
            let _ = writeln!(text, " {line}");
        }
        let _ = writeln!(text, " server s 127.0.0.1:{} {words}", serve(acts));
    }
    // Nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _ = writeln!(
        text,
        "backend closed\n server s {closed}\nbackend script_closed\n option tcp-check\n server s {closed}"
    );
    text
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, arguments: &[&str], config: &Path, log: &Path) -> Killed {
    let socket = log.with_extension("sock");
    let errors = std::fs::File::create(log.with_extension("err")).unwrap();
    let log = std::fs::File::create(log).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).arg("-f").arg(config).stdin(Stdio::null()).stdout(log).stderr(errors);
    // haproxy does not start without anything to listen on.
    Killed(command.env("SOCKET", socket).spawn().unwrap())
}

/// The first line about each server's check, without the time it took.
fn first_lines(log: &Path) -> BTreeSet<String> {
    let bytes = std::fs::read(log).unwrap();
    let mut seen = BTreeSet::new();
    let mut lines = BTreeSet::new();
    for line in String::from_utf8_lossy(&bytes).lines().filter(|line| line.starts_with("Health check for")) {
        let server = line.split(' ').find(|word| word.ends_with("/s")).unwrap_or_default().to_owned();
        if seen.insert(server) {
            let (head, rest) = line.split_once("check duration: ").unwrap();
            lines.insert(format!("{head}{}", rest.split_once("ms, ").unwrap().1));
        }
    }
    lines
}

#[test]
fn checks_of_every_kind_say_what_haproxy_says() {
    if Command::new("haproxy").arg("-v").output().is_err() {
        println!("skipped: haproxy is not installed");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("checks.cfg");
    std::fs::write(&config, configuration()).unwrap();
    let (ours, theirs) = (directory.path().join("ours.log"), directory.path().join("theirs.log"));
    let _running = [
        start(env!("CARGO_BIN_EXE_proxy"), &[], &config, &ours),
        start("haproxy", &["-db"], &config, &theirs),
    ];
    let begin = Instant::now();
    let whole = CASES.len() + 2;
    while first_lines(&ours).len() < whole || first_lines(&theirs).len() < whole {
        let found = (first_lines(&ours).len(), first_lines(&theirs).len());
        let said = || std::fs::read_to_string(theirs.with_extension("err")).unwrap_or_default();
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "only {found:?} of {whole} servers were checked: {}",
            said()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let (ours, theirs) = (first_lines(&ours), first_lines(&theirs));
    let only =
        |one: &BTreeSet<String>, other: &BTreeSet<String>| one.difference(other).cloned().collect::<Vec<_>>();
    assert_eq!(only(&ours, &theirs), only(&theirs, &ours));
    println!("{} checks told as haproxy tells them", ours.len());
}
