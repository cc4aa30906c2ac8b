//! What name servers answer; the body is shared with the ordinary tests of `proxy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| proxy::resolvers::fuzz(octets));
