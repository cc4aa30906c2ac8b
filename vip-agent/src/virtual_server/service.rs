//! What a virtual server decides: which real servers live, whether there is a quorum, who gets traffic.
//! No I/O; results of checks come in, effects go out.
//!
//! ```text
//!            every check passes                 weight of the living >= quorum + hysteresis
//! real server  down ──────────► up      service  lost ─────────────────────────────────► up
//!              up ────────────► down             up ──────────────────────────────────► lost
//!            one check fails retry + 1 times    weight of the living <  quorum - hysteresis, or 0
//! ```

use crate::config::virtual_server::{RealServer, SorryServer, VirtualServer};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    /// Good, and the check wants this weight (`misc_dynamic`).
    Weight(u32),
    Bad(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The rules are to be made anew from [`Service::shares`].
    Rules,
    ServerUp(usize),
    ServerDown(usize, String),
    QuorumUp,
    QuorumDown,
}

/// A virtual server at work.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    config: VirtualServer,
    servers: Vec<Server>,
    quorum: bool,
}

#[derive(Clone, Debug)]
struct Server {
    up: bool,
    checks: Vec<CheckState>,
}

#[derive(Clone, Debug, Default)]
struct CheckState {
    passed: bool,
    /// Failures in a row while it counts as passed.
    failures: u32,
    /// What the check wants the weight to be.
    weight: Option<u32>,
    last: Option<Verdict>,
}

/// A server that gets traffic, or keeps what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) address: std::net::IpAddr,
    pub(crate) port: u16,
    /// 0 = no new clients.
    pub(crate) weight: u32,
}

impl Service {
    /// Real servers count as living until a check says otherwise, unless they are `alpha`.
    pub(crate) fn new(config: VirtualServer, out: &mut Vec<Effect>) -> Self {
        let servers = config.real_servers.iter().map(Server::new).collect();
        let mut service = Self { config, servers, quorum: false };
        service.count(out);
        out.push(Effect::Rules);
        service
    }

    pub(crate) fn config(&self) -> &VirtualServer {
        &self.config
    }

    pub(crate) fn has_quorum(&self) -> bool {
        self.quorum
    }

    /// Whether a real server lives.
    pub(crate) fn is_up(&self, server: usize) -> bool {
        self.servers.get(server).is_some_and(|server| server.up)
    }

    /// The weight in force.
    pub(crate) fn weight(&self, server: usize) -> u32 {
        let Some(config) = self.config.real_servers.get(server) else { return 0 };
        let wanted = self.servers[server].checks.iter().filter_map(|check| check.weight);
        // keepalived: every dynamic check moves the weight by what it wants minus what is configured.
        let base = i64::from(config.weight);
        let moved = wanted.fold(base, |sum, weight| sum + i64::from(weight) - base);
        moved.clamp(0, 65535) as u32
    }

    /// The last result of each check of a server.
    pub(crate) fn results(&self, server: usize) -> impl Iterator<Item = Option<&Verdict>> {
        self.servers
            .get(server)
            .into_iter()
            .flat_map(|server| server.checks.iter().map(|check| check.last.as_ref()))
    }

    /// Takes a result; answers whether the check is to be retried soon rather than after its usual pause.
    pub(crate) fn result(
        &mut self,
        server: usize,
        check: usize,
        verdict: Verdict,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(config) = self.config.real_servers.get(server) else { return false };
        let Some(retries) = config.checks.get(check).map(|check| check.retry) else { return false };
        let before = self.weight(server);
        let state = &mut self.servers[server].checks[check];
        state.last = Some(verdict.clone());
        let mut retry = false;
        let mut reason = String::new();
        match verdict {
            Verdict::Good | Verdict::Weight(_) => {
                state.passed = true;
                state.failures = 0;
                state.weight = if let Verdict::Weight(weight) = verdict { Some(weight) } else { None };
            }
            Verdict::Bad(why) if state.passed => {
                if state.failures >= retries {
                    state.passed = false;
                    state.failures = 0;
                    reason = why;
                } else {
                    state.failures += 1;
                    retry = true;
                }
            }
            Verdict::Bad(why) => reason = why,
        }
        self.settle(server, reason, out);
        if self.weight(server) != before {
            self.count(out);
            out.push(Effect::Rules);
        }
        retry
    }

    fn settle(&mut self, index: usize, reason: String, out: &mut Vec<Effect>) {
        let server = &mut self.servers[index];
        let up = server.checks.iter().all(|check| check.passed);
        if up == server.up {
            return;
        }
        server.up = up;
        out.push(if up { Effect::ServerUp(index) } else { Effect::ServerDown(index, reason) });
        self.count(out);
        out.push(Effect::Rules);
    }

