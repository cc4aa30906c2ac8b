//! Whole files: the tutorial's, one with everything, one full of mistakes, and damaged ones.

use std::time::Duration;

use daemon::diagnostic::{Diagnostics, Severity};
use proptest::prelude::*;
use vrrp::{Auth, InitialState, Password, Version};

use super::parse;
use crate::config::AgentConfig;

const TUTORIAL: &str = include_str!("../../../../configs/tutorial/keepalived.conf");

fn read(text: &str) -> (AgentConfig, Diagnostics) {
    parse(text, "keepalived.conf", None)
}

/// Line, severity and code of every remark.
fn remarks(text: &str) -> Vec<(usize, Severity, &'static str)> {
    read(text).1.iter().map(|remark| (remark.line, remark.severity, remark.code)).collect()
}

fn errors(text: &str) -> Vec<String> {
    let (_, remarks) = read(text);
    let errors = remarks.iter().filter(|remark| remark.severity == Severity::Error);
    errors
        .map(|remark| format!("{}:{} {}; {}", remark.line, remark.column, remark.message, remark.label))
        .collect()
}

#[test]
fn the_tutorials_file_means_what_it_says() {
    let (config, found) = read(TUTORIAL);
    assert!(!found.has_errors(), "{found}");
    assert_eq!(config.global.router_id, "C");
    let script = &config.scripts[0];
    assert_eq!((script.name.as_str(), script.weight), ("chk_haproxy", -20));
    assert_eq!(script.command.argv, ["/etc/keepalived/haproxy_check.sh"]);
    assert_eq!((script.interval, script.timeout), (Duration::from_secs(2), Duration::from_secs(2)));
    let instance = &config.instances[0];
    assert_eq!(&*instance.core.name, "VI_1");
    assert_eq!((instance.interface.as_str(), instance.core.virtual_router_id), ("ens33", 66));
    assert_eq!(instance.core.initial_state, InitialState::Master);
    assert_eq!((instance.core.version, instance.core.priority), (Version::V2, 100));
    assert_eq!(instance.core.auth, Auth::Simple(Password::new("1111")));
    assert_eq!(instance.addresses[0].address, std::net::IpAddr::from([192, 168, 204, 66]));
    assert_eq!(instance.addresses[0].prefix, 24);
    assert_eq!(instance.track_scripts[0].name, "chk_haproxy");
    let server = &config.virtual_servers[0];
    assert_eq!((server.name().as_str(), server.real_servers.len()), ("192.168.204.66:5672/tcp", 1));
}

#[test]
fn the_native_twins_mean_the_same() {
    let twin = |toml: &str| super::super::toml::parse(toml, "vip.toml").unwrap().0;
    let native = twin(include_str!("../../../../configs/tutorial/vip.toml"));
    let (theirs, _) = read(TUTORIAL);
    assert_eq!(native.instances, theirs.instances);
    assert_eq!(native.global, theirs.global);
    assert_eq!(native.virtual_servers, theirs.virtual_servers);
    let native = twin(include_str!("../../../../configs/tutorial/vip-d.toml"));
    let (theirs, _) = read(include_str!("../../../../configs/tutorial/keepalived-d.conf"));
    assert_eq!(native.virtual_servers, theirs.virtual_servers);
    assert_eq!((native.instances, native.global), (theirs.instances, theirs.global));
}

