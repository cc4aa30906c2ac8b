//! TLS between the nodes of a cluster: each shows a certificate that the cluster's own authority signed, and that
//! has its node name as common name.
//!
//! Whether the chain is good is decided here, in the TLS handshake; which node it is, by the greeting behind it, which
//! compares the common name with the name that the node gives.

use super::certificate::PeerCertificate;
use super::{About, CertLogin, LoginFrom, TlsError, files};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// What both sides say they are going to speak.
const ALPN: &[u8] = b"warren-link";

/// Where the files are.
#[derive(Clone, Debug)]
pub(crate) struct NodeTlsFiles {
    /// This node's certificate.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// Who signs nodes' certificates.
    pub(crate) ca: PathBuf,
}

/// Both sides of TLS between nodes.
#[derive(Clone)]
pub(crate) struct NodeTls {
    /// For who accepts.
    pub(crate) server: Arc<ServerConfig>,
    /// For who dials.
    pub(crate) client: Arc<ClientConfig>,
}

impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTls").finish_non_exhaustive()
    }
}

impl NodeTls {
    /// Reads the files of the node with this name.
    ///
    /// # Errors
    /// Says which file can not be used, and why; also when the certificate is another node's.
    pub(crate) fn load(paths: &NodeTlsFiles, node: &str) -> Result<NodeTls, TlsError> {
        let chain = files::certificates(About::Cert, &paths.cert)?;
        let named = chain.first().and_then(|certificate| node_name(certificate));
        if named.as_deref() != Some(node) {
            let message = match named {
                Some(other) => format!("this is the certificate of {other}, and this node is {node}"),
                None => format!("its owner has no common name, and this node is {node}"),
            };
            let help = format!("make one: broker ca FOLDER {node}");
            return Err(TlsError { help, ..files::unusable(About::Cert, &paths.cert, &message) });
        }
        let mut roots = RootCertStore::empty();
        for certificate in files::certificates(About::Ca, &paths.ca)? {
            roots.add(certificate).map_err(|error| files::unusable(About::Ca, &paths.ca, &error))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| files::unusable(About::Ca, &paths.ca, &error))?;
        let unusable = |error: Error| wrong_key(paths, &error);
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), files::private_key(&paths.key)?)
            .map_err(unusable)?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Authority { roots, provider }))
            .with_client_auth_cert(chain, files::private_key(&paths.key)?)
            .map_err(unusable)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        // Every connection shows the certificate again.
        client.resumption = rustls::client::Resumption::disabled();
        server.send_tls13_tickets = 0;
        Ok(NodeTls { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// The node that a certificate is for.
pub(crate) fn node_name(certificate: &[u8]) -> Option<String> {
    PeerCertificate::parse(certificate)?.login_name(&CertLogin { from: LoginFrom::CommonName })
}

fn wrong_key(paths: &NodeTlsFiles, error: &Error) -> TlsError {
    match error {
        Error::InconsistentKeys(_) => TlsError {
            help: format!("it must belong to the first certificate of {}", paths.cert.display()),
            ..files::unusable(About::Key, &paths.key, &"the key does not belong to the certificate")
        },
        error => files::unusable(About::Cert, &paths.cert, error),
    }
}

/// Accepts what the cluster's authority signed for a server, whatever host name is in it: a node is dialed by many
/// names, and known by its node name.
#[derive(Debug)]
struct Authority {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Authority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("nodes speak TLS 1.3 with each other".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
