//! Orders to servers from the form of the page: `s=SERVER&action=ACTION&b=#ID`, as HAProxy has it.

use std::sync::Arc;

use super::request;
use crate::backend::Backend;
use crate::check;
use crate::condition::Forced;
use crate::process::Process;
use crate::registry::{Cause, Which};
use crate::server::{Order, Server};

/// A form longer than this is not carried out (HAProxy: what fits into its buffer).
const MAX_FORM: usize = 16 * 1024;

/// Carries a form out. Returns HAProxy's word for the result.
pub(super) fn carry_out(process: &Process, body: &[u8]) -> &'static str {
    if body.len() > MAX_FORM {
        return "EXCD";
    }
    let form = Form::read(body);
    let Some(action) = form.action.as_deref() else { return "NONE" };
    let Some(action) = Action::named(action) else { return "ERRP" };
    if form.servers.is_empty() {
        return "NONE";
    }
    let Some(backend) = form.backend.as_deref().and_then(|wanted| find_backend(process, wanted)) else {
        return "ERRP";
    };
    let (mut done, mut unknown) = (0, 0);
    for name in &form.servers {
        match backend.server(name) {
            Some(server) => {
                action.apply(process, &backend, &server);
                done += 1;
            }
            None => unknown += 1,
        }
    }
    match (done, unknown) {
        (0, _) => "ERRP",
        (_, 0) => "DONE",
        _ => "PART",
    }
}

/// The token of a form, if it has one.
pub(super) fn token(body: &[u8]) -> Option<String> {
    request::form(body).into_iter().find(|(key, _)| key == "token").map(|(_, value)| value)
}

#[derive(Debug, Default)]
struct Form {
    action: Option<String>,
    backend: Option<String>,
    servers: Vec<String>,
}

impl Form {
    fn read(body: &[u8]) -> Self {
        let mut form = Self::default();
        for (key, value) in request::form(body) {
            match key.as_str() {
                "s" => form.servers.push(value),
                "b" => form.backend = Some(value),
                "action" if !value.is_empty() => form.action = Some(value),
                // A button of a line: the action and the server, whatever boxes are checked.
                "do" => {
                    let (action, server) = value.split_once(' ').unwrap_or((&value, ""));
                    return Self {
                        action: Some(action.to_owned()),
                        servers: vec![server.to_owned()],
                        backend: request::form(body)
                            .into_iter()
                            .find(|(key, _)| key == "b")
                            .map(|(_, value)| value),
                    };
                }
                _ => {}
            }
        }
        form
    }
}

/// `#2` or a name.
fn find_backend(process: &Process, wanted: &str) -> Option<Arc<Backend>> {
    let sections = process.sections();
    let found = match wanted.strip_prefix('#') {
        Some(number) => {
            let number: u32 = number.parse().ok()?;
            sections.iter().find(|section| section.config.id == number)
        }
        None => sections.iter().find(|section| section.config.name == wanted && section.backend.is_some()),
    };
    found?.backend.clone()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    State(Order),
    Checking(bool),
    Health(Forced),
    Agent(bool),
    Shutdown,
}

impl Action {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ready" => Self::State(Order::Ready),
            "drain" => Self::State(Order::Drain),
            "maint" => Self::State(Order::Maintenance),
            "dhlth" => Self::Checking(false),
            "ehlth" => Self::Checking(true),
            "hrunn" => Self::Health(Forced::Up),
            "hdown" => Self::Health(Forced::Down),
            "hnolb" => Self::Health(Forced::Stopping),
            "dagent" => Self::Agent(false),
            "eagent" => Self::Agent(true),
            "arunn" => Self::Health(Forced::AgentUp),
            "adown" => Self::Health(Forced::AgentDown),
            "shutdown" => Self::Shutdown,
            _ => return None,
        })
    }

    fn apply(self, process: &Process, backend: &Arc<Backend>, server: &Arc<Server>) {
        match self {
            Self::State(order) => check::carry_out(backend, server, order),
            Self::Checking(on) => server.set_checking(on),
            Self::Health(forced) => check::force(backend, server, forced),
            Self::Agent(on) => server.set_agent_checking(on),
            Self::Shutdown => {
                process.workers().close_all(&Which::Server(server.clone()), Cause::Operator);
            }
        }
    }
}
