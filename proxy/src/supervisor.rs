//! The task that keeps the process: signals and orders, from the start to the end.

use std::sync::Arc;
use std::time::Duration;

use daemon::exit::Exit;
use daemon::notify;
use daemon::run::{self, Failure};
use daemon::shutdown::{Shutdown, Stop};
use daemon::signals::{Signal, Signals};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::commands;
use crate::config::{Global, added};
use crate::control::{Report, Task};
use crate::keeper::Keeper;
use crate::listener::Listeners;
use crate::process::Process;
use crate::reload::{self, Prepared, Source};
use crate::upgrade;
use crate::workers::{self, Running, Turn};
use crate::{rebalance, runtime_api, stats};

/// How long a new program may take to start before an upgrade counts as failed.
const UPGRADE_LIMIT: Duration = Duration::from_secs(60);

/// What the supervisor needs to know about the start.
#[derive(Debug)]
pub struct Start {
    /// The stats sockets.
    pub sockets: Vec<runtime_api::Wanted>,
    /// What to read again.
    pub source: Source,
    /// Where to read it.
    pub keeper: Keeper,
    /// Root was given up, or the root directory: the program cannot be started anew from inside.
    pub is_confined: bool,
    /// Processes to be replaced: asked to finish once this one works.
    pub finish: Vec<u32>,
    /// Processes to be stopped then.
    pub stop: Vec<u32>,
}

#[derive(Debug)]
struct Supervisor {
    process: Arc<Process>,
    running: Running,
    shutdown: Shutdown,
    source: Source,
    keeper: Keeper,
    is_confined: bool,
    /// Settings as they were at the start.
    first: Global,
    /// A reload on its way, and who waits for it.
    preparing: Option<JoinHandle<Result<Prepared, Failure>>>,
    waiting: Vec<oneshot::Sender<Report>>,
    /// Reloads asked for while one is on its way: the files may have changed since they were read.
    next: Vec<oneshot::Sender<Report>>,
    /// Who waits for an upgrade.
    upgrading: Option<oneshot::Sender<Report>>,
    /// To those who serve the stats sockets.
    stats_sockets: mpsc::UnboundedSender<Vec<runtime_api::Wanted>>,
}

enum Event {
    Signal(Signal),
    Pause,
    Resume,
    Order(Task),
    Prepared(Box<Result<Prepared, Failure>>),
    Watchdog,
}

/// How the process goes on after its supervisor's loop.
enum End {
    /// Connections may finish.
    Soft,
    Immediate,
}

/// Runs until the end. SIGUSR1 finishes connections first, SIGTERM and SIGINT do not, as with HAProxy.
///
/// # Errors
/// When something needed at the start cannot be had.
pub async fn live(process: Arc<Process>, listeners: Listeners, start: Start) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Exit::OsError, format!("cannot receive signals: {error}"));
    let mut signals = Signals::new().map_err(failed)?;
    let mut pausing = signal(SignalKind::from_raw(nix::libc::SIGTTOU)).map_err(failed)?;
    let mut resuming = signal(SignalKind::from_raw(nix::libc::SIGTTIN)).map_err(failed)?;
    let mut orders = process.control.take().ok_or_else(|| Failure::new(Exit::Software, "started twice"))?;
    let (shutdown, token) = Shutdown::new();
    drop(token);
    let running = workers::start(&process, listeners, &shutdown)?;
    let (stats_sockets, changes) = mpsc::unbounded_channel();
    let (keeper, stop) = (start.keeper.clone(), shutdown.token());
    tokio::spawn(runtime_api::serve(process.clone(), start.sockets, changes, keeper, stop));
    tokio::spawn(stats::history::run(process.clone(), shutdown.token()));
    tokio::spawn(rebalance::run(process.clone(), shutdown.token()));
    announce(&process);
    start.keeper.later({
        let (finish, stop) = (start.finish, start.stop);
        move || upgrade::retire(&finish, &stop)
    });
    let mut supervisor = Supervisor {
        first: Global::clone(&process.global()),
        process,
        running,
        shutdown,
        source: start.source,
        keeper: start.keeper,
        is_confined: start.is_confined,
        preparing: None,
        waiting: Vec::new(),
        next: Vec::new(),
        upgrading: None,
        stats_sockets,
    };
    let end = supervisor.run(&mut signals, &mut pausing, &mut resuming, &mut orders).await;
    // Whoever still has an order is told that it is too late.
    drop(orders);
    supervisor.end(end, &mut signals).await;
    Ok(())
}