    /// Looks at the quorum.
    fn count(&mut self, out: &mut Vec<Effect>) {
        let living: u64 = (0..self.servers.len())
            .filter(|index| self.servers[*index].up)
            .map(|index| u64::from(self.weight(index)))
            .sum();
        let (quorum, hysteresis) = (u64::from(self.config.quorum), u64::from(self.config.hysteresis));
        if !self.quorum && living >= quorum + hysteresis {
            self.quorum = true;
            out.push(Effect::QuorumUp);
        } else if self.quorum && (living == 0 || living < quorum.saturating_sub(hysteresis)) {
            self.quorum = false;
            out.push(Effect::QuorumDown);
        }
    }

    /// Who gets traffic now. Without a quorum the sorry server stands in for everybody.
    pub(crate) fn shares(&self) -> Vec<Share> {
        if let (false, Some(SorryServer { address, port })) = (self.quorum, self.config.sorry_server) {
            return vec![Share { address, port, weight: 1 }];
        }
        let server = |(index, config): (usize, &RealServer)| {
            let up = self.servers[index].up;
            let weight = if up { self.weight(index) } else { 0 };
            let kept = up || config.inhibit_on_failure;
            kept.then_some(Share { address: config.address, port: config.port, weight })
        };
        self.config.real_servers.iter().enumerate().filter_map(server).collect()
    }

    /// Takes a reloaded configuration; servers and checks that stay keep what is known of them.
    pub(crate) fn reload(&mut self, config: VirtualServer, out: &mut Vec<Effect>) {
        let servers = config
            .real_servers
            .iter()
            .map(|wanted| {
                let same = |known: &RealServer| (known.address, known.port) == (wanted.address, wanted.port);
                match self.config.real_servers.iter().position(same) {
                    Some(at) => self.servers[at].follow(&self.config.real_servers[at], wanted),
                    None => Server::new(wanted),
                }
            })
            .collect();
        self.config = config;
        self.servers = servers;
        self.count(out);
        out.push(Effect::Rules);
    }

    /// With `omega`, a stop counts as a failure of everything.
    pub(crate) fn stop(&mut self, out: &mut Vec<Effect>) {
        if !self.config.omega {
            return;
        }
        for index in 0..self.servers.len() {
            if std::mem::take(&mut self.servers[index].up) {
                out.push(Effect::ServerDown(index, "the agent stops".to_owned()));
            }
        }
        self.count(out);
    }
}

impl Server {
    fn new(config: &RealServer) -> Self {
        let check = CheckState { passed: !config.alpha, ..CheckState::default() };
        let checks = vec![check; config.checks.len()];
        Self { up: checks.iter().all(|check| check.passed), checks }
    }

