//! `DNS_CHECK`: a question by UDP (RFC 1035 section 4), and an answer without an error.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::{MAX_DATAGRAM, Target};

/// The server answers and does not fail. A name that is not there is no failure of the server.
pub(super) async fn ask(record: u16, name: &str, target: &Target) -> Result<(), String> {
    let socket = target.datagrams().await?;
    let id = RandomState::new().build_hasher().finish() as u16;
    socket.send(&question(id, record, name)).await.map_err(|error| format!("{}: {error}", target.address))?;
    let mut buffer = [0; MAX_DATAGRAM];
    loop {
        let count = socket.recv(&mut buffer).await.map_err(|error| format!("{}: {error}", target.address))?;
        if let Some(answer) = answer(id, &buffer[..count]) {
            return answer.map_err(|reason| format!("{}: {reason}", target.address));
        }
    }
}

/// ```text
/// ID  flags (RD)  QDCOUNT=1  ANCOUNT=0  NSCOUNT=0  ARCOUNT=0   labels  0  QTYPE  QCLASS=IN
/// ```
fn question(id: u16, record: u16, name: &str) -> Vec<u8> {
    let mut packet = Vec::with_capacity(32 + name.len());
    for word in [id, 0x0100, 1, 0, 0, 0] {
        packet.extend_from_slice(&word.to_be_bytes());
    }
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let bytes = &label.as_bytes()[..label.len().min(63)];
        packet.push(bytes.len() as u8);
        packet.extend_from_slice(bytes);
    }
    packet.push(0);
    packet.extend_from_slice(&record.to_be_bytes());
    packet.extend_from_slice(&1u16.to_be_bytes());
    packet
}

/// `None` when it is no answer to this question.
fn answer(id: u16, packet: &[u8]) -> Option<Result<(), String>> {
    let head = packet.get(..12)?;
    let is_response = head[2] & 0x80 != 0;
    if head[..2] != id.to_be_bytes() || !is_response {
        return None;
    }
    Some(match head[3] & 0x0f {
        // NXDOMAIN: there is no such name, says a server that works.
        0 | 3 => Ok(()),
        code => Err(format!("DNS error {code}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers() {
        let asked = question(0x1234, 1, "www.example.");
        assert_eq!(asked, b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0\x03www\x07example\0\0\x01\0\x01");
        assert_eq!(&question(1, 6, ".")[12..], b"\0\0\x06\0\x01");
        let reply = |code: u8| [0x12, 0x34, 0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(answer(0x1234, &reply(0)), Some(Ok(())));
        assert_eq!(answer(0x1234, &reply(3)), Some(Ok(())));
        assert!(matches!(answer(0x1234, &reply(2)), Some(Err(_))));
        assert_eq!(answer(0x4321, &reply(0)), None);
        assert_eq!(answer(0x1234, &asked), None, "a question is no answer");
        assert_eq!(answer(0x1234, b"\x12"), None);
    }
}