impl Supervisor {
    async fn run(
        &mut self,
        signals: &mut Signals,
        pausing: &mut Stream,
        resuming: &mut Stream,
        orders: &mut mpsc::Receiver<Task>,
    ) -> End {
        notify::ready(&self.status());
        let mut watchdog = notify::watchdog_interval().map(tokio::time::interval);
        loop {
            let event = tokio::select! {
                signal = signals.recv() => Event::Signal(signal),
                Some(()) = pausing.recv() => Event::Pause,
                Some(()) = resuming.recv() => Event::Resume,
                Some(order) = orders.recv() => Event::Order(order),
                prepared = finished(&mut self.preparing) => Event::Prepared(Box::new(prepared)),
                () = tick(watchdog.as_mut()) => Event::Watchdog,
            };
            match event {
                Event::Signal(Signal::Terminate | Signal::Interrupt | Signal::Quit) => {
                    notify::stopping();
                    return End::Immediate;
                }
                Event::Signal(Signal::User1) => {
                    notify::stopping();
                    return End::Soft;
                }
                Event::Signal(Signal::Hangup) => {
                    commands::dump_states(&self.process);
                    self.reload(None);
                }
                Event::Signal(Signal::User2) => self.reload(None),
                Event::Pause => self.running.pause(),
                Event::Resume => self.running.resume(),
                Event::Prepared(prepared) => self.prepared(*prepared),
                Event::Watchdog => notify::watchdog(),
                Event::Order(Task::Retire(successor, reply)) => {
                    self.hand_over_to(successor, reply);
                    return End::Soft;
                }
                Event::Order(order) => self.obey(order),
            }
        }
    }

    fn obey(&mut self, order: Task) {
        match order {
            Task::Reload(reply) => self.reload(Some(reply)),
            Task::Upgrade(reply) => self.upgrade(reply),
            Task::Sockets(reply) => {
                // Who asked may be gone.
                let _ = reply.send(self.running.listeners.export());
            }
            Task::UpgradeFailed(report) => {
                if let Some(waiting) = self.upgrading.take() {
                    tracing::error!(reason = report.text, "upgrade failed");
                    let _ = waiting.send(report);
                }
            }
            Task::ServersChanged => self.running.update_checks(),
            Task::Remember(reply) => self.remember(reply),
            Task::Pause(name, reply) => {
                let _ = reply.send(self.running.turn_frontend(&name, Turn::Pause));
            }
            Task::Resume(name, reply) => {
                let _ = reply.send(self.running.turn_frontend(&name, Turn::Resume));
            }
            Task::Stop(name, reply) => {
                let _ = reply.send(self.running.turn_frontend(&name, Turn::Stop));
            }
            // Handled by the loop.
            Task::Retire(..) => {}
        }
    }

    /// Writes the servers that were added at run time into their file, where files are as they were at the start.
    fn remember(&self, reply: oneshot::Sender<Report>) {
        let Some(file) = self.process.global().runtime_servers_file.clone() else {
            let _ = reply.send(Report::accepted(""));
            return;
        };
        let text = self.process.added_servers(&file);
        let keeper = self.keeper.clone();
        tokio::spawn(async move {
            let written = keeper.run(move || added::write(&file, &text)).await;
            let report = match written {
                Some(Ok(())) => Report::accepted(""),
                Some(Err(why)) => Report::refused(why),
                None => Report::refused("writing failed unexpectedly"),
            };
            // Who asked may be gone.
            let _ = reply.send(report);
        });
    }

    /// Begins to prepare a reload, or notes that another one is wanted after the one on its way.
    fn reload(&mut self, reply: Option<oneshot::Sender<Report>>) {
        if self.preparing.is_some() {
            // A closed sender marks the wish of somebody who does not wait, a signal.
            self.next.push(reply.unwrap_or_else(|| oneshot::channel().0));
            return;
        }
        self.waiting.extend(reply);
        notify::reloading();
        tracing::info!("reading the configuration again");
        let keys = self.running.listeners.all.iter().map(|listener| listener.key.clone()).collect();
        let work = reload::prepare(
            self.process.clone(),
            self.keeper.clone(),
            self.source.clone(),
            keys,
            self.running.closing(),
        );
        self.preparing = Some(tokio::spawn(work));
    }

