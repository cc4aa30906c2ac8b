//! Replacing the program while it runs: a new process gets the listening sockets and what is known about
//! servers, the old one finishes its sessions and ends.
//!
//! ```text
//! old process                                new process (`... -sf OLD`)
//!     starts it, or an operator does    ──►
//!                                       ◄──  "_getsocks" on the private socket, or on the socket of `-x`
//!                                       ◄──  "state": states of all servers
//!                                            listens, accepts
//!                                       ◄──  "retire NEW"
//!     tells systemd MAINPID=NEW
//!     soft stop
//! ```

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use daemon::exit::Exit;
use daemon::run::Failure;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::control::Report;
use crate::handover::{self, Inherited};
use crate::private;

/// Why a process does not start its own successor.
pub const CONFINED: &str = "the process has given up root or its root directory and cannot start a program";
/// Time for the old process to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How this program was started.
#[derive(Debug)]
struct Invocation {
    /// The file; a newer one may be there by now.
    program: PathBuf,
    /// The name it was called by, and its arguments.
    words: Vec<OsString>,
    directory: PathBuf,
}

static INVOCATION: OnceLock<Invocation> = OnceLock::new();

/// Notes how the program was started; call it before going to another directory.
pub fn remember() {
    let _ = INVOCATION.set(Invocation {
        program: std::env::current_exe().unwrap_or_default(),
        words: std::env::args_os().collect(),
        directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
    });
}

/// The program, the directory it was started in, the name it was called by and its arguments, one a line.
#[must_use]
pub fn describe() -> String {
    let Some(invocation) = INVOCATION.get() else { return String::new() };
    let mut lines =
        vec![invocation.program.display().to_string(), invocation.directory.display().to_string()];
    lines.extend(invocation.words.iter().map(|word| word.to_string_lossy().into_owned()));
    lines.join("\n")
}

/// Arguments without those that name processes to replace.
fn without_old(words: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        match word.as_str() {
            // The rest are files.
            "--" => {
                kept.push(word.clone());
                kept.extend(words.by_ref().cloned());
            }
            "-sf" | "-st" | "--finish" | "--stop" => {
                while words.next_if(|next| next.parse::<u32>().is_ok()).is_some() {}
            }
            "-x" | "--old-socket" => {
                words.next();
            }
            _ => kept.push(word.clone()),
        }
    }
    kept
}

/// The command that starts the program anew in the place of process `pid`, from what [`describe`] said.
fn command(description: &str, program: Option<&Path>, pid: u32) -> io::Result<Command> {
    let mut lines = description.lines().map(str::to_owned);
    let incomplete = || io::Error::other("it does not say how it was started");
    let (Some(own), Some(directory), Some(name)) = (lines.next(), lines.next(), lines.next()) else {
        return Err(incomplete());
    };
    let words: Vec<String> = lines.collect();
    let mut command = Command::new(program.map_or_else(|| PathBuf::from(own), Path::to_path_buf));
    command
        .arg0(name)
        // First, since files may follow after `--`.
        .args(["-sf", &pid.to_string()])
        .args(without_old(&words))
        .current_dir(directory)
        .stdin(Stdio::null());
    Ok(command)
}

/// Starts the program anew as a child, which will ask this process to retire. `failed` is called when it
/// ends in error, or when this process is still needed after `limit`.
///
/// # Errors
/// When the program cannot be started.
pub fn spawn(pid: u32, limit: Duration, failed: impl FnOnce(Report) + Send + 'static) -> io::Result<u32> {
    let mut child = command(&describe(), None, pid)?.spawn()?;
    let successor = child.id();
    // A thread of its own: it waits for as long as the successor lives, so that no zombie is left.
    std::thread::Builder::new().name("upgrade".to_owned()).spawn(move || {
        let deadline = Instant::now() + limit;
        let mut failed = Some(failed);
        loop {
            match child.try_wait() {
                Ok(Some(status)) if !status.success() => {
                    if let Some(failed) = failed.take() {
                        failed(Report::refused(format!(
                            "the new program ended ({status}); its messages are where those of process {pid} go"
                        )));
                    }
                    return;
                }
                // With -D a successful end only means that it went to the background.
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                Ok(Some(_)) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
                other => {
                    if let Some(failed) = failed.take() {
                        failed(Report::refused(format!("the new program did not take over within {limit:?}")));
                    }
                    if matches!(other, Ok(None)) {
                        let _ = child.wait();
                    }
                    return;
                }
            }
        }
    })?;
    Ok(successor)
}

