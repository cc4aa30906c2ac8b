//! Who may send the page's forms: passwords, the origin of a form, and a token against forged ones.
//!
//! A browser proves with a token that the form came from a page it got from here: the token is derived from a
//! cookie that other sites neither see nor cause to be sent (`SameSite=Strict`), and from a secret of the process.
//! A script that is no browser sends neither cookie nor origin; nobody can trick it, so HAProxy's plain form works.

use std::fmt::Write;

use daemon::http::header::{self, HeaderMap};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Name of the cookie.
const COOKIE: &str = "warren_monitor";

/// A secret that lives as long as the process.
pub struct Secret([u8; 32]);

impl Default for Secret {
    fn default() -> Self {
        Self(rand::random())
    }
}

impl std::fmt::Debug for Secret {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What a page is given: the token for its forms, and the cookie to set when there was none.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    pub(super) token: String,
    pub(super) set_cookie: Option<String>,
}

impl Secret {
    /// For a page that is about to be sent.
    pub(super) fn ticket(&self, headers: &HeaderMap) -> Ticket {
        match cookie(headers) {
            Some(value) => Ticket { token: self.token(value), set_cookie: None },
            None => {
                let value = hex(&rand::random::<[u8; 16]>());
                let token = self.token(&value);
                Ticket {
                    token,
                    set_cookie: Some(format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict")),
                }
            }
        }
    }

    /// Whether a form may be carried out.
    pub(super) fn admits(&self, headers: &HeaderMap, token: Option<&str>) -> bool {
        if !is_same_origin(headers) {
            return false;
        }
        if !is_browser(headers) {
            return true;
        }
        let expected = cookie(headers).map(|value| self.token(value));
        match (expected, token) {
            (Some(expected), Some(token)) => expected.as_bytes().ct_eq(token.as_bytes()).into(),
            _ => false,
        }
    }

    fn token(&self, cookie: &str) -> String {
        // The secret has a fixed length and comes first and last, so no other text gives the same input.
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(cookie.as_bytes());
        hash.update(self.0);
        hex(&hash.finalize()[..16])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Our cookie, when it has the form we gave it.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
        .find(|value| value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Browsers say where a form comes from, or send cookies; scripts do not.
fn is_browser(headers: &HeaderMap) -> bool {
    ["origin", "referer", "cookie", "sec-fetch-site", "sec-fetch-mode"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

/// Whether a form came from our own page, as far as the client says.
fn is_same_origin(headers: &HeaderMap) -> bool {
    if text(headers, "sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return false;
    }
    match (text(headers, "origin"), text(headers, "host")) {
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, from)| from == host),
        (Some(_), None) => false,
        (None, _) => true,
    }
}

/// Whether the request carries one of the `user:password` pairs (RFC 7617). Every pair is compared in
/// full, so that the time taken says nothing.
pub(super) fn is_authorized(headers: &HeaderMap, pairs: &[(String, String)]) -> bool {
    use base64::Engine;
    let Some(given) = text(headers, "authorization")
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok())
    else {
        return false;
    };
    pairs.iter().fold(false, |found, (user, password)| {
        let wanted = format!("{user}:{password}");
        found | bool::from(wanted.as_bytes().ct_eq(&given))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn only_the_right_password_opens() {
        let pairs = [("admin".to_owned(), "secret".to_owned())];
        let with = |value: &str| is_authorized(&headers(&[("authorization", value)]), &pairs);
        assert!(with("Basic YWRtaW46c2VjcmV0"));
        assert!(with("basic YWRtaW46c2VjcmV0"));
        assert!(!with("Basic YWRtaW46d3Jvbmc="));
        assert!(!with("Bearer YWRtaW46c2VjcmV0"));
        assert!(!with("Basic !!!"));
        assert!(!is_authorized(&HeaderMap::new(), &pairs));
    }

    #[test]
    fn a_script_needs_no_token_and_a_browser_does() {
        let secret = Secret::default();
        assert!(secret.admits(&headers(&[("host", "c:8100")]), None));
        let ticket = secret.ticket(&HeaderMap::new());
        let cookie = ticket.set_cookie.unwrap();
        let cookie = cookie.split(';').next().unwrap();
        let browser = headers(&[("host", "c:8100"), ("origin", "http://c:8100"), ("cookie", cookie)]);
        assert!(secret.admits(&browser, Some(&ticket.token)));
        assert!(!secret.admits(&browser, Some("0000")));
        assert!(!secret.admits(&browser, None));
        // The same page again keeps its cookie, and so its open forms.
        let again = secret.ticket(&browser);
        assert_eq!((again.token, again.set_cookie), (ticket.token.clone(), None));
        // Another process has another secret.
        assert!(!Secret::default().admits(&browser, Some(&ticket.token)));
    }

    #[test]
    fn a_form_of_another_site_is_refused() {
        let secret = Secret::default();
        let ticket = secret.ticket(&HeaderMap::new());
        let cookie = ticket.set_cookie.unwrap();
        let with = |pairs: &[(&'static str, &str)]| secret.admits(&headers(pairs), Some(&ticket.token));
        let cookie = cookie.split(';').next().unwrap();
        assert!(!with(&[("host", "c:8100"), ("origin", "http://evil"), ("cookie", cookie)]));
        assert!(!with(&[("host", "c:8100"), ("sec-fetch-site", "cross-site"), ("cookie", cookie)]));
        assert!(!with(&[("host", "c:8100"), ("origin", "null"), ("cookie", cookie)]));
        // The cookie of somebody else does not fit.
        let other = format!("{COOKIE}={}", "a".repeat(32));
        assert!(!with(&[("host", "c:8100"), ("origin", "http://c:8100"), ("cookie", &other)]));
    }
}
