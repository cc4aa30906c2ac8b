//! What a browser sends: options after the path, credentials, forms.

use daemon::http::header::{self, HeaderMap};
use subtle::ConstantTimeEq;

/// Options after the path (`;csv;norefresh`) and after `?` (`scope=`).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Comma-separated values.
    pub(super) csv: bool,
    /// JSON.
    pub(super) json: bool,
    /// Hide servers that are down.
    pub(super) up: bool,
    /// Hide servers in maintenance.
    pub(super) no_maint: bool,
    /// Do not reload.
    pub(super) no_refresh: bool,
    /// The result of the last order.
    pub(super) result: Option<String>,
    /// Only sections whose name contains this.
    pub(super) scope: String,
}

/// Longest scope, as in HAProxy.
const MAX_SCOPE: usize = 20;

impl Options {
    pub(super) fn read(rest: &str, query: &str) -> Self {
        let mut options = Self::default();
        for word in rest.split(';').skip(1) {
            match word {
                "csv" => options.csv = true,
                "json" => options.json = true,
                "up" => options.up = true,
                "no-maint" => options.no_maint = true,
                "norefresh" => options.no_refresh = true,
                _ => {
                    let known = |result: &&str| {
                        ["DONE", "NONE", "PART", "ERRP", "EXCD", "DENY", "UNKN"].contains(result)
                    };
                    options.result =
                        word.strip_prefix("st=").filter(known).map(str::to_owned).or(options.result.take());
                }
            }
        }
        if let Some((_, scope)) = form(query.as_bytes()).into_iter().find(|(key, _)| key == "scope") {
            options.scope = scope.chars().filter(|c| !c.is_control()).take(MAX_SCOPE).collect();
        }
        options
    }

    /// The options as part of a link, `also` added.
    pub(super) fn link(&self, also: &str) -> String {
        let mut link = String::new();
        for (on, word) in [(self.up, ";up"), (self.no_maint, ";no-maint"), (self.no_refresh, ";norefresh")] {
            if on && also != word {
                link.push_str(word);
            }
        }
        link.push_str(also);
        link
    }
}

/// Whether the request carries one of the `user:password` pairs (RFC 7617). Every pair is compared in
/// full, so that the time taken says nothing.
pub(super) fn is_authorized(headers: &HeaderMap, pairs: &[(String, String)]) -> bool {
    let Some(given) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| base64(encoded.trim()))
    else {
        return false;
    };
    pairs.iter().fold(false, |found, (user, password)| {
        let wanted = format!("{user}:{password}");
        found | bool::from(wanted.as_bytes().ct_eq(&given))
    })
}

/// Whether a form came from our own page: browsers say where a POST comes from. A client that says
/// nothing (curl) is no browser and cannot be tricked into sending it.
pub(super) fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    match (text("origin"), text("host")) {
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, from)| from == host),
        (Some(_), None) => false,
        (None, _) => true,
    }
}

/// `a=b&c=d`, percent-decoded.
pub(super) fn form(body: &[u8]) -> Vec<(String, String)> {
    String::from_utf8_lossy(body)
        .split('&')
        .filter(|pair| !pair.is_empty())
        .take(1000)
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (percent_decode(key), percent_decode(value)))
        .collect()
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Decodes base64 (RFC 4648 section 4); `None` when it is not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(digit)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
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
    fn options_are_read_from_the_path() {
        let options = Options::read(";csv;norefresh;st=DONE;st=<script>", "scope=rabbit%20x");
        assert!(options.csv && options.no_refresh && !options.json);
        assert_eq!((options.result.as_deref(), options.scope.as_str()), (Some("DONE"), "rabbit x"));
        assert_eq!(Options::read("XYZ", ""), Options::default());
        assert_eq!(Options::read("", &format!("scope={}", "x".repeat(50))).scope.len(), 20);
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
        assert_eq!(base64("aGVsbG8="), Some(b"hello".to_vec()));
    }

    #[test]
    fn a_form_of_another_site_is_refused() {
        let same = |pairs: &[(&'static str, &str)]| is_same_origin(&headers(pairs));
        assert!(same(&[("host", "c:8100")]));
        assert!(same(&[("host", "c:8100"), ("origin", "http://c:8100")]));
        assert!(!same(&[("host", "c:8100"), ("origin", "http://evil")]));
        assert!(!same(&[("host", "c:8100"), ("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn forms_are_decoded() {
        let decoded = form(b"s=A&s=B%2B1&action=drain&b=%232&odd=%zz+");
        let expected = [("s", "A"), ("s", "B+1"), ("action", "drain"), ("b", "#2"), ("odd", "%zz ")];
        let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(decoded, expected);
    }
}
