//! What the proxy does besides running: check, init, version, state dump.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use daemon::exit::Exit;
use daemon::run::Failure;

use crate::config::{Config, address, duration};
use crate::process::Process;
use crate::reload::NO_LISTENER;
use crate::syslog::level;
use crate::{private, upgrade};

/// A reload takes as long as names take to be looked up.
const RELOAD_LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // Somebody closed the pipe: they have seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::new(Exit::Io, format!("cannot write: {error}"))),
    }
}

/// `-v`, `-vv`.
pub fn version(name: &str, more: bool) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    print(&format!(
        "Warren proxy version {version}, compatible with HAProxy 2.6 for TCP (called as {name})"
    ))?;
    if more {
        print(
            "Modes: tcp; http for the statistics page\n\
             Balancing: roundrobin static-rr leastconn first source hash random\n\
             Checks: tcp tcp-check amqp http mysql pgsql redis ldap smtp ssl-hello agent\n\
             Configuration: haproxy.cfg, TOML",
        )?;
    }
    Ok(())
}

/// `-c`.
pub fn checked(config: &Config, warnings: usize, quiet: bool, is_haproxy: bool) -> Result<(), Failure> {
    config_names(config);
    if !config.listens() {
        if is_haproxy && !quiet {
            if warnings > 0 {
                print("Warnings were found.")?;
            }
            print("Configuration file has no error but will not start (no listener) => exit(2).")?;
        }
        if is_haproxy {
            return Err(Failure::new(Exit::NothingToDo, ""));
        }
        if config.proxies.is_empty() {
            return Err(Failure::new(Exit::Config, NO_LISTENER));
        }
    }
    if quiet {
        return Ok(());
    }
    if is_haproxy {
        if warnings > 0 {
            print("Warnings were found.")?;
        }
        return print("Configuration file is valid");
    }
    let servers: usize = config.proxies.iter().map(|proxy| proxy.servers.len()).sum();
    let warned = if warnings > 0 { format!(", {warnings} warnings") } else { String::new() };
    let idle = if config.listens() { "" } else { "; it will not start: it has no listener" };
    print(&format!(
        "Configuration file is valid ({} sections, {servers} servers{warned}){idle}",
        config.proxies.len()
    ))
}

fn config_names(config: &Config) {
    crate::config::validate::unresolved_names(config).print();
}

/// `proxy reload`: process `pid` reads its configuration again.
pub fn reload(pid: u32) -> Result<(), Failure> {
    let report = private::ask(pid, "reload", RELOAD_LIMIT).map_err(|error| {
        Failure::new(Exit::Unavailable, format!("process {pid} does not answer: {error}"))
    })?;
    if report.accepted {
        return print(&report.text);
    }
    let _ = writeln!(std::io::stderr(), "{}", report.text);
    Err(Failure::new(Exit::Config, format!("process {pid} goes on with the configuration it has")))
}

/// `proxy upgrade`: this program takes the place of process `pid`.
pub fn upgrade(pid: u32) -> Result<(), Failure> {
    print(&upgrade::run(pid)?)
}

/// `proxy init`: writes a configuration to start from.
pub fn init(backends: &[String], listen: &str, stats: &str, output: &Path) -> Result<(), Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    address::parse_bind(listen).map_err(usage)?;
    address::parse_bind(stats).map_err(usage)?;
    let mut servers = String::new();
    for backend in backends {
        let (name, place) =
            backend.split_once('=').ok_or_else(|| usage(format!("`{backend}`: write NAME=HOST:PORT")))?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
            return Err(usage(format!("`{name}` is not a server name: use letters, digits, - and _")));
        }
        address::parse_server(place).map_err(usage)?;
        servers.push_str(&format!("{name} = \"{place}\"\n"));
    }
    let text = format!(
        "# proxy -f FILE runs it, proxy check FILE tries every server.\n\n\
         [listen.rabbitmq]\n\
         bind = \"{listen}\"\n\
         balance = \"roundrobin\"\n\
         # Silence after which a connection is given up; AMQP peers beat every minute or so.\n\
         idle = \"1h\"\n\
         # Two passed checks bring a server up, three failed ones take it down.\n\
         check = {{ kind = \"amqp\", inter = \"2s\", fastinter = \"1s\", rise = 2, fall = 3 }}\n\
         # Connections of a server that went down are closed, so that clients meet the other one at once.\n\
         server_defaults = {{ on-marked-down = \"shutdown-sessions\", tcp-ut = \"5s\" }}\n\n\
         [listen.rabbitmq.servers]\n{servers}\n\
         [stats.monitor]\n\
         bind = \"{stats}\"\n\
         uri = \"/monitor\"\n\
         refresh = \"5s\"\n"
    );
    if output == Path::new("-") {
        return print(text.trim_end());
    }
    let failed = |error: std::io::Error| {
        let failure = Failure::new(Exit::CannotCreate, format!("cannot write {}: {error}", output.display()));
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                failure.detail("try", "another file with --output, or remove it first")
            }
            _ => failure.detail("try", "--output proxy.toml"),
        }
    };
    if let Some(directory) = output.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(output).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    print(&format!(
        "wrote {} — check amqp (protocol header, {}, rise 2, fall 3), balance roundrobin, idle 1h + TCP keepalive 60 s",
        output.display(),
        duration::show(Duration::from_secs(5))
    ))
}

/// SIGHUP: the state of every server into the log, as HAProxy does.
pub fn dump_states(process: &Process) {
    for section in process.sections().iter() {
        let Some(backend) = &section.backend else { continue };
        for server in backend.servers().iter() {
            let status = server.condition().status();
            let counters = &server.counters;
            let text = format!(
                "SIGHUP: Server {} is {status}. Conn: {} act, {} pend, {} tot.",
                server.full_name(),
                counters.current.load(Relaxed),
                counters.pending.load(Relaxed),
                counters.total.load(Relaxed),
            );
            section.logger.send(level::WARNING, &text);
            tracing::info!(server = %server.full_name(), status, "state");
        }
    }
}
