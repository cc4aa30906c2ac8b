//! A transaction: publishes and settlements that wait for `tx.commit` (AMQP 0-9-1 section 1.9).

use super::deliveries::Unacked;
use crate::ids::QueueId;
use crate::message::Message;
use crate::queue::Settle;
use std::sync::Arc;

/// A publish that waits for the commit.
#[derive(Debug)]
pub struct TxPublish {
    /// The message.
    pub message: Arc<Message>,
    /// The `expiration` property in milliseconds.
    pub expiration_ms: Option<u64>,
    /// The `priority` property.
    pub priority: u8,
    /// Return it when nothing is routed to.
    pub mandatory: bool,
    /// Where it goes. RabbitMQ routes when the publish arrives, not at the commit.
    pub targets: Vec<QueueId>,
}

/// What a channel in transaction mode has collected since the last commit or rollback.
#[derive(Debug, Default)]
pub struct Transaction {
    /// In the order of publishing.
    pub publishes: Vec<TxPublish>,
    /// In the order of settling, with the delivery tags.
    pub settlements: Vec<(Settle, Vec<(u64, Unacked)>)>,
    bytes: usize,
}

impl Transaction {
    /// Adds a publish. Returns the octets the transaction holds now.
    pub fn publish(&mut self, publish: TxPublish) -> usize {
        // Each queue it goes to writes it to the log.
        self.bytes =
            self.bytes.saturating_add(publish.message.memory().saturating_mul(publish.targets.len().max(1)));
        self.publishes.push(publish);
        self.bytes
    }

    /// Takes everything out, leaving the next transaction empty.
    pub fn take(&mut self) -> Transaction {
        std::mem::take(self)
    }
}
