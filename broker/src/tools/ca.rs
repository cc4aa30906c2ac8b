//! `broker ca`: certificates for TLS between the nodes of a cluster.
//!
//! ```text
//! FOLDER/ca.pem          the authority of the cluster: on every node
//! FOLDER/ca.key          its key: on none, it signs further nodes
//! FOLDER/rabbit@A.pem    certificate of a node: common name rabbit@A
//! FOLDER/rabbit@A.key    its key
//! ```

use super::line;
use crate::tls::nodes::node_name;
use daemon::exit::Exit;
use daemon::run::Failure;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The authority's certificate.
pub(crate) const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
/// Ten years.
const DAYS: u64 = 3650;
/// A clock that is behind takes a new certificate too.
const BEFORE: Duration = Duration::from_secs(86_400);

/// `broker ca`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the authority; both are made if there are none
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Nodes that get a certificate, such as rabbit@A
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// A further host name or address for the certificates (for tools that look at it; nodes do not)
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
}

/// Makes what is missing.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let had = args.folder.join(CA_CERT).exists();
    let authority = Authority::open_or_make(&args.folder)?;
    if !had {
        line(&format!("{}: a new authority", args.folder.join(CA_CERT).display()))?;
    }
    for node in &args.nodes {
        let made = authority.make(node, &args.host)?;
        line(&format!("{}: certificate of {node}", made.display()))?;
    }
    if let Some(node) = args.nodes.first() {
        line(&format!(
            "\nCopy {CA_CERT}, {node}.pem and {node}.key to the host of {node} (readable for the broker only), and name \
             them in [cluster.tls] of its broker.toml: ca, cert, key. {CA_KEY} stays here, out of reach."
        ))?;
    }
    Ok(())
}

/// Who signs the certificates of a cluster's nodes.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The authority of a folder. One that has none gets one.
    ///
    /// # Errors
    /// A file can not be read or written, or is no certificate of an authority.
    pub(crate) fn open_or_make(folder: &Path) -> Result<Authority, Failure> {
        let (cert, key) = (folder.join(CA_CERT), folder.join(CA_KEY));
        if !cert.exists() && !key.exists() {
            fs::create_dir_all(folder).map_err(|error| cannot_create(folder, &error))?;
            let made = KeyPair::generate().map_err(|error| software(&error))?;
            let name = format!("Warren cluster {:08x}", rand::random::<u32>());
            let certificate =
                params_of_authority(&name).self_signed(&made).map_err(|error| software(&error))?;
            write_new(&key, &made.serialize_pem(), 0o600)?;
            write_new(&cert, &certificate.pem(), 0o644)?;
        }
        let pem =
            |path: &Path| fs::read_to_string(path).map_err(|error| unreadable(path, &error.to_string()));
        let der = CertificateDer::from_pem_slice(pem(&cert)?.as_bytes());
        let der = der.map_err(|error| unreadable(&cert, &error.to_string()))?;
        let Some(name) = node_name(&der) else {
            return Err(unreadable(&cert, "no certificate with a common name"));
        };
        let signs = KeyPair::from_pem(&pem(&key)?).map_err(|error| unreadable(&key, &error.to_string()))?;
        // What is signed with another key would be of no use.
        if !der.windows(signs.public_key_raw().len()).any(|part| part == signs.public_key_raw()) {
            return Err(unreadable(&key, &format!("not the key of {}", cert.display())));
        }
        let issuer = Issuer::new(params_of_authority(&name), signs);
        Ok(Authority { folder: folder.to_owned(), issuer })
    }

    /// Makes the certificate and key of a node.
    ///
    /// # Errors
    /// It is no name of a node, it has one already, or a file can not be written.
    pub(crate) fn make(&self, node: &str, hosts: &[String]) -> Result<PathBuf, Failure> {
        let host = match node.split_once('@') {
            Some((name, host))
                if !name.is_empty() && !host.is_empty() && !node.contains(['/', '\\', '\0']) =>
            {
                host
            }
            _ => {
                let message =
                    format!("`{node}` is no name of a node: write rabbit@HOST, as cluster_status shows it");
                return Err(Failure::new(Exit::Usage, message));
            }
        };
        let names = std::iter::once(host.to_owned()).chain(hosts.iter().cloned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).map_err(|error| {
            Failure::new(Exit::Usage, format!("a host name of {node} can not be in a certificate: {error}"))
        })?;
        params.distinguished_name = common_name(node);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        valid(&mut params);
        let key = KeyPair::generate().map_err(|error| software(&error))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|error| software(&error))?;
        let path = self.folder.join(format!("{node}.pem"));
        write_new(&self.folder.join(format!("{node}.key")), &key.serialize_pem(), 0o600)?;
        write_new(&path, &certificate.pem(), 0o644)?;
        Ok(path)
    }
}

fn params_of_authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params);
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn valid(params: &mut CertificateParams) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = epoch + now.saturating_sub(BEFORE);
    params.not_after = epoch + now + Duration::from_secs(DAYS * 86_400);
}

/// Writes a file that was not there, whole.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let written =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file: File| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let message = format!("{} is there already: remove it if it is to be made again", path.display());
            Failure::new(Exit::CannotCreate, message)
        }
        _ => cannot_create(path, &error),
    })
}

fn cannot_create(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::CannotCreate, format!("cannot make {}: {error}", path.display()))
}

fn unreadable(path: &Path, why: &str) -> Failure {
    Failure::new(Exit::DataError, format!("{}: {why}", path.display()))
}

fn software(error: &rcgen::Error) -> Failure {
    Failure::new(Exit::Software, format!("failed to make a certificate: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn an_authority_signs_further_nodes_later_and_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificates");
        Authority::open_or_make(&path).unwrap().make("rabbit@A", &[]).unwrap();
        let before = fs::read(path.join(CA_CERT)).unwrap();
        let again = Authority::open_or_make(&path).unwrap();
        let made = again.make("rabbit@B", &["10.0.0.2".to_owned()]).unwrap();
        assert_eq!(fs::read(path.join(CA_CERT)).unwrap(), before);
        let der = CertificateDer::from_pem_slice(&fs::read(&made).unwrap()).unwrap();
        assert_eq!(node_name(&der).as_deref(), Some("rabbit@B"));
        // RFC 5280 section 4.2.1.6: an address among the alternative names has tag 7.
        assert!(der.windows(6).any(|octets| octets == [0x87, 4, 10, 0, 0, 2]), "the further host is named");
        for key in [CA_KEY, "rabbit@A.key", "rabbit@B.key"] {
            assert_eq!(fs::metadata(path.join(key)).unwrap().mode() & 0o777, 0o600, "{key}");
        }
        let error = again.make("rabbit@B", &[]).unwrap_err();
        assert!(error.message.contains("rabbit@B.key is there already"), "{}", error.message);
        for name in ["rabbit", "@A", "rabbit@", "../rabbit@A", "rabbit@a/b"] {
            assert_eq!(again.make(name, &[]).unwrap_err().exit, Exit::Usage, "{name}");
        }
    }

    #[test]
    fn an_authority_with_the_key_of_another_is_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Authority::open_or_make(one.path()).unwrap();
        Authority::open_or_make(other.path()).unwrap();
        fs::copy(other.path().join(CA_KEY), one.path().join(CA_KEY)).unwrap();
        let error = Authority::open_or_make(one.path()).err().unwrap();
        assert!(error.message.contains("not the key of"), "{}", error.message);
    }
}
