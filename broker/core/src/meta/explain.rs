//! Why a message goes where it goes: the way from an exchange to each queue, binding by binding.
//!
//! What is found is what [`MetaSm::route_message`] finds, because the same routing tables are asked; which of the
//! bindings let the message through is asked of a table with that binding alone.

use super::entities::{Destination, ExchangeId};
use super::route::Message;
use super::{BindingSpec, Exchange, MetaSm};
use crate::exchange::{ExchangeType, Router, WordScratch, delayed};
use crate::ids::{QueueId, VhostId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// One step of a message.
#[derive(Clone, Debug)]
pub enum Hop {
    /// Through this binding.
    Binding(BindingSpec),
    /// From the default exchange to the queue whose name is the routing key.
    ByName(Arc<str>),
    /// To the alternate exchange, because no binding of the exchange let it through.
    Alternate {
        /// The exchange.
        from: ExchangeId,
        /// Its alternate exchange.
        to: ExchangeId,
    },
    /// It waits at this exchange until its delay is over; what follows is where it would go then.
    Delayed(ExchangeId),
}

/// Where a message goes.
#[derive(Clone, Debug, Default)]
pub struct Explained {
    /// The queues it reaches, each with the shortest way there.
    pub queues: BTreeMap<QueueId, Vec<Hop>>,
    /// The exchanges it passes, in this order.
    pub exchanges: Vec<ExchangeId>,
    /// Exchanges at which no binding let it through and that have no alternate exchange.
    pub dead_ends: Vec<ExchangeId>,
}

impl MetaSm {
    /// Explains where a message would go. `None` when there is no such exchange.
    pub fn explain(&self, vhost: VhostId, exchange: &str, message: Message<'_>) -> Option<Explained> {
        let mut explained = Explained::default();
        let first = self.exchange_named(vhost, exchange)?;
        explained.exchanges.push(first.id);
        if exchange.is_empty() {
            for key in message.keys {
                match self.queue_named(vhost, key) {
                    Some(queue) => {
                        explained.queues.insert(queue.id, vec![Hop::ByName(Arc::clone(&queue.name))]);
                    }
                    None => explained.dead_ends.push(first.id),
                }
            }
            return Some(explained);
        }
        let mut pending = VecDeque::from([(first, Vec::new())]);
        while let Some((exchange, path)) = pending.pop_front() {
            let path = match exchange.kind == ExchangeType::Delayed
                && delayed::delay_ms(message.headers).is_some()
            {
                true => [path.as_slice(), &[Hop::Delayed(exchange.id)]].concat(),
                false => path,
            };
            let hops = self.hops(exchange, message);
            if hops.is_empty() {
                explained.dead_ends.push(exchange.id);
            }
            for (to, hop) in hops {
                let path = [path.as_slice(), &[hop]].concat();
                match to {
                    Destination::Queue(id) => {
                        explained.queues.entry(id).or_insert(path);
                    }
                    Destination::Exchange(id) if !explained.exchanges.contains(&id) => {
                        let Some(next) = self.exchange(id) else { continue };
                        explained.exchanges.push(id);
                        pending.push_back((next, path));
                    }
                    Destination::Exchange(_) => {}
                }
            }
        }
        Some(explained)
    }

    /// Where a message goes from one exchange, and why.
    fn hops(&self, exchange: &Exchange, message: Message<'_>) -> Vec<(Destination, Hop)> {
        let mut found = Vec::new();
        let mut words = WordScratch::default();
        exchange.router.route(message.keys, message.headers, message.properties, &mut found, &mut words);
        found.sort_unstable();
        found.dedup();
        if found.is_empty() {
            let alternate = exchange.alternate.as_deref();
            let alternate = alternate.and_then(|name| self.exchange_named(exchange.vhost, name));
            let hop = |to: &Exchange| Hop::Alternate { from: exchange.id, to: to.id };
            return alternate.map(|to| (Destination::Exchange(to.id), hop(to))).into_iter().collect();
        }
        // Of several bindings to one place the first is told.
        let bindings = self.bindings_from(exchange.id).filter(|binding| {
            found.contains(&binding.destination) && lets_through(exchange, binding, message, &mut words)
        });
        let mut hops: BTreeMap<Destination, Hop> = BTreeMap::new();
        for binding in bindings {
            hops.entry(binding.destination).or_insert_with(|| Hop::Binding(binding.clone()));
        }
        hops.into_iter().collect()
    }
}

/// Whether a binding by itself lets a message through.
fn lets_through(
    exchange: &Exchange,
    binding: &BindingSpec,
    message: Message<'_>,
    words: &mut WordScratch,
) -> bool {
    let mut alone = Router::new(exchange.kind, &exchange.arguments);
    alone.bind(binding.destination, &binding.routing_key, &binding.arguments, &Arc::from([]));
    let mut out = Vec::new();
    alone.route(message.keys, message.headers, message.properties, &mut out, words);
    !out.is_empty()
}
