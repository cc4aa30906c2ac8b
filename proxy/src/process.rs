//! The running proxy: its sections, its limits, what the configuration made of them.
//!
//! Settings and sections are replaced as a whole by a reload. Who asks for them gets the present ones and
//! may keep them; frontends, backends and servers share what must outlive a reload (see there).

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use daemon::diagnostic::Diagnostics;
use daemon::run::Failure;

use crate::backend::Backend;
use crate::config::validate::without_address;
use crate::config::{Config, Global, Resolvers, added};
use crate::control::Control;
use crate::counters::{Counters, Moment};
use crate::handover::Inherited;
use crate::limit::Places;
use crate::listener::{Key, Listener, Listeners};
use crate::pace::Pace;
use crate::registry::Workers;
pub use crate::sections::Section;
use crate::sections::{Draft, Summary};
use crate::stats::Kitchen;
use crate::stats::history::Looking;

/// Files the process needs beside those of connections.
const SPARE_FILES: u64 = 64;
/// Connections when nothing limits them.
const DEFAULT_MAXCONN: u32 = 10_000;

/// The running proxy.
#[derive(Debug)]
pub struct Process {
    /// When it began.
    pub started: Instant,
    /// Settings of the process.
    global: ArcSwap<Global>,
    /// Its sections in the order of the file.
    sections: ArcSwap<Vec<Section>>,
    /// `resolvers` sections.
    resolvers: ArcSwap<Vec<Resolvers>>,
    /// Counters over all frontends.
    pub counters: Counters,
    /// Most connections.
    maxconn: AtomicU32,
    /// Most that operators can set at run time.
    hard_maxconn: AtomicU32,
    /// Places left.
    pub places: Arc<Places>,
    /// Places left for those who speak TLS with us (`maxsslconn`).
    pub tls_places: Arc<Places>,
    /// Most new connections, sessions and TLS handshakes in a second.
    pub paces: Paces,
    /// Worker threads.
    pub threads: usize,
    /// Limit of open files.
    open_files: AtomicU64,
    /// Orders for the main loop.
    pub control: Control,
    /// What the statistics remember.
    pub looking: Looking,
    /// Its worker threads, once they run.
    pub(crate) workers: OnceLock<Workers>,
    /// Where the statistics page is made, once it runs.
    pub(crate) kitchen: OnceLock<Kitchen>,
    /// When the last warning about missing descriptors was given.
    exhausted: AtomicU64,
    /// Program name in log lines, when the configuration gives none.
    pub tag: String,
    /// It finishes what it has.
    stopping: AtomicBool,
}

