//! A frame or header of a journal; the body is shared with the ordinary tests of `broker-sim`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| broker_store::fuzz::journal_frame(octets));
