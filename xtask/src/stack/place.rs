//! Where the stack runs: in network namespaces with the tutorial's addresses, or on loopback addresses
//! where namespaces are not allowed (then without the floating address).

use crate::lab::Network;
use crate::lab::network::SUBNET;
use crate::lab::process::run;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// The floating address.
pub const VIP: &str = "192.168.204.66";

/// The loopback twin of the hosts' network: 192.168.204.141 becomes 127.168.204.141.
const LOOPBACK_SUBNET: &str = "127.168.204.";

/// The last octet of each host's address. E is there where three brokers are wanted.
const OCTETS: [(&str, u8); 6] = [("A", 141), ("B", 142), ("C", 143), ("D", 144), ("E", 145), ("CL", 200)];

/// Gives a host its name and a view of the others, and becomes the program.
const NAMED: &str =
    "printf %s \"$1\" >/proc/sys/kernel/hostname && mount --bind \"$2\" /etc/hosts && shift 2 && exec \"$@\"";

/// The address of a host in namespaces.
pub(super) fn network_address(host: &str) -> String {
    let octet = OCTETS.iter().find(|(name, _)| *name == host).map_or(0, |(_, octet)| *octet);
    format!("{SUBNET}{octet}")
}

/// Where the hosts are.
#[derive(Debug)]
pub enum Place {
    /// Each host is a network namespace.
    Network(Network),
    /// Each host is an address of the loopback interface.
    Loopback,
}

impl Place {
    /// Makes the five hosts A, B, C, D and CL as network namespaces.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn network() -> Result<Self> {
        Self::network_of(|host| host != "E")
    }

    /// The same with E, a host for a third broker.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn wide_network() -> Result<Self> {
        Self::network_of(|_| true)
    }

    fn network_of(wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let network = Network::new()?;
        for (host, octet) in OCTETS.into_iter().filter(|(host, _)| wanted(host)) {
            network.add_host(host, octet)?;
        }
        Ok(Self::Network(network))
    }

    /// Whether there is a floating address.
    #[must_use]
    pub fn has_vip(&self) -> bool {
        matches!(self, Self::Network(_))
    }

    /// The address of a host.
    #[must_use]
    pub fn address(&self, host: &str) -> String {
        let address = network_address(host);
        if self.has_vip() { address } else { address.replace(SUBNET, LOOPBACK_SUBNET) }
    }

    /// The address that programs of a host listen on.
    pub(super) fn bind(&self, host: &str) -> String {
        if self.has_vip() { "0.0.0.0".to_owned() } else { self.address(host) }
    }

    /// A configuration file's text with the addresses of this place.
    pub(super) fn localised(&self, host: &str, text: &str) -> String {
        if self.has_vip() {
            return text.to_owned();
        }
        text.replace(SUBNET, LOOPBACK_SUBNET).replace("bind :", &format!("bind {}:", self.address(host)))
    }

    /// A command that will run on a host and die with its owner.
    #[must_use]
    pub fn command(&self, host: &str, program: impl AsRef<Path>) -> Command {
        match self {
            Self::Network(network) => network.command(host, program),
            Self::Loopback => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--"]).arg(program.as_ref());
                command
            }
        }
    }

    /// A command on a host that goes by its own name, with the file `hosts` for its `/etc/hosts`.
    #[must_use]
    pub fn named(&self, host: &str, hosts: &Path, program: impl AsRef<Path>) -> Command {
        let mut command = self.command(host, "unshare");
        command.args(["--uts", "sh", "-c", NAMED, "sh", host]).arg(hosts).arg(program.as_ref());
        command
    }

    /// Whether a TCP port of a host is open.
    #[must_use]
    pub fn listens(&self, host: &str, port: u16) -> bool {
        let filter = match self {
            Self::Network(_) => format!("sport = :{port}"),
            Self::Loopback => format!("src {} and sport = :{port}", self.address(host)),
        };
        let mut command = match self {
            Self::Network(network) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &network.namespace(host), "ss"]);
                command
            }
            Self::Loopback => Command::new("ss"),
        };
        run(command.args(["-Hltn", &filter])).is_ok_and(|text| !text.trim().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_loopback_every_host_has_an_address_of_its_own() {
        let text = "bind :5672\nserver n1 192.168.204.141:5672 check\n";
        let made = Place::Loopback.localised("C", text);
        assert_eq!(made, "bind 127.168.204.143:5672\nserver n1 127.168.204.141:5672 check\n");
    }
}
