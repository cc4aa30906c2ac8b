//! `option external-check`: a program says whether a server is well, by its exit status.
//!
//! ```text
//! COMMAND PROXY_ADDRESS PROXY_PORT SERVER_ADDRESS SERVER_PORT
//! ```
//! It knows more from its environment (`HAPROXY_SERVER_NAME`, ...), which holds nothing else. It runs in a process
//! group of its own, and all of that group is ended when it takes too long.

mod watched;

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

use super::connect::Where;
use super::status::{CheckReport, CheckStatus};
use crate::backend::Backend;
use crate::config::{BindAddress, Settings};
use crate::server::Server;

/// What stands where there is no address or no port.
const NOT_USED: &str = "NOT_USED";
/// Between the polite signal and the other one.
const GRACE: Duration = Duration::from_secs(1);

/// HAProxy: a program may run for the interval between checks; with `timeout check`, not longer than
/// `timeout connect`.
pub(super) fn limit(settings: &Settings, inter: Duration) -> Duration {
    match (settings.timeouts.check, settings.timeouts.connect) {
        (Some(_), Some(connect)) => inter.min(connect),
        _ => inter,
    }
}

/// Runs the program of a section for one of its servers.
pub(super) async fn run(backend: &Backend, server: &Server, place: &Where, limit: Duration) -> CheckReport {
    let begun = Instant::now();
    let report = |status, code, info: String| CheckReport { status, code, info, duration: begun.elapsed() };
    let config = Arc::clone(&backend.config());
    let Some(program) = config.settings.checks.external.command.clone() else {
        return report(CheckStatus::ProcessError, 1, "no external-check command".to_owned());
    };
    let command = command(&program, backend, server, place);
    let started = tokio::task::spawn_blocking(move || Running::start(command)).await;
    let mut running = match started {
        Ok(Ok(running)) => running,
        Ok(Err(error)) => {
            return report(CheckStatus::ProcessError, 1, format!("cannot run {program}: {error}"));
        }
        Err(error) => return report(CheckStatus::ProcessError, 1, error.to_string()),
    };
    match tokio::time::timeout(limit, running.ended()).await {
        Err(_) => report(CheckStatus::ProcessTimeout, 0, String::new()),
        Ok(Err(error)) => report(CheckStatus::SocketError, 0, error.to_string()),
        Ok(Ok(status)) if status.success() => report(CheckStatus::ProcessOk, 0, String::new()),
        Ok(Ok(status)) => {
            // One that was ended by a signal has no status of its own.
            let code = status.code().and_then(|code| u16::try_from(code).ok()).unwrap_or(u16::MAX);
            report(CheckStatus::ProcessError, code, String::new())
        }
    }
}

fn command(program: &str, backend: &Backend, server: &Server, place: &Where) -> Command {
    let section = backend.config();
    let config = server.config();
    let (proxy_address, proxy_port) = match section.binds.first().map(|bind| &bind.address) {
        Some(BindAddress::Tcp(address)) => (address.ip().to_string(), address.port().to_string()),
        Some(BindAddress::Unix(path)) => (path.display().to_string(), NOT_USED.to_owned()),
        _ => (NOT_USED.to_owned(), NOT_USED.to_owned()),
    };
    let (address, port) = match place {
        Where::Ip(address) => (address.ip().to_string(), address.port().to_string()),
        Where::Unix(path) => (path.display().to_string(), NOT_USED.to_owned()),
        Where::Abstract(name) => (format!("abns@{name}"), NOT_USED.to_owned()),
    };
    let number = |number: u32| number.to_string();
    let path = section.settings.checks.external.path.clone().unwrap_or_default();
    let mut command = Command::new(program);
    command
        .args([&proxy_address, &proxy_port, &address, &port])
        .env_clear()
        .env("PATH", path)
        .env("HAPROXY_PROXY_NAME", &*backend.name)
        .env("HAPROXY_PROXY_ID", number(section.id))
        .env("HAPROXY_PROXY_ADDR", &proxy_address)
        .env("HAPROXY_PROXY_PORT", &proxy_port)
        .env("HAPROXY_SERVER_NAME", server.name())
        .env("HAPROXY_SERVER_ID", number(config.id))
        .env("HAPROXY_SERVER_ADDR", &address)
        .env("HAPROXY_SERVER_PORT", &port)
        .env("HAPROXY_SERVER_MAXCONN", number(server.maxconn().unwrap_or(0)))
        .env("HAPROXY_SERVER_CURCONN", number(server.counters.current.load(Relaxed)))
        .env("HAPROXY_SERVER_SSL", number(config.options.tls.for_checks().into()))
        .env("HAPROXY_SERVER_PROTO", "tcp")
        .stdin(Stdio::null())
        .process_group(0);
    command
}

/// A program at work. Dropping it ends its group.
struct Running {
    child: Option<Child>,
    /// Readable once it has ended (pidfd_open(2)).
    end: AsyncFd<std::os::fd::OwnedFd>,
}

