//! HAProxy's log line for a TCP connection.
//!
//! ```text
//! 127.0.0.1:51284 [22/Nov/2026:14:37:19.696] rabbitmq_cluster rabbitmq_cluster/A 1/0/15057 627 sD 1/1/0/0/0 0/0
//! client          accepted                   frontend         backend/server     │ │ │     │   │  │ │ │ │ │ └ queues
//!                                                          waited/connect/total ─┘─┘─┘     │   │  │ │ │ │ └ retries
//!                                                              bytes to the client ────────┘   │  │ │ │ └ server
//!                                                              why it ended ───────────────────┘  │ │ └ backend
//!                                                              connections now: process, frontend ┘─┘
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use daemon::clock::LocalTime;

use crate::registry::Cause;

/// Why a connection ended, as HAProxy's two characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides finished.
    Normal,
    /// The client broke off during the transfer.
    ClientAbort,
    /// The client gave up while its server was connected to.
    ClientConnect,
    /// The client gave up while it waited for a place.
    ClientQueue,
    /// The server broke off during the transfer.
    ServerAbort,
    /// The client was silent too long.
    ClientTimeout,
    /// The server was silent too long.
    ServerTimeout,
    /// No server could be connected to.
    ConnectFailed,
    /// Connecting took too long.
    ConnectTimeout,
    /// No place became free in time.
    QueueTimeout,
    /// A rule keeps the client out.
    Denied,
    /// The proxy ran out of something.
    Resource,
    /// It was closed from outside.
    Killed(Cause),
}

impl End {
    /// HAProxy's two characters.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Normal => "--",
            Self::ClientAbort => "CD",
            Self::ClientConnect => "CC",
            Self::ClientQueue => "CQ",
            Self::ServerAbort => "SD",
            Self::ClientTimeout => "cD",
            Self::ServerTimeout => "sD",
            Self::ConnectFailed => "SC",
            Self::ConnectTimeout => "sC",
            Self::QueueTimeout => "sQ",
            Self::Denied => "PR",
            Self::Resource => "RC",
            Self::Killed(Cause::Operator) => "K-",
            Self::Killed(Cause::ServerDown) => "D-",
            Self::Killed(Cause::ActiveUp) => "U-",
        }
    }
}

/// What one line says.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// The client.
    pub client: SocketAddr,
    /// When it was accepted.
    pub accepted: SystemTime,
    /// The frontend.
    pub frontend: &'a str,
    /// The backend.
    pub backend: &'a str,
    /// The server, or `<NOSRV>`.
    pub server: &'a str,
    /// Milliseconds until a server was chosen; -1 when none was.
    pub waited_ms: i64,
    /// Milliseconds to connect; -1 when it was not.
    pub connect_ms: i64,
    /// Milliseconds in all.
    pub total_ms: i64,
    /// Bytes to the client.
    pub bytes: u64,
    /// Why it ended.
    pub end: End,
    /// Connections of the process.
    pub process: u32,
    /// Connections of the frontend.
    pub frontend_connections: u32,
    /// Connections of the backend.
    pub backend_connections: u32,
    /// Connections of the server.
    pub server_connections: u32,
    /// Repeated attempts.
    pub retries: u32,
    /// Whether another server was tried.
    pub redispatched: bool,
    /// Waiting for the server, and for the backend.
    pub queues: (u32, u32),
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{} [{}] {} {}/{} {}/{}/{} {} {} {}/{}/{}/{}/{}{} {}/{}",
            self.client.ip().to_canonical(),
            self.client.port(),
            Accepted(self.accepted),
            self.frontend,
            self.backend,
            self.server,
            self.waited_ms,
            self.connect_ms,
            self.total_ms,
            self.bytes,
            self.end.code(),
            self.process,
            self.frontend_connections,
            self.backend_connections,
            self.server_connections,
            if self.redispatched { "+" } else { "" },
            self.retries,
            self.queues.0,
            self.queues.1,
        )
    }
}

/// `22/Nov/2026:14:36:06.664` in local time.
pub struct Accepted(pub SystemTime);

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = LocalTime::from_system(self.0);
        write!(
            f,
            "{:02}/{}/{:04}:{:02}:{:02}:{:02}.{:03}",
            time.day,
            time.month_name(),
            time.year,
            time.hour,
            time.minute,
            time.second,
            time.millis
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_haproxys() {
        let accepted = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_795_357_366_696);
        let line = Line {
            client: "127.0.0.1:51284".parse().unwrap(),
            accepted,
            frontend: "rabbitmq_cluster",
            backend: "rabbitmq_cluster",
            server: "A",
            waited_ms: 1,
            connect_ms: 0,
            total_ms: 15057,
            bytes: 627,
            end: End::ServerTimeout,
            process: 1,
            frontend_connections: 1,
            backend_connections: 0,
            server_connections: 0,
            retries: 0,
            redispatched: false,
            queues: (0, 0),
        };
        let expected = format!(
            "127.0.0.1:51284 [{}] rabbitmq_cluster rabbitmq_cluster/A 1/0/15057 627 sD 1/1/0/0/0 0/0",
            Accepted(accepted)
        );
        assert_eq!(line.to_string(), expected);
        assert!(Accepted(accepted).to_string().ends_with(":46.696"));
        let redispatched = Line { retries: 2, redispatched: true, ..line };
        assert!(redispatched.to_string().ends_with(" 1/1/0/0/+2 0/0"));
    }
}
