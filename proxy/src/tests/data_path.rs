//! TLS, PROXY headers, unix sockets, and sessions seen and closed from outside.

use super::*;
use crate::registry::{Cause, Which};
use tokio::net::{UnixListener, UnixStream};

/// A certificate that signed itself and its key, for a name, in one file.
pub(super) fn certificate(folder: &std::path::Path, name: &str) -> std::path::PathBuf {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let path = folder.join(format!("{name}.pem"));
    std::fs::write(&path, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
    path
}

#[tokio::test]
async fn tls_towards_clients_and_servers_carries_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (certificate(folder.path(), "a.example"), certificate(folder.path(), "b.example"));
    let server = named("S").await;
    let inner = start(&format!(
        "{DEFAULTS} bind 127.0.0.1:2 ssl crt {}\n server s {server}\n",
        folder.path().display()
    ));
    // Which certificate is shown depends on the name: each trusts only its own.
    for (file, name) in [(&a, "a.example"), (&b, "b.example")] {
        let outer = start(&format!(
            "{DEFAULTS} server s {} ssl verify required ca-file {} sni str({name})\n",
            inner.addresses[1],
            file.display()
        ));
        let mut stream = outer.connect().await;
        assert_eq!(name_of(&mut stream).await, "S");
        let data: Vec<u8> = (0..3_000_000_u32).map(|it| (it * 7 + it / 999) as u8).collect();
        let (mut read, mut write) = stream.into_split();
        let sent = data.clone();
        let writer = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        timeout(Duration::from_secs(60), read.read_to_end(&mut got)).await.unwrap().unwrap();
        assert!(got == data);
        writer.await.unwrap();
        outer.stop().await;
    }
    for wrong in [
        format!("ca-file {} sni str(a.example)", b.display()),
        format!("ca-file {} verifyhost c.example", a.display()),
    ] {
        let outer = start(&format!(
            "{DEFAULTS} retries 0\n server s {} ssl verify required {wrong}\n",
            inner.addresses[1]
        ));
        let mut stream = outer.connect().await;
        assert_eq!(name_of(&mut stream).await, "Ok(0)");
        assert_eq!(outer.column("s", "econ"), 1, "{wrong}");
        outer.stop().await;
    }
    inner.stop().await;
}

#[tokio::test]
async fn the_client_is_known_behind_two_proxies() {
    let (server, address) = listener().await;
    for version in ["send-proxy", "send-proxy-v2"] {
        let inner =
            start(&format!("{DEFAULTS} bind 127.0.0.1:2 accept-proxy\n server s {address} send-proxy\n"));
        let outer = start(&format!("{DEFAULTS} server s {} {version}\n", inner.addresses[1]));
        let mut client = outer.connect().await;
        client.write_all(b"data").await.unwrap();
        let (mut behind, _) = within(server.accept()).await.unwrap();
        let (port, target) = (client.local_addr().unwrap().port(), outer.addresses[0].port());
        let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {target}\r\ndata");
        let mut got = vec![0; expected.len()];
        within(behind.read_exact(&mut got)).await.unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), expected, "{version}");
        outer.stop().await;
        inner.stop().await;
    }
}

#[tokio::test]
async fn unix_sockets_serve_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, outside) = (folder.path().join("in.sock"), folder.path().join("out.sock"));
    let server = UnixListener::bind(&outside).unwrap();
    let proxy = start(&format!(
        "{DEFAULTS} bind unix@{} mode 600\n server s unix@{}\n",
        inside.display(),
        outside.display()
    ));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&inside).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let mut client = within(UnixStream::connect(&inside)).await.unwrap();
    client.write_all(b"question").await.unwrap();
    let (mut behind, _) = within(server.accept()).await.unwrap();
    let mut question = [0; 8];
    within(behind.read_exact(&mut question)).await.unwrap();
    behind.write_all(b"answer").await.unwrap();
    drop(behind);
    let mut answer = String::new();
    within(client.read_to_string(&mut answer)).await.unwrap();
    assert_eq!((&question, answer.as_str()), (b"question", "answer"));
    proxy.stop().await;
}

