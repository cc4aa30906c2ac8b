//! What a browser sends: options after the path, and forms.

use std::fmt::Write;

/// Options after the path (`;csv;norefresh`) and after `?` (`scope=`).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Comma-separated values.
    pub(super) csv: bool,
    /// JSON.
    pub(super) json: bool,
    /// The schema of the JSON.
    pub(super) schema: bool,
    /// Counters for the script of the page.
    pub(super) live: bool,
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
                "json-schema" => options.schema = true,
                "live" => options.live = true,
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

    /// The address of the page with these options, after others (`;csv`).
    pub(super) fn address(&self, uri: &str, first: &[&str]) -> String {
        let mut address = uri.to_owned();
        first.iter().for_each(|word| address.push_str(word));
        for (on, word) in [(self.up, ";up"), (self.no_maint, ";no-maint"), (self.no_refresh, ";norefresh")] {
            if on {
                address.push_str(word);
            }
        }
        if !self.scope.is_empty() {
            let _ = write!(address, "?scope={}", percent_encode(&self.scope));
        }
        address
    }
}

fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_the_path() {
        let options = Options::read(";csv;norefresh;st=DONE;st=<script>", "scope=rabbit%20x");
        assert!(options.csv && options.no_refresh && !options.json);
        assert_eq!((options.result.as_deref(), options.scope.as_str()), (Some("DONE"), "rabbit x"));
        assert_eq!(options.address("/m", &[";st=DONE"]), "/m;st=DONE;norefresh?scope=rabbit%20x");
        assert_eq!(Options::read("XYZ", ""), Options::default());
        assert_eq!(Options::read("", &format!("scope={}", "x".repeat(50))).scope.len(), 20);
    }

    #[test]
    fn forms_are_decoded() {
        let decoded = form(b"s=A&s=B%2B1&action=drain&b=%232&odd=%zz+");
        let expected = [("s", "A"), ("s", "B+1"), ("action", "drain"), ("b", "#2"), ("odd", "%zz ")];
        let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(decoded, expected);
    }
}