#[test]
fn a_file_with_everything() {
    let text = r#"
$VIP=10.9.0.66
global_defs {
    router_id lvs-01
    script_user root
    vrrp_version 3
    vrrp_garp_master_repeat 3
    vrrp_garp_master_refresh 60
    vrrp_strict
}
vrrp_script chk { script "/bin/true 'a b'" ; }
vrrp_sync_group G1 { group { VI_1 VI_2 } notify "/bin/true x" }
vrrp_instance VI_1
{
    interface eth0
    virtual_router_id 10
    priority 150
    advert_int 0.25
    state BACKUP
    nopreempt
    preempt_delay 5.5
    unicast_src_ip 10.9.0.1
    unicast_peer { 10.9.0.2
        10.9.0.3 }
    track_script { chk weight -30 reverse }
    track_interface { eth1 weight -5
        eth2 }
    virtual_ipaddress {
        ${VIP}/24 dev eth1 label eth1:1 brd +
        $VIP
    }
    virtual_ipaddress_excluded { fd00::1/64 }
    notify_master "/bin/true m"
    notify "/bin/true" root
    garp_master_delay 1
    higher_prio_send_advert off
}
vrrp_instance VI_2 { interface eth0
 virtual_router_id 10
 virtual_ipaddress { fd00::66/64 }
}
"#;
    let text = text.replace(" ; }", " }");
    let (config, found) = read(&text);
    assert!(!found.has_errors(), "{found}");
    let one = &config.instances[0];
    assert_eq!((one.core.version, one.core.advert_interval), (Version::V3, Duration::from_millis(250)));
    assert!(!one.core.preempt && !one.core.advert_before_yielding);
    assert_eq!(one.core.preempt_delay, Duration::from_millis(5500));
    assert_eq!((one.core.unicast_peers.len(), one.addresses.len()), (2, 3));
    assert_eq!(one.core.addresses.len(), 2, "excluded addresses are not advertised");
    assert_eq!(one.addresses[0].broadcast, Some([10, 9, 0, 255].into()));
    assert_eq!(one.addresses[0].label.as_deref(), Some("eth1:1"));
    assert_eq!((one.track_scripts[0].weight, one.track_scripts[0].reverse), (Some(-30), Some(true)));
    assert_eq!((one.track_interfaces[0].weight, one.track_interfaces[1].weight), (-5, 0));
    assert_eq!(one.core.announce.repeat, 3);
    assert_eq!(one.core.announce.delay, Duration::from_secs(1));
    assert_eq!(one.notify.any.as_ref().unwrap().user.unwrap().uid, 0);
    assert_eq!(config.scripts[0].command.argv, ["/bin/true", "a b"]);
    assert_eq!(config.groups[0].members, ["VI_1", "VI_2"]);
    assert!(config.instances[1].is_ipv6());
    assert!(
        remarks(&text)
            .iter()
            .any(|(line, severity, code)| (*line, *severity, *code) == (9, Severity::Warning, "no-effect"))
    );
}

#[test]
fn every_mistake_has_its_place_and_a_proposal() {
    let text = "global_defs {\n    router_idd C\n}\nvrrp_script chk {\n    script \"/bin/true\"\n    intervall 2\n    weight -300\n}\n\
        vrrp_instance VI_1 {\n    state MASTR\n    interface eth0\n    virtual_router_id 66 priority 100\n    priority abc\n    \
        advert_int 0.5\n    track_script {\n        chk_haproxi\n    }\n    virtual_ipaddress {\n        192.168.204.666/24\n    }\n}\nvrrp_instnce X {\n}\n";
    let found = errors(text);
    let expected = [
        "2:5 unknown word `router_idd` in global_defs; did you mean `router_id`?",
        "6:5 unknown word `intervall` in vrrp_script; did you mean `interval`?",
        "7:12 `weight`: `-300` is not within -253 to 253; is not within -253 to 253",
        "9:15 this vrrp_instance has no `virtual_ipaddress`; add the address that floats",
        "10:11 `state` is MASTER or BACKUP; neither",
        "12:26 `virtual_router_id` takes one value; one word too many; two settings on one line?",
        "13:14 `priority`: `abc` is not a number; is not a number",
        "14:16 VRRP version 2 has whole seconds; write whole seconds, or `version 3` on every host",
        "16:9 there is no vrrp_script `chk_haproxi`; add a vrrp_script block of this name",
        "19:9 `virtual_ipaddress`: `192.168.204.666/24` is not an IP address; is not an IP address",
        "22:1 unknown word `vrrp_instnce` at the top of the file; did you mean `vrrp_instance`?",
    ];
    assert_eq!(found, expected);
}

