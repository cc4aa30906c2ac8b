//! One server given by words outside of a file, as the stats socket has it.

use daemon::diagnostic::Diagnostics;

use super::args::{Args, Line};
use super::{lexer, server};
use crate::config::ServerOptions;
use crate::config::address::{self, ServerAddress};

/// Reads `ADDRESS [options]`, starting from HAProxy's own defaults.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_text(text: &str) -> Result<(ServerAddress, ServerOptions), String> {
    let words = lexer::words(text, &|_| None).map_err(|error| error.message)?;
    let Some((place, rest)) = words.split_first() else {
        return Err("'server' expects <name> and <addr>[:<port>] as arguments.\n".to_owned());
    };
    let address = address::parse_server(&place.text)?;
    let line = Line { file: "", number: 1, text, words: rest };
    let mut remarks = Diagnostics::new();
    let mut args = Args::new(&line, &mut remarks);
    let mut options = ServerOptions::default();
    let read = server::read_options(&mut args, &mut options, &mut None);
    let left = args.peek().map(|word| word.text.clone());
    let first = remarks
        .iter()
        .find(|remark| remark.severity == daemon::diagnostic::Severity::Error)
        .map(|remark| remark.message.clone());
    match (read, first, left) {
        (_, Some(message), _) => Err(message),
        (_, None, Some(extra)) => Err(format!("unknown keyword '{extra}'")),
        (None, None, None) => Err("the options of the server are not complete".to_owned()),
        (Some(()), None, None) => Ok((address, options)),
    }
}
