//! The write-ahead log on a simulated disk; the body is shared with the ordinary tests of `broker-sim`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| broker_sim::fuzz::wal(octets));
