//! The common name in a certificate's subject, for PROXY headers.
//!
//! ```text
//! Certificate ::= { tbsCertificate { [0] version, serialNumber, signature, issuer, validity, subject, ... } }
//! subject ::= { { { OID, string } ... } ... }                                     RFC 5280 section 4.1
//! ```

use daemon::der::Der;
use rustls::pki_types::CertificateDer;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const VERSION: u8 = 0xa0;
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// The first common name of the owner of a certificate.
#[must_use]
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let mut fields = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    fields.optional(VERSION);
    // Serial number, signature, issuer, validity.
    for _ in 0..4 {
        fields.take()?;
    }
    let mut subject = Der(fields.expect(SEQUENCE)?);
    while !subject.is_empty() {
        let mut set = Der(subject.expect(SET)?);
        while !set.is_empty() {
            let mut pair = Der(set.expect(SEQUENCE)?);
            let kind = pair.expect(OBJECT_IDENTIFIER)?;
            let (_, value) = pair.take()?;
            if kind == COMMON_NAME {
                return std::str::from_utf8(value).ok().map(str::to_owned);
            }
        }
    }
    None
}
