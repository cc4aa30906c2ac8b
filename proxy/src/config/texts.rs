//! How a rule compares a text: `req.ssl_sni -i -m end .example.org`.

use super::rules::Range;

/// A text that a rule may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// The name in a TLS client hello that passes through (`req.ssl_sni`).
    HelloName,
    /// The name a client asked us for, where TLS ends here (`ssl_fc_sni`).
    TlsName,
}

impl Text {
    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::HelloName => "req.ssl_sni",
            Self::TlsName => "ssl_fc_sni",
        }
    }
}

/// How it is compared (`-m`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    /// The whole text.
    #[default]
    Exact,
    /// Its beginning.
    Begin,
    /// Its end.
    End,
    /// A part of it.
    Part,
    /// A part between slashes.
    Directory,
    /// A part between dots, slashes or colons.
    Domain,
    /// A regular expression.
    Regex,
    /// Its length.
    Length,
    /// It is there, whatever it says.
    Found,
}

impl Method {
    /// HAProxy's words.
    pub const WORDS: [(&'static str, Self); 9] = [
        ("str", Self::Exact),
        ("beg", Self::Begin),
        ("end", Self::End),
        ("sub", Self::Part),
        ("dir", Self::Directory),
        ("dom", Self::Domain),
        ("reg", Self::Regex),
        ("len", Self::Length),
        ("found", Self::Found),
    ];

    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, method)| *method == self).map_or("str", |(word, _)| word)
    }
}

/// What a text is changed to before it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// `,lower`
    Lower,
    /// `,upper`
    Upper,
}

/// A comparison with one of several values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matching {
    /// How.
    pub method: Method,
    /// Capital letters are as small ones (`-i`).
    pub ignore_case: bool,
    /// What the text is changed to first.
    pub case: Option<Case>,
    /// With what.
    pub values: Vec<Pattern>,
}

/// One value.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// A text.
    Text(String),
    /// A length.
    Length(Range),
    /// A regular expression.
    Regex(Box<fancy_regex::Regex>),
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Length(a), Self::Length(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl Eq for Pattern {}

impl Matching {
    /// Adds a value.
    ///
    /// # Errors
    /// It is no regular expression, or no length.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        self.values.push(match self.method {
            Method::Regex => {
                // HAProxy's `-i` for expressions.
                let flags = if self.ignore_case { "(?i)" } else { "" };
                let regex = fancy_regex::Regex::new(&format!("{flags}{text}"));
                Pattern::Regex(Box::new(regex.map_err(|error| format!("`{text}`: {error}"))?))
            }
            _ => Pattern::Text(text.to_owned()),
        });
        Ok(())
    }

    /// Whether a text is as wanted.
    #[must_use]
    pub fn holds(&self, text: &str) -> bool {
        let text = match self.case {
            Some(Case::Lower) => text.to_ascii_lowercase(),
            Some(Case::Upper) => text.to_ascii_uppercase(),
            None => text.to_owned(),
        };
        self.method == Method::Found || self.values.iter().any(|value| self.is_like(&text, value))
    }

    fn is_like(&self, text: &str, value: &Pattern) -> bool {
        let value = match value {
            // An expression that takes too long to match does not.
            Pattern::Regex(regex) => return regex.is_match(text).unwrap_or(false),
            Pattern::Length(range) => return range.contains(i64::try_from(text.len()).unwrap_or(i64::MAX)),
            Pattern::Text(value) => value,
        };
        let fold = |text: &str| if self.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
        let (text, value) = (fold(text), fold(value));
        match self.method {
            Method::Begin => text.starts_with(&value),
            Method::End => text.ends_with(&value),
            Method::Part => text.contains(&value),
            Method::Directory => has_word(&text, &value, &['/', '?']),
            Method::Domain => has_word(&text, &value, &['/', '?', '.', ':']),
            _ => text == value,
        }
    }
}

/// Whether `word` is a part of `text` between two delimiters, or its ends.
fn has_word(text: &str, word: &str, delimiters: &[char]) -> bool {
    let word = word.trim_matches(delimiters);
    !word.is_empty()
        && text.match_indices(word).any(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + word.len()..]);
            (before.is_empty() || before.ends_with(delimiters))
                && (after.is_empty() || after.starts_with(delimiters))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(method: Method, ignore_case: bool, values: &[&str]) -> Matching {
        let mut matching = Matching { method, ignore_case, ..Matching::default() };
        values.iter().for_each(|value| matching.add(value).unwrap());
        matching
    }

    #[test]
    fn texts_are_compared_as_haproxy_does() {
        for (method, value, text, expected) in [
            (Method::Exact, "a.b", "a.b", true),
            (Method::Exact, "a.b", "A.b", false),
            (Method::Begin, "a.", "a.b", true),
            (Method::End, ".b", "a.b", true),
            (Method::End, ".b", "b", false),
            (Method::Part, "x", "axb", true),
            (Method::Domain, "example", "a.example.org", true),
            (Method::Domain, ".example.org", "a.example.org", true),
            (Method::Domain, "example", "a.examples.org", false),
            (Method::Directory, "b", "/a/b/c", true),
            (Method::Directory, "b", "/a/b.c", false),
            (Method::Regex, "^a+$", "aaa", true),
            (Method::Regex, "^a+$", "aab", false),
            (Method::Found, "x", "anything", true),
        ] {
            assert_eq!(matching(method, false, &[value]).holds(text), expected, "{method:?} {value} {text}");
        }
        assert!(matching(Method::Exact, true, &["x", "A.b"]).holds("a.B"));
        assert!(matching(Method::Regex, true, &["^A$"]).holds("a"));
        let lower = Matching { case: Some(Case::Lower), ..matching(Method::Exact, false, &["ab"]) };
        assert!(lower.holds("AB"));
        let length = Matching {
            method: Method::Length,
            values: vec![Pattern::Length(Range { low: 2, high: 3 })],
            ..Matching::default()
        };
        assert!(length.holds("ab") && !length.holds("abcd"));
        assert!(Matching { method: Method::Regex, ..Matching::default() }.add("(").is_err());
    }
}
