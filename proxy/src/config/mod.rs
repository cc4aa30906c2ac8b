//! What the proxy is told to do, in one checked form that both file formats are turned into.
//!
//! [`Config`] is the form the rest of the program sees; its parts are in a file for each idea.
//! `haproxy_cfg` and `toml` read the two file formats into it, [`validate`] looks for contradictions
//! between its parts, [`unused`] names what is read but not carried out.

pub mod added;
pub mod address;
pub mod balance;
pub mod bind;
pub mod checks;
pub mod complete;
pub mod duration;
pub mod fuzz;
pub mod global;
pub mod haproxy_cfg;
pub mod log;
pub mod references;
pub mod rules;
pub mod section;
pub mod sections;
pub mod server;
pub mod settings;
pub mod show;
pub mod show_settings;
pub mod stats;
#[cfg(test)]
mod tests;
pub mod texts;
pub mod tls;
pub mod toml;
pub mod unused;
pub mod validate;

use std::path::{Path, PathBuf};

use daemon::diagnostic::{Diagnostic, Diagnostics};

pub use self::address::{BindAddress, ServerAddress};
pub use self::balance::{Algorithm, HashFunction, HashKey, HashMethod, HashType};
pub use self::bind::{Bind, UnixSocket};
pub use self::checks::{CheckKind, CheckSettings};
pub use self::global::{Global, Level, StatsSocket};
pub use self::log::{LogFraming, LogSample, LogSink, LogTarget};
pub use self::section::{Kind, Mode, Place, ProxyConfig};
pub use self::sections::{Resolvers, Userlist};
pub use self::server::{ProxyProtocol, ServerConfig, ServerOptions};
pub use self::settings::{Rebalance, ServerStateFile, Settings, Timeouts};
pub use self::stats::{DEFAULT_STATS_URI, StatsAdmin, StatsConfig};

/// Everything the proxy is told to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Settings of the process.
    pub global: Global,
    /// `listen`, `frontend` and `backend` sections in the order of the file.
    pub proxies: Vec<ProxyConfig>,
    /// `resolvers` sections.
    pub resolvers: Vec<Resolvers>,
    /// `userlist` sections.
    pub userlists: Vec<Userlist>,
}

impl Config {
    /// Whether anybody could connect: HAProxy does not start without a listener.
    #[must_use]
    pub fn listens(&self) -> bool {
        // One for commands counts too.
        !self.global.stats_sockets.is_empty()
            || self.proxies.iter().any(|proxy| !proxy.settings.disabled && !proxy.binds.is_empty())
    }

    /// The same without places in files: two of these are equal when they mean the same.
    #[must_use]
    pub fn without_places(&self) -> Self {
        let mut config = self.clone();
        let none = Place::default;
        for socket in &mut config.global.stats_sockets {
            socket.bind.place = none();
        }
        for proxy in &mut config.proxies {
            proxy.forget_places();
        }
        config.resolvers.iter_mut().for_each(|resolvers| resolvers.place = none());
        config.userlists.iter_mut().for_each(|list| list.place = none());
        config
    }
}

impl ProxyConfig {
    /// Takes all places in files out.
    pub fn forget_places(&mut self) {
        let none = Place::default;
        self.place = none();
        self.binds.iter_mut().for_each(|bind| bind.place = none());
        self.servers.iter_mut().for_each(|server| server.place = none());
        self.settings.server_timeout_place = None;
        if let Some((_, place)) = &mut self.settings.default_backend {
            *place = none();
        }
        self.acls.iter_mut().flat_map(|acl| &mut acl.places).for_each(|place| *place = none());
        self.client_rules.iter_mut().for_each(|rule| rule.place = none());
        self.backend_rules.iter_mut().for_each(|rule| rule.place = none());
        self.server_rules.iter_mut().for_each(|rule| rule.place = none());
    }
}

/// Reads several files into one configuration. A directory stands for its `*.cfg` files in order.
///
/// # Errors
/// All mistakes of all files.
pub fn load(paths: &[PathBuf]) -> Result<(Config, Diagnostics), Diagnostics> {
    let mut remarks = Diagnostics::new();
    let mut config = Config::default();
    let mut reader = haproxy_cfg::Reader::default();
    for path in expand(paths, &mut remarks) {
        let text = match daemon::config::read_text(&path) {
            Ok(text) => text,
            Err(error) => {
                remarks.extend(error);
                continue;
            }
        };
        let file = path.display().to_string();
        if is_toml(&path, &text) {
            match toml::read(&text, &file, &mut config) {
                Ok(found) => remarks.extend(found),
                Err(found) => remarks.extend(found),
            }
        } else {
            reader.read(&text, &file, &mut config, &mut remarks);
        }
    }
    added::read(&mut config, &mut remarks);
    validate::validate(&mut config, &mut remarks);
    crate::tls::prepare(&config, &mut remarks);
    remarks.sort();
    if remarks.has_errors() { Err(remarks) } else { Ok((config, remarks)) }
}

fn expand(paths: &[PathBuf], remarks: &mut Diagnostics) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside: Vec<PathBuf> = std::fs::read_dir(path)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        inside.retain(|file| {
            file.extension().is_some_and(|extension| extension == "cfg" || extension == "toml")
        });
        inside.sort();
        if inside.is_empty() {
            remarks.push(Diagnostic::error(
                "empty-directory",
                format!("no *.cfg or *.toml file in {}", path.display()),
            ));
        }
        files.extend(inside);
    }
    files
}

/// Tells TOML from haproxy.cfg: by the extension, else by the first line with content.
fn is_toml(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => return true,
        Some("cfg") => return false,
        _ => {}
    }
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .is_some_and(|line| line.starts_with('[') || (line.contains('=') && !line.starts_with("server ")))
}
