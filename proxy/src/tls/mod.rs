//! TLS towards clients and towards servers; rustls does the work.
//!
//! Files are read when a configuration is ([`prepare`]), because after that the process may have no right to.
//! What was made of them is kept for each set of options that occurs, and replaced by the next configuration.
//! Connections keep what they began with.

mod files;
mod names;
mod subject;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::diagnostic::{Diagnostic, Diagnostics};
use parking_lot::RwLock;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::config::Config;
use crate::config::tls::{BindTls, ServerTls, Sni, TlsParameters, TlsVersion, Verify};

pub use self::files::TlsError;
pub use self::subject::common_name;

/// Where Debian and others keep the authorities of the system.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What was made of the options that occur.
static MADE: RwLock<Made> = RwLock::new(Made { binds: Vec::new(), servers: Vec::new() });

#[derive(Debug)]
struct Made {
    binds: Vec<(BindTls, Arc<ServerConfig>)>,
    servers: Vec<(ServerTls, Connecting)>,
}

/// What connections to a server begin with.
#[derive(Debug, Clone)]
struct Connecting {
    /// With the name to ask for.
    named: Arc<ClientConfig>,
    /// Without one: `sni` gives the client's name, and this client gave none.
    unnamed: Arc<ClientConfig>,
}

/// Reads all files that a configuration names; what is wrong with them becomes an error.
pub fn prepare(config: &Config, remarks: &mut Diagnostics) {
    let mut made = Made { binds: Vec::new(), servers: Vec::new() };
    for proxy in &config.proxies {
        for bind in &proxy.binds {
            let Some(options) = &bind.tls else { continue };
            match accepting(options) {
                Ok(config) => made.binds.push((options.clone(), config)),
                Err(error) => remarks.push(bind.place.mark(complain(&error))),
            }
        }
        for server in &proxy.servers {
            let options = &server.options.tls;
            let wanted =
                [options.enabled.then(|| options.clone()), options.for_checks().then(|| options.of_checks())];
            for options in wanted.into_iter().flatten() {
                if made.servers.iter().any(|(known, _)| *known == options) {
                    continue;
                }
                match Connecting::new(&options) {
                    Ok(config) => made.servers.push((options, config)),
                    Err(error) => {
                        remarks.push(server.place.mark(complain(&error)));
                        break;
                    }
                }
            }
        }
    }
    if !remarks.has_errors() {
        MADE.write().replace(made);
    }
}

impl Made {
    /// Takes what was made for a new configuration. What only the old one has stays: connections of the old one go on,
    /// and it is the one that runs if the new one is refused after all.
    fn replace(&mut self, new: Made) {
        let old = std::mem::replace(self, new);
        let gone = |(options, _): &(BindTls, _)| self.binds.iter().all(|(known, _)| known != options);
        let binds: Vec<_> = old.binds.into_iter().filter(gone).collect();
        self.binds.extend(binds);
        let gone = |(options, _): &(ServerTls, _)| self.servers.iter().all(|(known, _)| known != options);
        let servers: Vec<_> = old.servers.into_iter().filter(gone).collect();
        self.servers.extend(servers);
    }
}

fn complain(error: &TlsError) -> Diagnostic {
    Diagnostic::error("tls-file", error.to_string())
}

/// What a client's connection begins with.
///
/// # Errors
/// A file cannot be used.
pub fn acceptor(options: &BindTls) -> Result<Arc<ServerConfig>, TlsError> {
    if let Some((_, config)) = MADE.read().binds.iter().find(|(known, _)| known == options) {
        return Ok(config.clone());
    }
    let config = accepting(options)?;
    MADE.write().binds.push((options.clone(), config.clone()));
    Ok(config)
}

