//! A small page, the status as JSON, and `/metrics` for Prometheus.

use std::net::SocketAddr;

use daemon::http::{HttpLimits, Method, Request, Response, StatusCode, response, serve};
use daemon::listen::{ListenOptions, bind_tcp};
use daemon::run::Failure;
use daemon::shutdown::ShutdownToken;
use tokio::sync::{mpsc, oneshot};

use crate::agent::StatusRequest;
use crate::status::AgentStatus;

mod metrics;
mod page;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// Listens and serves until `stop`, in a thread of its own: the agent's thread has real-time priority, and whoever
/// asks for pages all the time must neither keep it from its adverts nor the host from everything else.
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
        .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build())
        .and_then(|runtime| {
            let serving = move || {
                runtime.block_on(async move {
                    match tokio::net::TcpListener::from_std(listener) {
                        Ok(listener) => {
                            let handler = move |request: Request| answer(request, requests.clone());
                            serve(listener, HttpLimits::default(), stop, handler).await;
                        }
                        Err(error) => tracing::error!(%address, %error, "no status page"),
                    }
                });
            };
            std::thread::Builder::new().name("status-page".to_owned()).spawn(serving)
        })
        .map(|_| tracing::info!(%address, "status page"))
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
        "/" => response(StatusCode::OK, HTML, page::page(&agent)),
        "/status" => response(StatusCode::OK, "application/json", status),
        "/metrics" => response(StatusCode::OK, TEXT, metrics::metrics(&agent)),
        _ => response(StatusCode::NOT_FOUND, TEXT, "there are /, /status and /metrics\n"),
    }
}

/// An agent for tests, whose names try to break what they are put into.
#[cfg(test)]
fn example() -> AgentStatus {
    use crate::virtual_server::status::{RealServerStatus, VirtualServerStatus};
    let mut instance = crate::status::example([192, 168, 204, 143].into());
    instance.name = "a\"<b".into();
    let server = |address: &str, up| RealServerStatus {
        address: address.into(),
        up,
        weight: 2,
        checks: vec![("TCP_CHECK".into(), if up { "good" } else { "<refused>" }.into())],
    };
    let virtual_server = VirtualServerStatus {
        name: "192.168.204.66:5672/tcp".into(),
        algorithm: "rr".into(),
        method: "nat".into(),
        quorum: true,
        sorry_server: None,
        real_servers: vec![server("192.168.204.151:5672", true), server("192.168.204.152:5672", false)],
    };
    AgentStatus {
        router_id: "D".into(),
        pid: 7,
        uptime_seconds: 300,
        instances: vec![instance],
        virtual_servers: vec![virtual_server],
    }
}
