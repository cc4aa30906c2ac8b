//! Which certificate a client is shown: the one for the name it asks for, else the first.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::files::{self, TlsError};

/// The certificates of an address.
pub(super) struct Certificates {
    first: Arc<CertifiedKey>,
    /// By lower-case name; `*.example.org` for all names one level below.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// Refuse clients that ask for another name, or for none.
    strict: bool,
}

impl Certificates {
    pub(super) fn load(
        crt: &[PathBuf],
        lists: &[PathBuf],
        strict: bool,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let mut first = None;
        let mut by_name = HashMap::new();
        for path in crt {
            for file in files::expand(path)? {
                let key = certified(&file, provider)?;
                for name in names_of(&key) {
                    by_name.entry(name).or_insert_with(|| key.clone());
                }
                first.get_or_insert(key);
            }
        }
        for list in lists {
            for (file, names) in entries(list)? {
                let key = certified(&file, provider)?;
                let names = if names.is_empty() { names_of(&key) } else { names };
                for name in names {
                    by_name.insert(name, key.clone());
                }
                first.get_or_insert(key);
            }
        }
        match first {
            Some(first) => Ok(Self { first, by_name, strict }),
            None => {
                let path = crt.first().or(lists.first()).map_or(Path::new("crt"), PathBuf::as_path);
                Err(TlsError::new(path, "no certificate here"))
            }
        }
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let found = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let above = name.split_once('.').map(|(_, above)| format!("*.{above}"));
            self.by_name.get(&name).or_else(|| self.by_name.get(&above?)).cloned()
        });
        found.or_else(|| (!self.strict).then(|| self.first.clone()))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("names", &self.by_name.len()).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

fn certified(path: &Path, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let (chain, key) = files::chain_and_key(path)?;
    let key = CertifiedKey::from_der(chain, key, provider);
    key.map(Arc::new).map_err(|error| TlsError::new(path, error.to_string()))
}

/// The DNS names a certificate is for.
fn names_of(key: &CertifiedKey) -> Vec<String> {
    let certificate = key.cert.first().and_then(|der| webpki::EndEntityCert::try_from(der).ok());
    certificate
        .map(|certificate| certificate.valid_dns_names().map(str::to_ascii_lowercase).collect())
        .unwrap_or_default()
}

/// The lines of a `crt-list`: `FILE [OPTIONS] NAME...`. Options are left out; `!NAME` takes names away and is
/// of no use for a choice by the longest name.
fn entries(list: &Path) -> Result<Vec<(PathBuf, Vec<String>)>, TlsError> {
    let text = String::from_utf8_lossy(&files::read(list)?).into_owned();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (before, after) = match (line.find('['), line.rfind(']')) {
            (Some(open), Some(close)) if open < close => (&line[..open], &line[close + 1..]),
            _ => (line, ""),
        };
        let mut words = before.split_whitespace().chain(after.split_whitespace());
        let Some(file) = words.next() else { continue };
        let names = words.filter(|name| !name.starts_with('!')).map(str::to_ascii_lowercase).collect();
        found.push((PathBuf::from(file), names));
    }
    Ok(found)
}
