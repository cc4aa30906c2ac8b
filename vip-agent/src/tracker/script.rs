//! `vrrp_script`: when each runs, and what its results mean.
//!
//! Start times are absolute: one interval after the last start, whatever the run took. A run that is not
//! over at the next start is not joined by a second one.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use vrrp::priority::TrackStatus;
use vrrp::script::ScriptState;

use crate::config::{ScriptConfig, ScriptUser};
use crate::process::{self, Outcome};
use crate::tracker::builtin::{self, Probe};

/// How soon to look again whether a run that timed out has ended.
const ENDING: Duration = Duration::from_millis(20);

/// A result on its way to the agent.
#[derive(Debug)]
pub(crate) struct ScriptResult {
    name: String,
    /// Tells results of a run before a reload from those after it.
    generation: u64,
    said: Said,
}

/// What a result says.
#[derive(Debug)]
enum Said {
    /// A run has timed out; its process is still being ended.
    TimedOut,
    /// A run is over.
    Finished(Outcome),
    /// A process that was counted has ended: count again now.
    LookAgain,
}

/// All scripts of the configuration.
pub(crate) struct Scripts {
    entries: Vec<Entry>,
    results: mpsc::UnboundedSender<ScriptResult>,
    next_generation: u64,
}

struct Entry {
    config: ScriptConfig,
    state: ScriptState,
    next_at: Duration,
    generation: u64,
    run: Option<JoinHandle<()>>,
    /// Waits for the end of a process that was counted.
    watch: Option<JoinHandle<()>>,
    last: Option<Outcome>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        for task in self.run.iter().chain(&self.watch) {
            task.abort();
        }
    }
}

impl Entry {
    /// Lets the end of a process that counts be known at once, instead of at the next look.
    fn watch_processes(&mut self, results: &mpsc::UnboundedSender<ScriptResult>) {
        let Some(Probe::Process { name, at_least }) = self.config.probe.clone() else { return };
        if self.watch.as_ref().is_some_and(|watch| !watch.is_finished()) {
            return;
        }
        let (script, results) = (self.config.name.clone(), results.clone());
        self.watch = Some(tokio::spawn(async move {
            builtin::one_ends(&name, at_least).await;
            let _ = results.send(ScriptResult { name: script, generation: 0, said: Said::LookAgain });
        }));
    }
}

/// What `status` shows of a script.
#[derive(Clone, Debug)]
pub(crate) struct ScriptView<'a> {
    pub(crate) config: &'a ScriptConfig,
    pub(crate) status: TrackStatus,
    pub(crate) last: Option<&'a Outcome>,
    /// The number of a tracked file.
    pub(crate) value: Option<i32>,
}

