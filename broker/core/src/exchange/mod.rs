//! How exchanges route: one routing table per exchange, kept up to date binding by binding.
//!
//! A [`Router`] maps routing keys and headers to destinations of its own bindings only. Following
//! exchange-to-exchange bindings and alternate exchanges is [`crate::meta::route`]'s job.

pub mod consistent_hash;
pub mod delayed;
pub mod direct;
pub mod fanout;
pub mod headers;
mod targets;
pub mod topic;

#[cfg(test)]
mod tests;

use crate::exception::Exception;
use crate::meta::Destination;
use amqp::content::Properties;
use amqp::reply_code;
use amqp::table::{FieldTable, Table};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use targets::Targets;

/// The type of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum ExchangeType {
    /// Routing key equals binding key.
    Direct,
    /// To everything bound.
    Fanout,
    /// Binding keys are patterns of words.
    Topic,
    /// Binding arguments are compared with the message's headers.
    Headers,
    /// To one of the destinations, by a hash.
    ConsistentHash,
    /// As another type does, after a delay.
    Delayed,
}

impl ExchangeType {
    /// The name clients use.
    pub fn name(self) -> &'static str {
        match self {
            ExchangeType::Direct => "direct",
            ExchangeType::Fanout => "fanout",
            ExchangeType::Topic => "topic",
            ExchangeType::Headers => "headers",
            ExchangeType::ConsistentHash => "x-consistent-hash",
            ExchangeType::Delayed => "x-delayed-message",
        }
    }

    /// The type called `name`.
    pub fn from_name(name: &str) -> Option<ExchangeType> {
        match name {
            "direct" => Some(ExchangeType::Direct),
            "fanout" => Some(ExchangeType::Fanout),
            "topic" => Some(ExchangeType::Topic),
            "headers" => Some(ExchangeType::Headers),
            "x-consistent-hash" => Some(ExchangeType::ConsistentHash),
            "x-delayed-message" => Some(ExchangeType::Delayed),
            _ => None,
        }
    }
}

/// What RabbitMQ says about the name of a type that is none.
pub fn unknown_type(name: &str) -> Exception {
    let what = if name.is_empty() { "invalid" } else { "unknown" };
    Exception::connection(reply_code::COMMAND_INVALID, format!("{what} exchange type '{name}'"))
}

/// Whether a binding makes sense for an exchange of this type, declared with `declared`.
pub fn validate_binding(
    kind: ExchangeType,
    declared: &FieldTable,
    routing_key: &str,
    arguments: &FieldTable,
) -> Result<(), Exception> {
    match kind {
        ExchangeType::Headers => headers::validate(arguments),
        ExchangeType::ConsistentHash => consistent_hash::validate_binding(routing_key),
        ExchangeType::Delayed => match delayed::underlying(declared) {
            Some(kind) => validate_binding(kind, declared, routing_key, arguments),
            None => Ok(()),
        },
        ExchangeType::Direct | ExchangeType::Fanout | ExchangeType::Topic => Ok(()),
    }
}

/// The routing table of one exchange.
#[derive(Debug)]
pub enum Router {
    /// See [`direct`].
    Direct(direct::Direct),
    /// See [`fanout`].
    Fanout(fanout::Fanout),
    /// See [`topic`].
    Topic(topic::Topic),
    /// See [`headers`].
    Headers(headers::Headers),
    /// See [`consistent_hash`].
    ConsistentHash(consistent_hash::ConsistentHash),
}

impl Router {
    /// An empty table of an exchange that was declared with these arguments.
    pub fn new(kind: ExchangeType, arguments: &FieldTable) -> Router {
        match kind {
            ExchangeType::Direct => Router::Direct(direct::Direct::default()),
            ExchangeType::Fanout => Router::Fanout(fanout::Fanout::default()),
            ExchangeType::Topic => Router::Topic(topic::Topic::default()),
            ExchangeType::Headers => Router::Headers(headers::Headers::default()),
            ExchangeType::ConsistentHash => {
                Router::ConsistentHash(consistent_hash::ConsistentHash::new(arguments))
            }
            // A declare without a type that routes is refused.
            ExchangeType::Delayed => {
                Router::new(delayed::underlying(arguments).unwrap_or(ExchangeType::Direct), arguments)
            }
        }
    }

    /// Adds a binding that is not there yet. `identity` is the canonical form of its arguments.
    pub fn bind(&mut self, to: Destination, key: &Arc<str>, arguments: &FieldTable, identity: &Arc<[u8]>) {
        match self {
            Router::Direct(direct) => direct.bind(to, key),
            Router::Fanout(fanout) => fanout.bind(to),
            Router::Topic(topic) => topic.bind(to, key),
            Router::Headers(headers) => headers.bind(to, key, arguments, identity),
            Router::ConsistentHash(hash) => hash.bind(to, key, identity),
        }
    }

    /// Takes a binding away that is there.
    pub fn unbind(&mut self, to: Destination, key: &Arc<str>, identity: &Arc<[u8]>) {
        match self {
            Router::Direct(direct) => direct.unbind(to, key),
            Router::Fanout(fanout) => fanout.unbind(to),
            Router::Topic(topic) => topic.unbind(to, key),
            Router::Headers(headers) => headers.unbind(to, key, identity),
            Router::ConsistentHash(hash) => hash.unbind(to, key, identity),
        }
    }

    /// Appends where a message with these routing keys and headers goes. Destinations may occur
    /// more than once.
    pub fn route(
        &self,
        keys: &[&str],
        headers: Option<&Table<'_>>,
        properties: Option<&Properties<'_>>,
        out: &mut Vec<Destination>,
        words: &mut WordScratch,
    ) {
        match self {
            Router::Direct(direct) => keys.iter().for_each(|key| direct.route(key, out)),
            Router::Fanout(fanout) => fanout.route(out),
            Router::Topic(topic) => keys.iter().for_each(|key| topic.route(key, out, words)),
            Router::Headers(table) => table.route(headers, out),
            Router::ConsistentHash(hash) => hash.route(keys, headers, properties, out),
        }
    }

    /// Whether equal routing keys always lead to the same place while bindings stay the same.
    pub fn depends_on_key_only(&self) -> bool {
        match self {
            Router::Headers(_) => false,
            Router::ConsistentHash(hash) => hash.depends_on_key_only(),
            Router::Direct(_) | Router::Fanout(_) | Router::Topic(_) => true,
        }
    }
}

/// Lists reused from message to message by the topic search.
#[derive(Debug, Default)]
pub struct WordScratch {
    active: Vec<u32>,
    next: Vec<u32>,
}