#[tokio::test]
async fn sessions_are_seen_and_closed_from_outside() {
    let (a, b) = (named("A").await, named("B").await);
    let log = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let proxy = start(&format!(
        "{DEFAULTS} log {} format raw local0\n option tcplog\n server a {a}\n server b {b}\n",
        log.local_addr().unwrap()
    ));
    let mut clients = Vec::new();
    for expected in ["A", "B", "A", "B", "A", "B"] {
        let mut client = proxy.connect().await;
        assert_eq!(name_of(&mut client).await, expected);
        clients.push(client);
    }
    let workers = proxy.process.workers();
    let sessions = workers.sessions().await;
    assert_eq!(sessions.len(), 6);
    for (session, client) in sessions.iter().zip(&clients) {
        assert_eq!(session.client, Some(client.local_addr().unwrap()));
        assert_eq!(session.bytes_out, 1);
    }
    // One by its number.
    assert_eq!(workers.close(&Which::Id(sessions[2].id), 9, Cause::Operator).await, 1);
    assert_eq!(name_of(&mut clients[2]).await, "Ok(0)");
    let mut line = [0; 300];
    let length = within(log.recv(&mut line)).await.unwrap();
    assert!(String::from_utf8_lossy(&line[..length]).contains(" l/a "), "the session's own line");
    assert!(String::from_utf8_lossy(&line[..length]).contains(" K- "));
    // Two of a server. Each worker closes its oldest first.
    let server = sessions[1].server.clone().unwrap();
    let which = Which::Server(server.clone());
    assert_eq!(workers.close(&which, 2, Cause::ServerDown).await, 2);
    proxy.until("b", "scur", 1).await;
    let left = workers.sessions().await;
    let on_server = |session: &&crate::registry::SessionInfo| {
        session.server.as_ref().is_some_and(|it| Arc::ptr_eq(it, &server))
    };
    assert_eq!((left.len(), left.iter().filter(on_server).count()), (3, 1));
    // All that are left.
    workers.close_all(&Which::All, Cause::Operator);
    for index in [0, 1, 3, 4, 5] {
        assert_eq!(name_of(&mut clients[index]).await, "Ok(0)", "{index}");
    }
    proxy.until("FRONTEND", "scur", 0).await;
    assert!(workers.sessions().await.is_empty());
    proxy.stop().await;
}

#[tokio::test]
async fn few_long_connections_spread_evenly_over_the_workers() {
    let server = named("A").await;
    let proxy = start(&format!("global\n nbthread 2\n{DEFAULTS} server a {server}\n"));
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = proxy.connect().await;
        assert_eq!(name_of(&mut client).await, "A");
        clients.push(client);
    }
    let sessions = proxy.process.workers().sessions().await;
    let first = sessions.iter().filter(|session| session.worker == 0).count();
    assert_eq!((sessions.len(), first), (6, 3));
    proxy.stop().await;
}

#[tokio::test]
async fn an_address_may_have_a_limit_of_its_own() {
    let server = named("A").await;
    let proxy = start(&format!("{DEFAULTS} bind 127.0.0.1:2 maxconn 1\n server a {server}\n"));
    let limited = proxy.addresses[1];
    let mut first = within(TcpStream::connect(limited)).await.unwrap();
    assert_eq!(name_of(&mut first).await, "A");
    let mut second = within(TcpStream::connect(limited)).await.unwrap();
    // Others are not held back by it.
    assert_eq!(name_of(&mut proxy.connect().await).await, "A");
    let mut byte = [0; 1];
    assert!(timeout(Duration::from_millis(50), second.read(&mut byte)).await.is_err());
    drop(first);
    assert_eq!(name_of(&mut second).await, "A");
    proxy.stop().await;
}
