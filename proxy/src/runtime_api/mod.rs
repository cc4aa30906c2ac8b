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
use tokio::sync::{Semaphore, mpsc, watch};

pub(crate) use self::server_states::{HEAD, state_line};
pub use self::socket::{Wanted, bind, bind_new};
use crate::backend::Backend;
use crate::config::{Level, StatsSocket};
use crate::keeper::Keeper;
use crate::local_socket::SocketFile;
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

/// Serves all sockets until an immediate stop: during a soft stop one can still look. What comes from `changes` takes the
/// place of the sockets before; connections to those that are gone stay.
pub async fn serve(
    process: Arc<Process>,
    sockets: Vec<Wanted>,
    mut changes: mpsc::UnboundedReceiver<Vec<Wanted>>,
    keeper: Keeper,
    mut stop: ShutdownToken,
) {
    let most = process.global().stats_maxconn.max(1);
    let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(10)));
    let mut tasks = tokio::task::JoinSet::new();
    let mut open: Vec<Open> = Vec::new();
    let mut wanted = Some(sockets);
    loop {
        if let Some(wanted) = wanted.take() {
            let before = std::mem::take(&mut open);
            open = replace(&process, wanted, before, &places, &stop, &keeper, &mut tasks);
        }
        tokio::select! {
            Some(changed) = changes.recv() => wanted = Some(changed),
            Some(_) = tasks.join_next() => {}
            () = stop.forced() => return,
        }
    }
}

/// A socket at work.
struct Open {
    config: StatsSocket,
    /// What its next users may do.
    rights: watch::Sender<Rights>,
    file: Option<SocketFile>,
}

/// What the users of a socket may do.
#[derive(Debug, Clone, Copy)]
struct Rights {
    level: Level,
    /// `expose-fd listeners`.
    hands_out: bool,
}

impl Rights {
    fn of(config: &StatsSocket) -> Self {
        Self { level: config.level, hands_out: config.expose_fd }
    }
}

/// Begins to accept from new sockets, keeps those that were there, and ends the others.
fn replace(
    process: &Arc<Process>,
    wanted: Vec<Wanted>,
    mut before: Vec<Open>,
    places: &Arc<Semaphore>,
    stop: &ShutdownToken,
    keeper: &Keeper,
    tasks: &mut tokio::task::JoinSet<()>,
) -> Vec<Open> {
    let mut open = Vec::new();
    for Wanted { config, opened } in wanted {
        let Some(socket) = opened else {
            let Some(at) = before.iter().position(|open| socket::is_same(&open.config, &config)) else {
                continue;
            };
            let kept = before.swap_remove(at);
            kept.rights.send_replace(Rights::of(&config));
            open.push(Open { config, ..kept });
            continue;
        };
        match socket.register() {
            Ok(socket) => {
                let (rights, receiver) = watch::channel(Rights::of(&config));
                open.push(Open { config, rights, file: socket.file.clone() });
                tasks.spawn(accept(process.clone(), socket, receiver, places.clone(), stop.clone()));
            }
            Err(error) => tracing::error!(%error, "cannot register a stats socket"),
        }
    }
    // Those that are left end with their senders.
    let files: Vec<SocketFile> = before.into_iter().filter_map(|gone| gone.file).collect();
    if !files.is_empty() {
        keeper.later(move || files.iter().for_each(SocketFile::remove));
    }
    open
}

async fn accept(
    process: Arc<Process>,
    socket: socket::Registered,
    mut rights: watch::Receiver<Rights>,
    places: Arc<Semaphore>,
    mut stop: ShutdownToken,
) {
    let mut connections = tokio::task::JoinSet::new();
    let mut socket = Some(socket);
    while let Some(open) = &socket {
        let accepted = tokio::select! {
            accepted = next(open, &places) => accepted,
            changed = rights.changed() => {
                if changed.is_err() {
                    socket = None;
                }
                continue;
            }
            Some(_) = connections.join_next() => continue,
            () = stop.forced() => return,
        };
        match accepted {
            Ok((stream, place)) => {
                let Rights { level, hands_out } = *rights.borrow();
                let cli = Cli {
                    level,
                    interactive: false,
                    timeout: Some(process.global().stats_timeout),
                    severity: Severity::None,
                    process: process.clone(),
                };
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
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        () = stop.forced() => {}
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
            let text = String::from_utf8_lossy(&line);
            if !matches!(self.line(&text, stream.get_mut()).await, Ok(true)) || !self.interactive {
                break;
            }
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.get_mut().shutdown()).await;
    }

    /// A reader that does not read is given up after the same silence.
    async fn send(&self, stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
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

    /// Carries one line out and sends each answer before the next command. `false` ends the connection.
    async fn line(&mut self, line: &str, stream: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<bool> {
        for part in words::commands(line) {
            let Some(answer) = self.command(&part).await else { return Ok(false) };
            self.send(stream, answer.as_bytes()).await?;
            // A long line must not keep checks and other clients waiting.
            tokio::task::yield_now().await;
        }
        Ok(true)
    }

    /// Carries one command out. `None` ends the connection.
    async fn command(&mut self, text: &str) -> Option<String> {
        let words = words::words(text);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut reply = command::run(self, &words).unwrap_or_else(|error| error);
        // A reply that takes a while gives one that does not.
        while let Reply::Later(waiting) = reply {
            reply = waiting.await;
        }
        let mut out = match reply {
            Reply::Quit => return None,
            Reply::Text(text) => text,
            Reply::Message(level, text) => self.severity.before(level) + &text,
            Reply::Later(_) => String::new(),
        };
        out.push('\n');
        if self.interactive {
            out.push_str("> ");
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
