//! Tests of the routing tables against naive references.

use super::*;
use crate::ids::QueueId;
use amqp::table::FieldValue;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn to(queue: u64) -> Destination {
    Destination::Queue(QueueId(queue))
}

fn key(text: &str) -> Arc<str> {
    Arc::from(text)
}

/// Routes and returns the queues once each.
fn routed(router: &Router, keys: &[&str], headers: &FieldTable) -> BTreeSet<Destination> {
    let octets = headers.to_bytes();
    let table = Table::parse(&octets).unwrap();
    let mut out = Vec::new();
    router.route(keys, Some(&table), None, &mut out, &mut WordScratch::default());
    out.into_iter().collect()
}

/// `#` and `*` by definition, without a tree.
fn matches(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern.split_first(), words.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), None) => matches(rest, words),
        (Some((&"#", rest)), Some((_, tail))) => matches(rest, words) || matches(pattern, tail),
        (Some((&"*", rest)), Some((_, tail))) => matches(rest, tail),
        (Some((word, rest)), Some((first, tail))) => word == first && matches(rest, tail),
        _ => false,
    }
}

fn split(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split('.').collect() }
}

/// What RabbitMQ 3.10 was seen to match and not to match.
#[test]
fn topic_patterns_match_as_in_rabbitmq() {
    let cases: [(&str, &[&str], &[&str]); 17] = [
        ("a.b", &["a.b"], &["a", "a.b.c", "", "a.B"]),
        ("a.*", &["a.b", "a."], &["a", "a.b.c"]),
        ("*.b", &["a.b", ".b"], &["b", "a.b.c"]),
        ("#", &["", "a", "a.b.c", ".", "a..b"], &[]),
        ("a.#", &["a", "a.b", "a.b.c", "a."], &["b", "", "ab"]),
        ("#.b", &["b", "a.b", "x.y.b"], &["a", "b.c"]),
        ("a.#.z", &["a.z", "a.b.z", "a.b.c.z"], &["a", "z", "a.zz"]),
        ("*", &["a"], &["a.b", ""]),
        ("#.#", &["", "a", "a.b"], &[]),
        ("*.#", &["a", "a.b"], &[""]),
        ("#.*", &["a", "a.b"], &[""]),
        ("*.*.#", &["a.b", "a.b.c"], &["a"]),
        ("a.*.#.b", &["a.x.b", "a.x.y.b"], &["a.b", "a.x"]),
        ("a.#.*", &["a.b", "a.b.c"], &["a", "b.c"]),
        ("", &[""], &["a"]),
        ("a*.b", &["a*.b"], &["ax.b"]),
        ("#a", &["#a"], &["a", "xa"]),
    ];
    for (pattern, yes, no) in cases {
        let mut router = Router::new(ExchangeType::Topic, &FieldTable::new());
        router.bind(to(1), &key(pattern), &FieldTable::new(), &Arc::from([]));
        for (keys, expected) in [(yes, true), (no, false)] {
            for word in keys {
                let found = !routed(&router, &[word], &FieldTable::new()).is_empty();
                assert_eq!(found, expected, "pattern {pattern:?} and key {word:?}");
                assert_eq!(matches(&split(pattern), &split(word)), expected, "the reference itself");
            }
        }
    }
}

#[test]
fn many_hashes_do_not_make_a_key_expensive() {
    let mut router = Router::new(ExchangeType::Topic, &FieldTable::new());
    let pattern = ["#.a"; 40].join(".");
    router.bind(to(1), &key(&pattern), &FieldTable::new(), &Arc::from([]));
    let words = ["a"; 127].join(".");
    assert_eq!(routed(&router, &[&words], &FieldTable::new()).len(), 1);
    let miss = format!("{words}.b");
    assert!(routed(&router, &[&miss], &FieldTable::new()).is_empty());
}

#[test]
fn unbinding_everything_leaves_an_empty_tree() {
    let patterns = ["a.b.c", "a.*.c", "#", "a.#", "a.b", "", "a.b.#.*"];
    let mut topic = topic::Topic::default();
    for round in 0..3 {
        for (number, pattern) in patterns.iter().enumerate() {
            topic.bind(to(number as u64), &key(pattern));
            topic.bind(to(number as u64 + 100), &key(pattern));
        }
        for (number, pattern) in patterns.iter().enumerate() {
            topic.unbind(to(number as u64), &key(pattern));
            topic.unbind(to(number as u64 + 100), &key(pattern));
            topic.unbind(to(number as u64 + 100), &key(pattern));
        }
        assert_eq!(topic.live_nodes(), 1, "round {round}");
    }
}

