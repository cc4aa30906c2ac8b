//! Tokens that let a node join: `broker join TOKEN` on a node that does not have the cookie yet.
//!
//! ```text
//! warren-join-BASE64URL( claim {cluster, addresses, expires}, MAC over it with the secret, checksum )
//! ```
//!
//! Whoever has a token can prove it: its MAC takes the place of the secret in the greeting and is not sent either. Any
//! node of the cluster can check it, since it can compute the MAC from the claim. What the new node gets is the
//! secret, encrypted under a key made from the MAC. So a token is worth as much as the cookie until it expires.

use super::secret::{MAC, Secret, Use};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use broker_core::link::greet::{Claim, GreetError, MAX_MESSAGE};
use sha2::{Digest, Sha256};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PREFIX: &str = "warren-join-";
const CHECKSUM: usize = 4;
/// Addresses in a token at most.
const MAX_ADDRESSES: usize = 16;

/// A token. It does not show its MAC.
#[derive(Clone)]
pub(crate) struct Token {
    claim: Claim,
    mac: [u8; MAC],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("claim", &self.claim).finish_non_exhaustive()
    }
}

/// A text that is no token, or none that is of use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// Something else.
    #[error("this is no join token: one begins with `{start}` and is made on a node of the cluster", start = PREFIX)]
    NotOne,
    /// Part of one, or one with a mistake.
    #[error("this join token is not whole: copy it again, all of it")]
    Damaged,
    /// One that was good once.
    #[error("this join token expired {} ago: make a new one on a node of the cluster", humantime::format_duration(*.0))]
    Expired(Duration),
    /// A node that has no secret itself.
    #[error("this node has no cookie yet, so no other can join it")]
    NoSecret,
    /// Addresses that do not fit into one.
    #[error("a join token has 1 to {many} addresses of together at most {long} octets", many = MAX_ADDRESSES, long = MAX_MESSAGE)]
    Addresses,
}

impl From<GreetError> for TokenError {
    fn from(_: GreetError) -> TokenError {
        TokenError::Addresses
    }
}

impl Token {
    /// A token for the cluster that has this secret.
    ///
    /// # Errors
    /// There are no addresses, or too many.
    pub(crate) fn make(
        secret: &Secret,
        cluster_id: u128,
        addresses: Vec<String>,
        expires: SystemTime,
    ) -> Result<Token, TokenError> {
        if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
            return Err(TokenError::Addresses);
        }
        let claim = Claim { cluster_id, addresses, expires: seconds(expires) };
        let mac = secret.mac(Use::Token, &[&claim.encode()?]);
        Ok(Token { claim, mac })
    }

    /// As an operator copies it.
    pub(crate) fn to_text(&self) -> String {
        let mut octets = self.claim.encode().unwrap_or_default();
        octets.extend_from_slice(&self.mac);
        let sum = Sha256::digest(&octets);
        octets.extend_from_slice(&sum[..CHECKSUM]);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(octets))
    }

    /// Reads one that is still good.
    ///
    /// # Errors
    /// It is none, or none any more.
    pub(crate) fn parse(text: &str, now: SystemTime) -> Result<Token, TokenError> {
        let octets = text.trim().strip_prefix(PREFIX).ok_or(TokenError::NotOne)?;
        if octets.len() > 2 * MAX_MESSAGE {
            return Err(TokenError::Damaged);
        }
        let octets = URL_SAFE_NO_PAD.decode(octets).map_err(|_| TokenError::Damaged)?;
        let (octets, sum) = octets.split_last_chunk::<CHECKSUM>().ok_or(TokenError::Damaged)?;
        if Sha256::digest(octets)[..CHECKSUM] != sum[..] {
            return Err(TokenError::Damaged);
        }
        let (claim, mac) = octets.split_last_chunk::<MAC>().ok_or(TokenError::Damaged)?;
        let claim = Claim::decode(claim).map_err(|_| TokenError::Damaged)?;
        if claim.addresses.is_empty() || claim.addresses.len() > MAX_ADDRESSES {
            return Err(TokenError::Damaged);
        }
        still_good(&claim, now)?;
        Ok(Token { claim, mac: *mac })
    }

    /// What can be read of it.
    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// What its owner proves that it knows.
    pub(super) fn secret(&self) -> Secret {
        Secret::new(&self.mac)
    }
}

/// What the owner of a token with this claim knows, if it was made with `secret`.
pub(super) fn secret_of(claim: &Claim, secret: &Secret) -> Result<Secret, GreetError> {
    Ok(Secret::new(&secret.mac(Use::Token, &[&claim.encode()?])))
}

/// Whether a claim has not expired.
pub(super) fn still_good(claim: &Claim, now: SystemTime) -> Result<(), TokenError> {
    match seconds(now).checked_sub(claim.expires) {
        None => Ok(()),
        Some(over) => Err(TokenError::Expired(Duration::from_secs(over))),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn token() -> Token {
        Token::make(&Secret::new(b"cookie"), 7, vec!["a:25672".to_owned(), "b:25672".to_owned()], at(1000))
            .unwrap()
    }

    #[test]
    fn a_token_survives_copying() {
        let text = token().to_text();
        let again = Token::parse(&format!(" {text}\n"), at(999)).unwrap();
        assert_eq!(again.claim(), token().claim());
        assert_eq!(again.secret().octets(), token().secret().octets());
        assert_eq!(again.claim().addresses, ["a:25672", "b:25672"]);
        let known = secret_of(again.claim(), &Secret::new(b"cookie")).unwrap();
        assert_eq!(known.octets(), again.secret().octets());
        let shown = format!("{again:?}");
        assert!(!shown.contains("mac"), "{shown}");
    }

    #[test]
    fn what_is_no_good_token_is_told_apart() {
        let text = token().to_text();
        assert_eq!(Token::parse("rabbit@A", at(0)).unwrap_err(), TokenError::NotOne);
        let mut mistaken = text.clone();
        let last = mistaken.pop().unwrap();
        assert_eq!(Token::parse(&mistaken, at(0)).unwrap_err(), TokenError::Damaged);
        mistaken.push(if last == 'A' { 'E' } else { 'A' });
        assert_eq!(Token::parse(&mistaken, at(0)).unwrap_err(), TokenError::Damaged);
        assert_eq!(Token::parse(PREFIX, at(0)).unwrap_err(), TokenError::Damaged);
        let late = Token::parse(&text, at(1090)).unwrap_err();
        assert_eq!(late, TokenError::Expired(Duration::from_secs(90)));
        assert!(late.to_string().contains("expired 1m 30s ago: make a new one"), "{late}");
        assert_eq!(Token::make(&Secret::new(b"x"), 7, vec![], at(0)).unwrap_err(), TokenError::Addresses);
    }
}
