//! `x-delayed-message`: keeps messages for a while and then routes them as an exchange of another type does.
//!
//! The behaviour is that of RabbitMQ's plugin `rabbitmq_delayed_message_exchange`. `x-delayed-type` names the type
//! that routes; the header `x-delay` says for how many milliseconds a message waits. Where it waits is
//! [`crate::queue::delayed`]'s job.

use super::ExchangeType;
use crate::exception::Exception;
use crate::ids::QueueId;
use crate::message::Message;
use crate::meta::ExchangeId;
use amqp::content::{BasicProperties, Properties};
use amqp::reply_code;
use amqp::table::{FieldTable, FieldValue, Table, Value};

/// The header with the delay.
const HEADER: &str = "x-delay";
/// The argument with the type that routes.
pub const TYPE_ARGUMENT: &str = "x-delayed-type";
/// Longest delay, milliseconds; a message with a longer one is routed at once.
const MAX_DELAY: i64 = 0xFFFF_FFFF;

/// The type that routes for an exchange with these arguments.
pub fn underlying(arguments: &FieldTable) -> Option<ExchangeType> {
    let name = arguments.get(TYPE_ARGUMENT)?.as_str()?;
    ExchangeType::from_name(name).filter(|kind| *kind != ExchangeType::Delayed)
}

/// Checks the arguments of a declare.
pub fn validate_arguments(arguments: &FieldTable) -> Result<ExchangeType, Exception> {
    let invalid = |text: &str| Exception::channel(reply_code::PRECONDITION_FAILED, text);
    let Some(FieldValue::LongStr(name) | FieldValue::Binary(name)) = arguments.get(TYPE_ARGUMENT) else {
        return Err(invalid("Invalid argument, 'x-delayed-type' must be an existing exchange type"));
    };
    let name = String::from_utf8_lossy(name);
    match ExchangeType::from_name(&name) {
        Some(ExchangeType::Delayed) => {
            Err(invalid("Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'"))
        }
        Some(kind) => Ok(kind),
        None => Err(super::unknown_type(&name)),
    }
}

/// Milliseconds that a message with these headers waits; `None` when it is routed at once.
pub fn delay_ms(headers: Option<&Table<'_>>) -> Option<u64> {
    let delay = requested(&headers?.get(HEADER)?)?;
    (1..=MAX_DELAY).contains(&delay).then_some(delay as u64)
}

/// The same for the properties of a message, as they are on the wire.
pub fn delay_of(properties: &[u8]) -> Option<u64> {
    delay_ms(Properties::parse(properties).ok()?.headers().as_ref())
}

/// Integers, and what the plugin takes for one: numbers with a fraction, and digits.
fn requested(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Float(number) => Some(f64::from(*number) as i64),
        Value::Double(number) => Some(*number as i64),
        Value::LongStr(_) => value.as_str()?.parse().ok(),
        other => other.as_i64(),
    }
}

/// Where messages of an exchange wait: identities of exchanges and queues come from one sequence, so that this one
/// is no other queue's.
pub fn store_of(exchange: ExchangeId) -> QueueId {
    QueueId(exchange.0)
}

/// The exchange whose messages wait there.
pub fn exchange_of(store: QueueId) -> ExchangeId {
    ExchangeId(store.0)
}

/// The message as it is routed after its delay: `x-delay` is negative now, so that it is not delayed again; with
/// `BCC` still in it, see [`without_bcc`].
pub fn negated(message: &Message) -> Message {
    let view = message.view();
    let Ok(parsed) = Properties::parse(view.properties) else {
        return Message::copy_from(&view, message.persistent);
    };
    let delay = delay_ms(parsed.headers().as_ref()).unwrap_or(0) as i64;
    let mut properties = BasicProperties::from(parsed);
    if let Some(headers) = properties.headers.as_mut() {
        let value = i32::try_from(-delay).map_or(FieldValue::Long(-delay), FieldValue::SignedInt);
        match headers.get_mut(HEADER) {
            Some(old) => *old = value,
            None => drop(headers.insert(HEADER, value)),
        }
    }
    message.with_properties(&properties)
}