impl Running {
    /// Call it within the runtime that is to wait.
    fn start(mut command: Command) -> std::io::Result<Self> {
        let child = command.spawn()?;
        let mut guard = Reaper(Some(child));
        let pid = guard.0.as_ref().map(rustix::process::Pid::from_child);
        let pid = pid.ok_or_else(|| std::io::Error::other("it has ended"))?;
        let end = watched::watch(pidfd_open(pid, PidfdFlags::NONBLOCK)?)?;
        Ok(Self { child: guard.0.take(), end })
    }

    async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let _ = self.end.readable().await?;
        let mut child = self.child.take().ok_or_else(|| std::io::Error::other("it was waited for"))?;
        // Not waited for yet, it keeps its number. What it has started and left behind goes with it.
        end_group(child.id(), Signal::SIGKILL);
        child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(Reaper(self.child.take()));
    }
}

/// Ends a program and its group, and waits for it elsewhere, so that no zombie is left.
struct Reaper(Option<Child>);

impl Drop for Reaper {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        end_group(child.id(), Signal::SIGTERM);
        let spawned = std::thread::Builder::new().name("reaper".to_owned()).spawn(move || {
            let deadline = Instant::now() + GRACE;
            while Instant::now() < deadline && !has_ended(child.id()) {
                std::thread::sleep(Duration::from_millis(20));
            }
            end_group(child.id(), Signal::SIGKILL);
            let _ = child.wait();
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "cannot wait for the program of a check");
        }
    }
}

/// Whether a child has ended; it keeps its number until it is waited for.
fn has_ended(child: u32) -> bool {
    let Ok(pid) = i32::try_from(child) else { return true };
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    !matches!(waitid(Id::Pid(Pid::from_raw(pid)), flags), Ok(WaitStatus::StillAlive))
}

fn end_group(leader: u32, signal: Signal) {
    if let Ok(leader) = i32::try_from(leader) {
        // A group that is gone needs none.
        let _ = killpg(Pid::from_raw(leader), signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, haproxy_cfg::Reader, validate};

    async fn check(program: &str, limit: Duration) -> CheckReport {
        let (mut config, mut remarks) = (Config::default(), daemon::diagnostic::Diagnostics::new());
        let text = format!(
            "global\n external-check\ndefaults\n mode tcp\nlisten l\n bind 127.0.0.1:77\n option external-check\n \
             external-check path /usr/bin:/bin\n external-check command {program}\n server s 127.0.0.9:88 id 3 maxconn 5\n"
        );
        Reader::default().read(&text, "t.cfg", &mut config, &mut remarks);
        validate::validate(&mut config, &mut remarks);
        assert!(!remarks.has_errors(), "{remarks}");
        let process = crate::process::Process::new(config, "haproxy");
        let backend = process.backend("l").unwrap();
        let server = backend.server("s").unwrap();
        let place = server.check_place().unwrap();
        run(&backend, &server, &place, limit).await
    }

    fn script(folder: &std::path::Path, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let file = folder.join("check.sh");
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file.display().to_string()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_program_knows_whom_it_checks_and_its_status_decides() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let program = script(folder.path(), &format!("env | sort > {0}; echo \"$@\" >> {0}", out.display()));
        let report = check(&program, LONG).await;
        assert_eq!((report.status, report.code), (CheckStatus::ProcessOk, 0));
        let told = std::fs::read_to_string(out).unwrap();
        for line in [
            "HAPROXY_PROXY_ADDR=127.0.0.1",
            "HAPROXY_PROXY_ID=1",
            "HAPROXY_PROXY_NAME=l",
            "HAPROXY_PROXY_PORT=77",
            "HAPROXY_SERVER_ADDR=127.0.0.9",
            "HAPROXY_SERVER_CURCONN=0",
            "HAPROXY_SERVER_ID=3",
            "HAPROXY_SERVER_MAXCONN=5",
            "HAPROXY_SERVER_NAME=s",
            "HAPROXY_SERVER_PORT=88",
            "HAPROXY_SERVER_SSL=0",
            "PATH=/usr/bin:/bin",
            "127.0.0.1 77 127.0.0.9 88",
        ] {
            assert!(told.lines().any(|told| told == line), "{line} is missing: {told}");
        }
        // Nothing of our own environment.
        assert!(!told.contains("CARGO"), "{told}");
        let report = check(&script(folder.path(), "exit 3"), LONG).await;
        assert_eq!((report.status, report.code), (CheckStatus::ProcessError, 3));
        let report = check(&script(folder.path(), "kill -9 $$"), LONG).await;
        assert_eq!(report.status, CheckStatus::ProcessError);
        let report = check("/nonexistent/program", LONG).await;
        assert_eq!(report.status, CheckStatus::ProcessError);
        assert!(report.info.contains("/nonexistent/program"), "{}", report.info);
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let program = script(folder.path(), &format!("sleep 300 & echo $! > {}; wait", pid.display()));
        let running = tokio::spawn(async move { check(&program, Duration::from_secs(2)).await.status });
        assert_eq!(running.await.unwrap(), CheckStatus::ProcessTimeout);
        let child: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let begun = Instant::now();
        let is_there = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
        };
        while is_there() {
            assert!(begun.elapsed() < LONG, "the program's child is still there");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
