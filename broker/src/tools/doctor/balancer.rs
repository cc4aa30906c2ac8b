//! The balancer's page of statistics, ours or HAProxy's: which servers it has, and how they are.

use super::finding::Finding;
use crate::ctl::Asked;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Where the page usually is.
const USUAL: (u16, &str) = (8100, "/monitor");
/// How long it may take to connect to a place that was not named.
const GLANCE: Duration = Duration::from_secs(2);
/// Share of the connections that may be in use.
const FULL: f64 = 0.9;
const STEP: &str = "balancer";

/// Looks at the pages that were named, or else at the usual place of `host`.
pub(super) fn look(named: &[String], host: &str) -> Vec<Finding> {
    if named.is_empty() {
        let (port, path) = USUAL;
        let reached = (host, port)
            .to_socket_addrs()
            .ok()
            .and_then(|mut all| all.find(|address| TcpStream::connect_timeout(address, GLANCE).is_ok()));
        if reached.is_none() {
            let text = format!("no page of statistics on port {port} of {host}");
            return vec![Finding::note(
                STEP,
                text,
                "--monitor http://HOST:PORT/PATH of each balancer, if there are any",
            )];
        }
        return page(&format!("http://{host}:{port}{path}"));
    }
    named.iter().flat_map(|url| page(url)).collect()
}

fn page(url: &str) -> Vec<Finding> {
    let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    let path = format!("{};csv", path.unwrap_or(USUAL.1));
    // The address may hold a password.
    let shown = url.rsplit_once('@').map_or(url, |(_, place)| place);
    match Asked::connect(Some(url)).and_then(|mut asked| asked.text(&path)) {
        Ok(csv) if csv.starts_with("# pxname,") => servers(shown, &csv),
        Ok(_) => {
            let fix = "`stats uri` of haproxy.cfg, or [stats] of proxy.toml, says where the page is";
            vec![Finding::fail(STEP, format!("{shown} is no page of a balancer"), fix)]
        }
        Err(failure) => {
            let fix =
                "does the balancer run (systemctl status warren-proxy), and is the page open to this host?";
            vec![Finding::fail(STEP, format!("{shown}: {}", failure.message), fix)]
        }
    }
}

/// What a table of statistics tells.
fn servers(url: &str, csv: &str) -> Vec<Finding> {
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let mut found = Vec::new();
    let mut up = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |name: &str| {
            header.iter().position(|it| *it == name).and_then(|at| cells.get(at).copied()).unwrap_or_default()
        };
        let (proxy, server, status) = (cell("pxname"), cell("svname"), cell("status"));
        let title = format!("{proxy}/{server}");
        match server {
            "FRONTEND" => found.extend(crowded(proxy, cell("scur"), cell("slim"))),
            "BACKEND" if status == "DOWN" => {
                let fix = "none of its servers is up; the lines about them say why";
                found.push(Finding::fail(STEP, format!("{proxy} has nobody to send clients to"), fix));
            }
            "BACKEND" | "" => {}
            _ if status.starts_with("UP") => up.push(title),
            _ if status == "no check" => {
                up.push(title.clone());
                let fix = "check = { kind = \"amqp\" } in proxy.toml, or `check inter 5000 rise 2 fall 3` in haproxy.cfg";
                found.push(Finding::warn(STEP, format!("{title} gets clients also when it is dead"), fix));
            }
            _ if status.starts_with("MAINT") || status.starts_with("DRAIN") => {
                let fix =
                    format!("`set server {title} state ready` on the runtime socket, or Ready on the page");
                found.push(Finding::warn(STEP, format!("{title} was taken out by hand ({status})"), fix));
            }
            _ => {
                let last = [cell("check_status"), cell("last_chk")].join(" ");
                let text = format!("{title} is {status}: {}", last.trim());
                let fix = "is the broker there running (systemctl status warren-broker), and its port open to the balancer?";
                found.push(Finding::warn(STEP, text, fix));
            }
        }
    }
    if !up.is_empty() {
        found.insert(0, Finding::pass(STEP, format!("{url}: {} up", up.join(", "))));
    }
    found
}

fn crowded(proxy: &str, current: &str, limit: &str) -> Option<Finding> {
    let (current, limit) = (current.parse::<f64>().ok()?, limit.parse::<f64>().ok()?);
    (limit > 0.0 && current >= limit * FULL).then(|| {
        let text = format!("{proxy} has {current} of at most {limit} connections");
        Finding::warn(
            STEP,
            text,
            "raise maxconn, and the open files of the balancer's unit (two for each connection)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::doctor::finding::Level;

    #[test]
    fn servers_are_told_from_the_table_that_haproxy_writes() {
        let csv = "# pxname,svname,scur,slim,status,check_status,last_chk,\n\
            amqp,FRONTEND,95,100,OPEN,,,\n\
            amqp,A,1,,UP,L7OK,,\n\
            amqp,B,0,,DOWN,L4CON,Connection refused,\n\
            amqp,C,0,,MAINT,,,\n\
            amqp,D,0,,no check,,,\n\
            amqp,BACKEND,1,10,UP,,,\n\
            web,BACKEND,0,10,DOWN,,,\n";
        let found = servers("h:1/monitor", csv);
        let levels: Vec<Level> = found.iter().map(|it| it.level).collect();
        assert_eq!(levels, [Level::Pass, Level::Warn, Level::Warn, Level::Warn, Level::Warn, Level::Fail]);
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        let text = text.join("\n");
        for part in [
            "h:1/monitor: amqp/A, amqp/D up",
            "amqp has 95 of at most 100 connections",
            "amqp/B is DOWN: L4CON Connection refused",
            "amqp/C was taken out by hand",
            "amqp/D gets clients also when it is dead",
            "web has nobody to send clients to",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
