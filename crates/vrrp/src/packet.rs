//! VRRP adverts on the wire, versions 2 and 3.
//!
//! ```text
//!  0                   1                   2                   3
//! |Version| Type  | Virtual Rtr ID|   Priority    | Count IP Addrs|
//! |   Auth Type   |   Adver Int   |          Checksum             |   version 2 (RFC 3768 section 5.1)
//! |(rsvd) |     Max Adver Int     |          Checksum             |   version 3 (RFC 9568 section 5.1)
//! |                       IP address (1..n)                       |
//! |                 Authentication Data (8 bytes)                 |   version 2 only
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ip::Checksum;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

const HEADER: usize = 8;
const AUTH_DATA: usize = 8;
const TYPE_ADVERTISEMENT: u8 = 1;
/// The largest advertisement interval version 3 can carry, in centiseconds (12 bits).
pub const MAX_INTERVAL_V3_CS: u16 = 0x0fff;

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 3768: IPv4, whole seconds, optional clear-text password.
    V2,
    /// RFC 9568: IPv4 and IPv6, centiseconds.
    V3,
}

impl Version {
    /// The number in the packet.
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// The eight bytes of `auth_type PASS`; shorter passwords are padded with zero bytes, longer ones cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password([u8; AUTH_DATA]);

impl Password {
    /// Takes the first eight bytes of `text`, as keepalived does.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; AUTH_DATA];
        for (slot, byte) in bytes.iter_mut().zip(text.bytes()) {
            *slot = byte;
        }
        Self(bytes)
    }

    /// The bytes as they go on the wire.
    pub const fn bytes(&self) -> &[u8; AUTH_DATA] {
        &self.0
    }
}

impl From<[u8; AUTH_DATA]> for Password {
    fn from(bytes: [u8; AUTH_DATA]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Authentication of a version 2 advert (RFC 3768 section 5.3.6). Version 3 has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Type 0; eight zero bytes follow the addresses.
    None,
    /// Type 1, a clear-text password (RFC 2338 section 10.2).
    Simple(Password),
    /// A type this program does not speak; kept so that the mismatch can be named.
    Other(u8),
}

impl Auth {
    /// The number in the packet.
    pub const fn number(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Simple(_) => 1,
            Self::Other(number) => *number,
        }
    }
}

/// Which checksum a version 3 advert over IPv4 carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumMode {
    /// Over pseudo-header and packet (RFC 9568 section 5.2.8).
    #[default]
    PseudoHeader,
    /// Over the packet alone, as version 2 does and some routers do in version 3.
    PacketOnly,
}

/// One advert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Protocol version.
    pub version: Version,
    /// Virtual router the advert speaks for.
    pub vrid: u8,
    /// 0 = the master leaves, 255 = the owner of the addresses.
    pub priority: u8,
    /// Advertisement interval in centiseconds; version 2 carries whole seconds.
    pub interval_cs: u16,
    /// Authentication; always [`Auth::None`] in version 3.
    pub auth: Auth,
    /// The virtual addresses, all of one family.
    pub addresses: Vec<IpAddr>,
}

/// Why bytes are not an advert. Each variant has its own counter in the agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the header, or than the addresses it announces.
    #[error("packet has {got} bytes, needs {needed}")]
    TooShort {
        /// Bytes needed.
        needed: usize,
        /// Bytes received.
        got: usize,
    },
    /// Neither version 2 nor 3.
    #[error("unknown VRRP version {0}")]
    Version(u8),
    /// Not an ADVERTISEMENT.
    #[error("unknown VRRP packet type {0}")]
    Type(u8),
    /// The checksum does not match, neither with nor without pseudo-header.
    #[error("wrong checksum")]
    Checksum,
    /// Version 2 over IPv6 does not exist.
    #[error("VRRP version 2 over IPv6")]
    FamilyOfVersion,
}

/// The virtual router an undecoded packet claims to speak for; `None` when it is too short to say.
pub fn peek_vrid(payload: &[u8]) -> Option<u8> {
    payload.get(1).copied()
}

