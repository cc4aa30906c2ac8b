//! Certificates and keys in PEM files.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// No file with certificates is larger than this.
const MAX_FILE: u64 = 16 << 20;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct TlsError {
    path: PathBuf,
    message: String,
}

impl TlsError {
    pub(super) fn new(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), message: message.into() }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::other(error)
    }
}

/// The certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| TlsError::new(path, error.to_string()))?;
    if found.is_empty() {
        return Err(TlsError::new(path, "no certificate in this file (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(found)
}

/// The certificates called back by a file.
pub(super) fn revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let text = read(path)?;
    let found = CertificateRevocationListDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    found.map_err(|error| TlsError::new(path, error.to_string()))
}

/// Certificate chain and key: both in the file, or the key in `FILE.key` beside it, as HAProxy reads them.
pub(super) fn chain_and_key(
    path: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(path)?;
    let text = read(path)?;
    if let Ok(key) = PrivateKeyDer::from_pem_slice(&text) {
        return Ok((chain, key));
    }
    if text.windows(9).any(|word| word == b"ENCRYPTED") {
        return Err(TlsError::new(
            path,
            "the key is protected by a password; openssl pkey -in FILE -out FILE",
        ));
    }
    let beside = beside(path);
    match PrivateKeyDer::from_pem_slice(&read(&beside).unwrap_or_default()) {
        Ok(key) => Ok((chain, key)),
        Err(_) => Err(TlsError::new(
            path,
            format!("no private key in this file, and none in {} either", beside.display()),
        )),
    }
}

/// `FILE.key`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".key");
    name.into()
}

/// The files that a `crt` names: itself, or those of the directory in order.
pub(super) fn expand(path: &Path) -> Result<Vec<PathBuf>, TlsError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| TlsError::new(path, error.to_string()))?;
    let skipped = ["key", "issuer", "ocsp", "sctl"];
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            let helper = path.extension().is_some_and(|ending| skipped.iter().any(|it| ending == *it));
            path.is_file() && !hidden && !helper
        })
        .collect();
    found.sort();
    Ok(found)
}

/// A text file as a whole.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut text = Vec::new();
    let outcome = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut text));
    match outcome {
        Ok(_) => Ok(text),
        Err(error) => Err(TlsError::new(path, error.to_string())),
    }
}
