//! The program from its arguments to its end: read, bind, drop privileges, run, stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use daemon::exit::Exit;
use daemon::logging::LogTarget;
use daemon::privilege::{self, Identity, PrivilegeError};
use daemon::run::{self, Failure};
use daemon::shutdown::{Shutdown, Stop};
use daemon::signals::{Signal, Signals};

use crate::cli::{self, Args, Command};
use crate::config::{self, Config, Global};
use crate::listener::Listeners;
use crate::process::Process;
use crate::workers::{self, Running};
use crate::{commands, control, runtime_api, stats, syslog};

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let name = run::program_name();
    let args = match Args::try_parse_from(cli::translate(
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()),
    )) {
        Ok(args) => args,
        Err(error) => {
            // clap's own words; --help is no failure.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let is_haproxy = name == "haproxy";
    run::main(|| {
        dispatch(args, &name).map_err(|failure| if is_haproxy { as_haproxy(failure) } else { failure })
    })
}

/// HAProxy ends with 1 when its configuration is wrong; scripts look for that.
fn as_haproxy(mut failure: Failure) -> Failure {
    if failure.exit == Exit::Config {
        failure.exit = Exit::Failed;
    }
    failure
}

fn dispatch(mut args: Args, name: &str) -> Result<(), Failure> {
    if args.version > 0 {
        return commands::version(name, args.version > 1);
    }
    daemon::logging::init(&args.log.options(LogTarget::Stderr))
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    if let Some(directory) = &args.directory {
        std::env::set_current_dir(directory).map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot go to {}: {error}", directory.display()))
        })?;
    }
    match args.command.take() {
        Some(Command::Check { file }) => {
            args.files.extend(file);
            let (config, _) = load(&args)?;
            commands::check(config, &args.files)
        }
        Some(Command::Migrate { files, output }) => crate::migrate::migrate(&files, &output),
        Some(Command::Init { backends, listen, stats, output }) => {
            commands::init(&backends, &listen, &stats, &output)
        }
        None => {
            let (config, warnings) = load(&args)?;
            if args.check {
                return commands::checked(&config, warnings, args.quiet, name == "haproxy");
            }
            serve(args, config, name)
        }
    }
}

/// Reads the configuration and prints its warnings. The second part is their number.
fn load(args: &Args) -> Result<(Config, usize), Failure> {
    let mut files: Vec<PathBuf> = args.files.iter().chain(&args.more_files).cloned().collect();
    if files.is_empty() {
        let found = cli::DEFAULT_FILES.iter().map(PathBuf::from).find(|file| file.exists());
        files.push(found.ok_or_else(|| {
            Failure::new(Exit::Config, "no configuration file")
                .detail("looked for", cli::DEFAULT_FILES.join(", "))
                .detail("try", "proxy -f FILE, or proxy init --backend A=HOST:5672")
        })?);
    }
    let (mut config, remarks) = config::load(&files)?;
    if !args.quiet && !config.global.quiet {
        remarks.print();
    }
    args.apply(&mut config);
    let warnings = remarks.warning_count();
    if config.global.zero_warning && warnings > 0 {
        let message = format!("{warnings} warnings, and `zero-warning` is set");
        return Err(Failure::new(Exit::Config, message));
    }
    Ok((config, warnings))
}

/// From the configuration to the end of the process.
fn serve(args: Args, config: Config, name: &str) -> Result<(), Failure> {
    let global = config.global.clone();
    let identity = identity(&global)?;
    let is_haproxy = name == "haproxy";
    let process = Arc::new(Process::new(config, if is_haproxy { "haproxy" } else { "proxy" }));
    process.unresolved().print();
    let listeners = bind(&process, &args)?;
    let sockets = runtime_api::bind(&process.global())?;
    if (args.daemon || global.daemon) && !args.foreground {
        // No thread has been started yet; only this one goes on in the child.
        nix::unistd::daemon(true, false)
            .map_err(|error| Failure::new(Exit::OsError, format!("cannot go to the background: {error}")))?;
    }
    if is_haproxy {
        // Scripts look for it with `ps -C haproxy`, also when it was started through a copy of another name.
        run::set_process_name("haproxy");
    }
    if let Some(file) = args.pidfile.as_ref().or(global.pidfile.as_ref()) {
        std::fs::write(file, format!("{}\n", std::process::id())).map_err(|error| {
            Failure::new(Exit::CannotCreate, format!("cannot write the pid file {}: {error}", file.display()))
        })?;
    }
    privilege::drop_to(&identity, global.chroot.as_deref())
        .map_err(|error| Failure::new(Exit::NoPermission, error.to_string()))?;
    signal_others(&args.finish, nix::sys::signal::Signal::SIGUSR1);
    signal_others(&args.stop, nix::sys::signal::Signal::SIGTERM);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::OsError, format!("cannot start: {error}")))?;
    runtime.block_on(live(process, listeners, sockets))
}

