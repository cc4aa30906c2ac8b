//! Connections: the handshake, what is negotiated, who is let in, and how they end.

use crate::{client, node};
use amqp::method::{Method, channel, connection, queue};
use amqp::table::FieldValue;
use harness::api::encoded;
use harness::wire::{Args, Client, Login, name, ours_or_theirs, plain};
use harness::{args, table};
use std::time::{Duration, Instant};

const REFUSED: &str =
    "Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";

#[test]
fn the_broker_introduces_itself() {
    let mut client = node().stranger();
    client.put_raw(&amqp::PROTOCOL_HEADER);
    client.flush();
    let received = client.expect("connection.start");
    let Method::ConnectionStart(start) = received.method() else { unreachable!() };
    assert_eq!((start.version_major, start.version_minor), (0, 9));
    let mechanisms = std::str::from_utf8(start.mechanisms).unwrap();
    let mut mechanisms: Vec<&str> = mechanisms.split(' ').collect();
    mechanisms.sort_unstable();
    // EXTERNAL only where it is configured: clients with a certificate would choose it and be refused.
    assert_eq!(mechanisms, ["AMQPLAIN", "PLAIN"]);
    assert_eq!(start.locales, b"en_US");
    let properties = start.server_properties.to_owned();
    for name in ["product", "version", "platform", "copyright", "information", "cluster_name"] {
        assert!(properties.get(name).and_then(FieldValue::as_str).is_some_and(|it| !it.is_empty()), "{name}");
    }
    // Libraries read both and decide on them.
    assert_eq!(properties.get("product").unwrap().as_str(), Some("RabbitMQ"));
    let version = properties.get("version").unwrap().as_str().unwrap();
    let numbers: Vec<u32> = version.split('.').map(|it| it.parse().unwrap()).collect();
    assert!(numbers.len() == 3 && numbers >= vec![3, 3, 0] && numbers < vec![4, 0, 0], "{version}");
    let capabilities = properties.get("capabilities").unwrap().as_table().unwrap();
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        assert_eq!(capabilities.get(name), Some(&FieldValue::Bool(true)), "{name}");
    }
}

#[test]
fn other_protocols_are_shown_the_header_and_the_door() {
    for header in [b"HTTP/1.1", b"AMQP\x00\x01\x00\x00", b"AMQP\x00\x00\x09\x02", b"AMQP\x01\x01\x0A\x00"] {
        let mut client = node().stranger();
        client.put_raw(header);
        client.flush();
        assert_eq!(client.read_raw(8), amqp::PROTOCOL_HEADER, "{header:?}");
        client.expect_end();
    }
}

#[test]
fn old_headers_are_accepted() {
    let rows: [(&[u8; 8], (u8, u8)); 3] = [
        (b"AMQP\x01\x01\x00\x09", (0, 9)),
        (b"AMQP\x01\x01\x08\x00", (8, 0)),
        (b"AMQP\x01\x01\x09\x01", (8, 0)),
    ];
    for (header, version) in rows {
        let mut client = node().stranger();
        client.put_raw(header);
        client.flush();
        let received = client.expect("connection.start");
        let Method::ConnectionStart(start) = received.method() else { unreachable!() };
        assert_eq!((start.version_major, start.version_minor), version, "{header:?}");
    }
}

#[test]
fn the_proposed_limits() {
    let mut client = node().stranger();
    client.greet();
    client.send_start_ok(&Login::default(), "PLAIN", &plain("guest", "guest"));
    let received = client.expect("connection.tune");
    let Method::ConnectionTune(tune) = received.method() else { unreachable!() };
    assert_eq!((tune.channel_max, tune.frame_max, tune.heartbeat), (2047, 131_072, 60));
}

#[test]
fn a_client_may_lower_every_limit() {
    let login = Login { channel_max: 1, frame_max: 4096, heartbeat: 1, ..Login::default() };
    let mut client = node().client_with(&login);
    client.own_queue();
    client.close();
}

#[test]
fn limits_above_the_proposed_or_too_small_are_refused() {
    let rows = [
        Login { channel_max: 2048, ..Login::default() },
        Login { channel_max: 0, ..Login::default() },
        Login { frame_max: 131_073, ..Login::default() },
        Login { frame_max: 4095, ..Login::default() },
        Login { frame_max: 0, ..Login::default() },
    ];
    std::thread::scope(|scope| {
        for login in &rows {
            scope.spawn(move || {
                let mut client = node().stranger();
                client.authenticate(login).unwrap();
                client.put(0, login.tune_ok());
                client.send(0, connection::Open { virtual_host: "/" });
                let close = client.receive().map(|it| it.close().code);
                assert_eq!(close, ours_or_theirs(Some(530), None), "{login:?}");
            });
        }
    });
}

