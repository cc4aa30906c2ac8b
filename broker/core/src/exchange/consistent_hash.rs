//! Consistent hash exchanges (`x-consistent-hash`, RabbitMQ's plugin of that name): every message goes to one
//! destination, chosen by a hash, in proportion to the weights that the binding keys are.
//!
//! What is hashed is the routing key, or a header (`hash-header`), or a property (`hash-property`). The choice
//! is weighted rendezvous hashing: each destination draws a number from the hash and the best one wins. So a
//! new or lost destination moves only the messages that it wins or won, and a weight of a million costs what a
//! weight of one costs (the plugin keeps a million buckets for it).

use crate::exception::Exception;
use crate::meta::Destination;
use amqp::content::Properties;
use amqp::reply_code;
use amqp::table::{FieldTable, FieldValue, Table, Value};
use rustc_hash::FxHasher;
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::Arc;

/// Properties that can be hashed.
const PROPERTIES: [&str; 3] = ["correlation_id", "message_id", "timestamp"];

/// The bindings of a consistent hash exchange.
#[derive(Debug, Default)]
pub struct ConsistentHash {
    on: HashOn,
    /// Every binding with its weight.
    bindings: BTreeMap<Identity, f64>,
}

/// Destination, binding key, canonical arguments.
type Identity = (Destination, Arc<str>, Arc<[u8]>);

/// What is hashed.
#[derive(Debug, Default)]
enum HashOn {
    #[default]
    RoutingKey,
    Header(Box<str>),
    Property(Box<str>),
}

/// Whether the arguments of a declare make sense. The texts are the plugin's.
pub fn validate_arguments(arguments: &FieldTable) -> Result<(), Exception> {
    let refuse = |text: String| Err(Exception::channel(reply_code::PRECONDITION_FAILED, text));
    for key in ["hash-header", "hash-property"] {
        match arguments.get(key) {
            None | Some(FieldValue::LongStr(_)) => {}
            Some(other) => return refuse(format!("Unsupported type {} of {key}", other.type_name())),
        }
    }
    match (arguments.get("hash-header"), arguments.get("hash-property").and_then(FieldValue::as_str)) {
        (Some(_), Some(_)) => refuse("hash-header and hash-property are mutually exclusive".to_owned()),
        (None, Some(property)) if !PROPERTIES.contains(&property) => {
            refuse(format!("Unsupported property: {property}"))
        }
        _ => Ok(()),
    }
}

/// Whether a binding key is a weight.
pub(super) fn validate_binding(key: &str) -> Result<(), Exception> {
    let text = match key.parse::<i128>() {
        Ok(1..) => return Ok(()),
        Ok(_) => "The binding key must be greater than 0".to_owned(),
        Err(_) => {
            let mut text = String::from("The binding key must be an integer: ");
            amqp::erlang::push_binary(&mut text, key.as_bytes());
            text
        }
    };
    Err(Exception::channel(reply_code::PRECONDITION_FAILED, text))
}

impl ConsistentHash {
    /// An exchange that was declared with these arguments.
    pub(super) fn new(arguments: &FieldTable) -> ConsistentHash {
        let text = |key| arguments.get(key).and_then(FieldValue::as_str).map(Box::from);
        let on = match (text("hash-header"), text("hash-property")) {
            (Some(header), _) => HashOn::Header(header),
            (None, Some(property)) => HashOn::Property(property),
            (None, None) => HashOn::RoutingKey,
        };
        ConsistentHash { on, bindings: BTreeMap::new() }
    }

    pub(super) fn bind(&mut self, to: Destination, key: &Arc<str>, identity: &Arc<[u8]>) {
        let weight = key.parse::<i128>().map_or(1.0, |weight| weight.max(1) as f64);
        self.bindings.insert((to, Arc::clone(key), Arc::clone(identity)), weight);
    }

    pub(super) fn unbind(&mut self, to: Destination, key: &Arc<str>, identity: &Arc<[u8]>) {
        self.bindings.remove(&(to, Arc::clone(key), Arc::clone(identity)));
    }

    /// Whether equal routing keys always lead to the same place.
    pub(super) fn depends_on_key_only(&self) -> bool {
        matches!(self.on, HashOn::RoutingKey)
    }

    pub(super) fn route(
        &self,
        keys: &[&str],
        headers: Option<&Table<'_>>,
        properties: Option<&Properties<'_>>,
        out: &mut Vec<Destination>,
    ) {
        let hash = self.hash(keys, headers, properties);
        let mut best = None;
        for ((to, ..), weight) in &self.bindings {
            // Several bindings of one destination draw the same number: the heaviest counts.
            let score = weight / -draw(hash, *to).ln();
            if best.is_none_or(|(other, _)| score > other) {
                best = Some((score, *to));
            }
        }
        out.extend(best.map(|(_, to)| to));
    }

