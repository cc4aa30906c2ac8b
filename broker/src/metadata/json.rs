//! Field tables as JSON and back, as RabbitMQ's HTTP API writes them.

use amqp::table::{FieldTable, FieldValue, MAX_DEPTH};
use serde_json::{Map, Number, Value};

/// Why JSON is not a field table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    /// Lists and objects too deep in each other.
    #[error("arguments are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// An integer that needs more than 64 bits with a sign.
    #[error("an integer in the arguments is too large")]
    TooLarge,
    /// Not an object.
    #[error("arguments are not an object")]
    NotAnObject,
}

/// A table as a JSON object. Octets that are not UTF-8 lose what is not.
pub(crate) fn from_table(table: &FieldTable) -> Map<String, Value> {
    table.iter().map(|(name, value)| (name.to_owned(), from_value(value))).collect()
}

/// A value as JSON.
pub(crate) fn from_value(value: &FieldValue) -> Value {
    match value {
        FieldValue::Bool(value) => Value::Bool(*value),
        FieldValue::Float(value) => number(f64::from(*value)),
        FieldValue::Double(value) => number(*value),
        FieldValue::Decimal { scale, value } => number(f64::from(*value) / 10f64.powi(i32::from(*scale))),
        FieldValue::LongStr(octets) | FieldValue::Binary(octets) => {
            Value::String(String::from_utf8_lossy(octets).into_owned())
        }
        FieldValue::Timestamp(value) => Value::from(*value),
        FieldValue::Array(values) => Value::Array(values.iter().map(from_value).collect()),
        FieldValue::Table(table) => Value::Object(from_table(table)),
        FieldValue::Void => Value::Null,
        integer => integer.as_i64().map_or(Value::Null, Value::from),
    }
}

/// A JSON object as a table; an absent one (`null`) is empty, and so is the empty list that PHP
/// clients write for it.
pub(crate) fn to_table(value: &Value) -> Result<FieldTable, JsonError> {
    match value {
        Value::Null => Ok(FieldTable::new()),
        Value::Array(values) if values.is_empty() => Ok(FieldTable::new()),
        Value::Object(fields) => table(fields, MAX_DEPTH),
        _ => Err(JsonError::NotAnObject),
    }
}

fn table(fields: &Map<String, Value>, depth: usize) -> Result<FieldTable, JsonError> {
    let depth = depth.checked_sub(1).ok_or(JsonError::TooDeep)?;
    fields.iter().map(|(name, value)| Ok((name.clone(), to_value(value, depth)?))).collect()
}

fn to_value(value: &Value, depth: usize) -> Result<FieldValue, JsonError> {
    Ok(match value {
        Value::Null => FieldValue::Void,
        Value::Bool(value) => FieldValue::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => FieldValue::Long(integer),
            (None, Some(float)) if number.is_f64() => FieldValue::Double(float),
            _ => return Err(JsonError::TooLarge),
        },
        Value::String(text) => FieldValue::long_str(text.as_str()),
        Value::Array(values) => {
            let depth = depth.checked_sub(1).ok_or(JsonError::TooDeep)?;
            FieldValue::Array(values.iter().map(|value| to_value(value, depth)).collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => FieldValue::Table(table(fields, depth)?),
    })
}

fn number(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
