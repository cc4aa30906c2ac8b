//! TLS for listeners: certificate files, what they are made into, and reading them again while the node runs.
//!
//! rustls does the work. What a listener is told has RabbitMQ's words (`ssl_options.verify`,
//! `fail_if_no_peer_cert`, `versions`).

pub(crate) mod certificate;
mod files;
pub(crate) mod nodes;
#[cfg(test)]
pub(crate) mod testing;

use certificate::{Moment, PeerCertificate};
use parking_lot::Mutex;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{
    CipherSuite, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Whether a client is asked for a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verify {
    /// No.
    None,
    /// It is asked, and may have none.
    Peer,
    /// It must have one (`fail_if_no_peer_cert`).
    PeerRequired,
}

/// What a listener is told.
#[derive(Clone, Debug)]
pub(crate) struct TlsOptions {
    /// Our certificate and those between it and the root.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// Who may sign clients' certificates.
    pub(crate) ca: Option<PathBuf>,
    /// Whether clients are asked for theirs.
    pub(crate) verify: Verify,
    /// What is spoken, best first.
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    /// Protocols offered by ALPN.
    pub(crate) alpn: &'static [&'static [u8]],
}

/// Which option an error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum About {
    /// `cert`
    Cert,
    /// `key`
    Key,
    /// `ca`
    Ca,
}

/// A certificate file that can not be used.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {message}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub(crate) struct TlsError {
    /// The option that names the file.
    pub(crate) about: About,
    /// The file.
    pub(crate) path: PathBuf,
    /// The line in it, if that says anything.
    pub(crate) line: Option<usize>,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) help: String,
}

/// The TLS side of a listener. Its files can be read again; connections keep what they began with.
pub(crate) struct TlsServer {
    options: TlsOptions,
    current: Mutex<Current>,
}

/// What the files said when they were read last.
struct Current {
    config: Arc<ServerConfig>,
    ends: Ends,
}

/// Until when the certificates of a listener are valid.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends {
    /// Those in `cert`.
    pub(crate) cert: Vec<Moment>,
    /// Those in `ca`.
    pub(crate) ca: Vec<Moment>,
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").field("options", &self.options).finish_non_exhaustive()
    }
}

impl TlsServer {
    /// Reads the files.
    ///
    /// # Errors
    /// Says which file can not be used, and why.
    pub(crate) fn load(options: TlsOptions) -> Result<TlsServer, TlsError> {
        let current = Mutex::new(read(&options)?);
        Ok(TlsServer { options, current })
    }

    /// Reads the files again, for connections that come from now on. When something is wrong with them,
    /// nothing changes.
    ///
    /// # Errors
    /// As [`TlsServer::load`].
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let current = read(&self.options)?;
        *self.current.lock() = current;
        Ok(())
    }

    /// What a new connection begins with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.lock().config)
    }

    /// Until when its certificates are valid.
    pub(crate) fn ends(&self) -> Ends {
        self.current.lock().ends.clone()
    }

    /// What it was told.
    pub(crate) fn options(&self) -> &TlsOptions {
        &self.options
    }
}

fn read(options: &TlsOptions) -> Result<Current, TlsError> {
    let chain = files::certificates(About::Cert, &options.cert)?;
    let mut ends = Ends { cert: ends(&chain), ca: Vec::new() };
    let key = files::private_key(&options.key)?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&options.versions)
        .map_err(|error| files::unusable(About::Cert, &options.cert, &error))?;
    let builder = match client_verifier(options, provider, &mut ends)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError {
            help: format!("it must belong to the first certificate of {}", options.cert.display()),
            ..files::unusable(About::Key, &options.key, &"the key does not belong to the certificate")
        },
        rustls::Error::InvalidCertificate(_) => files::unusable(About::Cert, &options.cert, &error),
        error => files::unusable(About::Key, &options.key, &error),
    })?;
    config.alpn_protocols = options.alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Current { config: Arc::new(config), ends })
}