    fn hash(&self, keys: &[&str], headers: Option<&Table<'_>>, properties: Option<&Properties<'_>>) -> u64 {
        let mut hasher = FxHasher::default();
        match &self.on {
            HashOn::RoutingKey => keys.iter().for_each(|key| hasher.write(key.as_bytes())),
            HashOn::Header(name) => match headers.and_then(|headers| headers.get(name)) {
                Some(Value::LongStr(text)) => hasher.write(text),
                Some(value) => match value.as_i64() {
                    Some(number) => hasher.write_i64(number),
                    None => hasher.write(format!("{value:?}").as_bytes()),
                },
                None => {}
            },
            HashOn::Property(name) => {
                let Some(properties) = properties else { return 0 };
                match &**name {
                    "timestamp" => hasher.write_u64(properties.timestamp().unwrap_or(0)),
                    "message_id" => hasher.write(properties.message_id().unwrap_or_default()),
                    _ => hasher.write(properties.correlation_id().unwrap_or_default()),
                }
            }
        }
        hasher.finish()
    }
}

/// A number between 0 and 1 that belongs to this hash and destination.
fn draw(hash: u64, to: Destination) -> f64 {
    let id = match to {
        Destination::Queue(id) => id.0,
        Destination::Exchange(id) => !id.0,
    };
    // SplitMix64's finish: every bit of the input reaches every bit of the output.
    let mut mixed = hash.wrapping_add(id.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::QueueId;

    fn queue(id: u64) -> Destination {
        Destination::Queue(QueueId(id << 20))
    }

    fn exchange(weights: &[u64]) -> ConsistentHash {
        let mut exchange = ConsistentHash::default();
        for (index, weight) in weights.iter().enumerate() {
            exchange.bind(queue(index as u64 + 1), &Arc::from(weight.to_string()), &Arc::from([]));
        }
        exchange
    }

    fn target(exchange: &ConsistentHash, key: &str) -> Option<Destination> {
        let mut out = Vec::new();
        exchange.route(&[key], None, None, &mut out);
        assert!(out.len() <= 1);
        out.pop()
    }

    #[test]
    fn messages_spread_in_proportion_to_the_weights() {
        let exchange = exchange(&[1, 3]);
        let heavy = (0..10_000).filter(|i| target(&exchange, &format!("key {i}")) == Some(queue(2))).count();
        assert!((7_200..7_800).contains(&heavy), "{heavy}");
    }

    #[test]
    fn a_new_destination_takes_its_share_and_moves_nothing_else() {
        let (before, after) = (exchange(&[1, 1]), exchange(&[1, 1, 2]));
        let keys: Vec<String> = (0..4_000).map(|i| format!("key {i}")).collect();
        let moved: Vec<_> = keys.iter().filter(|key| target(&before, key) != target(&after, key)).collect();
        assert!(moved.iter().all(|key| target(&after, key) == Some(queue(3))));
        assert!((1_800..2_200).contains(&moved.len()), "{}", moved.len());
    }

    #[test]
    fn two_bindings_of_one_queue_count_as_the_heavier_one() {
        let (mut twice, once) = (exchange(&[5, 3]), exchange(&[10, 3]));
        twice.bind(queue(1), &Arc::from("10"), &Arc::from([]));
        assert!(
            (0..1_000).all(|i| target(&twice, &format!("key {i}")) == target(&once, &format!("key {i}")))
        );
    }

    #[test]
    fn a_header_decides_when_the_exchange_says_so() {
        let mut arguments = FieldTable::new();
        arguments.insert("hash-header", FieldValue::long_str("customer"));
        let mut exchange = ConsistentHash::new(&arguments);
        for id in 1..=8 {
            exchange.bind(queue(id), &Arc::from("1"), &Arc::from([]));
        }
        let route = |customer: i32, key: &str| {
            let mut headers = FieldTable::new();
            headers.insert("customer", FieldValue::Long(i64::from(customer)));
            let raw = headers.to_bytes();
            let mut out = Vec::new();
            exchange.route(&[key], Some(&Table::parse(&raw).unwrap()), None, &mut out);
            out[0]
        };
        assert!((0..50).all(|customer| route(customer, "a") == route(customer, "b")));
        assert!((0..50).any(|customer| route(customer, "a") != route(customer + 1, "a")));
        assert!(!exchange.depends_on_key_only());
    }

    #[test]
    fn weights_are_positive_integers() {
        let text = |key| validate_binding(key).unwrap_err().text;
        assert_eq!(text("abc"), "The binding key must be an integer: <<\"abc\">>");
        assert_eq!(text(""), "The binding key must be an integer: <<>>");
        assert_eq!(text("-1"), "The binding key must be greater than 0");
        assert!(validate_binding("99999999999").is_ok());
        let mut arguments = FieldTable::new();
        arguments.insert("hash-property", FieldValue::long_str("bogus"));
        assert_eq!(validate_arguments(&arguments).unwrap_err().text, "Unsupported property: bogus");
    }
}