/// The message without its `BCC` header, which only routing looks at.
pub fn without_bcc(message: &Message) -> Option<Message> {
    let parsed = Properties::parse(message.view().properties).ok()?;
    parsed.headers()?.get("BCC")?;
    let mut properties = BasicProperties::from(parsed);
    properties.headers.as_mut()?.remove("BCC");
    Some(message.with_properties(&properties))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageView;

    fn message(headers: FieldTable) -> Message {
        let mut raw = Vec::new();
        BasicProperties { headers: Some(headers), ..BasicProperties::default() }.encode(&mut raw);
        let view = MessageView { exchange: "x", routing_key: "k", properties: &raw, body: b"body" };
        Message::copy_from(&view, true)
    }

    fn delayed(value: FieldValue) -> Option<u64> {
        let mut headers = FieldTable::new();
        headers.insert("x-delay", value);
        delay_of(message(headers).view().properties)
    }

    #[test]
    fn a_delay_is_a_positive_number_of_any_width_up_to_the_longest_timer() {
        for value in
            [FieldValue::SignedInt(5), FieldValue::Long(5), FieldValue::Short(5), FieldValue::Byte(5)]
        {
            assert_eq!(delayed(value), Some(5));
        }
        assert_eq!(delayed(FieldValue::Double(5.9)), Some(5));
        assert_eq!(delayed("5".into()), Some(5));
        assert_eq!(delayed(FieldValue::Long(0xFFFF_FFFF)), Some(0xFFFF_FFFF));
        for value in [
            FieldValue::Long(0x1_0000_0000),
            FieldValue::SignedInt(0),
            FieldValue::SignedInt(-5),
            "soon".into(),
        ] {
            assert_eq!(delayed(value), None);
        }
        for value in [FieldValue::Bool(true), FieldValue::Void, FieldValue::Double(f64::NAN)] {
            assert_eq!(delayed(value), None);
        }
        assert_eq!(delay_of(&[0, 0]), None);
    }

    #[test]
    fn after_the_delay_the_header_is_negative_and_nothing_else_changes() {
        let mut headers = FieldTable::new();
        headers.insert("a", 1);
        headers.insert("x-delay", "70");
        headers.insert("BCC", vec![FieldValue::long_str("secret")]);
        let due = negated(&message(headers));
        assert_eq!(delay_of(due.view().properties), None);
        let seen = without_bcc(&due).unwrap();
        let headers =
            BasicProperties::from(Properties::parse(seen.view().properties).unwrap()).headers.unwrap();
        assert_eq!(headers.get("x-delay"), Some(&FieldValue::SignedInt(-70)));
        assert_eq!(headers.get("a"), Some(&FieldValue::SignedInt(1)));
        assert!(headers.get("BCC").is_none());
        assert_eq!(
            (seen.view().exchange, seen.view().routing_key, seen.view().body),
            ("x", "k", &b"body"[..])
        );
        assert!(seen.persistent && without_bcc(&seen).is_none());
    }

    #[test]
    fn the_type_that_routes_has_to_be_named_and_known() {
        let arguments = |value: FieldValue| FieldTable::from_iter([("x-delayed-type".to_owned(), value)]);
        assert_eq!(validate_arguments(&arguments("topic".into())), Ok(ExchangeType::Topic));
        let missing = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
        for arguments in [FieldTable::new(), arguments(FieldValue::SignedInt(1))] {
            let error = validate_arguments(&arguments).unwrap_err();
            assert_eq!((error.code, &*error.text), (406, missing));
        }
        let itself = validate_arguments(&arguments("x-delayed-message".into())).unwrap_err();
        assert_eq!(itself.text, "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'");
        let unknown = validate_arguments(&arguments("nope".into())).unwrap_err();
        assert_eq!((unknown.code, &*unknown.text), (503, "unknown exchange type 'nope'"));
    }
}
