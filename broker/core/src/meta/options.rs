//! What a queue obeys: its arguments, and policies on top.

use super::policy::Definition;
use amqp::table::{FieldTable, FieldValue};
use std::sync::{Arc, OnceLock};

/// What happens to a message for which a queue has no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overflow {
    /// The oldest message goes (to the dead letter exchange, if there is one).
    #[default]
    DropHead,
    /// The new message is refused; a confirming publisher gets a nack.
    RejectPublish,
    /// The same, and the refused message is dead-lettered.
    RejectPublishDlx,
}

impl Overflow {
    /// The overflow called `name`.
    pub fn from_name(name: &str) -> Option<Overflow> {
        match name {
            "drop-head" => Some(Overflow::DropHead),
            "reject-publish" => Some(Overflow::RejectPublish),
            "reject-publish-dlx" => Some(Overflow::RejectPublishDlx),
            _ => None,
        }
    }

    /// The word for it in arguments and policies.
    pub fn name(self) -> &'static str {
        match self {
            Overflow::DropHead => "drop-head",
            Overflow::RejectPublish => "reject-publish",
            Overflow::RejectPublishDlx => "reject-publish-dlx",
        }
    }
}

/// The `x-queue-type` argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum QueueType {
    /// What a queue is without the argument.
    #[default]
    Classic,
    /// Served as a mirrored durable queue.
    Quorum,
}

impl QueueType {
    /// The word in the argument and in listings.
    pub fn name(self) -> &'static str {
        match self {
            QueueType::Classic => "classic",
            QueueType::Quorum => "quorum",
        }
    }
}

/// What a queue obeys, with RabbitMQ's words and milliseconds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QueueOptions {
    /// `x-message-ttl`: milliseconds a message may wait.
    pub message_ttl: Option<u64>,
    /// `x-expires`: milliseconds the queue may be unused.
    pub expires: Option<u64>,
    /// `x-max-length`: ready messages.
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`: octets of ready bodies.
    pub max_length_bytes: Option<u64>,
    /// `x-overflow`, where somebody chose it.
    pub overflow: Option<Overflow>,
    /// `x-dead-letter-exchange`; `Some("")` is the default exchange.
    pub dead_letter_exchange: Option<Arc<str>>,
    /// `x-dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<Arc<str>>,
    /// `x-max-priority`, 0 to 255. An argument only, never a policy.
    pub max_priority: Option<u8>,
    /// `x-single-active-consumer`. An argument only.
    pub single_active_consumer: bool,
    /// `x-queue-mode` is `lazy`, where somebody chose it.
    pub lazy: Option<bool>,
    /// `x-queue-type`. An argument only.
    pub queue_type: QueueType,
    /// `x-delivery-limit`: deliveries after which a returned message is dead-lettered.
    pub delivery_limit: Option<u64>,
    /// `consumer-timeout` or `x-consumer-timeout` in milliseconds.
    pub consumer_timeout: Option<u64>,
    /// `ha-mode` with what belongs to it; from policies only.
    pub mirroring: Option<Mirroring>,
    /// `x-queue-master-locator` or `x-queue-leader-locator`, where somebody chose one.
    pub locator: Option<LeaderLocator>,
    /// `x-quorum-initial-group-size`.
    pub group_size: Option<u32>,
}

/// Which node leads a new queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LeaderLocator {
    /// The one its client is connected to.
    #[default]
    ClientLocal,
    /// The one that leads the fewest.
    MinMasters,
    /// Any.
    Random,
}

impl LeaderLocator {
    /// The locator called `name` in arguments, policies or the configuration. RabbitMQ: of quorum queues
    /// `balanced` and `least-leaders` are other words for `min-masters`.
    pub fn from_name(name: &str) -> Option<LeaderLocator> {
        match name {
            "client-local" => Some(LeaderLocator::ClientLocal),
            "min-masters" | "balanced" | "least-leaders" => Some(LeaderLocator::MinMasters),
            "random" => Some(LeaderLocator::Random),
            _ => None,
        }
    }
}

/// How many copies a queue has (`ha-mode`, `ha-params`, `ha-sync-mode`, `ha-promote-on-*`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mirroring {
    /// Which nodes.
    pub mode: MirrorMode,
    /// `ha-sync-mode` is `automatic`.
    pub automatic_sync: bool,
    /// `ha-promote-on-shutdown` is `always`.
    pub promote_on_shutdown: bool,
    /// `ha-promote-on-failure` is `always`.
    pub promote_on_failure: bool,
    /// `ha-min-in-sync`, ours: with fewer nodes in sync, publishes are refused.
    pub min_in_sync: u32,
}

