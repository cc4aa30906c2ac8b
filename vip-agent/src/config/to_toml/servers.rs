//! `[[virtual_server]]` as native text.

use std::time::Duration;

use super::{Writer, command, list, program, quoted, span};
use crate::config::virtual_server::{
    Algorithm, Check, CheckKind, HttpCheck, HttpVersion, Listen, Masquerade, Method, Page, Protocol, RECORDS,
    RealServer, VirtualServer, default_retry, endpoint,
};

pub(super) fn write(out: &mut Writer, server: &VirtualServer) {
    out.text.push_str("\n[[virtual_server]]\n");
    let (mut addresses, mut marks) = (Vec::new(), Vec::new());
    for listen in &server.listen {
        match listen {
            Listen::Mark(mark) => marks.push(mark.to_string()),
            address @ Listen::Address { .. } => addresses.push(quoted(&address.to_string())),
        }
    }
    if !addresses.is_empty() {
        out.set("addresses", &list(addresses.into_iter()));
    }
    if !marks.is_empty() {
        out.set("marks", &list(marks.into_iter()));
    }
    out.set_if("protocol", &server.protocol, &Protocol::Tcp, |protocol| quoted(protocol.word()));
    out.set("algorithm", &quoted(Algorithm::word(server.algorithm)));
    out.set_if("hash_port", &server.hash_port, &false, bool::to_string);
    out.set("method", &quoted(Method::word(server.method)));
    out.set_if("masquerade", &server.masquerade, &Masquerade::Hairpin, |how| quoted(how.word()));
    if let Some(persistence) = &server.persistence {
        out.set("persistence", &span(&persistence.timeout));
        let longest = if server.is_ipv6() { 128 } else { 32 };
        out.set_if("persistence_prefix", &persistence.prefix, &longest, u8::to_string);
    }
    out.set_if("quorum", &server.quorum, &1, u32::to_string);
    out.set_if("hysteresis", &server.hysteresis, &0, u32::to_string);
    for (key, script) in [("quorum_up", &server.quorum_up), ("quorum_down", &server.quorum_down)] {
        if let Some(script) = script {
            out.set(key, &program(script));
        }
    }
    if let Some(sorry) = &server.sorry_server {
        out.set("sorry_server", &quoted(&place(sorry.address, sorry.port)));
    }
    out.set_if("omega", &server.omega, &false, bool::to_string);
    out.set_if("ha_suspend", &server.ha_suspend, &false, bool::to_string);
    for real in &server.real_servers {
        real_server(out, real);
    }
}

fn place(address: std::net::IpAddr, port: u16) -> String {
    if port == 0 { address.to_string() } else { endpoint(address, port) }
}

fn real_server(out: &mut Writer, real: &RealServer) {
    out.text.push_str("\n[[virtual_server.real_server]]\n");
    out.set("address", &quoted(&place(real.address, real.port)));
    out.set_if("weight", &real.weight, &1, u32::to_string);
    out.set_if("inhibit_on_failure", &real.inhibit_on_failure, &false, bool::to_string);
    out.set_if("alpha", &real.alpha, &false, bool::to_string);
    for (key, script) in [("notify_up", &real.notify_up), ("notify_down", &real.notify_down)] {
        if let Some(script) = script {
            out.set(key, &program(script));
        }
    }
    if !real.checks.is_empty() {
        out.set("checks", &list(real.checks.iter().map(check)));
    }
}

/// One check as an inline table.
fn check(check: &Check) -> String {
    let mut parts = vec![format!("type = {}", quoted(kind_word(&check.kind)))];
    let mut add = |key: &str, value: String| parts.push(format!("{key} = {value}"));
    kind(&check.kind, check.delay_loop, &mut add);
    if let Some(address) = check.connect_ip {
        add("connect_ip", quoted(&address.to_string()));
    }
    if let Some(port) = check.connect_port {
        add("connect_port", port.to_string());
    }
    if let Some(address) = check.bind {
        add("bind", quoted(&address.to_string()));
    }
    let (retry, delay) = default_retry(&check.kind, check.delay_loop);
    let spans = [
        ("delay_loop", check.delay_loop, Duration::from_secs(60)),
        ("connect_timeout", check.connect_timeout, Duration::from_secs(5)),
        ("delay_before_retry", check.delay_before_retry, delay),
        ("warmup", check.warmup, check.delay_loop),
    ];
    for (key, value, default) in spans {
        if value != default {
            add(key, span(&value));
        }
    }
    if check.retry != retry {
        add("retry", check.retry.to_string());
    }
    format!("{{ {} }}", parts.join(", "))
}

fn kind_word(kind: &CheckKind) -> &'static str {
    match kind {
        CheckKind::Tcp => "tcp",
        CheckKind::Amqp => "amqp",
        CheckKind::Http(HttpCheck { tls: true, .. }) => "https",
        CheckKind::Http(_) => "http",
        CheckKind::Misc { .. } => "command",
        CheckKind::Smtp { .. } => "smtp",
        CheckKind::Dns { .. } => "dns",
        CheckKind::Udp { .. } => "udp",
    }
}

fn kind(kind: &CheckKind, delay_loop: Duration, add: &mut impl FnMut(&str, String)) {
    match kind {
        CheckKind::Tcp | CheckKind::Amqp => {}
        CheckKind::Http(http) => {
            if http.version != HttpVersion::V10 {
                add("http_version", quoted(http.version.word()));
            }
            if http.sni {
                add("sni", "true".to_owned());
            }
            add("pages", list(http.pages.iter().map(page)));
        }
        CheckKind::Misc { command: program, timeout, dynamic } => {
            add("command", command(program));
            if let Some(user) = program.user {
                add("user", quoted(&user.uid.to_string()));
                add("group", quoted(&user.gid.to_string()));
            }
            if *timeout != delay_loop {
                add("timeout", span(timeout));
            }
            if *dynamic {
                add("dynamic", "true".to_owned());
            }
        }
        CheckKind::Smtp { helo } => add("helo", quoted(helo)),
        CheckKind::Dns { record, name } => {
            let known = RECORDS.iter().find(|(_, number)| number == record).map_or("SOA", |(name, _)| name);
            add("record", quoted(known));
            add("name", quoted(name));
        }
        CheckKind::Udp { payload, reply } => {
            let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
            if !hex.is_empty() {
                add("payload", quoted(&hex));
            }
            if *reply {
                add("reply", "true".to_owned());
            }
        }
    }
}

fn page(page: &Page) -> String {
    let mut parts = vec![format!("path = {}", quoted(&page.path))];
    if !page.status.is_empty() {
        let codes = page.status.iter().map(|(first, last)| match first == last {
            true => quoted(&first.to_string()),
            false => quoted(&format!("{first}-{last}")),
        });
        parts.push(format!("status = {}", list(codes)));
    }
    if let Some(digest) = &page.digest {
        parts.push(format!("digest = {}", quoted(digest)));
    }
    if let Some(host) = &page.virtualhost {
        parts.push(format!("virtualhost = {}", quoted(host)));
    }
    format!("{{ {} }}", parts.join(", "))
}
