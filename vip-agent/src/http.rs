//! A small page, the status as JSON, and `/metrics` for Prometheus.

use std::fmt::Write as _;
use std::net::SocketAddr;

use daemon::http::{HttpLimits, Method, Request, Response, StatusCode, response, serve};
use daemon::listen::{ListenOptions, bind_tcp};
use daemon::run::Failure;
use daemon::shutdown::ShutdownToken;
use tokio::sync::{mpsc, oneshot};

use crate::agent::StatusRequest;
use crate::status::{AgentStatus, InstanceStatus};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// Listens and serves until `stop`.
///
/// # Errors
///
/// The port cannot be had.
pub(crate) fn start(
    address: SocketAddr,
    requests: mpsc::Sender<StatusRequest>,
    stop: ShutdownToken,
) -> Result<(), Failure> {
    let listener = bind_tcp(address, &ListenOptions::default())?;
    listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener))
        .map(|listener| {
            tracing::info!(%address, "status page");
            let handler = move |request: Request| answer(request, requests.clone());
            tokio::spawn(serve(listener, HttpLimits::default(), stop, handler));
        })
        .map_err(|error| {
            Failure::new(daemon::exit::Exit::OsError, format!("cannot listen on {address}: {error}"))
        })
}

async fn answer(request: Request, requests: mpsc::Sender<StatusRequest>) -> Response {
    if request.method != Method::GET {
        return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n");
    }
    let (sender, receiver) = oneshot::channel();
    let status = match requests.send(sender).await {
        Ok(()) => receiver.await.unwrap_or_default(),
        Err(_) => String::new(),
    };
    let Ok(agent) = serde_json::from_str::<AgentStatus>(&status) else {
        return response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the agent is stopping\n");
    };
    match request.path.as_str() {
        "/" => response(StatusCode::OK, HTML, page(&agent)),
        "/status" => response(StatusCode::OK, "application/json", status),
        "/metrics" => response(StatusCode::OK, TEXT, metrics(&agent)),
        _ => response(StatusCode::NOT_FOUND, TEXT, "there are /, /status and /metrics\n"),
    }
}

/// The numbers keepalived's exporters use for a state.
fn state_number(state: &str) -> u8 {
    match state {
        "BACKUP" => 1,
        "MASTER" | "RELEASING" => 2,
        "FAULT" => 3,
        _ => 0,
    }
}

