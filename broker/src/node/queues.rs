//! Queues as the metadata describes them.

use crate::shard::LocalQueue;
use broker_core::exchange::{ExchangeType, delayed};
use broker_core::ids::VhostId;
use broker_core::meta::options::QueueType;
use broker_core::meta::{Exchange, MetaSm, Queue as MetaQueue};
use broker_core::queue::dead_letter::DeadLetterTarget;
use broker_core::queue::{Overflow, Queue, QueueConfig};
use std::sync::Arc;

/// Behaviour of a queue from its arguments and policies, and from where it is.
pub(super) fn queue_config(known: &MetaQueue) -> QueueConfig {
    let options = &known.options;
    let quorum = options.queue_type == QueueType::Quorum;
    let limit = options.delivery_limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
    QueueConfig {
        message_ttl_ms: options.message_ttl,
        expires_ms: options.expires,
        max_length: options.max_length,
        max_length_bytes: options.max_length_bytes,
        overflow: match options.overflow.unwrap_or_default() {
            // RabbitMQ warns about it and goes on with the default.
            Overflow::RejectPublishDlx if quorum => Overflow::DropHead,
            overflow => overflow,
        },
        dead_letter: options.dead_letter_exchange.as_ref().map(|exchange| DeadLetterTarget {
            exchange: Arc::clone(exchange),
            routing_key: options.dead_letter_routing_key.clone(),
        }),
        max_priority: options.max_priority,
        single_active_consumer: options.single_active_consumer,
        quorum,
        mirrored: known.placement.replicas.len() > 1,
        delivery_limit: limit.filter(|_| quorum),
    }
}

pub(super) fn new_queue(sm: &MetaSm, known: &MetaQueue, now: u64) -> LocalQueue {
    let vhost = vhost_name(sm, known.vhost);
    let config = queue_config(known);
    Queue::new(known.id, vhost, Arc::clone(&known.name), known.durable, config, now)
        .auto_delete(known.auto_delete)
}

/// The name of a vhost, shared by its queues.
fn vhost_name(sm: &MetaSm, id: VhostId) -> Arc<str> {
    sm.vhost(id).map_or_else(Arc::default, |state| Arc::clone(&state.vhost.name))
}

pub(super) fn is_delaying(exchange: &&Exchange) -> bool {
    exchange.kind == ExchangeType::Delayed
}

/// Where the delayed messages of an exchange wait.
pub(super) fn new_store(sm: &MetaSm, exchange: &Exchange, now: u64) -> LocalQueue {
    let vhost = vhost_name(sm, exchange.vhost);
    let (id, config) = (delayed::store_of(exchange.id), QueueConfig::default());
    Queue::new(id, vhost, Arc::clone(&exchange.name), exchange.durable, config, now).delaying()
}
