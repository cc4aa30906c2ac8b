//! One agent per virtual router and network namespace.
//!
//! A claim is a socket with an abstract name. The kernel keeps those names apart per network namespace
//! and frees them with the process, so nothing is left to tidy after a crash. A child that the crashed
//! agent had forked and that has not reached its program yet still holds the socket for that moment.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::config::RouterConfig;

/// How long a start waits for a claim of a process that ends.
const PATIENCE: Duration = Duration::from_secs(2);

/// The virtual routers this process has claimed.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    held: HashMap<String, UnixListener>,
}

impl Claims {
    /// Claims the virtual router of `config`; once is enough.
    ///
    /// # Errors
    ///
    /// `AddrInUse` when another process has it.
    pub(crate) fn claim(&mut self, config: &RouterConfig) -> io::Result<()> {
        if let Entry::Vacant(entry) = self.held.entry(name(config)) {
            let address = SocketAddr::from_abstract_name(entry.key().as_bytes())?;
            entry.insert(UnixListener::bind_addr(&address)?);
        }
        Ok(())
    }

    /// Claims as [`Self::claim`] does, and waits up to [`PATIENCE`] for a process that is about to end: an
    /// agent started right after its predecessor was killed.
    ///
    /// # Errors
    ///
    /// `AddrInUse` when another process still has it then.
    pub(crate) async fn claim_at_start(&mut self, config: &RouterConfig) -> io::Result<()> {
        let patience = Instant::now() + PATIENCE;
        loop {
            match self.claim(config) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < patience => {
                    sleep(Duration::from_millis(20)).await;
                }
                done => return done,
            }
        }
    }

    /// Gives up what none of `configs` needs.
    pub(crate) fn keep<'a>(&mut self, configs: impl Iterator<Item = &'a RouterConfig>) {
        let names: Vec<String> = configs.map(name).collect();
        self.held.retain(|held, _| names.contains(held));
    }
}

fn name(config: &RouterConfig) -> String {
    let (_, interface, router, _, six) = config.key();
    let family = if six { 6 } else { 4 };
    format!("vip-agent/{interface}/ipv{family}/{router}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keepalived_conf;

    #[test]
    fn a_second_process_is_refused_and_a_released_name_is_free() {
        let text = "vrrp_instance V {\n interface claimtest0\n virtual_router_id 9\n virtual_ipaddress { 10.0.0.1 }\n}\n";
        let (config, _) = keepalived_conf::parse(text, "f", None);
        let router = &config.instances[0];
        let (mut first, mut second) = (Claims::default(), Claims::default());
        first.claim(router).unwrap();
        first.claim(router).unwrap();
        assert_eq!(second.claim(router).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        first.keep(std::iter::empty());
        second.claim(router).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_waits_for_the_claim_of_a_process_that_ends_and_not_for_ever() {
        let text = "vrrp_instance V {\n interface claimtest1\n virtual_router_id 9\n virtual_ipaddress { 10.0.0.1 }\n}\n";
        let (config, _) = keepalived_conf::parse(text, "f", None);
        let router = &config.instances[0];
        let (mut first, mut second) = (Claims::default(), Claims::default());
        first.claim(router).unwrap();
        assert_eq!(second.claim_at_start(router).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let ends = async {
            sleep(Duration::from_millis(500)).await;
            drop(first);
        };
        let (claimed, ()) = tokio::join!(second.claim_at_start(router), ends);
        claimed.unwrap();
    }
}
