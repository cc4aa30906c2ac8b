//! The stored corpora, and mutations of them.

use crate::mutants;

const TELLING: &[u8] = b" \n\t#\"'\\${}[]!|=.,:/-0159absx*";

#[test]
fn no_mutation_of_a_haproxy_cfg_breaks_its_reader() {
    mutants::run("proxy_haproxy_cfg", 1500, TELLING, super::haproxy_cfg);
}

#[test]
fn no_mutation_of_a_proxy_toml_breaks_its_reader() {
    mutants::run("proxy_toml", 600, TELLING, super::proxy_toml);
}
