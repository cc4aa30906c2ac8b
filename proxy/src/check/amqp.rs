//! The AMQP check: send the protocol header, read Connection.Start (AMQP 0-9-1 section 2.2.4).

use std::io;
use std::net::SocketAddr;

use amqp::{Frame, FrameKind, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server's Connection.Start is a few hundred bytes; more than this is something else.
const MOST_BYTES: usize = 16 * 1024;

/// What went wrong.
pub(super) enum Failure {
    /// No connection.
    Connect(io::Error),
    /// An answer that is not AMQP 0-9-1.
    Answer(String),
}

/// Connects and shakes hands. Returns what the server says it is, e.g. `RabbitMQ 3.10.8 (prod)`.
/// `connected` is set once the TCP connection stands, so that a timeout can be told apart.
pub(super) async fn check(address: SocketAddr, connected: &mut bool) -> Result<String, Failure> {
    let mut stream = super::tcp::connect(address).await.map_err(Failure::Connect)?;
    *connected = true;
    let failed = |error: io::Error| Failure::Answer(super::describe(&error));
    stream.write_all(&amqp::PROTOCOL_HEADER).await.map_err(failed)?;
    let mut answer = Vec::with_capacity(1024);
    loop {
        if let Some(result) = read_start(&answer) {
            return result.map_err(Failure::Answer);
        }
        if stream.read_buf(&mut answer).await.map_err(failed)? == 0 {
            return Err(Failure::Answer("connection closed before Connection.Start".to_owned()));
        }
        if answer.len() > MOST_BYTES {
            return Err(Failure::Answer("not AMQP: too long an answer".to_owned()));
        }
    }
}

/// `None`: more bytes are needed.
fn read_start(answer: &[u8]) -> Option<Result<String, String>> {
    if answer.len() >= 4 && &answer[..4] == b"AMQP" {
        let version = answer.get(4..8)?;
        return Some(Err(format!("speaks another AMQP: {version:?}")));
    }
    let limit = u32::try_from(MOST_BYTES).unwrap_or(u32::MAX);
    match amqp::frame::parse(answer, limit) {
        Ok(None) => None,
        Ok(Some((Frame { kind: FrameKind::Method, payload, .. }, _))) => match Method::decode(payload) {
            Ok(Method::ConnectionStart(start)) => {
                let text = |name| match start.server_properties.get(name) {
                    Some(amqp::Value::LongStr(bytes)) => printable(bytes),
                    _ => String::new(),
                };
                let (product, version, cluster) = (text("product"), text("version"), text("cluster_name"));
                let cluster = if cluster.is_empty() { cluster } else { format!(" ({cluster})") };
                Some(Ok(format!("{product} {version}{cluster}").trim().to_owned()))
            }
            Ok(_) => Some(Err("not AMQP: another method than Connection.Start".to_owned())),
            Err(error) => Some(Err(format!("not AMQP: {error}"))),
        },
        Ok(Some(_)) => Some(Err("not AMQP: another frame than Connection.Start".to_owned())),
        Err(error) => Some(Err(format!("not AMQP: {error}"))),
    }
}

/// A server's own text, bounded and without control characters.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_not_amqp_are_named() {
        let says = |bytes: &[u8]| read_start(bytes).map(|result| result.unwrap_err());
        assert!(says(b"AMQP\x00\x00\x09").is_none());
        assert!(says(b"AMQP\x00\x01\x00\x00").unwrap().contains("another AMQP"));
        assert!(says(b"HTTP/1.1 400 Bad Request\r\n").unwrap().contains("not AMQP"));
        assert!(says(b"").is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = read_start(&bytes);
        }
    }
}
