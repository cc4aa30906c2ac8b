//! Tests of content headers and properties.

use super::*;
use crate::table::{FieldTable, FieldValue, TableError};

/// All fourteen, strings not UTF-8.
const ALL: &[u8] = b"\xff\xfc\
    \x02\xfft\x01e\x00\x00\x00\x04\x01hB\x07\x02\x09\x01c\x01r\x0560000\x01m\x00\x00\x00\x00\x00\x00\x00\x05\
    \x01y\x01u\x01a\x01l";

#[test]
fn all_fourteen_properties_are_read() {
    let raw = ALL;
    let properties = Properties::parse(raw).unwrap();
    assert_eq!(properties.content_type(), Some(&b"\xfft"[..]));
    assert_eq!(properties.content_encoding(), Some(&b"e"[..]));
    assert_eq!(properties.headers().unwrap().get("h"), Some(crate::Value::UnsignedByte(7)));
    assert_eq!(properties.delivery_mode(), Some(PERSISTENT));
    assert_eq!(properties.priority(), Some(9));
    assert_eq!(properties.correlation_id(), Some(&b"c"[..]));
    assert_eq!(properties.reply_to(), Some(&b"r"[..]));
    assert_eq!(properties.expiration(), Some(&b"60000"[..]));
    assert_eq!(properties.message_id(), Some(&b"m"[..]));
    assert_eq!(properties.timestamp(), Some(5));
    assert_eq!(properties.kind(), Some(&b"y"[..]));
    assert_eq!(properties.user_id(), Some(&b"u"[..]));
    assert_eq!(properties.app_id(), Some(&b"a"[..]));
    assert_eq!(properties.cluster_id(), Some(&b"l"[..]));
    assert_eq!(properties.raw(), raw);
    let mut again = Vec::new();
    BasicProperties::from(properties).encode(&mut again);
    assert_eq!(again, raw);
    let debug = format!("{properties:?}");
    assert!(debug.contains("content_type: \"\\xfft\"") && debug.contains("priority: 9"), "{debug}");
}

#[test]
fn properties_end_where_they_should() {
    let raw = ALL;
    for cut in 0..raw.len() {
        assert!(Properties::parse(&raw[..cut]).is_err(), "cut at {cut}");
    }
    assert_eq!(Properties::parse(&[raw, b"x"].concat()), Err(WireError::Trailing(1)));
    assert_eq!(Properties::parse(b""), Err(WireError::Truncated), "RabbitMQ wants the flags too");
    assert_eq!(Properties::parse(b"\0\0x"), Err(WireError::Trailing(1)));
}

/// Each property alone, and each missing from all the others.
#[test]
fn each_property_is_found_whatever_else_is_there() {
    let raw = ALL;
    let full = BasicProperties::from(Properties::parse(raw).unwrap());
    let empty = BasicProperties::default();
    macro_rules! check {
        ($($field:ident)*) => {$(
            let alone = BasicProperties { $field: full.$field.clone(), ..empty.clone() };
            let without = BasicProperties { $field: None, ..full.clone() };
            for properties in [alone, without] {
                let mut raw = Vec::new();
                properties.encode(&mut raw);
                let parsed = Properties::parse(&raw).unwrap();
                assert_eq!(BasicProperties::from(parsed), properties, stringify!($field));
                assert_eq!(parsed.$field().is_some(), properties.$field.is_some());
            }
        )*};
    }
    check!(content_type content_encoding headers delivery_mode priority correlation_id reply_to expiration);
    check!(message_id timestamp kind user_id app_id cluster_id);
}

// RabbitMQ 3.10 takes no notice of the lowest two flags and expects no second word after them.
#[test]
fn the_lowest_flags_mean_nothing() {
    for flags in [b"\0\x01", b"\0\x02", b"\0\x03"] {
        let properties = Properties::parse(flags).unwrap();
        assert_eq!(properties.raw(), flags);
        assert_eq!(BasicProperties::from(properties), BasicProperties::default());
    }
    assert_eq!(Properties::parse(b"\0\x01\0\0"), Err(WireError::Trailing(2)));
}

#[test]
fn headers_must_be_a_table() {
    let raw = b"\x20\x00\x00\x00\x00\x03\x01kZ";
    assert_eq!(Properties::parse(raw), Err(WireError::Table(TableError::UnknownType(b'Z'))));
    assert_eq!(Properties::parse(b"\x20\x00\xff\xff\xff\xff"), Err(WireError::Truncated));
}

#[test]
fn no_properties_is_the_default() {
    let properties = Properties::default();
    assert_eq!(Properties::parse(properties.raw()), Ok(properties));
    assert_eq!(properties.headers(), None);
    assert_eq!(properties.delivery_mode(), None);
    assert_eq!(properties.expiration(), None);
}

#[test]
fn headers_can_be_rewritten() {
    let raw = ALL;
    let mut owned = BasicProperties::from(Properties::parse(raw).unwrap());
    owned.expiration = None;
    owned.headers.get_or_insert_default().insert("x-first-death-queue", "q");
    let mut again = Vec::new();
    owned.encode(&mut again);
    let parsed = Properties::parse(&again).unwrap();
    assert_eq!(parsed.expiration(), None);
    assert_eq!(parsed.message_id(), Some(&b"m"[..]));
    let headers: FieldTable = parsed.headers().unwrap().to_owned();
    assert_eq!(headers.get("x-first-death-queue").and_then(FieldValue::as_str), Some("q"));
    assert_eq!(headers.len(), 2);
}

fn header(class: u16, weight: u16, size: u64, raw: &[u8]) -> Vec<u8> {
    [&class.to_be_bytes()[..], &weight.to_be_bytes(), &size.to_be_bytes(), raw].concat()
}

#[test]
fn content_headers_are_read_and_written() {
    let raw = ALL;
    let payload = header(60, 0, 1 << 40, raw);
    let decoded = ContentHeader::decode(&payload).unwrap();
    assert_eq!((decoded.class_id, decoded.body_size, decoded.properties.raw()), (60, 1 << 40, raw));
    let mut again = Vec::new();
    decoded.encode(&mut again);
    assert_eq!(again, payload);
    for cut in 0..payload.len() {
        assert!(ContentHeader::decode(&payload[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_weight_is_refused_before_anything_else() {
    assert_eq!(ContentHeader::decode(&header(50, 1, 0, b"")), Err(ContentError::Weight(1)));
    assert_eq!(ContentHeader::decode(&header(60, 5, 0, b"\x80\0")), Err(ContentError::Weight(5)));
}

// RabbitMQ complains about the class, whatever follows.
#[test]
fn the_class_can_be_told_even_when_the_properties_make_no_sense() {
    let payload = header(50, 0, 3, b"\x80\x00");
    let decoded = ContentHeader::decode(&payload).unwrap();
    assert_eq!((decoded.class_id, decoded.properties), (50, Properties::default()));
}
