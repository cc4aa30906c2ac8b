//! Entry points for fuzzing: any text is read without a panic, and what is accepted can be written as TOML
//! that means the same.

use super::{AgentConfig, keepalived_conf, to_toml, toml};

/// Text of keepalived.conf.
///
/// # Panics
///
/// A finding: the reader panics, or TOML loses something.
pub fn keepalived_conf(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    // An include would read the machine's own files.
    if text.contains("include") {
        return;
    }
    let (config, remarks) = keepalived_conf::parse(text, "keepalived.conf", None);
    assert_eq!(remarks.is_empty(), remarks.render(false).is_empty());
    if !remarks.has_errors() {
        reads_again(&config);
    }
}

/// Text of the native configuration.
///
/// # Panics
///
/// A finding: the reader panics, or writing loses something.
pub fn native(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    if let Ok((config, _)) = toml::parse(text, "vip.toml") {
        reads_again(&config);
    }
}

fn reads_again(config: &AgentConfig) {
    let native = to_toml::write(config);
    match toml::parse(&native, "written.toml") {
        Ok((again, _)) => assert_eq!(again, *config, "{native}"),
        Err(remarks) => panic!("{}\n{native}", remarks.render(false)),
    }
}

#[cfg(test)]
mod tests {
    use crate::mutants::{self, Seed};

    const MUTANTS: u64 = 4_000;

    fn tutorial(text: &str) -> Vec<Seed> {
        vec![("tutorial".into(), text.into())]
    }

    #[test]
    fn any_keepalived_conf_is_read_and_written_without_loss() {
        let seeds = tutorial(include_str!("../../../configs/tutorial/keepalived.conf"));
        mutants::check_seeds("vip_keepalived_conf", &seeds);
        mutants::run("vip_keepalived_conf", MUTANTS, b"{}\"\n !#$@/~0129 ", super::keepalived_conf);
    }

    #[test]
    fn any_native_configuration_is_read_and_written_without_loss() {
        mutants::check_seeds("vip_native", &tutorial(include_str!("../../../configs/tutorial/vip.toml")));
        mutants::run("vip_native", MUTANTS, b"[]{}\"=\n,.0129 ", super::native);
    }
}
