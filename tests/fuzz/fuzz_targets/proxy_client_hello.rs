//! What clients send before a rule looks for a name in it; the body is shared with the ordinary tests of `proxy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| proxy::content::fuzz(octets));
