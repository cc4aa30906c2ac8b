//! A started program: its output goes to a log file, and it dies with its owner.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// One child process. Dropping it kills it.
///
/// The child runs in a process group of its own, so that Ctrl-C reaches only the owner, who decides.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; standard output and error are appended to `log`.
    ///
    /// # Errors
    /// The log cannot be opened or the program cannot be started.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = append(log)?;
        let err = out.try_clone().context("duplicate a log file")?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("start {program} for {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The name given at the start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything written so far to the log file (which earlier processes may have begun).
    #[must_use]
    pub fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        signal(self.pid(), Signal::SIGTERM);
    }

    /// Sends SIGKILL to the process and all its descendants, then waits for it.
    ///
    /// All of them are frozen first, so that none reacts to the death of another: this is what the
    /// processes of a host see when it loses power.
    pub fn kill(&mut self) {
        if self.is_running() {
            kill_tree(&[self.pid()]);
        }
        let _ = self.child.wait();
    }

    /// Waits for the end, at most for `limit`.
    ///
    /// # Errors
    /// It still runs; the log's end is part of the message.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("{} still runs after {limit:?}; its log ends:\n{}", self.name, tail(&self.log(), 20));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM, and SIGKILL when that takes longer than `limit`.
    pub fn stop(&mut self, limit: Duration) {
        if self.is_running() {
            self.terminate();
            if self.wait(limit).is_err() {
                self.kill();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the log of {} ends:\n{}", self.name, tail(&self.log(), 30));
        }
    }
}

/// Opens a file for appending, with its folders.
///
/// # Errors
/// It cannot be created.
pub fn append(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// A file's text; nothing when there is none.
#[must_use]
pub fn read_lossy(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The last `lines` lines of `text`.
#[must_use]
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Sends a signal; a process that is gone already is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Whether a process with this id exists and is not a zombie.
#[must_use]
pub fn exists(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let over = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
    // The first thread may be over while another still waits for its disk.
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    !over || threads() > 1
}

/// The children of a process, from /proc.
fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|line| line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// The process ids given, and all their descendants.
#[must_use]
pub fn descendants(pids: &[u32]) -> Vec<u32> {
    let mut all = Vec::new();
    let mut todo = pids.to_vec();
    while let Some(pid) = todo.pop() {
        if !all.contains(&pid) {
            all.push(pid);
            todo.extend(children(pid));
        }
    }
    all
}

/// SIGKILL for these processes and their descendants, frozen first.
pub fn kill_tree(pids: &[u32]) {
    let all = descendants(pids);
    for sign in [Signal::SIGSTOP, Signal::SIGKILL] {
        for pid in &all {
            signal(*pid, sign);
        }
    }
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// It cannot be started or fails; its output is part of the message.
pub fn run(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start `{line}`"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed ({}): {}{text}", how(output.status), error);
    }
    Ok(text)
}

/// A command as a person would type it.
#[must_use]
pub fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_process_takes_its_children_with_it() {
        let log = std::env::temp_dir().join(format!("xtask-process-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]);
        let process = Process::spawn("shell", command, &log).unwrap();
        let child: u32 = super::super::until(Duration::from_secs(5), "the child's id", || {
            process.log().trim().parse().ok()
        })
        .unwrap();
        assert!(exists(child));
        drop(process);
        super::super::wait::until_true(Duration::from_secs(5), "the child's end", || !exists(child)).unwrap();
        let _ = std::fs::remove_file(log);
    }

    #[test]
    fn a_failed_command_is_reported_with_its_output() {
        let error = run(Command::new("sh").args(["-c", "echo out; echo bad >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit 3") && text.contains("bad") && text.contains("out"), "{text}");
    }

    #[test]
    fn tail_keeps_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }
}
