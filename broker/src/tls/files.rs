//! Certificates and keys in PEM files, and what is said about files that are not.

use super::{About, TlsError};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt::Display;
use std::io::{self, Read};
use std::path::Path;

/// No file with certificates is larger than this many octets.
const MAX_FILE: u64 = 4 << 20;

/// The certificates of a file, at least one.
pub(super) fn certificates(about: About, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(about, path)?;
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        found.push(certificate.map_err(|error| malformed(about, path, &text, found.len(), &error))?);
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let (message, help) = if text.windows(11).any(|word| word == b"PRIVATE KEY") {
        ("a private key, where certificates were expected", "the key belongs to the option `key`".to_owned())
    } else if text.first() == Some(&0x30) {
        let help = format!("openssl x509 -inform der -in {0} -out {0}.pem", path.display());
        ("not in PEM form, and looks like DER", help)
    } else {
        let help = "it has to begin with -----BEGIN CERTIFICATE-----".to_owned();
        ("no certificate in this file", help)
    };
    Err(TlsError { help, ..unusable(about, path, &message) })
}

/// The private key of a file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(About::Key, path)?;
    let has = |word: &[u8]| text.windows(word.len()).any(|found| found == word);
    if has(b"ENCRYPTED") {
        let help = format!("openssl pkey -in {0} -out {0}.clear", path.display());
        return Err(TlsError { help, ..unusable(About::Key, path, &"the key is protected by a password") });
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        if matches!(error, pem::Error::NoItemsFound) {
            let help = "it has to have a line -----BEGIN PRIVATE KEY-----".to_owned();
            TlsError { help, ..unusable(About::Key, path, &"no private key in this file") }
        } else {
            malformed(About::Key, path, &text, 0, &error)
        }
    })
}

/// An error about a file as a whole.
pub(super) fn unusable(about: About, path: &Path, message: &dyn Display) -> TlsError {
    TlsError { about, path: path.to_owned(), line: None, message: message.to_string(), help: String::new() }
}

fn read(about: About, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut text = Vec::new();
    let outcome = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text));
    let outcome = outcome.and_then(|read| match u64::try_from(read) {
        Ok(read) if read <= MAX_FILE => Ok(()),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    });
    outcome.map(|()| text).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound if path.is_relative() => {
                let folder = std::env::current_dir().unwrap_or_default();
                format!("relative names begin at the folder of the process, {}", folder.display())
            }
            io::ErrorKind::NotFound => "name a file that exists".to_owned(),
            io::ErrorKind::PermissionDenied => {
                format!("let the user of this process read it: ls -l {}", path.display())
            }
            _ => String::new(),
        };
        TlsError { help, ..unusable(about, path, &error) }
    })
}

/// An error in the section after `good` good ones, with its line.
fn malformed(about: About, path: &Path, text: &[u8], good: usize, error: &pem::Error) -> TlsError {
    let mut lines = text.split(|octet| *octet == b'\n').enumerate();
    let mut begins = lines.by_ref().filter(|(_, line)| line.starts_with(b"-----BEGIN"));
    let line = begins.nth(good).map(|(at, _)| at + 1);
    let message = match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!(
                "what begins here has no line -----END {}-----",
                String::from_utf8_lossy(end_marker).trim()
            )
        }
        pem::Error::Base64Decode(_) => "what begins here is not base64".to_owned(),
        other => other.to_string(),
    };
    TlsError { line, help: "copy the file again, whole".to_owned(), ..unusable(about, path, &message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing;

    fn file(text: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn refusal(text: &[u8]) -> (String, Option<usize>, String) {
        let file = file(text);
        let error = certificates(About::Cert, file.path()).unwrap_err();
        (error.message, error.line, error.help)
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        let key = &testing::authority().1;
        assert!(refusal(key.as_bytes()).0.contains("a private key"));
        assert!(refusal(&[0x30, 0x82, 1, 0]).2.contains("-inform der"));
        assert!(refusal(b"hello").2.contains("BEGIN CERTIFICATE"));
        let missing = certificates(About::Ca, Path::new("/nowhere/ca.pem")).unwrap_err();
        assert!(missing.to_string().starts_with("/nowhere/ca.pem: No such file"), "{missing}");
    }

    #[test]
    fn a_broken_certificate_is_found_by_its_line() {
        let good = &testing::authority().0;
        let lines = good.lines().count();
        let (message, line, _) = refusal(format!("{good}\n-----BEGIN CERTIFICATE-----\nMIIB\n").as_bytes());
        assert_eq!(line, Some(lines + 2), "{message}");
        assert!(message.contains("-----END CERTIFICATE-----"), "{message}");
        let broken = good.replacen("MII", "M%I", 1);
        assert_eq!(refusal(broken.as_bytes()).1, Some(1));
    }

    #[test]
    fn keys_with_a_password_and_no_keys_are_named() {
        let locked =
            file(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
        assert!(private_key(locked.path()).unwrap_err().help.contains("openssl pkey"));
        let none = file(testing::authority().0.as_bytes());
        assert!(private_key(none.path()).unwrap_err().message.contains("no private key"));
    }
}