/// Decodes the VRRP payload of a packet that went from `source` to `destination`.
///
/// # Errors
///
/// [`DecodeError`] names what is wrong. Bytes after the packet are tolerated (RFC 9568 section 7.1 asks
/// for a complete packet only); the checksum covers them.
pub fn decode(payload: &[u8], source: IpAddr, destination: IpAddr) -> Result<Advert, DecodeError> {
    let Some(&[first, vrid, priority, count, at4, at5, _, _]) = payload.first_chunk::<HEADER>() else {
        return Err(DecodeError::TooShort { needed: HEADER, got: payload.len() });
    };
    let version = match first >> 4 {
        2 => Version::V2,
        3 => Version::V3,
        other => return Err(DecodeError::Version(other)),
    };
    if first & 0x0f != TYPE_ADVERTISEMENT {
        return Err(DecodeError::Type(first & 0x0f));
    }
    if version == Version::V2 && source.is_ipv6() {
        return Err(DecodeError::FamilyOfVersion);
    }
    let address_length = if source.is_ipv4() { 4 } else { 16 };
    let auth_at = HEADER + usize::from(count) * address_length;
    let needed = auth_at + if version == Version::V2 { AUTH_DATA } else { 0 };
    if payload.len() < needed {
        return Err(DecodeError::TooShort { needed, got: payload.len() });
    }
    if !checksum_holds(version, payload, source, destination) {
        return Err(DecodeError::Checksum);
    }
    let addresses = payload[HEADER..auth_at].chunks_exact(address_length).filter_map(address_from).collect();
    let (auth, interval_cs) = match version {
        Version::V2 => (auth_from(at4, &payload[auth_at..needed]), u16::from(at5) * 100),
        Version::V3 => (Auth::None, u16::from_be_bytes([at4, at5]) & MAX_INTERVAL_V3_CS),
    };
    Ok(Advert { version, vrid, priority, interval_cs, auth, addresses })
}

/// Appends the VRRP payload of `advert`, as sent from `source` to `destination`, to `out`.
///
/// Addresses of another family than `source` are left out; at most 255 go into one advert.
pub fn encode(advert: &Advert, source: IpAddr, destination: IpAddr, mode: ChecksumMode, out: &mut Vec<u8>) {
    let start = out.len();
    write_body(advert, source, out);
    write_checksum(advert.version, source, destination, mode, &mut out[start..]);
}

/// Appends `advert` with a checksum of zero.
pub(crate) fn write_body(advert: &Advert, source: IpAddr, out: &mut Vec<u8>) {
    let of_family = |address: &&IpAddr| address.is_ipv4() == source.is_ipv4();
    let addresses = advert.addresses.iter().filter(of_family).take(usize::from(u8::MAX));
    out.extend_from_slice(&[
        advert.version.number() << 4 | TYPE_ADVERTISEMENT,
        advert.vrid,
        advert.priority,
        addresses.clone().count() as u8,
    ]);
    match advert.version {
        Version::V2 => {
            let seconds = u8::try_from(advert.interval_cs / 100).unwrap_or(u8::MAX);
            out.extend_from_slice(&[advert.auth.number(), seconds]);
        }
        Version::V3 => out.extend_from_slice(&advert.interval_cs.min(MAX_INTERVAL_V3_CS).to_be_bytes()),
    }
    out.extend_from_slice(&[0, 0]);
    for address in addresses {
        match address {
            IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
        }
    }
    if advert.version == Version::V2 {
        match &advert.auth {
            Auth::Simple(password) => out.extend_from_slice(password.bytes()),
            Auth::None | Auth::Other(_) => out.extend_from_slice(&[0; AUTH_DATA]),
        }
    }
}

/// Puts the checksum of everything in `payload` into its place.
pub(crate) fn write_checksum(
    version: Version,
    source: IpAddr,
    destination: IpAddr,
    mode: ChecksumMode,
    payload: &mut [u8],
) {
    let mut checksum = Checksum::default();
    if version == Version::V3 && (mode == ChecksumMode::PseudoHeader || source.is_ipv6()) {
        checksum.add_pseudo_header(source, destination, payload.len() as u16);
    }
    checksum.add(payload);
    payload[6..8].copy_from_slice(&checksum.finish().to_be_bytes());
}

/// How many bytes the VRRP packet at the start of `payload` has; `None` when it is no packet.
pub(crate) fn packet_length(payload: &[u8], source: IpAddr) -> Option<usize> {
    let auth_data = match payload.first()? >> 4 {
        2 => AUTH_DATA,
        3 => 0,
        _ => return None,
    };
    let address_length = if source.is_ipv4() { 4 } else { 16 };
    Some(HEADER + usize::from(*payload.get(3)?) * address_length + auth_data)
}

/// Version 2 sums the packet alone. Version 3 over IPv4 is accepted both ways, because RFC 5798 was read
/// both ways.
fn checksum_holds(version: Version, payload: &[u8], source: IpAddr, destination: IpAddr) -> bool {
    let mut alone = Checksum::default();
    alone.add(payload);
    let mut with_pseudo_header = alone;
    with_pseudo_header.add_pseudo_header(source, destination, payload.len() as u16);
    match version {
        Version::V2 => alone.finish() == 0,
        Version::V3 => with_pseudo_header.finish() == 0 || (source.is_ipv4() && alone.finish() == 0),
    }
}

fn auth_from(number: u8, data: &[u8]) -> Auth {
    match (number, data.first_chunk::<AUTH_DATA>()) {
        (0, _) => Auth::None,
        (1, Some(bytes)) => Auth::Simple(Password(*bytes)),
        (other, _) => Auth::Other(other),
    }
}

fn address_from(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk().map(|octets: &[u8; 4]| Ipv4Addr::from(*octets).into()),
        _ => bytes.first_chunk().map(|octets: &[u8; 16]| Ipv6Addr::from(*octets).into()),
    }
}
