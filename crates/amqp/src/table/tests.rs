//! Tests of field tables: what RabbitMQ reads, limits, and copies that can be changed.

use super::*;

/// A table with one field named `k`.
fn one(value: &[u8]) -> Vec<u8> {
    [b"\x01k", value].concat()
}

/// `letter`, a 32-bit length and the octets.
fn long(letter: u8, octets: &[u8]) -> Vec<u8> {
    [&[letter][..], &(octets.len() as u32).to_be_bytes(), octets].concat()
}

// RabbitMQ 3.10 declares a queue with each of these as an argument.
#[test]
fn every_type_letter_means_what_rabbitmq_takes_it_for() {
    let nested = one(b"V");
    let nested_table = Value::Table(Table::parse(&nested).unwrap());
    let rows: Vec<(Vec<u8>, Value<'_>, &str)> = vec![
        (b"t\x00".to_vec(), Value::Bool(false), "bool"),
        (b"t\x02".to_vec(), Value::Bool(true), "bool"),
        (b"b\xff".to_vec(), Value::Byte(-1), "byte"),
        (b"B\xff".to_vec(), Value::UnsignedByte(255), "unsignedbyte"),
        (b"s\xff\xfe".to_vec(), Value::Short(-2), "short"),
        (b"u\xff\xfe".to_vec(), Value::UnsignedShort(65534), "unsignedshort"),
        (b"I\xff\xff\xff\xfd".to_vec(), Value::SignedInt(-3), "signedint"),
        (b"i\xff\xff\xff\xfd".to_vec(), Value::UnsignedInt(4_294_967_293), "unsignedint"),
        (b"l\xff\xff\xff\xff\xff\xff\xff\xfc".to_vec(), Value::Long(-4), "long"),
        (b"L\xff\xff\xff\xff\xff\xff\xff\xfc".to_vec(), Value::Long(-4), "long"),
        (b"f\x3f\xc0\x00\x00".to_vec(), Value::Float(1.5), "float"),
        (b"d\x3f\xf8\x00\x00\x00\x00\x00\x00".to_vec(), Value::Double(1.5), "double"),
        (b"D\x02\x00\x00\x01\x3a".to_vec(), Value::Decimal { scale: 2, value: 314 }, "decimal"),
        (long(b'S', b"\xffx"), Value::LongStr(b"\xffx"), "longstr"),
        (long(b'x', b"\x00\xff"), Value::Binary(b"\x00\xff"), "binary"),
        (b"T\x00\x00\x00\x00\x5e\x0b\xe1\x00".to_vec(), Value::Timestamp(0x5e0b_e100), "timestamp"),
        (long(b'A', b"Vt\x01"), Value::Array(Array { octets: b"Vt\x01" }), "array"),
        (long(b'F', &nested), nested_table, "table"),
        (b"V".to_vec(), Value::Void, "void"),
    ];
    for (octets, value, name) in rows {
        let octets = one(&octets);
        let table = Table::parse(&octets).unwrap();
        assert_eq!(table.iter().collect::<Vec<_>>(), [("k", value)], "{name}");
        assert_eq!(table.get("k"), Some(value));
        assert_eq!(table.get("j"), None);
        assert_eq!(value.type_name(), name);
        assert_eq!(value.to_owned().type_name(), name);
        assert_eq!(value.as_i64(), value.to_owned().as_i64());
        assert_eq!(value.as_bytes(), value.to_owned().as_bytes());
        assert_eq!(value.as_bool(), value.to_owned().as_bool());
        assert_eq!(value.as_str(), value.to_owned().as_str());
        // RabbitMQ writes back what it read, except that true becomes 1 and `L` becomes `l`.
        let written = table.to_owned().to_bytes();
        match octets[2] {
            b't' => assert_eq!(written[3], u8::from(octets[3] != 0)),
            b'L' => assert_eq!(written[2..], [b"l", &octets[3..]].concat()),
            _ => assert_eq!(written, octets),
        }
        for cut in 1..octets.len() {
            assert_eq!(Table::parse(&octets[..cut]), Err(TableError::Truncated), "{name} cut at {cut}");
        }
    }
}

#[test]
fn integers_of_all_widths_are_integers_and_nothing_else_is() {
    let integers = [
        Value::Byte(-1),
        Value::UnsignedByte(2),
        Value::Short(-3),
        Value::UnsignedShort(4),
        Value::SignedInt(-5),
        Value::UnsignedInt(6),
        Value::Long(-7),
    ];
    assert_eq!(integers.map(|value| value.as_i64().unwrap()), [-1, 2, -3, 4, -5, 6, -7]);
    for other in
        [Value::Bool(true), Value::Double(1.0), Value::Timestamp(1), Value::LongStr(b"1"), Value::Void]
    {
        assert_eq!(other.as_i64(), None);
    }
}

// RabbitMQ 3.10 drops the connection on each of these.
#[test]
fn what_rabbitmq_refuses_is_refused() {
    for letter in (0..=255).filter(|letter| !b"tbBsuIilLfdDSxTAFV".contains(letter)) {
        let octets = one(&[letter, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Table::parse(&octets), Err(TableError::UnknownType(letter)));
    }
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let octets = one(&[b"d", &value.to_be_bytes()[..]].concat());
        assert_eq!(Table::parse(&octets), Err(TableError::NotFinite));
        let octets = one(&[b"f", &(value as f32).to_be_bytes()[..]].concat());
        assert_eq!(Table::parse(&octets), Err(TableError::NotFinite));
        let octets = one(&long(b'A', &[b"f", &(value as f32).to_be_bytes()[..]].concat()));
        assert_eq!(Table::parse(&octets), Err(TableError::NotFinite));
    }
}