    fn prepared(&mut self, prepared: Result<Prepared, Failure>) {
        let report = match prepared {
            Ok(mut prepared) => {
                let sockets = prepared.take_stats_sockets();
                let report =
                    reload::apply(&self.process, &mut self.running, &self.keeper, prepared, &self.first);
                if report.is_some() {
                    // They are served for as long as the process lives.
                    let _ = self.stats_sockets.send(sockets);
                }
                report
            }
            Err(failure) => Some(reload::refuse(&failure)),
        };
        let Some(report) = report else {
            // Servers came or went at run time meanwhile.
            self.reload(None);
            return;
        };
        for reply in self.waiting.drain(..) {
            // Who asked may be gone.
            let _ = reply.send(report.clone());
        }
        notify::ready(&self.status());
        if !self.next.is_empty() {
            self.waiting = std::mem::take(&mut self.next);
            self.reload(None);
        }
    }

    fn upgrade(&mut self, reply: oneshot::Sender<Report>) {
        let refusal = if self.is_confined {
            Some(upgrade::CONFINED.to_owned())
        } else if self.upgrading.as_ref().is_some_and(|waiting| !waiting.is_closed()) {
            Some("an upgrade is on its way already".to_owned())
        } else {
            None
        };
        if let Some(text) = refusal {
            let _ = reply.send(Report::refused(text));
            return;
        }
        let control = self.process.control.clone();
        let failed = move |report| control.upgrade_failed(report);
        match upgrade::spawn(std::process::id(), UPGRADE_LIMIT, failed) {
            Ok(pid) => {
                tracing::info!(pid, "the new program starts");
                self.upgrading = Some(reply);
            }
            Err(error) => {
                let _ = reply.send(Report::refused(format!("cannot start the program anew: {error}")));
            }
        }
    }

    /// Another process listens now.
    fn hand_over_to(&mut self, successor: Option<u32>, reply: oneshot::Sender<Report>) {
        if let Some(pid) = successor {
            tracing::info!(pid, "another process has taken over");
            notify::main_pid(pid);
        } else {
            notify::stopping();
        }
        let report = Report::accepted(match successor {
            Some(pid) => format!("process {pid} has taken over from process {}", std::process::id()),
            None => "finishing".to_owned(),
        });
        if let Some(waiting) = self.upgrading.take() {
            let _ = waiting.send(report.clone());
        }
        let _ = reply.send(report);
    }

    fn status(&self) -> String {
        format!("{} sections", self.process.sections().len())
    }

    async fn end(mut self, end: End, signals: &mut Signals) {
        self.process.set_stopping();
        for section in self.process.sections().iter() {
            section.say_stopped();
        }
        if let End::Soft = end {
            tracing::info!(
                connections = self.running.connections(),
                "soft stop: waiting for connections to end"
            );
            let grace = self.process.global().grace;
            let limit = self.process.global().hard_stop_after;
            tokio::select! {
                () = async {
                    // `grace`: clients still come in for so long.
                    tokio::time::sleep(grace.unwrap_or_default()).await;
                    self.running.drained(&self.shutdown, limit).await;
                } => {}
                () = run::next_stop(signals, &self.shutdown) => {}
            }
        }
        self.shutdown.stop(Stop::Now);
        self.running.join().await;
        tracing::info!("stopped");
    }
}

async fn finished(
    preparing: &mut Option<JoinHandle<Result<Prepared, Failure>>>,
) -> Result<Prepared, Failure> {
    let Some(task) = preparing else { return std::future::pending().await };
    let result = task.await;
    *preparing = None;
    result.unwrap_or_else(|error| Err(Failure::new(Exit::Software, format!("reload failed: {error}"))))
}

async fn tick(interval: Option<&mut tokio::time::Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn announce(process: &Process) {
    for section in process.sections().iter() {
        let Some(frontend) = &section.frontend else { continue };
        for bind in &section.config.binds {
            tracing::info!(
                section = %frontend.name,
                address = %bind.address,
                servers = frontend.backend.as_ref().map_or(0, |backend| backend.servers().len()),
                maxconn = frontend.limit,
                "listening"
            );
        }
    }
}
