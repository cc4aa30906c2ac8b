//! Programs of the native configuration: a list of words, or a table that names a user too.

use serde::Deserialize;

use super::script_user;
use crate::config::Command;

/// `["/bin/x", "a"]`, or `{ command = ["/bin/x", "a"], user = "nobody", group = "nogroup" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Program {
    Plain(Vec<String>),
    Full {
        /// The program and its arguments.
        command: Vec<String>,
        /// Whom it runs as.
        user: Option<String>,
        /// Its group.
        group: Option<String>,
    },
}

/// The checked form; an empty list is no program.
pub(super) fn command(program: Option<Program>, wrong: &mut impl FnMut(String)) -> Option<Command> {
    let (argv, user) = match program? {
        Program::Plain(argv) => (argv, None),
        Program::Full { command, user, group } => {
            (command, script_user(user.as_deref(), group.as_deref(), wrong))
        }
    };
    (!argv.is_empty()).then_some(Command { argv, user })
}
