//! How a message becomes here what it was there: its exchange and routing key, and what is left of its time to live.
//!
//! A publish to the queue alone would make its exchange the default one and its routing key the queue's name. So a
//! message goes to an exchange of the migration, with its own routing key, which leads nowhere there; the header `BCC`
//! leads to the queue, and two further headers, which go away with `BCC`, say what consumers are to see.

use crate::connection::publish::{BROUGHT_EXCHANGE, BROUGHT_TTL};
use amqp::content::BasicProperties;
use amqp::table::{FieldTable, FieldValue};

/// Time by which the clock of who published may be ahead of ours.
const TOLERANCE_MS: u64 = 60_000;
/// Timestamps beyond this are milliseconds, though AMQP says seconds.
const SECONDS_UNTIL: u64 = 100_000_000_000;

/// What is left of a message's time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It has none.
    Unlimited,
    /// So many milliseconds.
    Known(u64),
    /// It has one, but nothing tells since when: it begins again.
    Unknown,
}

/// Finds out. `queue_ttl` is that of the queue, `now` is in milliseconds since 1970.
pub(super) fn time_left(properties: &BasicProperties, queue_ttl: Option<u64>, now: u64) -> Left {
    let own = properties.expiration.as_deref().and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    let Some(limit) = [own, queue_ttl].into_iter().flatten().min() else { return Left::Unlimited };
    let Some(since) = queued_at(properties) else { return Left::Unknown };
    let age = now.saturating_sub(since);
    // What was delivered had not expired. A time by which it would have is not that of queueing: the publisher wrote
    // something else there, or its clock is behind, or `x-death` came along from another queue. To go by it would make a
    // message that lives vanish.
    if since > now.saturating_add(TOLERANCE_MS) || age >= limit {
        return Left::Unknown;
    }
    Left::Known(limit - age)
}

/// When a message came into its queue: when it was dead-lettered last, or else published, if the publisher said so.
/// Whole seconds count as their ends: a message lives a moment longer rather than shorter.
fn queued_at(properties: &BasicProperties) -> Option<u64> {
    let headers = properties.headers.as_ref();
    let death = headers.and_then(|it| it.get("x-death")?.as_array()?.first()?.as_table()?.get("time"));
    if let Some(FieldValue::Timestamp(seconds)) = death {
        return Some(seconds.saturating_mul(1000).saturating_add(999));
    }
    let precise = headers.and_then(|it| it.get("timestamp_in_ms")?.as_i64());
    if let Some(milliseconds) = precise.and_then(|it| u64::try_from(it).ok()) {
        return Some(milliseconds);
    }
    match properties.timestamp? {
        0 => None,
        milliseconds if milliseconds > SECONDS_UNTIL => Some(milliseconds),
        seconds => Some(seconds * 1000 + 999),
    }
}

/// Takes away what the queue there has put into the headers: a quorum queue's count of deliveries begins again here.
pub(super) fn forget_queue(properties: &mut BasicProperties) {
    let Some(headers) = &mut properties.headers else { return };
    if headers.remove("x-delivery-count").is_some() && headers.is_empty() {
        properties.headers = None;
    }
}

/// Where a message was published to, and where it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    /// The exchange there.
    pub(super) exchange: &'a str,
    /// The routing key there.
    pub(super) routing_key: &'a str,
    /// The queue here.
    pub(super) queue: &'a str,
    /// What leads to it from the migration's exchange.
    pub(super) binding: &'a str,
}

/// Whether a message may be published to the queue through the default exchange and is then what it was.
pub(super) fn is_plain(way: &Way<'_>, properties: &BasicProperties, left: Left) -> bool {
    let copies = properties.headers.as_ref().is_some_and(|it| it.contains("CC") || it.contains("BCC"));
    way.exchange.is_empty() && way.routing_key == way.queue && !copies && !matches!(left, Left::Known(_))
}

