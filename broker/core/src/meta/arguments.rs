//! Which arguments of a declare or a consume are valid, and what RabbitMQ says about the others.
//!
//! The texts show the reason as Erlang prints a term, because that is what clients and people know.

use super::command::{DeclareExchange, DeclareQueue};
use super::{MetaSm, TRANSIENT};
use crate::exception::Exception;
use crate::exchange::{ExchangeType, consistent_hash, delayed};
use amqp::reply_code;
use amqp::table::{FieldTable, FieldValue};
use std::sync::Arc;

/// Longest time to live that RabbitMQ takes, in milliseconds: ten years of 365 days.
pub const MAX_EXPIRY: i64 = 315_360_000_000;

/// Arguments whose value RabbitMQ compares when a queue is declared again, in its order.
pub(super) const COMPARED: [&str; 22] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-quorum-initial-group-size",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-initial-cluster-size",
    "x-queue-leader-locator",
    "x-delivery-limit",
    "x-queue-master-locator",
];

/// Arguments that a quorum queue does not take.
const NOT_FOR_QUORUM: [&str; 7] = [
    "x-max-priority",
    "x-queue-mode",
    "x-queue-version",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-initial-cluster-size",
    "x-queue-master-locator",
];

/// RabbitMQ's name of the type in its texts.
const QUORUM: &str = "rabbit_quorum_queue";

/// Whether a queue of this type may have a name made by the server.
pub fn validate_server_named(arguments: &FieldTable) -> Result<(), Exception> {
    match arguments.get("x-queue-type").and_then(FieldValue::as_str) {
        Some("quorum") => Err(Exception::channel(
            reply_code::PRECONDITION_FAILED,
            format!("Cannot declare a server-named queue for type {QUORUM}"),
        )),
        _ => Ok(()),
    }
}

/// Arguments that a classic queue does not take.
const NOT_FOR_CLASSIC: [&str; 9] = [
    "x-dead-letter-strategy",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-queue-leader-locator",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-initial-cluster-size",
];

/// The `alternate-exchange` argument.
pub fn alternate_exchange(arguments: &FieldTable) -> Option<Arc<str>> {
    arguments.get("alternate-exchange").and_then(FieldValue::as_str).map(Arc::from)
}

/// Whether an exchange may be declared with these arguments.
pub fn validate_exchange(sm: &MetaSm, declare: &DeclareExchange) -> Result<(), Exception> {
    let kind = match declare.kind {
        ExchangeType::Delayed => delayed::validate_arguments(&declare.arguments)?,
        kind => kind,
    };
    if kind == ExchangeType::ConsistentHash {
        consistent_hash::validate_arguments(&declare.arguments)?;
    }
    match declare.arguments.get("alternate-exchange") {
        None | Some(FieldValue::LongStr(_)) => Ok(()),
        Some(other) => Err(Exception::channel(
            reply_code::PRECONDITION_FAILED,
            format!(
                "invalid type '{}' for arg 'alternate-exchange' in {}",
                other.type_name(),
                sm.exchange_title(declare.vhost, &declare.name)
            ),
        )),
    }
}

/// Whether a queue may be declared with these arguments and properties.
pub fn validate_queue(sm: &MetaSm, declare: &DeclareQueue) -> Result<(), Exception> {
    let title = || sm.queue_title(declare.vhost, &declare.name);
    match declare.arguments.get("x-dead-letter-exchange") {
        None | Some(FieldValue::LongStr(_)) => {}
        Some(other) => {
            return Err(Exception::channel(
                reply_code::PRECONDITION_FAILED,
                format!(
                    "invalid type '{}' for arg 'x-dead-letter-exchange' in {}",
                    other.type_name(),
                    title()
                ),
            ));
        }
    }
    let invalid = |key: &str, reason: &str| {
        Exception::channel(
            reply_code::PRECONDITION_FAILED,
            format!("invalid arg '{key}' for {}: {reason}", title()),
        )
    };
    let check = |key: &str| match declare.arguments.get(key) {
        Some(value) => {
            check_queue_argument(key, value, &declare.arguments).map_err(|reason| invalid(key, &reason))
        }
        None => Ok(()),
    };
    check("x-queue-type")?;
    let kind = declare.arguments.get("x-queue-type").and_then(FieldValue::as_str);
    match kind {
        Some("stream") => {
            return Err(Exception::connection(
                reply_code::NOT_IMPLEMENTED,
                format!("{} would be a stream, which this broker does not have", title()),
            ));
        }
        Some("quorum") => refuse_keys(sm, declare, &NOT_FOR_QUORUM, QUORUM)?,
        _ => refuse_keys(sm, declare, &NOT_FOR_CLASSIC, "rabbit_classic_queue")?,
    }
    for key in COMPARED {
        check(key)?;
    }
    if kind == Some("quorum") { validate_quorum(sm, declare) } else { Ok(()) }
}