/// What a connection to a server begins with, and the name to ask it for. `client` is the name that the client
/// asked us for.
///
/// # Errors
/// A file cannot be used, or the name is none.
pub fn connector(
    options: &ServerTls,
    client: Option<&str>,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsError> {
    let sni = match &options.sni {
        Some(Sni::Name(name)) => Some(name.as_str()),
        Some(Sni::Client) => client,
        None => None,
    };
    let made = client_configs(options)?;
    let config = if sni.is_some() || options.sni.is_none() { made.named } else { made.unnamed };
    let name = ServerName::try_from(sni.unwrap_or("localhost").to_owned())
        .map_err(|error| TlsError::new(Path::new("sni"), error.to_string()))?;
    Ok((config, name))
}

fn client_configs(options: &ServerTls) -> Result<Connecting, TlsError> {
    /// Options that are kept, at most; servers that are added at run time bring theirs.
    const MOST: usize = 4096;
    let found = MADE.read().servers.iter().find(|(known, _)| known == options).map(|(_, made)| made.clone());
    if let Some(made) = found {
        return Ok(made);
    }
    let new = Connecting::new(options)?;
    let mut made = MADE.write();
    if made.servers.len() < MOST {
        made.servers.push((options.clone(), new.clone()));
    }
    Ok(new)
}

fn accepting(options: &BindTls) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider(&options.parameters)?;
    let about = options.crt.first().map_or_else(|| PathBuf::from("crt"), Clone::clone);
    let wrong = |error: &dyn std::fmt::Display| TlsError::new(&about, error.to_string());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(&options.parameters))
        .map_err(|error| wrong(&error))?;
    let builder = match (&options.ca_file, options.verify) {
        (_, Verify::None) => builder.with_no_client_auth(),
        (None, _) => return Err(wrong(&"`verify` needs a `ca-file`")),
        (Some(path), verify) => {
            let roots = Arc::new(authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            let verifier = match &options.crl_file {
                Some(list) => verifier.with_crls(files::revoked(list)?),
                None => verifier,
            };
            let verifier =
                if verify == Verify::Optional { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| wrong(&error))?)
        }
    };
    let chosen = names::Certificates::load(&options.crt, &options.crt_list, options.strict_sni, &provider)?;
    let mut config = builder.with_cert_resolver(Arc::new(chosen));
    config.alpn_protocols = options.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.ignore_client_order = !options.prefer_client_ciphers;
    if options.parameters.no_tickets {
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

impl Connecting {
    /// Reads the files once; which name a client asks for is only part of what is verified then.
    fn new(options: &ServerTls) -> Result<Self, TlsError> {
        let named = connecting(options)?;
        let by_client = options.sni == Some(Sni::Client);
        let unnamed = if by_client {
            let mut config = ClientConfig::clone(&named);
            config.enable_sni = false;
            if options.verify != Some(Verify::None) && options.verifyhost.is_none() {
                config.dangerous().set_certificate_verifier(verifier(
                    options,
                    &provider(&options.parameters)?,
                    verify::Name::Any,
                )?);
            }
            // What was resumed must have been verified in the same way.
            config.resumption = rustls::client::Resumption::disabled();
            Arc::new(config)
        } else {
            named.clone()
        };
        Ok(Self { named, unnamed })
    }
}

fn connecting(options: &ServerTls) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider(&options.parameters)?;
    let about = options.ca_file.clone().unwrap_or_else(|| PathBuf::from("ssl"));
    let wrong = |error: &dyn std::fmt::Display| TlsError::new(&about, error.to_string());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(&options.parameters))
        .map_err(|error| wrong(&error))?
        .dangerous();
    let name = match (&options.verifyhost, &options.sni) {
        (Some(name), _) | (None, Some(Sni::Name(name))) => {
            let name = ServerName::try_from(name.clone());
            verify::Name::This(name.map_err(|error| wrong(&error))?)
        }
        (None, Some(Sni::Client)) => verify::Name::Asked,
        (None, None) => verify::Name::Any,
    };
    let builder = builder.with_custom_certificate_verifier(verifier(options, &provider, name)?);
    let mut config = match &options.crt {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let (chain, key) = files::chain_and_key(path)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| TlsError::new(path, error.to_string()))?
        }
    };
    config.enable_sni = options.sni.is_some();
    config.alpn_protocols = options.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    if options.no_reuse {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// What decides whether a server's certificate is to be trusted.
fn verifier(
    options: &ServerTls,
    provider: &Arc<CryptoProvider>,
    name: verify::Name,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    if options.verify == Some(Verify::None) {
        return Ok(Arc::new(verify::Anybody::new(provider.clone())));
    }
    let Some(path) = &options.ca_file else {
        let text = "`verify required` needs a `ca-file`; or write `verify none`";
        return Err(TlsError::new(Path::new("ssl"), text));
    };
    let revoked = options.crl_file.as_deref().map(files::revoked).transpose()?.unwrap_or_default();
    let verifier = verify::Named::new(authorities(path)?, revoked, name, provider.clone());
    Ok(Arc::new(verifier.map_err(|error| TlsError::new(path, error.to_string()))?))
}

/// The authorities of a file, or those of the system (`@system-ca`).
fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let system = path.as_os_str() == "@system-ca";
    let found = SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.exists());
    let path = if system { found.unwrap_or(path) } else { path };
    let mut roots = RootCertStore::empty();
    for certificate in files::certificates(path)? {
        match roots.add(certificate) {
            // The system's list may have one that is of no use here.
            Err(error) if !system => return Err(TlsError::new(path, error.to_string())),
            _ => {}
        }
    }
    Ok(roots)
}

