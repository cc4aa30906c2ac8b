//! Tests of the readers of answers, with answers as servers gave them, and of the seeds of their fuzz target.

use super::agent::{AgentOrder, parse};
use super::http::Answer;
use super::*;
use crate::mutants;

/// MySQL 8.0.33's greeting as captured, its random parts replaced.
const MYSQL_GREETING: &[u8] = b"\x4a\0\0\0\x0a8.0.33\0\x08\0\0\0abcdefgh\0\xff\xff\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0abcdefghijkl\0caching_sha2_password\0";
const MYSQL_OK: &[u8] = b"\x07\0\0\x02\0\0\0\x02\0\0\0";
const MYSQL_DENIED: &[u8] =
    b"\x4a\0\0\x02\xff\x15\x04#28000Access denied for user 'haproxy'@'localhost' (using password: NO)";
const MYSQL_BLOCKED: &[u8] = b"\x12\0\0\0\xff\x69\x04Host is blocked";
const LDAP_OK: &[u8] = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\0\x04\0\x04\0";
const LDAP_UNWILLING: &[u8] = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x35\x04\0\x04\0";
/// Active Directory writes lengths in four bytes.
const LDAP_DIRECTORY: &[u8] = b"\x30\x84\0\0\0\x10\x02\x01\x01\x61\x84\0\0\0\x07\x0a\x01\0\x04\0\x04\0";
const PGSQL_PASSWORD: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
const PGSQL_FATAL: &[u8] =
    b"E\0\0\0\x5cSFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry for host \"127.0.0.1\", user \"haproxy\"\0\0";
const REDIS_NOAUTH: &[u8] = b"-NOAUTH Authentication required.\r\n";
const SMTP_HELLO: &[u8] = b"250-mail.example\r\n250-SIZE 10240000\r\n250 SMTPUTF8\r\n";
const HTTP_OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const HTTP_CHUNKED: &[u8] =
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab\n\r\n2\r\ncd\r\n0\r\n\r\n";

fn failed(status: CheckStatus, finding: Finding) -> Verdict {
    Verdict::Failed(status, finding)
}

#[test]
fn mysql_names_its_version_or_its_error() {
    let both = [MYSQL_GREETING, MYSQL_OK].concat();
    assert_eq!(mysql::packet(MYSQL_GREETING, 0, false, true), Verdict::Next(Finding::text("8.0.33")));
    assert_eq!(mysql::second_packet(&both, false, true), Verdict::Next(Finding::text("8.0.33")));
    assert_eq!(mysql::second_packet(MYSQL_GREETING, false, true), Verdict::Wait);
    assert_eq!(
        mysql::second_packet(&[MYSQL_GREETING, MYSQL_DENIED].concat(), false, true),
        failed(
            CheckStatus::L7Status,
            Finding::new(1045, "#28000Access denied for user 'haproxy'@'localhost' (using password: NO)")
        )
    );
    assert_eq!(
        mysql::packet(MYSQL_BLOCKED, 0, false, false),
        failed(CheckStatus::L7Status, Finding::new(1129, "Host is blocked"))
    );
    let cut = failed(CheckStatus::L7Response, Finding::default());
    assert_eq!(mysql::packet(&MYSQL_GREETING[..20], 0, true, true), cut);
}

#[test]
fn logins_to_mysql_are_haproxys() {
    // As a server saw them from haproxy 2.6.12.
    let old = b"\x0e\x00\x00\x01\x00\x80\x00\x00\x01haproxy\x00\x00\x01\x00\x00\x00\x01";
    assert_eq!(mysql::login("haproxy", true), old);
    let new = b")\x00\x00\x01\x00\x82\x00\x00\x00\x80\x00\x01!\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00haproxy\x00\x00\x01\x00\x00\x00\x01";
    assert_eq!(mysql::login("haproxy", false), new);
}

