//! The statistics page: HAProxy's table, its CSV and JSON forms, and orders to servers.

pub mod csv;
pub mod field;
pub mod json;
mod page;
mod request;
pub mod row;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use daemon::http::{self, HttpLimits, Method, Response, StatusCode, header};
use daemon::shutdown::ShutdownToken;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use self::request::Options;
use crate::check;
use crate::config::StatsAdmin;
use crate::counters::Moment;
use crate::frontend::Frontend;
use crate::listener::{Assignment, Phase, take_waiting};
use crate::process::Process;
use crate::server::Order;
use crate::syslog::level;
use crate::tcplog::Accepted;

/// What HAProxy answers when nothing else fits.
const UNAVAILABLE: &str = "<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>\n";
const UNAUTHORIZED: &str = "<html><body><h1>401 Unauthorized</h1>\nYou need a valid user and password to access this content.\n</body></html>\n";

/// Serves the page of the frontend that a listener works for, until it is told to end.
pub async fn serve(
    process: Arc<Process>,
    listener: TcpListener,
    mut assignment: watch::Receiver<Assignment>,
    mut stop: ShutdownToken,
) {
    let mut connections = tokio::task::JoinSet::new();
    let mut listener = Some(listener);
    loop {
        let Assignment { frontend, phase, .. } = assignment.borrow_and_update().clone();
        let Some(socket) = &listener else { break };
        let accepted = match phase {
            Phase::Open => tokio::select! {
                accepted = socket.accept() => accepted,
                changed = assignment.changed() => if changed.is_ok() { continue } else { break },
                Some(_) = connections.join_next() => continue,
                _ = stop.requested() => break,
            },
            Phase::Paused => match assignment.changed().await {
                Ok(()) => continue,
                Err(_) => break,
            },
            Phase::Closing => {
                for (stream, peer) in listener.take().map(take_waiting).unwrap_or_default() {
                    spawn(&mut connections, &process, &frontend, stream, peer, &stop);
                }
                break;
            }
            Phase::Leaving => break,
        };
        match accepted {
            Ok((stream, peer)) => spawn(&mut connections, &process, &frontend, stream, peer, &stop),
            Err(error) => {
                tracing::debug!(%error, "cannot accept for the statistics page");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop((listener, assignment));
    while connections.join_next().await.is_some() {}
}

/// Answers the requests of one connection.
fn spawn(
    connections: &mut tokio::task::JoinSet<()>,
    process: &Arc<Process>,
    frontend: &Arc<Frontend>,
    stream: TcpStream,
    peer: SocketAddr,
    stop: &ShutdownToken,
) {
    // A place is held for the life of the connection; without one it is closed at once.
    let Some(place) = frontend.places.take() else { return };
    let (process, frontend, stop) = (process.clone(), frontend.clone(), stop.clone());
    connections.spawn(async move {
        let now = Moment::since(process.started);
        frontend.counters.begin(now);
        process.counters.begin(now);
        let limits = HttpLimits::default();
        let handler = |request| {
            let (process, frontend) = (process.clone(), frontend.clone());
            async move { answer(&process, &frontend, &request) }
        };
        http::serve_connection(stream, Some(peer), &limits, stop, handler).await;
        frontend.counters.end();
        process.counters.end();
        drop(place);
    });
}

/// Answers one request, counts it and logs it.
fn answer(process: &Process, frontend: &Frontend, request: &http::Request) -> Response {
    let (begun, wall) = (Instant::now(), SystemTime::now());
    let response = route(process, frontend, request);
    let counters = &frontend.counters;
    counters.requests.fetch_add(1, Relaxed);
    let class = usize::from(response.status().as_u16() / 100);
    if let Some(counter) = counters.answers.get(class.saturating_sub(1)) {
        counter.fetch_add(1, Relaxed);
    }
    let length = hyper_body_length(&response);
    counters.bytes_out.fetch_add(length, Relaxed);
    counters.bytes_in.fetch_add((request.path.len() + request.body.len()) as u64, Relaxed);
    if frontend.config.settings.httplog && !frontend.logger.is_silent() {
        let total = begun.elapsed().as_millis();
        let client = request.peer.map_or_else(|| "-:0".to_owned(), |peer| peer.to_string());
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        let (all, here) = (process.counters.current.load(Relaxed), counters.current.load(Relaxed));
        frontend.logger.send(
            level::INFO,
            &format!(
                "{client} [{}] {name} {name}/<STATS> 0/0/0/0/{total} {} {length} - - LR-- {all}/{here}/0/0/0 0/0 \
                 \"{} {}{query} HTTP/1.1\"",
                Accepted(wall),
                response.status().as_u16(),
                request.method,
                request.path,
                name = frontend.name,
            ),
        );
    }
    response
}

fn hyper_body_length(response: &Response) -> u64 {
    use daemon::http::Body;
    response.body().size_hint().exact().unwrap_or(0)
}

fn route(process: &Process, frontend: &Frontend, request: &http::Request) -> Response {
    let stats = &frontend.config.settings.stats;
    let Some(rest) = request.path.strip_prefix(&stats.uri) else {
        return http::response(StatusCode::SERVICE_UNAVAILABLE, "text/html", UNAVAILABLE);
    };
    if !stats.auth.is_empty() && !request::is_authorized(&request.headers, &stats.auth) {
        let mut response = http::response(StatusCode::UNAUTHORIZED, "text/html", UNAUTHORIZED);
        let realm = stats.realm.as_deref().unwrap_or("HAProxy Statistics").replace('"', "");
        if let Ok(value) = header::HeaderValue::from_str(&format!("Basic realm=\"{realm}\"")) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        return response;
    }
    let options = Options::read(rest, &request.query);
    let is_admin = match &stats.admin {
        StatsAdmin::Never => false,
        StatsAdmin::Always => true,
        StatsAdmin::Localhost => request.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()),
        StatsAdmin::If(condition) => request.peer.is_some_and(|peer| condition.holds(&peer)),
    };
    match request.method {
        Method::GET | Method::HEAD => show(process, frontend, &options, is_admin),
        Method::POST => {
            let result = if is_admin && request::is_same_origin(&request.headers) {
                order(process, &request.body)
            } else {
                "DENY"
            };
            redirect(&stats.uri, result, &options)
        }
        _ => http::response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "method not allowed\n"),
    }
}

fn show(process: &Process, frontend: &Frontend, options: &Options, is_admin: bool) -> Response {
    let stats = &frontend.config.settings.stats;
    let legends = stats.show_legends || is_admin;
    let present = process.sections();
    let sections: Vec<_> = present
        .iter()
        .filter(|section| section.config.name.contains(&options.scope))
        .map(|section| (section, row::rows(process, section, legends)))
        .collect();
    let (kind, body) = if options.csv {
        let mut text = csv::header();
        for row in sections.iter().flat_map(|(_, rows)| rows) {
            text.push_str(&csv::line(row));
        }
        ("text/plain", text)
    } else if options.json {
        let all: Vec<_> = sections.into_iter().flat_map(|(_, rows)| rows).collect();
        ("application/json", json::document(&all))
    } else {
        ("text/html", page::page(process, stats, &sections, options, is_admin))
    };
    let mut response = http::response(StatusCode::OK, kind, body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
    headers.insert("x-content-type-options", header::HeaderValue::from_static("nosniff"));
    headers.insert("x-frame-options", header::HeaderValue::from_static("SAMEORIGIN"));
    if let Some(refresh) = stats.refresh.filter(|_| !options.no_refresh && !options.csv && !options.json) {
        headers.insert("refresh", header::HeaderValue::from(refresh.as_secs().max(1)));
    }
    response
}

/// After an order HAProxy sends the browser back to the page, with the result in the address.
fn redirect(uri: &str, result: &str, options: &Options) -> Response {
    let mut response = http::response(StatusCode::SEE_OTHER, "text/plain", "");
    let mut location = format!("{uri};st={result}");
    if options.no_refresh {
        location.push_str(";norefresh");
    }
    if let Ok(value) = header::HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// Carries a form out: `s=SERVER&action=ACTION&b=#ID`. Returns HAProxy's word for the result.
fn order(process: &Process, body: &[u8]) -> &'static str {
    let form = request::form(body);
    let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let names: Vec<&str> =
        form.iter().filter(|(key, _)| key == "s").map(|(_, value)| value.as_str()).collect();
    let Some(wanted) = value("b") else { return "ERRP" };
    let section = match wanted.strip_prefix('#').and_then(|id| id.parse().ok()) {
        Some(id) => process.section_by_id(id),
        None => {
            let sections = process.sections();
            let mut found = sections.iter();
            found.find(|section| section.config.name == wanted && section.backend.is_some()).cloned()
        }
    };
    let Some((section, backend)) = section.and_then(|section| Some((section.clone(), section.backend?)))
    else {
        return "ERRP";
    };
    let Some(action) = value("action") else { return "ERRP" };
    if names.is_empty() {
        return "NONE";
    }
    let (mut done, mut unknown) = (0, 0);
    for name in names {
        let Some(server) = backend.server(name) else {
            unknown += 1;
            continue;
        };
        let now = Instant::now();
        match action {
            "ready" => check::carry_out(&backend, &server, Order::Ready, &section.logger),
            "drain" => check::carry_out(&backend, &server, Order::Drain, &section.logger),
            "maint" => check::carry_out(&backend, &server, Order::Maintenance, &section.logger),
            "dhlth" => server.set_checking(false),
            "ehlth" => server.set_checking(true),
            "hrunn" | "hdown" => {
                let effect = server.force_health(action == "hrunn", now);
                check::announce(
                    &backend,
                    &server,
                    effect,
                    Some("changed from the statistics page"),
                    &section.logger,
                );
            }
            _ => return "ERRP",
        }
        done += 1;
    }
    match (done, unknown) {
        (0, _) => "ERRP",
        (_, 0) => "DONE",
        _ => "PART",
    }
}

#[cfg(test)]
mod tests;
