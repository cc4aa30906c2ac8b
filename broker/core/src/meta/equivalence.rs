//! Declaring something that exists: equal enough, or 406 with RabbitMQ's text.

use super::arguments::COMPARED;
use super::command::{DeclareExchange, DeclareQueue};
use super::entities::Queue;
use super::{Exchange, MetaSm, checks};
use crate::exception::Exception;
use crate::exchange::{ExchangeType, delayed};
use amqp::reply_code;
use amqp::table::{FieldTable, FieldValue};

/// Compares a queue with a declare of its name.
pub fn queue(sm: &MetaSm, queue: &Queue, declare: &DeclareQueue) -> Result<(), Exception> {
    if queue.owner != declare.owner {
        return Err(checks::locked(sm, queue));
    }
    let title = || sm.queue_title(queue.vhost, &queue.name);
    let durable = declare.durable && declare.owner.is_none();
    flag(queue.durable, durable, "durable", title)?;
    flag(queue.auto_delete, declare.auto_delete, "auto_delete", title)?;
    for key in COMPARED {
        argument(&queue.arguments, &declare.arguments, key, title)?;
    }
    Ok(())
}

/// Compares an exchange with a declare of its name.
pub fn exchange(sm: &MetaSm, exchange: &Exchange, declare: &DeclareExchange) -> Result<(), Exception> {
    let title = || sm.exchange_title(exchange.vhost, &exchange.name);
    if exchange.kind != declare.kind {
        return Err(inequivalent("type", title, &atom(declare.kind.name()), &atom(exchange.kind.name())));
    }
    flag(exchange.durable, declare.durable, "durable", title)?;
    flag(exchange.auto_delete, declare.auto_delete, "auto_delete", title)?;
    flag(exchange.internal, declare.internal, "internal", title)?;
    if exchange.kind == ExchangeType::Delayed {
        argument(&exchange.arguments, &declare.arguments, delayed::TYPE_ARGUMENT, title)?;
    }
    argument(&exchange.arguments, &declare.arguments, "alternate-exchange", title)
}

fn flag(current: bool, received: bool, key: &str, title: impl Fn() -> String) -> Result<(), Exception> {
    if current == received {
        return Ok(());
    }
    Err(inequivalent(key, title, &format!("'{received}'"), &format!("'{current}'")))
}

fn argument(
    current: &FieldTable,
    received: &FieldTable,
    key: &str,
    title: impl Fn() -> String,
) -> Result<(), Exception> {
    match (current.get(key), received.get(key)) {
        (None, None) => Ok(()),
        // RabbitMQ: a queue without a type is a classic one.
        (None, Some(only)) | (Some(only), None)
            if key == "x-queue-type" && only.as_str() == Some("classic") =>
        {
            Ok(())
        }
        (Some(current), Some(received)) if same(current, received) => Ok(()),
        (Some(current), Some(received)) => {
            Err(inequivalent(key, title, &format!("'{}'", plain(received)), &format!("'{}'", plain(current))))
        }
        (current, received) => Err(inequivalent(key, title, &typed(received), &typed(current))),
    }
}

/// RabbitMQ: equal classes of types and equal values; all integers are one class.
fn same(a: &FieldValue, b: &FieldValue) -> bool {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn inequivalent(key: &str, title: impl Fn() -> String, received: &str, current: &str) -> Exception {
    Exception::channel(
        reply_code::PRECONDITION_FAILED,
        format!("inequivalent arg '{key}' for {}: received {received} but current is {current}", title()),
    )
}

fn typed(value: Option<&FieldValue>) -> String {
    match value {
        None => "none".to_owned(),
        Some(value) => format!("the value '{}' of type '{}'", plain(value), value.type_name()),
    }
}

/// A value as RabbitMQ prints it here: text as it is, the rest as an Erlang term.
pub(crate) fn plain(value: &FieldValue) -> String {
    match value {
        FieldValue::LongStr(octets) | FieldValue::Binary(octets) => {
            String::from_utf8_lossy(octets).into_owned()
        }
        FieldValue::Bool(value) => value.to_string(),
        FieldValue::Float(value) => format!("{value:?}"),
        FieldValue::Double(value) => format!("{value:?}"),
        FieldValue::Decimal { scale, value } => format!("{{{scale},{value}}}"),
        FieldValue::Timestamp(value) => value.to_string(),
        FieldValue::Void => "undefined".to_owned(),
        FieldValue::Array(values) => {
            format!("[{}]", values.iter().map(term).collect::<Vec<_>>().join(","))
        }
        FieldValue::Table(table) => {
            let fields: Vec<String> = table
                .iter()
                .map(|(name, value)| format!("{{<<\"{name}\">>,{},{}}}", value.type_name(), inner(value)))
                .collect();
            format!("[{}]", fields.join(","))
        }
        integer => integer.as_i64().map(|value| value.to_string()).unwrap_or_default(),
    }
}

fn term(value: &FieldValue) -> String {
    format!("{{{},{}}}", value.type_name(), inner(value))
}

pub(crate) fn inner(value: &FieldValue) -> String {
    match value {
        FieldValue::LongStr(octets) | FieldValue::Binary(octets) => {
            let mut text = String::new();
            amqp::erlang::push_binary(&mut text, octets);
            text
        }
        other => plain(other),
    }
}

/// An Erlang atom in quotes of our text: `'fanout'`, but `''x-delayed-message''`.
fn atom(name: &str) -> String {
    let bare = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '@');
    if bare { format!("'{name}'") } else { format!("''{name}''") }
}
