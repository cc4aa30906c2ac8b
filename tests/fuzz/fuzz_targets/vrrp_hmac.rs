//! An advert with the trailer that proves its sender; the body is shared with the ordinary tests of `vrrp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| vrrp::fuzz::hmac(octets));
