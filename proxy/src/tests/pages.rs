//! The statistics page over all kinds of connections.

use super::*;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// Asks for the page, after some first bytes, and gives the whole answer.
async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, before: &str) -> String {
    let request = format!("{before}GET /m HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    within(stream.write_all(request.as_bytes())).await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_page_is_served_over_tls_behind_a_proxy_header_and_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let crt = data_path::certificate(folder.path(), "a.example");
    let socket = folder.path().join("page.sock");
    let page = start(&format!(
        "listen p\n mode http\n bind 127.0.0.1:1 ssl crt {}\n bind 127.0.0.1:2 accept-proxy\n bind unix@{}\n \
         stats enable\n stats uri /m\n stats admin if LOCALHOST\n",
        crt.display(),
        socket.display()
    ));
    let outer = start(&format!("{DEFAULTS} server s {} ssl verify none\n", page.addresses[0]));
    let answer = get(outer.connect().await, "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Over TLS from this host: an admin.
    let is_admin = |answer: &str| {
        answer.contains("method=\"post\"") || answer.contains("Set-Cookie") || answer.contains("set-cookie")
    };
    assert!(is_admin(&answer), "{answer}");
    let stream = within(TcpStream::connect(page.addresses[1])).await.unwrap();
    let answer = get(stream, "PROXY TCP4 10.1.2.3 10.0.0.1 5 6\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && !is_admin(&answer), "{answer}");
    let answer = get(UnixStream::connect(&socket).await.unwrap(), "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && !is_admin(&answer), "{answer}");
    // No header where one must be.
    let mut stream = within(TcpStream::connect(page.addresses[1])).await.unwrap();
    stream.write_all(b"GET /m HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(!matches!(within(stream.read(&mut [0; 1])).await, Ok(1)));
    page.until("FRONTEND", "scur", 0).await;
    assert_eq!((page.column("FRONTEND", "stot"), page.column("FRONTEND", "hrsp_2xx")), (4, 3));
    outer.stop().await;
    page.stop().await;
}

#[tokio::test]
async fn clients_of_the_page_have_places_and_bytes_as_all_others() {
    let page = start("listen p\n mode http\n bind 127.0.0.1:1\n maxconn 2\n stats enable\n stats uri /m\n");
    let mut stream = page.connect().await;
    let request = b"GET /m;csv HTTP/1.1\r\nHost: h\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut first = [0; 4096];
    let length = within(stream.read(&mut first)).await.unwrap();
    assert!(length > 0);
    // It stays open between two requests.
    assert_eq!((page.process.places.used(), page.column("FRONTEND", "scur")), (1, 1));
    assert_eq!(page.column("FRONTEND", "bin"), request.len() as u64);
    // What was sent is counted when it has been sent.
    within(async {
        while page.column("FRONTEND", "bout") < length as u64 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let second = page.connect().await;
    page.until("FRONTEND", "scur", 2).await;
    // The third waits, as with HAProxy, until another has left.
    let third = page.connect().await;
    drop(second);
    assert!(get(third, "").await.starts_with("HTTP/1.1 200"));
    page.until("FRONTEND", "scur", 1).await;
    // An operator can close them.
    let sessions = page.process.workers().sessions().await;
    assert_eq!(sessions.len(), 1);
    let which = crate::registry::Which::Id(sessions[0].id);
    page.process.workers().close(&which, 1, crate::registry::Cause::Operator).await;
    page.until("FRONTEND", "scur", 0).await;
    assert_eq!(page.process.places.used(), 0);
    page.stop().await;
}
