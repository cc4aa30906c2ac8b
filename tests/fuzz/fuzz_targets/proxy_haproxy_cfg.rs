//! The reader of haproxy.cfg; the body is shared with the ordinary tests of `proxy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| proxy::config::fuzz::haproxy_cfg(octets));