#[test]
fn contradictions_are_found() {
    let instance = |body: &str| {
        format!(
            "vrrp_instance V {{\n interface eth0\n virtual_router_id 1\n virtual_ipaddress {{ 10.0.0.1 }}\n{body}\n}}\n"
        )
    };
    let codes =
        |body: &str| -> Vec<&str> { remarks(&instance(body)).iter().map(|remark| remark.2).collect() };
    assert_eq!(codes(""), Vec::<&str>::new());
    assert_eq!(codes("state MASTER\nnopreempt"), ["nopreempt"]);
    assert_eq!(codes("authentication {\nauth_type PASS\nauth_pass 123456789\n}"), ["auth-pass"]);
    assert_eq!(codes("authentication {\nauth_type AH\nauth_pass 1\n}"), ["wrong-value"]);
    assert_eq!(codes("version 3\nauthentication {\nauth_type PASS\nauth_pass 1\n}"), ["auth"]);
    assert_eq!(codes("virtual_ipaddress { fd00::1 }"), ["family"]);
    assert_eq!(codes("unicast_peer { fd00::2 }"), ["family"]);
    assert_eq!(codes("notify_master \"/bin/a | /bin/b\""), ["shell"]);
    assert_eq!(codes("use_ipvlan"), ["no-effect"]);
    assert_eq!(codes("use_vmac"), Vec::<&str>::new());
}

#[test]
fn includes_and_lines_for_other_hosts() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.inc"), "global_defs {\n router_id A\n wrong\n}\n").unwrap();
    let (config, found) =
        parse("include *.inc\n@nosuchhost global_defs {\n", "main.conf", Some(directory.path()));
    assert_eq!(config.global.router_id, "A");
    let places: Vec<(String, usize)> =
        found.iter().map(|remark| (remark.file.clone(), remark.line)).collect();
    assert_eq!(places, [(directory.path().join("a.inc").display().to_string(), 3)]);
    std::fs::write(directory.path().join("b.inc"), "include b.inc\n").unwrap();
    let (_, found) = parse("include b.inc\n", "main.conf", Some(directory.path()));
    assert!(found.has_errors(), "a circle is an error");
}

proptest! {
    #[test]
    fn a_damaged_file_never_panics(at in 0usize..TUTORIAL.len(), cut in 0usize..40, with in "[\\PC\n{}\"]{0,6}") {
        let mut text = TUTORIAL.to_owned();
        let start = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let end = (start..=(start + cut).min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        text.replace_range(start..end, &with);
        let _ = read(&text);
    }
}

/// Words of keepalived's manual that this program does nothing for are no mistakes.
#[test]
fn keepalived_s_rarer_words_are_no_errors() {
    let words = [
        "reload_file",
        "checker_priority 5",
        "vrrp_netlink_cmd_rcv_bufs 5",
        "nftables_counters",
        "vmac_prefix v",
    ];
    let text = format!("global_defs {{\n{}\n}}\n", words.join("\n"));
    assert_eq!(errors(&text), Vec::<String>::new());
    let smtp = "virtual_server 10.9.0.7 25 {\n protocol TCP\n real_server 10.9.0.8 25 {\n SMTP_CHECK {\n host {\n \
        connect_ip 10.9.0.8\n bindto 10.9.0.1\n connect_timeout 7\n }\n }\n }\n}\n";
    assert_eq!(errors(smtp), Vec::<String>::new());
    let check = &read(smtp).0.virtual_servers[0].real_servers[0].checks[0];
    assert_eq!(check.bind, Some([10, 9, 0, 1].into()));
    assert_eq!(check.connect_timeout, Duration::from_secs(7));
}
