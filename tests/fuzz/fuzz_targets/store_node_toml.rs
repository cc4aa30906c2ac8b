//! The identity of a data directory; the body is shared with the ordinary tests of `broker-sim`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| broker_sim::fuzz::node_toml(octets));
