//! Generic netlink, as IPVS speaks it (linux/ip_vs.h).
//!
//! ```text
//! nlmsghdr   length u32 | type u16 (family) | flags u16 | sequence u32 | port u32
//! genlmsghdr command u8 | version u8 | reserved u16
//! attribute  length u16 | type u16 | value, padded to four octets
//! ```

use std::net::IpAddr;

use super::{Entry, Key, Step};
use crate::config::virtual_server::Method;

const NLM_F_REQUEST_ACK: u16 = 0x01 | 0x04;
/// Bit of an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// The generic netlink family that knows the others, and its command to ask for one.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const ATTR_FAMILY_ID: u16 = 1;
const ATTR_FAMILY_NAME: u16 = 2;
/// Length of the two headers.
const HEADERS: usize = 20;

const CMD_NEW_SERVICE: u8 = 1;
const CMD_SET_SERVICE: u8 = 2;
const CMD_DEL_SERVICE: u8 = 3;
const CMD_NEW_DEST: u8 = 5;
const CMD_SET_DEST: u8 = 6;
const CMD_DEL_DEST: u8 = 7;

const ATTR_SERVICE: u16 = 1;
const ATTR_DEST: u16 = 2;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// `IP_VS_SVC_F_PERSISTENT`.
const PERSISTENT: u32 = 1;

#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn raw(&mut self, kind: u16, value: &[u8]) {
        let length = (value.len() + 4) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn short(&mut self, kind: u16, value: u16) {
        self.raw(kind, &value.to_ne_bytes());
    }

    fn word(&mut self, kind: u16, value: u32) {
        self.raw(kind, &value.to_ne_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.raw(kind, &[value.as_bytes(), &[0]].concat());
    }

    fn nested(&mut self, kind: u16, inner: &Self) {
        self.raw(kind | NESTED, &inner.0);
    }
}

fn message(family: u16, command: u8, sequence: u32, attributes: &Attributes) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADERS + attributes.0.len());
    out.extend_from_slice(&((HEADERS + attributes.0.len()) as u32).to_ne_bytes());
    out.extend_from_slice(&family.to_ne_bytes());
    out.extend_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&0u32.to_ne_bytes());
    out.extend_from_slice(&[command, 1, 0, 0]);
    out.extend_from_slice(&attributes.0);
    out
}

/// Asks for the number of a family.
pub(super) fn get_family(name: &str, sequence: u32) -> Vec<u8> {
    let mut attributes = Attributes::default();
    attributes.text(ATTR_FAMILY_NAME, name);
    message(CONTROLLER, GET_FAMILY, sequence, &attributes)
}

