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
        (4, 13, "odd-number"),
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
    for line in [
        "server a 10.0.0.1:1 socks4 10.0.0.2:1080",
        "bind :2 accept-netscaler-cip 1",
        "dispatch 10.0.0.1:1",
        "balance uri",
        "balance hash hdr(x)",
        "tcp-request content use-service lua.x",
        "tcp-request content reject unless { req_proto_http }",
        "use_backend x if { req.payload(0,4) -m bin 00 }",
        "server a 10.0.0.1:1 source 0.0.0.0 usesrc hdr_ip(x)",
    ] {
        let codes: Vec<_> = read(&format!("{head} {line}\n"))
            .1
            .iter()
            .filter(|remark| remark.severity == daemon::diagnostic::Severity::Error)
            .map(|remark| (remark.line, remark.code))
            .collect();
        assert!(matches!(codes[..], [(6, "not-supported" | "wrong-value")]), "{line}: {codes:?}");
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
        ("tcp-request content track-sc0 src", "not-used"),
        ("use_backend c if office", "unknown-backend"),
        ("acl x src 10.0.0.0/99", "wrong-value"),
        ("acl x src -f /nonexistent", "unreadable"),
        ("acl x sorce 10.0.0.1", "unknown-word"),
        ("tcp-request content reject if { req.len 5 }", "no-inspect-delay"),
    ] {
        let (_, remarks) =
            read(&text.replace("    default_backend a\n", &format!("    {line}\n    default_backend a\n")));
        let codes: Vec<_> = remarks.iter().map(|remark| remark.code).collect();
        assert_eq!(codes, [code], "{line}: {remarks}");
    }
}

#[test]
fn a_section_in_mode_http_is_relayed_whole_unless_http_decides() {
    let (config, remarks) = read(
        "listen web\n bind :80\n mode http\n option forwardfor\n option httplog\n http-request set-header a b\n server a 10.0.0.1:80\n",
    );
    assert!(!remarks.has_errors(), "{remarks}");
    let codes: Vec<_> = remarks.iter().map(|remark| (remark.line, remark.code)).collect();
    assert_eq!(
        codes,
        [(1, "http-as-tcp"), (1, "no-timeout"), (4, "http-only"), (5, "http-only"), (6, "http-only")]
    );
    let settings = &config.proxies[0].settings;
    assert_eq!((settings.mode, settings.tcplog, settings.httplog), (Mode::Tcp, true, false));
    for line in [
        "http-request deny if { src 10.0.0.1 }",
        "http-request auth",
        "redirect scheme https",
        "use_backend x if { path /x }",
        "balance url_param a",
    ] {
        let (_, remarks) =
            read(&format!("listen web\n bind :80\n mode http\n {line}\n server a 10.0.0.1:80\n"));
        assert!(
            remarks.iter().any(|remark| (remark.line, remark.code) == (4, "not-supported")),
            "{line}: {remarks}"
        );
    }
    let (config, remarks) = read(
        "listen s\n bind :81\n mode http\n stats enable\n stats uri /x\n stats admin if TRUE\n http-request use-service prometheus-exporter if { path /metrics }\n",
    );
    assert!(remarks.is_empty(), "{remarks}");
    let stats = &config.proxies[0].settings.stats;
    assert_eq!((&stats.admin, stats.prometheus), (&StatsAdmin::Always, true));
    // Leaving this out would open the page.
    let (_, remarks) = read(
        "listen s\n bind :81\n mode http\n stats enable\n http-request deny unless { src 10.0.0.0/8 }\n",
    );
    assert!(remarks.has_errors());
    assert!(read("frontend f\n bind :80\n mode http\n").1.has_errors());
}

#[test]
fn words_of_http_in_defaults_are_remarked_on_once() {
    let text = "defaults\n mode http\n option forwardfor\n option http-server-close\n timeout client 1h\n timeout server 1h\n timeout connect 1s\n\
         listen a\n bind :1\n mode tcp\nlisten b\n bind :2\n mode tcp\nlisten c\n bind :3\n stats enable\n";
    assert_eq!(places(text), [(3, 9, "http-only")]);
}

#[test]
fn the_page_of_a_backend_is_served_by_its_frontend() {
    let text = "defaults\n mode http\nfrontend f\n bind :81\n default_backend s\nbackend s\n stats enable\n stats uri /x\n";
    let (config, remarks) = read(text);
    assert!(!remarks.has_errors(), "{remarks}");
    assert_eq!(
        (config.proxies[0].settings.stats.uri.as_str(), config.proxies[0].settings.mode),
        ("/x", Mode::Http)
    );
}

