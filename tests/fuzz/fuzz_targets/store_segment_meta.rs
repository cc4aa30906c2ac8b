//! The description of a segment; the body is shared with the ordinary tests of `broker-sim`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| broker_store::fuzz::segment_meta(octets));
