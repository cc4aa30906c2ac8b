//! The program from its arguments to its end: read, bind, drop privileges, run, stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use daemon::exit::Exit;
use daemon::logging::LogTarget;
use daemon::manual::{self, CompletionArgs, ManArgs};
use daemon::privilege::{self, Identity, PrivilegeError};
use daemon::run::{self, Failure};

use crate::cli::{self, Args, Command};
use crate::config::{self, Config, Global};
use crate::handover::Inherited;
use crate::keeper::Keeper;
use crate::listener::Listeners;
use crate::process::Process;
use crate::reload::{NO_LISTENER, Source};
use crate::supervisor::{self, Start};
use crate::{carried, check_once, commands, private, runtime_api, server_state, status, upgrade};

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let name = run::program_name();
    let is_haproxy = name == "haproxy";
    let args = match Args::try_parse_from(cli::translate(
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()),
    )) {
        Ok(args) => args,
        Err(error) => {
            // clap's own words; --help is no failure.
            let _ = error.print();
            return match (error.use_stderr(), is_haproxy) {
                (true, true) => Exit::Failed.into(),
                (true, false) => Exit::Usage.into(),
                (false, _) => Exit::Ok.into(),
            };
        }
    };
    run::main(|| {
        dispatch(args, &name).map_err(|failure| if is_haproxy { as_haproxy(failure) } else { failure })
    })
}

/// HAProxy ends with 1 whatever was wrong, and with 2 when a configuration that it checks would not start; scripts
/// look for that.
fn as_haproxy(mut failure: Failure) -> Failure {
    if failure.exit != Exit::NothingToDo {
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
    upgrade::remember();
    if let Some(directory) = &args.directory {
        std::env::set_current_dir(directory).map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot go to {}: {error}", directory.display()))
        })?;
    }
    match args.command.take() {
        Some(Command::Check { file }) => {
            args.files.extend(file);
            let (config, _) = load(&args)?;
            check_once::run(config, &args.files)
        }
        Some(Command::Migrate { files, output }) => crate::migrate::migrate(&files, &output),
        Some(Command::Reload(target)) => commands::reload(find(&args, target.pid)?),
        Some(Command::Upgrade(target)) => commands::upgrade(find(&args, target.pid)?),
        Some(Command::Status { file, from }) => {
            let source = status::source(from.as_deref(), || {
                args.files.extend(file);
                args.quiet = true;
                load(&args).map(|(config, _)| config)
            })?;
            status::run(&source)
        }
        Some(Command::Completions(CompletionArgs { shell })) => {
            commands::print(&manual::completions(shell, Args::command()))
        }
        Some(Command::Man(ManArgs { folder })) => {
            manual::pages(&folder, manual::with_tools(&Args::command()))?
                .iter()
                .try_for_each(|page| commands::print(&page.display().to_string()))
        }
        Some(Command::Init { backends, listen, stats, output }) => {
            commands::init(&backends, &listen, &stats, &output)
        }
        None => {
            let (config, warnings) = load(&args)?;
            if args.check {
                return commands::checked(&config, warnings, args.quiet, name == "haproxy");
            }
            if !config.listens() {
                return Err(Failure::new(Exit::Config, NO_LISTENER).detail(
                    "try",
                    "proxy init --backend A=HOST:5672, which writes a configuration to start from",
                ));
            }
            serve(args, config, name)
        }
    }
}

/// Where the configuration is: what the arguments say, or the first usual place with a file.
fn files(args: &Args) -> Result<Vec<PathBuf>, Failure> {
    let mut files: Vec<PathBuf> = args.files.iter().chain(&args.more_files).cloned().collect();
    if files.is_empty() {
        let found = cli::DEFAULT_FILES.iter().map(PathBuf::from).find(|file| file.exists());
        files.push(found.ok_or_else(|| {
            Failure::new(Exit::Config, "no configuration file")
                .detail("looked for", cli::DEFAULT_FILES.join(", "))
                .detail("try", "proxy -f FILE, or proxy init --backend A=HOST:5672")
        })?);
    }
    Ok(files)
}

