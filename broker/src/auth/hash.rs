//! Password hashes: RabbitMQ's salted digests as imported, argon2id for what is made here.

use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use broker_core::meta::{HashAlgorithm, PasswordHash};
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

/// Octets of salt in RabbitMQ's hashes.
const SALT: usize = 4;

/// Memory (KiB), passes and lanes of new hashes: OWASP's lower recommendation for argon2id, some
/// milliseconds on a small server.
const COST: (u32, u32, u32) = (12 * 1024, 3, 1);

/// Most memory (KiB) and passes that an imported argon2id hash may ask for.
const MOST_COST: (u32, u32) = (256 * 1024, 16);

fn argon2() -> Argon2<'static> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Hashes a password for storing. Takes milliseconds: not for async tasks.
pub(crate) fn hash_password(password: &[u8]) -> Result<PasswordHash, argon2::password_hash::Error> {
    let hash: phc::PasswordHash = argon2().hash_password(password)?;
    Ok(PasswordHash { algorithm: HashAlgorithm::Argon2id, hash: hash.to_string() })
}

/// Whether a password fits a stored hash. May take milliseconds: not for async tasks. An empty
/// password never fits (RabbitMQ refuses empty passwords, too), nor does anything fit an empty or
/// damaged hash.
pub(crate) fn verify(stored: &PasswordHash, password: &[u8]) -> bool {
    if stored.hash.is_empty() || password.is_empty() {
        return false;
    }
    match stored.algorithm {
        HashAlgorithm::Sha256 => salted::<Sha256>(&stored.hash, password),
        HashAlgorithm::Sha512 => salted::<Sha512>(&stored.hash, password),
        HashAlgorithm::Md5 => salted::<Md5>(&stored.hash, password),
        HashAlgorithm::Argon2id => match phc::PasswordHash::new(&stored.hash) {
            Ok(hash) => affordable(&hash) && Argon2::default().verify_password(password, &hash).is_ok(),
            Err(_) => false,
        },
    }
}

/// Whether a stored hash is one that [`verify`] can read, for imports.
pub(crate) fn is_well_formed(stored: &PasswordHash) -> bool {
    let digest = match stored.algorithm {
        _ if stored.hash.is_empty() => return true,
        HashAlgorithm::Sha256 => 32,
        HashAlgorithm::Sha512 => 64,
        HashAlgorithm::Md5 => 16,
        HashAlgorithm::Argon2id => {
            return phc::PasswordHash::new(&stored.hash).is_ok_and(|hash| affordable(&hash));
        }
    };
    STANDARD.decode(&stored.hash).is_ok_and(|octets| octets.len() == SALT + digest)
}

/// Spends the time of one check.
pub(super) fn waste_time(password: &[u8]) {
    let mut out = [0; 32];
    let outcome = argon2().hash_password_into(password, b"nobody has this salt", &mut out);
    std::hint::black_box((outcome.is_ok(), out));
}

fn salted<D: Digest>(hash: &str, password: &[u8]) -> bool {
    let Ok(octets) = STANDARD.decode(hash) else { return false };
    let Some((salt, digest)) = octets.split_at_checked(SALT) else { return false };
    let computed = D::new().chain_update(salt).chain_update(password).finalize();
    computed.as_slice().ct_eq(digest).into()
}

fn affordable(hash: &phc::PasswordHash) -> bool {
    Params::try_from(hash)
        .is_ok_and(|params| params.m_cost() <= MOST_COST.0 && params.t_cost() <= MOST_COST.1)
}
