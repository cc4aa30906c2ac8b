//! The VRRP agent: keeps a virtual IP address on one of several hosts.
//!
//! Answers to `keepalived` too: same flags, same file, same process name.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use daemon::diagnostic::{Diagnostics, Severity};
use daemon::exit::Exit;
use daemon::logging::LogTarget;
use daemon::manual::{self, CompletionArgs, ManArgs};
use daemon::run::Failure;

use crate::agent::Options;
use crate::cli::{Action, Cli, RunArgs};
use crate::config::AgentConfig;

mod agent;
mod claim;
mod cli;
mod config;
mod dump;
mod guard;
mod host;
mod http;
mod instance;
mod migrate;
mod net;
mod notify;
mod process;
mod realtime;
mod status;
mod tracker;
mod virtual_server;

pub use self::config::fuzz;

#[cfg(test)]
#[path = "../../tests/fuzz/mutants.rs"]
mod mutants;

/// Everything the program does, by its arguments and the name it was called by.
#[must_use]
pub fn main() -> ExitCode {
    // The guard forks, so it must come before anything that starts a thread.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == guard::SUBCOMMAND) {
        return guard::main();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and version are answers, not mistakes. A closed terminal changes nothing.
            let _ = answer.print();
            return if answer.use_stderr() { Exit::Usage } else { Exit::Ok }.into();
        }
    };
    if let Some(file) = cli.run.config_test.clone() {
        return keepalived_test(&cli, &file);
    }
    daemon::run::main(move || run(cli))
}

fn run(mut cli: Cli) -> Result<(), Failure> {
    match cli.action.take() {
        None => {}
        Some(Action::Run(arguments)) => cli.run = arguments,
        Some(Action::Check(arguments)) => cli.run = RunArgs { check: true, ..arguments },
        Some(Action::Status { json }) => return status::print(&cli.runtime_dir, json),
        Some(Action::Migrate { file, output, keep_script }) => {
            return migrate::run(&file, output.as_deref(), keep_script);
        }
        Some(Action::Completions(CompletionArgs { shell })) => {
            return print_line(&manual::completions(shell, Cli::command()));
        }
        Some(Action::Man(ManArgs { folder })) => {
            for page in manual::pages(&folder, manual::with_tools(&Cli::command()))? {
                print_line(&page.display().to_string())?;
            }
            return Ok(());
        }
        Some(Action::Guard) => return Err(Failure::new(Exit::Usage, "the agent starts its guard itself")),
    }
    if cli.run.version {
        return print_version();
    }
    let path = absolute(config_path(&cli.run));
    cli.runtime_dir = absolute(cli.runtime_dir);
    if let Some(function) = &cli.run.signum {
        return print_signal(function);
    }
    cli.run.pid = cli.run.pid.map(absolute);
    cli.run.vrrp_pid = cli.run.vrrp_pid.map(absolute);
    let id = cli.keepalived.config_id.clone();
    let (config, mut remarks) = config::load_as(&path, id.as_deref()).map_err(Failure::from)?;
    if cli.run.check {
        if let Some(peer) = &cli.run.peer {
            remarks.extend(config::peer::compare(&config, &path, peer).map_err(Failure::from)?);
        }
        if remarks.has_errors() {
            return Err(Failure::from(remarks));
        }
        remarks.print();
        return print_line(&format!("ok  {}  {} instances", path.display(), config.instances.len()));
    }
    if cli.run.dump_conf {
        print_line(&format!("{config:#?}"))?;
    }
    check_privileges()?;
    check_interfaces(&config)?;
    if called_as_keepalived() && !cli.run.dont_fork {
        // Log lines go on to where standard error was; under systemd that is the journal.
        nix::unistd::daemon(false, true)
            .map_err(|error| Failure::new(Exit::OsError, format!("cannot go to the background: {error}")))?;
    }
    let mut log = cli.log.options(LogTarget::Stderr);
    if cli.run.log_detail && log.level == "info" {
        log.level = "info,vip_agent=debug".to_owned();
    }
    daemon::logging::init(&log).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    config::log(&remarks);
    if called_as_keepalived()
        && cli.run.pid.is_none()
        && nix::unistd::access(Path::new("/run"), nix::unistd::AccessFlags::W_OK).is_ok()
    {
        cli.run.pid = Some(PathBuf::from(cli::KEEPALIVED_PID));
    }
    let pid_files = PidFiles::write(&cli.run)?;
    let options = Options {
        config_path: path,
        config_id: id,
        runtime_dir: cli.runtime_dir,
        keep_addresses: cli.run.dont_release_vrrp,
        keep_rules: cli.keepalived.dont_release_ipvs,
        no_virtual_servers: cli.keepalived.only_vrrp(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::OsError, format!("cannot start: {error}")))?;
    let result = runtime.block_on(agent::run(options, config));
    // Whatever still runs, a script for example, ends with the runtime.
    runtime.shutdown_background();
    drop(pid_files);
    result
}

