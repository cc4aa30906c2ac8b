//! The payload of an advert; the body is shared with the ordinary tests of `vrrp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| vrrp::fuzz::packet(octets));
