//! Tests of the haproxy.cfg reader: what is read, what is warned about, what is refused and how.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{Algorithm, Mode, StatsAdmin, validate};

const TUTORIAL: &str = include_str!("../../../../configs/tutorial/haproxy.cfg");

fn read(text: &str) -> (Config, Diagnostics) {
    let mut config = Config::default();
    let mut remarks = Diagnostics::new();
    Reader::default().read(text, "haproxy.cfg", &mut config, &mut remarks);
    validate::validate(&mut config, &mut remarks);
    remarks.sort();
    (config, remarks)
}

/// (line, column, code) of every remark.
fn places(text: &str) -> Vec<(usize, usize, &'static str)> {
    read(text).1.iter().map(|remark| (remark.line, remark.column, remark.code)).collect()
}

#[test]
fn the_tutorials_file_is_read_as_meant() {
    let (config, remarks) = read(TUTORIAL);
    assert!(!remarks.has_errors(), "{remarks}");
    let warned: Vec<_> = remarks.iter().map(|remark| (remark.line, remark.code)).collect();
    assert_eq!(
        warned,
        [
            (8, "two-settings"),
            (11, "set-twice"),
            (12, "set-twice"),
            (34, "short-timeout"),
            (52, "two-settings")
        ]
    );
    let global = &config.global;
    assert_eq!((global.user.as_deref(), global.group.as_deref()), (Some("haproxy"), Some("haproxy")));
    assert_eq!(
        (global.uid, global.gid, global.daemon, global.maxconn),
        (Some(99), Some(99), true, Some(4096))
    );
    let brokers = &config.proxies[0];
    assert_eq!(
        (brokers.name.as_str(), brokers.id, brokers.settings.mode),
        ("rabbitmq_cluster", 1, Mode::Tcp)
    );
    assert_eq!(brokers.binds[0].address.to_string(), "192.168.204.143:5672");
    assert_eq!(brokers.settings.balance, Algorithm::RoundRobin);
    let timeouts = &brokers.settings.timeouts;
    let seconds = |time: Option<Duration>| time.unwrap().as_secs();
    assert_eq!((seconds(timeouts.connect), seconds(timeouts.client), seconds(timeouts.server)), (5, 30, 15));
    assert_eq!((brokers.settings.retries, brokers.settings.maxconn), (3, Some(2000)));
    assert!(brokers.settings.tcplog && brokers.settings.dontlognull && brokers.settings.log_global);
    let shown: Vec<_> =
        brokers.servers.iter().map(|server| format!("{} {}", server.name, server.address)).collect();
    assert_eq!(shown, ["A 192.168.204.141:5672", "B 192.168.204.142:5672"]);
    let options = &brokers.servers[1].options;
    assert_eq!((options.check, options.inter.as_secs(), options.rise, options.fall), (true, 5, 2, 3));
    let monitor = &config.proxies[1];
    assert_eq!(monitor.binds[0].address.port(), 8100);
    let stats = &monitor.settings.stats;
    assert_eq!(
        (stats.enabled, stats.uri.as_str(), stats.refresh),
        (true, "/monitor", Some(Duration::from_secs(5)))
    );
}

#[test]
fn the_other_hosts_file_differs_only_in_its_address() {
    let other = include_str!("../../../../configs/tutorial/haproxy-d.cfg");
    let expected = TUTORIAL.replace("192.168.204.143", "192.168.204.144").replace("host C", "host D");
    assert_eq!(other, expected);
}

#[test]
fn a_typing_mistake_is_shown_with_its_line_and_the_right_word() {
    let (_, remarks) = read("listen l\n    bind :5672\n    balanc roundrobin\n");
    let shown = remarks.iter().find(|remark| remark.code == "unknown-word").unwrap().render(false);
    assert_eq!(
        shown,
        "error[unknown-word]: unknown word in this section `balanc`\n \
         --> haproxy.cfg:3:5\n  \
         |\n\
         3 |     balanc roundrobin\n  \
         |     ^^^^^^ did you mean `balance`?"
    );
}

