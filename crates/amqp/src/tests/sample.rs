//! Random but well-formed octets, written from `methods.table` and the standard and not by the code under test.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::table::{FieldTable, FieldValue};

/// A method as `methods.table` has it: its ids and the types of its arguments in order.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) name: String,
    pub(crate) class: u16,
    pub(crate) method: u16,
    pub(crate) from: String,
    pub(crate) content: bool,
    /// Type and whether it is reserved.
    pub(crate) arguments: Vec<(String, bool)>,
}

/// Every method of `methods.table`.
pub(crate) fn layouts() -> Vec<Layout> {
    let mut class = (String::new(), 0);
    let mut all: Vec<Layout> = Vec::new();
    for line in include_str!("../../methods.table").lines() {
        let words: Vec<_> = line.split('|').next().unwrap_or_default().split_whitespace().collect();
        match words[..] {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["class", name, id] => class = (name.to_owned(), id.parse().unwrap()),
            ["method", name, id, from, ref rest @ ..] => all.push(Layout {
                name: format!("{}.{name}", class.0),
                class: class.1,
                method: id.parse().unwrap(),
                from: from.to_owned(),
                content: rest == ["content"],
                arguments: Vec::new(),
            }),
            ["reserved", kind] => all.last_mut().unwrap().arguments.push((kind.to_owned(), true)),
            ["secret", kind, _] | [kind, _] => {
                all.last_mut().unwrap().arguments.push((kind.to_owned(), false));
            }
            _ => panic!("{line}"),
        }
    }
    all
}

/// A short string of one to four octets per character, or one of 255.
pub(crate) fn shortstr() -> impl Strategy<Value = String> {
    prop_oneof![8 => "\\PC{0,12}", 1 => Just("ü".repeat(127) + "x"), 1 => Just(String::new())]
}

fn longstr() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![6 => vec(any::<u8>(), 0..24), 1 => vec(any::<u8>(), 300..400)]
}

fn leaf() -> impl Strategy<Value = FieldValue> {
    prop_oneof![
        any::<bool>().prop_map(FieldValue::Bool),
        any::<i8>().prop_map(FieldValue::Byte),
        any::<u8>().prop_map(FieldValue::UnsignedByte),
        any::<i16>().prop_map(FieldValue::Short),
        any::<u16>().prop_map(FieldValue::UnsignedShort),
        any::<i32>().prop_map(FieldValue::SignedInt),
        any::<u32>().prop_map(FieldValue::UnsignedInt),
        any::<i64>().prop_map(FieldValue::Long),
        any::<f32>().prop_filter("finite", |x| x.is_finite()).prop_map(FieldValue::Float),
        any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(FieldValue::Double),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| FieldValue::Decimal { scale, value }),
        longstr().prop_map(FieldValue::LongStr),
        longstr().prop_map(FieldValue::Binary),
        any::<u64>().prop_map(FieldValue::Timestamp),
        Just(FieldValue::Void),
    ]
}

fn value() -> impl Strategy<Value = FieldValue> {
    leaf().prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(FieldValue::Array),
            fields(inner).prop_map(FieldValue::Table),
        ]
    })
}

/// Names are sorted and not repeated: the oracle keeps tables in a map.
fn fields(value: impl Strategy<Value = FieldValue>) -> impl Strategy<Value = FieldTable> {
    vec((shortstr(), value), 0..5)
        .prop_map(|fields| fields.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
}

/// A field table with values of every type.
pub(crate) fn table() -> impl Strategy<Value = FieldTable> {
    fields(value())
}

/// The octets of one argument that is not a bit.
fn argument(kind: &str, reserved: bool) -> BoxedStrategy<Vec<u8>> {
    match (kind, reserved) {
        ("octet", false) => vec(any::<u8>(), 1).boxed(),
        ("short", false) => vec(any::<u8>(), 2).boxed(),
        ("long", false) => vec(any::<u8>(), 4).boxed(),
        ("longlong", false) => vec(any::<u8>(), 8).boxed(),
        ("shortstr", false) => {
            shortstr().prop_map(|text| [&[text.len() as u8], text.as_bytes()].concat()).boxed()
        }
        ("longstr", false) => {
            longstr().prop_map(|octets| [&(octets.len() as u32).to_be_bytes()[..], &octets].concat()).boxed()
        }
        ("table", false) => table()
            .prop_map(|table| {
                let octets = table.to_bytes();
                [&(octets.len() as u32).to_be_bytes()[..], &octets].concat()
            })
            .boxed(),
        ("short", true) => Just(vec![0; 2]).boxed(),
        ("shortstr", true) => Just(vec![0]).boxed(),
        ("longstr", true) => Just(vec![0; 4]).boxed(),
        _ => panic!("no sample for {kind} ({reserved})"),
    }
}

/// The payload of one method frame.
fn payload(layout: &Layout) -> BoxedStrategy<Vec<u8>> {
    let mut parts: Vec<BoxedStrategy<Vec<u8>>> =
        vec![Just([layout.class.to_be_bytes(), layout.method.to_be_bytes()].concat()).boxed()];
    let mut run: Vec<bool> = Vec::new();
    let mut arguments = layout.arguments.iter().peekable();
    while let Some((kind, reserved)) = arguments.next() {
        if kind != "bit" {
            parts.push(argument(kind, *reserved));
            continue;
        }
        run.push(!reserved);
        if arguments.peek().is_none_or(|(next, _)| next != "bit") {
            assert!(run.len() <= 8, "more bits than an octet has");
            let mask = run.iter().enumerate().fold(0, |mask, (bit, used)| mask | (u8::from(*used) << bit));
            parts.push(any::<u8>().prop_map(move |octet| vec![octet & mask]).boxed());
            run.clear();
        }
    }
    parts.prop_map(|parts| parts.concat()).boxed()
}

/// The payload of a method frame of any method, with the name of the method.
pub(crate) fn method() -> impl Strategy<Value = (String, Vec<u8>)> {
    let all: Vec<_> = layouts()
        .into_iter()
        .map(|layout| {
            let payload = payload(&layout);
            (Just(layout.name), payload).boxed()
        })
        .collect();
    proptest::strategy::Union::new(all)
}
