//! What an X.509 certificate says about its owner, in the words in which RabbitMQ shows it and takes user names
//! from it.
//!
//! Whether the certificate is to be believed was decided before (by rustls); this only reads its fields.
//!
//! ```text
//! Certificate ::= { tbsCertificate { [0] version, serialNumber, signature, issuer, validity, subject,
//!                                    subjectPublicKeyInfo, [1], [2], [3] extensions }, ... }   RFC 5280 section 4.1
//! ```

use super::{CertLogin, LoginFrom, SanType};
use daemon::der::Der;
use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
/// Names that are kept of one certificate; more are of no use for a login.
const MAX_NAMES: usize = 256;

/// RabbitMQ's short names of attribute types; the others show as numbers.
const ATTRIBUTES: [(&[u8], &str); 16] = [
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 42], "GIVENNAME"),
    (&[0x55, 4, 43], "INITIALS"),
    (&[0x55, 4, 44], "GENERATIONQUALIFIER"),
    (COMMON_NAME, "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "TITLE"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 5], "SERIALNUMBER"),
    (&[0x55, 4, 65], "PSEUDONYM"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "EMAILADDRESS"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

/// A client's certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PeerCertificate {
    /// Distinguished name of its owner, RFC 4514.
    pub(crate) subject: String,
    /// Distinguished name of who signed it.
    pub(crate) issuer: String,
    /// From when to when it is valid: `2026-01-01T00:00:00Z - 2027-01-01T00:00:00Z`.
    pub(crate) validity: String,
    /// The last moment at which it is valid.
    pub(crate) not_after: Moment,
    common_names: Vec<String>,
    alternative_names: Vec<(SanType, String)>,
}

impl PeerCertificate {
    /// Reads a certificate. `None` when it is not one.
    pub(crate) fn parse(certificate: &[u8]) -> Option<PeerCertificate> {
        let mut fields = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
        fields.optional(VERSION);
        fields.expect(INTEGER)?;
        fields.expect(SEQUENCE)?;
        let issuer = distinguished_name(fields.expect(SEQUENCE)?)?;
        let mut validity = Der(fields.expect(SEQUENCE)?);
        let (not_before, not_after) = (time(validity.take()?)?, time(validity.take()?)?);
        let subject = fields.expect(SEQUENCE)?;
        fields.expect(SEQUENCE)?;
        let mut alternative_names = Vec::new();
        while let Some((tag, content)) = fields.take() {
            if tag == EXTENSIONS {
                alternative_names = alternatives(content)?;
            }
        }
        Some(PeerCertificate {
            subject: distinguished_name(subject)?,
            issuer,
            validity: format!("{not_before} - {not_after}"),
            not_after,
            common_names: common_names(subject)?,
            alternative_names,
        })
    }

    /// The user name that the certificate stands for. `None` when it has no such name.
    pub(crate) fn login_name(&self, login: &CertLogin) -> Option<String> {
        match login.from {
            LoginFrom::DistinguishedName => Some(self.subject.clone()),
            LoginFrom::CommonName if self.common_names.is_empty() => None,
            LoginFrom::CommonName => Some(self.common_names.join(",")),
            LoginFrom::SubjectAlternativeName { san_type, index } => {
                let mut names = self.alternative_names.iter().filter(|(kind, _)| *kind == san_type);
                names.nth(index).map(|(_, name)| name.clone())
            }
        }
    }
}

/// RFC 4514: the last component first, those of one set joined by a plus.
fn distinguished_name(name: &[u8]) -> Option<String> {
    let mut name = Der(name);
    let mut components = Vec::new();
    while !name.is_empty() {
        let mut set = Der(name.expect(SET)?);
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let (kind, value) = attribute(set.expect(SEQUENCE)?)?;
            let kind = match ATTRIBUTES.iter().find(|(known, _)| *known == kind) {
                Some((_, short)) => (*short).to_owned(),
                None => dotted(kind)?,
            };
            attributes.push(format!("{kind}={}", escaped(&value)));
        }
        components.push(attributes.join("+"));
    }
    components.reverse();
    Some(components.join(","))
}