#[test]
fn headers_compare_values_as_rabbitmq_does() {
    use FieldValue::{Bool, Byte, Double, Float, Long, LongStr, SignedInt, Timestamp, Void};
    let text = |text: &str| LongStr(text.as_bytes().to_vec());
    let cases = [
        (text("1"), text("1"), true),
        (text("1"), SignedInt(1), false),
        (SignedInt(1), Long(1), true),
        (Byte(1), SignedInt(1), true),
        (SignedInt(1), Bool(true), false),
        (SignedInt(1), Double(1.0), true),
        (SignedInt(1), Double(1.5), false),
        (Float(0.5), Double(0.5), true),
        (Timestamp(1), SignedInt(1), true),
        (FieldValue::Decimal { scale: 0, value: 1 }, SignedInt(1), false),
        (FieldValue::Array(vec![SignedInt(1)]), FieldValue::Array(vec![SignedInt(1)]), true),
        (FieldValue::Binary(b"1".to_vec()), text("1"), true),
        (Void, text("anything"), true),
        (text("x"), Void, false),
    ];
    for (wanted, found, expected) in cases {
        let mut router = Router::new(ExchangeType::Headers, &FieldTable::new());
        let arguments: FieldTable = [("h".to_owned(), wanted.clone())].into_iter().collect();
        router.bind(to(1), &key(""), &arguments, &arguments.to_bytes().into());
        let headers: FieldTable = [("h".to_owned(), found.clone())].into_iter().collect();
        assert_eq!(!routed(&router, &[""], &headers).is_empty(), expected, "{wanted:?} and {found:?}");
    }
}

#[test]
fn headers_modes() {
    let table = |fields: &[(&str, i32)]| -> FieldTable {
        fields.iter().map(|(name, value)| ((*name).to_owned(), FieldValue::from(*value))).collect()
    };
    let matches = |mode: Option<&str>, wanted: &[(&str, i32)], headers: &[(&str, i32)]| {
        let mut arguments = table(wanted);
        if let Some(mode) = mode {
            arguments.push("x-match", mode);
        }
        let mut router = Router::new(ExchangeType::Headers, &FieldTable::new());
        router.bind(to(1), &key(""), &arguments, &arguments.to_bytes().into());
        !routed(&router, &[""], &table(headers)).is_empty()
    };
    assert!(matches(None, &[("a", 1), ("b", 2)], &[("b", 2), ("a", 1), ("c", 3)]), "all is the default");
    assert!(!matches(Some("all"), &[("a", 1), ("b", 2)], &[("a", 1)]));
    assert!(matches(Some("any"), &[("a", 1), ("b", 2)], &[("a", 9), ("b", 2)]));
    assert!(!matches(Some("any"), &[("a", 1)], &[("b", 1)]));
    assert!(matches(Some("all"), &[], &[]) && matches(Some("all"), &[], &[("a", 1)]), "empty all");
    assert!(!matches(Some("any"), &[], &[("a", 1)]), "empty any");
    assert!(matches(Some("all"), &[("a", 1), ("x-b", 2)], &[("a", 1)]), "x- is left out");
    assert!(!matches(Some("all-with-x"), &[("a", 1), ("x-b", 2)], &[("a", 1)]));
    assert!(matches(Some("all-with-x"), &[("x-b", 2)], &[("x-b", 2)]));
    assert!(!matches(Some("any"), &[("x-b", 2)], &[("x-b", 2)]));
    assert!(matches(Some("any-with-x"), &[("x-b", 2)], &[("x-b", 2)]));
}

#[test]
fn bad_x_match_is_refused() {
    let refused = |value: FieldValue| {
        let arguments: FieldTable = [("x-match".to_owned(), value)].into_iter().collect();
        validate_binding(ExchangeType::Headers, &FieldTable::new(), "", &arguments)
            .map_err(|exception| exception.reply_text())
    };
    assert_eq!(
        refused("some".into()).unwrap_err(),
        "PRECONDITION_FAILED - Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or any-with-x"
    );
    assert_eq!(
        refused(1.into()).unwrap_err(),
        "PRECONDITION_FAILED - Invalid x-match field type signedint (value 1); expected longstr"
    );
    for fine in ["all", "any", "all-with-x", "any-with-x"] {
        assert_eq!(refused(fine.into()), Ok(()));
    }
}