/// Adds what makes it what it was, behind the headers that it has.
pub(super) fn mark(way: &Way<'_>, properties: &mut BasicProperties, left: Left) {
    let headers = properties.headers.get_or_insert_with(FieldTable::new);
    headers.insert("BCC", FieldValue::Array(vec![FieldValue::long_str(way.binding)]));
    headers.insert(BROUGHT_EXCHANGE, FieldValue::long_str(way.exchange));
    // Both headers are ours: one that the publisher there had set says nothing here.
    headers.remove(BROUGHT_TTL);
    if let Left::Known(milliseconds) = left {
        headers.insert(BROUGHT_TTL, FieldValue::Long(i64::try_from(milliseconds).unwrap_or(i64::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_100_000;

    fn message(expiration: Option<&str>, timestamp: Option<u64>) -> BasicProperties {
        let expiration = expiration.map(|text| text.as_bytes().to_vec());
        BasicProperties { expiration, timestamp, ..BasicProperties::default() }
    }

    #[test]
    fn what_is_left_is_counted_from_the_time_of_publishing() {
        let left = |expiration, timestamp, ttl| time_left(&message(expiration, timestamp), ttl, NOW);
        assert_eq!(left(None, Some(1_700_000_090), None), Left::Unlimited);
        assert_eq!(left(Some("60000"), Some(1_700_000_090), None), Left::Known(50_999));
        assert_eq!(left(Some("60000"), Some(1_700_000_090_000), None), Left::Known(50_000));
        assert_eq!(left(Some("60000"), Some(1_700_000_090), Some(20_000)), Left::Known(10_999));
        assert_eq!(left(None, Some(1_700_000_090), Some(20_000)), Left::Known(10_999));
        assert_eq!(
            left(Some("5000"), Some(1_700_000_090), None),
            Left::Unknown,
            "it lives, so it is younger"
        );
        assert_eq!(left(Some("11000"), Some(1_700_000_090), None), Left::Known(1_999));
        assert_eq!(
            left(Some("60000"), Some(1_700_000_130), None),
            Left::Known(60_000),
            "a clock that is ahead"
        );
    }

    #[test]
    fn a_time_that_cannot_be_that_of_publishing_is_not_used() {
        let left = |timestamp| time_left(&message(Some("60000"), timestamp), None, NOW);
        assert_eq!(left(None), Left::Unknown);
        assert_eq!(left(Some(0)), Left::Unknown);
        assert_eq!(left(Some(1_600_000_000)), Left::Unknown, "it would have expired long ago");
        assert_eq!(left(Some(1_800_000_000)), Left::Unknown, "it would be from the future");
    }

    #[test]
    fn a_dead_letter_waits_since_it_died() {
        let mut death = FieldTable::new();
        death.insert("time", FieldValue::Timestamp(1_700_000_095));
        let mut headers = FieldTable::new();
        headers.insert("x-death", FieldValue::Array(vec![FieldValue::Table(death)]));
        let properties =
            BasicProperties { headers: Some(headers), timestamp: Some(1_699_000_000), ..Default::default() };
        assert_eq!(time_left(&properties, Some(10_000), NOW), Left::Known(5_999));
        assert_eq!(time_left(&properties, Some(3_000), NOW), Left::Unknown, "it died in another queue");
        let mut headers = FieldTable::new();
        headers.insert("timestamp_in_ms", FieldValue::Long(1_700_000_099_500));
        let properties = BasicProperties { headers: Some(headers), ..Default::default() };
        assert_eq!(time_left(&properties, Some(10_000), NOW), Left::Known(9_500));
    }

    #[test]
    fn a_death_at_the_end_of_time_is_no_time() {
        let mut death = FieldTable::new();
        death.insert("time", FieldValue::Timestamp(u64::MAX));
        let mut headers = FieldTable::new();
        headers.insert("x-death", FieldValue::Array(vec![FieldValue::Table(death)]));
        let properties = BasicProperties { headers: Some(headers), ..Default::default() };
        assert_eq!(time_left(&properties, Some(10_000), NOW), Left::Unknown);
    }

    #[test]
    fn a_count_of_the_queue_there_does_not_come_along() {
        let mut headers = FieldTable::new();
        headers.insert("x-delivery-count", FieldValue::Long(2));
        let mut counted = BasicProperties { headers: Some(headers.clone()), ..Default::default() };
        forget_queue(&mut counted);
        assert_eq!(counted.headers, None);
        headers.insert("mine", FieldValue::Long(1));
        let mut own = BasicProperties { headers: Some(headers), ..Default::default() };
        forget_queue(&mut own);
        assert_eq!(own.headers.map(|headers| headers.len()), Some(1));
    }

    #[test]
    fn only_what_was_published_to_the_queue_itself_goes_there_directly() {
        let way = Way { exchange: "", routing_key: "q", queue: "q", binding: "b" };
        let plain = BasicProperties::default();
        assert!(is_plain(&way, &plain, Left::Unknown) && !is_plain(&way, &plain, Left::Known(5)));
        assert!(!is_plain(&Way { exchange: "x", ..way }, &plain, Left::Unlimited));
        assert!(!is_plain(&Way { routing_key: "k", ..way }, &plain, Left::Unlimited));
        let mut copied = BasicProperties::default();
        mark(&Way { exchange: "x", ..way }, &mut copied, Left::Known(7));
        assert!(!is_plain(&way, &copied, Left::Unlimited), "it has BCC");
        let headers = copied.headers.unwrap();
        assert_eq!(headers.get(BROUGHT_EXCHANGE).and_then(FieldValue::as_str), Some("x"));
        assert_eq!(headers.get(BROUGHT_TTL).and_then(FieldValue::as_i64), Some(7));
    }

    #[test]
    fn what_a_publisher_wrote_into_our_headers_is_not_obeyed() {
        let way = Way { exchange: "x", routing_key: "k", queue: "q", binding: "b" };
        let mut theirs = FieldTable::new();
        theirs.insert(BROUGHT_EXCHANGE, FieldValue::long_str("elsewhere"));
        theirs.insert(BROUGHT_TTL, FieldValue::Long(1));
        for left in [Left::Unlimited, Left::Unknown] {
            let mut properties = BasicProperties { headers: Some(theirs.clone()), ..Default::default() };
            mark(&way, &mut properties, left);
            let headers = properties.headers.unwrap();
            assert_eq!(headers.get(BROUGHT_EXCHANGE).and_then(FieldValue::as_str), Some("x"));
            assert_eq!(headers.get(BROUGHT_TTL), None, "{left:?}");
        }
    }
}