#[test]
fn ldap_says_the_result_of_the_bind() {
    let success = Verdict::Next(Finding::new(0, "Success"));
    assert_eq!(ldap::bind_response(LDAP_OK, false), success);
    assert_eq!(ldap::bind_response(LDAP_DIRECTORY, false), success);
    assert_eq!(ldap::bind_response(&LDAP_OK[..9], false), Verdict::Wait);
    let text = "See RFC: http://tools.ietf.org/html/rfc4511#section-4.1.9";
    let unwilling = failed(CheckStatus::L7Status, Finding::new(0x35, text));
    assert_eq!(ldap::bind_response(LDAP_UNWILLING, false), unwilling);
    let other = failed(CheckStatus::L7Response, Finding::text("Not LDAPv3 protocol"));
    assert_eq!(ldap::bind_response(b"220 mail ESMTP\r\n", false), other);
    assert_eq!(ldap::bind_response(b"\x30\x83\0\0\x10abcdefghijkl", false), other);
}

#[test]
fn postgres_asks_for_a_password_or_refuses() {
    assert_eq!(pgsql::startup("haproxy"), b"\x00\x00\x00\x16\x00\x03\x00\x00user\x00haproxy\x00\x00");
    assert_eq!(pgsql::no_error(PGSQL_PASSWORD, false), Verdict::Next(Finding::default()));
    assert_eq!(
        pgsql::authentication(PGSQL_PASSWORD, false),
        Verdict::Next(Finding::new(0, "PostgreSQL server is ok"))
    );
    let fatal = failed(CheckStatus::L7Response, Finding::text("FATAL"));
    assert_eq!(pgsql::no_error(PGSQL_FATAL, false), fatal);
    let unknown = failed(CheckStatus::L7Status, Finding::text("PostgreSQL unknown error"));
    assert_eq!(pgsql::authentication(b"0123456789abcdef", false), unknown);
}

#[test]
fn redis_answers_ping_or_is_heard_out() {
    assert_eq!(redis::pong(b"+PONG\r\n", false), Verdict::Next(Finding::text("Redis server is ok")));
    assert_eq!(redis::pong(REDIS_NOAUTH, false), Verdict::Wait);
    let text = "-NOAUTH Authentication required.";
    assert_eq!(redis::pong(REDIS_NOAUTH, true), failed(CheckStatus::L7Status, Finding::text(text)));
}

#[test]
fn mail_servers_say_yes_or_no() {
    let bye = Verdict::Next(Finding::new(221, "2.0.0 Bye"));
    assert_eq!(smtp::positive(b"221 2.0.0 Bye\r\n", false), bye);
    assert_eq!(smtp::positive(SMTP_HELLO, false), Verdict::Next(Finding::new(250, "mail.example")));
    assert_eq!(smtp::positive(&SMTP_HELLO[..20], false), Verdict::Wait);
    let no = failed(CheckStatus::L7Status, Finding::new(554, "5.7.1 no thanks"));
    assert_eq!(smtp::positive(b"554 5.7.1 no thanks\r\n", false), no);
    let other = failed(CheckStatus::L7Response, Finding::text("hello world"));
    assert_eq!(smtp::is_reply(b"hello world\r\n", false), other);
}

#[test]
fn tls_answers_with_an_alert_or_a_handshake() {
    assert_eq!(tls::server_hello(b"\x15\x03\x00\0\x02\x02\x28", false), Verdict::Next(Finding::default()));
    let other = failed(CheckStatus::L6Response, Finding::default());
    assert_eq!(tls::server_hello(b"hello world", false), other);
    let hello = tls::client_hello(1);
    assert_eq!(hello.len(), 5 + usize::from(u16::from_be_bytes([hello[3], hello[4]])));
}

#[test]
fn http_answers_are_put_together() {
    let Answer::Complete(response) = http::parse(HTTP_OK, false, true) else { panic!() };
    assert_eq!((response.status, response.reason.as_str(), &response.body[..]), (200, "OK", &b"hello"[..]));
    assert!(response.whole);
    let Answer::Complete(response) = http::parse(HTTP_CHUNKED, false, true) else { panic!() };
    assert_eq!((response.status, &response.body[..], response.whole), (503, &b"ab\ncd"[..], true));
    let Answer::Complete(response) = http::parse(&HTTP_OK[..HTTP_OK.len() - 2], false, true) else {
        panic!()
    };
    assert_eq!((&response.body[..], response.whole), (&b"hel"[..], false));
    assert_eq!(http::parse(&HTTP_OK[..20], false, true), Answer::Wait);
    assert_eq!(http::parse(&HTTP_OK[..20], true, true), Answer::Invalid);
    assert_eq!(http::parse(b"garbage\r\n\r\n", false, true), Answer::Invalid);
}

