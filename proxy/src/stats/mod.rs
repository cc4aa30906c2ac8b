//! The statistics: HAProxy's page and table in several forms, metrics for Prometheus, and orders to servers.

pub mod csv;
pub mod field;
pub mod gauge;
mod guard;
pub mod history;
pub mod info;
pub mod json;
pub mod metrics;
mod metrics_names;
mod orders;
mod page;
mod request;
pub mod row;
mod serve;
pub mod typed;

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Instant, SystemTime};

use daemon::http::{self, Method, Response, StatusCode, header};

use self::request::Options;
use self::row::{Row, RowKind};
pub use self::serve::{GREETING_LIMIT, Kitchen, serve};
use crate::config::{StatsAdmin, StatsConfig};
use crate::counters::Moment;
use crate::frontend::Frontend;
use crate::process::{Process, Section};
use crate::syslog::level;
use crate::tcplog::Accepted;

/// What HAProxy answers when nothing else fits.
const UNAVAILABLE: &str = "<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>\n";
const UNAUTHORIZED: &str = "<html><body><h1>401 Unauthorized</h1>\nYou need a valid user and password to access this content.\n</body></html>\n";
const BAD_REQUEST: &str =
    "<html><body><h1>400 Bad request</h1>\nYour browser sent an invalid request.\n</body></html>\n";

/// Where the metrics are, on every listener of the statistics.
const METRICS: &str = "/metrics";

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
    if request.path == METRICS && matches!(request.method, Method::GET | Method::HEAD) {
        // A configuration that asks for the exporter serves it to everybody, as HAProxy does; where it only
        // comes along with the page it is as protected as the page.
        if !stats.prometheus && !is_known(stats, request) {
            return unauthorized(stats);
        }
        return metrics(process, frontend, request);
    }
    let Some(rest) = request.path.strip_prefix(&stats.uri).filter(|_| stats.enabled) else {
        return http::response(StatusCode::SERVICE_UNAVAILABLE, "text/html", UNAVAILABLE);
    };
    if !is_known(stats, request) {
        return unauthorized(stats);
    }
    let options = Options::read(rest, &request.query);
    match request.method {
        Method::GET | Method::HEAD => show(process, frontend, &options, request),
        Method::POST => {
            let token = orders::token(&request.body);
            let secret = &process.looking.secret;
            let result = if is_admin(stats, request) && secret.admits(&request.headers, token.as_deref()) {
                orders::carry_out(process, &request.body)
            } else {
                "DENY"
            };
            redirect(&stats.uri, result, &options)
        }
        _ => http::response(StatusCode::SERVICE_UNAVAILABLE, "text/html", UNAVAILABLE),
    }
}

/// Whether the client has given one of the passwords, or none is asked for.
fn is_known(stats: &StatsConfig, request: &http::Request) -> bool {
    stats.auth.is_empty() || guard::is_authorized(&request.headers, &stats.auth)
}

fn is_admin(stats: &StatsConfig, request: &http::Request) -> bool {
    let client = request.peer.map(|peer| peer.ip().to_canonical());
    match &stats.admin {
        StatsAdmin::Never => false,
        StatsAdmin::Always => true,
        StatsAdmin::Localhost => client.is_some_and(|client| client.is_loopback()),
        StatsAdmin::If(condition) => client.is_some_and(|client| condition.holds(&client)),
    }
}

fn unauthorized(stats: &StatsConfig) -> Response {
    let mut response = http::response(StatusCode::UNAUTHORIZED, "text/html", UNAUTHORIZED);
    let realm = stats.realm.as_deref().unwrap_or("HAProxy Statistics").replace('"', "");
    if let Ok(value) = header::HeaderValue::from_str(&format!("Basic realm=\"{realm}\"")) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    protect(&mut response);
    response
}

fn metrics(process: &Process, frontend: &Frontend, request: &http::Request) -> Response {
    let stats = &frontend.config.settings.stats;
    // Where they only come along with the page, they tell of what it shows.
    let is_in_scope = |name: &str| stats.prometheus || is_in_scope(stats, &frontend.name, name);
    let wanted = metrics::Wanted::read(&request::form(request.query.as_bytes()));
    let mut response = match wanted {
        Some(wanted) => http::response(
            StatusCode::OK,
            metrics::CONTENT_TYPE,
            metrics::document(process, wanted, &is_in_scope),
        ),
        None => http::response(StatusCode::BAD_REQUEST, "text/html", BAD_REQUEST),
    };
    protect(&mut response);
    response
}

