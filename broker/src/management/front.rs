//! What comes before the paths of the API: the beginning that a proxy leaves on them, and pages of other sites.
//!
//! A browser asks for whatever any page wants, with the login that it remembers. So pages of other sites get nothing
//! and change nothing, unless their origin is among those that the configuration names; `*` lets all of them read.

use super::Api;
use super::reply::Refusal;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use std::borrow::Cow;
use std::sync::Arc;

/// Turns a request into the one that paths are matched against, and tells a browser whose pages may read the answer.
pub(super) async fn enter(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let prefix = api.web.path_prefix.as_str();
    if !prefix.is_empty() {
        let path = request.uri().path();
        if path == "/" || path == prefix {
            return Redirect::temporary(&format!("{prefix}/")).into_response();
        }
        let within = path.strip_prefix(prefix).filter(|rest| rest.starts_with('/')).map(str::to_owned);
        let Some(within) = within else { return Refusal::missing().into_response() };
        replace_path(request.uri_mut(), &within);
    }
    let request = usual_path(request);
    let allowed = allowed_origin(&api.web.allow_origins, request.headers());
    let asks_first = request.method() == Method::OPTIONS;
    let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response = next.run(request).await;
    if let Some(origin) = allowed {
        let max_age = asks_first.then(|| api.web.cors_max_age.into());
        share(response.headers_mut(), origin, wanted, max_age);
    }
    response
}

/// RabbitMQ takes a path with a slash at its end for the one without, and nothing between two slashes for the name of
/// the default exchange; clients use both.
pub(super) fn usual_path(mut request: Request) -> Request {
    let given = request.uri().path();
    let mut path = Cow::Borrowed(given.strip_suffix('/').unwrap_or(given));
    if ["/api/exchanges/", "/api/bindings/"].iter().any(|start| path.starts_with(start))
        && path.contains("//")
    {
        path = path.replace("//", "/amq.default/").into();
    }
    if *path != *given && !path.is_empty() {
        let path = path.into_owned();
        replace_path(request.uri_mut(), &path);
    }
    request
}

fn replace_path(uri: &mut Uri, path: &str) {
    let other = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    if let Ok(other) = other.parse() {
        *uri = other;
    }
}

/// The origin of a page that may read answers, as the answer names it.
fn allowed_origin(allowed: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN).filter(|_| !allowed.is_empty())?;
    if is_named(allowed, origin) {
        return Some(origin.clone());
    }
    allowed.iter().any(|it| it == "*").then(|| HeaderValue::from_static("*"))
}

fn is_named(allowed: &[String], origin: &HeaderValue) -> bool {
    origin.to_str().is_ok_and(|origin| allowed.iter().any(|it| it.eq_ignore_ascii_case(origin)))
}

/// Lets pages of this origin read the answer. `max_age`: it was asked what they may do.
fn share(
    headers: &mut HeaderMap,
    origin: HeaderValue,
    wanted: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
) {
    // With the login that a browser remembers; it does not send that along for everybody.
    if origin != "*" {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let Some(max_age) = max_age else { return };
    let mut copy = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    copy(header::ACCESS_CONTROL_MAX_AGE, Some(max_age));
    copy(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    let methods = headers.get(header::ALLOW).cloned();
    if let Some(methods) = methods {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
}

/// Refuses changes that a page of another site asks a browser for: a browser adds the login by
/// itself, so the login proves nothing. Programs send neither header.
pub(super) async fn own_pages_only(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if !request.method().is_safe()
        && let Err(refusal) = refuse_foreign(&api, request.headers())
    {
        return refusal.into_response();
    }
    next.run(request).await
}

/// The same for a handler that changes something although its method says that it does not.
pub(super) fn refuse_foreign(api: &Api, headers: &HeaderMap) -> Result<(), Refusal> {
    let named = || headers.get(header::ORIGIN).is_some_and(|origin| is_named(&api.web.allow_origins, origin));
    if is_foreign(headers) && !named() {
        return Err(Refusal::not_authorised("Requests from pages of other sites are refused"));
    }
    Ok(())
}

fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => !matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").map(|(_, host)| host) != text("host"),
        (None, None) => false,
    }
}
