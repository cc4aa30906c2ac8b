//! TLS towards clients and towards servers.

use std::path::PathBuf;

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

impl TlsVersion {
    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::V12 => "TLSv1.2",
            Self::V13 => "TLSv1.3",
        }
    }
}

/// Versions and ciphers of a TLS connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsParameters {
    /// Lowest version (`ssl-min-ver`, `no-tlsv12`, ...).
    pub min_version: Option<TlsVersion>,
    /// Highest version (`ssl-max-ver`, `no-tlsv13`, ...).
    pub max_version: Option<TlsVersion>,
    /// Cipher suites of TLS 1.2 as OpenSSL writes them (`ciphers`).
    pub ciphers: Option<String>,
    /// Cipher suites of TLS 1.3 (`ciphersuites`).
    pub ciphersuites: Option<String>,
    /// Groups for the key exchange (`curves`, `ecdhe`).
    pub curves: Option<String>,
    /// No session tickets (`no-tls-tickets`).
    pub no_tickets: bool,
}

/// What TLS starts from (`ssl-default-*` in `global`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsDefaults {
    /// Towards clients (`ssl-default-bind-*`).
    pub bind: TlsParameters,
    /// Towards servers (`ssl-default-server-*`).
    pub server: TlsParameters,
    /// Accept any certificate of servers unless told otherwise (`ssl-server-verify none`).
    pub server_verify_none: bool,
}

/// Whether a peer has to show a certificate that is trusted (`verify`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// It need not have one, any will do.
    None,
    /// It need not have one; a wrong one is refused.
    Optional,
    /// It must have one.
    Required,
}

impl Verify {
    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// TLS towards clients (`bind ... ssl`). Relative names have been joined to `crt-base` and `ca-base`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindTls {
    /// Files with certificate chain and key, or directories of them; the first is the default (`crt`).
    pub crt: Vec<PathBuf>,
    /// Files that list certificates and the names they are for (`crt-list`).
    pub crt_list: Vec<PathBuf>,
    /// Whose signatures under clients' certificates are trusted (`ca-file`).
    pub ca_file: Option<PathBuf>,
    /// Certificates that were called back (`crl-file`).
    pub crl_file: Option<PathBuf>,
    /// Whether clients need a certificate; not when unset.
    pub verify: Verify,
    /// Protocols offered, best first (`alpn`).
    pub alpn: Vec<String>,
    /// Refuse clients that ask for a name no certificate is for (`strict-sni`).
    pub strict_sni: bool,
    /// The server's order of ciphers decides (`prefer-client-ciphers` turns it off).
    pub prefer_client_ciphers: bool,
    /// Versions and ciphers.
    pub parameters: TlsParameters,
}

impl Default for BindTls {
    fn default() -> Self {
        Self {
            crt: Vec::new(),
            crt_list: Vec::new(),
            ca_file: None,
            crl_file: None,
            verify: Verify::None,
            alpn: Vec::new(),
            strict_sni: false,
            prefer_client_ciphers: false,
            parameters: TlsParameters::default(),
        }
    }
}

/// TLS towards a server (`server ... ssl`, `check-ssl`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerTls {
    /// Sessions speak TLS (`ssl`).
    pub enabled: bool,
    /// Checks speak TLS although sessions do not (`check-ssl`), or the other way round (`no-check-ssl`).
    pub check: Option<bool>,
    /// Whether the server's certificate must be trusted; `required` when unset, unless
    /// `ssl-server-verify none` is in `global`.
    pub verify: Option<Verify>,
    /// The name its certificate must have (`verifyhost`).
    pub verifyhost: Option<String>,
    /// Whose signatures are trusted (`ca-file`; `@system-ca` is the system's list).
    pub ca_file: Option<PathBuf>,
    /// Certificates that were called back (`crl-file`).
    pub crl_file: Option<PathBuf>,
    /// Our own certificate and key (`crt`).
    pub crt: Option<PathBuf>,
    /// Server name to ask for (`sni`).
    pub sni: Option<Sni>,
    /// Server name checks ask for (`check-sni`).
    pub check_sni: Option<String>,
    /// Protocols offered (`alpn`).
    pub alpn: Vec<String>,
    /// Protocols checks offer (`check-alpn`).
    pub check_alpn: Vec<String>,
    /// No resumption of TLS sessions (`no-ssl-reuse`).
    pub no_reuse: bool,
    /// Versions and ciphers.
    pub parameters: TlsParameters,
}

impl ServerTls {
    /// Whether checks speak TLS.
    #[must_use]
    pub fn for_checks(&self) -> bool {
        self.check.unwrap_or(self.enabled)
    }

    /// What checks begin with: as sessions, with the names that are given for checks.
    #[must_use]
    pub fn of_checks(&self) -> Self {
        let sni = match (&self.check_sni, &self.sni) {
            (Some(name), _) => Some(Sni::Name(name.clone())),
            // No client has asked for a name.
            (None, Some(Sni::Client)) => None,
            (None, own) => own.clone(),
        };
        let alpn = if self.check_alpn.is_empty() { &self.alpn } else { &self.check_alpn };
        Self { sni, alpn: alpn.clone(), ..self.clone() }
    }
}

/// The server name a TLS connection to a server asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sni {
    /// This one (`sni str(name)`).
    Name(String),
    /// The one the client asked us for (`sni ssl_fc_sni`).
    Client,
}
