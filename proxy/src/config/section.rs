//! One `listen`, `frontend` or `backend` section.

use std::time::Duration;

use daemon::diagnostic::Diagnostic;

use super::bind::Bind;
use super::rules::{Acl, BackendRule, ClientRule, ServerRule};
use super::server::ServerConfig;
use super::settings::Settings;

/// Which kind of section it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Frontend and backend in one.
    Listen,
    /// Accepts only.
    Frontend,
    /// Connects only.
    Backend,
}

impl Kind {
    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Frontend => "frontend",
            Self::Backend => "backend",
        }
    }
}

/// What travels through a section.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Bytes.
    #[default]
    Tcp,
    /// HTTP; here only for the statistics page.
    Http,
}

/// A place in a file, for messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub file: String,
    /// Line from 1; 0 when unknown.
    pub line: usize,
    /// Column from 1.
    pub column: usize,
    /// Text of the line.
    pub text: String,
    /// Marked characters.
    pub length: usize,
}

impl Place {
    /// Puts a remark at this place.
    #[must_use]
    pub fn mark(&self, remark: Diagnostic) -> Diagnostic {
        remark.in_file(&self.file).at(self.line, self.column, &self.text, self.length)
    }
}

/// One `listen`, `frontend` or `backend` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Its name.
    pub name: String,
    /// Its number on the statistics page; the first is 2, as HAProxy counts itself as 1.
    pub id: u32,
    /// Which kind of section it was.
    pub kind: Kind,
    /// Where it begins.
    pub place: Place,
    /// Addresses to accept on.
    pub binds: Vec<Bind>,
    /// Servers to connect to.
    pub servers: Vec<ServerConfig>,
    /// What can also stand in `defaults`.
    pub settings: Settings,
    /// Tests by name.
    pub acls: Vec<Acl>,
    /// Who may come in.
    pub client_rules: Vec<ClientRule>,
    /// Longest wait for what content rules look at (`tcp-request inspect-delay`).
    pub inspect_delay: Option<Duration>,
    /// Who goes to another backend than the default one.
    pub backend_rules: Vec<BackendRule>,
    /// Who goes to a server of his own.
    pub server_rules: Vec<ServerRule>,
}

impl ProxyConfig {
    /// A section with nothing in it yet.
    #[must_use]
    pub fn new(name: &str, id: u32, kind: Kind, settings: Settings) -> Self {
        Self {
            name: name.to_owned(),
            id,
            kind,
            place: Place::default(),
            binds: Vec::new(),
            servers: Vec::new(),
            settings,
            acls: Vec::new(),
            client_rules: Vec::new(),
            inspect_delay: None,
            backend_rules: Vec::new(),
            server_rules: Vec::new(),
        }
    }

    /// Whether it accepts connections.
    #[must_use]
    pub fn has_frontend(&self) -> bool {
        self.kind != Kind::Backend
    }

    /// Whether a content rule looks at what clients send.
    #[must_use]
    pub fn looks_at_content(&self) -> bool {
        self.client_rules.iter().any(|rule| rule.condition.looks_at_content())
    }

    /// Whether it can have servers.
    #[must_use]
    pub fn has_backend(&self) -> bool {
        self.kind != Kind::Frontend
    }
}