/// The number of the family in the controller's answer.
pub(super) fn family_of(answer: &[u8]) -> Option<u16> {
    let mut rest = answer.get(HEADERS..)?;
    while let Some(head) = rest.get(..4) {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]);
        let value = rest.get(4..length)?;
        if kind == ATTR_FAMILY_ID {
            return Some(u16::from_ne_bytes(value.get(..2)?.try_into().ok()?));
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The error number of an acknowledgement, 0 when all went well; `None` when it is none.
pub(super) fn acknowledged(answer: &[u8]) -> Option<i32> {
    const NLMSG_ERROR: u16 = 2;
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then(|| code.saturating_neg())
}

/// One step as a message.
pub(super) fn step(family: u16, sequence: u32, step: &Step<'_>) -> Vec<u8> {
    let mut attributes = Attributes::default();
    let (command, key, entry, server) = match *step {
        Step::NewService(key, entry) => (CMD_NEW_SERVICE, key, Some(entry), None),
        Step::SetService(key, entry) => (CMD_SET_SERVICE, key, Some(entry), None),
        Step::DelService(key) => (CMD_DEL_SERVICE, key, None, None),
        Step::NewServer(key, server, entry) => (CMD_NEW_DEST, key, Some(entry), Some(server)),
        Step::SetServer(key, server, entry) => (CMD_SET_DEST, key, Some(entry), Some(server)),
        Step::DelServer(key, server) => (CMD_DEL_DEST, key, None, Some(server)),
    };
    // With a server, the service is only named.
    attributes.nested(ATTR_SERVICE, &service(key, entry.filter(|_| server.is_none())));
    if let Some(server) = server {
        attributes.nested(ATTR_DEST, &destination(server, entry));
    }
    message(family, command, sequence, &attributes)
}

fn address(address: IpAddr) -> [u8; 16] {
    let mut out = [0; 16];
    match address {
        IpAddr::V4(v4) => out[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out = v6.octets(),
    }
    out
}

fn family(six: bool) -> u16 {
    if six { AF_INET6 } else { AF_INET }
}

fn service(key: Key, entry: Option<&Entry>) -> Attributes {
    let mut out = Attributes::default();
    let six = match key {
        Key::Address { address: own, port, protocol } => {
            out.short(1, family(own.is_ipv6()));
            out.short(2, protocol);
            out.raw(3, &address(own));
            out.raw(4, &port.to_be_bytes());
            own.is_ipv6()
        }
        Key::Mark { mark, six } => {
            out.short(1, family(six));
            out.word(5, mark);
            six
        }
    };
    let Some(entry) = entry else { return out };
    out.text(6, entry.scheduler);
    let flags = if entry.persistence.is_some() { PERSISTENT } else { 0 };
    out.raw(7, &[flags.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat());
    out.word(8, entry.persistence.map_or(0, |persistence| persistence.timeout.as_secs() as u32));
    let prefix = entry.persistence.map_or(128, |persistence| persistence.prefix);
    if six {
        out.word(9, u32::from(prefix.min(128)));
    } else {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        out.raw(9, &mask.to_be_bytes());
    }
    out
}

fn destination((own, port): (IpAddr, u16), entry: Option<&Entry>) -> Attributes {
    let mut out = Attributes::default();
    out.raw(1, &address(own));
    out.raw(2, &port.to_be_bytes());
    if let Some(entry) = entry {
        // Masquerading is 0, direct routing 3.
        out.word(3, if entry.method == Method::Dr { 3 } else { 0 });
        out.word(4, entry.servers.get(&(own, port)).copied().unwrap_or(0));
        // No thresholds.
        out.word(5, 0);
        out.word(6, 0);
    }
    out.short(11, family(own.is_ipv6()));
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::config::virtual_server::Persistence;

    fn words(octets: &[u8]) -> Vec<String> {
        octets.chunks(4).map(|word| word.iter().map(|octet| format!("{octet:02x}")).collect()).collect()
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_service_and_its_server_octet_by_octet() {
        let server = (IpAddr::from([10, 0, 0, 11]), 8080);
        let entry = Entry {
            scheduler: "wlc",
            persistence: Some(Persistence { timeout: Duration::from_secs(300), prefix: 24 }),
            method: Method::Dr,
            servers: BTreeMap::from([(server, 7)]),
        };
        let key = Key::Address { address: [10, 0, 0, 1].into(), port: 80, protocol: 6 };
        assert_eq!(
            words(&step(0x1c, 9, &Step::NewService(key, &entry))),
            [
                "68000000", "1c000500", "09000000", "00000000", "01010000", // headers: new service
                "54000180", // service
                "06000100", "02000000", "06000200", "06000000", // AF_INET, TCP
                "14000300", "0a000001", "00000000", "00000000", "00000000", // address
                "06000400", "00500000", // port
                "08000600", "776c6300", // "wlc"
                "0c000700", "01000000", "ffffffff", // persistent
                "08000800", "2c010000", // timeout
                "08000900", "ffffff00", // netmask
            ]
        );
        assert_eq!(
            words(&step(0x1c, 10, &Step::NewServer(key, server, &entry))[20..]),
            [
                "30000180", "06000100", "02000000", "06000200", "06000000", "14000300", "0a000001",
                "00000000", "00000000", "00000000", "06000400", "00500000", // the service, named
                "48000280", "14000100", "0a00000b", "00000000", "00000000", "00000000", "06000200",
                "1f900000", "08000300", "03000000", "08000400", "07000000", "08000500", "00000000",
                "08000600", "00000000", "06000b00", "02000000", // the server
            ]
        );
    }

    #[test]
    fn answers_of_the_kernel() {
        let asked = get_family("IPVS", 1);
        assert_eq!(asked.len() % 4, 0);
        let mut attributes = Attributes::default();
        attributes.text(ATTR_FAMILY_NAME, "IPVS");
        attributes.short(ATTR_FAMILY_ID, 0x21);
        let answer = message(CONTROLLER, 1, 1, &attributes);
        assert_eq!(family_of(&answer), Some(0x21));
        for end in 0..answer.len() {
            let _ = family_of(&answer[..end]);
        }
        let mut refused = message(2, 0, 1, &Attributes::default());
        refused[16..20].copy_from_slice(&(-2i32).to_ne_bytes());
        assert_eq!(acknowledged(&refused), Some(2));
        assert_eq!(acknowledged(&answer), None);
    }
}
