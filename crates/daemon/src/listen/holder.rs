//! Who listens on a port: `/proc/net/tcp` gives the socket's inode, `/proc/PID/fd` its process.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The state `TCP_LISTEN` in `/proc/net/tcp` (proc(5)).
const LISTEN: &str = "0A";

/// The process that has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id; 0 when only the user is known.
    pub pid: u32,
    /// The program's name; empty when unknown.
    pub program: String,
    /// The user's name, or its number.
    pub user: String,
}

impl Holder {
    /// The product people know this program by.
    #[must_use]
    pub fn looks_like(&self) -> Option<&'static str> {
        match self.program.as_str() {
            "beam.smp" => Some("RabbitMQ"),
            "haproxy" => Some("HAProxy"),
            "keepalived" => Some("keepalived"),
            "nginx" => Some("nginx"),
            _ => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return write!(f, "a process of user {}", self.user);
        }
        write!(f, "{} (pid {}, user {})", self.program, self.pid, self.user)?;
        match self.looks_like() {
            Some(product) => write!(f, ", looks like {product}"),
            None => Ok(()),
        }
    }
}

/// The process that listens on `address`, or on its port for all addresses; `None` when there is
/// none. Without root only processes of the same user have a pid and a name.
#[must_use]
pub fn holder_of(address: SocketAddr) -> Option<Holder> {
    let (inode, uid) = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .find_map(|table| find_listener(&table, address))?;
    let user = user_name(uid);
    match pid_of_socket(inode) {
        Some(pid) => Some(Holder { pid, program: program_of(pid), user }),
        None => Some(Holder { pid: 0, program: String::new(), user }),
    }
}

/// Inode and user id of the socket that listens on `address`.
fn find_listener(table: &str, address: SocketAddr) -> Option<(u64, u32)> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = parse_address(fields.nth(1)?)?;
        let state = fields.nth(1)?;
        let uid = fields.nth(3)?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        let same_port = local.port() == address.port();
        let overlaps =
            local.ip() == address.ip() || local.ip().is_unspecified() || address.ip().is_unspecified();
        (state == LISTEN && same_port && overlaps && inode != 0).then_some((inode, uid))
    })
}

/// `0100007F:1628`: each 32-bit group in the host's byte order, the port in plain hexadecimal.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let groups: Option<Vec<[u8; 4]>> = ip
        .as_bytes()
        .chunks(8)
        .map(|group| {
            let digits = std::str::from_utf8(group).ok()?;
            u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
        })
        .collect();
    let groups = groups?;
    let ip = match groups.as_slice() {
        [v4] => IpAddr::from(Ipv4Addr::from(*v4)),
        [a, b, c, d] => {
            let mut octets = [0; 16];
            for (place, group) in octets.chunks_mut(4).zip([a, b, c, d]) {
                place.copy_from_slice(group);
            }
            IpAddr::from(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn pid_of_socket(inode: u64) -> Option<u32> {
    let wanted = format!("socket:[{inode}]");
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let holds = std::fs::read_dir(entry.path().join("fd"))
            .ok()?
            .flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == Path::new(&wanted)));
        holds.then_some(pid)
    })
}

fn program_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim_end().to_owned())
}

fn user_name(uid: u32) -> String {
    match nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        0: 0100007F:1628 00000000:0000 0A 00000000:00000000 00:00000000 00000000   107        0 41234 1 0000000000000000 100 0 0 10 0\n\
        1: 0100007F:1629 0100007F:1628 01 00000000:00000000 00:00000000 00000000     0        0 41235 1 0000000000000000 100 0 0 10 0\n\
        garbage\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_listener_of_an_address_is_found_in_the_table() {
        let address: SocketAddr = "127.0.0.1:5672".parse().unwrap();
        assert_eq!(find_listener(TABLE, address), Some((41234, 107)));
        assert_eq!(find_listener(TABLE, "0.0.0.0:5672".parse().unwrap()), Some((41234, 107)));
        assert_eq!(find_listener(TABLE, "127.0.0.1:5673".parse().unwrap()), None);
        assert_eq!(find_listener(TABLE, "127.0.0.2:5672".parse().unwrap()), None);
    }

    #[test]
    fn a_known_product_is_named() {
        let holder = Holder { pid: 991, program: "beam.smp".to_owned(), user: "rabbitmq".to_owned() };
        assert_eq!(holder.to_string(), "beam.smp (pid 991, user rabbitmq), looks like RabbitMQ");
    }
}
