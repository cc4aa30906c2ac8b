//! Tests of the TOML form.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::CheckKind;

fn parse(text: &str) -> Result<Config, Diagnostics> {
    let mut config = Config::default();
    read(text, "proxy.toml", &mut config)?;
    let mut remarks = Diagnostics::new();
    crate::config::validate::validate(&mut config, &mut remarks);
    remarks.into_result(config)
}

#[test]
fn a_few_lines_are_enough() {
    let config = parse(
        "[listen.rabbitmq]\nbind = \":5672\"\ncheck = { kind = \"amqp\", inter = \"5s\" }\n\
         servers.B = \"192.168.204.141:5672\"\nservers.A = { address = \"192.168.204.142:5672\", backup = true, check = false }\n\
         [stats.monitor]\nbind = [\":8100\", \"[::1]:8100\"]\nrefresh = \"5s\"\n",
    )
    .unwrap();
    let [listen, stats] = &config.proxies[..] else { panic!() };
    assert_eq!((listen.id, stats.id, stats.binds.len()), (1, 2, 2));
    let names: Vec<_> = listen.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["B", "A"], "the order of the file is kept");
    assert_eq!(listen.settings.check, CheckKind::Amqp);
    assert!(
        listen.servers[0].options.check
            && !listen.servers[1].options.check
            && listen.servers[1].options.backup
    );
    assert_eq!(listen.servers[0].options.inter, Duration::from_secs(5));
    assert_eq!(listen.settings.timeouts.server, Some(Duration::from_secs(3600)));
    assert_eq!((stats.settings.mode, stats.settings.stats.uri.as_str()), (Mode::Http, "/monitor"));
}

#[test]
fn clients_are_let_in_by_address() {
    let config = parse(
        "[listen.a]\nbind = \":1\"\nservers.s = \"h:1\"\nallow = [\"10.0.0.0/8\"]\ndeny = [\"10.0.0.9\"]\n",
    )
    .unwrap();
    let admitted = |ip: &str| {
        crate::config::rules::admits(&config.proxies[0].client_rules, &ip.parse::<IpAddr>().unwrap())
    };
    assert!(admitted("10.0.0.1") && !admitted("10.0.0.9") && !admitted("11.0.0.1"));
}

#[test]
fn defaults_hold_unless_a_section_says_otherwise() {
    let config = parse(
        "[defaults]\nidle = \"10m\"\nretries = 7\nredispatch = false\nbalance = \"leastconn\"\ncheck = false\n\
         [listen.a]\nbind = \":1\"\nservers.s = \"h:1\"\n\
         [listen.b]\nbind = \":2\"\nretries = 1\nredispatch = 2\ntimeout = { client = \"5m\" }\nservers.s = { address = \"h:1\", check = { inter = \"1s\" } }\n",
    )
    .unwrap();
    let [a, b] = &config.proxies[..] else { panic!() };
    assert_eq!(
        (a.settings.retries, a.settings.redispatch, a.settings.balance),
        (7, None, Algorithm::LeastConn)
    );
    assert_eq!((b.settings.retries, b.settings.redispatch), (1, Some(2)));
    assert_eq!(b.settings.timeouts.client, Some(Duration::from_secs(300)));
    assert_eq!(b.settings.timeouts.server, Some(Duration::from_secs(600)));
    assert!(!a.servers[0].options.check && b.servers[0].options.check);
}

#[test]
fn zero_means_no_limit_and_never_a_busy_loop() {
    let config = parse(
        "[global]\nmaxconn = 0\n[listen.a]\nbind = \":1\"\nmaxconn = 0\nidle = \"0s\"\ntimeout = { tunnel = \"0s\" }\n\
         servers.s = { address = \"h:1\", maxconn = 0, check = { inter = \"0s\", rise = 0 } }\n",
    )
    .unwrap();
    let proxy = &config.proxies[0];
    assert_eq!(
        (config.global.maxconn, proxy.settings.maxconn, proxy.servers[0].options.maxconn),
        (None, None, None)
    );
    assert_eq!((proxy.settings.timeouts.client, proxy.settings.timeouts.tunnel), (None, None));
    let options = &proxy.servers[0].options;
    assert!(!options.inter.is_zero() && options.rise == 1);
    assert!(parse("[stats.m]\nbind = \":1\"\nauth = [\"admin\"]\n").is_err());
}

