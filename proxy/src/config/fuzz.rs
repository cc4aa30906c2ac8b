//! Bodies of the fuzz targets for the two forms of the configuration.

use daemon::diagnostic::Diagnostics;

use super::{Config, haproxy_cfg, toml, validate};

/// Text of haproxy.cfg: nothing panics, and what is accepted can be written as TOML that reads again.
pub fn haproxy_cfg(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    if looks_outside(text) {
        return;
    }
    let mut config = Config::default();
    let mut remarks = Diagnostics::new();
    haproxy_cfg::Reader::default().read(text, "haproxy.cfg", &mut config, &mut remarks);
    validate::validate(&mut config, &mut remarks);
    assert_eq!(remarks.is_empty(), remarks.render(false).is_empty());
    if !remarks.has_errors() {
        let written = toml::write(&config, &remarks, "haproxy.cfg");
        proxy_toml(written.as_bytes());
    }
}

/// Text of the TOML form: nothing panics.
pub fn proxy_toml(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    if looks_outside(text) {
        return;
    }
    let mut config = Config::default();
    if let Ok(mut remarks) = toml::read(text, "proxy.toml", &mut config) {
        validate::validate(&mut config, &mut remarks);
        assert_eq!(remarks.is_empty(), remarks.render(false).is_empty());
    }
}

/// Names are looked up and files are read: neither belongs into a fuzzer. What is left has addresses only.
fn looks_outside(text: &str) -> bool {
    text.contains("-f ")
        || text.contains("-f\t")
        || text.contains("log")
        || text.contains("bind") && names(text)
}

/// Whether an address to bind could be a name.
fn names(text: &str) -> bool {
    text.lines().filter(|line| line.contains("bind")).any(|line| {
        line.split(|c: char| c.is_whitespace() || c == ',' || c == '"' || c == '\'')
            .filter(|word| word.contains(':'))
            .any(|word| word.split(':').next().is_some_and(|host| host.contains(|c: char| c.is_alphabetic())))
    })
}

#[cfg(test)]
mod tests;
