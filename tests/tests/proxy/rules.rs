//! Rules that choose a server or turn clients away by what they send, limits and rows, beside a real HAProxy.

use super::beside::{Beside, Which};
use harness::ready;
use std::io::{Read, Write};
use std::time::Duration;
use xtask::lab::wait::until_true;

const NEEDS: &[harness::Needs] = &[harness::PEERS];
const BOTH: [Which; 2] = [Which::Ours, Which::Haproxy];
const PATIENCE: Duration = Duration::from_secs(10);

const CONFIG: &str = "
global
    stats socket @DIR/admin.sock level admin
    maxconn 1000
defaults
    mode tcp
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    timeout queue 30s
listen names
    bind 127.0.0.1:@PORT0 name one
    option socket-stats
    tcp-request inspect-delay 300ms
    tcp-request content accept if { req.ssl_hello_type 1 }
    tcp-request content reject if { req.len gt 0 }
    use-server b if { req.ssl_sni -i b.example }
    use-server c if { req_ssl_sni -m end .c.example } || { req.ssl_sni -m reg ^c[0-9]+$ }
    use-server d if { req.ssl_sni d.example }
    server a 127.0.0.1:@ECHO
    server b 127.0.0.1:@ECHO weight 0
    server c 127.0.0.1:@ECHO weight 0
    server d 127.0.0.1:@ECHO weight 0 disabled
listen limited
    bind 127.0.0.1:@PORT1
    option socket-stats
    server e 127.0.0.1:@ECHO maxconn 2
";

/// A TLS client hello with this name, as short as one may be.
fn hello(name: &str) -> Vec<u8> {
    let block = |size: usize, content: &[u8]| {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&length[4 - size..], content].concat()
    };
    let host = [&[0][..], &block(2, name.as_bytes())].concat();
    let name = [&[0, 0][..], &block(2, &block(2, &host))].concat();
    let groups = [&[0, 10][..], &block(2, &block(2, &[0, 29]))].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &block(1, &[]),
        &block(2, &[0x13, 1, 0xc0, 0x2f]),
        &block(1, &[0]),
        &block(2, &[name, groups].concat()),
    ]
    .concat();
    let message = [&[1][..], &block(3, &body)].concat();
    [&[22, 3, 1][..], &block(2, &message)].concat()
}

/// One column of a line of `show stat`.
fn column(beside: &Beside, which: Which, row: &str, name: &str) -> String {
    let table = beside.ask(which, "admin.sock", "show stat").unwrap();
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().unwrap().trim_start_matches("# ").split(',').collect();
    let at = names.iter().position(|it| *it == name).unwrap();
    let line = lines.find(|line| line.starts_with(&format!("{row},"))).unwrap_or_default();
    line.split(',').nth(at).unwrap_or("no such line").to_owned()
}

#[test]
fn clients_go_where_the_name_in_their_hello_says() {
    if !ready("rules beside haproxy", NEEDS) {
        return;
    }
    let beside = Beside::start("proxy-rules", CONFIG).unwrap();
    // (what is sent, the server that gets it; none: it is turned away)
    let cases: Vec<(Vec<u8>, Option<&str>)> = vec![
        (hello("a.example"), Some("a")),
        (hello("b.example"), Some("b")),
        (hello("B.EXAMPLE"), Some("b")),
        (hello("x.c.example"), Some("c")),
        (hello("c77"), Some("c")),
        (hello("c77x"), Some("a")),
        // In maintenance: the next rule, or balancing.
        (hello("d.example"), Some("a")),
        (b"AMQP\0\0\x09\x01".to_vec(), None),
        // Nothing at all: let in when the delay is over, as no rule turns it away.
        (Vec::new(), Some("a")),
    ];
    for which in BOTH {
        // Those who waited for it to listen are gone.
        until_true(PATIENCE, "quiet", || column(&beside, which, "names,FRONTEND", "scur") == "0").unwrap();
        for (bytes, server) in &cases {
            let total = |server: &str| column(&beside, which, &format!("names,{server}"), "stot");
            let before: Vec<String> = ["a", "b", "c", "d"].map(total).into();
            let mut stream = beside.connect(which, 0).unwrap();
            stream.write_all(bytes).unwrap();
            if server.is_some() {
                let mut echo = vec![0; bytes.len()];
                stream.read_exact(&mut echo).unwrap();
                assert_eq!(&echo, bytes, "{which:?}");
            } else {
                assert!(!matches!(stream.read(&mut [0; 1]), Ok(1)), "{which:?}: {bytes:?}");
            }
            let wanted: Vec<String> = ["a", "b", "c", "d"]
                .iter()
                .zip(&before)
                .map(|(name, before)| {
                    let count: u32 = before.parse().unwrap();
                    (count + u32::from(*server == Some(*name))).to_string()
                })
                .collect();
            until_true(PATIENCE, &format!("{which:?}: {bytes:?} to come to {server:?}"), || {
                ["a", "b", "c", "d"].map(total).to_vec() == wanted
            })
            .unwrap();
        }
    }
    // What was turned away, and the rows of the addresses.
    for row in ["names,FRONTEND", "names,one", "limited,sock-1"] {
        let all =
            |which| ["dreq", "status", "type", "slim", "sid"].map(|name| column(&beside, which, row, name));
        assert_eq!(all(Which::Ours), all(Which::Haproxy), "{row}");
    }
    beside.passed();
}

#[test]
fn clients_wait_for_a_full_server_as_with_haproxy() {
    if !ready("queue beside haproxy", NEEDS) {
        return;
    }
    let beside = Beside::start("proxy-queue", CONFIG).unwrap();
    let mut seen = Vec::new();
    for which in BOTH {
        let value = |row: &str, name: &str| column(&beside, which, row, name);
        let mut clients = Vec::new();
        let mut record = Vec::new();
        for count in 1..=5 {
            let mut stream = beside.connect(which, 1).unwrap();
            stream.write_all(b"x").unwrap();
            if count <= 2 {
                stream.read_exact(&mut [0; 1]).unwrap();
            }
            clients.push(stream);
            let waiting = (count - 2i32).max(0).to_string();
            let all = || {
                let server: u32 = value("limited,e", "qcur").parse().unwrap();
                let backend: u32 = value("limited,BACKEND", "qcur").parse().unwrap();
                (server + backend).to_string()
            };
            // HAProxy's backend counts what waits for its servers too.
            until_true(PATIENCE, &format!("{which:?}: {waiting} to wait"), || {
                value("limited,BACKEND", "qcur") == waiting || all() == waiting
            })
            .unwrap();
        }
        for row in ["limited,e", "limited,BACKEND"] {
            for name in ["scur", "smax", "qcur", "qmax", "slim", "qlimit"] {
                record.push(format!("{row} {name} {}", value(row, name)));
            }
        }
        // In their order: the first of those that wait gets the first place.
        for gone in 0..3 {
            drop(clients.remove(0));
            clients[1].read_exact(&mut [0; 1]).unwrap();
            let left = (2 - gone).to_string();
            until_true(PATIENCE, &format!("{which:?}: {left} to wait"), || {
                value("limited,BACKEND", "qcur") == left || value("limited,e", "qcur") == left
            })
            .unwrap();
        }
        drop(clients);
        until_true(PATIENCE, "all to be gone", || value("limited,e", "scur") == "0").unwrap();
        seen.push(record);
    }
    assert_eq!(seen[0], seen[1]);
    beside.passed();
}
