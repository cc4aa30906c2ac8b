//! What `-c` and the command line say about odd configurations, called as haproxy, beside a real HAProxy.

use harness::programs;
use harness::ready;
use harness::scratch::Scratch;
use std::path::Path;
use std::process::Command;

const NEEDS: &[harness::Needs] = &[harness::PEERS];

const HEAD: &str = "defaults\n mode tcp\n timeout client 1h\n timeout server 1h\n timeout connect 1s\n";

/// Lines of a section after `bind 127.0.0.1:7001`, or whole files.
const FILES: &[&str] = &[
    "global\n maxconn 10\n",
    "@backend b\n server a 127.0.0.1:1\n",
    "@frontend f\n default_backend b\nbackend b\n server a 127.0.0.1:1\n",
    "@listen l\n bind 127.0.0.1:7001\n bind 127.0.0.1:7001\n server a 127.0.0.1:1\n",
    "@listen l\n bind 127.0.0.1:7001\nlisten m\n bind 127.0.0.1:7001\n",
    "@listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:1 id 3\n server b 127.0.0.1:1 id 3\n",
    "@listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:1\n server b 127.0.0.1:1 id 1\n",
    "@listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:+70000\n",
    "@listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:-70000\n",
    "@listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:70000\n",
    "@listen l\n bind 127.0.0.1:70000\n server a 127.0.0.1:5\n",
    "@listen l\n bind 127.0.0.1:10001-20000\n",
    "@listen l\n bind 127.0.0.1:7001\n retries 100000\n",
    "@listen l\n bind 127.0.0.1:7001\n retries -1\n",
    "@listen l\n bind 127.0.0.1:7001\n retries 3x\n",
    "global\n maxconn 4000000000\n@listen l\n bind 127.0.0.1:7001\n",
    "global\n maxconn 99999999999\n@listen l\n bind 127.0.0.1:7001\n",
    "@listen l\n bind 127.0.0.1:7001\n maxconn 4000000000\n",
    "@listen l\n bind 127.0.0.1:7001\n maxconn -5\n",
    "@listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:5 maxqueue -1\n",
    "@listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:5 maxconn -1 maxqueue 99999999999\n",
    "@listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:5 maxconn x\n",
    "@listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:5 weight -1\n",
    "@listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:5 rise 0\n",
    "@listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:5 fall -3\n",
    "@listen l\n bind 127.0.0.1:7001\n option external-check\n",
    "global\n external-check\n@listen l\n bind 127.0.0.1:7001\n option external-check\n",
    "global\n external-check\n insecure-fork-wanted\n@listen l\n bind 127.0.0.1:7001\n option external-check\n \
     external-check command /bin/true\n",
    "@listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:5\n use-server a if { req.ssl_sni -i x }\n",
    "@listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:5\n use-server nosuch if TRUE\n",
    "@listen l\n bind 127.0.0.1:7001\n tcp-request inspect-delay 5s\n tcp-request content reject if { req_ssl_sni -m end .x }\n",
    "@listen l\n bind 127.0.0.1:7001\n tcp-request content reject unless { req_ssl_hello_type 1 }\n",
    "@listen l\n bind 127.0.0.1:7001\n tcp-request content accept if WAIT_END\n tcp-request content accept if REQ_CONTENT\n",
    "@listen l\n bind 127.0.0.1:7001\n acl x req.ssl_sni,lower -m str a\n acl z req.ssl_sni -m len 5\n acl w req.len gt 3\n",
    "@listen l\n bind 127.0.0.1:7001 defer-accept tfo\n rate-limit sessions 5\n option socket-stats\n",
    "@listen l\n bind 127.0.0.1:7001 namespace no-such-namespace\n",
];

/// Exit code, and what standard output says in the end.
fn verdict(program: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn odd_configurations_get_haproxys_verdict() {
    if !ready("verdicts beside haproxy", NEEDS) {
        return;
    }
    let scratch = Scratch::new("proxy-verdicts").unwrap();
    let ours = scratch.path().join("haproxy");
    std::os::unix::fs::symlink(programs::folder().join("proxy"), &ours).unwrap();
    let theirs = Path::new("haproxy");
    let file = scratch.path().join("t.cfg");
    let path = file.display().to_string();
    for text in FILES {
        std::fs::write(&file, text.replace('@', HEAD)).unwrap();
        let check = ["-c", "-f", path.as_str()];
        assert_eq!(verdict(&ours, &check), verdict(theirs, &check), "{text}");
    }
    let valid = format!("{HEAD}listen l\n bind 127.0.0.1:7001\n server a 127.0.0.1:5\n");
    std::fs::write(&file, valid).unwrap();
    for number in ["0", "-1", "abc", "5x", "99999999999"] {
        let check = ["-c", "-f", path.as_str(), "-n", number];
        assert_eq!(verdict(&ours, &check), verdict(theirs, &check), "-n {number}");
    }
    // Usage goes to standard output there and to standard error here; what scripts see is the number.
    for arguments in
        [&["--nonsense"][..], &["-f"], &["-c", "-f", "/no/such/file"], &["-c", "-C", "/no/such", "-f", "x"]]
    {
        assert_eq!(verdict(&ours, arguments).0, verdict(theirs, arguments).0, "{arguments:?}");
    }
    scratch.passed();
}
