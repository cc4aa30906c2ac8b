//! Virtual servers: checks of the real servers, and rules of nftables that share out the traffic.
//!
//! One task owns everything, apart from the loop of the agent: a slow check or a slow `nft` never keeps an
//! advert waiting. [`service`] decides, [`checker`] asks, [`rules`] writes what [`nft`] hands to the kernel.
//!
//! The rules outlive a killed agent, as IPVS's entries do; the next start takes them away.

use std::collections::HashMap;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::rules::{Objects, Place, Plan, TABLE};
use self::service::{Effect, Service, Verdict};
use crate::config::virtual_server::{Method, VirtualServer, endpoint};
use crate::config::{AgentConfig, Command, ScriptUser};
use crate::process;

mod checker;
mod ipvs;
mod monitor;
mod nft;
mod rules;
mod service;
mod slots;
pub(crate) mod status;

/// How often the host and the kernel's tables are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How long a quorum or notify script may run.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(60);
/// Scripts that may wait for each other.
const MAX_SCRIPTS: usize = 256;
/// At the end the last scripts are waited for, but not for ever.
const LAST_SCRIPTS: Duration = Duration::from_secs(5);
/// One process per network namespace makes the rules.
const CLAIM: &[u8] = b"vip-agent/virtual-servers";

/// The agent's end.
pub(crate) struct VirtualServers {
    orders: mpsc::Sender<Order>,
    view: status::View,
}

enum Order {
    Reload(Box<(Vec<VirtualServer>, Option<ScriptUser>)>),
    Stop { keep_rules: bool, done: oneshot::Sender<()> },
}

/// A result of a check, and where it belongs.
struct Report {
    service: Arc<str>,
    server: usize,
    check: usize,
    verdict: Verdict,
    /// Whether to ask again soon.
    retry: oneshot::Sender<bool>,
}

impl VirtualServers {
    /// Starts with the virtual servers of `config`; without any, what a crash left behind is taken away.
    pub(crate) fn start(config: &AgentConfig) -> Self {
        let (orders, receiver) = mpsc::channel(8);
        let view = status::View::default();
        let manager = Manager::new(Arc::clone(&view), config.global.script_user);
        tokio::spawn(manager.run(config.virtual_servers.clone(), receiver));
        Self { orders, view }
    }

    /// Takes a new configuration.
    pub(crate) async fn reload(&self, config: &AgentConfig) {
        let order = Order::Reload(Box::new((config.virtual_servers.clone(), config.global.script_user)));
        // The task ends only after Stop.
        let _ = self.orders.send(order).await;
    }

    /// Ends the checks and takes the rules away.
    pub(crate) async fn stop(self, keep_rules: bool) {
        let (done, ended) = oneshot::channel();
        if self.orders.send(Order::Stop { keep_rules, done }).await.is_ok() {
            // An error means that the task is gone, and so is its work.
            let _ = ended.await;
        }
    }

    /// What there is to see now.
    pub(crate) fn status(&self) -> Vec<status::VirtualServerStatus> {
        self.view.lock().map_or_else(|_| Vec::new(), |view| view.clone())
    }
}

struct Running {
    service: Service,
    monitors: Vec<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for monitor in &self.monitors {
            monitor.abort();
        }
    }
}

/// Owns services, checks and rules.
struct Manager {
    running: Vec<Running>,
    user: Option<ScriptUser>,
    view: status::View,
    scripts: mpsc::Sender<(Command, Option<ScriptUser>)>,
    runner: JoinHandle<()>,
    reports: mpsc::Sender<Report>,
    results: mpsc::Receiver<Report>,
    claim: Option<UnixListener>,
    /// What this process has in the kernel.
    objects: Objects,
    body: String,
    /// Opened when a virtual server needs it.
    ipvs: Option<ipvs::Kernel>,
    /// The last trouble, so that it is told once.
    trouble: Option<String>,
}

impl Manager {
    fn new(view: status::View, user: Option<ScriptUser>) -> Self {
        let (scripts, mut waiting) = mpsc::channel::<(Command, Option<ScriptUser>)>(MAX_SCRIPTS);
        let (reports, results) = mpsc::channel(256);
        let runner = tokio::spawn(async move {
            while let Some((command, user)) = waiting.recv().await {
                let outcome = process::run(&command, &[], user, SCRIPT_TIMEOUT, || {}).await;
                if outcome != process::Outcome::Success {
                    tracing::warn!(script = command.argv.join(" "), "script {outcome}");
                }
            }
        });
        Self {
            running: Vec::new(),
            user,
            view,
            scripts,
            runner,
            reports,
            results,
            claim: None,
            objects: Objects::new(),
            body: String::new(),
            ipvs: None,
            trouble: None,
        }
    }

