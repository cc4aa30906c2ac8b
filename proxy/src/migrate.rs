//! `proxy migrate`: haproxy.cfg as the TOML form, with notes about what does not come along.

use std::io::Write;
use std::path::{Path, PathBuf};

use daemon::exit::Exit;
use daemon::run::Failure;

use crate::config;

/// Reads the files and writes their twin to `output` (`-` is standard output). What is written was read
/// again and means the same.
///
/// # Errors
/// When a file has mistakes, or the output cannot be written.
pub fn migrate(files: &[PathBuf], output: &Path) -> Result<(), Failure> {
    let (config, remarks) = config::load(files)?;
    let shown: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let text = config::toml::write(&config, &remarks, &shown.join(", "));
    if !means(&text, &config) {
        return Err(Failure::new(
            Exit::Software,
            "what was written would not mean the same; nothing was written".to_owned(),
        )
        .detail("go on with", format!("proxy -f {}", shown.join(" -f "))));
    }
    if output == Path::new("-") {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        return written.map_err(|error| Failure::new(Exit::Io, format!("cannot write: {error}")));
    }
    let failed = |error: std::io::Error| {
        Failure::new(Exit::CannotCreate, format!("cannot write {}: {error}", output.display()))
            .detail("try", "another file with -o; an existing one is not overwritten")
    };
    let mut options = std::fs::OpenOptions::new();
    // It may hold passwords, as the file it comes from.
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    let mut file = options.write(true).create_new(true).open(output).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    remarks.print();
    Ok(())
}

/// Whether the text reads as this configuration.
fn means(text: &str, expected: &config::Config) -> bool {
    let mut config = config::Config::default();
    let Ok(mut remarks) = config::toml::read(text, "", &mut config) else { return false };
    config::validate::validate(&mut config, &mut remarks);
    config.without_places() == expected.without_places()
}