fn common_names(name: &[u8]) -> Option<Vec<String>> {
    let mut name = Der(name);
    let mut found = Vec::new();
    while !name.is_empty() {
        let mut set = Der(name.expect(SET)?);
        while !set.is_empty() {
            let (kind, value) = attribute(set.expect(SEQUENCE)?)?;
            if kind == COMMON_NAME && found.len() < MAX_NAMES {
                found.push(value);
            }
        }
    }
    Some(found)
}

/// `AttributeTypeAndValue`.
fn attribute(content: &[u8]) -> Option<(&[u8], String)> {
    let mut fields = Der(content);
    let kind = fields.expect(OBJECT_IDENTIFIER)?;
    let (tag, value) = fields.take()?;
    Some((kind, text(tag, value)))
}

/// A string of whatever type. What is no text shows as hexadecimal digits (RFC 4514 section 2.4).
fn text(tag: u8, value: &[u8]) -> String {
    let decoded = match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING => std::str::from_utf8(value).ok().map(str::to_owned),
        // Everybody takes it for Latin-1.
        TELETEX_STRING => Some(value.iter().map(|octet| char::from(*octet)).collect()),
        BMP_STRING => {
            let units =
                value.chunks(2).map(|pair| pair.iter().fold(0, |unit, octet| unit << 8 | u16::from(*octet)));
            String::from_utf16(&units.collect::<Vec<_>>()).ok()
        }
        UNIVERSAL_STRING => value
            .chunks(4)
            .map(|four| char::from_u32(four.iter().fold(0, |code, octet| code << 8 | u32::from(*octet))))
            .collect(),
        _ => None,
    };
    decoded.unwrap_or_else(|| {
        value.iter().fold("#".to_owned(), |mut text, octet| {
            // Writing to a string does not fail.
            let _ = write!(text, "{octet:02X}");
            text
        })
    })
}

/// RFC 4514 section 2.4, and what is not printable ASCII octet by octet, as RabbitMQ does.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (at, octet) in value.bytes().enumerate() {
        match octet {
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            b'#' if at == 0 => out.push_str("\\#"),
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                out.push('\\');
                out.push(char::from(octet));
            }
            32..=125 => out.push(char::from(octet)),
            _ => {
                let _ = write!(out, "\\{octet:02X}");
            }
        }
    }
    out
}

/// `2.5.4.9` of its encoding (X.690 section 8.19).
fn dotted(kind: &[u8]) -> Option<String> {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for octet in kind {
        number = number.checked_mul(128)? + u64::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            numbers.push(number);
            number = 0;
        }
    }
    let (first, rest) = numbers.split_first()?;
    let root = (first / 40).min(2);
    let mut out = format!("{root}.{}", first - root * 40);
    for number in rest {
        let _ = write!(out, ".{number}");
    }
    Some(out)
}

/// A time to the second, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moment {
    year: u64,
    /// Month, day, hour, minute, second.
    rest: [u64; 5],
}

impl Moment {
    /// Seconds since 1970; 0 for what was before.
    pub(crate) fn unix_seconds(self) -> u64 {
        let [month, day, hour, minute, second] = self.rest;
        // Years begin in March here, so that the leap day is their last.
        let year = if month <= 2 { self.year.saturating_sub(1) } else { self.year };
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day;
        let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year;
        // 719469: the same sum for 1 January 1970, but for its day.
        match days.checked_sub(719_469) {
            Some(days) => (days * 24 + hour) * 3600 + minute * 60 + second,
            None => 0,
        }
    }

    /// As RabbitMQ's health check writes it: `2036-11-25 4:13:56`.
    pub(crate) fn listed(self) -> String {
        let [month, day, hour, minute, second] = self.rest;
        format!("{}-{month:02}-{day:02} {hour}:{minute:02}:{second:02}", self.year)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [month, day, hour, minute, second] = self.rest;
        write!(f, "{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", self.year)
    }
}

