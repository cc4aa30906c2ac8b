//! `enable` and `disable`, and `shutdown frontend`.

use std::sync::Arc;

use super::{Answer, Cli, Reply};
use crate::backend::Backend;
use crate::check;
use crate::config::Level;
use crate::control::{Outcome, Task};
use crate::server::{Order, Server};

/// Only for administrators, and only for a server there is.
fn server(cli: &Cli, words: &[&str]) -> Result<(Arc<Backend>, Arc<Server>), Reply> {
    cli.need(Level::Admin)?;
    cli.server(words.first())
}

/// `enable server`: out of maintenance, and out of a drain, as `set server … state ready`.
pub(super) fn enable_server(cli: &mut Cli, words: &[&str]) -> Answer {
    let (backend, server) = server(cli, words)?;
    check::carry_out(&backend, &server, Order::Ready);
    Ok(Reply::done())
}

/// `disable server`: into maintenance.
pub(super) fn disable_server(cli: &mut Cli, words: &[&str]) -> Answer {
    let (backend, server) = server(cli, words)?;
    check::carry_out(&backend, &server, Order::Maintenance);
    Ok(Reply::done())
}

/// `enable health`
pub(super) fn enable_health(cli: &mut Cli, words: &[&str]) -> Answer {
    let (_, server) = server(cli, words)?;
    if !server.config().options.check {
        return Err(Reply::error("Health check was not configured on this server, cannot enable.\n"));
    }
    server.set_checking(true);
    Ok(Reply::done())
}

/// `disable health`
pub(super) fn disable_health(cli: &mut Cli, words: &[&str]) -> Answer {
    let (_, server) = server(cli, words)?;
    server.set_checking(false);
    Ok(Reply::done())
}

/// `enable agent`
pub(super) fn enable_agent(cli: &mut Cli, words: &[&str]) -> Answer {
    let (_, server) = server(cli, words)?;
    if !server.config().options.agent.check {
        return Err(Reply::error("Agent was not configured on this server, cannot enable.\n"));
    }
    server.set_agent_checking(true);
    Ok(Reply::done())
}

/// `disable agent`
pub(super) fn disable_agent(cli: &mut Cli, words: &[&str]) -> Answer {
    let (_, server) = server(cli, words)?;
    server.set_agent_checking(false);
    Ok(Reply::done())
}

/// `enable frontend`
pub(super) fn enable_frontend(cli: &mut Cli, words: &[&str]) -> Answer {
    let name = frontend_name(cli, words)?;
    let process = cli.process.clone();
    Ok(Reply::Later(Box::pin(async move {
        match process.control.ask(|reply| Task::Resume(name, reply)).await {
            Outcome::Done => Reply::done(),
            Outcome::Already => Reply::error("All sockets are already enabled.\n"),
            Outcome::Stopped => Reply::error("Frontend was previously shut down, cannot enable.\n"),
            Outcome::Failed => {
                Reply::error("Failed to resume frontend, check logs for precise cause (port conflict?).\n")
            }
        }
    })))
}

/// `disable frontend`
pub(super) fn disable_frontend(cli: &mut Cli, words: &[&str]) -> Answer {
    let name = frontend_name(cli, words)?;
    let process = cli.process.clone();
    Ok(Reply::Later(Box::pin(async move {
        match process.control.ask(|reply| Task::Pause(name, reply)).await {
            Outcome::Done => Reply::done(),
            Outcome::Already => Reply::error("All sockets are already disabled.\n"),
            Outcome::Stopped => Reply::error("Frontend was previously shut down, cannot disable.\n"),
            Outcome::Failed => Reply::error("Failed to pause frontend, check logs for precise cause.\n"),
        }
    })))
}

/// `shutdown frontend`
pub(super) fn shutdown_frontend(cli: &mut Cli, words: &[&str]) -> Answer {
    let name = frontend_name(cli, words)?;
    let process = cli.process.clone();
    Ok(Reply::Later(Box::pin(async move {
        match process.control.ask(|reply| Task::Stop(name, reply)).await {
            Outcome::Done => Reply::done(),
            Outcome::Already | Outcome::Stopped => Reply::error("Frontend was already shut down.\n"),
            Outcome::Failed => Reply::error("Failed to stop the frontend.\n"),
        }
    })))
}

/// The name of a frontend there is; only for administrators.
pub(super) fn frontend_name(cli: &Cli, words: &[&str]) -> Result<String, Reply> {
    cli.need(Level::Admin)?;
    let name = words.first().ok_or_else(|| Reply::error("A frontend name is expected.\n"))?;
    let sections = cli.process.sections();
    let found = sections.iter().any(|section| section.config.name == **name && section.frontend.is_some());
    found.then(|| (*name).to_owned()).ok_or_else(|| Reply::error("No such frontend.\n"))
}