#[test]
fn agents_are_understood_as_haproxy_understands_them() {
    let says = |line: &[u8]| {
        let answer = parse(line).unwrap();
        let (status, text) = answer.report(None);
        (status.word(), text)
    };
    assert_eq!(says(b"up\n"), ("L7OK", "via agent : up".to_owned()));
    assert_eq!(says(b"UP # all fine\n"), ("L7OK", "via agent : UP (all fine)".to_owned()));
    assert_eq!(says(b"down # out of order\n"), ("L7STS", "via agent : down (out of order)".to_owned()));
    assert_eq!(says(b"fail #broken\r\n"), ("L7STS", "via agent : fail (broken)".to_owned()));
    assert_eq!(says(b"up blah 300%\n"), ("L7OK", "via agent : up (blah)".to_owned()));
    assert_eq!(says(b"nonsense\n"), ("CHECKED", "agent reports an error : nonsense".to_owned()));
    assert_eq!(says(b"75%\n"), ("CHECKED", String::new()));
    let all = parse(b"ready\tup,50%  maxconn:30\r\nrest").unwrap();
    assert_eq!(all.order, Some(AgentOrder::Ready));
    assert_eq!((all.weight.as_deref(), all.maxconn.as_deref()), (Some("50%"), Some("30")));
    assert_eq!(all.health, Some((true, "up".to_owned())));
    assert_eq!(parse(b"up"), None, "a line has an end");
    let warned = parse(b"400%\n").unwrap().report(Some("too much"));
    assert_eq!(warned, (CheckStatus::Checked, "agent warns : too much".to_owned()));
}

#[test]
fn brokers_name_themselves() {
    assert_eq!(amqp::connection_start(b"", false), None);
    let closed = amqp::connection_start(b"", true).unwrap().unwrap_err();
    assert_eq!(closed, "connection closed before Connection.Start");
    assert!(amqp::connection_start(b"AMQP\x00\x00\x09", false).is_none());
    let says = |bytes: &[u8]| amqp::connection_start(bytes, false).unwrap().unwrap_err();
    assert!(says(b"AMQP\x00\x01\x00\x00").contains("another AMQP"));
    assert!(says(b"HTTP/1.1 400 Bad Request\r\n").contains("not AMQP"));
}

fn seeds() -> Vec<mutants::Seed> {
    let answers: [(&str, &[u8]); 17] = [
        ("mysql-greeting", MYSQL_GREETING),
        ("mysql-denied", MYSQL_DENIED),
        ("mysql-blocked", MYSQL_BLOCKED),
        ("ldap-ok", LDAP_OK),
        ("ldap-directory", LDAP_DIRECTORY),
        ("pgsql-password", PGSQL_PASSWORD),
        ("pgsql-fatal", PGSQL_FATAL),
        ("redis-noauth", REDIS_NOAUTH),
        ("redis-pong", b"+PONG\r\n"),
        ("smtp-hello", SMTP_HELLO),
        ("smtp-bye", b"221 2.0.0 Bye\r\n"),
        ("http-ok", HTTP_OK),
        ("http-chunked", HTTP_CHUNKED),
        ("agent-line", b"ready up,50% maxconn:30 # fine\n"),
        ("amqp-version", b"AMQP\x00\x00\x09\x01"),
        ("amqp-start", b"\x01\0\0\0\0\0\x1d\0\x0a\0\x0a\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US\xce"),
        ("tls-alert", b"\x15\x03\x00\0\x02\x02\x28"),
    ];
    answers.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

#[test]
fn the_seeds_of_the_fuzz_target_are_stored() {
    mutants::check_seeds("proxy_check_answer", &seeds());
}

#[test]
fn no_answer_makes_a_reader_panic() {
    mutants::run(
        "proxy_check_answer",
        20_000,
        b"\0\x01\x0a\x16\x30\x61\x82\x84\xff +-#%\r\nR2EAHup5",
        fuzz::readers,
    );
}
