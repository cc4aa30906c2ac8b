//! Golden packets both ways, refusals by name, and random round trips.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::golden::ADVERTS;
use super::*;
use crate::config::InstanceConfig;
use crate::ip::{self, push_ipv4_header, split_ipv4};

const ETHERNET: usize = 14;
const IPV6: usize = 40;

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// What the program under record was told to send.
fn config_of(name: &str) -> InstanceConfig {
    let vip: IpAddr = [192, 168, 204, 66].into();
    let mut config = InstanceConfig::new("VI_1", 66, vec![vip]);
    config.auth = Auth::Simple(Password::new("1111"));
    match name {
        "v2_none" => config.auth = Auth::None,
        "v2_pass_long" => config.auth = Auth::Simple(Password::new("1234567890")),
        "v2_two_vips" => config.addresses.push([192, 168, 204, 67].into()),
        "prio255" => config.priority = 255,
        "v3_ipv4_25cs" => config.advert_interval = std::time::Duration::from_millis(250),
        "v3_ipv6" => {
            config.addresses = vec!["fe80::66".parse().unwrap(), "fd00:204::66".parse().unwrap()];
        }
        _ => {}
    }
    if name.starts_with("v3") {
        config.version = Version::V3;
    }
    config
}

#[test]
fn golden_adverts_are_encoded_byte_for_byte() {
    for golden in ADVERTS {
        let (name, when) = golden.name.split_once(' ').unwrap();
        let frame = bytes_of(golden.frame);
        let config = config_of(name);
        let advert = config.advert(if when == "last" { 0 } else { config.priority });
        let mut ours = Vec::new();
        if name == "v3_ipv6" {
            let source: [u8; 16] = frame[ETHERNET + 8..ETHERNET + 24].try_into().unwrap();
            let source = Ipv6Addr::from(source);
            encode(&advert, source.into(), ip::MULTICAST_V6.into(), ChecksumMode::PseudoHeader, &mut ours);
            assert_eq!(ours, frame[ETHERNET + IPV6..], "{}", golden.name);
            assert_eq!((frame[ETHERNET + 7], frame[ETHERNET] & 0xf, frame[ETHERNET + 1] >> 4), (255, 0xc, 0));
            continue;
        }
        let source = Ipv4Addr::new(192, 168, 204, 143);
        let unicast = name.ends_with("unicast");
        let destination = if unicast { Ipv4Addr::new(192, 168, 204, 144) } else { ip::MULTICAST_V4 };
        let mut payload = Vec::new();
        encode(&advert, source.into(), destination.into(), ChecksumMode::PseudoHeader, &mut payload);
        let id = u16::from_be_bytes([frame[ETHERNET + 4], frame[ETHERNET + 5]]);
        push_ipv4_header(&mut ours, id, source, destination, payload.len());
        ours.extend_from_slice(&payload);
        assert_eq!(ours, frame[ETHERNET..], "{}", golden.name);
        let expected_id = match when {
            "first" => 1,
            "second" => 2,
            _ => id,
        };
        assert_eq!(id, expected_id, "the identification counts from 1");
    }
}

#[test]
fn golden_adverts_are_decoded_to_what_was_configured() {
    for golden in ADVERTS {
        let (name, when) = golden.name.split_once(' ').unwrap();
        let frame = bytes_of(golden.frame);
        let (source, destination, payload): (IpAddr, IpAddr, &[u8]) = if name == "v3_ipv6" {
            let at = |from: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[from..from + 16]).unwrap());
            (at(ETHERNET + 8).into(), at(ETHERNET + 24).into(), &frame[ETHERNET + IPV6..])
        } else {
            let (envelope, payload) = split_ipv4(&frame[ETHERNET..]).unwrap();
            assert_eq!(envelope.ttl, 255);
            (envelope.source.into(), envelope.destination.into(), payload)
        };
        let config = config_of(name);
        let expected = config.advert(if when == "last" { 0 } else { config.priority });
        assert_eq!(decode(payload, source, destination), Ok(expected), "{}", golden.name);
        for at in 0..payload.len() {
            let mut broken = payload.to_vec();
            broken[at] ^= 0x10;
            assert!(decode(&broken, source, destination).is_err(), "{} byte {at}", golden.name);
            assert!(decode(&payload[..at], source, destination).is_err(), "{} cut at {at}", golden.name);
        }
    }
}

