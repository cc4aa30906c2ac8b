//! A field table; the body is shared with the ordinary tests of `amqp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| amqp::fuzz::table(octets));