#[test]
fn the_whole_handshake_may_be_one_write() {
    let mut client = node().stranger();
    let login = Login::default();
    let properties = login.properties();
    client.put_raw(&amqp::PROTOCOL_HEADER);
    client.put(
        0,
        connection::StartOk {
            client_properties: properties.table(),
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        },
    );
    client.put(0, login.tune_ok());
    client.put(0, connection::Open { virtual_host: "/" });
    client.put(1, channel::Open);
    client.put(1, queue::Declare { exclusive: true, ..Default::default() });
    client.flush();
    for answer in
        ["connection.start", "connection.tune", "connection.open-ok", "channel.open-ok", "queue.declare-ok"]
    {
        client.expect(answer);
    }
}

/// Logs in with a response of the test's choice, up to what comes behind `start-ok`.
fn authenticate(mechanism: &str, response: &[u8]) -> Client {
    let mut client = node().stranger();
    client.greet();
    client.send_start_ok(&Login::default(), mechanism, response);
    client
}

/// A response of mechanism AMQPLAIN.
fn amqplain(password: &str) -> Vec<u8> {
    table! { "LOGIN" => "guest", "PASSWORD" => password }.to_bytes()
}

#[test]
fn both_mechanisms_let_the_right_password_in_and_no_other() {
    authenticate("AMQPLAIN", &amqplain("guest")).expect("connection.tune");
    // An authorization identity before the user is ignored.
    authenticate("PLAIN", b"\0guest\0guest").expect("connection.tune");
    let text =
        "Login was refused using authentication mechanism AMQPLAIN. For details see the broker logfile.";
    authenticate("AMQPLAIN", &amqplain("wrong")).expect_connection_close(403, text, (0, 0));
    for (user, password) in [("guest", "wrong"), ("guest", ""), ("nobody-here", "guest"), ("", "")] {
        let mut client = authenticate("PLAIN", &plain(user, password));
        client.expect_connection_close(403, REFUSED, (0, 0));
    }
}

#[test]
fn what_is_no_login_at_all_is_dropped_after_a_while_without_a_word() {
    let started = Instant::now();
    let silent = Login { password: "wrong", capabilities: &[], ..Login::default() };
    let mut incapable = node().stranger();
    incapable.greet();
    incapable.send_start_ok(&silent, "PLAIN", &plain("guest", "wrong"));
    let unknown = authenticate("NOPE", b"x");
    let malformed = authenticate("PLAIN", b"no-nul-octets");
    let mut early = node().stranger();
    early.authenticate(&Login::default()).unwrap();
    early.send(1, channel::Open);
    for mut client in [incapable, unknown, malformed] {
        client.expect_end();
    }
    let took = started.elapsed().as_secs_f64();
    assert!((2.5..15.0).contains(&took), "{took} s");
    // A channel before the vhost is open: the connection ends one way or the other.
    if let Some(received) = early.receive() {
        assert_eq!(received.name(), "connection.close");
    }
}

#[test]
fn vhosts_that_are_not_there_or_not_allowed_are_530() {
    let vhost = name("no-vhost");
    let mut client = node().stranger();
    let close = client.login(&Login { vhost: &vhost, ..Login::default() }).unwrap_err();
    assert_eq!((close.code, close.at), (530, (10, 40)));
    assert_eq!(close.text, format!("NOT_ALLOWED - vhost {vhost} not found"));
    let user = node().api.user("");
    let mut client = node().stranger();
    let close = client.login(&Login { user: &user, password: "pw", ..Login::default() }).unwrap_err();
    assert_eq!((close.code, close.at), (530, (10, 40)));
    assert_eq!(close.text, format!("NOT_ALLOWED - access to vhost '/' refused for user '{user}'"));
}

#[test]
fn a_close_is_answered_and_the_client_hangs_up() {
    let mut client = client();
    let close = connection::Close { reply_code: 200, reply_text: "bye", ..Default::default() };
    client.call(0, close, "connection.close-ok");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    client.expect_end();
}

