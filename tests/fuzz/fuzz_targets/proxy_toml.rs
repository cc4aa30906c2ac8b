//! The TOML form of the proxy's configuration; the body is shared with the ordinary tests of `proxy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| proxy::config::fuzz::proxy_toml(octets));