/// Name, help, type and value of one metric of an instance.
type Metric = (&'static str, &'static str, &'static str, fn(&InstanceStatus) -> f64);

const METRICS: &[Metric] = &[
    ("keepalived_vrrp_state", "0 init, 1 backup, 2 master, 3 fault", "gauge", |i| {
        f64::from(state_number(&i.state))
    }),
    ("keepalived_advert_rcvd_total", "Adverts received", "counter", |i| i.counters.adverts_received as f64),
    ("keepalived_advert_sent_total", "Adverts sent", "counter", |i| i.counters.adverts_sent as f64),
    ("keepalived_become_master_total", "Times become master", "counter", |i| i.counters.become_master as f64),
    ("keepalived_release_master_total", "Times mastership was given up", "counter", |i| {
        i.counters.release_master as f64
    }),
    ("keepalived_packet_len_err_total", "Packets too short", "counter", |i| {
        i.counters.packet_length_errors as f64
    }),
    ("keepalived_ip_ttl_err_total", "Adverts with another hop limit than 255", "counter", |i| {
        i.counters.hop_limit_errors as f64
    }),
    ("keepalived_auth_failure_total", "Adverts with another password", "counter", |i| {
        i.counters.auth_failures as f64
    }),
    ("keepalived_pri_zero_rcvd_total", "Adverts of priority 0 received", "counter", |i| {
        i.counters.priority_zero_received as f64
    }),
    ("keepalived_pri_zero_sent_total", "Adverts of priority 0 sent", "counter", |i| {
        i.counters.priority_zero_sent as f64
    }),
    ("vip_agent_effective_priority", "Priority with all weights", "gauge", |i| {
        f64::from(i.effective_priority)
    }),
    ("vip_agent_checksum_errors_total", "Packets with a wrong checksum", "counter", |i| {
        i.counters.checksum_errors as f64
    }),
    ("vip_agent_address_mismatch_total", "Adverts that name other addresses", "counter", |i| {
        i.counters.address_mismatches as f64
    }),
    ("vip_agent_other_master_total", "Adverts of another master while master", "counter", |i| {
        i.counters.other_masters as f64
    }),
    ("vip_agent_late_timers_total", "Timers that fired late", "counter", |i| i.counters.late_timers as f64),
    ("vip_agent_address_conflict_total", "ARP packets of others that name a held address", "counter", |i| {
        i.counters.address_conflicts as f64
    }),
    ("vip_agent_link_up", "Whether the interface has carrier", "gauge", |i| f64::from(u8::from(i.link_up))),
];

fn metrics(agent: &AgentStatus) -> String {
    let mut text = String::from(
        "# HELP keepalived_up Whether the agent answers\n# TYPE keepalived_up gauge\nkeepalived_up 1\n",
    );
    for (name, help, kind, value) in METRICS {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for instance in &agent.instances {
            let (iname, intf) = (label(&instance.name), label(&instance.interface));
            let vrid = instance.virtual_router_id;
            let _ = writeln!(
                text,
                "{name}{{iname=\"{iname}\",intf=\"{intf}\",vrid=\"{vrid}\"}} {}",
                value(instance)
            );
        }
    }
    let _ = writeln!(
        text,
        "# HELP keepalived_script_status 1 good, 0 failed or unknown\n# TYPE keepalived_script_status gauge"
    );
    let mut told = Vec::new();
    for check in agent.instances.iter().flat_map(|instance| &instance.checks) {
        if !told.contains(&&check.name) {
            let good = u8::from(check.status == "good");
            let _ = writeln!(text, "keepalived_script_status{{name=\"{}\"}} {good}", label(&check.name));
            told.push(&check.name);
        }
    }
    text
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn page(agent: &AgentStatus) -> String {
    let mut rows = String::new();
    for instance in &agent.instances {
        let heard = instance.heard.as_ref().map_or_else(
            || "nobody yet".to_owned(),
            |heard| format!("{} priority {} {:.1} s ago", heard.address, heard.priority, heard.seconds_ago),
        );
        let checks: Vec<String> = instance
            .checks
            .iter()
            .map(|check| {
                format!(
                    "{} {} ({}); if it fails: {}",
                    check.name, check.status, check.last, check.if_it_fails
                )
            })
            .collect();
        let _ = writeln!(
            rows,
            "<tr><td>{}<td>{}<td>{}<td>{:.0} s<td>{}/{}<td>{}<td>{}",
            html(&instance.name),
            html(&instance.addresses.join(" ")),
            html(&instance.state),
            instance.in_state_seconds,
            instance.effective_priority,
            instance.base_priority,
            html(&heard),
            html(&checks.join(" · "))
        );
    }
    format!(
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=5><title>vip-agent {name}</title>\
         <style>body{{font:14px sans-serif;margin:2em}}td,th{{padding:.3em .8em;text-align:left;border-bottom:1px solid #ccc}}</style>\
         <h1>{name}</h1><table><tr><th>instance<th>addresses<th>state<th>since<th>priority<th>last heard<th>checks\n{rows}</table>\
         <p><a href=/status>/status</a> <a href=/metrics>/metrics</a>",
        name = html(&agent.router_id)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> AgentStatus {
        let mut instance = crate::status::example([192, 168, 204, 143].into());
        instance.name = "a\"<b".into();
        AgentStatus { router_id: "D".into(), pid: 7, uptime_seconds: 300, instances: vec![instance] }
    }

    #[test]
    fn metrics_have_keepaliveds_names_and_safe_labels() {
        let text = metrics(&agent());
        assert!(
            text.contains("keepalived_vrrp_state{iname=\"a\\\"<b\",intf=\"ens33\",vrid=\"66\"} 1\n"),
            "{text}"
        );
        assert!(text.contains("keepalived_advert_rcvd_total{"), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
        }
    }

    #[test]
    fn names_cannot_break_the_page() {
        let text = page(&agent());
        assert!(text.contains("a\"&lt;b") && !text.contains("<b<td>"), "{text}");
    }
}
