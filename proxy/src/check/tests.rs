//! Tests of checks against real sockets on loopback.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

#[test]
fn first_checks_are_spread_over_the_shortest_interval() {
    let second = Duration::from_secs;
    assert_eq!(jobs::first_delays(&[second(5), second(5)], None), [second(0), Duration::from_millis(2500)]);
    // A server with a longer interval is placed within its own.
    assert_eq!(
        jobs::first_delays(&[second(2), second(2), second(10), second(2)], None),
        [second(0), Duration::from_millis(500), second(5), Duration::from_millis(1500)]
    );
    // Short intervals start within themselves, or together when all are short.
    let short = Duration::from_millis(100);
    assert_eq!(jobs::first_delays(&[short, short], None), [second(0), Duration::from_millis(50)]);
    assert_eq!(
        jobs::first_delays(&[second(5), second(5)], Some(second(1))),
        [second(0), Duration::from_millis(500)]
    );
}

#[tokio::test]
async fn a_tcp_check_never_reaches_accept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let report = probe(address, CheckKind::Tcp, Duration::from_secs(5)).await;
    assert_eq!((report.status, report.info.as_str()), (CheckStatus::L4Ok, ""));
    // A real connection comes first out of the accept queue: the check left nothing there.
    let real = tokio::net::TcpStream::connect(address).await.unwrap();
    let (_stream, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, real.local_addr().unwrap());
}

#[tokio::test]
async fn a_closed_port_is_a_connection_problem() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let report = probe(address, CheckKind::Tcp, Duration::from_secs(5)).await;
    assert_eq!((report.status, report.info.as_str()), (CheckStatus::L4Con, "Connection refused"));
    assert!(
        report
            .reason()
            .starts_with("reason: Layer4 connection problem, info: \"Connection refused\", check duration: ")
    );
}

#[tokio::test]
async fn an_amqp_check_tells_a_broker_from_something_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        // Something that is not a broker, then something that hangs up, then silence.
        for answer in [Some(&b"220 mail.example ESMTP\r\n"[..]), Some(b""), None] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut header = [0; 8];
            stream.read_exact(&mut header).await.unwrap();
            assert_eq!(header, ::amqp::PROTOCOL_HEADER);
            match answer {
                Some(bytes) => stream.write_all(bytes).await.unwrap(),
                None => {
                    let _ = stream.read_exact(&mut header).await;
                }
            }
        }
    });
    let limit = Duration::from_millis(300);
    let statuses = [
        probe(address, CheckKind::Amqp, limit).await.status,
        probe(address, CheckKind::Amqp, limit).await.status,
        probe(address, CheckKind::Amqp, limit).await.status,
    ];
    assert_eq!(statuses, [CheckStatus::L7Response, CheckStatus::L7Response, CheckStatus::L7Timeout]);
    server.await.unwrap();
}
