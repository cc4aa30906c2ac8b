//! Tests of the TOML form.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

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