fn versions(parameters: &TlsParameters) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::V13, &rustls::version::TLS13), (TlsVersion::V12, &rustls::version::TLS12)];
    let wanted = |version: TlsVersion| {
        parameters.min_version.is_none_or(|min| version >= min)
            && parameters.max_version.is_none_or(|max| version <= max)
    };
    all.into_iter().filter(|(version, _)| wanted(*version)).map(|(_, it)| it).collect()
}

/// Ciphers in OpenSSL's names, as far as rustls has them.
fn provider(parameters: &TlsParameters) -> Result<Arc<CryptoProvider>, TlsError> {
    let mut provider = ring::default_provider();
    let listed: Vec<&str> = [&parameters.ciphers, &parameters.ciphersuites]
        .into_iter()
        .flatten()
        .flat_map(|list| list.split(':'))
        .collect();
    let openssl = |suite: &rustls::SupportedCipherSuite| {
        let name = format!("{:?}", suite.suite());
        name.strip_prefix("TLS13_").map_or_else(
            || name.trim_start_matches("TLS_").replace("_WITH", "").replace("AES_", "AES").replace('_', "-"),
            |name| format!("TLS_{name}"),
        )
    };
    let is_12 = |suite: &rustls::SupportedCipherSuite| suite.tls13().is_none();
    for (given, old) in [(&parameters.ciphers, true), (&parameters.ciphersuites, false)] {
        let names_one = |suite: &rustls::SupportedCipherSuite| {
            listed.iter().any(|name| {
                let (mine, name) = (openssl(suite), name.to_uppercase());
                mine == name || mine.replace("-SHA256", "") == name.replace("-SHA256", "")
            })
        };
        // A list of groups of ciphers (`HIGH:!aNULL`) names none of them: all of rustls's are of that kind.
        let any = provider.cipher_suites.iter().any(|suite| is_12(suite) == old && names_one(suite));
        if given.is_some() && any {
            provider.cipher_suites.retain(|suite| is_12(suite) != old || names_one(suite));
        }
    }
    if let Some(curves) = &parameters.curves {
        provider.kx_groups = groups(curves)?;
    }
    Ok(Arc::new(provider))
}

