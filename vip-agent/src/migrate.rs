//! `vip-agent migrate`: a keepalived.conf as native TOML.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use daemon::exit::Exit;
use daemon::run::Failure;

use crate::config::{load, to_toml};

/// Reads `file` and writes it as TOML to `output` or standard output; notes go to standard error.
///
/// # Errors
///
/// The file is wrong, or `output` exists or cannot be written.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what the command is for")]
pub(crate) fn run(file: &Path, output: Option<&Path>, keep_script: bool) -> Result<(), Failure> {
    let (mut config, remarks) = load(file).map_err(Failure::from)?;
    remarks.print();
    let changes = to_toml::modernise(&mut config, keep_script);
    let text = format!("# Written by `vip-agent migrate {}`.\n\n{}", file.display(), to_toml::write(&config));
    for note in &changes.notes {
        eprintln!("note    {note}");
    }
    let Some(output) = output else {
        print!("{text}");
        return Ok(());
    };
    // It holds a password, so nobody else may read it.
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(output)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| {
            Failure::new(Exit::CannotCreate, format!("cannot write {}: {error}", output.display()))
                .detail("try", "another file with -o; an existing one is not overwritten")
        })?;
    println!("wrote {}  check it with: vip-agent --check -f {}", output.display(), output.display());
    Ok(())
}
