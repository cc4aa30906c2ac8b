//! Rules that look at what clients send, servers that rules choose, limits of rates.

use super::*;
use crate::content;

/// A first packet of TLS that asks for this name.
fn hello(name: &str) -> Vec<u8> {
    content::tests::hello(name)
}

/// Sends something and says which server answered.
async fn who(proxy: &Proxy, first: &[u8]) -> String {
    let mut stream = proxy.connect().await;
    stream.write_all(first).await.unwrap();
    name_of(&mut stream).await
}

#[tokio::test]
async fn the_name_in_a_hello_that_passes_through_chooses_the_backend() {
    let (a, b, c) = (named("A").await, named("B").await, named("C").await);
    let proxy = start(&format!(
        "{DEFAULTS} tcp-request inspect-delay 10s\n tcp-request content accept if {{ req_ssl_hello_type 1 }}\n \
         tcp-request content reject\n use_backend b if {{ req_ssl_sni -i b.example }}\n \
         use_backend c if {{ req.ssl_sni -m end .c.example }}\n default_backend a\n\
         backend a\n mode tcp\n timeout connect 2s\n timeout server 9s\n server a {a}\n\
         backend b\n mode tcp\n timeout connect 2s\n timeout server 9s\n server b {b}\n\
         backend c\n mode tcp\n timeout connect 2s\n timeout server 9s\n server c {c}\n"
    ));
    assert_eq!(who(&proxy, &hello("B.example")).await, "B");
    assert_eq!(who(&proxy, &hello("x.c.example")).await, "C");
    assert_eq!(who(&proxy, &hello("other.example")).await, "A");
    // In two parts, the name in the second one; and all of it reaches the server.
    let bytes = hello("b.example");
    let mut stream = proxy.connect().await;
    stream.write_all(&bytes[..30]).await.unwrap();
    proxy.until("FRONTEND", "scur", 1).await;
    stream.write_all(&bytes[30..]).await.unwrap();
    assert_eq!(name_of(&mut stream).await, "B");
    let mut echo = vec![0; bytes.len()];
    within(stream.read_exact(&mut echo)).await.unwrap();
    assert_eq!(echo, bytes);
    drop(stream);
    // No TLS: turned away as soon as that is clear.
    let mut stream = proxy.connect().await;
    stream.write_all(b"AMQP").await.unwrap();
    assert_ne!(name_of(&mut stream).await, "A");
    proxy.until("FRONTEND", "dreq", 1).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_judged_when_the_delay_is_over() {
    let a = named("A").await;
    let proxy = start(&format!(
        "{DEFAULTS} tcp-request inspect-delay 100ms\n tcp-request content reject if {{ req.len gt 0 }}\n server a {a}\n"
    ));
    // The server speaks first; the client waits for it.
    assert_eq!(name_of(&mut proxy.connect().await).await, "A");
    assert_ne!(who(&proxy, b"x").await, "A");
    proxy.stop().await;
    let proxy =
        start(&format!("{DEFAULTS} tcp-request content reject if {{ req.len gt 0 }}\n server a {a}\n"));
    // Without a delay nobody waits for anything.
    assert_eq!(name_of(&mut proxy.connect().await).await, "A");
    proxy.stop().await;
}

#[tokio::test]
async fn a_rule_sends_a_client_to_its_server() {
    let (a, b, dead) = (named("A").await, named("B").await, nobody().await);
    let proxy = start(&format!(
        "{DEFAULTS} tcp-request inspect-delay 10s\n tcp-request content accept if {{ req.len gt 0 }}\n \
         option redispatch 1\n retries 2\n use-server gone if {{ req.ssl_sni gone.example }}\n \
         use-server b if {{ req.ssl_sni b.example }}\n server a {a}\n server b {b} weight 0\n server gone {dead} weight 0\n"
    ));
    for _ in 0..3 {
        // Balancing would never choose it.
        assert_eq!(who(&proxy, &hello("b.example")).await, "B");
        assert_eq!(who(&proxy, &hello("a.example")).await, "A");
    }
    // A redispatch is due: then any other will do.
    assert_eq!(who(&proxy, &hello("gone.example")).await, "A");
    assert_eq!(proxy.column("gone", "wredis"), 1);
    // In maintenance it is passed over, draining it is not.
    let backend = proxy.process.backend("l").unwrap();
    let server = backend.server("b").unwrap();
    crate::check::carry_out(&backend, &server, crate::server::Order::Drain);
    assert_eq!(who(&proxy, &hello("b.example")).await, "B");
    crate::check::carry_out(&backend, &server, crate::server::Order::Maintenance);
    assert_eq!(who(&proxy, &hello("b.example")).await, "A");
    proxy.stop().await;
}

#[tokio::test]
async fn a_rule_s_server_that_is_full_makes_its_clients_wait_for_it() {
    let (a, b) = (named("A").await, named("B").await);
    let proxy = start(&format!(
        "{DEFAULTS} timeout queue 10s\n use-server b if TRUE\n server a {a}\n server b {b} maxconn 1\n"
    ));
    let mut first = proxy.connect().await;
    assert_eq!(name_of(&mut first).await, "B");
    let mut second = proxy.connect().await;
    proxy.until("b", "qcur", 1).await;
    drop(first);
    assert_eq!(name_of(&mut second).await, "B");
    assert_eq!(proxy.column("a", "stot"), 0);
    proxy.stop().await;
}

#[tokio::test]
async fn a_frontend_takes_no_more_sessions_in_a_second_than_it_may() {
    let a = named("A").await;
    let proxy = start(&format!("{DEFAULTS} rate-limit sessions 5\n server a {a}\n"));
    assert_eq!(proxy.column("FRONTEND", "rate_lim"), 5);
    let begun = std::time::Instant::now();
    let mut all = Vec::new();
    for _ in 0..12 {
        all.push(proxy.connect().await);
    }
    for stream in &mut all {
        assert_eq!(name_of(stream).await, "A");
    }
    // Five at once, the others not before the second is over: nobody is refused.
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    proxy.stop().await;
}

/// Opens twelve connections to an address of a proxy that takes five in a second, and says how long that took.
async fn time_of_twelve(proxy: &Proxy, address: SocketAddr) -> Duration {
    let begun = std::time::Instant::now();
    let mut all = Vec::new();
    for _ in 0..12 {
        all.push(within(TcpStream::connect(address)).await.unwrap());
    }
    for stream in &mut all {
        assert_eq!(name_of(stream).await, "A");
    }
    drop(all);
    proxy.until("FRONTEND", "scur", 0).await;
    begun.elapsed()
}

/// What `show info` says.
fn info(proxy: &Proxy, name: &str) -> u64 {
    let items = crate::stats::info::items(&proxy.process, false);
    crate::stats::info::find(&items, name).unwrap().value.number()
}

#[tokio::test]
async fn a_process_takes_no_more_connections_in_a_second_than_it_may() {
    let a = named("A").await;
    for (word, shown) in [("maxconnrate", "ConnRateLimit"), ("maxsessrate", "SessRateLimit")] {
        // Two sections, which the limit is for together.
        let proxy = start(&format!(
            "global\n {word} 5\n{DEFAULTS} server a {a}\nlisten m\n bind 127.0.0.1:2\n server a {a}\n"
        ));
        assert_eq!(info(&proxy, shown), 5, "{word}");
        // Five at once, the others not before the second is over: nobody is refused.
        let took = time_of_twelve(&proxy, proxy.addresses[0]).await;
        assert!(took >= Duration::from_millis(900), "{word}: {took:?}");
        let mut other = within(TcpStream::connect(proxy.addresses[1])).await.unwrap();
        assert_eq!(name_of(&mut other).await, "A", "{word}");
        proxy.stop().await;
    }
}

#[tokio::test]
async fn handshakes_have_a_limit_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let crt = data_path::certificate(folder.path(), "a.example");
    let a = named("A").await;
    let inner = start(&format!(
        "global\n maxsslrate 5\n{DEFAULTS} bind 127.0.0.1:2 ssl crt {}\n server a {a}\n",
        crt.display()
    ));
    let outer = start(&format!("{DEFAULTS} server s {} ssl verify none\n", inner.addresses[1]));
    assert_eq!(info(&inner, "SslRateLimit"), 5);
    let took = time_of_twelve(&outer, outer.addresses[0]).await;
    assert!(took >= Duration::from_millis(900), "{took:?}");
    // What counts is what speaks TLS: with as many others in the same second none of them waits for it.
    for _ in 0..12 {
        assert_eq!(name_of(&mut inner.connect().await).await, "A");
    }
    outer.stop().await;
    inner.stop().await;
}