/// Groups of the key exchange by OpenSSL's names, in the order of the list.
fn groups(curves: &str) -> Result<Vec<&'static dyn SupportedKxGroup>, TlsError> {
    let found: Vec<_> = curves
        .split([':', ','])
        .filter_map(|name| match name.to_lowercase().as_str() {
            "x25519" => Some(ring::kx_group::X25519),
            "p-256" | "prime256v1" | "secp256r1" => Some(ring::kx_group::SECP256R1),
            "p-384" | "secp384r1" => Some(ring::kx_group::SECP384R1),
            _ => None,
        })
        .collect();
    // Others than the named ones would let in what the list is there to keep out.
    if found.is_empty() {
        let message = format!("none of `{curves}` is known; write X25519, P-256 or P-384");
        return Err(TlsError::new(Path::new("curves"), message));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::NamedGroup;

    #[test]
    fn versions_are_within_their_bounds() {
        let count = |min, max| {
            versions(&TlsParameters { min_version: min, max_version: max, ..TlsParameters::default() }).len()
        };
        assert_eq!(count(None, None), 2);
        assert_eq!(count(Some(TlsVersion::V13), None), 1);
        assert_eq!(count(None, Some(TlsVersion::V12)), 1);
    }

    #[test]
    fn ciphers_have_openssls_names() {
        let count = |ciphers: &str| {
            let parameters = TlsParameters { ciphers: Some(ciphers.to_owned()), ..TlsParameters::default() };
            let provider = provider(&parameters).unwrap();
            provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none()).count()
        };
        assert_eq!(count("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"), 2);
        assert_eq!(count("ECDHE-RSA-CHACHA20-POLY1305"), 1);
        assert_eq!(count("HIGH:!aNULL"), 6);
    }

    #[test]
    fn curves_are_offered_in_the_order_of_the_list_and_no_others() {
        let offered = |curves: &str| {
            let parameters = TlsParameters { curves: Some(curves.to_owned()), ..TlsParameters::default() };
            provider(&parameters)
                .map(|provider| provider.kx_groups.iter().map(|group| group.name()).collect())
        };
        let names: Vec<NamedGroup> = offered("P-384:secp521r1:x25519").unwrap();
        assert_eq!(names, [NamedGroup::secp384r1, NamedGroup::X25519]);
        assert_eq!(offered("prime256v1").unwrap(), [NamedGroup::secp256r1]);
        assert!(offered("secp521r1").unwrap_err().to_string().contains("none of `secp521r1` is known"));
    }

    #[test]
    fn authorities_are_read_once_whatever_names_clients_ask_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem())
            .unwrap();
        let options = ServerTls {
            enabled: true,
            verify: Some(Verify::Required),
            ca_file: Some(file.clone()),
            sni: Some(Sni::Client),
            ..ServerTls::default()
        };
        let named = connector(&options, Some("first.example")).unwrap().0;
        // After a chroot, or without rights, it cannot be read again.
        std::fs::remove_file(file).unwrap();
        for at in 0..300 {
            let (config, name) = connector(&options, Some(&format!("host{at}.example"))).unwrap();
            assert!(Arc::ptr_eq(&config, &named));
            assert_eq!(name.to_str(), format!("host{at}.example"));
        }
        // A client without a name: none is asked for.
        assert!(!connector(&options, None).unwrap().0.enable_sni && named.enable_sni);
    }

    #[test]
    fn what_the_configuration_of_before_made_stays_beside_the_new() {
        let options = |host: &str| ServerTls {
            enabled: true,
            verify: Some(Verify::None),
            verifyhost: Some(host.to_owned()),
            ..ServerTls::default()
        };
        let made = |hosts: &[&str]| Made {
            binds: Vec::new(),
            servers: hosts
                .iter()
                .map(|host| (options(host), Connecting::new(&options(host)).unwrap()))
                .collect(),
        };
        let mut now = made(&["a", "b"]);
        let (a, b) = (now.servers[0].1.named.clone(), now.servers[1].1.named.clone());
        now.replace(made(&["b", "c"]));
        let of = |host: &str| {
            let mut found = now.servers.iter().filter(|(known, ..)| *known == options(host));
            let config = found.next().unwrap().1.named.clone();
            assert!(found.next().is_none(), "{host} is there twice");
            config
        };
        assert!(Arc::ptr_eq(&of("a"), &a));
        assert!(!Arc::ptr_eq(&of("b"), &b), "the file of b may be another one now");
        of("c");
    }
}
