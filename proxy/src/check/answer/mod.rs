//! What servers answer to checks, read by pure functions: bytes in, a verdict out.
//!
//! Every reader gets all bytes received so far and whether more can come. None of them may panic,
//! whatever the bytes; [`fuzz`] runs them all.

pub mod agent;
pub mod amqp;
pub mod http;
pub mod ldap;
pub mod mysql;
pub mod pgsql;
pub mod redis;
pub mod smtp;
pub mod tls;

use super::status::CheckStatus;

/// Text of a server in a report: HAProxy cuts longer ones too.
const LONGEST_INFO: usize = 512;

/// What a reader says of the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// More bytes are needed.
    Wait,
    /// As it should be; go on to the next step.
    Next(Finding),
    /// Not as it should be.
    Failed(CheckStatus, Finding),
}

/// What was learned from an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finding {
    /// The protocol's number.
    pub code: Option<u16>,
    /// Text for people; `None` leaves it to the caller.
    pub info: Option<String>,
}

impl Finding {
    /// A number and a text.
    #[must_use]
    pub fn new(code: u16, info: impl Into<String>) -> Self {
        Self { code: Some(code), info: Some(info.into()) }
    }

    /// A text.
    #[must_use]
    pub fn text(info: impl Into<String>) -> Self {
        Self { code: None, info: Some(info.into()) }
    }
}

/// A server's own text: bounded, its first line only where it says so, without control characters.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_INFO)])
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

/// The bytes up to the end of the first line.
#[must_use]
pub fn first_line(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    &bytes[..end]
}

/// The body of the fuzz target and of its test: every reader over the same bytes, whole and cut.
#[doc(hidden)]
pub mod fuzz {
    use super::{Verdict, agent, amqp, http, ldap, mysql, pgsql, redis, smtp, tls};

    /// Runs every reader; panics where one breaks a promise.
    pub fn readers(bytes: &[u8]) {
        let verdicts = |closed: bool| -> Vec<Verdict> {
            vec![
                mysql::packet(bytes, 0, closed, false),
                mysql::second_packet(bytes, closed, true),
                ldap::bind_response(bytes, closed),
                pgsql::no_error(bytes, closed),
                pgsql::authentication(bytes, closed),
                redis::pong(bytes, closed),
                smtp::is_reply(bytes, closed),
                smtp::positive(bytes, closed),
                tls::server_hello(bytes, closed),
                amqp::connection_start(bytes, closed)
                    .map_or(Verdict::Wait, |_| Verdict::Next(super::Finding::default())),
            ]
        };
        verdicts(false);
        // A closed connection leaves nothing to wait for.
        let waiting = verdicts(true).iter().filter(|verdict| **verdict == Verdict::Wait).count();
        assert_eq!(waiting, 0, "a reader waits for a closed connection");
        if let Some(answer) = agent::parse(bytes) {
            assert!(answer.message.len() <= 3 * super::LONGEST_INFO);
        }
        for closed in [false, true] {
            if let http::Answer::Complete(response) = http::parse(bytes, closed, true) {
                assert!((100..=999).contains(&response.status));
                assert!(response.body.len() <= bytes.len());
            }
        }
    }
}

#[cfg(test)]
mod tests;