#[test]
fn refusals_name_what_is_wrong() {
    let source: IpAddr = [10, 0, 0, 1].into();
    let group: IpAddr = ip::MULTICAST_V4.into();
    let mut packet = Vec::new();
    let advert = config_of("v2_pass").advert(100);
    encode(&advert, source, group, ChecksumMode::PseudoHeader, &mut packet);
    let with = |at: usize, byte: u8| {
        let mut packet = packet.clone();
        packet[at] = byte;
        decode(&packet, source, group)
    };
    assert_eq!(with(0, 0x41), Err(DecodeError::Version(4)));
    assert_eq!(with(0, 0x22), Err(DecodeError::Type(2)));
    assert_eq!(with(3, 9), Err(DecodeError::TooShort { needed: 52, got: 20 }));
    assert_eq!(with(2, 99), Err(DecodeError::Checksum));
    assert_eq!(decode(&packet[..3], source, group), Err(DecodeError::TooShort { needed: 8, got: 3 }));
    let six: IpAddr = Ipv6Addr::LOCALHOST.into();
    assert_eq!(decode(&packet, six, six), Err(DecodeError::FamilyOfVersion));
}

#[test]
fn version_3_is_accepted_with_and_without_pseudo_header() {
    let source: IpAddr = [10, 0, 0, 1].into();
    let group: IpAddr = ip::MULTICAST_V4.into();
    let advert = config_of("v3_ipv4").advert(7);
    let encoded = |mode| {
        let mut out = Vec::new();
        encode(&advert, source, group, mode, &mut out);
        out
    };
    let (with, without) = (encoded(ChecksumMode::PseudoHeader), encoded(ChecksumMode::PacketOnly));
    assert_ne!(with, without);
    assert_eq!(decode(&with, source, group).as_ref(), Ok(&advert));
    assert_eq!(decode(&without, source, group).as_ref(), Ok(&advert));
}

#[test]
fn passwords_do_not_show_in_debug_output() {
    assert_eq!(format!("{:?}", Auth::Simple(Password::new("secret"))), "Simple(Password(…))");
}

fn adverts() -> impl Strategy<Value = (Advert, IpAddr)> {
    let v4 = proptest::collection::vec(any::<[u8; 4]>(), 0..20);
    let v6 = proptest::collection::vec(any::<[u8; 16]>(), 0..20);
    (any::<(u8, u8, u8, u16, bool)>(), any::<Option<[u8; 8]>>(), v4, v6, 0..3u8).prop_map(
        |((vrid, priority, seconds, cs, _), password, v4, v6, kind)| {
            let (version, interval_cs) = match kind {
                0 => (Version::V2, u16::from(seconds) * 100),
                _ => (Version::V3, cs & MAX_INTERVAL_V3_CS),
            };
            let auth = match (version, password) {
                (Version::V2, Some(bytes)) => Auth::Simple(bytes.into()),
                _ => Auth::None,
            };
            let (source, addresses): (IpAddr, Vec<IpAddr>) = if kind == 2 {
                (Ipv6Addr::LOCALHOST.into(), v6.into_iter().map(IpAddr::from).collect())
            } else {
                (Ipv4Addr::new(10, 0, 0, 1).into(), v4.into_iter().map(IpAddr::from).collect())
            };
            (Advert { version, vrid, priority, interval_cs, auth, addresses }, source)
        },
    )
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded((advert, source) in adverts()) {
        let mut packet = Vec::new();
        encode(&advert, source, source, ChecksumMode::PseudoHeader, &mut packet);
        prop_assert_eq!(decode(&packet, source, source), Ok(advert));
    }

    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), first in 0x20u8..0x40) {
        let mut bytes = bytes;
        let v4: IpAddr = [10, 0, 0, 1].into();
        let v6: IpAddr = Ipv6Addr::LOCALHOST.into();
        let _ = split_ipv4(&bytes);
        let _ = decode(&bytes, v4, v4);
        if let Some(byte) = bytes.first_mut() {
            *byte = first & 0xf1;
        }
        let _ = decode(&bytes, v6, v6);
        let _ = decode(&bytes, v4, v6);
    }

    #[test]
    fn damaged_golden_packets_never_panic(pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut frame = bytes_of(ADVERTS[pick.index(ADVERTS.len())].frame);
        let at = ETHERNET + at.index(frame.len() - ETHERNET);
        frame[at] = byte;
        if let Some((envelope, payload)) = split_ipv4(&frame[ETHERNET..]) {
            let _ = decode(payload, envelope.source.into(), envelope.destination.into());
        }
    }
}
