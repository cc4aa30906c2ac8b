//! `rabbitmq_http_client` against a broker: `http ENDPOINT AMQP-PORT` says `ok NAME` for each part that works.
//!
//! What the client reads has to fit its own types, so that every list and every object is held against them. Somebody
//! is connected meanwhile as `seen`, with a consumer, and somebody as `closed`, whose connection is closed.

mod objects;
mod rules;
mod state;
mod users;

use rabbitmq_http_client::blocking_api::Client;
use serde_json::{Map, Value};
use std::fmt::Debug;

/// The API, as guest.
type Api = Client<String, &'static str, &'static str>;

/// A vhost whose name has to be escaped.
const VHOST: &str = "http client / vhost";
/// A user without rights at first.
const USER: &str = "http-client-user";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().expect("the endpoint");
    let port: u16 = arguments.next().and_then(|port| port.parse().ok()).expect("the AMQP port");
    let api = Client::new(endpoint.clone(), "guest", "guest");
    state::overview(&api);
    state::nodes(&api);
    objects::vhosts(&api);
    users::users(&api);
    users::permissions(&api);
    objects::queues(&api);
    objects::exchanges(&api);
    objects::bindings(&api);
    rules::policies(&api);
    rules::parameters(&api);
    rules::limits(&api);
    objects::messages(&api);
    state::connections(&api);
    rules::definitions(&api);
    state::health_checks(&api, port);
    users::refusals(&api, endpoint);
}

fn passed(name: &str) {
    println!("ok {name}");
}

fn must<T, E: Debug>(what: &str, answer: Result<T, E>) -> T {
    answer.unwrap_or_else(|error| panic!("{what}: {error:?}"))
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().cloned().expect("an object")
}
