//! What Prometheus scrapes on port 15692, under the names that RabbitMQ's dashboards query.
//!
//! | path | what |
//! | --- | --- |
//! | `/metrics` | sums over the node: as many series however many queues there are |
//! | `/metrics/per-object` | a series for each queue, channel and connection |
//! | `/metrics/detailed?family=…&vhost=…` | chosen families, some with a series for each object |
//!
//! Nobody has to log in, as with RabbitMQ. Of very many objects only the first have series of their own, the others
//! one together: what a scrape costs is bounded.

mod exposition;
mod families;
mod names;
mod objects;

use super::Api;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use exposition::Exposition;
use families::Family;
use objects::Scope;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Content type of the text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves metrics, for as long as the future is kept.
pub(crate) async fn serve(api: Arc<Api>, listener: TcpListener) {
    let router = Router::new()
        .route("/metrics", get(aggregated))
        .route("/metrics/per-object", get(per_object))
        .route("/metrics/detailed", get(detailed))
        .route("/metrics/memory-breakdown", get(aggregated))
        .fallback(async || StatusCode::NOT_FOUND)
        .with_state(api);
    super::server::serve(listener, router, false).await;
}

async fn aggregated(State(api): State<Arc<Api>>) -> Response {
    answer(api, |api, out| {
        families::node(api, out, "rabbitmq_");
        families::sums(api, out);
    })
    .await
}

async fn per_object(State(api): State<Arc<Api>>) -> Response {
    answer(api, |api, out| {
        families::node(api, out, "rabbitmq_");
        families::totals(api, out);
        for family in Family::OBJECTS {
            family.write(api, out, "rabbitmq_", &Scope::default());
        }
    })
    .await
}

async fn detailed(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let mut chosen: Vec<Family> = Vec::new();
    let mut scope = Scope::default();
    for (name, value) in form(&query) {
        match name.as_str() {
            "family" => match Family::named(&value) {
                Some(family) if !chosen.contains(&family) => chosen.push(family),
                Some(_) => {}
                None => {
                    let known: Vec<&str> = Family::ALL.iter().map(|family| family.name()).collect();
                    let text = format!("there is no family {value}; there are {}\n", known.join(", "));
                    return (StatusCode::BAD_REQUEST, text).into_response();
                }
            },
            "vhost" => scope.vhosts.get_or_insert_default().push(value),
            _ => {}
        }
    }
    answer(api, move |api, out| {
        families::identity(api, out);
        for family in chosen {
            family.write(api, out, "rabbitmq_detailed_", &scope);
        }
    })
    .await
}

/// Many objects take a while: not for the threads that serve others.
async fn answer(api: Arc<Api>, write: impl FnOnce(&Api, &mut Exposition) + Send + 'static) -> Response {
    let written = tokio::task::spawn_blocking(move || {
        let mut out = Exposition::default();
        write(&api, &mut out);
        out.finish()
    });
    match written.await {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The pairs of a query, decoded.
fn form(query: &str) -> Vec<(String, String)> {
    let uri = format!("/?{query}").parse();
    uri.ok()
        .and_then(|uri| axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).ok())
        .map(|axum::extract::Query(pairs)| pairs)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_and_repeated_names_kept() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            form("family=a&vhost=%2F&family=b"),
            [pair("family", "a"), pair("vhost", "/"), pair("family", "b")]
        );
        assert!(form("").is_empty());
    }
}
