//! An item of the replicated log; the body is shared with the ordinary tests of `broker-sim`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| broker_store::fuzz::raft_item(octets));
