//! How a queue behaves.

use super::dead_letter::DeadLetterTarget;
pub use crate::meta::options::Overflow;
use std::sync::{Arc, OnceLock};

/// A queue's behaviour: declared arguments and policy combined.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QueueConfig {
    /// `x-message-ttl`, milliseconds.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`, milliseconds of disuse.
    pub expires_ms: Option<u64>,
    /// `x-max-length`, ready messages.
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`, body octets of ready messages.
    pub max_length_bytes: Option<u64>,
    /// `x-overflow`.
    pub overflow: Overflow,
    /// `x-dead-letter-exchange` and `-routing-key`.
    pub dead_letter: Option<DeadLetterTarget>,
    /// `x-max-priority`.
    pub max_priority: Option<u8>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// `x-queue-type` is `quorum`.
    pub quorum: bool,
    /// It has copies on other nodes.
    pub mirrored: bool,
    /// `x-delivery-limit` of a quorum queue: redeliveries before a message is dead lettered.
    pub delivery_limit: Option<u32>,
}

impl QueueConfig {
    /// The same, sharing one value among all queues without arguments and policies.
    pub(super) fn shared(self) -> Arc<QueueConfig> {
        static PLAIN: OnceLock<Arc<QueueConfig>> = OnceLock::new();
        let plain = PLAIN.get_or_init(Arc::default);
        if self == **plain { Arc::clone(plain) } else { Arc::new(self) }
    }
}
