//! Servers that were added at run time and are to be there after a reload and a restart: `runtime-servers-file FILE`
//! in `global`. The file has the commands as the stats socket takes them, one a line:
//!
//! ```text
//! add server rabbitmq/C 192.168.204.143:5672 check weight 10
//! ```

use std::path::{Path, PathBuf};

use daemon::diagnostic::{Diagnostic, Diagnostics};

use super::haproxy_cfg::one_server;
use super::{Config, Place, ServerConfig};

/// First line of the file.
const HEAD: &str =
    "# Servers that were added at run time. Written by the proxy; read at every start and reload.\n";
/// What every other line begins with.
const COMMAND: &str = "add server ";

/// The place of a server that was added at run time; by that it is told from others.
#[must_use]
pub fn place(file: &Path, words: &str) -> Place {
    Place { file: file.display().to_string(), text: format!("{COMMAND}{words}"), ..Place::default() }
}

/// Whether a server was added at run time and is to be remembered.
#[must_use]
pub fn is_added(server: &ServerConfig, file: &Path) -> bool {
    server.place.text.starts_with(COMMAND) && Path::new(&server.place.file) == file
}

/// The file with these servers.
pub fn show<'a>(servers: impl Iterator<Item = &'a ServerConfig>) -> String {
    servers.fold(HEAD.to_owned(), |text, server| text + &server.place.text + "\n")
}

/// Adds the servers of the file to their backends. What does not fit any more is left out with a warning.
pub fn read(config: &mut Config, remarks: &mut Diagnostics) {
    let Some(file) = config.global.runtime_servers_file.clone() else { return };
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => {
            let message = format!("cannot read {}: {error}", file.display());
            remarks.push(Diagnostic::error("runtime-servers-file", message));
            return;
        }
    };
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Err(message) = add(config, &file, line) {
            let remark = Diagnostic::warning("runtime-servers-file", format!("left out: {message}"));
            remarks.push(remark.in_file(file.display().to_string()).at(
                number,
                1,
                line,
                line.chars().count(),
            ));
        }
    }
}

fn add(config: &mut Config, file: &Path, line: &str) -> Result<(), String> {
    let words = line.strip_prefix(COMMAND).ok_or("a line is `add server BACKEND/NAME ADDRESS [OPTIONS]`")?;
    let (name, rest) = words.trim().split_once(' ').ok_or("the address is missing")?;
    let (section, name) = name.split_once('/').ok_or("write BACKEND/NAME")?;
    let proxy = config.proxies.iter_mut().find(|proxy| proxy.has_backend() && proxy.name == section);
    let proxy = proxy.ok_or_else(|| format!("there is no backend `{section}` any more"))?;
    if proxy.servers.iter().any(|server| server.name == name) {
        return Err(format!("`{section}` has a server `{name}` by itself now"));
    }
    let (address, options) = one_server::parse_text(rest)?;
    let place = place(file, words.trim());
    proxy.servers.push(ServerConfig {
        name: name.to_owned(),
        id: 0,
        address,
        options,
        template: None,
        place,
    });
    Ok(())
}

/// Writes the file so that it is never there in part.
///
/// # Errors
/// Says which file and why.
pub fn write(file: &Path, text: &str) -> Result<(), String> {
    let mut other = file.as_os_str().to_owned();
    other.push(".tmp");
    let other = PathBuf::from(other);
    let written = std::fs::write(&other, text).and_then(|()| std::fs::rename(&other, file));
    written.map_err(|error| format!("cannot write {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::haproxy_cfg::Reader;

    #[test]
    fn servers_of_the_file_come_to_their_backends() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("added");
        let text = format!(
            "{HEAD}add server b/x 10.0.0.1:5 weight 7 check\nadd server gone/y 10.0.0.1:5\nadd server b/own 10.0.0.1:5\nnonsense\n"
        );
        std::fs::write(&file, text).unwrap();
        let (mut config, mut remarks) = (Config::default(), Diagnostics::new());
        let text = format!(
            "global\n runtime-servers-file {}\nbackend b\n mode tcp\n server own 10.0.0.2:5\n",
            file.display()
        );
        Reader::default().read(&text, "t.cfg", &mut config, &mut remarks);
        read(&mut config, &mut remarks);
        let servers = &config.proxies[0].servers;
        let names: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["own", "x"]);
        assert_eq!((servers[1].options.weight, servers[1].options.check), (7, true));
        assert!(is_added(&servers[1], &file) && !is_added(&servers[0], &file));
        let lines: Vec<_> = remarks.iter().map(|remark| remark.line).collect();
        assert_eq!((lines, remarks.has_errors()), (vec![3, 4, 5], false), "{remarks}");
        // What is written is what was read.
        let again = show(servers.iter().filter(|server| is_added(server, &file)));
        assert_eq!(again, format!("{HEAD}add server b/x 10.0.0.1:5 weight 7 check\n"));
        write(&file, &again).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), again);
        assert!(write(Path::new("/nonexistent/file"), "").unwrap_err().contains("/nonexistent/file"));
    }
}
