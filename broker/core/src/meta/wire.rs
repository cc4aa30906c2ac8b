//! How destinations and argument tables are written to disk, and the canonical form of arguments.

use super::entities::Destination;
use crate::ids::QueueId;
use amqp::table::{FieldTable, FieldValue, Table};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::{Arc, OnceLock};

/// Arguments in a form in which neither the order of keys nor the width of integers matters, so
/// that a binding exported as JSON and imported again is the same binding.
pub(super) fn canonical(arguments: &FieldTable) -> Arc<[u8]> {
    static EMPTY: OnceLock<Arc<[u8]>> = OnceLock::new();
    if arguments.is_empty() {
        return Arc::clone(EMPTY.get_or_init(|| Arc::from([])));
    }
    canonical_table(arguments).to_bytes().into()
}

fn canonical_table(table: &FieldTable) -> FieldTable {
    let mut fields: Vec<(String, FieldValue)> =
        table.iter().map(|(name, value)| (name.to_owned(), canonical_value(value))).collect();
    // Stable: of two fields with one name the first stays the one that counts.
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields.into_iter().collect()
}

fn canonical_value(value: &FieldValue) -> FieldValue {
    match value {
        FieldValue::Table(table) => FieldValue::Table(canonical_table(table)),
        FieldValue::Array(values) => FieldValue::Array(values.iter().map(canonical_value).collect()),
        _ => value.as_i64().map_or_else(|| value.clone(), FieldValue::Long),
    }
}

/// No arguments, one value for all that have none.
pub(super) fn no_arguments() -> Arc<FieldTable> {
    static NONE: OnceLock<Arc<FieldTable>> = OnceLock::new();
    Arc::clone(NONE.get_or_init(Arc::default))
}

/// A binding's destination.
pub(super) mod destination {
    use super::super::entities::ExchangeId;
    use super::{Deserialize, Deserializer, Destination, QueueId, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(to: &Destination, out: S) -> Result<S::Ok, S::Error> {
        match to {
            Destination::Queue(id) => (true, id.0).serialize(out),
            Destination::Exchange(id) => (false, id.0).serialize(out),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Destination, D::Error> {
        let (queue, id) = <(bool, u64)>::deserialize(input)?;
        Ok(if queue { Destination::Queue(QueueId(id)) } else { Destination::Exchange(ExchangeId(id)) })
    }
}

/// An argument table as its octets on the wire.
pub(super) mod arguments {
    use super::{Arc, Deserialize, Deserializer, FieldTable, Serialize, Serializer, Table};
    use serde::de::Error;

    pub(crate) fn serialize<S: Serializer>(table: &Arc<FieldTable>, out: S) -> Result<S::Ok, S::Error> {
        table.to_bytes().serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Arc<FieldTable>, D::Error> {
        let octets = Vec::<u8>::deserialize(input)?;
        Table::parse(&octets).map(|table| Arc::new(table.to_owned())).map_err(D::Error::custom)
    }
}