impl Process {
    /// Builds everything a configuration asks for; nothing runs yet.
    pub fn new(config: Config, default_tag: &str) -> Self {
        let started = Instant::now();
        let (maxconn, open_files) = connection_limit(&config.global);
        let Draft { global, resolvers, sections, .. } = Draft::new(config, &[], maxconn, default_tag);
        let threads = global
            .nbthread
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
            .clamp(1, 64);
        Self {
            started,
            tls_places: Arc::new(Places::new(global.maxsslconn.unwrap_or(u32::MAX))),
            paces: Paces::of(&global),
            global: ArcSwap::from_pointee(global),
            sections: ArcSwap::from_pointee(sections),
            resolvers: ArcSwap::from_pointee(resolvers),
            counters: Counters::default(),
            maxconn: AtomicU32::new(maxconn),
            hard_maxconn: AtomicU32::new(maxconn),
            places: Arc::new(Places::new(maxconn)),
            threads,
            open_files: AtomicU64::new(open_files),
            control: Control::default(),
            looking: Looking::default(),
            workers: OnceLock::new(),
            kitchen: OnceLock::new(),
            exhausted: AtomicU64::new(0),
            tag: default_tag.to_owned(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Servers whose names had no address at the start, as warnings.
    #[must_use]
    pub fn unresolved(&self) -> Diagnostics {
        let sections = self.sections();
        let backends = sections.iter().filter_map(|section| section.backend.as_ref());
        let servers: Vec<_> = backends.flat_map(|backend| backend.servers().to_vec()).collect();
        let without = servers.iter().filter(|server| server.known_address().is_none());
        let configs: Vec<_> = without.map(|server| Arc::clone(&server.config())).collect();
        without_address(configs.iter().map(|config| &**config))
    }

    /// Opens all listening sockets; takes those that another process has handed over. With `shares` a
    /// process that is about to be replaced may have the ports still.
    ///
    /// # Errors
    /// Says which address cannot be had and why.
    pub fn bind(&self, inherited: &mut Inherited, shares: bool) -> Result<Listeners, Failure> {
        let mut listeners = Listeners::default();
        for frontend in self.sections().iter().filter_map(|section| section.frontend.as_ref()) {
            for bind in &frontend.config.binds {
                // The same address a second time: both get connections, as with HAProxy.
                let again = listeners.all.iter().any(|other| other.key == Key::of(bind));
                listeners.all.push(match inherited.take(bind) {
                    Some(socket) => Listener::new(bind, socket, frontend.clone()),
                    None => Listener::open(frontend, bind, shares || again)?,
                });
            }
        }
        Ok(listeners)
    }

    /// Its worker threads: to look at sessions and to close them. None before the start.
    pub fn workers(&self) -> Workers {
        self.workers.get().cloned().unwrap_or_default()
    }

    /// Puts a draft in the place of what is at work, except for the listeners.
    pub fn replace(&self, mut draft: Draft) -> Summary {
        let present = self.sections.load_full();
        let summary = draft.apply(&present, Instant::now());
        let (maxconn, open_files) = connection_limit(&draft.global);
        self.hard_maxconn.store(maxconn, Relaxed);
        self.maxconn.store(maxconn, Relaxed);
        self.places.set_limit(maxconn);
        self.tls_places.set_limit(draft.global.maxsslconn.unwrap_or(u32::MAX));
        self.paces.adopt(&draft.global);
        self.open_files.store(open_files, Relaxed);
        self.global.store(Arc::new(draft.global));
        self.resolvers.store(Arc::new(draft.resolvers));
        self.sections.store(Arc::new(draft.sections));
        summary
    }

    /// The file with the servers that were added at run time.
    pub fn added_servers(&self, file: &Path) -> String {
        let sections = self.sections();
        let backends = sections.iter().filter_map(|section| section.backend.as_ref());
        let servers: Vec<_> = backends.flat_map(|backend| backend.servers().to_vec()).collect();
        let configs: Vec<_> = servers.iter().map(|server| Arc::clone(&server.config())).collect();
        added::show(configs.iter().map(|config| &**config).filter(|config| added::is_added(config, file)))
    }

    /// The backend of this name.
    pub fn backend(&self, name: &str) -> Option<Arc<Backend>> {
        let sections = self.sections();
        let mut backends = sections.iter().filter_map(|section| section.backend.as_ref());
        backends.find(|backend| *backend.name == *name).cloned()
    }

    /// From now on it only finishes what it has.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// Whether it only finishes what it has.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// A warning about missing descriptors, at most once a second.
    pub fn warn_exhausted(&self, error: &std::io::Error) {
        let second = Moment::since(self.started).0 / 1000 + 1;
        if self.exhausted.swap(second, Relaxed) != second {
            tracing::warn!(%error, open_files = self.open_files(), "cannot accept for now; raise the limit of open files or lower maxconn");
        }
    }

    /// Settings of the process at present.
    pub fn global(&self) -> Guard<Arc<Global>> {
        self.global.load()
    }

    /// The sections at present, in the order of the file.
    pub fn sections(&self) -> Guard<Arc<Vec<Section>>> {
        self.sections.load()
    }

    /// The `resolvers` sections at present.
    pub fn resolvers(&self) -> Guard<Arc<Vec<Resolvers>>> {
        self.resolvers.load()
    }

    /// Most connections.
    pub fn maxconn(&self) -> u32 {
        self.maxconn.load(Relaxed)
    }

    /// Most connections that operators can set at run time.
    pub fn hard_maxconn(&self) -> u32 {
        self.hard_maxconn.load(Relaxed)
    }

    /// Changes the most connections; 0 is the most there can be. `false` when it is more than that.
    pub fn set_maxconn(&self, limit: u32) -> bool {
        let most = self.hard_maxconn();
        if limit > most {
            return false;
        }
        let limit = if limit == 0 { most } else { limit };
        self.maxconn.store(limit, Relaxed);
        self.places.set_limit(limit);
        true
    }

    /// Limit of open files.
    pub fn open_files(&self) -> u64 {
        self.open_files.load(Relaxed)
    }
}

/// The rates of the process.
#[derive(Debug)]
pub struct Paces {
    /// `maxconnrate`
    pub connections: Pace,
    /// `maxsessrate`
    pub sessions: Pace,
    /// `maxsslrate`
    pub tls: Pace,
}

impl Paces {
    fn of(global: &Global) -> Self {
        Self {
            connections: Pace::new(global.maxconnrate),
            sessions: Pace::new(global.maxsessrate),
            tls: Pace::new(global.maxsslrate),
        }
    }

    fn adopt(&self, global: &Global) {
        self.connections.set_limit(global.maxconnrate);
        self.sessions.set_limit(global.maxsessrate);
        self.tls.set_limit(global.maxsslrate);
    }
}

/// How many connections the configuration and the limit of open files allow; raises the limit.
pub fn connection_limit(global: &Global) -> (u32, u64) {
    let wanted = global.maxconn.unwrap_or(DEFAULT_MAXCONN);
    let files = global.ulimit_n.unwrap_or(u64::from(wanted) * 2 + SPARE_FILES);
    let limit = daemon::privilege::raise_open_files(files);
    // Each connection has two sockets.
    let possible = u32::try_from(limit.saturating_sub(SPARE_FILES) / 2).unwrap_or(u32::MAX).max(1);
    if possible < wanted {
        if global.maxconn.is_some() {
            tracing::warn!(
                maxconn = wanted,
                possible,
                open_files = limit,
                "maxconn is lowered to what the limit of open files allows; raise LimitNOFILE or ulimit -n"
            );
        }
        return (possible, limit);
    }
    (wanted, limit)
}
