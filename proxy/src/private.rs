//! The private socket of a running process, through which `proxy reload`, `proxy upgrade` and a process
//! that takes over talk to it.
//!
//! It is a unix socket outside the file system, named after the process id, so it needs no configuration,
//! works in a chroot and leaves nothing behind. Only root and the user of the process are listened to; and as anybody
//! can take such a name, only what root or the asking user opened is asked.
//! One line asks; the answer is `ok` or `error`, a newline, a text; then the connection ends.

use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::carried;
use crate::control::Report;
use crate::handover::{self, Exported};
use crate::process::Process;
use crate::server_state;
use crate::upgrade;

/// Longest question.
const MAX_LINE: u64 = 256;
/// Time for a question.
const PATIENCE: Duration = Duration::from_secs(5);
/// What names begin with.
const PREFIX: &str = "warren-proxy-";

fn address(pid: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("{PREFIX}{pid}"))
}

/// Opens the socket of this process; before privileges are given up, so that the name is ours.
///
/// # Errors
/// When somebody else has taken the name.
pub fn open() -> io::Result<UnixListener> {
    let listener = UnixListener::bind_addr(&address(std::process::id())?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers until the process ends. `owner` is the user it was started by.
pub async fn serve(process: Arc<Process>, listener: UnixListener, owner: u32) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "no private socket");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let allowed = stream
                    .peer_cred()
                    .is_ok_and(|peer| [0, owner, nix::unistd::geteuid().as_raw()].contains(&peer.uid()));
                if allowed {
                    tokio::spawn(answer(process.clone(), stream));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept on the private socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(process: Arc<Process>, mut stream: tokio::net::UnixStream) {
    let mut line = String::new();
    let mut reader = BufReader::new((&mut stream).take(MAX_LINE));
    if !matches!(tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await, Ok(Ok(1..))) {
        return;
    }
    let (command, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let report = match command {
        handover::COMMAND => {
            let sockets = process.control.sockets().await;
            return hand_out(stream, sockets).await;
        }
        handover::OUTPUTS_COMMAND => return hand_out(stream, handover::outputs().unwrap_or_default()).await,
        "reload" => process.control.reload().await,
        "upgrade" => process.control.upgrade().await,
        "retire" => process.control.retire(rest.parse().ok()).await,
        "arguments" => Report::accepted(upgrade::describe()),
        "state" => Report::accepted(server_state::show(&process)),
        "counters" => Report::accepted(carried::show(&process)),
        "phase" => Report::accepted(if process.is_stopping() { "stopping" } else { "running" }),
        other => Report::refused(format!("unknown command `{other}`")),
    };
    let word = if report.accepted { "ok" } else { "error" };
    // Who asked may be gone.
    let _ = stream.write_all(format!("{word}\n{}\n", report.text).as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Sends descriptors, then closes the connection.
pub async fn hand_out(stream: tokio::net::UnixStream, descriptors: Vec<Exported>) {
    let Ok(mut stream) = stream.into_std() else { return };
    let count = descriptors.len();
    let sent = tokio::task::spawn_blocking(move || handover::send(&mut stream, &descriptors)).await;
    match sent.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(()) => tracing::info!(count, "descriptors handed out"),
        Err(error) => tracing::warn!(%error, "cannot hand out descriptors"),
    }
}

/// Connects to the private socket of another process.
///
/// # Errors
/// When there is none, or somebody else's: what it says would be believed (`upgrade` starts a program with its arguments).
pub fn connect(pid: u32) -> io::Result<UnixStream> {
    let stream = UnixStream::connect_addr(&address(pid)?)?;
    // Those of the process that began to listen, before it gave up privileges (unix(7), SO_PEERCRED).
    let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials)?;
    if is_trusted(peer.uid(), nix::unistd::geteuid().as_raw()) {
        Ok(stream)
    } else {
        let text = format!(
            "the private socket of process {pid} was opened by user {}, who is not asked",
            peer.uid()
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

/// Whether a process of user `mine` believes one that user `theirs` started.
fn is_trusted(theirs: u32, mine: u32) -> bool {
    theirs == 0 || theirs == mine
}

/// Asks another process something and waits for the answer, `limit` at most.
///
/// # Errors
/// When it does not answer.
pub fn ask(pid: u32, question: &str, limit: Duration) -> io::Result<Report> {
    let mut stream = connect(pid)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (word, text) = answer.split_once('\n').unwrap_or((answer.as_str(), ""));
    let text = text.trim_end();
    match word {
        "ok" => Ok(Report::accepted(text)),
        "error" => Ok(Report::refused(text)),
        _ => Err(io::Error::other("it does not answer; is it of this user?")),
    }
}

/// Processes of this program that run in this network namespace and that may be asked.
#[must_use]
pub fn running() -> Vec<u32> {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let mut pids: Vec<u32> = table
        .lines()
        .filter_map(|line| line.rsplit('@').next()?.strip_prefix(PREFIX)?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids.retain(|pid| connect(*pid).is_ok());
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_own_user_are_believed() {
        assert!(is_trusted(0, 1000));
        assert!(is_trusted(1000, 1000));
        assert!(!is_trusted(65_534, 0));
        assert!(!is_trusted(1001, 1000));
    }

    #[test]
    fn a_socket_of_the_own_user_is_found_and_asked() {
        // No process has this number (the largest is 4194304).
        let pid = 4_200_000 + std::process::id() % 1000;
        let listener = UnixListener::bind_addr(&address(pid).unwrap()).unwrap();
        assert!(connect(pid).is_ok());
        assert!(running().contains(&pid));
        drop(listener);
        assert!(connect(pid).is_err());
    }
}