#[test]
fn all_mistakes_of_a_file_are_reported_at_once() {
    let text = "\
gobal
global
    maxcon 10
    maxconn many
defaults
    mode tpc
    timeout conect 5s
    timeout client 5 s
    option tcplogg
listen a
    bind 5672
    server x 10.0.0.1:5672 chek
    server y 10.0.0.1:99999
    balance
backend a
";
    let expected = [
        (1, 1, "unknown-word"),
        (3, 5, "unknown-word"),
        (4, 13, "wrong-value"),
        (6, 10, "unknown-word"),
        (7, 13, "unknown-word"),
        (8, 22, "unexpected-word"),
        (9, 12, "unknown-word"),
        (10, 8, "no-timeout"),
        (11, 10, "wrong-address"),
        (12, 28, "unknown-word"),
        (13, 14, "wrong-address"),
        (14, 5, "missing-value"),
        (15, 9, "name-twice"),
        (15, 9, "no-timeout"),
    ];
    assert_eq!(places(text), expected);
}

#[test]
fn http_words_in_a_tcp_section_are_warned_about_and_never_silent() {
    let text = "listen l\n bind :1\n mode tcp\n timeout client 1h\n timeout server 1h\n timeout connect 1s\n option forwardfor\n http-request deny\n cookie X insert\n timeout http-request 5s\n";
    let codes = places(text);
    assert_eq!(codes, [(7, 9, "http-only"), (8, 2, "http-only"), (9, 2, "http-only"), (10, 2, "http-only")]);
}

#[test]
fn what_would_change_who_gets_in_is_refused_and_not_left_out() {
    let head = "listen l\n bind :1\n timeout client 1h\n timeout server 1h\n timeout connect 1s\n";
    for line in ["server a 10.0.0.1:1 ssl verify none", "bind :2 ssl crt x.pem", "server-template w 3 h:1"] {
        let found = places(&format!("{head} {line}\n"));
        assert_eq!(found.iter().map(|place| place.2).collect::<Vec<_>>(), ["not-supported"], "{line}");
    }
}

#[test]
fn rules_about_the_clients_address_are_read() {
    let text = "\
frontend f
    bind :1
    timeout client 1h
    acl office src 10.0.0.0/8 192.168.0.0/16
    acl office src 127.0.0.1
    acl odd hdr(host) x
    tcp-request inspect-delay 5s
    tcp-request connection reject if !office
    tcp-request content accept
    use_backend b unless office || { src 9.9.9.9 }
    default_backend a
backend a
    timeout connect 1s
    timeout server 1h
backend b
    timeout connect 1s
    timeout server 1h
";
    let (config, remarks) = read(text);
    assert!(remarks.is_empty(), "{remarks}");
    let front = &config.proxies[0];
    let admitted =
        |ip: &str| crate::config::rules::admits(&front.client_rules, &ip.parse::<IpAddr>().unwrap());
    assert!(admitted("10.1.1.1") && admitted("127.0.0.1") && !admitted("8.8.8.8"));
    let moved = |ip: &str| front.backend_rules[0].condition.holds(&ip.parse::<IpAddr>().unwrap());
    assert!(moved("8.8.8.8") && !moved("9.9.9.9") && !moved("10.0.0.1"));
    for (line, code) in [
        ("tcp-request connection reject if odd", "not-supported"),
        ("tcp-request connection reject if offce", "unknown-name"),
        ("tcp-request connection reject if { src 1.2.3.4", "syntax"),
        ("tcp-request connection reject if", "missing-value"),
        ("tcp-request content track-sc0 src", "not-supported"),
        ("use_backend c if office", "unknown-backend"),
        ("acl x src 10.0.0.0/99", "wrong-address"),
        ("acl x src -f file", "not-supported"),
    ] {
        let (_, remarks) =
            read(&text.replace("    default_backend a\n", &format!("    {line}\n    default_backend a\n")));
        let codes: Vec<_> = remarks.iter().map(|remark| remark.code).collect();
        assert_eq!(codes, [code], "{line}: {remarks}");
    }
}

#[test]
fn a_section_in_mode_http_is_only_for_the_statistics_page() {
    let (_, remarks) = read("listen web\n bind :80\n mode http\n server a 10.0.0.1:80\n");
    assert!(remarks.iter().any(|remark| remark.code == "http-mode"), "{remarks}");
    let (config, remarks) =
        read("listen s\n bind :81\n mode http\n stats enable\n stats uri /x\n stats admin if TRUE\n");
    assert!(!remarks.has_errors(), "{remarks}");
    assert_eq!(config.proxies[0].settings.stats.admin, StatsAdmin::Always);
}

