//! Every decoder over the stored fuzz corpus (`tests/fuzz/corpus`) and mutations of it, the same ones each time.
//!
//! The corpus has the seeds below, which `UPDATE_FUZZ_CORPUS=1 cargo test -p amqp seeds` writes, and whatever a
//! fuzzer found worth keeping.

#[path = "../../../../tests/fuzz/mutants.rs"]
mod mutants;

use crate::content::{BasicProperties, ContentHeader, Properties};
use crate::frame;
use crate::fuzz;
use crate::method::{Method, basic, connection, queue};
use crate::table::{FieldTable, FieldValue, Table};
use crate::tests::sample;
use mutants::Seed;

/// Mutants per decoder. About a second for all of them in a debug build.
const MUTANTS: u64 = 40_000;
/// Octets that mean something: frame types and their end, types of fields, small numbers.
const TELLING: &[u8] = b"\0\0\0\x01\x02\x03\x04\x08\x0a\x3c\x7f\x80\xce\xff\xfftbBsuIilLfdDSxTAFV";

/// A table with a field of every type, one of them nested.
fn table_of_everything() -> FieldTable {
    let mut inner = FieldTable::new();
    inner.insert("queue", "q");
    inner.insert("count", 3i64);
    let mut table = FieldTable::new();
    for (index, value) in [
        FieldValue::Bool(true),
        FieldValue::Byte(-1),
        FieldValue::UnsignedByte(1),
        FieldValue::Short(-2),
        FieldValue::UnsignedShort(2),
        FieldValue::SignedInt(-3),
        FieldValue::UnsignedInt(3),
        FieldValue::Long(-4),
        FieldValue::Float(1.5),
        FieldValue::Double(-0.25),
        FieldValue::Decimal { scale: 2, value: 314 },
        FieldValue::from("text"),
        FieldValue::Binary(vec![0, 255]),
        FieldValue::Timestamp(1_700_000_000),
        FieldValue::Array(vec![FieldValue::Void, inner.clone().into(), vec![FieldValue::Byte(0)].into()]),
        FieldValue::Table(inner),
        FieldValue::Void,
    ]
    .into_iter()
    .enumerate()
    {
        table.insert(format!("field-{index}"), value);
    }
    table
}

fn all_properties() -> BasicProperties {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    BasicProperties {
        content_type: text("application/json"),
        content_encoding: text("gzip"),
        headers: Some(table_of_everything()),
        delivery_mode: Some(2),
        priority: Some(9),
        correlation_id: Some(vec![0xff, 0]),
        reply_to: text("amq.rabbitmq.reply-to"),
        expiration: text("60000"),
        message_id: text("m"),
        timestamp: Some(1_700_000_000),
        kind: text("t"),
        user_id: text("guest"),
        app_id: text("a"),
        cluster_id: text(""),
    }
}

fn method_seeds() -> Vec<Seed> {
    let table = table_of_everything().to_bytes();
    let arguments = Table::parse(&table).unwrap();
    let rich: [Method<'_>; 6] = [
        connection::StartOk {
            client_properties: arguments,
            mechanism: "PLAIN",
            response: b"\0u\0p",
            locale: "en_US",
        }
        .into(),
        connection::Close { reply_code: 320, reply_text: "CONNECTION_FORCED", class_id: 0, method_id: 0 }
            .into(),
        queue::Declare { queue: "q", durable: true, arguments, ..Default::default() }.into(),
        basic::Publish { exchange: "e", routing_key: "k.ü", mandatory: true, immediate: false }.into(),
        basic::Deliver {
            consumer_tag: "t",
            delivery_tag: 1,
            redelivered: true,
            exchange: "e",
            routing_key: "k",
        }
        .into(),
        basic::Consume { queue: "q", consumer_tag: "t", arguments, ..Default::default() }.into(),
    ];
    let mut seeds = Vec::new();
    for method in rich {
        let mut octets = Vec::new();
        method.encode(&mut octets);
        seeds.push((method.name().replace('.', "-"), octets));
    }
    // One of each method with nothing in it: ids and zeros.
    for layout in sample::layouts() {
        let payload = [layout.class.to_be_bytes(), layout.method.to_be_bytes()].concat();
        let whole = (0..40).map(|zeros| [&payload[..], &vec![0; zeros]].concat());
        if let Some(octets) = whole.into_iter().find(|octets| Method::decode(octets).is_ok()) {
            seeds.push((format!("empty-{}", layout.name.replace('.', "-")), octets));
        }
    }
    seeds.push(("cannot-decode".to_owned(), b"\0\x32\0\x0a\0\0\xff".to_vec()));
    seeds
}

