//! What goes wrong on a command line, with RabbitMQ's exit codes (those of `sysexits.h`).

use crate::cluster::operator::{Refused, RefusedKind};
use daemon::exit::Exit;
use std::fmt;

/// No such user. RabbitMQ's tools alone have a number for it.
pub(super) const NO_USER: u8 = 67;

/// Why a command failed.
#[derive(Debug)]
pub(super) struct CtlError {
    /// The exit code.
    pub(super) code: u8,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// The command line is wrong: shown with the command's usage.
    Arguments(String),
    /// The node said no.
    Refused(String),
    /// The node is in the wrong state for it: shown with the command's usage.
    State(&'static str),
    /// A whole message.
    Plain(String),
}

impl CtlError {
    /// The arguments do not fit the command.
    pub(super) fn usage(message: impl Into<String>) -> CtlError {
        CtlError { code: Exit::Usage.code(), kind: Kind::Arguments(message.into()) }
    }

    /// An argument that can not be used.
    pub(super) fn bad_argument(message: impl fmt::Display) -> CtlError {
        let text = format!("Bad argument: {message}");
        CtlError { code: Exit::DataError.code(), kind: Kind::Arguments(text) }
    }

    /// The node refused it.
    pub(super) fn refused(code: u8, message: impl Into<String>) -> CtlError {
        CtlError { code, kind: Kind::Refused(message.into()) }
    }

    /// Something that was named is not there.
    pub(super) fn unavailable(message: impl Into<String>) -> CtlError {
        CtlError::refused(Exit::Unavailable.code(), message)
    }

    /// A user that is not there.
    pub(super) fn no_user(name: &str) -> CtlError {
        CtlError::refused(NO_USER, format!("User \"{name}\" does not exist"))
    }

    /// A vhost that is not there.
    pub(super) fn no_vhost(name: &str) -> CtlError {
        CtlError::unavailable(format!("Virtual host {name} does not exist"))
    }

    /// It is for a node that is stopped.
    pub(super) fn must_be_stopped() -> CtlError {
        let text = "this command requires the 'rabbit' app to be stopped on the target node. Stop it with 'rabbitmqctl \
                    stop_app'.";
        CtlError { code: Exit::Usage.code(), kind: Kind::State(text) }
    }

    /// It is for a node that runs.
    pub(super) fn must_run() -> CtlError {
        let text = "this command requires the 'rabbit' app to be running on the target node. Start it with 'rabbitmqctl \
                    start_app'.";
        CtlError { code: Exit::Usage.code(), kind: Kind::State(text) }
    }

    /// A message that says all by itself.
    pub(super) fn plain(exit: Exit, message: impl Into<String>) -> CtlError {
        CtlError { code: exit.code(), kind: Kind::Plain(message.into()) }
    }

    /// What this node can not do, in one sentence.
    pub(super) fn unsupported(message: impl Into<String>) -> CtlError {
        CtlError::plain(Exit::Usage, format!("Error: {}", message.into()))
    }

    /// What to write to standard error; `given` are the arguments, `usage` is the command's.
    pub(super) fn render(&self, given: &[String], usage: &str) -> String {
        match &self.kind {
            Kind::Arguments(message) => format!(
                "Error (argument validation): {message}\nArguments given:\n\t{}\n\nUsage\n\n{usage}",
                given.join(" ")
            ),
            Kind::State(message) => {
                format!("Error: {message}\nArguments given:\n\t{}\n\nUsage\n\n{usage}", given.join(" "))
            }
            Kind::Refused(message) => format!("Error:\n{message}"),
            Kind::Plain(message) => message.clone(),
        }
    }
}

impl From<Refused> for CtlError {
    fn from(refused: Refused) -> CtlError {
        let exit = match refused.kind {
            RefusedKind::Running => return CtlError::must_be_stopped(),
            RefusedKind::Stopped => return CtlError::must_run(),
            RefusedKind::Unreachable | RefusedKind::Unknown => Exit::Unavailable,
            RefusedKind::Loss | RefusedKind::Failed => Exit::Software,
            RefusedKind::Invalid => Exit::Usage,
        };
        CtlError::refused(exit.code(), refused.text)
    }
}

impl From<std::io::Error> for CtlError {
    fn from(error: std::io::Error) -> CtlError {
        CtlError::plain(Exit::Io, format!("Error: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: &str = "rabbitmqctl [--node <node>] [--longnames] [--quiet] join_cluster [--disc|--ram] <existing_cluster_member>";

    /// Recorded from RabbitMQ 3.10.8.
    const RUNNING: &str = "Error: this command requires the 'rabbit' app to be stopped on the target node. Stop it with \
        'rabbitmqctl stop_app'.\nArguments given:\n\tjoin_cluster rabbit@A\n\nUsage\n\nrabbitmqctl [--node <node>] \
        [--longnames] [--quiet] join_cluster [--disc|--ram] <existing_cluster_member>";

    #[test]
    fn a_node_in_the_wrong_state_is_told_of_with_the_usage() {
        let given = ["join_cluster", "rabbit@A"].map(str::to_owned);
        let error = CtlError::from(Refused::new(RefusedKind::Running, "it runs"));
        assert_eq!((error.code, error.render(&given, USAGE).as_str()), (64, RUNNING));
        let error = CtlError::from(Refused::new(RefusedKind::Stopped, "it is stopped"));
        let text = error.render(&given, USAGE);
        assert!(error.code == 64 && text.contains("Start it with 'rabbitmqctl start_app'."), "{text}");
    }

    #[test]
    fn reasons_of_a_cluster_have_exit_codes() {
        for (kind, code) in [
            (RefusedKind::Unreachable, 69),
            (RefusedKind::Unknown, 69),
            (RefusedKind::Loss, 70),
            (RefusedKind::Failed, 70),
            (RefusedKind::Invalid, 64),
        ] {
            let error = CtlError::from(Refused::new(kind, "a sentence"));
            assert_eq!((error.code, error.render(&[], "").as_str()), (code, "Error:\na sentence"));
        }
    }
}