    async fn run(mut self, wanted: Vec<VirtualServer>, mut orders: mpsc::Receiver<Order>) {
        self.sweep(!wanted.is_empty()).await;
        self.configure(wanted).await;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Reload(new)) => {
                        let (wanted, user) = *new;
                        self.user = user;
                        self.configure(wanted).await;
                    }
                    Some(Order::Stop { keep_rules, done }) => {
                        self.end(keep_rules).await;
                        let _ = done.send(());
                        return;
                    }
                    // The agent is gone without a word.
                    None => return,
                },
                Some(report) = self.results.recv() => self.report(report).await,
                _ = look.tick() => self.look().await,
            }
        }
    }

    /// Takes away what an agent that crashed left behind.
    async fn sweep(&mut self, wanted: bool) {
        if !self.have_claim(wanted) || nft::program().is_none() {
            return;
        }
        match nft::families(TABLE).await {
            Ok(left) if left.is_empty() => {}
            Ok(_) => {
                tracing::info!("removing rules of virtual servers that an earlier run left behind");
                self.tell(nft::load(&rules::removal()).await.err());
            }
            // Without virtual servers nobody has to care.
            Err(error) => tracing::debug!(error, "cannot look for left-over rules"),
        }
    }

    fn have_claim(&mut self, wanted: bool) -> bool {
        if self.claim.is_none() {
            let claimed =
                SocketAddr::from_abstract_name(CLAIM).and_then(|name| UnixListener::bind_addr(&name));
            match claimed {
                Ok(claim) => self.claim = Some(claim),
                Err(error) if wanted => {
                    self.tell(Some(format!(
                        "another vip-agent serves virtual servers on this host: {error}"
                    )));
                }
                Err(_) => {}
            }
        }
        self.claim.is_some()
    }

    /// Tells about trouble once, until it changes.
    fn tell(&mut self, trouble: Option<String>) {
        if trouble != self.trouble {
            match &trouble {
                Some(error) => tracing::error!("virtual servers are not served as they should: {error}"),
                None => tracing::info!("virtual servers are served again"),
            }
            self.trouble = trouble;
        }
    }

    async fn configure(&mut self, wanted: Vec<VirtualServer>) {
        let mut before: HashMap<String, Running> = std::mem::take(&mut self.running)
            .into_iter()
            .map(|running| (running.service.config().name(), running))
            .collect();
        for config in wanted {
            let mut effects = Vec::new();
            let running = match before.remove(&config.name()) {
                Some(same) if *same.service.config() == config => same,
                Some(mut changed) => {
                    changed.service.reload(config, &mut effects);
                    for monitor in changed.monitors.drain(..) {
                        monitor.abort();
                    }
                    changed.monitors = monitor::start(changed.service.config(), &self.reports, self.user);
                    changed
                }
                None => {
                    let service = Service::new(config, &mut effects);
                    let monitors = monitor::start(service.config(), &self.reports, self.user);
                    Running { service, monitors }
                }
            };
            self.running.push(running);
            self.carry_out(self.running.len() - 1, effects);
        }
        for gone in before.into_values() {
            tracing::info!(virtual_server = gone.service.config().name(), "virtual server removed");
        }
        self.warn_forwarding();
        self.apply().await;
        self.show();
    }

    fn warn_forwarding(&self) {
        for (six, file) in
            [(false, "/proc/sys/net/ipv4/ip_forward"), (true, "/proc/sys/net/ipv6/conf/all/forwarding")]
        {
            let nat = |running: &Running| {
                let config = running.service.config();
                config.method == Method::Nat && config.is_ipv6() == six
            };
            let off = std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "0");
            if off && self.running.iter().any(nat) {
                tracing::warn!(
                    "{file} is 0: the kernel does not pass packets on to real servers on other hosts"
                );
            }
        }
    }

    /// Logs and scripts; the rules come when everything is known.
    fn carry_out(&self, at: usize, effects: Vec<Effect>) {
        let service = &self.running[at].service;
        let config = service.config();
        let name = config.name();
        for effect in effects {
            let script = match effect {
                Effect::Rules => None,
                Effect::ServerUp(server) => {
                    let real = &config.real_servers[server];
                    let place = endpoint(real.address, real.port);
                    tracing::info!(virtual_server = name, real_server = place, "real server is up");
                    real.notify_up.as_ref()
                }
                Effect::ServerDown(server, reason) => {
                    let real = &config.real_servers[server];
                    let place = endpoint(real.address, real.port);
                    tracing::warn!(virtual_server = name, real_server = place, reason, "real server is down");
                    real.notify_down.as_ref()
                }
                Effect::QuorumUp => {
                    tracing::info!(virtual_server = name, quorum = config.quorum, "quorum gained");
                    config.quorum_up.as_ref()
                }
                Effect::QuorumDown => {
                    let sorry = config.sorry_server.map(|sorry| endpoint(sorry.address, sorry.port));
                    tracing::warn!(
                        virtual_server = name,
                        quorum = config.quorum,
                        sorry_server = sorry,
                        "quorum lost"
                    );
                    config.quorum_down.as_ref()
                }
            };
            if let Some(command) = script
                && self.scripts.try_send((command.clone(), self.user)).is_err()
            {
                tracing::error!(
                    script = command.argv.join(" "),
                    "too many scripts wait; this one is not run"
                );
            }
        }
    }

    async fn report(&mut self, report: Report) {
        let Report { service, server, check, verdict, retry } = report;
        let found = self.running.iter().position(|running| *running.service.config().name() == *service);
        let Some(at) = found else { return };
        let mut effects = Vec::new();
        let again = self.running[at].service.result(server, check, verdict, &mut effects);
        // The check may have been taken out meanwhile.
        let _ = retry.send(again);
        let rules = effects.contains(&Effect::Rules);
        self.carry_out(at, effects);
        if rules {
            self.apply().await;
        }
        self.show();
    }

    /// Puts the rules into the kernel that the services want, when they are other than before.
    async fn apply(&mut self) {
        let plans: Vec<Plan<'_>> = self
            .running
            .iter()
            .map(|running| Plan { config: running.service.config(), shares: running.service.shares() })
            .collect();
        let picture = ipvs::picture(&plans);
        let place = nft::place();
        let script = rules::script(&plans, &place, &self.objects);
        if let Err(error) = self.apply_ipvs(picture) {
            self.tell(Some(format!("IPVS: {error}")));
        }
        if script.body == self.body && script.objects == self.objects {
            return;
        }
        for refused in &script.refused {
            tracing::error!("real server left out: {refused}");
        }
        if !self.have_claim(true) {
            return;
        }
        let text = format!("{}{}", script.head, script.body);
        if let Err(error) = nft::load(&text).await {
            // Somebody else may have changed or flushed the tables: once more, from nothing.
            tracing::debug!(error, "rules could not be changed");
            let text = format!("{}{}", rules::removal(), script.body);
            if let Err(error) = nft::load(&text).await {
                self.tell(Some(error));
                return;
            }
        }
        (self.objects, self.body) = (script.objects, script.body);
        self.tell(None);
    }

    fn apply_ipvs(&mut self, picture: ipvs::Picture) -> std::io::Result<()> {
        if picture.is_empty() && self.ipvs.is_none() {
            return Ok(());
        }
        if self.ipvs.is_none() {
            self.ipvs = Some(ipvs::Kernel::open()?);
        }
        self.ipvs.as_mut().map_or(Ok(()), |kernel| kernel.apply(picture))
    }

    /// Looks whether the rules are still there and still right for this host.
    async fn look(&mut self) {
        if self.running.is_empty() {
            return;
        }
        if !self.objects.is_empty() {
            let wanted: std::collections::BTreeSet<&str> =
                self.objects.iter().map(|(family, ..)| *family).collect();
            if let Ok(found) = nft::families(TABLE).await
                && !wanted.iter().all(|family| found.iter().any(|known| known == family))
            {
                tracing::warn!("somebody took the rules of the virtual servers away; putting them back");
                self.objects.clear();
                self.body.clear();
            }
        }
        self.apply().await;
    }

    fn show(&self) {
        let shown = self.running.iter().map(|running| status::of(&running.service)).collect();
        if let Ok(mut view) = self.view.lock() {
            *view = shown;
        }
    }

    async fn end(mut self, keep_rules: bool) {
        for at in 0..self.running.len() {
            let mut effects = Vec::new();
            self.running[at].service.stop(&mut effects);
            self.carry_out(at, effects);
        }
        if !keep_rules
            && !self.objects.is_empty()
            && let Err(error) = nft::load(&rules::removal()).await
        {
            tracing::error!("cannot take the rules of the virtual servers away: {error}");
        }
        if !keep_rules && let Err(error) = self.apply_ipvs(ipvs::Picture::new()) {
            tracing::error!(%error, "cannot take the virtual servers out of IPVS");
        }
        self.running.clear();
        let Self { scripts, runner, .. } = self;
        drop(scripts);
        if tokio::time::timeout(LAST_SCRIPTS, runner).await.is_err() {
            tracing::warn!("scripts of virtual servers still run at the end");
        }
    }
}

/// Whether this host itself has the address.
pub(crate) fn is_this_host(address: std::net::IpAddr) -> bool {
    nft::place().is_own(address)
}

/// Whether the kernel balances by itself.
pub(crate) fn has_ipvs() -> bool {
    ipvs::available()
}

/// Whether the program is there that makes rules.
pub(crate) fn rules_can_be_made() -> bool {
    nft::program().is_some()
}

/// Shared with status pages.
type Shared<T> = Arc<Mutex<T>>;

/// Whether this host has one of the addresses of a virtual server.
fn is_here(config: &VirtualServer, place: &Place) -> bool {
    use crate::config::virtual_server::Listen;
    config.listen.iter().any(|listen| match listen {
        Listen::Mark(_) => true,
        Listen::Address { first, last, .. } => place
            .networks
            .iter()
            .any(|(_, own, _)| own.is_ipv4() == first.is_ipv4() && first <= own && own <= last),
    })
}
