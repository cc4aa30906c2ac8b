//! TLS, logins by certificate, and the PROXY protocol, with a client that sees every frame.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "../../src/tls/testing.rs"]
mod certificates;
mod client;

use amqp::content::BasicProperties;
use amqp::method::{Method, basic, confirm, connection, queue};
use certificates::{authority, client as certificate_of, server};
use client::{Broker, Client};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// A broker with TLS and these further lines in `[amqp.tls]`.
struct Secure {
    broker: Broker,
    folder: tempfile::TempDir,
}

impl Secure {
    fn start(amqp: &str, tls: &str) -> Secure {
        let folder = tempfile::tempdir().unwrap();
        write_server_certificate(folder.path());
        std::fs::write(folder.path().join("ca"), &authority().0).unwrap();
        let at = folder.path().display();
        let text = format!(
            "[amqp]\n{amqp}\n[amqp.tls]\nlisten = '127.0.0.1:0'\ncert = '{at}/cert'\nkey = '{at}/key'\n\
             ca = '{at}/ca'\n{tls}\n[[users]]\nname = 'CN=alice,O=client'\n\
             permissions = [{{ vhost = '/', configure = '.*', write = '.*', read = '.*' }}]\n"
        );
        let config = folder.path().join("broker.toml");
        std::fs::write(&config, text).unwrap();
        Secure { broker: Broker::start(&["-c", config.to_str().unwrap()]), folder }
    }

    /// The one that runs, or a new one, for the tests that need nothing else.
    fn shared() -> Arc<Secure> {
        static RUNNING: Mutex<Weak<Secure>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap();
        running.upgrade().unwrap_or_else(|| {
            let mechanisms = "auth_mechanisms = ['PLAIN', 'AMQPLAIN', 'EXTERNAL']";
            let secure = Arc::new(Secure::start(mechanisms, "verify = 'peer'"));
            *running = Arc::downgrade(&secure);
            secure
        })
    }

    fn port(&self) -> u16 {
        self.broker.tls_port.unwrap()
    }