fn table_seeds() -> Vec<Seed> {
    let nested = |depth| {
        (0..depth).fold(Vec::new(), |inner: Vec<u8>, _| {
            [b"\x01kF", &(inner.len() as u32).to_be_bytes()[..], &inner].concat()
        })
    };
    [
        ("everything", table_of_everything().to_bytes()),
        ("empty", Vec::new()),
        ("long-by-either-letter", b"\x01al\0\0\0\0\0\0\0\x01\x01bL\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
        ("repeated-name", b"\x01kV\x01kt\x01".to_vec()),
        ("name-not-text", b"\x02\xff\xfeV".to_vec()),
        ("deep", nested(crate::table::MAX_DEPTH - 1)),
        ("too-deep", nested(crate::table::MAX_DEPTH)),
        ("not-a-number", b"\x01kd\x7f\xf8\0\0\0\0\0\0".to_vec()),
        ("length-of-four-gigabytes", b"\x01kS\xff\xff\xff\xff".to_vec()),
    ]
    .map(|(name, octets)| (name.to_owned(), octets))
    .into()
}

fn properties_seeds() -> Vec<Seed> {
    let mut all = Vec::new();
    all_properties().encode(&mut all);
    [
        ("all", all),
        ("none", b"\0\0".to_vec()),
        ("lowest-flags", b"\0\x03".to_vec()),
        ("persistent", b"\x10\0\x02".to_vec()),
        ("expiration", b"\x01\0\x0210".to_vec()),
    ]
    .map(|(name, octets)| (name.to_owned(), octets))
    .into()
}

fn content_header_seeds() -> Vec<Seed> {
    let header = |class_id, body_size, raw: &[u8]| {
        let mut octets = Vec::new();
        let properties = Properties::parse(raw).unwrap();
        ContentHeader { class_id, body_size, properties }.encode(&mut octets);
        octets
    };
    let mut seeds: Vec<_> =
        properties_seeds().into_iter().map(|(name, raw)| (name, header(60, 1_000_000, &raw))).collect();
    seeds.push(("other-class".to_owned(), header(50, 5, b"\0\0")));
    seeds.push(("weight".to_owned(), b"\0\x3c\0\x01\0\0\0\0\0\0\0\x05\0\0".to_vec()));
    seeds
}

fn frame_seeds() -> Vec<Seed> {
    let mut publish = Vec::new();
    let routing_key = "q";
    frame::write_fields(&mut publish, 1, &basic::Publish { routing_key, ..Default::default() });
    frame::write_content_header(&mut publish, 1, 60, 5000, b"\x10\0\x02");
    frame::write_body(&mut publish, 1, &[b'z'; 5000], 4096);
    frame::write_heartbeat(&mut publish);
    let mut short = Vec::new();
    frame::write_deliver(&mut short, 1, "t", 1, false, "e", "k");
    frame::write_content_header(&mut short, 1, 60, 2, b"\0\0");
    frame::write_body(&mut short, 1, b"hi", 4096);
    frame::write_ack(&mut short, 1, 1, false);
    [
        ("publish", publish),
        ("deliver-and-ack", short),
        ("protocol-header", crate::PROTOCOL_HEADER.to_vec()),
        ("unknown-type", b"\x09\0\x01\0\0\0\x03abc\xce".to_vec()),
        ("too-large", b"\x03\0\x01\xff\xff\xff\xff".to_vec()),
        ("bad-end", b"\x03\0\x01\0\0\0\x03abc\0".to_vec()),
        ("empty-body", b"\x03\0\x01\0\0\0\0\xce".to_vec()),
    ]
    .map(|(name, octets)| (name.to_owned(), octets))
    .into()
}

#[test]
fn the_stored_corpus_has_all_seeds() {
    for (target, seeds) in [
        ("amqp_frame", frame_seeds()),
        ("amqp_method", method_seeds()),
        ("amqp_table", table_seeds()),
        ("amqp_content_header", content_header_seeds()),
        ("amqp_properties", properties_seeds()),
    ] {
        mutants::check_seeds(target, &seeds);
    }
}

fn run(target: &str, body: fn(&[u8])) {
    mutants::run(target, MUTANTS, TELLING, body);
}

#[test]
fn frames_survive_the_corpus_and_its_mutations() {
    run("amqp_frame", fuzz::frame);
}

#[test]
fn methods_survive_the_corpus_and_its_mutations() {
    run("amqp_method", fuzz::method);
}

#[test]
fn tables_survive_the_corpus_and_its_mutations() {
    run("amqp_table", fuzz::table);
}

#[test]
fn content_headers_survive_the_corpus_and_its_mutations() {
    run("amqp_content_header", fuzz::content_header);
}

#[test]
fn properties_survive_the_corpus_and_its_mutations() {
    run("amqp_properties", fuzz::properties);
}
