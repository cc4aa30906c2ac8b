//! Answers that one node gives another; the body is shared with the ordinary tests of `broker-core`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| broker_core::fuzz::forward_answers(octets));
