//! `proxy check`: connects once to every server, with the check the configuration gives it, and says what it saw.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::exit::Exit;
use daemon::run::Failure;
use tokio::sync::Semaphore;

use crate::backend::Backend;
use crate::check::state::Outcome;
use crate::check::{self, CheckReport};
use crate::config::Config;
use crate::process::Process;
use crate::server::Server;
use crate::text_table::{Colour, Table, shows_colours};

/// Checks at one time.
const AT_ONCE: usize = 64;
/// No check takes longer than this, whatever the configuration says.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was seen.
enum Seen {
    /// The check ended so.
    Report(CheckReport),
    /// There is nothing to connect to yet.
    Unknown(&'static str),
}

/// Checks and prints.
///
/// # Errors
/// A server could not be reached, or is not well.
pub fn run(config: Config, files: &[PathBuf]) -> Result<(), Failure> {
    let sections = config.proxies.len();
    let servers: usize = config.proxies.iter().map(|proxy| proxy.servers.len()).sum();
    let shown: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    crate::commands::print(&format!("ok  {}  {sections} sections, {servers} servers", shown.join(" ")))?;
    if servers == 0 {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::OsError, format!("cannot start: {error}")))?;
    let seen = runtime.block_on(async { check_all(&Process::new(config, "proxy")).await });
    let failed = seen.iter().filter(|(_, _, seen)| !is_well(seen)).count();
    crate::commands::print(table(&seen).text(shows_colours()).trim_end())?;
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::new(Exit::Unavailable, format!("{failed} of {servers} servers cannot be reached")))
    }
}

/// Every server, in the order of the configuration.
async fn check_all(process: &Process) -> Vec<(Arc<Backend>, Arc<Server>, Seen)> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = Vec::new();
    for section in process.sections().iter() {
        let Some(backend) = &section.backend else { continue };
        for server in backend.servers().iter() {
            let (backend, server, places) = (backend.clone(), server.clone(), places.clone());
            running.push(tokio::spawn(async move {
                let _place = places.acquire().await;
                let seen = look(&backend, &server).await;
                (backend, server, seen)
            }));
        }
    }
    let mut all = Vec::new();
    for one in running {
        all.extend(one.await.ok());
    }
    all
}

async fn look(backend: &Arc<Backend>, server: &Arc<Server>) -> Seen {
    if server.check_place().is_none() {
        let has_name = matches!(server.config().address.host, crate::config::address::Host::Name(_));
        let why = if has_name && server.known_address().is_none() {
            "its name has no address"
        } else {
            "its port depends on the client's"
        };
        return Seen::Unknown(why);
    }
    match tokio::time::timeout(PATIENCE, check::once(backend, server)).await {
        Ok(Ok(report)) => Seen::Report(report),
        Ok(Err(why)) => {
            tracing::warn!(server = %server.full_name(), %why, "cannot check");
            Seen::Unknown("its check cannot be run")
        }
        Err(_) => Seen::Unknown("no answer within 10 s"),
    }
}

fn is_well(seen: &Seen) -> bool {
    match seen {
        Seen::Report(report) => report.status.outcome() != Outcome::Failed,
        // Where a client's port decides there is nothing to try.
        Seen::Unknown(why) => why.contains("depends"),
    }
}

fn table(seen: &[(Arc<Backend>, Arc<Server>, Seen)]) -> Table {
    let mut table = Table::new(&["SERVER", "ADDRESS", "", "CHECK", "TIME", "SAW"], &[4]);
    for (backend, server, seen) in seen {
        let plain = |text: String| (text, Colour::Plain);
        let name = plain(format!("{}/{}", backend.name, server.name()));
        let address = plain(server.config().address.to_string());
        let cells = match seen {
            Seen::Report(report) => {
                let (word, colour) = if is_well(&Seen::Report(report.clone())) {
                    ("up", Colour::Green)
                } else {
                    ("down", Colour::Red)
                };
                let info = if report.info.is_empty() { String::new() } else { format!(": {}", report.info) };
                vec![
                    name,
                    address,
                    (word.to_owned(), colour),
                    plain(report.status.word().to_owned()),
                    plain(format!("{:.1} ms", report.duration.as_secs_f64() * 1000.0)),
                    plain(format!("{}{info}", report.status.description())),
                ]
            }
            Seen::Unknown(why) => {
                let (word, colour) = if is_well(seen) { ("-", Colour::Dim) } else { ("down", Colour::Red) };
                vec![
                    name,
                    address,
                    (word.to_owned(), colour),
                    plain(String::new()),
                    plain(String::new()),
                    plain((*why).to_owned()),
                ]
            }
        };
        table.row(cells);
    }
    table
}
