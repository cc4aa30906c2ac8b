//! Logging in: SASL responses, password hashes, and a short memory of who just proved a password.
//!
//! Checking an argon2id hash takes milliseconds on purpose. Hundreds of clients that reconnect at
//! the same moment would keep every core busy with it, so a password that was right is remembered
//! for a minute under a keyed hash, and the rest is checked by few threads at a time. The key is
//! made at start and never leaves the process, and the hash covers the stored hash too, so that a
//! changed password is forgotten at once. Secrets never appear in logs or `Debug`.

mod hash;
mod sasl;
#[cfg(test)]
mod tests;

pub(crate) use hash::{hash_password, is_well_formed as hash_is_well_formed, verify};
pub(crate) use sasl::{Credentials, Mechanism};

use broker_core::meta::{MetaSm, PasswordHash, User};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long a proven password is remembered.
const REMEMBER: Duration = Duration::from_secs(60);
/// How many are remembered.
const REMEMBERED: usize = 4096;
/// Password checks at the same time.
const CHECKS: usize = 2;

/// Why a login was refused. Clients are not told which; the log is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// No such user, or the password is wrong.
    #[error("wrong user or password")]
    Credentials,
    /// The user may connect from this host only.
    #[error("this user may connect from localhost only")]
    NotLoopback,
    /// No such user; its name was proven without a password.
    #[error("invalid credentials")]
    Unknown,
    /// The client has no certificate.
    #[error("connection peer presented no TLS (x.509) certificate")]
    NoCertificate,
    /// The certificate does not have the name that is looked for.
    #[error("no name found")]
    NoName,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Users who may connect from the same host only.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct LoopbackUsers(pub(crate) Vec<String>);

impl LoopbackUsers {
    fn restricts(&self, user: &str) -> bool {
        self.0.iter().any(|name| name == user)
    }
}

/// Decides who may log in.
pub(crate) struct Authenticator {
    loopback_users: LoopbackUsers,
    key: [u8; 32],
    proven: Mutex<HashMap<[u8; 32], Instant>>,
    checks: Semaphore,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("loopback_users", &self.loopback_users).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// An authenticator that remembers nobody yet.
    pub(crate) fn new(loopback_users: LoopbackUsers) -> Authenticator {
        Authenticator {
            loopback_users,
            key: rand::random(),
            proven: Mutex::new(HashMap::new()),
            checks: Semaphore::new(CHECKS),
        }
    }

    /// Checks a user name and password from `peer`. `user` is what the metadata has under that
    /// name (looked up by the caller, so that no lock is held here).
    pub(crate) async fn login(
        self: &Arc<Self>,
        user: Option<User>,
        credentials: &Credentials,
        peer: IpAddr,
    ) -> Result<User, Refusal> {
        let stored = user.as_ref().and_then(|user| user.password.clone());
        let known = match &stored {
            Some(hash) => self.is_proven(hash, credentials),
            None => false,
        };
        if !known {
            self.check(stored, credentials).await?;
        }
        self.admit(user.ok_or(Refusal::Credentials)?, peer)
    }

    /// Lets a user in who has proven who he is.
    pub(crate) fn admit(&self, user: User, peer: IpAddr) -> Result<User, Refusal> {
        if self.loopback_users.restricts(&user.name) && !is_loopback(peer) {
            return Err(Refusal::NotLoopback);
        }
        Ok(user)
    }

    /// Looks a user up and logs in; see [`Authenticator::login`].
    pub(crate) fn lookup(sm: &MetaSm, credentials: &Credentials) -> Option<User> {
        sm.user(&credentials.user).cloned()
    }

    async fn check(
        self: &Arc<Self>,
        stored: Option<PasswordHash>,
        credentials: &Credentials,
    ) -> Result<(), Refusal> {
        let _permit = self.checks.acquire().await.map_err(|_| Refusal::Stopping)?;
        let this = Arc::clone(self);
        let credentials = credentials.clone();
        let right = tokio::task::spawn_blocking(move || match stored {
            Some(stored) => {
                let right = verify(&stored, credentials.password());
                if right {
                    this.remember(&stored, &credentials);
                }
                right
            }
            None => {
                // As slow as for a user that exists, so that names can not be guessed by time.
                hash::waste_time(credentials.password());
                false
            }
        })
        .await
        .map_err(|_| Refusal::Stopping)?;
        if right { Ok(()) } else { Err(Refusal::Credentials) }
    }

    fn is_proven(&self, stored: &PasswordHash, credentials: &Credentials) -> bool {
        let fingerprint = self.fingerprint(stored, credentials);
        let mut proven = self.proven.lock();
        match proven.get(&fingerprint) {
            Some(since) if since.elapsed() < REMEMBER => true,
            Some(_) => {
                proven.remove(&fingerprint);
                false
            }
            None => false,
        }
    }

    fn remember(&self, stored: &PasswordHash, credentials: &Credentials) {
        let fingerprint = self.fingerprint(stored, credentials);
        let mut proven = self.proven.lock();
        if proven.len() >= REMEMBERED {
            proven.retain(|_, since| since.elapsed() < REMEMBER);
        }
        if proven.len() >= REMEMBERED {
            proven.clear();
        }
        proven.insert(fingerprint, Instant::now());
    }

    /// Keyed, and over everything that makes the password right for this user now.
    fn fingerprint(&self, stored: &PasswordHash, credentials: &Credentials) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.key);
        for part in [credentials.user.as_bytes(), stored.hash.as_bytes(), credentials.password()] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.update(self.key);
        hasher.finalize().into()
    }
}

/// Whether a peer is on this host.
pub(crate) fn is_loopback(peer: IpAddr) -> bool {
    match peer {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|mapped| mapped.is_loopback())
        }
    }
}
