//! The statistics page of a section: `stats ...`.

use std::time::Duration;

use super::rules::Condition;

/// The path of the statistics page when none is given.
pub const DEFAULT_STATS_URI: &str = "/monitor";

/// The statistics page of a section.
#[derive(Clone, PartialEq, Eq)]
pub struct StatsConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// Its path.
    pub uri: String,
    /// The browser reloads it this often.
    pub refresh: Option<Duration>,
    /// `user:password` pairs; none means open to all.
    pub auth: Vec<(String, String)>,
    /// Name of the protected area.
    pub realm: Option<String>,
    /// Do not show the version.
    pub hide_version: bool,
    /// Who may change states of servers.
    pub admin: StatsAdmin,
    /// Show this node name.
    pub show_node: Option<Option<String>>,
    /// Show this text.
    pub show_desc: Option<Option<String>>,
    /// Show addresses and cookies.
    pub show_legends: bool,
    /// Show the columns of modules (`show-modules`).
    pub show_modules: bool,
    /// Only these sections are shown (`scope`; `.` is the section itself); all when empty.
    pub scope: Vec<String>,
    /// Serve Prometheus at `/metrics` (`http-request use-service prometheus-exporter`).
    pub prometheus: bool,
}

impl std::fmt::Debug for StatsConfig {
    /// Leaves the passwords out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatsConfig")
            .field("enabled", &self.enabled)
            .field("uri", &self.uri)
            .field("refresh", &self.refresh)
            .field("users", &self.auth.len())
            .field("realm", &self.realm)
            .field("hide_version", &self.hide_version)
            .field("admin", &self.admin)
            .field("show_node", &self.show_node)
            .field("show_desc", &self.show_desc)
            .field("show_legends", &self.show_legends)
            .field("show_modules", &self.show_modules)
            .field("scope", &self.scope)
            .field("prometheus", &self.prometheus)
            .finish_non_exhaustive()
    }
}

impl Default for StatsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            uri: DEFAULT_STATS_URI.to_owned(),
            refresh: None,
            auth: Vec::new(),
            realm: None,
            hide_version: false,
            admin: StatsAdmin::Never,
            show_node: None,
            show_desc: None,
            show_legends: false,
            show_modules: false,
            scope: Vec::new(),
            prometheus: false,
        }
    }
}

/// Who may change states of servers on the statistics page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatsAdmin {
    /// Nobody.
    Never,
    /// Whoever may see the page.
    Always,
    /// Clients on this host.
    Localhost,
    /// Clients for whom this holds.
    If(Condition),
}
