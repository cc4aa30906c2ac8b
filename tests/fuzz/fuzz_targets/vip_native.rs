//! The reader of the agent's native configuration; the body is shared with the ordinary tests of `vip-agent`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| vip_agent::fuzz::native(octets));
