//! Running somebody's program: as argv without a shell, in its own process group, with a time limit, as
//! another user when told.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;

use crate::config::{Command, ScriptUser};

/// Programs get this search path and nothing else from the agent's environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Time between the polite signal and the last one.
const GRACE: Duration = Duration::from_millis(500);

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit status 0.
    Success,
    /// A tracked file holds this number.
    Value(i32),
    /// Another exit status.
    Exited(i32),
    /// Killed by a signal, not ours.
    Signalled(i32),
    /// A built-in check failed, with the reason.
    Failed(String),
    /// Not done in time.
    TimedOut,
    /// Could not be started.
    CannotRun(String),
}

impl Outcome {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(0), _) => Self::Success,
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Signalled(signal),
            (None, None) => Self::Exited(-1),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Success => f.write_str("succeeded"),
            Self::Value(number) => write!(f, "holds {number}"),
            Self::Exited(code) => write!(f, "exited with status {code}"),
            Self::Signalled(signal) => write!(f, "was killed by signal {signal}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::CannotRun(reason) => write!(f, "cannot be run: {reason}"),
        }
    }
}

/// The process group of a running program; dropping it kills the whole group.
struct Group {
    leader: Option<Pid>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // The group may be gone already.
            let _ = killpg(leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// Starts `command` with `extra` arguments behind its own.
fn start(command: &Command, extra: &[String], default_user: Option<ScriptUser>) -> io::Result<Child> {
    let (program, arguments) =
        command.argv.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    let mut builder = tokio::process::Command::new(program);
    builder.args(arguments).args(extra).env_clear().env("PATH", PATH).process_group(0);
    builder.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    if let Some(user) = command.user.or(default_user) {
        let ours = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        if ours != (user.uid, user.gid) {
            builder.uid(user.uid).gid(user.gid);
        }
    }
    builder.spawn()
}

/// Runs `command` to its end. When `timeout` is over, `on_timeout` is called at once, then the group gets
/// SIGTERM, and SIGKILL half a second later. Dropping the future kills the group too.
pub(crate) async fn run(
    command: &Command,
    extra: &[String],
    default_user: Option<ScriptUser>,
    timeout: Duration,
    on_timeout: impl FnOnce(),
) -> Outcome {
    let mut child = match start(command, extra, default_user) {
        Ok(child) => child,
        Err(error) => return Outcome::CannotRun(error.to_string()),
    };
    let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let mut group = Group { leader };
    match tokio::time::timeout(timeout, child.wait()).await {
        Ok(Ok(status)) => {
            // What it started may go on running, as after a shell's `&`.
            group.leader = None;
            Outcome::of(status)
        }
        Ok(Err(error)) => Outcome::CannotRun(error.to_string()),
        Err(_) => {
            on_timeout();
            group.signal(Signal::SIGTERM);
            let ended = tokio::time::timeout(GRACE, child.wait()).await;
            group.signal(Signal::SIGKILL);
            if ended.is_err() {
                // SIGKILL cannot be refused.
                let _ = child.wait().await;
            }
            Outcome::TimedOut
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        Command { argv: vec!["/bin/sh".into(), "-c".into(), script.into()], user: None }
    }

    async fn outcome(command: &Command, timeout_ms: u64) -> Outcome {
        run(command, &[], None, Duration::from_millis(timeout_ms), || {}).await
    }

    #[tokio::test]
    async fn outcomes_are_told_apart() {
        assert_eq!(outcome(&shell("exit 0"), 5000).await, Outcome::Success);
        assert_eq!(outcome(&shell("exit 7"), 5000).await, Outcome::Exited(7));
        assert_eq!(outcome(&shell("kill -9 $$"), 5000).await, Outcome::Signalled(9));
        let missing = Command { argv: vec!["/nonexistent".into()], user: None };
        assert!(matches!(outcome(&missing, 5000).await, Outcome::CannotRun(_)));
    }

    #[tokio::test]
    async fn a_timeout_kills_the_whole_group() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("pid");
        // The shell ignores SIGTERM, and its child would live for a minute.
        let script = format!("trap '' TERM; sleep 60 & echo $! > {}; wait", mark.display());
        assert_eq!(outcome(&shell(&script), 300).await, Outcome::TimedOut);
        let pid: i32 = std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The signal is sent; on a busy machine its end takes a moment.
        let ended = async {
            while !(stat().is_empty() || stat().contains(") Z ")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap_or_else(|_| panic!("{}", stat()));
    }

    #[tokio::test]
    async fn arguments_reach_the_program_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("out");
        let script = format!("printf '%s|' \"$0\" \"$@\" > {}", file.display());
        let mut command = shell(&script);
        command.argv.push("a b; c".into());
        let extra = ["INSTANCE".to_owned(), "VI_1".to_owned()];
        let ended = run(&command, &extra, None, Duration::from_secs(5), || {}).await;
        assert_eq!(ended, Outcome::Success);
        assert_eq!(std::fs::read_to_string(file).unwrap(), "a b; c|INSTANCE|VI_1|");
    }
}