#[test]
fn defaults_are_inherited_by_name_and_by_order() {
    let text = "\
defaults base
    mode tcp
    timeout client 1h
    timeout server 1h
    timeout connect 1s
    balance leastconn
    default-server inter 7s weight 9
defaults other from base
    retries 9
listen a
    bind :1
    server s 10.0.0.1:1 check
    server t 10.0.0.2:1 weight 2
listen b from base
    bind :2
defaults
listen c
    bind :3
";
    let (config, remarks) = read(text);
    assert!(!remarks.has_errors(), "{remarks}");
    let [a, b, c] = &config.proxies[..] else { panic!() };
    assert_eq!((a.settings.retries, a.settings.balance), (9, Algorithm::LeastConn));
    assert_eq!((a.servers[0].options.inter.as_secs(), a.servers[0].options.weight), (7, 9));
    assert_eq!(a.servers[1].options.weight, 2);
    assert_eq!((b.settings.retries, b.settings.balance), (3, Algorithm::LeastConn));
    assert_eq!(c.settings.balance, Algorithm::RoundRobin);
    assert!(read("listen a from nosuch\n").1.has_errors());
}

#[test]
fn old_spellings_are_read_with_a_warning() {
    let (config, remarks) =
        read("listen l 127.0.0.1:7\n clitimeout 50000\n srvtimeout 50s\n contimeout 5000\n");
    assert!(!remarks.has_errors(), "{remarks}");
    assert_eq!(remarks.warning_count(), 4);
    assert_eq!(config.proxies[0].binds[0].address.port(), 7);
    assert_eq!(config.proxies[0].settings.timeouts.client, Some(Duration::from_secs(50)));
}

#[test]
fn an_unknown_backend_names_the_nearest() {
    let text = "frontend f\n bind :1\n timeout client 1h\n default_backend brokrs\nbackend brokers\n timeout server 1h\n timeout connect 1s\n";
    let (_, remarks) = read(text);
    let remark = remarks.iter().find(|remark| remark.code == "unknown-backend").unwrap();
    assert_eq!((remark.line, remark.column, remark.label.as_str()), (4, 18, "did you mean `brokers`?"));
}

#[test]
fn log_receivers_are_read() {
    let sink = parse_log_sink("127.0.0.1:1514 len 8192 format rfc5424 local3 notice err").unwrap();
    assert_eq!((sink.facility, sink.max_level, sink.min_level, sink.length), (19, 5, 3, 8192));
    assert!(parse_log_sink("stdout format raw daemon").is_ok());
    assert!(parse_log_sink("/dev/log local0").is_ok());
    for wrong in [
        "",
        "127.0.0.1",
        "127.0.0.1 locl0",
        "127.0.0.1 local0 info debug extra",
        "stdout format fancy local0",
    ] {
        assert!(parse_log_sink(wrong).is_err(), "{wrong}");
    }
}

/// Words that files are made of, in any order.
fn any_word() -> impl Strategy<Value = String> {
    let known: Vec<&'static str> = [
        vocabulary::SECTIONS,
        vocabulary::GLOBAL,
        vocabulary::PROXY,
        vocabulary::OPTIONS,
        vocabulary::TIMEOUTS,
        vocabulary::STATS,
        vocabulary::SERVER,
        vocabulary::BIND,
        vocabulary::SERVER_VALUE,
        vocabulary::BIND_VALUE,
    ]
    .into_iter()
    .flatten()
    .copied()
    .chain([
        "tcp",
        "http",
        ":5672",
        "10.0.0.1:1",
        "5s",
        "0",
        "99999999999",
        "-1",
        "if",
        "TRUE",
        "a:b",
        "roundrobin",
        "global",
        "stdout",
        "local0",
        "from",
        "x",
    ])
    .collect();
    prop_oneof![9 => proptest::sample::select(known).prop_map(str::to_owned), 1 => "\\PC{0,12}"]
}

proptest! {
    #[test]
    fn no_file_of_known_words_makes_it_panic(
        lines in proptest::collection::vec(proptest::collection::vec(any_word(), 0..7), 0..25)
    ) {
        let text: String = lines.iter().map(|words| words.join(" ") + "\n").collect();
        let (_, remarks) = read(&text);
        prop_assert_eq!(remarks.is_empty(), remarks.render(false).is_empty());
    }

    #[test]
    fn no_text_makes_it_panic(text in "(\\PC|\n){0,300}") {
        let _ = read(&text);
    }
}
