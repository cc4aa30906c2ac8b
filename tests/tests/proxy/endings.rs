//! How connections end: what both ends see, and the termination state in the log, beside a real HAProxy.
//!
//! Every scene is played once with each balancer, on loopback, with the same configuration but for its ports.

use super::duo::{Duo, Scene, Stage};
use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

/// Plays scenes with both balancers and compares what was seen and logged.
fn compare(name: &str, scenes: &[Scene]) {
    let Some(duo) = Duo::ready(name) else { return };
    duo.compare(scenes);
}

const fn scene(name: &'static str, settings: &'static str, play: fn(&mut Stage)) -> Scene {
    Scene { name, settings, bind: "", server: "", play }
}

#[test]
fn sides_that_finish_or_break_off_end_as_in_haproxy() {
    compare(
        "proxy-endings",
        &[
            scene("client finishes", "", |stage| {
                let (mut client, mut server) = stage.talk();
                client.shutdown(Shutdown::Write).unwrap();
                stage.see("server", &mut server);
                server.write_all(&[1; 100]).unwrap();
                drop(server);
                stage.see("client", &mut client);
                stage.see("client", &mut client);
            }),
            scene("client closes", "", |stage| {
                let (client, mut server) = stage.talk();
                drop(client);
                stage.see("server", &mut server);
            }),
            scene("server finishes", "", |stage| {
                let (mut client, mut server) = stage.talk();
                server.shutdown(Shutdown::Write).unwrap();
                stage.see("client", &mut client);
                drop(client);
                stage.see("server", &mut server);
            }),
            scene("server closes", "", |stage| {
                let (mut client, server) = stage.talk();
                drop(server);
                stage.see("client", &mut client);
            }),
            scene("client breaks off", "", |stage| {
                let (client, mut server) = stage.talk();
                Stage::reset(client);
                stage.see("server", &mut server);
            }),
            scene("server breaks off", "", |stage| {
                let (client, server) = stage.talk();
                Stage::reset(server);
                stage.gone("client", client);
            }),
        ],
    );
}

#[test]
fn silence_ends_a_connection_as_in_haproxy() {
    compare(
        "proxy-silence",
        &[
            scene("both silent", "timeout client 300ms\n timeout server 300ms", |stage| {
                let (mut client, mut server) = stage.talk();
                stage.see("client", &mut client);
                stage.see("server", &mut server);
            }),
            scene("client silent, server goes on", "timeout client 300ms\n timeout server 10s", |stage| {
                let (mut client, mut server) = stage.talk();
                stage.see("server", &mut server);
                server.write_all(b"last words").unwrap();
                stage.see("client", &mut client);
                drop(server);
                stage.see("client", &mut client);
            }),
            scene("server silent", "timeout client 10s\n timeout server 300ms", |stage| {
                let (mut client, mut server) = stage.talk();
                stage.see("client", &mut client);
                drop(client);
                stage.see("server", &mut server);
            }),
            scene("tunnel", "timeout client 9s\n timeout server 9s\n timeout tunnel 300ms", |stage| {
                let (mut client, mut server) = stage.talk();
                stage.see("client", &mut client);
                stage.see("server", &mut server);
            }),
            scene("server after the client's end", "timeout client 100ms\n timeout server 500ms", |stage| {
                let (mut client, mut server) = stage.talk();
                client.shutdown(Shutdown::Write).unwrap();
                stage.see("server", &mut server);
                stage.see("client", &mut client);
            }),
            scene("server-fin", "timeout server 9s\n timeout server-fin 300ms", |stage| {
                let (mut client, mut server) = stage.talk();
                client.shutdown(Shutdown::Write).unwrap();
                stage.see("server", &mut server);
                stage.see("client", &mut client);
            }),
            scene("client-fin", "timeout client 9s\n timeout client-fin 300ms", |stage| {
                let (mut client, mut server) = stage.talk();
                server.shutdown(Shutdown::Write).unwrap();
                stage.see("client", &mut client);
                stage.see("server", &mut server);
            }),
            scene("client does not read", "timeout client 400ms\n timeout server 9s", |stage| {
                let (client, server) = stage.talk();
                stage.flood("server", server);
                drop(client);
            }),
            scene("server does not read", "timeout client 9s\n timeout server 400ms", |stage| {
                let (client, server) = stage.talk();
                stage.flood("client", client);
                drop(server);
            }),
        ],
    );
}