/// `proxy upgrade`: process `pid` is replaced by this program. Returns what to say.
///
/// # Errors
/// Says why it goes on as it is.
pub fn run(pid: u32) -> Result<String, Failure> {
    let failed = |text: String| Failure::new(Exit::Unavailable, text);
    let no_answer = |error: io::Error| failed(format!("process {pid} does not answer: {error}"));
    let report = private::ask(pid, "upgrade", Duration::from_secs(90)).map_err(no_answer)?;
    if report.accepted {
        return Ok(report.text);
    }
    if report.text != CONFINED {
        return Err(failed(format!("not upgraded: {}", report.text)));
    }
    // It cannot; then the new process is a child of ours.
    let description = private::ask(pid, "arguments", PATIENCE).map_err(no_answer)?.text;
    let program = std::env::current_exe().ok();
    let outputs = private::connect(pid).and_then(|mut stream| handover::receive_outputs(&mut stream));
    let mut child = command(&description, program.as_deref(), pid)
        .and_then(|mut command| {
            // Its lines go on where those of the old process went.
            if let Ok([out, error]) = outputs {
                command.stdout(out).stderr(error);
            }
            command.spawn()
        })
        .map_err(|error| failed(format!("cannot start the program: {error}")))?;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Ok(Some(status)) = child.try_wait()
            && !status.success()
        {
            return Err(failed(format!("not upgraded: the new program ended ({status})")));
        }
        let still_works = private::ask(pid, "phase", PATIENCE).is_ok_and(|report| report.text == "running");
        if !still_works {
            return Ok(format!("process {} has taken over from process {pid}", child.id()));
        }
        if Instant::now() >= deadline {
            return Err(failed("not upgraded: the new program did not take over within a minute".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Listening sockets of processes that are to be replaced: from the socket of `-x`, and from the private
/// sockets of processes of this program.
#[must_use]
pub fn inherit(socket: Option<&Path>, pids: &[u32]) -> Inherited {
    let mut inherited = Inherited::default();
    if let Some(path) = socket {
        match UnixStream::connect(path).and_then(|mut stream| handover::receive(&mut stream)) {
            Ok(found) => inherited.extend(found),
            Err(error) => {
                tracing::warn!(socket = %path.display(), %error, "no listening sockets from the old process");
            }
        }
    }
    if inherited.is_empty() {
        for pid in pids {
            // One that is no proxy of ours has no such socket.
            let Ok(mut stream) = private::connect(*pid) else { continue };
            match handover::receive(&mut stream) {
                Ok(found) => inherited.extend(found),
                Err(error) => tracing::warn!(pid, %error, "no listening sockets from the old process"),
            }
        }
    }
    if !inherited.is_empty() {
        tracing::info!(count = inherited.len(), "listening sockets taken over");
    }
    inherited
}

/// What the processes that are to be replaced know about their servers, as in a state file.
#[must_use]
pub fn states(pids: &[u32]) -> Option<String> {
    pids.iter().find_map(|pid| private::ask(*pid, "state", PATIENCE).ok().map(|report| report.text))
}

/// What they have counted.
#[must_use]
pub fn counters(pids: &[u32]) -> Option<String> {
    let asked = |pid: &u32| private::ask(*pid, "counters", PATIENCE).ok().filter(|report| report.accepted);
    pids.iter().find_map(asked).map(|report| report.text)
}

/// This process works: those before may finish, or stop.
pub fn retire(finish: &[u32], stop: &[u32]) {
    for pid in finish {
        let asked = private::ask(*pid, &format!("retire {}", std::process::id()), PATIENCE);
        if asked.is_err() {
            signal(&[*pid], Signal::SIGUSR1);
        }
    }
    signal(stop, Signal::SIGTERM);
}

/// Sends a signal to processes; one that has ended by itself is no error.
pub fn signal(pids: &[u32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| i32::try_from(*pid).ok()).filter(|pid| *pid > 1) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_started_with_the_same_words() {
        let description = "/usr/bin/proxy\n/etc\nhaproxy\n-f\na.cfg\n-sf\n12\n13\n-x\n/run/sock\n-D";
        let command = command(description, None, 7).unwrap();
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(words, ["-sf", "7", "-f", "a.cfg", "-D"]);
        assert_eq!(command.get_program(), "/usr/bin/proxy");
        assert_eq!(command.get_current_dir(), Some(Path::new("/etc")));
    }
}