fn ends(certificates: &[CertificateDer<'_>]) -> Vec<Moment> {
    let parsed = certificates.iter().filter_map(|certificate| PeerCertificate::parse(certificate));
    parsed.map(|certificate| certificate.not_after).collect()
}

fn client_verifier(
    options: &TlsOptions,
    provider: Arc<rustls::crypto::CryptoProvider>,
    found: &mut Ends,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let Some(path) = options.ca.as_ref().filter(|_| options.verify != Verify::None) else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    let certificates = files::certificates(About::Ca, path)?;
    found.ca = ends(&certificates);
    for certificate in certificates {
        roots.add(certificate).map_err(|error| files::unusable(About::Ca, path, &error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if options.verify == Verify::Peer { builder.allow_unauthenticated() } else { builder };
    builder.build().map(Some).map_err(|error| files::unusable(About::Ca, path, &error))
}

/// Where EXTERNAL takes the user name from (RabbitMQ's `ssl_cert_login_from`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CertLogin {
    /// Which name of the certificate.
    pub(crate) from: LoginFrom,
}

/// A place of a certificate that has a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::enum_variant_names, reason = "RabbitMQ's words")]
pub(crate) enum LoginFrom {
    /// The whole subject.
    DistinguishedName,
    /// The common names in it.
    CommonName,
    /// One of the alternative names.
    SubjectAlternativeName {
        /// Its type.
        san_type: SanType,
        /// Its place among those of this type, from 0.
        index: usize,
    },
}

/// Types of alternative names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SanType {
    /// `dns`
    Dns,
    /// `ip`
    Ip,
    /// `email`
    Email,
    /// `uri`
    Uri,
    /// `other_name`
    OtherName,
}

/// What is known of the TLS side of a connection, in RabbitMQ's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TlsInfo {
    /// `tlsv1.3`
    pub(crate) protocol: &'static str,
    /// `aes_256_gcm`
    pub(crate) cipher: &'static str,
    /// `ecdhe_rsa`; `any` where it belongs to no cipher suite.
    pub(crate) key_exchange: &'static str,
    /// `aead`: there are no others any more.
    pub(crate) hash: &'static str,
    /// The client's certificate; it was checked.
    pub(crate) peer: Option<PeerCertificate>,
}

impl TlsInfo {
    /// What a finished handshake says.
    pub(crate) fn new(connection: &ServerConnection) -> TlsInfo {
        let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
        let (cipher, key_exchange) = suite.map_or(("", ""), suite_words);
        TlsInfo {
            protocol: connection.protocol_version().map_or("", protocol_name),
            cipher,
            key_exchange,
            hash: "aead",
            peer: connection
                .peer_certificates()
                .and_then(|chain| chain.first())
                .and_then(|certificate| PeerCertificate::parse(certificate)),
        }
    }
}

/// The name of a version that can be configured.
pub(crate) fn version_name(version: &SupportedProtocolVersion) -> &'static str {
    protocol_name(version.version)
}

fn protocol_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "tlsv1.3",
        ProtocolVersion::TLSv1_2 => "tlsv1.2",
        _ => "",
    }
}

/// Cipher and key exchange of a suite, as Erlang calls them.
fn suite_words(suite: CipherSuite) -> (&'static str, &'static str) {
    const AES_128: &str = "aes_128_gcm";
    const AES_256: &str = "aes_256_gcm";
    const CHACHA: &str = "chacha20_poly1305";
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => (AES_128, "any"),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => (AES_256, "any"),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => (CHACHA, "any"),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => (AES_128, "ecdhe_ecdsa"),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => (AES_256, "ecdhe_ecdsa"),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => (CHACHA, "ecdhe_ecdsa"),
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => (AES_128, "ecdhe_rsa"),
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => (AES_256, "ecdhe_rsa"),
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => (CHACHA, "ecdhe_rsa"),
        _ => ("", ""),
    }
}
