//! Bodies of the fuzz targets in `tests/fuzz`, shared with the ordinary test over the stored corpus.
//!
//! Each takes any octets and panics when a decoder breaks a promise. Decoders may refuse; they may not panic, read
//! or write differently the second time, or accept what they would also accept with its end cut off.

use crate::content::{BasicProperties, ContentHeader, Properties};
use crate::frame::{self, Frame, FrameKind};
use crate::method::Method;
use crate::table::{Table, Value};

/// A read buffer, cut into frames under several limits.
pub fn frame(octets: &[u8]) {
    for frame_max in [0, 4096, 131_072] {
        let mut rest = octets;
        loop {
            match frame::parse(rest, frame_max) {
                Ok(Some((frame, used))) => {
                    check_frame(&frame, &rest[..used], frame_max);
                    rest = &rest[used..];
                }
                Ok(None) => break,
                Err(error) => {
                    let text = crate::reply_code::reply_text(501, &error.explanation(rest));
                    assert!(text.len() <= 255, "{text}");
                    break;
                }
            }
        }
    }
}

fn check_frame(frame: &Frame<'_>, octets: &[u8], frame_max: u32) {
    assert_eq!(frame.payload.len() + 8, octets.len());
    assert!(frame_max == 0 || frame.payload.len() <= frame_max as usize);
    for cut in [0, 6, 7, octets.len() - 1] {
        assert_eq!(frame::parse(&octets[..cut.min(octets.len() - 1)], frame_max), Ok(None), "cut at {cut}");
    }
    let mut again = Vec::new();
    match frame.kind {
        FrameKind::Body => frame::write_body(&mut again, frame.channel, frame.payload, 0),
        FrameKind::Heartbeat if frame.channel == 0 => frame::write_heartbeat(&mut again),
        _ => return,
    }
    // An empty body frame is legal, but never written.
    assert!(again == octets || frame.payload.is_empty());
}

/// The payload of a method frame.
pub fn method(octets: &[u8]) {
    let method = match Method::decode(octets) {
        Ok(method) => method,
        Err(error) => {
            let text = crate::reply_code::reply_text(501, &error.explanation(octets));
            assert!(text.len() <= 255, "{text}");
            return;
        }
    };
    assert!(method.from_client() || method.from_server());
    assert!(Method::decode(&octets[..octets.len() - 1]).is_err(), "accepts {} cut off", method.name());
    let mut first = Vec::new();
    method.encode(&mut first);
    let again = Method::decode(&first);
    assert_eq!(again, Ok(method));
    let _ = format!("{method:?}");
}

/// The octets of a field table, without the length before them.
pub fn table(octets: &[u8]) {
    let Ok(table) = Table::parse(octets) else { return };
    assert_eq!(table.as_bytes(), octets);
    for (name, value) in table {
        assert!(table.get(name).is_some(), "{name} is there and is not found");
        assert_eq!(value.type_name(), value.to_owned().type_name());
        assert_eq!(value.as_i64(), value.to_owned().as_i64());
    }
    let owned = table.to_owned();
    if names_are_text(table) {
        let octets = owned.to_bytes();
        assert_eq!(Table::parse(&octets).map(|table| table.to_owned()), Ok(owned));
    }
    let _ = format!("{table:?}");
}

/// Whether a copy of the table is the same table: malformed names change on the way into a `String`.
fn names_are_text(table: Table<'_>) -> bool {
    table.iter_raw().all(|(name, value)| std::str::from_utf8(name).is_ok() && value_is_text(value))
}

fn value_is_text(value: Value<'_>) -> bool {
    match value {
        Value::Table(table) => names_are_text(table),
        Value::Array(array) => array.iter().all(value_is_text),
        _ => true,
    }
}

/// The payload of a content header frame.
pub fn content_header(octets: &[u8]) {
    let Ok(header) = ContentHeader::decode(octets) else { return };
    let mut again = Vec::new();
    header.encode(&mut again);
    assert_eq!(ContentHeader::decode(&again), Ok(header));
    if header.class_id == crate::content::CLASS_BASIC {
        assert_eq!(again, octets);
        check_properties(header.properties);
    }
}

/// Property flags and list.
pub fn properties(octets: &[u8]) {
    let Ok(properties) = Properties::parse(octets) else { return };
    assert_eq!(properties.raw(), octets);
    assert!(Properties::parse(&octets[..octets.len() - 1]).is_err(), "accepts them cut off");
    check_properties(properties);
}

fn check_properties(properties: Properties<'_>) {
    let owned = BasicProperties::from(properties);
    let mut again = Vec::new();
    owned.encode(&mut again);
    if properties.headers().is_none_or(names_are_text) {
        assert_eq!(Properties::parse(&again).map(BasicProperties::from), Ok(owned));
    }
    let _ = format!("{properties:?}");
}
