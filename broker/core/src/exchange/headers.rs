//! Headers exchanges: binding arguments are compared with the message's headers.
//!
//! `x-match` says how: `all` (the default) wants every other argument in the headers, `any` at
//! least one. Arguments whose name begins with `x-` are left out, except with `all-with-x` and
//! `any-with-x`. An argument without a value (void) asks only that the header is there. Numbers of
//! every type are compared by value, and so are text and binary.

use crate::exception::Exception;
use crate::meta::{Destination, equivalence};
use amqp::reply_code;
use amqp::table::{FieldTable, FieldValue, Table, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The bindings of a headers exchange, by identity.
#[derive(Debug, Default)]
pub struct Headers {
    bindings: BTreeMap<Identity, Rule>,
}

/// Destination, routing key, canonical arguments.
type Identity = (Destination, Arc<str>, Arc<[u8]>);

#[derive(Debug)]
struct Rule {
    any: bool,
    /// Sorted by name, like the headers they are compared with.
    wanted: Vec<(Box<str>, FieldValue)>,
}

/// Whether the arguments of a binding make sense.
pub(super) fn validate(arguments: &FieldTable) -> Result<(), Exception> {
    let text = match arguments.get("x-match") {
        None => return Ok(()),
        Some(FieldValue::LongStr(word)) => {
            if matches!(word.as_slice(), b"all" | b"any" | b"all-with-x" | b"any-with-x") {
                return Ok(());
            }
            let mut text = String::from("Invalid x-match field value ");
            amqp::erlang::push_binary(&mut text, word);
            text + "; expected all, any, all-with-x, or any-with-x"
        }
        Some(other) => format!(
            "Invalid x-match field type {} (value {}); expected longstr",
            other.type_name(),
            equivalence::inner(other)
        ),
    };
    Err(Exception::channel(reply_code::PRECONDITION_FAILED, text))
}

impl Headers {
    pub(super) fn bind(
        &mut self,
        to: Destination,
        key: &Arc<str>,
        arguments: &FieldTable,
        identity: &Arc<[u8]>,
    ) {
        self.bindings.insert((to, Arc::clone(key), Arc::clone(identity)), Rule::new(arguments));
    }

    pub(super) fn unbind(&mut self, to: Destination, key: &Arc<str>, identity: &Arc<[u8]>) {
        self.bindings.remove(&(to, Arc::clone(key), Arc::clone(identity)));
    }

    pub(super) fn route(&self, headers: Option<&Table<'_>>, out: &mut Vec<Destination>) {
        if self.bindings.is_empty() {
            return;
        }
        let mut sorted: Vec<(&str, Value<'_>)> = headers.into_iter().flat_map(Table::iter).collect();
        // Stable, so that of two headers of one name the first counts.
        sorted.sort_by_key(|(name, _)| *name);
        let matching = self.bindings.iter().filter(|(_, rule)| rule.matches(&sorted));
        out.extend(matching.map(|((to, ..), _)| *to));
    }
}

impl Rule {
    fn new(arguments: &FieldTable) -> Rule {
        let mode = arguments.get("x-match").and_then(FieldValue::as_str).unwrap_or("all");
        let with_x = mode.ends_with("-with-x");
        let mut wanted: Vec<(Box<str>, FieldValue)> = arguments
            .iter()
            .filter(|(name, _)| *name != "x-match" && (with_x || !name.starts_with("x-")))
            .map(|(name, value)| (name.into(), value.clone()))
            .collect();
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        Rule { any: mode.starts_with("any"), wanted }
    }

    fn matches(&self, headers: &[(&str, Value<'_>)]) -> bool {
        let mut fits = self.wanted.iter().map(|(name, value)| {
            let at = headers.partition_point(|(header, _)| *header < &**name);
            match headers.get(at) {
                Some((header, found)) if *header == &**name => same(value, found),
                _ => false,
            }
        });
        if self.any { fits.any(|fit| fit) } else { fits.all(|fit| fit) }
    }
}

/// Whether a header has the value an argument wants. RabbitMQ compares values, not types: all
/// numbers with each other (timestamps too), text with binary.
fn same(wanted: &FieldValue, found: &Value<'_>) -> bool {
    match (wanted, found) {
        (FieldValue::Void, _) => true,
        (FieldValue::LongStr(a) | FieldValue::Binary(a), Value::LongStr(b) | Value::Binary(b)) => a == b,
        _ => match (number(wanted), number(&found.to_owned())) {
            (Some(Number::Integer(a)), Some(Number::Integer(b))) => a == b,
            (Some(a), Some(b)) => a.float() == b.float(),
            (None, None) => *wanted == found.to_owned(),
            _ => false,
        },
    }
}

#[derive(Clone, Copy)]
enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    fn float(self) -> f64 {
        match self {
            Number::Integer(value) => value as f64,
            Number::Float(value) => value,
        }
    }
}

fn number(value: &FieldValue) -> Option<Number> {
    match value {
        FieldValue::Float(value) => Some(Number::Float(f64::from(*value))),
        FieldValue::Double(value) => Some(Number::Float(*value)),
        FieldValue::Timestamp(value) => Some(Number::Integer(i128::from(*value))),
        other => other.as_i64().map(|value| Number::Integer(i128::from(value))),
    }
}
