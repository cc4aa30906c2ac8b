//! Bodies of the fuzz targets in `tests/fuzz`, shared with the ordinary test over the stored corpus.
//!
//! Each takes any octets and panics when a decoder breaks a promise. Decoders may refuse; they may not panic, accept
//! what has its end cut off, or read differently what was written from what they read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::hmac::{self, Key};
use crate::ip;
use crate::packet::{self, ChecksumMode, DecodeError, Version, decode, encode, write_checksum};

fn ends(six: bool) -> (IpAddr, IpAddr) {
    if six {
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(), ip::MULTICAST_V6.into())
    } else {
        (Ipv4Addr::new(10, 0, 0, 1).into(), ip::MULTICAST_V4.into())
    }
}

/// The payload of a packet, over IPv4 and over IPv6; as it is, and with its checksum put right, without which
/// nothing behind the checksum would ever be reached.
pub fn packet(octets: &[u8]) {
    for six in [false, true] {
        let (source, destination) = ends(six);
        let _ = decode(octets, source, destination);
        if octets.len() < 8 {
            continue;
        }
        let version = if octets[0] >> 4 == 2 { Version::V2 } else { Version::V3 };
        for mode in [ChecksumMode::PseudoHeader, ChecksumMode::PacketOnly] {
            let mut payload = octets.to_vec();
            payload[6..8].fill(0);
            write_checksum(version, source, destination, mode, &mut payload);
            payload_with_checksum(&payload, source, destination, mode);
        }
    }
}

fn payload_with_checksum(payload: &[u8], source: IpAddr, destination: IpAddr, mode: ChecksumMode) {
    let advert = match decode(payload, source, destination) {
        Ok(advert) => advert,
        Err(error) => {
            assert_ne!(error, DecodeError::Checksum, "it was just written");
            return;
        }
    };
    assert_eq!(packet::peek_vrid(payload), Some(advert.vrid));
    let length = packet::packet_length(payload, source).expect("what was decoded has a length");
    for cut in 0..length {
        assert!(decode(&payload[..cut], source, destination).is_err(), "cut at {cut}");
    }
    let mut again = Vec::new();
    encode(&advert, source, destination, mode, &mut again);
    assert_eq!(decode(&again, source, destination), Ok(advert));
    assert_eq!(again.len(), length);
}

/// An IPv4 packet as a raw socket hands it over.
pub fn ipv4(octets: &[u8]) {
    let Some((envelope, payload)) = ip::split_ipv4(octets) else { return };
    assert!(payload.len() + 20 <= octets.len());
    let mut header = Vec::new();
    ip::push_ipv4_header(&mut header, 1, envelope.source, envelope.destination, payload.len());
    header.extend_from_slice(payload);
    let (again, same) = ip::split_ipv4(&header).expect("what was written is read");
    assert_eq!((again.source, again.destination, same), (envelope.source, envelope.destination, payload));
    packet(payload);
}

/// A packet with the trailer that proves its sender. No octets may pass for one that holds the key.
pub fn hmac(octets: &[u8]) {
    let key = Key::new("the key of the fuzz target").expect("it is long enough");
    for six in [false, true] {
        let (source, destination) = ends(six);
        if hmac::verify(&key, octets, source, None).is_err() {
            continue;
        }
        // Only the seeds are: they were made with the key, and nothing of them may be missing or changed.
        for last in [u64::MAX, u64::MAX - 1] {
            assert!(hmac::verify(&key, octets, source, Some(last)).is_err(), "an old time");
        }
        for at in (0..octets.len()).filter(|at| !(6..8).contains(at)) {
            let mut changed = octets.to_vec();
            changed[at] ^= 0x40;
            assert!(hmac::verify(&key, &changed, source, None).is_err(), "changed at {at}");
            assert!(hmac::verify(&key, &octets[..at], source, None).is_err(), "cut at {at}");
        }
        let _ = decode(octets, source, destination);
    }
}

#[cfg(test)]
#[path = "../../../tests/fuzz/mutants.rs"]
mod mutants;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InstanceConfig;
    use crate::packet::{Auth, Password};
    use mutants::{Seed, check_seeds, run};

    fn configs() -> Vec<(&'static str, InstanceConfig)> {
        let mut plain = InstanceConfig::new("V", 66, vec![[192, 168, 204, 66].into()]);
        let mut password = plain.clone();
        password.auth = Auth::Simple(Password::new("1111"));
        let mut many = plain.clone();
        many.version = Version::V3;
        many.addresses = (0..20u8).map(|host| [10, 0, 0, host].into()).collect();
        let mut six = many.clone();
        six.addresses = vec![Ipv6Addr::LOCALHOST.into(), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9).into()];
        plain.priority = 255;
        vec![("v2", plain), ("v2-password", password), ("v3-many", many), ("v3-ipv6", six)]
    }

    fn seeds(make: impl Fn(&InstanceConfig, IpAddr, IpAddr, &mut Vec<u8>)) -> Vec<Seed> {
        configs()
            .into_iter()
            .map(|(name, config)| {
                let (source, destination) = ends(config.addresses[0].is_ipv6());
                let mut octets = Vec::new();
                make(&config, source, destination, &mut octets);
                (name.to_owned(), octets)
            })
            .collect()
    }

    /// Numbers with a meaning: versions with the type, counts, priorities, the protocol, the trailer's mark.
    const TELLING: &[u8] = &[0, 1, 2, 4, 8, 20, 0x21, 0x31, 0x45, 100, 112, 255, b'W', b'H'];

    #[test]
    fn packets() {
        check_seeds(
            "vrrp_packet",
            &seeds(|config, source, destination, out| {
                encode(&config.advert(config.priority), source, destination, ChecksumMode::PseudoHeader, out);
            }),
        );
        run("vrrp_packet", 20_000, TELLING, packet);
    }

    #[test]
    fn ipv4_packets() {
        let all = seeds(|config, source, destination, out| {
            let (IpAddr::V4(from), IpAddr::V4(to)) = (source, destination) else { return };
            let mut payload = Vec::new();
            encode(&config.advert(0), source, destination, ChecksumMode::PacketOnly, &mut payload);
            ip::push_ipv4_header(out, 7, from, to, payload.len());
            out.extend_from_slice(&payload);
        });
        let some: Vec<Seed> = all.into_iter().filter(|(_, octets)| !octets.is_empty()).collect();
        check_seeds("vrrp_ipv4", &some);
        run("vrrp_ipv4", 20_000, TELLING, ipv4);
    }

    #[test]
    fn sealed_packets() {
        let key = Key::new("the key of the fuzz target").unwrap();
        check_seeds(
            "vrrp_hmac",
            &seeds(|config, source, destination, out| {
                let advert = config.advert(config.priority);
                hmac::encode(&key, &advert, source, destination, ChecksumMode::PseudoHeader, 1_000_000, out);
            }),
        );
        run("vrrp_hmac", 2_000, TELLING, hmac);
    }
}
