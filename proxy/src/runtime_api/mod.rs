//! The stats socket: HAProxy's commands at run time, over a unix or TCP socket.
//!
//! A connection sends lines. Each line holds commands separated by `;`; each answer ends with an empty line. After
//! one line the connection is closed, unless `prompt` made it stay. `command` knows the commands, the other files
//! carry them out.

mod add_server;
mod command;
mod enable;
mod maxconn;
mod server_states;
mod sessions;
mod set_server;
mod show;
mod socket;
mod stat;
mod words;

use std::sync::Arc;
use std::time::Duration;

use daemon::shutdown::ShutdownToken;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Semaphore;

pub use self::socket::{Socket, bind};
use crate::backend::Backend;
use crate::config::Level;
use crate::private;
use crate::process::Process;
use crate::server::Server;

/// Longest line. HAProxy takes what fits into its buffer.
const MAX_LINE: usize = 16 * 1024;

/// A connection to a stats socket.
#[derive(Debug)]
pub struct Cli {
    process: Arc<Process>,
    level: Level,
    /// Stays open after a line and shows `> `.
    interactive: bool,
    /// Longest silence.
    timeout: Option<Duration>,
    severity: Severity,
}

/// Whether and how the weight of an answer is shown before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    None,
    Number,
    Word,
}

/// The answer to a command, without the empty line after it.
enum Reply {
    /// As it is.
    Text(String),
    /// A message with a syslog level, for `set severity-output`.
    Message(u8, String),
    /// It takes a while.
    Later(std::pin::Pin<Box<dyn Future<Output = Reply> + Send>>),
    /// The connection is closed.
    Quit,
}

impl Reply {
    fn done() -> Self {
        Self::Text(String::new())
    }

    fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn info(text: impl Into<String>) -> Self {
        Self::Message(6, text.into())
    }

    fn warning(text: impl Into<String>) -> Self {
        Self::Message(4, text.into())
    }

    fn error(text: impl Into<String>) -> Self {
        Self::Message(3, text.into())
    }
}

/// What a command says when it cannot be carried out; becomes the answer.
type Answer = Result<Reply, Reply>;

