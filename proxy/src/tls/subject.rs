//! The common name in a certificate's subject, for PROXY headers.
//!
//! ```text
//! Certificate ::= { tbsCertificate { [0] version, serialNumber, signature, issuer, validity, subject, ... } }
//! subject ::= { { { OID, string } ... } ... }                                     RFC 5280 section 4.1
//! ```

use rustls::pki_types::CertificateDer;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const VERSION: u8 = 0xa0;
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// The first common name of the owner of a certificate.
#[must_use]
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let mut whole: &[u8] = certificate;
    let mut outer = expect(&mut whole, SEQUENCE)?;
    let mut fields = expect(&mut outer, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        next(&mut fields)?;
    }
    // Serial number, signature, issuer, validity.
    for _ in 0..4 {
        next(&mut fields)?;
    }
    let mut subject = expect(&mut fields, SEQUENCE)?;
    while !subject.is_empty() {
        let mut set = expect(&mut subject, SET)?;
        while !set.is_empty() {
            let mut pair = expect(&mut set, SEQUENCE)?;
            let kind = expect(&mut pair, OBJECT_IDENTIFIER)?;
            let (_, value) = next(&mut pair)?;
            if kind == COMMON_NAME {
                return std::str::from_utf8(value).ok().map(str::to_owned);
            }
        }
    }
    None
}

fn expect<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    next(der).filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

/// One value (X.690): tag, length, content.
fn next<'a>(der: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = match first {
        0..=0x7f => usize::from(first),
        0x81..=0x84 => {
            let (octets, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet))
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    *der = after;
    Some((tag, content))
}
