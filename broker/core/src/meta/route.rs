//! From a message to the queues it goes to, across exchanges.

use super::entities::{Destination, ExchangeId};
use super::{Exchange, MetaSm};
use crate::exchange::{ExchangeType, WordScratch, delayed};
use crate::ids::{QueueId, VhostId};
use amqp::content::Properties;
use amqp::table::Table;

/// Lists reused from message to message.
#[derive(Debug, Default)]
pub struct RouteScratch {
    destinations: Vec<Destination>,
    pending: Vec<ExchangeId>,
    visited: Vec<ExchangeId>,
    delaying: Vec<QueueId>,
    words: WordScratch,
}

impl RouteScratch {
    /// Those of the queues found last that are not queues: delayed messages of an exchange wait there.
    pub fn delaying(&self) -> &[QueueId] {
        &self.delaying
    }
}

/// What exchanges look at.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The routing key and those of the `CC` and `BCC` headers.
    pub keys: &'a [&'a str],
    /// The `headers` property.
    pub headers: Option<&'a Table<'a>>,
    /// All properties.
    pub properties: Option<&'a Properties<'a>>,
}

/// What routing found out besides the queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Routed {
    /// Another message with the same exchange and routing keys goes to the same queues, until
    /// [`MetaSm::version`] changes. Not so where a headers exchange or one that delays had a say.
    pub cacheable: bool,
}

impl MetaSm {
    /// Finds the queues that a message goes to: `out` gets each of them once, in ascending order.
    /// `keys` are the routing key and those of the `CC` and `BCC` headers.
    ///
    /// Where an exchange delays the message, the place where it waits ([`delayed::store_of`]) is one of them.
    ///
    /// Exchanges bound to each other in circles are visited once. An exchange from which nothing
    /// leads on hands the message to its alternate exchange; a missing one is passed over.
    ///
    /// `None` when there is no such exchange. Whether a client may publish to it is for
    /// [`super::checks::publish`] to say.
    pub fn route(
        &self,
        vhost: VhostId,
        exchange: &str,
        keys: &[&str],
        headers: Option<&Table<'_>>,
        out: &mut Vec<QueueId>,
        scratch: &mut RouteScratch,
    ) -> Option<Routed> {
        let message = Message { keys, headers, properties: None };
        self.route_message(vhost, exchange, message, out, scratch)
    }

    /// As [`MetaSm::route`], for exchanges too that look at other properties than the headers.
    pub fn route_message(
        &self,
        vhost: VhostId,
        exchange: &str,
        message: Message<'_>,
        out: &mut Vec<QueueId>,
        scratch: &mut RouteScratch,
    ) -> Option<Routed> {
        let keys = message.keys;
        out.clear();
        scratch.delaying.clear();
        let state = self.vhost(vhost)?;
        let mut routed = Routed { cacheable: true };
        if exchange.is_empty() {
            self.route_by_name(vhost, keys, out);
        } else {
            scratch.pending.clear();
            scratch.visited.clear();
            let first = *state.exchanges.get(exchange)?;
            scratch.pending.push(first);
            scratch.visited.push(first);
            while let Some(id) = scratch.pending.pop() {
                let Some(exchange) = self.exchange(id) else { continue };
                routed.cacheable &=
                    exchange.kind != ExchangeType::Delayed && exchange.router.depends_on_key_only();
                self.visit(exchange, message, out, scratch);
            }
        }
        out.sort_unstable();
        out.dedup();
        Some(routed)
    }

    /// The default exchange: every queue is bound to it by its name. RabbitMQ does so only for what
    /// is published to it, not for what reaches it as an alternate exchange.
    fn route_by_name(&self, vhost: VhostId, keys: &[&str], out: &mut Vec<QueueId>) {
        if let Some(state) = self.vhost(vhost) {
            out.extend(keys.iter().filter_map(|key| state.queues.get(*key)));
        }
    }

    fn visit(
        &self,
        exchange: &Exchange,
        message: Message<'_>,
        out: &mut Vec<QueueId>,
        scratch: &mut RouteScratch,
    ) {
        scratch.destinations.clear();
        let Message { keys, headers, properties } = message;
        if exchange.kind == ExchangeType::Delayed && delayed::delay_ms(headers).is_some() {
            let store = delayed::store_of(exchange.id);
            scratch.delaying.push(store);
            out.push(store);
            return;
        }
        exchange.router.route(keys, headers, properties, &mut scratch.destinations, &mut scratch.words);
        if scratch.destinations.is_empty() {
            let alternate =
                exchange.alternate.as_deref().and_then(|name| self.exchange_named(exchange.vhost, name));
            scratch.destinations.extend(alternate.map(|exchange| Destination::Exchange(exchange.id)));
        }
        for destination in &scratch.destinations {
            match destination {
                Destination::Queue(id) => out.push(*id),
                Destination::Exchange(id) => {
                    if !scratch.visited.contains(id) {
                        scratch.visited.push(*id);
                        scratch.pending.push(*id);
                    }
                }
            }
        }
    }
}
