//! The reader of keepalived.conf; the body is shared with the ordinary tests of `vip-agent`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| vip_agent::fuzz::keepalived_conf(octets));