/// The `ha-mode` of a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MirrorMode {
    /// On every broker.
    All,
    /// On this many brokers.
    Exactly(u32),
    /// On these brokers.
    Nodes(Vec<String>),
}

impl QueueOptions {
    /// Reads valid arguments; [`super::arguments::validate_queue`] refuses invalid ones before.
    /// What makes no sense is left out, so that old data never stops a node.
    pub fn from_arguments(arguments: &FieldTable) -> QueueOptions {
        let number = |key: &str| {
            arguments.get(key).and_then(FieldValue::as_i64).and_then(|value| u64::try_from(value).ok())
        };
        let text = |key: &str| arguments.get(key).and_then(FieldValue::as_str);
        QueueOptions {
            message_ttl: number("x-message-ttl"),
            expires: number("x-expires").filter(|value| *value > 0),
            max_length: number("x-max-length"),
            max_length_bytes: number("x-max-length-bytes"),
            overflow: text("x-overflow").and_then(Overflow::from_name),
            dead_letter_exchange: text("x-dead-letter-exchange").map(Arc::from),
            dead_letter_routing_key: text("x-dead-letter-routing-key").map(Arc::from),
            max_priority: number("x-max-priority").and_then(|value| u8::try_from(value).ok()),
            single_active_consumer: arguments.get("x-single-active-consumer").and_then(FieldValue::as_bool)
                == Some(true),
            lazy: text("x-queue-mode").map(|mode| mode == "lazy"),
            queue_type: match text("x-queue-type") {
                Some("quorum") => QueueType::Quorum,
                _ => QueueType::Classic,
            },
            // RabbitMQ: a negative one is exceeded at once.
            delivery_limit: arguments
                .get("x-delivery-limit")
                .and_then(FieldValue::as_i64)
                .map(|limit| u64::try_from(limit).unwrap_or(0)),
            consumer_timeout: number("x-consumer-timeout"),
            mirroring: None,
            locator: text("x-queue-leader-locator")
                .or_else(|| text("x-queue-master-locator"))
                .and_then(LeaderLocator::from_name),
            group_size: number("x-quorum-initial-group-size").and_then(|size| u32::try_from(size).ok()),
        }
    }

    /// The same, sharing one value among all queues without arguments.
    pub fn shared(arguments: &FieldTable) -> Arc<QueueOptions> {
        static PLAIN: OnceLock<Arc<QueueOptions>> = OnceLock::new();
        if arguments.is_empty() {
            return Arc::clone(PLAIN.get_or_init(Arc::default));
        }
        Arc::new(QueueOptions::from_arguments(arguments))
    }

    /// How many nodes the queue shall be on, or `None` where it has one copy or its nodes are named.
    /// A quorum queue has three unless told otherwise, as RabbitMQ's.
    pub fn copies(&self) -> Option<usize> {
        const GROUP_SIZE: u32 = 3;
        match (self.queue_type, &self.mirroring) {
            (QueueType::Quorum, _) => Some(self.group_size.unwrap_or(GROUP_SIZE).max(1) as usize),
            (QueueType::Classic, Some(Mirroring { mode: MirrorMode::Exactly(copies), .. })) => {
                Some((*copies).max(1) as usize)
            }
            _ => None,
        }
    }

    /// Whether a mirror that lacks messages gets them without being told to: `ha-sync-mode` automatic, quorum queues.
    pub fn syncs_by_itself(&self) -> bool {
        self.queue_type == QueueType::Quorum
            || self.mirroring.as_ref().is_none_or(|mirroring| mirroring.automatic_sync)
    }

    /// How many nodes must be in sync for a publish to be taken: a majority of a quorum queue's.
    pub fn min_in_sync(&self, replicas: usize) -> usize {
        match (self.queue_type, &self.mirroring) {
            (QueueType::Quorum, _) => replicas / 2 + 1,
            (QueueType::Classic, Some(mirroring)) => {
                (mirroring.min_in_sync as usize).clamp(1, replicas.max(1))
            }
            (QueueType::Classic, None) => 1,
        }
    }