#[test]
fn mistakes_name_the_key_and_its_place() {
    let errors = parse(
        "[listen.a]\nbnd = \":1\"\nbalance = \"rondrobin\"\nidle = \"5\"\nservers.s = { adress = \"h:1\" }\n[stats.m]\nbind = \"8100\"\n",
    )
    .unwrap_err();
    let found: Vec<_> = errors.iter().map(|error| (error.line, error.code)).collect();
    assert_eq!(
        found,
        [(2, "unknown-key"), (3, "wrong-value"), (4, "wrong-value"), (5, "unknown-key"), (7, "wrong-value")],
        "{errors}"
    );
    let text = errors.to_string();
    for words in
        ["did you mean `bind`?", "has no unit", "did you mean `address`?", "has no port", "not an algorithm"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn the_files_we_ship_are_right_and_the_twins_agree() {
    let tutorial = parse(include_str!("../../../../configs/tutorial/proxy.toml")).unwrap();
    let other = parse(include_str!("../../../../configs/tutorial/proxy-d.toml")).unwrap();
    let minimal = parse(include_str!("../../../../configs/minimal/proxy.toml")).unwrap();
    assert_eq!((other.proxies.len(), minimal.proxies.len()), (2, 2));
    let mut twin = Config::default();
    let mut remarks = Diagnostics::new();
    crate::config::haproxy_cfg::Reader::default().read(
        include_str!("../../../../configs/tutorial/haproxy.cfg"),
        "haproxy.cfg",
        &mut twin,
        &mut remarks,
    );
    for (ours, theirs) in tutorial.proxies.iter().zip(&twin.proxies) {
        assert_eq!((&ours.name, &ours.binds[0].address), (&theirs.name, &theirs.binds[0].address));
        assert_eq!(ours.settings.maxconn.unwrap_or(2000), theirs.settings.maxconn.unwrap());
        for (ours, theirs) in ours.servers.iter().zip(&theirs.servers) {
            assert_eq!(
                (&ours.name, &ours.address, &ours.options),
                (&theirs.name, &theirs.address, &theirs.options)
            );
        }
    }
    assert_eq!(tutorial.global.logs, twin.global.logs);
    assert_eq!(
        (tutorial.global.maxconn, tutorial.global.uid, &tutorial.global.user),
        (twin.global.maxconn, twin.global.uid, &twin.global.user)
    );
}

/// Reads haproxy.cfg, writes it as TOML, reads that, and compares what both mean.
fn twin(text: &str) -> (Config, String) {
    let mut first = Config::default();
    let mut remarks = Diagnostics::new();
    crate::config::haproxy_cfg::Reader::default().read(text, "haproxy.cfg", &mut first, &mut remarks);
    crate::config::validate::validate(&mut first, &mut remarks);
    let written = write(&first, &remarks, "haproxy.cfg");
    let mut second = Config::default();
    let mut again = Diagnostics::new();
    match read(&written, "proxy.toml", &mut second) {
        Ok(found) => again.extend(found),
        Err(found) => panic!("{found}\n{written}"),
    }
    crate::config::validate::validate(&mut second, &mut again);
    let (first, second) = (first.without_places(), second.without_places());
    assert_eq!(first.global, second.global, "{written}");
    for (one, other) in first.proxies.iter().zip(&second.proxies) {
        assert_eq!(one, other, "{written}");
    }
    assert_eq!(first, second, "{written}");
    (first, written)
}

const HEAD: &str = "defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n";

#[test]
fn what_is_migrated_means_the_same() {
    twin(include_str!("../../../../configs/tutorial/haproxy.cfg"));
    for sample in [
        "listen l\n bind :1\n",
        " option tcplog\n option dontlognull\n log global\nlisten l\n bind :1\n bind [::1]:2 v6only interface lo backlog 9 maxconn 7 name x id 3\n",
        " option tcpka\nlisten l\n bind :1,:2\n option redispatch 3\n retries 0\n fullconn 5\n maxconn 6\n backlog 8\n",
        "listen l\n bind unix@/run/x mode 660 user root group root accept-proxy\n bind abns@x\n bind :9 ssl crt /a/b.pem crt /c ca-file /d verify optional alpn h2,x strict-sni ssl-min-ver TLSv1.3 ciphers A:B\n",
        " option clitcpka\n default-server inter 3s fall 7 maxconn 5 slowstart 60s\nlisten l\n bind :1\n server a 10.0.0.1:1 check\n server b h.example:2 maxconn 0 weight 0 backup disabled slowstart 0\n default-server fall 9 on-marked-down shutdown-sessions track c send-proxy\n server c /run/x\n server d abns@x\n",
        "listen l\n bind :1\n server a 10.0.0.1:1 check fastinter 1s downinter 2m rise 4 minconn 3 maxqueue 4 port 5 addr 10.0.0.9 on-marked-up shutdown-backup-sessions observe layer7 error-limit 3 on-error sudden-death agent-check agent-port 5 agent-addr h agent-inter 3s agent-send 'a b\n' check-send-proxy send-proxy-v2 proxy-v2-options crc32c,ssl init-addr none,10.0.0.3 resolve-prefer ipv4 resolve-opts allow-dup-ip resolve-net 10.0.0.0/8,::/0 id 12 tfo tcp-ut 5s namespace n\n server b 10.0.0.1:1\n",
        "listen l\n bind :1\n server a 10.0.0.1:1 ssl verify none sni str(x) check-sni y check-ssl alpn z crt /c ca-file @system-ca verifyhost v no-ssl-reuse force-tlsv13\n server b 10.0.0.1:1 check-ssl verify required sni ssl_fc_sni source 10.0.0.2:1-9 interface lo\n server c 10.0.0.1:1 source :: usesrc clientip\n",
        "resolvers d\n nameserver a 10.0.0.1:53\n nameserver b tcp@[::1]:53\n hold valid 3s\n hold nx 4s\n resolve_retries 9\n timeout retry 5s\n timeout resolve 7s\n accepted_payload_size 999\n parse-resolv-conf\nbackend b\n server-template s 2-5 x.example:1 resolvers d check\n server-template t 1 y.example:1\n server z 10.0.0.1:1\n",
        "backend b\n option tcp-check\n tcp-check comment 'it is'\n tcp-check connect port 5 addr 10.0.0.1 ssl sni x alpn y send-proxy linger default comment z\n tcp-check send 'a \"b\" \\x00'\n tcp-check send-binary 00ff comment c\n tcp-check expect min-recv 4 ok-status L7OKC error-status L4CON tout-status L6TOUT on-success s on-error e comment c ! binary ff00\n tcp-check expect rstring ^+OK\n tcp-check expect rbinary ^00\n server s 10.0.0.1:1 check\n",
        "backend b\n option httpchk HEAD /x HTTP/1.1\\r\\nHost:\\ y\n http-check connect linger\n http-check send meth GET uri / ver HTTP/1.0 hdr a b hdr c 'd e' body 'f g' comment h\n http-check expect ! rstatus ^5\n http-check expect status 200-299,404\n http-check disable-on-404\n http-check send-state\nbackend c\n option httpchk /x\nbackend d\n option httpchk\n http-check expect string ok\n",
        "backend a\n option mysql-check user u pre-41\nbackend b\n option pgsql-check user p\nbackend c\n option redis-check\nbackend d\n option ldap-check\nbackend e\n option smtpchk EHLO x.y\nbackend f\n option ssl-hello-chk\nbackend g\n option external-check\n external-check command /c\n external-check path /p\nbackend h\n option amqp-check\nbackend i\n option mysql-check\n option smtpchk\nbackend j\n option mysql-check user x\n no option mysql-check\n",
        "frontend f\n bind :1\n acl office src 10.0.0.0/8 ::1\n acl office dst 10.0.0.1\n acl busy be_conn(b) gt 5\n acl up nbsrv(b) 1:3 7\n acl never always_false\n acl odd hdr(host) x\n tcp-request connection accept if office !busy or up\n tcp-request connection reject unless { src_port 1024:65535 }\n tcp-request connection expect-proxy layer4 if LOCALHOST\n tcp-request session reject if { dst_port lt 9 }\n tcp-request content reject if never\n use_backend c if office || { queue(b) le 3 }\n use_backend c unless TRUE\n default_backend b\nbackend b\n server s 10.0.0.1:1\n use-server s if { src 10.0.0.0/8 }\nbackend c\n",
        "backend a\n balance random(5)\n hash-type consistent\nbackend b\n balance hash dst_port\n hash-type map-based crc32 avalanche\n hash-balance-factor 150\nbackend c\n balance source\nbackend d\n balance leastconn\n option allbackups\n no option splice-auto\n option prefer-last-server\n option fail-open\n option rebalance 5/m drain\n option logasap\n source 10.0.0.1 usesrc client\n load-server-state-from-file local\n server-state-file-name x\n",
        "listen l\n bind :1\n mode http\n stats enable\n stats uri /x\n stats refresh 7s\n stats auth a:b\n stats auth 'c:d e'\n stats realm 'r s'\n stats hide-version\n stats show-legends\n stats show-node n\n stats show-desc a b\n stats admin if { src 10.0.0.0/8 }\n stats scope .\n http-request use-service prometheus-exporter if { path /metrics }\nlisten m\n bind :2\n mode http\n stats enable\n stats admin if LOCALHOST\n id 77\nlisten n\n bind :3\n",
        "userlist u\n user a insecure-password 'b c' groups g,h\n user d password $5$x\n group g users d\nlisten l\n bind :1\n log 127.0.0.1:514 len 2048 format rfc5424 sample 1-2,4:9 local3 notice err\n log stdout format raw daemon\n log /dev/log local0\n log-tag x\n log-format \"%ci 'x'\"\n rate-limit sessions 9\n clitcpka-cnt 3\n srvtcpka-idle 7s\n description a b\n disabled\n timeout check 3s\n timeout queue 4s\n timeout tunnel 1d\n timeout client-fin 0\n timeout server-fin 9ms\n timeout client 0\n",
        "global\n maxconn 9\n nbthread 2\n no numa-cpu-mapping\n ulimit-n 999\n user root\n group root\n uid 0\n gid 0\n chroot /var/empty\n daemon\n pidfile /run/p\n log stdout format short local0 info\n log-tag t\n log-send-hostname\n node n\n description d e\n localpeer p\n spread-checks 7\n max-spread-checks 9s\n hard-stop-after 3m\n grace 4s\n close-spread-time 5s\n server-state-base /s\n server-state-file f\n ca-base /ca\n crt-base /crt\n stats socket /run/s mode 600 level admin expose-fd listeners\n stats socket 127.0.0.1:9999 level user\n stats timeout 3s\n stats maxconn 4\n maxconnrate 5\n maxsessrate 6\n maxsslconn 7\n maxsslrate 8\n maxpipes 9\n nosplice\n noreuseport\n master-worker\n external-check\n quiet\n zero-warning\n no strict-limits\n tune.bufsize 32768\n tune.maxaccept 5\n tune.rcvbuf.client 6\n ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets\n ssl-default-bind-ciphers A:B\n ssl-default-server-options force-tlsv12\n ssl-server-verify none\n unix-bind prefix /tmp/ mode 600 user root\nlisten l\n bind :1 ssl crt x.pem ca-file y\n server s 10.0.0.1:1 ssl crt z.pem ca-file @system-ca\n",
    ] {
        // The sample's own words come after the timeouts, in `defaults` or in sections.
        let (config, _) = twin(&format!("{HEAD}{sample}"));
        assert!(!config.proxies.is_empty(), "{sample}");
    }
}

#[test]
fn what_all_sections_say_is_said_once() {
    let (_, written) = twin(&format!(
        "{HEAD} retries 9\n balance leastconn\nlisten a\n bind :1\n server s 10.0.0.1:1\nlisten b\n bind :2\n server s 10.0.0.1:1\n"
    ));
    assert_eq!(written.matches("retries = 9").count(), 1, "{written}");
    let defaults = written.split("[defaults]").nth(1).unwrap().split("[listen").next().unwrap();
    assert!(defaults.contains("retries = 9") && defaults.contains("leastconn"), "{written}");
}

#[test]
fn what_could_not_be_taken_over_is_said_at_the_top() {
    let (_, written) =
        twin(&format!("{HEAD}listen a\n bind :1 nice 5\n option forwardfor\n server s 10.0.0.1:1\n"));
    assert!(written.contains("# note: haproxy.cfg:7") && written.contains("forwardfor"), "{written}");
}

#[test]
fn words_of_haproxy_are_keys() {
    let config = parse(
        "[listen.a]\nbind = [\":1 accept-proxy\", \"unix@/run/x mode 600\"]\nhash-type = \"consistent sdbm\"\n\
         option = [\"tcp-check\", \"prefer-last-server\"]\ntcp-check = [\"send PING\", \"expect string +PONG\"]\n\
         tcp-request = \"connection reject if !office\"\nacl = \"office src 10.0.0.0/8\"\n\
         servers.s = { address = \"10.0.0.1:1\", template = \"1-3\", slowstart = \"1m\", observe = \"layer4\", tfo = true }\n\
         [backend.z]\n[resolvers.d]\nnameserver = \"a 10.0.0.1:53\"\n[listen.b]\nbind = \":2\"\n",
    );
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<_> = config.proxies.iter().map(|proxy| proxy.name.as_str()).collect();
    assert_eq!(names, ["a", "z", "b"], "the order of the file is kept across kinds");
    let a = &config.proxies[0];
    assert!(a.binds[0].accept_proxy && a.binds[1].unix.mode == Some(0o600));
    assert_eq!((a.servers.len(), a.servers[2].name.as_str()), (3, "s3"));
    assert_eq!(a.servers[1].options.slowstart, Some(Duration::from_secs(60)));
    assert_eq!((a.settings.checks.tcp_rules.len(), a.client_rules.len()), (2, 1));
    assert_eq!(config.resolvers[0].nameservers.len(), 1);
    let errors = parse(
        "[listen.a]\nbind = \":1 accept-prxy\"\nhash-type = \"foo\"\nservers.s = { address = \"h:1\", observe = \"x\" }\nuse_backend = \"z if nosuch\"\n",
    )
    .unwrap_err();
    let found: Vec<_> = errors
        .iter()
        .filter(|remark| remark.severity == daemon::diagnostic::Severity::Error)
        .map(|error| error.line)
        .collect();
    assert_eq!(found, [2, 3, 5, 4], "{errors}");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(\\PC|\n){0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_value_makes_it_panic(key in "bind|balance|idle|retries|redispatch|check|servers|log|maxconn", value in "[-0-9]{1,20}|\"\\PC{0,10}\"|true|\\[\\]|\\{\\}|\\{a=1\\}") {
        let _ = parse(&format!("[listen.l]\n{key} = {value}\n"));
    }
}