#[test]
fn servers_get_free_numbers_and_no_number_twice() {
    let section = "listen a\n bind :1\n mode tcp\n server x 10.0.0.1:1\n server y 10.0.0.1:1 id 1\n server z 10.0.0.1:1 id 5\n";
    let (config, _) = read(&format!("{section} server u 10.0.0.1:1\n"));
    let numbers: Vec<_> = config.proxies[0].servers.iter().map(|server| server.id).collect();
    // As haproxy 2.6.12 numbers them.
    assert_eq!(numbers, [2, 1, 5, 6]);
    let (_, remarks) = read(&format!("{section} server v 10.0.0.1:1 id 5\n"));
    assert!(remarks.iter().any(|remark| remark.code == "id-twice" && remark.line == 7), "{remarks}");
}

#[test]
fn odd_numbers_are_read_as_haproxy_reads_them() {
    let text = "defaults\n mode tcp\n timeout client 1h\n timeout server 1h\n timeout connect 1s\nlisten a\n bind :1\n bind :1\n retries 100000\n maxconn -5\n\
        fullconn 3x\n server x 10.0.0.1:+70000 maxqueue -1 maxconn 99999999999\n bind :2001-9000\n";
    let (config, remarks) = read(text);
    assert!(!remarks.has_errors(), "{remarks}");
    let proxy = &config.proxies[0];
    let settings = &proxy.settings;
    assert_eq!((settings.retries, settings.maxconn, settings.fullconn), (100_000, None, Some(3)));
    assert_eq!((proxy.binds.len(), proxy.servers[0].options.maxqueue), (7002, None));
    assert_eq!(proxy.servers[0].options.maxconn, Some(100_000_000));
    let said: Vec<_> = remarks.iter().map(|remark| (remark.line, remark.code)).collect();
    let odd = |line| (line, "odd-number");
    assert_eq!(said, [(8, "address-twice"), odd(10), odd(11), odd(12), odd(12)]);
}

#[test]
fn a_template_is_looked_up_once_and_only_when_that_is_wanted() {
    let of = |more: &str| {
        let text =
            format!("listen a\n bind :1\n mode tcp\n server-template s 50 no-such-host.invalid:1 {more}\n");
        validate::unresolved_names(&read(&text).0).iter().count()
    };
    assert_eq!(of(""), 1);
    assert_eq!(of("init-addr none"), 0);
    assert_eq!(of("init-addr last,libc,none"), 0);
    assert_eq!(of("init-addr 10.0.0.1"), 0);
}

#[test]
fn tests_of_contents_are_read_and_written() {
    let section = "listen a\n bind :1\n mode tcp\n tcp-request inspect-delay 5s\n";
    let (config, remarks) = read(&format!(
        "{section} acl x req_ssl_sni,lower -i -m end .b .c\n acl y req.ssl_sni -m reg ^a\\.b$\n \
         tcp-request content reject if {{ req_ssl_hello_type 1 }} x !y || WAIT_END REQ_CONTENT {{ ssl_fc_sni_end .z }} {{ ssl_fc }}\n"
    ));
    assert!(!remarks.has_errors(), "{remarks}");
    let proxy = &config.proxies[0];
    assert_eq!(proxy.inspect_delay, Some(Duration::from_secs(5)));
    assert!(proxy.looks_at_content());
    let shown: Vec<_> = proxy.acls.iter().map(|acl| crate::config::show::test(&acl.tests[0])).collect();
    assert_eq!(shown, ["req.ssl_sni,lower -i -m end -- .b .c", "req.ssl_sni -m reg -- '^a\\.b$'"]);
    for (test, code) in [
        ("req.ssl_sni -m xyz a", "not-supported"),
        ("req.ssl_sni -m reg (", "wrong-value"),
        ("req.ssl_sni", "never-holds"),
    ] {
        let (_, remarks) = read(&format!("{section} acl x {test}\n"));
        assert!(remarks.iter().any(|remark| remark.code == code && remark.line == 5), "{test}: {remarks}");
    }
}