#[tokio::test]
async fn structured_data_of_the_log_is_what_its_format_says() {
    let a = named("A").await;
    let log = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let proxy = start(&format!(
        "{DEFAULTS} log {} format rfc5424 local0\n option tcplog\n \
         log-format-sd '[seen@32473 from=\"%ci\" backend=\"%b\" bytes=\"%B\"]'\n server a {a}\n",
        log.local_addr().unwrap()
    ));
    drop(proxy.connect().await);
    let mut line = [0; 1024];
    let length = within(log.recv(&mut line)).await.unwrap();
    let line = String::from_utf8_lossy(&line[..length]);
    // RFC 5424 section 6: header, structured data, message.
    let fields: Vec<&str> = line.splitn(8, ' ').collect();
    assert!(fields[0].ends_with(">1") && fields[6] == "[seen@32473", "{line}");
    let (data, message) = fields[7].split_once("] ").unwrap();
    assert!(data.starts_with("from=\"127.0.0.1\" backend=\"l\" bytes=\""), "{line}");
    assert!(message.contains(" l l/a "), "{line}");
    proxy.stop().await;
}

#[tokio::test]
async fn connections_with_tls_are_limited_apart() {
    let folder = tempfile::tempdir().unwrap();
    let crt = data_path::certificate(folder.path(), "a.example");
    let a = named("A").await;
    let inner = start(&format!(
        "global\n maxsslconn 1\n{DEFAULTS} bind 127.0.0.1:2 ssl crt {}\n server a {a}\n",
        crt.display()
    ));
    let outer = start(&format!("{DEFAULTS} server s {} ssl verify none\n", inner.addresses[1]));
    let mut first = outer.connect().await;
    assert_eq!(name_of(&mut first).await, "A");
    let mut second = outer.connect().await;
    // Another one without TLS comes in.
    assert_eq!(name_of(&mut inner.connect().await).await, "A");
    assert_eq!(inner.process.tls_places.used(), 1);
    drop(first);
    assert_eq!(name_of(&mut second).await, "A");
    outer.stop().await;
    inner.stop().await;
}

#[tokio::test]
async fn every_address_has_a_row_with_counters_of_its_own() {
    let a = named("A").await;
    let proxy =
        start(&format!("{DEFAULTS} bind 127.0.0.1:2 name two id 9\n option socket-stats\n server a {a}\n"));
    let mut stream = within(TcpStream::connect(proxy.addresses[1])).await.unwrap();
    assert_eq!(name_of(&mut stream).await, "A");
    proxy.until("two", "scur", 1).await;
    assert_eq!((proxy.column("two", "sid"), proxy.column("sock-1", "stot")), (9, 0));
    drop(stream);
    proxy.until("two", "scur", 0).await;
    assert_eq!((proxy.column("two", "stot"), proxy.column("two", "bout")), (1, 1));
    proxy.stop().await;
}
