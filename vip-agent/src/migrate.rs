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
pub(crate) fn run(file: &Path, output: Option<&Path>, keep_script: bool) -> Result<(), Failure> {
    let (mut config, remarks) = load(file).map_err(Failure::from)?;
    remarks.print();
    let changes = to_toml::modernise(&mut config, keep_script);
    let text = format!("{}\n\n{}", headline(file), to_toml::write(&config));
    for note in &changes.notes {
        // The notes are beside the point when nobody reads them.
        let _ = writeln!(std::io::stderr(), "note    {note}");
    }
    let Some(output) = output else {
        return crate::print_line(text.trim_end());
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
    let output = output.display();
    crate::print_line(&format!("wrote {output}  check it with: vip-agent --check -f {output}"))
}

/// The first line; a name with a line break in it must not become configuration.
fn headline(file: &Path) -> String {
    let name: String = file.to_string_lossy().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("# Written by `vip-agent migrate {name}`.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_file_stays_a_comment() {
        assert_eq!(headline(Path::new("a\n[agent]")), "# Written by `vip-agent migrate a?[agent]`.");
    }
}