/// `UTCTime` or `GeneralizedTime` as RFC 5280 section 4.1.2.5 has them, both to the second and in UTC.
fn time((tag, value): (u8, &[u8])) -> Option<Moment> {
    let (last, digits) = value.split_last()?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => digits.split_at(2),
        (_, 14) => digits.split_at(4),
        _ => return None,
    };
    if *last != b'Z' || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    let year = match (tag, number(year)) {
        (UTC_TIME, year @ 0..50) => 2000 + year,
        (UTC_TIME, year) => 1900 + year,
        (_, year) => year,
    };
    let mut parts = rest.chunks(2).map(number);
    let moment = Moment { year, rest: std::array::from_fn(|_| parts.next().unwrap_or_default()) };
    let within = (1..=12).contains(&moment.rest[0]) && (1..=31).contains(&moment.rest[1]);
    within.then_some(moment)
}

/// The names of the extension `subjectAltName` (RFC 5280 section 4.2.1.6), those that can be a user name.
fn alternatives(extensions: &[u8]) -> Option<Vec<(SanType, String)>> {
    let mut extensions = Der(Der(extensions).expect(SEQUENCE)?);
    let mut found = Vec::new();
    while !extensions.is_empty() {
        let mut extension = Der(extensions.expect(SEQUENCE)?);
        if extension.expect(OBJECT_IDENTIFIER)? != SUBJECT_ALTERNATIVE_NAME {
            continue;
        }
        let (mut tag, mut content) = extension.take()?;
        if tag != OCTET_STRING {
            // `critical` comes first.
            (tag, content) = extension.take()?;
        }
        let mut names = Der(Der(content).expect(SEQUENCE).filter(|_| tag == OCTET_STRING)?);
        while found.len() < MAX_NAMES
            && let Some((tag, value)) = names.take()
        {
            found.extend(alternative(tag, value));
        }
    }
    Some(found)
}