/// Words that make patterns meet keys often.
fn word() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("c"), Just(""), Just("*"), Just("#")]
}

fn words() -> impl Strategy<Value = String> {
    prop::collection::vec(word(), 0..6).prop_map(|words| words.join("."))
}

/// Bind or unbind a queue with a pattern.
fn steps() -> impl Strategy<Value = Vec<(bool, u64, String)>> {
    prop::collection::vec((prop::bool::weighted(0.7), 0..5_u64, words()), 0..40)
}

/// Carries out steps on a router and on a list of bindings.
fn built(kind: ExchangeType, steps: &[(bool, u64, String)]) -> (Router, BTreeSet<(u64, String)>) {
    let mut router = Router::new(kind, &FieldTable::new());
    let mut bindings = BTreeSet::new();
    for (bind, queue, pattern) in steps {
        let binding = (*queue, pattern.clone());
        if *bind && bindings.insert(binding.clone()) {
            router.bind(to(*queue), &key(pattern), &FieldTable::new(), &Arc::from([]));
        } else if !*bind && bindings.remove(&binding) {
            router.unbind(to(*queue), &key(pattern), &Arc::from([]));
        }
    }
    (router, bindings)
}

proptest! {
    #[test]
    fn topic_equals_reference(steps in steps(), keys in prop::collection::vec(words(), 1..8)) {
        let (router, bindings) = built(ExchangeType::Topic, &steps);
        for word in &keys {
            let expected: BTreeSet<Destination> = bindings
                .iter()
                .filter(|(_, pattern)| matches(&split(pattern), &split(word)))
                .map(|(queue, _)| to(*queue))
                .collect();
            prop_assert_eq!(routed(&router, &[word], &FieldTable::new()), expected, "key {:?}", word);
        }
    }

    #[test]
    fn direct_equals_reference(steps in steps(), keys in prop::collection::vec(words(), 1..8)) {
        let (router, bindings) = built(ExchangeType::Direct, &steps);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let expected: BTreeSet<Destination> =
            bindings.iter().filter(|(_, own)| keys.contains(&own.as_str())).map(|(queue, _)| to(*queue)).collect();
        prop_assert_eq!(routed(&router, &keys, &FieldTable::new()), expected);
    }

    #[test]
    fn fanout_equals_reference(steps in steps()) {
        let (router, bindings) = built(ExchangeType::Fanout, &steps);
        let expected: BTreeSet<Destination> = bindings.iter().map(|(queue, _)| to(*queue)).collect();
        prop_assert_eq!(routed(&router, &["any"], &FieldTable::new()), expected);
    }

    #[test]
    fn headers_equal_reference(
        rules in prop::collection::vec((0..4_usize, small_table()), 0..8),
        headers in small_table(),
    ) {
        const MODES: [&str; 4] = ["all", "any", "all-with-x", "any-with-x"];
        let mut router = Router::new(ExchangeType::Headers, &FieldTable::new());
        let mut expected = BTreeSet::new();
        for (number, (mode, wanted)) in rules.iter().enumerate() {
            let mut arguments = wanted.clone();
            arguments.push("x-match", MODES[*mode]);
            router.bind(to(number as u64), &key(""), &arguments, &arguments.to_bytes().into());
            let counted: Vec<bool> = wanted
                .iter()
                .filter(|(name, _)| *mode >= 2 || !name.starts_with("x-"))
                .map(|(name, value)| headers.get(name).is_some_and(|found| *value == FieldValue::Void || value == found))
                .collect();
            let fits = if mode % 2 == 0 { counted.iter().all(|fit| *fit) } else { counted.iter().any(|fit| *fit) };
            if fits {
                expected.insert(to(number as u64));
            }
        }
        prop_assert_eq!(routed(&router, &[""], &headers), expected);
    }
}

/// Tables with few names and values, each name once.
fn small_table() -> impl Strategy<Value = FieldTable> {
    let value = prop_oneof![
        Just(FieldValue::SignedInt(1)),
        Just(FieldValue::SignedInt(2)),
        Just(FieldValue::Bool(true)),
        Just(FieldValue::Void),
        Just(FieldValue::long_str("1")),
    ];
    let name = prop_oneof![Just("a"), Just("b"), Just("x-c"), Just("x-d")];
    prop::collection::btree_map(name, value, 0..4)
        .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
