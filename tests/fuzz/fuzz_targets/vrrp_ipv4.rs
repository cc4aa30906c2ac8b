//! An IPv4 packet as a raw socket hands it over; the body is shared with the ordinary tests of `vrrp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| vrrp::fuzz::ipv4(octets));
