//! Asks the name servers of a section: all at once over UDP, again when nobody answers, over TCP when the
//! answer does not fit.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::counters::{self, Asked};
use super::message::{Answer, Kind, question, read};
use crate::config::sections::{Nameserver, Resolvers};

/// Where name servers of the system stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// An answer and the name of the server that gave it.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) answer: Answer,
    pub(super) by: String,
}

/// The name servers of a section, those of the system included where it wants them.
#[must_use]
pub fn nameservers(section: &Resolvers) -> Vec<Nameserver> {
    let mut all = section.nameservers.clone();
    if section.parse_resolv_conf {
        let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
        all.extend(listed(&text));
    }
    all
}

fn listed(text: &str) -> Vec<Nameserver> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next()?.parse().ok())
        .map(|ip: std::net::IpAddr| Nameserver {
            name: ip.to_string(),
            address: SocketAddr::new(ip, 53),
            tcp: false,
        })
        .collect()
}

/// Asks all name servers. The first good answer ends it; without one the best of the bad ones counts.
pub(super) async fn ask(section: &Resolvers, servers: &[Nameserver], name: &str, kind: Kind) -> Told {
    let mut worst = Told { answer: Answer::Timeout, by: String::new() };
    for _ in 0..section.resolve_retries.max(1) {
        let mut asked = tokio::task::JoinSet::new();
        for server in servers {
            let (server, name) = (server.clone(), name.to_owned());
            let (limit, payload) = (section.timeout_retry, section.accepted_payload_size);
            let counted = counters::of(&section.name, &server.name);
            asked.spawn(async move {
                let answer = ask_one(&server, &name, kind, limit, payload, &counted).await;
                counted.answered(&answer);
                Told { answer, by: server.name }
            });
        }
        while let Some(told) = asked.join_next().await {
            let Ok(told) = told else { continue };
            if matches!(told.answer, Answer::Found(_)) {
                return told;
            }
            if rank(&told.answer) < rank(&worst.answer) {
                worst = told;
            }
        }
        // Somebody who knows has spoken; silence is worth another try.
        if worst.answer != Answer::Timeout {
            break;
        }
    }
    worst
}

/// What is believed first of several bad answers.
fn rank(answer: &Answer) -> u8 {
    match answer {
        Answer::Found(_) => 0,
        Answer::NoName => 1,
        Answer::Empty => 2,
        Answer::Refused => 3,
        Answer::Other | Answer::Truncated => 4,
        Answer::Timeout => 5,
    }
}

async fn ask_one(
    server: &Nameserver,
    name: &str,
    kind: Kind,
    limit: Duration,
    payload: u16,
    counted: &Asked,
) -> Answer {
    let number = u16::try_from(RandomState::new().hash_one(0u8) & 0xffff).unwrap_or(0);
    let Some(bytes) = question(number, name, kind, payload) else { return Answer::Other };
    counted.sent.fetch_add(1, Relaxed);
    let talk = async {
        if !server.tcp {
            match over_udp(server.address, &bytes, number, name, kind).await? {
                Answer::Truncated => {}
                answer => return Ok(answer),
            }
        }
        over_tcp(server.address, &bytes, number, name, kind).await
    };
    match tokio::time::timeout(limit, talk).await {
        Ok(Ok(answer)) => answer,
        // Nobody listens there: as silence, another try may find somebody.
        Ok(Err(error)) => {
            counted.send_errors.fetch_add(1, Relaxed);
            tracing::debug!(nameserver = %server.address, name, %error, "cannot ask");
            Answer::Timeout
        }
        Err(_) => Answer::Timeout,
    }
}

async fn over_udp(
    server: SocketAddr,
    question: &[u8],
    number: u16,
    name: &str,
    kind: Kind,
) -> io::Result<Answer> {
    let any: SocketAddr = if server.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    // Only answers from there are received then.
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; 65_536];
    loop {
        let length = socket.recv(&mut answer).await?;
        if let Some(answer) = read(&answer[..length], number, name, kind) {
            return Ok(answer);
        }
    }
}

/// Over TCP a message has its length in front (RFC 1035 section 4.2.2).
async fn over_tcp(
    server: SocketAddr,
    question: &[u8],
    number: u16,
    name: &str,
    kind: Kind,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let mut message = u16::try_from(question.len()).unwrap_or(0).to_be_bytes().to_vec();
    message.extend(question);
    stream.write_all(&message).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(match read(&answer, number, name, kind) {
        None | Some(Answer::Truncated) => Answer::Other,
        Some(answer) => answer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_the_system_are_listed() {
        let text = "# comment\nsearch example\nnameserver 10.0.0.53\n nameserver ::1 # x\nnameserver bad\n";
        let found: Vec<String> = listed(text).iter().map(|server| server.address.to_string()).collect();
        assert_eq!(found, ["10.0.0.53:53", "[::1]:53"]);
    }
}
