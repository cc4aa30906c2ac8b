//! Tests of the steps that configurations become.

use super::*;
use crate::config::checks::{ExpectPattern, HttpCheck};

fn numbers(plan: &Plan) -> Vec<usize> {
    plan.steps.iter().map(|step| step.number).collect()
}

fn expect(text: &str, negated: bool) -> CheckRule {
    CheckRule::Expect(Box::new(Expect::new(negated, ExpectPattern::Bytes(text.as_bytes().to_vec()))))
}

fn script_of(tcp_rules: Vec<CheckRule>) -> Plan {
    Plan::new(CheckKind::Script, &CheckSettings { tcp_rules, ..CheckSettings::default() })
}

#[test]
fn steps_are_counted_as_haproxy_counts_them() {
    // A connection that nobody wrote is not counted; comments are.
    assert_eq!(numbers(&script_of(vec![expect("x", false)])), [0, 1]);
    let connect = || CheckRule::Connect(Box::default());
    assert_eq!(numbers(&script_of(vec![connect(), expect("x", false)])), [1, 2]);
    let plan = script_of(vec![CheckRule::Comment("greeting".to_owned()), expect("x", false)]);
    assert_eq!(numbers(&plan), [0, 1, 2]);
    assert_eq!(plan.steps[2].comment.as_deref(), Some("greeting"));
    assert_eq!(numbers(&Plan::new(CheckKind::Redis, &CheckSettings::default())), [0, 1, 2]);
    assert_eq!(numbers(&Plan::new(CheckKind::Smtp, &CheckSettings::default()))[..2], [1, 2]);
}

#[test]
fn only_a_plain_connection_is_reset_before_the_server_takes_it() {
    let settings = CheckSettings::default();
    assert!(Plan::new(CheckKind::Tcp, &settings).only_connects());
    assert!(script_of(Vec::new()).only_connects());
    assert!(!script_of(vec![expect("x", false)]).only_connects());
    assert!(!Plan::new(CheckKind::Amqp, &settings).only_connects());
}

#[test]
fn a_row_of_unwanted_texts_is_looked_at_again_from_its_beginning() {
    let plan = script_of(vec![expect("a", false), expect("b", true), expect("c", true), expect("d", false)]);
    assert_eq!([1, 2, 3, 4].map(|step| plan.head(step)), [1, 2, 2, 2]);
}

#[test]
fn requests_are_written_as_haproxy_writes_them() {
    let sent = |http: HttpCheck| -> String {
        let plan = Plan::new(CheckKind::Http, &CheckSettings { http, ..CheckSettings::default() });
        let sent = plan.steps.iter().find_map(|step| match &step.action {
            Action::Send(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        });
        assert!(matches!(plan.steps.last().unwrap().action, Action::Read(_)));
        sent.unwrap()
    };
    assert_eq!(sent(HttpCheck::default()), "OPTIONS / HTTP/1.0\r\n\r\n");
    let text = |text: &str| Some(text.to_owned());
    let get = HttpRequest { method: text("GET"), uri: text("/health"), ..HttpRequest::default() };
    assert_eq!(sent(HttpCheck { request: get, ..HttpCheck::default() }), "GET /health HTTP/1.0\r\n\r\n");
    let full = HttpRequest {
        method: text("GET"),
        uri: text("/h"),
        version: text("HTTP/1.1"),
        headers: vec![("Host".to_owned(), "www.x".to_owned()), ("X-A".to_owned(), "b".to_owned())],
        body: text("abc"),
    };
    let rules = vec![CheckRule::Request { request: full, comment: None }];
    assert_eq!(
        sent(HttpCheck { rules, ..HttpCheck::default() }),
        "GET /h HTTP/1.1\r\nhost: www.x\r\nx-a: b\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc"
    );
}