#[test]
fn connections_that_are_never_made_end_as_in_haproxy() {
    let full = Scene { server: "maxconn 1", ..scene("", "", |_| {}) };
    compare(
        "proxy-never-made",
        &[
            scene("refused", "retries 0", |stage| {
                stage.refuse();
                let mut client = stage.connect();
                stage.see("client", &mut client);
            }),
            scene("refused again and again", "retries 2\n timeout connect 100ms", |stage| {
                stage.refuse();
                let mut client = stage.connect();
                stage.see("client", &mut client);
            }),
            scene("no answer", "retries 0\n timeout connect 300ms", |stage| {
                stage.ignore();
                let mut client = stage.connect();
                stage.see("client", &mut client);
            }),
            scene("client closes while connecting", "retries 0\n timeout connect 3s", |stage| {
                stage.ignore();
                let client = stage.connect();
                std::thread::sleep(Duration::from_millis(100));
                drop(client);
            }),
            scene("client asks and closes while connecting", "retries 0\n timeout connect 400ms", |stage| {
                stage.ignore();
                let mut client = stage.connect();
                client.write_all(b"question").unwrap();
                drop(client);
            }),
            scene(
                "client asks and closes early, which is watched",
                "retries 0\n timeout connect 3s\n option abortonclose",
                |stage| {
                    stage.ignore();
                    let mut client = stage.connect();
                    client.write_all(b"question").unwrap();
                    std::thread::sleep(Duration::from_millis(100));
                    drop(client);
                },
            ),
            scene("client breaks off while connecting", "retries 0\n timeout connect 3s", |stage| {
                stage.ignore();
                let client = stage.connect();
                std::thread::sleep(Duration::from_millis(100));
                Stage::reset(client);
            }),
            Scene {
                name: "no place in time",
                settings: "timeout queue 300ms",
                play: |stage| {
                    let _first = stage.talk();
                    let mut second = stage.connect();
                    stage.see("second", &mut second);
                    stage.line();
                },
                ..full
            },
            Scene {
                name: "client closes while it waits",
                settings: "timeout queue 3s",
                play: |stage| {
                    let _first = stage.talk();
                    let second = stage.connect();
                    std::thread::sleep(Duration::from_millis(100));
                    drop(second);
                    stage.line();
                },
                ..full
            },
        ],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of scenes")]
fn proxy_headers_are_taken_and_refused_as_in_haproxy() {
    let asks = Scene { bind: "accept-proxy", ..scene("", "timeout client 400ms", |_| {}) };
    compare(
        "proxy-headers",
        &[
            Scene {
                name: "a header of version 1",
                play: |stage| {
                    let mut client = stage.connect();
                    client.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 5672\r\nhello").unwrap();
                    let mut server = stage.accept();
                    stage.see("server", &mut server);
                },
                ..asks
            },
            Scene {
                name: "a header in two parts",
                play: |stage| {
                    let mut client = stage.connect();
                    client.write_all(b"PROXY TCP4 192.0.2.7 192.").unwrap();
                    std::thread::sleep(Duration::from_millis(50));
                    // Neither waits for the second: it meets a connection that is gone.
                    stage.see("client", &mut client);
                },
                ..asks
            },
            Scene {
                name: "a header of version 2",
                play: |stage| {
                    let mut client = stage.connect();
                    // In one piece: who gets only a part of a header refuses it.
                    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
                    header.extend([192, 0, 2, 7, 192, 0, 2, 8, 0x12, 0x67, 0x16, 0x28, b'h', b'i']);
                    client.write_all(&header).unwrap();
                    let mut server = stage.accept();
                    stage.see("server", &mut server);
                },
                ..asks
            },
            Scene {
                name: "no header",
                play: |stage| {
                    let mut client = stage.connect();
                    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
                    stage.see("client", &mut client);
                },
                ..asks
            },
            Scene {
                name: "what is too short to tell",
                play: |stage| {
                    let mut client = stage.connect();
                    client.write_all(b"AMQP\0\0\x09\x01").unwrap();
                    stage.see("client", &mut client);
                },
                ..asks
            },
            Scene {
                name: "a header that lacks a port",
                play: |stage| {
                    let mut client = stage.connect();
                    client.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 4711\r\n").unwrap();
                    stage.see("client", &mut client);
                },
                ..asks
            },
            Scene {
                name: "a header of another family",
                play: |stage| {
                    let mut client = stage.connect();
                    client.write_all(b"PROXY UDP4 192.0.2.7 192.0.2.8 4711 5672\r\n").unwrap();
                    stage.see("client", &mut client);
                },
                ..asks
            },
            Scene {
                name: "a header of version 2 with another command",
                play: |stage| {
                    let mut client = stage.connect();
                    client.write_all(b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\x0cabcdefghijkl").unwrap();
                    stage.see("client", &mut client);
                },
                ..asks
            },
            Scene {
                name: "silence instead of a header",
                play: |stage| {
                    let mut client = stage.connect();
                    stage.see("client", &mut client);
                },
                ..asks
            },
            Scene {
                name: "half a header",
                play: |stage| {
                    let mut client = stage.connect();
                    client.write_all(b"PROXY TCP4 192.0.2.7 19").unwrap();
                },
                ..asks
            },
            Scene { name: "nothing", play: |stage| drop(stage.connect()), ..asks },
        ],
    );
}

#[test]
fn a_client_that_rules_keep_out_sees_what_haproxy_shows() {
    compare(
        "proxy-kept-out",
        &[scene("by its content", "tcp-request content reject", |stage| {
            let mut client = stage.connect();
            stage.see("client", &mut client);
        })],
    );
}

/// Notes who the server takes its client for.
fn note_source(stage: &mut Stage, client: &mut std::net::TcpStream) {
    use std::io::Read;
    client.write_all(b"hi").unwrap();
    let mut server = stage.accept();
    server.read_exact(&mut [0; 2]).unwrap();
    let from = server.peer_addr().unwrap();
    let within = (20_000..=20_010).contains(&from.port());
    stage.note(format!("from {}, port of the range: {within}", from.ip()));
}

#[test]
fn servers_see_the_source_address_they_are_to_see() {
    let plain: fn(&mut Stage) = |stage| {
        let mut client = stage.connect();
        note_source(stage, &mut client);
    };
    let header: fn(&mut Stage) = |stage| {
        let mut client = stage.connect();
        client.write_all(b"PROXY TCP4 127.0.0.5 127.0.0.1 19003 80\r\n").unwrap();
        note_source(stage, &mut client);
    };
    let told = |name, settings| Scene { bind: "accept-proxy", ..scene(name, settings, header) };
    compare(
        "proxy-sources",
        &[
            scene("of the section", "source 127.0.0.7", plain),
            Scene { server: "source 127.0.0.8", ..scene("of the server", "source 127.0.0.7", plain) },
            Scene { server: "source 127.0.0.7:19000-19010", ..scene("with a range of ports", "", plain) },
            told("the client's address", "source 0.0.0.0 usesrc clientip"),
            told("the client's address and port", "source 0.0.0.0 usesrc client"),
            scene("another address", "source 127.0.0.7 usesrc 127.0.0.9", plain),
        ],
    );
}