fn validate_quorum(sm: &MetaSm, declare: &DeclareQueue) -> Result<(), Exception> {
    let property = if declare.auto_delete {
        "auto-delete"
    } else if declare.owner.is_some() {
        "exclusive-owner"
    } else if !declare.durable {
        "non-durable"
    } else {
        return Ok(());
    };
    Err(Exception::channel(
        reply_code::PRECONDITION_FAILED,
        format!("invalid property '{property}' for {}", sm.queue_title(declare.vhost, &declare.name)),
    ))
}

fn refuse_keys(sm: &MetaSm, declare: &DeclareQueue, keys: &[&str], kind: &str) -> Result<(), Exception> {
    match declare.arguments.iter().find(|(key, _)| keys.contains(key)) {
        None => Ok(()),
        Some((key, _)) => Err(Exception::channel(
            reply_code::PRECONDITION_FAILED,
            format!(
                "invalid arg '{key}' for {} of queue type {kind}",
                sm.queue_title(declare.vhost, &declare.name)
            ),
        )),
    }
}

/// Checks one argument; the error is the reason as RabbitMQ prints it.
fn check_queue_argument(key: &str, value: &FieldValue, all: &FieldTable) -> Result<(), String> {
    match key {
        "x-expires" => match integer(value)? {
            0 => Err("{value_zero,0}".to_owned()),
            other => expiry(other),
        },
        "x-message-ttl" => expiry(integer(value)?),
        "x-dead-letter-routing-key" => {
            long_string(value)?;
            if all.contains("x-dead-letter-exchange") {
                Ok(())
            } else {
                Err("routing_key_but_no_dlx_defined".to_owned())
            }
        }
        "x-dead-letter-strategy" => {
            one_of(value, &["at-most-once", "at-least-once"], |_| "invalid_dlx_strategy".to_owned())
        }
        "x-max-length"
        | "x-max-length-bytes"
        | "x-max-in-memory-length"
        | "x-max-in-memory-bytes"
        | "x-stream-max-segment-size-bytes" => not_negative(value).map(drop),
        "x-max-priority" => match not_negative(value)? {
            0..=255 => Ok(()),
            more => Err(format!("{{max_value_exceeded,{more}}}")),
        },
        "x-overflow" => one_of(value, &["drop-head", "reject-publish", "reject-publish-dlx"], |_| {
            "invalid_overflow".to_owned()
        }),
        "x-queue-mode" => {
            one_of(value, &["default", "lazy"], |other| format!("\"unsupported queue mode '{other}'\""))
        }
        "x-queue-version" => match not_negative(value)? {
            1 | 2 => Ok(()),
            other => Err(format!("\"unsupported queue version '{other}'\"")),
        },
        "x-single-active-consumer" => boolean(value),
        "x-queue-type" => one_of(value, &["classic", "quorum", "stream"], |other| {
            format!("\"unsupported queue type '{other}'\"")
        }),
        "x-quorum-initial-group-size" | "x-initial-cluster-size" => match not_negative(value)? {
            0 => Err("{value_zero,0}".to_owned()),
            _ => Ok(()),
        },
        "x-queue-leader-locator" => {
            one_of(value, &["client-local", "random", "least-leaders", "balanced"], |_| {
                "invalid_queue_locator_arg".to_owned()
            })
        }
        "x-queue-master-locator" => one_of(value, &["client-local", "min-masters", "random"], |_| {
            "invalid_queue_locator_arg".to_owned()
        }),
        "x-max-age" => long_string(value).map(drop),
        _ => Ok(()),
    }
}

fn integer(value: &FieldValue) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("\"expected integer, got {}\"", value.type_name()))
}

fn not_negative(value: &FieldValue) -> Result<i64, String> {
    match integer(value)? {
        negative if negative < 0 => Err(format!("{{value_negative,{negative}}}")),
        other => Ok(other),
    }
}

fn expiry(milliseconds: i64) -> Result<(), String> {
    match milliseconds {
        negative if negative < 0 => Err(format!("{{value_negative,{negative}}}")),
        large if large > MAX_EXPIRY => Err(format!("{{value_too_large,{large}}}")),
        _ => Ok(()),
    }
}

fn boolean(value: &FieldValue) -> Result<(), String> {
    value.as_bool().map(drop).ok_or_else(|| unacceptable(value))
}

fn long_string(value: &FieldValue) -> Result<&str, String> {
    match value {
        FieldValue::LongStr(octets) => Ok(std::str::from_utf8(octets).unwrap_or_default()),
        other => Err(unacceptable(other)),
    }
}

fn one_of(value: &FieldValue, words: &[&str], otherwise: impl Fn(&str) -> String) -> Result<(), String> {
    let word = long_string(value)?;
    if words.contains(&word) { Ok(()) } else { Err(otherwise(word)) }
}

fn unacceptable(value: &FieldValue) -> String {
    format!("{{unacceptable_type,{}}}", value.type_name())
}

/// Whether an identity belongs to something that is never written to disk.
pub fn is_transient(id: u64) -> bool {
    id & TRANSIENT != 0
}