/// Serves all sockets until an immediate stop: during a soft stop one can still look.
pub async fn serve(process: Arc<Process>, sockets: Vec<Socket>, stop: ShutdownToken) {
    let most = process.global().stats_maxconn.max(1);
    let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(10)));
    let mut tasks = tokio::task::JoinSet::new();
    for socket in sockets {
        match socket.register() {
            Ok(socket) => {
                tasks.spawn(accept(process.clone(), socket, places.clone(), stop.clone()));
            }
            Err(error) => tracing::error!(%error, "cannot register a stats socket"),
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn accept(
    process: Arc<Process>,
    socket: socket::Registered,
    places: Arc<Semaphore>,
    mut stop: ShutdownToken,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = next(&socket, &places) => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.forced() => return,
        };
        match accepted {
            Ok((stream, place)) => {
                let cli = Cli {
                    level: socket.level,
                    interactive: false,
                    timeout: Some(process.global().stats_timeout),
                    severity: Severity::None,
                    process: process.clone(),
                };
                let hands_out = socket.hands_out;
                connections.spawn(async move {
                    cli.begin(stream, hands_out).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept on a stats socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection, once there is a place for it. No place is held while nobody comes: sockets share them.
async fn next(
    socket: &socket::Registered,
    places: &Arc<Semaphore>,
) -> std::io::Result<(socket::Stream, tokio::sync::OwnedSemaphorePermit)> {
    let stream = socket.accept().await?;
    let place = places.clone().acquire_owned().await.map_err(|_| std::io::Error::other("stopping"))?;
    Ok((stream, place))
}

impl Cli {
    /// Answers one connection, or gives it the listening sockets when that is what it wants and may have.
    async fn begin(self, stream: socket::Stream, hands_out: bool) {
        if !hands_out {
            return self.talk(stream).await;
        }
        let asked = stream.asks_for_sockets();
        let asked = match self.timeout {
            Some(limit) => tokio::time::timeout(limit, asked).await,
            None => Ok(asked.await),
        };
        match asked {
            Ok(Ok(stream)) => private::hand_out(stream, self.process.control.sockets().await).await,
            Ok(Err(stream)) => self.talk(stream).await,
            // Silent for too long.
            Err(_) => {}
        }
    }

    /// Answers one connection until it ends.
    async fn talk(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            let read = read_line(&mut stream, &mut line);
            let read = match self.timeout {
                Some(limit) => tokio::time::timeout(limit, read).await.unwrap_or(Ok(false)),
                None => read.await,
            };
            if !matches!(read, Ok(true)) {
                break;
            }
            let Some(answer) = self.line(&String::from_utf8_lossy(&line)).await else { break };
            if self.send(&mut stream, answer.as_bytes()).await.is_err() || !self.interactive {
                break;
            }
        }
        let _ = self.send(&mut stream, b"").await;
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.get_mut().shutdown()).await;
    }

    /// A reader that does not read is given up after the same silence.
    async fn send(
        &self,
        stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>,
        bytes: &[u8],
    ) -> std::io::Result<()> {
        let stream = stream.get_mut();
        for part in bytes.chunks(16 * 1024) {
            let write = stream.write_all(part);
            match self.timeout {
                Some(limit) => tokio::time::timeout(limit, write)
                    .await
                    .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?,
                None => write.await?,
            }
        }
        stream.flush().await
    }

    /// Carries one line out. `None` ends the connection.
    async fn line(&mut self, line: &str) -> Option<String> {
        let mut out = String::new();
        for part in words::commands(line) {
            let words = words::words(&part);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut reply = command::run(self, &words).unwrap_or_else(|error| error);
            // A reply that takes a while gives one that does not.
            while let Reply::Later(waiting) = reply {
                reply = waiting.await;
            }
            match reply {
                Reply::Quit => return None,
                Reply::Text(text) => out.push_str(&text),
                Reply::Message(level, text) => {
                    out.push_str(&self.severity.before(level));
                    out.push_str(&text);
                }
                Reply::Later(_) => {}
            }
            out.push('\n');
            if self.interactive {
                out.push_str("> ");
            }
            // A long line must not keep checks and other clients waiting.
            tokio::task::yield_now().await;
        }
        Some(out)
    }

    /// Only those who may do so.
    fn need(&self, level: Level) -> Result<(), Reply> {
        if self.level >= level { Ok(()) } else { Err(Reply::error("Permission denied\n")) }
    }

    /// The backend and server `a/b` names.
    fn server(&self, name: Option<&&str>) -> Result<(Arc<Backend>, Arc<Server>), Reply> {
        let Some((backend, server)) = name.and_then(|name| name.split_once('/')) else {
            return Err(Reply::error("Require 'backend/server'.\n"));
        };
        let backend = self.backend(backend).ok_or_else(|| Reply::error("No such backend.\n"))?;
        let found = match server.strip_prefix('#').and_then(|id| id.parse::<u32>().ok()) {
            Some(id) => backend.servers().iter().find(|server| server.config().id == id).cloned(),
            None => backend.server(server),
        };
        let server = found.ok_or_else(|| Reply::error("No such server.\n"))?;
        Ok((backend, server))
    }

    /// The backend with this name, or with this number after `#`.
    fn backend(&self, name: &str) -> Option<Arc<Backend>> {
        let number = name.strip_prefix('#').and_then(|id| id.parse::<u32>().ok());
        let sections = self.process.sections();
        sections
            .iter()
            .filter(|section| match number {
                Some(id) => section.config.id == id,
                None => section.config.name == name,
            })
            .find_map(|section| section.backend.clone())
    }
}

impl Severity {
    fn before(self, level: u8) -> String {
        let words = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
        match self {
            Self::None => String::new(),
            Self::Number => format!("[{level}]: "),
            Self::Word => format!("[{}]: ", words[usize::from(level.min(7))]),
        }
    }
}

/// Reads up to the end of a line, which is left out. `false` at the end of the stream or when a line is too long.
async fn read_line(stream: &mut (impl AsyncBufReadExt + Unpin), line: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        let buffer = stream.fill_buf().await?;
        if buffer.is_empty() {
            // HAProxy carries out what came before the end, with or without a line feed.
            return Ok(!line.is_empty());
        }
        let (taken, done) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), false),
        };
        line.extend_from_slice(&buffer[..taken]);
        stream.consume(taken);
        if line.len() > MAX_LINE {
            return Ok(false);
        }
        if done {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests;
