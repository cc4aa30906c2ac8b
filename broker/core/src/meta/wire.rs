//! How identities and argument tables are written to disk, and the canonical form of arguments.

use super::entities::Destination;
use crate::ids::{ConnectionId, QueueId, VhostId};
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

/// [`VhostId`] as a number.
pub(super) mod vhost_id {
    use super::{Deserialize, Deserializer, Serialize, Serializer, VhostId};

    pub(crate) fn serialize<S: Serializer>(id: &VhostId, out: S) -> Result<S::Ok, S::Error> {
        id.0.serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<VhostId, D::Error> {
        u64::deserialize(input).map(VhostId)
    }
}

/// [`QueueId`] as a number.
pub(super) mod queue_id {
    use super::{Deserialize, Deserializer, QueueId, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(id: &QueueId, out: S) -> Result<S::Ok, S::Error> {
        id.0.serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<QueueId, D::Error> {
        u64::deserialize(input).map(QueueId)
    }
}

/// Several [`QueueId`]s.
pub(super) mod queue_ids {
    use super::{Deserialize, Deserializer, QueueId, Serializer};

    pub(crate) fn serialize<S: Serializer>(ids: &[QueueId], out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(ids.iter().map(|id| id.0))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<QueueId>, D::Error> {
        Ok(Vec::<u64>::deserialize(input)?.into_iter().map(QueueId).collect())
    }
}

/// The connection of an exclusive queue.
pub(super) mod connection_id {
    use super::{ConnectionId, Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(id: &Option<ConnectionId>, out: S) -> Result<S::Ok, S::Error> {
        id.map(|id| id.0).serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<ConnectionId>, D::Error> {
        Ok(Option::<u64>::deserialize(input)?.map(ConnectionId))
    }
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