/// What goes with every answer.
fn protect(response: &mut Response) {
    let headers = response.headers_mut();
    for (name, value) in [
        ("cache-control", "no-cache"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
}

fn show(process: &Process, frontend: &Frontend, options: &Options, request: &http::Request) -> Response {
    let stats = &frontend.config.settings.stats;
    let is_admin = is_admin(stats, request);
    let legends = stats.show_legends || is_admin;
    let present = process.sections();
    let sections: Vec<(&Section, Vec<Row>)> = present
        .iter()
        .filter(|section| section.config.name.contains(&options.scope))
        .filter(|section| is_in_scope(stats, &frontend.name, &section.config.name))
        .map(|section| (section, row::rows(process, section, legends)))
        .collect();
    let shown = || -> Vec<Row> {
        let rows = sections.iter().flat_map(|(_, rows)| rows);
        let rows = rows.filter(|row| page::is_shown(row, options)).cloned();
        rows.map(|row| if options.up || options.no_maint { row.where_some_are_hidden() } else { row })
            .collect()
    };
    let ticket = process.looking.secret.ticket(&request.headers);
    let is_page = !(options.csv || options.json || options.schema || options.live);
    let (kind, body) = if options.csv {
        ("text/plain", csv::table(&shown()))
    } else if options.json {
        ("application/json", json::document(&shown()))
    } else if options.schema {
        ("application/json", json::schema())
    } else if options.live {
        ("application/json", live(process, &sections))
    } else {
        let page = page::Page { process, stats, sections: &sections, options, is_admin, ticket: &ticket };
        ("text/html", page.document())
    };
    let mut response = http::response(StatusCode::OK, kind, body);
    protect(&mut response);
    let headers = response.headers_mut();
    if let Some(refresh) = stats.refresh.filter(|_| !options.no_refresh && !options.live) {
        headers.insert("refresh", header::HeaderValue::from(refresh.as_secs().max(1)));
    }
    if is_page {
        if let Ok(policy) = header::HeaderValue::from_str(&page::POLICY) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        if let Some(cookie) = ticket.set_cookie.as_deref().filter(|_| is_admin)
            && let Ok(cookie) = header::HeaderValue::from_str(cookie)
        {
            headers.insert(header::SET_COOKIE, cookie);
        }
    }
    response
}

/// Whether a section is among those of `stats scope`.
fn is_in_scope(stats: &StatsConfig, own: &str, name: &str) -> bool {
    stats.scope.is_empty() || stats.scope.iter().any(|scope| scope == name || (scope == "." && own == name))
}

/// The counters that move, for the script of the page.
fn live(process: &Process, sections: &[(&Section, Vec<Row>)]) -> String {
    let mut out = format!("{{\"at\":{},\"rows\":{{", Moment::since(process.started).0);
    for (at, row) in sections.iter().flat_map(|(_, rows)| rows).enumerate() {
        let kind = match row.kind {
            RowKind::Frontend => 'F',
            RowKind::Backend => 'B',
            RowKind::Server => 'S',
            RowKind::Listener => 'L',
        };
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(out, "{comma}\"{}/{}/{kind}\":{{", row.number("iid"), row.number("sid"));
        for (at, name) in ["scur", "rate", "bin", "bout", "stot"].into_iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(out, "{comma}\"{name}\":{}", row.number(name));
        }
        out.push('}');
    }
    out.push_str("}}");
    out
}

/// After an order HAProxy sends the browser back to the page, with the result in the address.
fn redirect(uri: &str, result: &str, options: &Options) -> Response {
    let mut response = http::response(StatusCode::SEE_OTHER, "text/plain", "");
    protect(&mut response);
    let location = options.address(uri, &[&format!(";st={result}")]);
    if let Ok(value) = header::HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

#[cfg(test)]
mod tests;