    fn follow(&self, before: &RealServer, after: &RealServer) -> Self {
        let checks: Vec<CheckState> = after
            .checks
            .iter()
            .map(|check| {
                let known = before.checks.iter().position(|known| known.kind == check.kind);
                match known.and_then(|at| self.checks.get(at)) {
                    Some(state) => state.clone(),
                    None => CheckState { passed: self.up, ..CheckState::default() },
                }
            })
            .collect();
        Self { up: checks.iter().all(|check| check.passed), checks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::virtual_server::{Check, CheckKind, Listen};

    fn config(servers: usize) -> VirtualServer {
        let address = std::net::IpAddr::from([10, 0, 0, 1]);
        let mut config =
            VirtualServer::new(vec![Listen::Address { first: address, last: address, port: 80 }]);
        for index in 0..servers {
            let mut server = RealServer::new([10, 0, 0, 10 + index as u8].into(), 80);
            server.checks = vec![Check::new(CheckKind::Tcp)];
            config.real_servers.push(server);
        }
        config
    }

    fn bad() -> Verdict {
        Verdict::Bad("refused".into())
    }

    fn weights(service: &Service) -> Vec<u32> {
        service.shares().iter().map(|share| share.weight).collect()
    }

    #[test]
    fn a_server_fails_after_its_retries_and_comes_back_at_once() {
        let mut out = Vec::new();
        let mut service = Service::new(config(2), &mut out);
        assert_eq!(out, [Effect::QuorumUp, Effect::Rules]);
        out.clear();
        assert!(service.result(0, 0, bad(), &mut out), "one retry is the default");
        assert_eq!(out, []);
        assert!(!service.result(0, 0, bad(), &mut out));
        assert_eq!(out, [Effect::ServerDown(0, "refused".into()), Effect::Rules]);
        assert_eq!(service.shares().len(), 1);
        out.clear();
        assert!(!service.result(0, 0, bad(), &mut out));
        assert_eq!(out, []);
        service.result(0, 0, Verdict::Good, &mut out);
        assert_eq!(out, [Effect::ServerUp(0), Effect::Rules]);
        assert_eq!(weights(&service), [1, 1]);
    }

    #[test]
    fn a_good_result_between_forgets_the_failures() {
        let mut out = Vec::new();
        let mut service = Service::new(config(1), &mut out);
        out.clear();
        for _ in 0..5 {
            service.result(0, 0, bad(), &mut out);
            service.result(0, 0, Verdict::Good, &mut out);
        }
        assert_eq!(out, []);
    }

    #[test]
    fn the_sorry_server_stands_in_without_a_quorum() {
        let mut wanted = config(3);
        (wanted.quorum, wanted.hysteresis) = (2, 1);
        wanted.sorry_server = Some(SorryServer { address: [10, 0, 0, 99].into(), port: 81 });
        for server in &mut wanted.real_servers {
            server.checks[0].retry = 0;
        }
        let mut out = Vec::new();
        let mut service = Service::new(wanted, &mut out);
        out.clear();
        service.result(0, 0, bad(), &mut out);
        service.result(1, 0, bad(), &mut out);
        assert!(service.has_quorum(), "one living of quorum 2 - hysteresis 1");
        service.result(2, 0, bad(), &mut out);
        assert!(out.contains(&Effect::QuorumDown));
        assert_eq!(service.shares(), [Share { address: [10, 0, 0, 99].into(), port: 81, weight: 1 }]);
        out.clear();
        service.result(0, 0, Verdict::Good, &mut out);
        service.result(1, 0, Verdict::Good, &mut out);
        assert!(!service.has_quorum(), "two living are not quorum 2 + hysteresis 1");
        service.result(2, 0, Verdict::Good, &mut out);
        assert!(out.contains(&Effect::QuorumUp));
        assert_eq!(weights(&service), [1, 1, 1]);
    }

    #[test]
    fn an_inhibited_server_keeps_its_clients() {
        let mut wanted = config(2);
        wanted.real_servers[0].inhibit_on_failure = true;
        wanted.real_servers[0].checks[0].retry = 0;
        let mut service = Service::new(wanted, &mut Vec::new());
        service.result(0, 0, bad(), &mut Vec::new());
        assert_eq!(weights(&service), [0, 1]);
    }

    #[test]
    fn alpha_servers_wait_for_their_first_success() {
        let mut wanted = config(1);
        wanted.real_servers[0].alpha = true;
        let mut out = Vec::new();
        let mut service = Service::new(wanted, &mut out);
        assert_eq!(out, [Effect::Rules]);
        assert_eq!(service.shares(), []);
        out.clear();
        service.result(0, 0, Verdict::Good, &mut out);
        assert_eq!(out, [Effect::ServerUp(0), Effect::QuorumUp, Effect::Rules]);
    }

    #[test]
    fn a_check_may_set_the_weight() {
        let mut service = Service::new(config(1), &mut Vec::new());
        let mut out = Vec::new();
        service.result(0, 0, Verdict::Weight(7), &mut out);
        assert_eq!((weights(&service), out.clone()), (vec![7], vec![Effect::Rules]));
        out.clear();
        service.result(0, 0, Verdict::Weight(7), &mut out);
        assert_eq!(out, [], "no change, no new rules");
        service.result(0, 0, Verdict::Weight(0), &mut out);
        assert_eq!(out, [Effect::QuorumDown, Effect::Rules]);
    }

    #[test]
    fn a_reload_keeps_what_is_known() {
        let mut wanted = config(2);
        wanted.real_servers[0].checks[0].retry = 0;
        let mut service = Service::new(wanted.clone(), &mut Vec::new());
        service.result(0, 0, bad(), &mut Vec::new());
        wanted.real_servers.push(RealServer::new([10, 0, 0, 50].into(), 80));
        wanted.real_servers[1].weight = 3;
        let mut out = Vec::new();
        service.reload(wanted, &mut out);
        assert_eq!(out, [Effect::Rules]);
        assert!(!service.is_up(0) && service.is_up(1) && service.is_up(2));
        assert_eq!(weights(&service), [3, 1]);
    }

    #[test]
    fn omega_tells_of_the_stop() {
        let mut wanted = config(1);
        let mut out = Vec::new();
        Service::new(wanted.clone(), &mut Vec::new()).stop(&mut out);
        assert_eq!(out, []);
        wanted.omega = true;
        Service::new(wanted, &mut Vec::new()).stop(&mut out);
        assert_eq!(out, [Effect::ServerDown(0, "the agent stops".into()), Effect::QuorumDown]);
    }
}