/// `GeneralName`.
fn alternative(tag: u8, value: &[u8]) -> Option<(SanType, String)> {
    let plain = || std::str::from_utf8(value).ok().map(str::to_owned);
    match tag {
        0x81 => Some((SanType::Email, plain()?)),
        0x82 => Some((SanType::Dns, plain()?)),
        0x86 => Some((SanType::Uri, plain()?)),
        0x87 => {
            let v4 = || <[u8; 4]>::try_from(value).map(|octets| Ipv4Addr::from(octets).to_string());
            let v6 = || <[u8; 16]>::try_from(value).map(|octets| Ipv6Addr::from(octets).to_string());
            Some((SanType::Ip, v4().or_else(|_| v6()).ok()?))
        }
        0xa0 => {
            let mut other = Der(value);
            other.expect(OBJECT_IDENTIFIER)?;
            let (tag, name) = Der(other.expect(0xa0)?).take()?;
            Some((SanType::OtherName, text(tag, name)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_as_rabbitmq_escapes_them() {
        for (value, shown) in [
            ("plain", "plain"),
            ("#x y ", "\\#x y\\ "),
            (" ", "\\ "),
            ("a#b", "a#b"),
            ("alice;\"müller\"", "alice\\;\\\"m\\C3\\BCller\\\""),
            ("Acme, <Inc.>", "Acme\\, \\<Inc.\\>"),
            ("R+D\\", "R\\+D\\\\"),
            ("a~\n", "a\\7E\\0A"),
            ("", ""),
        ] {
            assert_eq!(escaped(value), shown);
        }
    }

    #[test]
    fn strings_of_every_type_are_read() {
        assert_eq!(text(UTF8_STRING, "ü".as_bytes()), "ü");
        assert_eq!(text(TELETEX_STRING, b"\xfc"), "ü");
        assert_eq!(text(BMP_STRING, b"\x00\xfc"), "ü");
        assert_eq!(text(UNIVERSAL_STRING, b"\x00\x01\xf4\x07"), "\u{1f407}");
        assert_eq!(text(UTF8_STRING, b"\xff"), "#FF");
        assert_eq!(text(0x03, b"\x00\x01"), "#0001");
    }

    #[test]
    fn times_of_both_forms_are_read() {
        let moment = |tag, value: &str| time((tag, value.as_bytes()));
        let shown = |tag, value: &str| moment(tag, value).unwrap().to_string();
        assert_eq!(shown(UTC_TIME, "261128041358Z"), "2026-11-28T04:13:58Z");
        assert_eq!(shown(UTC_TIME, "700101000000Z"), "1970-01-01T00:00:00Z");
        assert_eq!(shown(0x18, "20991231235959Z"), "2099-12-31T23:59:59Z");
        for wrong in ["2611280413Z", "26112804135\u{e9}Z", "261328041358Z", "2611280413580", ""] {
            assert_eq!(moment(UTC_TIME, wrong), None, "{wrong}");
        }
        for (value, seconds) in [
            ("19691231235959Z", 0),
            ("19700101000000Z", 0),
            ("19700102000001Z", 86_401),
            ("20000229120000Z", 951_825_600),
            ("20000301000000Z", 951_868_800),
            ("20261128041358Z", 1_795_839_238),
            ("21000301000000Z", 4_107_542_400),
        ] {
            assert_eq!(moment(0x18, value).unwrap().unix_seconds(), seconds, "{value}");
        }
        assert_eq!(moment(UTC_TIME, "361125041356Z").unwrap().listed(), "2036-11-25 4:13:56");
    }

    #[test]
    fn unknown_attributes_show_their_number() {
        assert_eq!(dotted(&[0x55, 4, 9]).unwrap(), "2.5.4.9");
        assert_eq!(dotted(&[0x2a, 0x86, 0x48]).unwrap(), "1.2.840");
        assert_eq!(dotted(&[0x88, 0x37]).unwrap(), "2.999");
        assert_eq!(dotted(&[0xff; 12]), None);
    }

    #[test]
    fn a_cut_or_changed_certificate_is_refused_without_a_panic() {
        let whole = crate::tls::testing::client("alice").0.der().to_vec();
        let certificate = PeerCertificate::parse(&whole).unwrap();
        assert_eq!((&*certificate.subject, &*certificate.issuer), ("CN=alice,O=client", "CN=Test CA"));
        let names = [(SanType::Dns, "one.example".to_owned()), (SanType::Ip, "10.0.0.9".to_owned())];
        assert_eq!(certificate.alternative_names, names);
        for length in 0..whole.len() {
            assert_eq!(PeerCertificate::parse(&whole[..length]), None);
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            let _ = PeerCertificate::parse(&changed);
        }
    }

    #[test]
    fn a_login_name_comes_from_where_it_is_configured() {
        let certificate = PeerCertificate {
            subject: "CN=b,CN=a,O=x".to_owned(),
            issuer: String::new(),
            validity: String::new(),
            not_after: Moment { year: 2026, rest: [1, 1, 0, 0, 0] },
            common_names: vec!["a".to_owned(), "b".to_owned()],
            alternative_names: vec![
                (SanType::Email, "mail".to_owned()),
                (SanType::Dns, "one".to_owned()),
                (SanType::Dns, "two".to_owned()),
            ],
        };
        let name = |from| certificate.login_name(&CertLogin { from });
        let san = |san_type, index| name(LoginFrom::SubjectAlternativeName { san_type, index });
        assert_eq!(name(LoginFrom::DistinguishedName).unwrap(), "CN=b,CN=a,O=x");
        assert_eq!(name(LoginFrom::CommonName).unwrap(), "a,b");
        assert_eq!(san(SanType::Dns, 0).unwrap(), "one");
        assert_eq!(san(SanType::Dns, 1).unwrap(), "two");
        assert_eq!(san(SanType::Dns, 2), None);
        assert_eq!(san(SanType::Uri, 0), None);
        let nameless = PeerCertificate { common_names: Vec::new(), ..certificate };
        assert_eq!(nameless.login_name(&CertLogin { from: LoginFrom::CommonName }), None);
    }
}