impl Scripts {
    /// No scripts yet; results come out of the receiver.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<ScriptResult>) {
        let (results, receiver) = mpsc::unbounded_channel();
        (Self { entries: Vec::new(), results, next_generation: 0 }, receiver)
    }

    /// Takes the scripts of a configuration. Those it had keep their status.
    pub(crate) fn configure(&mut self, configs: &[ScriptConfig], now: Duration) {
        let mut before = std::mem::take(&mut self.entries);
        for config in configs {
            let same = before.iter().position(|entry| entry.config.name == config.name);
            let entry = match same.map(|at| before.swap_remove(at)) {
                Some(mut entry) => {
                    if entry.config != *config {
                        entry.state.reconfigure(config.rise, config.fall);
                        entry.next_at = now;
                        entry.config = config.clone();
                        if let Some(watch) = entry.watch.take() {
                            watch.abort();
                        }
                    }
                    entry
                }
                None => Entry {
                    state: ScriptState::new(config.rise, config.fall, config.init_fail),
                    config: config.clone(),
                    next_at: now,
                    generation: 0,
                    run: None,
                    watch: None,
                    last: None,
                },
            };
            self.entries.push(entry);
        }
    }

    /// When the next script is due.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.entries.iter().map(|entry| entry.next_at).min()
    }

    /// Starts what is due.
    pub(crate) fn run_due(&mut self, now: Duration, default_user: Option<ScriptUser>) {
        for entry in self.entries.iter_mut().filter(|entry| entry.next_at <= now) {
            let interval = entry.config.interval;
            entry.next_at = (entry.next_at + interval).max(now);
            if entry.run.is_some() {
                if entry.last == Some(Outcome::TimedOut) {
                    // It is being ended; the next run starts right after.
                    entry.next_at = now + ENDING;
                    continue;
                }
                tracing::info!(script = entry.config.name, "still running, not started again");
                // Wait a whole interval; a zero-length gap would only repeat this line.
                entry.next_at = entry.next_at.max(now + interval);
                continue;
            }
            self.next_generation += 1;
            entry.generation = self.next_generation;
            let (config, generation) = (entry.config.clone(), entry.generation);
            let results = self.results.clone();
            entry.run = Some(tokio::spawn(async move {
                let report = |said| {
                    let name = config.name.clone();
                    // The agent may be gone; then nobody needs the result.
                    let _ = results.send(ScriptResult { name, generation, said });
                };
                let outcome = match &config.probe {
                    Some(probe) => builtin::ask(probe, config.timeout).await,
                    None => {
                        let early = || report(Said::TimedOut);
                        process::run(&config.command, &[], default_user, config.timeout, early).await
                    }
                };
                report(Said::Finished(outcome));
            }));
        }
    }

    /// Takes a result; answers whether the status of a script changed.
    pub(crate) fn result(&mut self, result: ScriptResult) -> bool {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.config.name == result.name) else {
            return false;
        };
        let outcome = match result.said {
            Said::LookAgain => {
                // Due at once; a run that is under way has perhaps not seen it.
                entry.next_at = Duration::ZERO;
                return false;
            }
            _ if entry.generation != result.generation => return false,
            Said::TimedOut => Outcome::TimedOut,
            Said::Finished(outcome) => {
                entry.run = None;
                if outcome == Outcome::TimedOut && entry.config.probe.is_none() {
                    // Counted when it was reported first.
                    return false;
                }
                outcome
            }
        };
        if entry.last.as_ref() != Some(&outcome) {
            tracing::info!(script = entry.config.name, "script {outcome}");
        }
        let good = matches!(outcome, Outcome::Success | Outcome::Value(_));
        if good {
            entry.watch_processes(&self.results);
        }
        let changed = entry.state.outcome(good);
        let number = matches!(outcome, Outcome::Value(_)) && entry.last.as_ref() != Some(&outcome);
        entry.last = Some(outcome);
        if let Some(status) = changed {
            tracing::info!(script = entry.config.name, ?status, "check status changed");
        }
        changed.is_some() || number
    }

    /// Status of one script; unknown when there is none of this name.
    pub(crate) fn view(&self, name: &str) -> Option<ScriptView<'_>> {
        self.entries.iter().find(|entry| entry.config.name == name).map(|entry| ScriptView {
            config: &entry.config,
            status: entry.state.status(),
            last: entry.last.as_ref(),
            value: match entry.last {
                Some(Outcome::Value(number)) => Some(number),
                _ => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Command;

    fn script(text: &str, timeout_ms: u64) -> ScriptConfig {
        ScriptConfig {
            name: "chk".into(),
            command: Command { argv: vec!["/bin/sh".into(), "-c".into(), text.into()], user: None },
            probe: None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_millis(timeout_ms),
            rise: 1,
            fall: 1,
            weight: -20,
            reverse: false,
            init_fail: false,
        }
    }

    #[tokio::test]
    async fn a_result_becomes_a_status_and_starts_keep_their_beat() {
        let (mut scripts, mut results) = Scripts::new();
        let at = Duration::from_secs;
        scripts.configure(&[script("exit 0", 5000)], at(10));
        scripts.run_due(at(10), None);
        assert_eq!(scripts.next_deadline(), Some(at(12)));
        assert!(scripts.result(results.recv().await.unwrap()));
        assert_eq!(scripts.view("chk").unwrap().status, TrackStatus::Good);
        scripts.run_due(Duration::from_millis(12_300), None);
        assert_eq!(scripts.next_deadline(), Some(at(14)), "late by 0.3 s, the beat stays");
        assert!(!scripts.result(results.recv().await.unwrap()), "no change");
    }

    #[tokio::test]
    async fn a_hanging_script_fails_at_its_timeout_and_is_not_started_twice() {
        let (mut scripts, mut results) = Scripts::new();
        scripts.configure(&[script("sleep 60", 100)], Duration::ZERO);
        scripts.run_due(Duration::ZERO, None);
        let early = results.recv().await.unwrap();
        assert!(matches!(early.said, Said::TimedOut));
        assert!(scripts.result(early));
        assert_eq!(scripts.view("chk").unwrap().status, TrackStatus::Failed);
        scripts.run_due(Duration::from_secs(2), None);
        assert_eq!(
            scripts.next_deadline(),
            Some(Duration::from_secs(2) + ENDING),
            "not joined by a second one"
        );
        assert!(!scripts.result(results.recv().await.unwrap()));
        assert!(scripts.entries[0].run.is_none());
        scripts.run_due(Duration::from_secs(2) + ENDING, None);
        assert!(scripts.entries[0].run.is_some(), "started as soon as the last one has ended");
    }

    #[tokio::test]
    async fn the_end_of_a_tracked_process_is_known_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("tracked-program");
        std::fs::copy("/bin/sleep", &program).unwrap();
        let mut process = std::process::Command::new(&program).arg("600").spawn().unwrap();
        let mut config = script("", 5000);
        config.probe = Some(Probe::Process { name: "tracked-program".into(), at_least: 1 });
        // Nobody waits that long: only the end itself can bring the second look.
        config.interval = Duration::from_secs(100_000);
        let (mut scripts, mut results) = Scripts::new();
        scripts.configure(&[config], Duration::ZERO);
        // The new program may still have the name of this one.
        while std::fs::read_to_string(format!("/proc/{}/comm", process.id())).unwrap() != "tracked-program\n"
        {
            tokio::task::yield_now().await;
        }
        scripts.run_due(Duration::ZERO, None);
        assert!(scripts.result(results.recv().await.unwrap()));
        assert_eq!(scripts.view("chk").unwrap().status, TrackStatus::Good);
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(!scripts.result(results.recv().await.unwrap()));
        assert_eq!(scripts.next_deadline(), Some(Duration::ZERO));
        scripts.run_due(Duration::from_secs(1), None);
        assert!(scripts.result(results.recv().await.unwrap()));
        assert_eq!(scripts.view("chk").unwrap().status, TrackStatus::Failed);
    }

    #[tokio::test]
    async fn reload_keeps_the_status_of_a_script_it_knows() {
        let (mut scripts, mut results) = Scripts::new();
        scripts.configure(&[script("exit 1", 1000)], Duration::ZERO);
        scripts.run_due(Duration::ZERO, None);
        scripts.result(results.recv().await.unwrap());
        let mut changed = script("exit 1", 1000);
        changed.fall = 3;
        scripts.configure(&[changed], Duration::from_secs(1));
        assert_eq!(scripts.view("chk").unwrap().status, TrackStatus::Failed);
        scripts.configure(&[], Duration::from_secs(1));
        assert!(scripts.view("chk").is_none());
    }
}