/// Opens the listening sockets. Processes that are to be replaced may still hold them: they are asked
/// to let go, and the sockets are tried again for a moment.
fn bind(process: &Process, args: &Args) -> Result<Listeners, Failure> {
    let mut tries = if args.finish.is_empty() && args.stop.is_empty() { 0 } else { 100 };
    loop {
        match process.bind() {
            Err(failure) if failure.exit == Exit::CannotCreate && tries > 0 => {
                if tries == 100 {
                    signal_others(&args.finish, nix::sys::signal::Signal::SIGUSR1);
                    signal_others(&args.stop, nix::sys::signal::Signal::SIGTERM);
                }
                tries -= 1;
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

fn signal_others(pids: &[i32], signal: nix::sys::signal::Signal) {
    for pid in pids.iter().filter(|pid| **pid > 1) {
        // It may have ended by itself.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), signal);
    }
}

/// Whom to become. A named user that does not exist is an error, unless a number is given beside it.
fn identity(global: &Global) -> Result<Identity, Failure> {
    let failed = |error: PrivilegeError| {
        Failure::new(Exit::Config, error.to_string())
            .detail("or", "remove the line, or write uid / gid with numbers")
    };
    let mut identity = match Identity::resolve(global.user.as_deref(), None) {
        Ok(identity) => identity,
        Err(PrivilegeError::NoUser(name)) if global.uid.is_some() => {
            tracing::warn!(user = %name, uid = global.uid, "user does not exist on this host; the numeric id is used");
            Identity { uid: global.uid, gid: None }
        }
        Err(error) => return Err(failed(error)),
    };
    match Identity::resolve(None, global.group.as_deref()) {
        Ok(group) => identity.gid = group.gid.or(global.gid).or(identity.gid),
        Err(PrivilegeError::NoGroup(name)) if global.gid.is_some() => {
            tracing::warn!(group = %name, gid = global.gid, "group does not exist on this host; the numeric id is used");
            identity.gid = global.gid;
        }
        Err(error) => return Err(failed(error)),
    }
    identity.uid = identity.uid.or(global.uid);
    if identity.is_change() && !privilege::is_root() {
        tracing::warn!(
            uid = identity.uid,
            gid = identity.gid,
            "not started as root: user and group stay as they are"
        );
        return Ok(Identity::default());
    }
    Ok(identity)
}

/// Runs until a signal ends it. SIGUSR1 finishes connections first, SIGTERM and SIGINT do not, as with
/// HAProxy.
async fn live(
    process: Arc<Process>,
    listeners: Listeners,
    sockets: Vec<runtime_api::Socket>,
) -> Result<(), Failure> {
    let mut signals = Signals::new()
        .map_err(|error| Failure::new(Exit::OsError, format!("cannot receive signals: {error}")))?;
    let (shutdown, token) = Shutdown::new();
    drop(token);
    let mut running = workers::start(&process, listeners, &shutdown)?;
    tokio::spawn(runtime_api::serve(process.clone(), sockets, shutdown.token()));
    tokio::spawn(stats::history::run(process.clone(), shutdown.token()));
    let orders = process.control.take();
    announce(&process);
    let hard_stop = process.global().hard_stop_after;
    let soft = tokio::select! {
        soft = wait_for_stop(&process, &mut signals, &shutdown) => soft,
        () = carry_out(&mut running, orders) => false,
    };
    say_stopped(&process);
    if soft {
        finish(&mut running, &mut signals, &shutdown, hard_stop).await;
    }
    shutdown.stop(Stop::Now);
    running.join().await;
    tracing::info!("stopped");
    Ok(())
}

/// Carries orders of operators out, for ever.
async fn carry_out(running: &mut Running, orders: Option<tokio::sync::mpsc::Receiver<control::Task>>) {
    match orders {
        Some(orders) => control::run(running, orders).await,
        None => std::future::pending().await,
    }
}

/// Returns whether connections may finish.
async fn wait_for_stop(process: &Arc<Process>, signals: &mut Signals, shutdown: &Shutdown) -> bool {
    let mut soft = false;
    let status = format!("{} sections", process.sections().len());
    let soft_stop = &mut soft;
    run::until_stopped(signals, shutdown, &status, async |signal| match signal {
        Signal::User1 => {
            *soft_stop = true;
            shutdown.stop(Stop::Graceful);
        }
        Signal::Hangup => commands::dump_states(process),
        Signal::User2 => {
            tracing::warn!(
                "reload in place is not supported yet; start a new process with -sf {}",
                std::process::id()
            );
        }
        _ => {}
    })
    .await;
    soft
}

/// HAProxy's last words about each section.
fn say_stopped(process: &Process) {
    use std::sync::atomic::Ordering::Relaxed;
    for section in process.sections().iter() {
        let front = section.frontend.as_ref().map_or(0, |frontend| {
            frontend.stopped.store(true, Relaxed);
            frontend.counters.total.load(Relaxed)
        });
        let back = section.backend.as_ref().map_or(0, |backend| backend.counters.total.load(Relaxed));
        let text =
            format!("Proxy {} stopped (cumulated conns: FE: {front}, BE: {back}).", section.config.name);
        section.logger.send(syslog::level::WARNING, &text);
    }
}

/// A soft stop: no new connections, the old ones end by themselves.
async fn finish(
    running: &mut Running,
    signals: &mut Signals,
    shutdown: &Shutdown,
    limit: Option<std::time::Duration>,
) {
    tracing::info!(connections = running.connections(), "soft stop: waiting for connections to end");
    tokio::select! {
        () = running.drained(limit) => {}
        () = run::next_stop(signals, shutdown) => {}
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