#[test]
fn a_close_that_crosses_an_error_is_answered() {
    let mut client = client();
    client.send(1, channel::Open);
    assert_eq!(client.expect("connection.close").close().code, 504);
    // It was on its way when the other came.
    client.call(0, connection::Close { reply_code: 200, ..Default::default() }, "connection.close-ok");
    client.send(0, connection::CloseOk);
    client.expect_end();
}

#[test]
fn behind_a_close_nothing_is_done() {
    let mut client = client();
    let queue = name("q");
    client.put(0, connection::Close { reply_code: 200, ..Default::default() });
    client.put(1, queue::Declare { queue: &queue, ..Default::default() });
    client.flush();
    client.expect("connection.close-ok");
    let mut other = crate::client();
    let passive = queue::Declare { queue: &queue, passive: true, ..Default::default() };
    other.refused(1, passive, 404, &format!("no queue '{queue}' in vhost '/'"));
}

#[test]
fn methods_of_the_handshake_are_504_afterwards() {
    let text = "unexpected method in connection state running";
    let empty = Args::default();
    let start_ok = connection::StartOk {
        client_properties: empty.table(),
        mechanism: "PLAIN",
        response: b"\0guest\0guest",
        locale: "en_US",
    };
    client().fatal(0, start_ok, 504, text);
    client().fatal(0, Login::default().tune_ok(), 504, text);
    client().fatal(0, connection::Open { virtual_host: "/" }, 504, text);
}

#[test]
fn a_new_secret_is_taken() {
    let mut client = client();
    let update = connection::UpdateSecret { new_secret: b"x", reason: "rotate" };
    client.call(0, update, "connection.update-secret-ok");
    client.own_queue();
}

#[test]
fn an_operator_closes_a_connection() {
    let connection_name = name("connection");
    let mut client = node().client_with(&Login { connection_name: &connection_name, ..Login::default() });
    let api = &node().api;
    let found = xtask::lab::wait::until(Duration::from_secs(20), "the connection in the list", || {
        let list = api.get("connections");
        let mine = list
            .as_array()?
            .iter()
            .find(|it| it["client_properties"]["connection_name"] == connection_name.as_str())?;
        Some(mine["name"].as_str()?.to_owned())
    })
    .unwrap();
    api.delete(&format!("connections/{}", encoded(&found)));
    client.expect_connection_close(320, "Closed via management plugin", (0, 0));
}

#[test]
fn connections_end_with_their_vhost() {
    let vhost = node().api.vhost();
    let mut client = node().client_with(&Login { vhost: &vhost, ..Login::default() });
    client.declare(1, &queue::Declare { queue: "q", durable: true, ..Default::default() });
    node().api.delete(&format!("vhosts/{vhost}"));
    // RabbitMQ stops it before it deletes it, and may tell that first.
    let close = client.expect("connection.close").close();
    let told = |what: &str| format!("CONNECTION_FORCED - vhost '{vhost}' is {what}");
    assert_eq!((close.channel, close.code, close.at), (0, 320, (0, 0)));
    assert!(
        close.text == told("deleted") || close.text == ours_or_theirs(told("deleted"), told("down")),
        "{close:?}"
    );
}

#[test]
fn connections_end_with_their_user() {
    let user = node().api.user_with([".*", ".*", ".*"]);
    let mut client = node().client_with(&Login { user: &user, password: "pw", ..Login::default() });
    node().api.delete(&format!("users/{user}"));
    client.expect_connection_close(320, &format!("user '{user}' is deleted"), (0, 0));
}

#[test]
fn vhosts_know_nothing_of_each_other() {
    let vhost = node().api.vhost();
    let mut here = client();
    let queue = here.own_queue();
    let mut there = node().client_with(&Login { vhost: &vhost, ..Login::default() });
    let passive = queue::Declare { queue: &queue, passive: true, ..Default::default() };
    there.refused(1, passive, 404, &format!("no queue '{queue}' in vhost '{vhost}'"));
    // What every vhost has is there.
    let direct = args! {};
    there.declare(1, &queue::Declare { queue: "q", exclusive: true, ..Default::default() });
    there.bind_with(1, "q", "amq.direct", "key", &direct);
    here.bind(1, &queue, "amq.direct", &queue);
    there.publish_to(1, "amq.direct", "key", b"there");
    assert_eq!(there.get(1, "q").unwrap().text(), "there");
    assert!(here.get(1, &queue).is_none());
}