    /// Arguments, policy and operator policy together. Of limits the lowest counts; otherwise an
    /// argument beats a policy (RabbitMQ: `res_min` and `res_arg` of classic queues), and an
    /// operator policy beats a policy.
    #[must_use]
    pub fn with_policies(&self, policy: Option<&Definition>, operator: Option<&Definition>) -> QueueOptions {
        let mut all = self.clone();
        for definition in [policy, operator].into_iter().flatten() {
            lower(&mut all.message_ttl, definition.number("message-ttl"));
            lower(&mut all.expires, definition.number("expires").filter(|value| *value > 0));
            lower(&mut all.max_length, definition.number("max-length"));
            lower(&mut all.max_length_bytes, definition.number("max-length-bytes"));
            lower(&mut all.delivery_limit, definition.number("delivery-limit"));
            lower(&mut all.consumer_timeout, definition.number("consumer-timeout"));
        }
        if self.queue_type == QueueType::Quorum {
            // RabbitMQ: here a policy beats the argument.
            let number = |of: Option<&Definition>| of?.number("expires").filter(|value| *value > 0);
            let mut policies = number(policy);
            lower(&mut policies, number(operator));
            all.expires = policies.or(self.expires);
        }
        let text = |key: &str| {
            operator.and_then(|definition| definition.text(key)).or_else(|| policy.and_then(|p| p.text(key)))
        };
        if self.dead_letter_exchange.is_none() {
            all.dead_letter_exchange = text("dead-letter-exchange").map(Arc::from);
        }
        if self.dead_letter_routing_key.is_none() {
            all.dead_letter_routing_key = text("dead-letter-routing-key").map(Arc::from);
        }
        all.overflow = all.overflow.or_else(|| text("overflow").and_then(Overflow::from_name));
        all.lazy = all.lazy.or_else(|| text("queue-mode").map(|mode| mode == "lazy"));
        all.locator = all.locator.or_else(|| {
            text("queue-leader-locator")
                .or_else(|| text("queue-master-locator"))
                .and_then(LeaderLocator::from_name)
        });
        all.mirroring =
            operator.and_then(Definition::mirroring).or_else(|| policy.and_then(Definition::mirroring));
        all
    }
}

fn lower(limit: &mut Option<u64>, other: Option<u64>) {
    if let Some(other) = other {
        *limit = Some(limit.map_or(other, |limit| limit.min(other)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[(&str, FieldValue)]) -> QueueOptions {
        let fields = arguments.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        QueueOptions::from_arguments(&FieldTable::from_iter(fields))
    }

    fn policies(own: &QueueOptions, policy: &str, operator: &str) -> QueueOptions {
        own.with_policies(Some(&Definition::parse(policy)), Some(&Definition::parse(operator)))
    }

    #[test]
    fn of_numbers_the_lowest_counts_and_of_words_the_argument_then_the_operator() {
        let own = options(&[("x-max-length", 20.into()), ("x-overflow", "drop-head".into())]);
        let policy = r#"{"max-length":30,"message-ttl":500,"expires":700,"overflow":"reject-publish",
            "dead-letter-exchange":"policy","queue-mode":"lazy"}"#;
        let all = policies(
            &own,
            policy,
            r#"{"max-length":10,"message-ttl":900,"dead-letter-exchange":"operator"}"#,
        );
        assert_eq!((all.max_length, all.message_ttl, all.expires), (Some(10), Some(500), Some(700)));
        assert_eq!(all.overflow, Some(Overflow::DropHead), "the argument says so, though it is the default");
        assert_eq!(all.dead_letter_exchange.as_deref(), Some("operator"));
        assert_eq!(all.lazy, Some(true));
        assert_eq!(policies(&all, "{}", "{}").max_length, Some(10));
    }

    #[test]
    fn on_a_quorum_queue_a_policy_beats_the_argument_of_disuse_and_the_lower_delivery_limit_counts() {
        let quorum =
            [("x-queue-type", "quorum".into()), ("x-expires", 100.into()), ("x-delivery-limit", 5.into())];
        let all = policies(&options(&quorum), r#"{"expires":700}"#, r#"{"expires":600,"delivery-limit":9}"#);
        assert_eq!((all.expires, all.delivery_limit), (Some(600), Some(5)));
        assert_eq!(options(&[("x-delivery-limit", FieldValue::SignedInt(-1))]).delivery_limit, Some(0));
    }
}