// RabbitMQ 3.10 accepts both.
#[test]
fn names_may_repeat_and_need_not_be_text() {
    let octets = b"\x01kI\x00\x00\x00\x01\x02\xff\xfet\x01\x01kI\x00\x00\x00\x02\x00V";
    let table = Table::parse(octets).unwrap();
    let names: Vec<_> = table.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["k", "k", ""]);
    assert_eq!(table.iter_raw().count(), 4);
    assert_eq!(table.iter_raw().nth(1), Some((&b"\xff\xfe"[..], Value::Bool(true))));
    assert_eq!(table.get("k"), Some(Value::SignedInt(1)), "the first of a name counts");
    assert_eq!(table.as_bytes(), octets, "nothing is changed on the way through");
    let owned = table.to_owned();
    assert_eq!(owned.len(), 4);
    assert_eq!(owned.get("\u{fffd}\u{fffd}"), Some(&FieldValue::Bool(true)));
    assert_eq!(owned.iter().nth(2), Some(("k", &FieldValue::SignedInt(2))));
}

/// Tables in each other, `depth` of them.
fn tables_in_each_other(depth: usize) -> Vec<u8> {
    (1..depth).fold(Vec::new(), |inner, _| one(&long(b'F', &inner)))
}

fn arrays_in_a_table(depth: usize) -> Vec<u8> {
    one(&(2..depth).fold(long(b'A', b""), |inner, _| long(b'A', &inner)))
}

#[test]
fn nesting_ends_at_the_limit() {
    for deep in [tables_in_each_other, arrays_in_a_table] {
        let octets = deep(MAX_DEPTH);
        let table = Table::parse(&octets).unwrap();
        assert_eq!(table.to_owned().to_bytes(), octets);
        assert_eq!(Table::parse(&deep(MAX_DEPTH + 1)), Err(TableError::TooDeep));
        // As deep as a large frame allows: refused without using up the stack.
        assert_eq!(Table::parse(&deep(20_000)), Err(TableError::TooDeep));
    }
}

#[test]
fn announced_lengths_are_not_believed() {
    for letter in [b'S', b'x', b'A', b'F'] {
        for announced in [1u32, 0x7fff_ffff, 0xffff_ffff] {
            let octets = one(&[&[letter][..], &announced.to_be_bytes()].concat());
            assert_eq!(Table::parse(&octets), Err(TableError::Truncated));
        }
    }
    // A table inside that ends inside a field, though the octets go on outside.
    let octets = one(&[&long(b'F', b"\x01kI\x00\x00")[..], b"\x00\x00\x00\x00"].concat());
    assert_eq!(Table::parse(&octets), Err(TableError::Truncated));
}

#[test]
fn a_field_table_keeps_order_and_repetitions() {
    let mut table = FieldTable::new();
    assert!(table.is_empty());
    assert_eq!(table.insert("a", 1), None);
    table.push("b", true);
    table.push("a", "again");
    assert_eq!(table.len(), 3);
    assert_eq!(table.get("a"), Some(&FieldValue::SignedInt(1)));
    assert_eq!(
        table.insert("a", 2i64),
        Some(FieldValue::SignedInt(1)),
        "the first is replaced, in its place"
    );
    let seen: Vec<_> = table.iter().map(|(name, value)| (name, value.type_name())).collect();
    assert_eq!(seen, [("a", "long"), ("b", "bool"), ("a", "longstr")]);
    if let Some(value) = table.get_mut("b") {
        *value = FieldValue::Void;
    }
    assert_eq!(table.remove("a"), Some(FieldValue::Long(2)), "all of the name go, the first is returned");
    assert_eq!(table.remove("a"), None);
    assert_eq!(table.clone().into_iter().collect::<Vec<_>>(), [("b".to_owned(), FieldValue::Void)]);
    assert!(table.contains("b"));
    let mut octets = Vec::new();
    table.encode(&mut octets);
    assert_eq!(octets, b"\x00\x00\x00\x03\x01bV");
}

#[test]
fn values_nest() {
    let inner: FieldTable = [("n".to_owned(), FieldValue::from("v"))].into_iter().collect();
    let list =
        FieldValue::from(vec![FieldValue::from(inner.clone()), FieldValue::long_str("s"), true.into()]);
    assert_eq!(list.as_array().unwrap()[0].as_table(), Some(&inner));
    assert_eq!(list.as_array().unwrap()[1].as_str(), Some("s"));
    assert_eq!(list.as_array().unwrap()[2].as_bool(), Some(true));
    let mut table = FieldTable::new();
    table.insert("list", list);
    let octets = table.to_bytes();
    let parsed = Table::parse(&octets).unwrap();
    assert_eq!(FieldTable::from(parsed), table);
    let Some(Value::Array(array)) = parsed.get("list") else { panic!("not an array") };
    assert_eq!(array.iter().count(), 3);
    assert_eq!(format!("{parsed:?}").matches("Bool(true)").count(), 1);
}

#[test]
fn a_name_too_long_is_cut_at_a_character() {
    let mut table = FieldTable::new();
    table.insert("ü".repeat(200), true);
    let octets = table.to_bytes();
    assert_eq!(octets[0], 254);
    assert_eq!(Table::parse(&octets).unwrap().iter().next().unwrap().0, "ü".repeat(127));
}
