//! Exporting and importing definitions.

use super::error::CtlError;
use super::run::Run;
use daemon::exit::Exit;
use hyper::Method;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Octets a file of definitions may have, as the API takes them.
const LARGEST: u64 = 64 << 20;

pub(super) fn export_definitions(run: &mut Run<'_>) -> Result<(), CtlError> {
    let file = run.argument(0);
    only_json(run)?;
    if file == "-" {
        let all = run.get(&["definitions"])?;
        return run.print(&all.to_string());
    }
    run.say(&format!("Exporting definitions in JSON to a file at \"{file}\" ..."))?;
    let all = run.get(&["definitions"])?;
    // It holds hashes of passwords: nobody else may read a new one.
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    written
        .and_then(|mut out| writeln!(out, "{all}"))
        .map_err(|error| CtlError::plain(Exit::Io, format!("Error:\ncannot write {file}: {error}")))
}

pub(super) fn import_definitions(run: &mut Run<'_>) -> Result<(), CtlError> {
    let file = run.argument(0);
    only_json(run)?;
    let octets = if file == "-" {
        run.say("Importing definitions in JSON from standard input ...")?;
        read(std::io::stdin().lock())
    } else {
        if !Path::new(file).exists() {
            return Err(CtlError::bad_argument(format!("File {file} does not exist")));
        }
        run.say(&format!("Importing definitions in JSON from a file at \"{file}\" ..."))?;
        std::fs::File::open(file).and_then(read)
    };
    let octets =
        octets.map_err(|error| CtlError::plain(Exit::Io, format!("Error:\ncannot read {file}: {error}")))?;
    let definitions: Value = serde_json::from_slice(&octets)
        .map_err(|error| CtlError::refused(Exit::DataError.code(), format!("{file} is not JSON: {error}")))?;
    if run.parsed.has("skip-if-unchanged") && run.get(&["definitions"])? == definitions {
        return Ok(());
    }
    let answer = run.ask(Method::POST, &["definitions"], Some(&definitions))?;
    if answer.is_fine() { Ok(()) } else { Err(CtlError::unavailable(answer.reason())) }
}

fn read(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    if from.take(LARGEST + 1).read_to_end(&mut octets)? as u64 > LARGEST {
        return Err(std::io::Error::other(format!("it has more than {} MiB", LARGEST >> 20)));
    }
    Ok(octets)
}

fn only_json(run: &Run<'_>) -> Result<(), CtlError> {
    match run.parsed.value("format").map(str::to_lowercase).as_deref() {
        None | Some("json") => Ok(()),
        Some(other) => Err(CtlError::usage(format!("format {other} is not supported; definitions are JSON"))),
    }
}