/// `keepalived -t`: tells everything, and its exit codes.
fn keepalived_test(cli: &Cli, file: &Path) -> ExitCode {
    let path = if file.as_os_str() == "-" { config_path(&cli.run) } else { file.to_owned() };
    let (remarks, usable) = match config::load_as(&path, cli.keepalived.config_id.as_deref()) {
        Ok((_, remarks)) => (remarks, true),
        Err(remarks) => (remarks, false),
    };
    remarks.print();
    ExitCode::from(test_exit_code(&remarks, usable))
}

/// 0 good, 3 cannot be read, 4 wrong, 5 scripts that others than root can change.
fn test_exit_code(remarks: &Diagnostics, usable: bool) -> u8 {
    let has = |code: &str| remarks.iter().any(|remark| remark.code == code);
    let only_security =
        remarks.iter().all(|remark| remark.severity != Severity::Error || remark.code == "script-security");
    if has("unreadable") {
        3
    } else if !usable && !only_security {
        4
    } else if has("script-security") {
        5
    } else {
        0
    }
}

/// Paths must mean the same after the program went to the background.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn called_as_keepalived() -> bool {
    daemon::run::program_name() == "keepalived"
}

fn config_path(arguments: &RunArgs) -> PathBuf {
    let native = Path::new(cli::NATIVE_CONFIG);
    arguments.file.clone().unwrap_or_else(|| {
        let use_native = !called_as_keepalived() && native.exists();
        if use_native { native.to_owned() } else { PathBuf::from(cli::DEFAULT_CONFIG) }
    })
}

/// Every interface the configuration names is there. The agent looks again on reload.
fn check_interfaces(config: &AgentConfig) -> Result<(), Failure> {
    let known = nix::net::if_::if_nameindex();
    let names: Vec<String> = known
        .iter()
        .flat_map(nix::net::if_::Interfaces::iter)
        .map(|interface| interface.name().to_string_lossy().into_owned())
        .collect();
    if names.is_empty() { Ok(()) } else { agent::check_interfaces(config, &names) }
}

/// CAP_NET_ADMIN and CAP_NET_RAW, before anything is touched.
fn check_privileges() -> Result<(), Failure> {
    const CAP_NET_ADMIN: u64 = 1 << 12;
    const CAP_NET_RAW: u64 = 1 << 13;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    // Where /proc is not to be read, the sockets will tell.
    let Some(effective) = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()) else {
        return Ok(());
    };
    let missing: Vec<&str> = [(CAP_NET_ADMIN, "CAP_NET_ADMIN"), (CAP_NET_RAW, "CAP_NET_RAW")]
        .into_iter()
        .filter(|(bit, _)| effective & bit == 0)
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(agent::no_permission(format!(
        "this user may not change addresses: {} is missing",
        missing.join(" and ")
    )))
}

/// Pid files, removed at the end.
struct PidFiles(Vec<PathBuf>);

impl PidFiles {
    fn write(arguments: &RunArgs) -> Result<Self, Failure> {
        let files: Vec<PathBuf> =
            [&arguments.pid, &arguments.vrrp_pid].into_iter().flatten().cloned().collect();
        for file in &files {
            std::fs::write(file, format!("{}\n", std::process::id())).map_err(|error| {
                Failure::new(
                    Exit::CannotCreate,
                    format!("cannot write the pid file {}: {error}", file.display()),
                )
                .detail("try", "another file with -p")
            })?;
        }
        Ok(Self(files))
    }
}

impl Drop for PidFiles {
    fn drop(&mut self) {
        for file in &self.0 {
            let own = std::process::id().to_string();
            if std::fs::read_to_string(file).is_ok_and(|text| text.trim() == own) {
                // It may have been tidied away meanwhile.
                let _ = std::fs::remove_file(file);
            }
        }
    }
}

/// A command's answer on standard output. A reader that has seen enough is no failure.
pub(crate) fn print_line(text: &str) -> Result<(), Failure> {
    written(writeln!(std::io::stdout(), "{text}"))
}

fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::CannotCreate, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// keepalived's own name comes first when called so, because exporters look for it.
fn print_version() -> Result<(), Failure> {
    let ours = env!("CARGO_PKG_VERSION");
    if called_as_keepalived() {
        // keepalived prints its version there.
        return written(writeln!(std::io::stderr(), "Keepalived v2.2.7 (spoken by vip-agent {ours})"));
    }
    print_line(&format!("vip-agent {ours}"))
}

fn print_signal(function: &str) -> Result<(), Failure> {
    let number = match function {
        "STOP" => nix::libc::SIGTERM,
        "RELOAD" => nix::libc::SIGHUP,
        "DATA" => nix::libc::SIGUSR1,
        "STATS" => nix::libc::SIGUSR2,
        "JSON" => cli::json_signal(),
        _ => {
            let message = format!("there is no signal for `{function}`");
            return Err(Failure::new(Exit::Usage, message).detail("known", "STOP, RELOAD, DATA, STATS, JSON"));
        }
    };
    print_line(&number.to_string())
}
