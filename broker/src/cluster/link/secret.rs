//! The secret that the nodes of a cluster share, and what is proved with it.
//!
//! It is not sent. A node shows that it knows it by a MAC over everything that was said on the connection so far,
//! with a word for its side, so that nothing said by one side or on another connection can be said again.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Octets of a MAC.
pub(super) const MAC: usize = 32;

/// What all nodes of a cluster know, and nobody else.
#[derive(Clone)]
pub(crate) struct Secret(Arc<[u8]>);

/// Not what it is.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a MAC is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// Who dials shows that it knows the secret.
    Dialer,
    /// Who accepts does.
    Acceptor,
    /// A token that lets a node join.
    Token,
    /// A key, under which the secret goes to a node that has a token.
    Seal,
}

impl Use {
    fn word(self) -> &'static [u8] {
        match self {
            Use::Dialer => b"warren link 1 dialer",
            Use::Acceptor => b"warren link 1 acceptor",
            Use::Token => b"warren link 1 token",
            Use::Seal => b"warren link 1 seal",
        }
    }
}

impl Secret {
    /// From the octets of a cookie.
    pub(crate) fn new(octets: &[u8]) -> Secret {
        Secret(octets.into())
    }

    /// The octets, for a cookie file.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }

    /// HMAC-SHA256 over `parts`, which can not be cut differently.
    pub(super) fn mac(&self, made_for: Use, parts: &[&[u8]]) -> [u8; MAC] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        for part in std::iter::once(&made_for.word()).chain(parts) {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut mac = [0; MAC];
        mac.copy_from_slice(context.sign().as_ref());
        mac
    }

    /// Whether `mac` is what [`Secret::mac`] gives. Takes as long for every wrong one.
    pub(super) fn verify(&self, made_for: Use, parts: &[&[u8]], mac: &[u8; MAC]) -> bool {
        self.mac(made_for, parts).ct_eq(mac).into()
    }

    /// Encrypts `plain` for who knows this secret and what was said (`parts`). Once for one connection.
    pub(super) fn seal(&self, parts: &[&[u8]], plain: &Secret) -> Option<Vec<u8>> {
        let mut octets = plain.0.to_vec();
        self.sealing_key(parts)?.seal_in_place_append_tag(first_nonce(), Aad::empty(), &mut octets).ok()?;
        Some(octets)
    }

    /// What was [sealed](Secret::seal). `None` if somebody changed it.
    pub(super) fn open(&self, parts: &[&[u8]], sealed: &[u8]) -> Option<Secret> {
        let mut octets = sealed.to_vec();
        let plain = self.sealing_key(parts)?.open_in_place(first_nonce(), Aad::empty(), &mut octets).ok()?;
        Some(Secret::new(plain))
    }

    fn sealing_key(&self, parts: &[&[u8]]) -> Option<LessSafeKey> {
        let key = self.mac(Use::Seal, parts);
        UnboundKey::new(&CHACHA20_POLY1305, &key).ok().map(LessSafeKey::new)
    }
}

/// A key is used for one message, so its nonce does not matter.
fn first_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        assert_eq!(format!("{:?}", Secret::new(b"XYZZY")), "Secret(…)");
    }

    #[test]
    fn a_mac_is_good_for_its_use_its_parts_and_its_secret_only() {
        let secret = Secret::new(b"one");
        let mac = secret.mac(Use::Dialer, &[b"ab", b"c"]);
        assert!(secret.verify(Use::Dialer, &[b"ab", b"c"], &mac));
        assert!(!secret.verify(Use::Acceptor, &[b"ab", b"c"], &mac));
        assert!(!secret.verify(Use::Dialer, &[b"a", b"bc"], &mac));
        assert!(!Secret::new(b"two").verify(Use::Dialer, &[b"ab", b"c"], &mac));
    }

    #[test]
    fn what_was_sealed_opens_with_the_same_key_only() {
        let (token, cookie) = (Secret::new(b"token"), Secret::new(b"cookie"));
        let sealed = token.seal(&[b"said"], &cookie).unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"cookie"));
        assert_eq!(token.open(&[b"said"], &sealed).unwrap().octets(), b"cookie");
        assert!(token.open(&[b"other"], &sealed).is_none());
        assert!(cookie.open(&[b"said"], &sealed).is_none());
        let mut changed = sealed;
        changed[0] ^= 1;
        assert!(token.open(&[b"said"], &changed).is_none());
    }
}