    /// A client whose TLS handshake is still to come.
    fn connect(&self, versions: &[&'static SupportedProtocolVersion], name: Option<&str>) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port())).unwrap();
        Client::over(stream, Some(session(versions, name)))
    }

    fn connections(&self) -> Vec<serde_json::Value> {
        self.get("connections").as_array().unwrap().clone()
    }

    fn get(&self, path: &str) -> serde_json::Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.broker.http_port)).unwrap();
        let request = format!(
            "GET /api/{path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
             connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

fn write_server_certificate(folder: &Path) {
    let (certificate, key) = server();
    std::fs::write(folder.join("cert"), certificate).unwrap();
    std::fs::write(folder.join("key"), key).unwrap();
}

fn session(versions: &[&'static SupportedProtocolVersion], name: Option<&str>) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority().0.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match name.map(certificate_of) {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// Publishes a body with a confirm and gets it back.
fn round_trip(client: &mut Client, body: &[u8]) {
    let queue = client.own_queue();
    client.consume(1, &queue, "c", true);
    client.call(1, &confirm::Select { nowait: false }, "confirm.select-ok");
    client.publish(1, &queue, body);
    let (mut confirmed, mut delivered) = (false, false);
    while !(confirmed && delivered) {
        let received = client.next().unwrap();
        match received.name() {
            "basic.ack" => confirmed = true,
            "basic.deliver" => {
                assert!(received.body == body);
                delivered = true;
            }
            other => panic!("{other} came"),
        }
    }
}

#[test]
fn messages_of_all_sizes_go_over_both_versions_of_tls() {
    let secure = Secure::shared();
    let large: Vec<u8> = (0..20_000_000_u32).map(|at| (at >> 7) as u8).collect();
    for (version, name) in BOTH.into_iter().zip(["tlsv1.3", "tlsv1.2"]) {
        for size in [0, 1, 16_384, 100_000, large.len()] {
            let mut client = secure.connect(&[version], None);
            client.login(0);
            client.open(1);
            round_trip(&mut client, &large[..size]);
            let local = client.stream.local_addr().unwrap().port();
            let shown = secure.connections();
            let mine = shown.iter().find(|shown| shown["peer_port"] == local).unwrap();
            assert_eq!((&mine["ssl"], &mine["ssl_protocol"]), (&true.into(), &name.into()), "{mine}");
            assert_eq!(mine["peer_cert_subject"], serde_json::Value::Null);
        }
    }
}

#[test]
fn a_certificate_logs_in_where_external_is_configured() {
    let secure = Secure::shared();
    let offered = |client: &mut Client| {
        let start = client.expect("connection.start");
        let Method::ConnectionStart(start) = start.method() else { unreachable!() };
        String::from_utf8(start.mechanisms.to_vec()).unwrap()
    };
    let mut alice = secure.connect(&BOTH, Some("alice"));
    alice.login_with("EXTERNAL", b"", 0);
    assert_eq!(offered(&mut alice), "EXTERNAL PLAIN AMQPLAIN");
    alice.expect("connection.tune");
    alice.expect("connection.open-ok");
    alice.open(1);
    round_trip(&mut alice, b"by certificate");
    let shown = secure.connections();
    let mine = shown.iter().find(|shown| shown["user"] == "CN=alice,O=client").unwrap();
    assert_eq!(mine["auth_mechanism"], "EXTERNAL");
    assert_eq!(mine["peer_cert_subject"], "CN=alice,O=client");
    assert_eq!(mine["peer_cert_issuer"], "CN=Test CA");

    let refused = "ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL. For details see the broker logfile.";
    let mut nobody = secure.connect(&BOTH, Some("nobody"));
    nobody.login_with("EXTERNAL", b"", 0);
    nobody.expect("connection.start");
    assert_eq!(nobody.expect("connection.close").close(), (403, refused.to_owned()));

    let mut bare = secure.connect(&BOTH, None);
    bare.login_with("EXTERNAL", b"CN=alice,O=client", 0);
    assert_eq!(offered(&mut bare), "PLAIN AMQPLAIN");
    assert_eq!(bare.expect("connection.close").close(), (403, refused.to_owned()));

    // Without TLS there is no such mechanism.
    let mut plain = Client::connect(secure.broker.port);
    plain.login_with("EXTERNAL", b"CN=alice,O=client", 0);
    assert_eq!(offered(&mut plain), "PLAIN AMQPLAIN");
    assert!(plain.next().is_none());
}

#[test]
fn a_certificate_can_be_required_and_only_what_is_configured_logs_in() {
    let secure = Secure::start(
        "auth_mechanisms = ['EXTERNAL']",
        "verify = 'peer'\nfail_if_no_peer_cert = true\ncert_login_from = 'common_name'",
    );
    let mut bare = secure.connect(&BOTH, None);
    bare.put_raw(&amqp::PROTOCOL_HEADER);
    let output = bare.take_output();
    let mut stream = rustls::Stream::new(bare.tls.as_mut().unwrap(), &mut bare.stream);
    let refused = stream.write_all(&output).and_then(|()| stream.read(&mut [0; 100])).unwrap_err();
    assert!(refused.to_string().contains("CertificateRequired"), "{refused}");

    // The common name is not the name of the user.
    let mut alice = secure.connect(&BOTH, Some("alice"));
    alice.login_with("EXTERNAL", b"", 0);
    alice.expect("connection.start");
    assert_eq!(alice.expect("connection.close").close().0, 403);
    let mut alice = secure.connect(&BOTH, Some("CN=alice,O=client"));
    alice.login_with("EXTERNAL", b"", 0);
    for expected in ["connection.start", "connection.tune", "connection.open-ok"] {
        alice.expect(expected);
    }
    let mut password = secure.connect(&BOTH, Some("alice"));
    password.login_with("PLAIN", b"\0guest\0guest", 0);
    password.expect("connection.start");
    assert!(password.next().is_none());
}

#[test]
fn a_hundred_clients_work_at_the_same_time_over_tls() {
    let secure = Secure::shared();
    let clients: Vec<_> = (0..100)
        .map(|number: u32| {
            let secure = Arc::clone(&secure);
            std::thread::spawn(move || {
                let mut client = secure.connect(&BOTH, None);
                client.login(0);
                client.open(1);
                round_trip(&mut client, &vec![number as u8; 50_000]);
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn a_client_that_reads_late_gets_everything_in_order() {
    let secure = Secure::shared();
    let mut client = secure.connect(&BOTH, None);
    client.login(0);
    client.open(1);
    let queue = client.declare(1, &queue::Declare { auto_delete: true, ..queue::Declare::default() });
    client.consume(1, &queue, "c", true);
    let mut publisher = secure.broker.client();
    publisher.call(1, &confirm::Select { nowait: false }, "confirm.select-ok");
    for number in 0..200_u32 {
        let publish = basic::Publish { routing_key: &queue, ..basic::Publish::default() };
        publisher.put_publish(1, &publish, &BasicProperties::default(), &vec![number as u8; 100_000]);
        publisher.flush();
    }
    // All of it is in the broker before anything is read here: much more than sockets hold.
    let mut confirmed = 0;
    while confirmed < 200 {
        let ack = publisher.expect("basic.ack");
        let Method::BasicAck(ack) = ack.method() else { unreachable!() };
        confirmed = if ack.multiple { ack.delivery_tag } else { confirmed + 1 };
    }
    for number in 0..200_u32 {
        assert!(client.expect("basic.deliver").body == vec![number as u8; 100_000], "body {number}");
    }
}

#[test]
fn keys_are_changed_and_heartbeats_go_over_tls() {
    let secure = Secure::shared();
    let mut client = secure.connect(&BOTH, None);
    client.login(1);
    client.open(1);
    let queue = client.own_queue();
    client.consume(1, &queue, "c", true);
    for number in 0..5_u8 {
        client.tls.as_mut().unwrap().refresh_traffic_keys().unwrap();
        client.publish(1, &queue, &[number]);
        assert_eq!(client.expect("basic.deliver").body, [number]);
    }
    // Heartbeats keep coming while nothing else is sent; without ours the broker hangs up.
    let began = Instant::now();
    assert!(client.next().is_none());
    assert!(began.elapsed() >= Duration::from_secs(1));
    let mut client = secure.connect(&BOTH, None);
    client.login(0);
    let secret = connection::UpdateSecret { new_secret: b"new", reason: "it ran out" };
    client.call(0, &secret, "connection.update-secret-ok");
}

#[test]
fn the_end_of_a_session_is_the_end_of_the_connection() {
    let secure = Secure::shared();
    let mut client = secure.connect(&BOTH, None);
    client.login(0);
    client.open(1);
    let queue = client.own_queue();
    client.tls.as_mut().unwrap().send_close_notify();
    client.flush();
    // Our side of the TCP connection stays open: the broker hangs up all the same, and says so.
    assert!(client.next().is_none());
    let mut other = secure.broker.client();
    let passive = queue::Declare { queue: &queue, passive: true, ..queue::Declare::default() };
    other.send(1, &passive);
    assert_eq!(other.expect("channel.close").close().0, 404);
}

#[test]
fn clients_of_the_wrong_kind_are_turned_away() {
    let secure = Secure::shared();
    // Plain AMQP on the TLS port: an alert, and the end.
    let mut plain = TcpStream::connect(("127.0.0.1", secure.port())).unwrap();
    plain.write_all(&amqp::PROTOCOL_HEADER).unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert_eq!(answer.first(), Some(&0x15), "{answer:?}");
    // TLS on the plain port: the header that we speak.
    let mut tls = session(&BOTH, None);
    let mut wrong = TcpStream::connect(("127.0.0.1", secure.broker.port)).unwrap();
    tls.write_tls(&mut wrong).unwrap();
    let mut answer = [0; 8];
    wrong.read_exact(&mut answer).unwrap();
    assert_eq!(answer, amqp::PROTOCOL_HEADER);
    // Nothing at all.
    let mut silent = TcpStream::connect(("127.0.0.1", secure.port())).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let began = Instant::now();
    match silent.read(&mut [0; 10]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
    assert!(began.elapsed() > Duration::from_secs(8) && began.elapsed() < Duration::from_secs(15));
}

#[test]
fn certificates_are_read_again_without_dropping_connections() {
    let secure = Secure::start("", "");
    let served = |client: &Client| client.tls.as_ref().unwrap().peer_certificates().unwrap()[0].to_vec();
    let hang_up = || {
        let pid = secure.broker.pid().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    };
    let mut before = secure.connect(&BOTH, None);
    before.login(0);
    let old = served(&before);
    let fresh = |differs: &dyn Fn(&[u8]) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut after = secure.connect(&BOTH, None);
            after.login(0);
            if differs(&served(&after)) {
                return served(&after);
            }
            assert!(Instant::now() < deadline, "the certificate does not change");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    write_server_certificate(secure.folder.path());
    hang_up();
    let new = fresh(&|served| served != old);
    before.open(1);
    round_trip(&mut before, b"still here");
    // A broken file changes nothing, and the next good one is taken.
    std::fs::write(secure.folder.path().join("key"), "no key").unwrap();
    hang_up();
    assert_eq!(fresh(&|_| true), new);
    write_server_certificate(secure.folder.path());
    hang_up();
    fresh(&|served| served != new);
}

#[test]
fn listeners_and_the_end_of_their_certificates_are_shown() {
    let secure = Secure::shared();
    let overview = secure.get("overview");
    let mut listeners = overview["listeners"].as_array().unwrap().iter();
    let shown = listeners.find(|shown| shown["protocol"] == "amqp/ssl").unwrap();
    assert_eq!(shown["port"], secure.port());
    assert_eq!(shown["socket_opts"]["verify"], "verify_peer");
    let nodes = secure.get("nodes");
    let external = &nodes[0]["auth_mechanisms"][0];
    assert_eq!((&external["name"], &external["enabled"]), (&"EXTERNAL".into(), &true.into()));
    let check = |within: &str| secure.get(&format!("health/checks/certificate-expiration/{within}"));
    assert_eq!(check("1/weeks"), serde_json::json!({"status": "ok"}));
    let failed = check("3000/years");
    assert_eq!((&failed["status"], &failed["reason"]), (&"failed".into(), &"Certificates expiring".into()));
    assert_eq!(failed["expired"][0]["certfile_expires_on"][0], "4096-01-01 0:00:00");
}

#[test]
fn a_proxy_says_who_its_client_is() {
    let secure = Secure::start("proxy_protocol = true", "");
    let header = b"PROXY TCP4 127.0.0.9 127.0.0.10 4000 5672\r\n";
    let name = "127.0.0.9:4000 -> 127.0.0.10:5672";
    let mut plain = Client::connect(secure.broker.port);
    plain.put_raw(header);
    plain.login(0);
    assert_eq!(secure.connections()[0]["name"], name);
    plain.call(0, &connection::Close::default(), "connection.close-ok");
    drop(plain);
    let mut stream = TcpStream::connect(("127.0.0.1", secure.port())).unwrap();
    stream.write_all(header).unwrap();
    let mut tls = Client::over(stream, Some(session(&BOTH, None)));
    tls.login(0);
    let shown = secure.connections();
    assert!(shown.iter().any(|shown| shown["name"] == name && shown["ssl"] == true), "{shown:?}");

    // guest may connect from this host only: what counts is where the client is.
    let mut remote = Client::connect(secure.broker.port);
    remote.put_raw(b"PROXY TCP4 192.0.2.1 127.0.0.10 4000 5672\r\n");
    remote.login_with("PLAIN", b"\0guest\0guest", 0);
    remote.expect("connection.start");
    assert_eq!(remote.expect("connection.close").close().0, 403);
    // The proxy itself, such as a health check.
    let mut local = Client::connect(secure.broker.port);
    local.put_raw(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    local.login(0);
    for wrong in [&b"AMQP\0\0\x09\x01"[..], b"PROXY TCP4 nowhere\r\n"] {
        let mut wrong_client = Client::connect(secure.broker.port);
        wrong_client.put_raw(wrong);
        wrong_client.flush();
        assert!(wrong_client.next().is_none());
    }
}