/// The running process that is meant: the one that was named, the one of the pid file (`-p`, or `pidfile`
/// in the configuration of `-f`), or the only one that runs here.
fn find(args: &Args, pid: Option<u32>) -> Result<u32, Failure> {
    if let Some(pid) = pid {
        return Ok(pid);
    }
    let named = if args.files.is_empty() { None } else { config::load(&files(args)?)?.0.global.pidfile };
    if let Some(file) = args.pidfile.clone().or(named) {
        let unusable = |why: String| {
            Failure::new(Exit::Unavailable, format!("pid file {}: {why}", file.display()))
                .detail("try", "--pid PID")
        };
        let text = std::fs::read_to_string(&file).map_err(|error| unusable(error.to_string()))?;
        return text.trim().parse().map_err(|_| unusable("it holds no process id".to_owned()));
    }
    match private::running().as_slice() {
        [pid] => Ok(*pid),
        [] => Err(Failure::new(Exit::Unavailable, "no proxy runs here")),
        several => {
            let list: Vec<String> = several.iter().map(u32::to_string).collect();
            Err(Failure::new(Exit::Usage, "several proxies run here")
                .detail("try", format!("--pid one of {}", list.join(", "))))
        }
    }
}

/// Reads the configuration and prints its warnings. The second part is their number.
fn load(args: &Args) -> Result<(Config, usize), Failure> {
    let (mut config, remarks) = config::load(&files(args)?)?;
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
    let args = Arc::new(args);
    let global = config.global.clone();
    let identity = identity(&global)?;
    let owner = nix::unistd::geteuid().as_raw();
    let is_haproxy = name == "haproxy";
    let process = Arc::new(Process::new(config, if is_haproxy { "haproxy" } else { "proxy" }));
    process.unresolved().print();
    let old: Vec<u32> =
        args.finish.iter().chain(&args.stop).filter_map(|pid| u32::try_from(*pid).ok()).collect();
    let mut inherited = upgrade::inherit(args.old_socket.as_deref(), &old);
    let listeners = bind(&process, &mut inherited, &old)?;
    // What nobody here wants is closed.
    drop(inherited);
    let sockets = runtime_api::bind(&process.global())?;
    server_state::load(&process, upgrade::states(&old).as_deref());
    if let Some(text) = upgrade::counters(&old) {
        carried::load(&process, &text);
    }
    if (args.daemon || global.daemon) && !args.foreground {
        // No thread has been started yet; only this one goes on in the child.
        nix::unistd::daemon(true, false)
            .map_err(|error| Failure::new(Exit::OsError, format!("cannot go to the background: {error}")))?;
    }
    if is_haproxy {
        // Scripts look for it with `ps -C haproxy`, also when it was started through a copy of another name.
        run::set_process_name("haproxy");
    }
    let private = private::open()
        .inspect_err(
            |error| tracing::warn!(%error, "no private socket: proxy reload will not reach this process"),
        )
        .ok();
    if let Some(file) = args.pidfile.as_ref().or(global.pidfile.as_ref()) {
        std::fs::write(file, format!("{}\n", std::process::id())).map_err(|error| {
            Failure::new(Exit::CannotCreate, format!("cannot write the pid file {}: {error}", file.display()))
        })?;
    }
    let keeper = Keeper::start()?;
    if global.chroot.is_some() && !keeper.is_outside() {
        tracing::warn!("a reload will look for files inside of the chroot: unshare(2) is not allowed here");
    }
    privilege::drop_to(&identity, global.chroot.as_deref())
        .map_err(|error| Failure::new(Exit::NoPermission, error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::OsError, format!("cannot start: {error}")))?;
    let pids = |list: &[i32]| list.iter().filter_map(|pid| u32::try_from(*pid).ok()).collect();
    let start = Start {
        sockets,
        source: Source { files: files(&args)?, arguments: args.clone() },
        keeper,
        is_confined: global.chroot.is_some() || identity.uid.is_some_and(|uid| uid != owner),
        finish: pids(&args.finish),
        stop: pids(&args.stop),
    };
    runtime.block_on(async move {
        if let Some(listener) = private {
            tokio::spawn(private::serve(process.clone(), listener, owner));
        }
        supervisor::live(process, listeners, start).await
    })
}

/// Opens the listening sockets. Processes that are to be replaced may still hold them, and not share them:
/// they are asked to let go for a moment (SIGTTOU), as HAProxy does.
fn bind(process: &Process, inherited: &mut Inherited, old: &[u32]) -> Result<Listeners, Failure> {
    const TRIES: u32 = 100;
    let mut tries = if old.is_empty() { 0 } else { TRIES };
    loop {
        match process.bind(inherited, !old.is_empty()) {
            Err(failure) if failure.exit == Exit::CannotCreate && tries > 0 => {
                if tries == TRIES {
                    upgrade::signal(old, nix::sys::signal::Signal::SIGTTOU);
                }
                tries -= 1;
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            Err(failure) if !old.is_empty() => {
                // They go on.
                upgrade::signal(old, nix::sys::signal::Signal::SIGTTIN);
                return Err(failure);
            }
            other => return other,
        }
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
