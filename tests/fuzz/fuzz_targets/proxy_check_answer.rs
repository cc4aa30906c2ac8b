//! What servers answer to checks; the body is shared with the ordinary tests of `proxy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| proxy::check::answer::fuzz::readers(octets));