#[test]
fn servers_that_track_in_a_circle_are_found() {
    let head = "defaults\n mode tcp\n timeout client 1h\n timeout server 1h\n timeout connect 1s\n";
    let text = format!(
        "{head}listen a\n bind :1\n server x 10.0.0.1:1 track b/y\n server z 10.0.0.1:1 track x\n\
         listen b\n bind :2\n server y 10.0.0.1:1 track a/x\n server c 10.0.0.1:1 check\n server d 10.0.0.1:1 track c\n"
    );
    let found: Vec<_> =
        places(&text).into_iter().filter(|place| place.2 == "track").map(|place| place.0).collect();
    assert_eq!(found, [8, 9, 12]);
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

#[test]
fn conditions_choose_what_is_read() {
    let numbers = |text: &str| {
        let (config, remarks) = read(&format!("global\n setenv A yes\n{text}listen l\n bind :1\n"));
        let errors: Vec<_> = remarks
            .iter()
            .filter(|remark| remark.severity == daemon::diagnostic::Severity::Error)
            .map(|remark| (remark.line, remark.message.clone()))
            .collect();
        (config.global.maxconn, errors)
    };
    for (condition, expected) in [
        ("1", true),
        ("0", false),
        ("", false),
        ("defined(A)", true),
        ("!defined(A)", false),
        ("defined(NOSUCH_VARIABLE)", false),
        ("streq(\"$A\",yes)", true),
        ("strneq(\"$A\",yes)", false),
        ("version_atleast(2.4) && version_before(2.7-dev1)", true),
        ("version_atleast(2.6.13)", false),
        ("feature(LUA) || feature(SYSTEMD)", true),
        ("!(defined(A) && 0) && 1", true),
    ] {
        let text = format!(".if {condition}\n maxconn 1\n.else\n maxconn 2\n.endif\n");
        assert_eq!(numbers(&text), (Some(if expected { 1 } else { 2 }), Vec::new()), "{condition}");
    }
    let text = ".if 0\n \"unclosed\n .if 1\n maxconn 1\n .else\n maxconn 2\n .endif\n.elif 1\n maxconn 3\n.elif 1\n maxconn 4\n.else\n maxconn 5\n.endif\n";
    assert_eq!(numbers(text), (Some(3), Vec::new()));
    for (text, line) in [
        (".if nonsense\n.endif\n", 3),
        (".if deefined(A)\n.endif\n", 3),
        (".else\n", 3),
        (".endif\n", 3),
        (".if 1\n.else\n.elif 1\n.endif\n", 5),
        (".if 1\n", 3),
        (".alert stop here\n", 3),
        (".if (1\n.endif\n", 3),
    ] {
        let errors = numbers(text).1;
        assert_eq!(errors.iter().map(|error| error.0).collect::<Vec<_>>(), [line], "{text}: {errors:?}");
    }
    assert_eq!(numbers(".if 0\n.alert not read\n.endif\n.notice hello\n").1, []);
}

#[test]
fn variables_can_be_set_by_the_file() {
    let text = "global\n presetenv PORT_OF_TEST 81\n presetenv PORT_OF_TEST 82\n setenv LIST \":1 :2\"\n\
         listen l\n bind \":${PORT_OF_TEST}\"\n bind \":${.LINE}\"\n bind \"${LIST[*]}\"\n";
    let (config, remarks) = read(text);
    let ports: Vec<_> = config.proxies[0].binds.iter().map(|bind| bind.address.port()).collect();
    assert_eq!(ports, [81, 7], "{remarks}");
    assert!(remarks.iter().any(|remark| remark.line == 8 && remark.message.contains(":2")), "{remarks}");
    assert!(
        read("global\n resetenv X\n .if defined(PATH)\n foo\n .endif\n")
            .1
            .iter()
            .all(|remark| remark.line != 4)
    );
}

#[test]
fn everything_a_server_line_can_say_is_read() {
    let text = "\
resolvers dns
    nameserver a 10.0.0.53:53
    nameserver b tcp@10.0.0.54:53
    hold valid 7s
    resolve_retries 5
    timeout retry 2s
    accepted_payload_size 8192
defaults
    timeout client 1h
    timeout server 1h
    timeout connect 1s
listen l
    bind :1
    default-server inter 3s rise 4 no-check
    server a 10.0.0.1:1 check fastinter 1s downinter 5s fall 6 weight 0 maxconn 9 minconn 2 maxqueue 3 slowstart 1m on-marked-down shutdown-sessions on-marked-up shutdown-backup-sessions observe layer4 error-limit 5 on-error mark-down port 99 addr 10.0.0.2
    server b rabbit.example:1 track a send-proxy-v2-ssl-cn proxy-v2-options crc32c,unique-id init-addr last,libc,10.0.0.9,none resolvers dns resolve-prefer ipv4 resolve-opts allow-dup-ip,ignore-weight resolve-net 10.0.0.0/8
    server c 10.0.0.3:1 agent-check agent-port 7 agent-addr 10.0.0.4 agent-inter 2s agent-send \"hello\\n\" source 10.0.0.5:1000-2000 interface lo tfo id 77 disabled
    server-template t 2-3 10.0.0.6:1 backup cookie x
";
    let (config, remarks) = read(text);
    let unexpected: Vec<_> = remarks
        .iter()
        .filter(|remark| !matches!(remark.code, "no-effect-yet" | "not-supported" | "no-address"))
        .map(|remark| (remark.line, remark.code))
        .collect();
    assert_eq!(unexpected, [(17, "not-used"), (18, "http-only")], "{remarks}");
    let servers = &config.proxies[0].servers;
    let names: Vec<_> = servers.iter().map(|server| (server.name.as_str(), server.id)).collect();
    assert_eq!(names, [("a", 1), ("b", 2), ("c", 77), ("t2", 4), ("t3", 5)]);
    let a = &servers[0].options;
    assert_eq!((a.inter.as_secs(), a.rise, a.fall, a.weight, a.error_limit), (3, 4, 6, 0, 5));
    assert_eq!((a.maxconn, a.minconn, a.maxqueue, a.check_port), (Some(9), Some(2), Some(3), Some(99)));
    assert!(a.on_marked_down_shutdown_sessions && a.on_marked_up_shutdown_backup_sessions);
    let b = &servers[1].options;
    assert_eq!(b.proxy_v2_options.names(), ["ssl", "cert-cn", "crc32c", "unique-id"]);
    assert_eq!((b.init_addr.len(), b.resolve_allow_dup_ip, b.resolve_net.len()), (4, true, 1));
    let c = &servers[2].options;
    assert_eq!((c.agent.port, c.agent.send.as_deref(), c.disabled), (Some(7), Some("hello\n"), true));
    assert_eq!(c.source.as_ref().unwrap().last_port, Some(2000));
    assert!(servers[3].options.backup && servers[3].template.as_ref().unwrap().high == 3);
    let dns = &config.resolvers[0];
    assert_eq!((dns.nameservers.len(), dns.nameservers[1].tcp, dns.resolve_retries), (2, true, 5));
    assert_eq!(
        (dns.hold.valid.as_secs(), dns.timeout_retry.as_secs(), dns.accepted_payload_size),
        (7, 2, 8192)
    );
}

#[test]
fn mistakes_of_server_lines_are_where_haproxy_has_them() {
    let head = "listen l\n bind :1\n timeout client 1h\n timeout server 1h\n timeout connect 1s\n";
    for (line, code) in [
        ("server a 10.0.0.1:1 check inter 0", "wrong-time"),
        ("server a 10.0.0.1:1 weight 300", "wrong-value"),
        ("server a 10.0.0.1:1 rise 0", "wrong-value"),
        ("server a 10.0.0.1:1 on-marked-down foo", "unknown-word"),
        ("server a 10.0.0.1:1 init-addr foo", "wrong-value"),
        ("server a 10.0.0.1:1 error-limit 0", "wrong-value"),
        ("server a 10.0.0.1:1 track x", "unknown-name"),
        ("server a 10.0.0.1:1 track a", "track"),
        ("server a 10.0.0.1:1 check track a", "track"),
        ("server a 10.0.0.1:1 resolvers nosuch", "unknown-name"),
        ("server a 10.0.0.1:1 agent-check", "no-agent-port"),
        ("server-template a 3-1 10.0.0.1:1", "wrong-value"),
        ("server-template a 0 10.0.0.1:1", "wrong-value"),
        ("server-template a 99999999 10.0.0.1:1", "wrong-value"),
        ("server a/b 10.0.0.1:1", "wrong-name"),
        ("hash-balance-factor 5", "wrong-value"),
        ("balance random(0)", "unknown-word"),
        ("use-server nosuch if TRUE", "unknown-name"),
        ("tcp-check connect linger foo", "unknown-word"),
        ("tcp-check expect string", "missing-value"),
        ("tcp-check expect rstring (", "wrong-value"),
        ("tcp-check send-binary abc", "wrong-value"),
        ("http-check expect status x", "wrong-value"),
        ("option pgsql-check", "missing-value"),
        ("option rebalance 5/x", "wrong-value"),
        ("bind unix@/x mode 999", "wrong-value"),
        ("source foo", "wrong-address"),
    ] {
        let found: Vec<_> = read(&format!("{head} {line}\n"))
            .1
            .iter()
            .filter(|remark| remark.severity == daemon::diagnostic::Severity::Error)
            .map(|remark| (remark.line, remark.code))
            .filter(|place| place.1 != "not-supported")
            .collect();
        assert_eq!(found, [(6, code)], "{line}");
    }
}

#[test]
fn scripts_of_checks_are_read() {
    use crate::config::checks::{CheckRule, ExpectPattern};
    let text = "\
listen l
    bind :1
    option tcp-check
    tcp-check comment one
    tcp-check connect port 99 ssl send-proxy linger sni a.example comment two
    tcp-check send PING\\r\\n
    tcp-check send-binary 0aFF comment three
    tcp-check expect min-recv 5 ok-status L7OKC on-error oops ! string +PONG
    tcp-check expect !rbinary ^0a
    option httpchk HEAD /x HTTP/1.1\\r\\nHost:\\ h
    http-check send meth PUT hdr a b body c
    http-check expect ! status 500-599
    http-check disable-on-404
    option mysql-check user u pre-41
    option smtpchk EHLO d
";
    let (config, remarks) = read(text);
    let errors: Vec<_> =
        remarks.iter().filter(|remark| remark.severity == daemon::diagnostic::Severity::Error).collect();
    assert!(errors.is_empty(), "{remarks}");
    let checks = &config.proxies[0].settings.checks;
    let [
        CheckRule::Comment(_),
        CheckRule::Connect(connect),
        CheckRule::Send { data, .. },
        CheckRule::Send { data: binary, comment },
        CheckRule::Expect(first),
        CheckRule::Expect(second),
    ] = &checks.tcp_rules[..]
    else {
        panic!("{checks:?}")
    };
    assert_eq!((connect.port, connect.ssl, connect.send_proxy, connect.linger), (Some(99), true, true, true));
    assert_eq!(
        (data.as_slice(), binary.as_slice(), comment.as_deref()),
        (&b"PING\r\n"[..], &[10, 255][..], Some("three"))
    );
    assert_eq!(
        (first.negated, first.min_recv, &first.pattern),
        (true, Some(5), &ExpectPattern::Bytes(b"+PONG".to_vec()))
    );
    assert_eq!((second.negated, &second.pattern), (true, &ExpectPattern::BinaryRegex("^0a".to_owned())));
    let http = &checks.http;
    assert_eq!((http.request.method.as_deref(), http.request.headers.len()), (Some("HEAD"), 1));
    assert_eq!((http.rules.len(), http.disable_on_404), (2, true));
    assert_eq!((checks.mysql.user.as_deref(), checks.mysql.pre_41), (Some("u"), true));
    assert_eq!((checks.smtp.hello.as_str(), checks.smtp.domain.as_str()), ("EHLO", "d"));
    assert_eq!(config.proxies[0].settings.check, crate::config::CheckKind::Smtp, "the last one holds");
}

#[test]
fn rules_of_checks_need_their_option() {
    let text = "backend b\n timeout server 1h\n timeout connect 1s\n tcp-check expect string x\n http-check expect status 200\n";
    let codes: Vec<_> = places(text).into_iter().map(|place| (place.0, place.2)).collect();
    assert_eq!(codes, [(1, "rules-not-used"), (1, "rules-not-used")]);
    assert_eq!(places(&format!("{text} option tcp-check\n")).len(), 1);
}

#[test]
fn sections_that_are_not_carried_out_are_read_for_mistakes() {
    let text = "peers p\n peer a 10.0.0.1:1\n per b\nmailers m\n mailer a 10.0.0.1:25\ncache c\n max-age 4\n maxage 4\n\
         ring r\n size 4\nprogram p\n command x\nuserlist u\n user a insecure-password b groups g\n usr c\n\
         listen l\n bind :1\n";
    let errors: Vec<_> = read(text)
        .1
        .iter()
        .filter(|remark| remark.severity == daemon::diagnostic::Severity::Error)
        .map(|remark| remark.line)
        .collect();
    assert_eq!(errors, [3, 8, 15]);
    let used: Vec<_> =
        places(text).into_iter().filter(|place| place.2 == "section-not-used").map(|place| place.0).collect();
    assert_eq!(used, [1, 4, 6, 9, 11]);
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
