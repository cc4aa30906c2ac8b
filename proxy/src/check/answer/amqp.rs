//! AMQP 0-9-1: a broker answers the protocol header with Connection.Start (section 2.2.4).

use amqp::{Frame, FrameKind, Method};

use super::printable;

/// A server's Connection.Start is a few hundred bytes; more than this is something else.
const MOST_BYTES: usize = 16 * 1024;

/// Reads the answer; `None` while more bytes are needed. Ok is what the server says it is, e.g.
/// `RabbitMQ 3.10.8 (rabbit@a)`.
#[must_use]
pub fn connection_start(answer: &[u8], closed: bool) -> Option<Result<String, String>> {
    if answer.len() > MOST_BYTES {
        return Some(Err("not AMQP: too long an answer".to_owned()));
    }
    read(answer).or_else(|| closed.then(|| Err("connection closed before Connection.Start".to_owned())))
}

fn read(answer: &[u8]) -> Option<Result<String, String>> {
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
                    Some(amqp::Value::LongStr(bytes)) => printable(bytes).chars().take(60).collect(),
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
