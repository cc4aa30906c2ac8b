//! Folded records as they come to a queue; the body is shared with the ordinary tests of `broker-sim`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| broker_sim::fuzz::live_set(octets));
