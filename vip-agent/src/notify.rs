//! Notify scripts and the notify FIFO, one after the other beside the timers.
//!
//! Arguments as keepalived's: `notify` gets `INSTANCE|GROUP NAME STATE PRIORITY` behind its own, the
//! scripts of one state get their own only.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use vrrp::NotifyState;

use crate::config::{Command, Global, NotifyConfig, ScriptUser};
use crate::process;

mod fifo;

use fifo::Fifo;

/// A script that takes longer is ended, so that those behind it are told at all.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// How long a stop waits for the scripts of the last transitions.
const FAREWELL: Duration = Duration::from_secs(5);
/// Transitions waiting; a machine that flaps faster than its scripts run loses the newest.
const WAITING: usize = 1024;

/// One transition of an instance or a group.
#[derive(Debug)]
pub(crate) struct Notification {
    pub(crate) is_group: bool,
    pub(crate) name: String,
    pub(crate) state: NotifyState,
    pub(crate) priority: u8,
    pub(crate) config: NotifyConfig,
    pub(crate) user: Option<ScriptUser>,
}

impl Notification {
    fn kind(&self) -> &'static str {
        if self.is_group { "GROUP" } else { "INSTANCE" }
    }

    /// The scripts to run, with the arguments to add.
    fn commands(&self) -> Vec<(&Command, Vec<String>)> {
        let specific = match self.state {
            NotifyState::Master => &self.config.master,
            NotifyState::Backup => &self.config.backup,
            NotifyState::Fault => &self.config.fault,
            NotifyState::Stop => &self.config.stop,
        };
        let described = || {
            [self.kind(), &self.name, self.state.word(), &self.priority.to_string()]
                .map(str::to_owned)
                .to_vec()
        };
        let specific = specific.iter().map(|command| (command, Vec::new()));
        let any = self.config.any.iter().map(|command| (command, described()));
        specific.chain(any).collect()
    }

    fn fifo_line(&self) -> String {
        format!("{} \"{}\" {} {}\n", self.kind(), self.name, self.state.word(), self.priority)
    }
}

/// What the task is to do.
enum Order {
    /// Use this pipe, and let this program read it.
    Fifo(Option<PathBuf>, Option<Command>, Option<ScriptUser>),
    Tell(Notification),
}

/// The queue of notifications and the task that works it off.
pub(crate) struct Notifier {
    queue: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Notifier {
    pub(crate) fn start() -> Self {
        let (queue, mut waiting) = mpsc::channel::<Order>(WAITING);
        let task = tokio::spawn(async move {
            let mut fifo = None;
            while let Some(order) = waiting.recv().await {
                match order {
                    Order::Fifo(path, script, user) => {
                        end(fifo.take()).await;
                        fifo = path.and_then(|path| Fifo::open(&path, script, user));
                    }
                    Order::Tell(notification) => tell(&notification, fifo.as_mut()).await,
                }
            }
            end(fifo).await;
        });
        Self { queue, task }
    }

    /// Opens the FIFO of a configuration at once, so that a reader may come before the first line.
    pub(crate) fn use_fifo(&self, global: &Global) {
        let (path, script) = (global.notify_fifo.clone(), global.notify_fifo_script.clone());
        self.order(Order::Fifo(path, script, global.script_user));
    }

    /// Queues one.
    pub(crate) fn tell(&self, notification: Notification) {
        self.order(Order::Tell(notification));
    }

    fn order(&self, order: Order) {
        if let Err(error) = self.queue.try_send(order) {
            tracing::error!(%error, "notify scripts cannot keep up; this transition is not told");
        }
    }

    /// Waits for what is queued, within bounds.
    pub(crate) async fn finish(self) {
        drop(self.queue);
        if tokio::time::timeout(FAREWELL, self.task).await.is_err() {
            tracing::warn!("notify scripts did not end in time");
        }
    }
}

async fn end(fifo: Option<Fifo>) {
    if let Some(fifo) = fifo {
        fifo.close().await;
    }
}

async fn tell(notification: &Notification, fifo: Option<&mut Fifo>) {
    if let Some(fifo) = fifo {
        fifo.write(&notification.fifo_line());
    }
    for (command, extra) in notification.commands() {
        let outcome = process::run(command, &extra, notification.user, TIME_LIMIT, || {}).await;
        let (name, state) = (&notification.name, notification.state.word());
        if outcome == process::Outcome::Success {
            tracing::debug!(name, state, script = command.argv[0], "notify script done");
        } else {
            tracing::warn!(name, state, script = command.argv[0], "notify script {outcome}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(config: NotifyConfig) -> Notification {
        Notification {
            is_group: false,
            name: "VI_1".into(),
            state: NotifyState::Master,
            priority: 100,
            config,
            user: None,
        }
    }

    #[test]
    fn arguments_are_keepaliveds() {
        let command = |word: &str| Some(Command { argv: vec![word.into()], user: None });
        let config = NotifyConfig {
            any: command("any"),
            master: command("master"),
            backup: command("backup"),
            ..NotifyConfig::default()
        };
        let told = notification(config);
        let shown: Vec<String> = told
            .commands()
            .iter()
            .map(|(command, extra)| format!("{} {}", command.argv[0], extra.join(" ")))
            .collect();
        assert_eq!(shown, ["master ", "any INSTANCE VI_1 MASTER 100"]);
        assert_eq!(told.fifo_line(), "INSTANCE \"VI_1\" MASTER 100\n");
    }

    #[tokio::test]
    async fn transitions_are_told_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("log");
        let script = format!("echo $3 >> {}; sleep 0.05", file.display());
        let any = Command { argv: vec!["/bin/sh".into(), "-c".into(), script, "notify".into()], user: None };
        let notifier = Notifier::start();
        for state in [NotifyState::Backup, NotifyState::Master, NotifyState::Fault] {
            let config = NotifyConfig { any: Some(any.clone()), ..NotifyConfig::default() };
            notifier.tell(Notification { state, ..notification(config) });
        }
        notifier.finish().await;
        assert_eq!(std::fs::read_to_string(file).unwrap(), "BACKUP\nMASTER\nFAULT\n");
    }
}
