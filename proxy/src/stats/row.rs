//! One line of the statistics: a frontend, a server or a backend, column by column.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::field::{BACKEND_FIELDS, FIELDS, Field, MODULE_FIELDS, TLS_FIELDS, Value, position};
use crate::backend::Backend;
use crate::check::{CheckReport, CheckStatus};
use crate::condition::{Condition, State};
use crate::config::{Mode, ProxyConfig};
use crate::counters::{Counters, Moment};
use crate::frontend::{Entrance, Frontend};
use crate::process::{Process, Section};
use crate::server::Server;

/// Which kind of line it is; the number is HAProxy's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// The accepting side.
    Frontend = 0,
    /// The sum of the servers.
    Backend = 1,
    /// One server.
    Server = 2,
    /// One address of a frontend, with `option socket-stats`.
    Listener = 3,
}

impl RowKind {
    /// HAProxy's word for it in JSON.
    #[must_use]
    pub fn object_type(self) -> &'static str {
        match self {
            Self::Frontend => "Frontend",
            Self::Backend => "Backend",
            Self::Server => "Server",
            Self::Listener => "Listener",
        }
    }
}

/// One line.
#[derive(Debug, Clone)]
pub struct Row {
    /// Which kind of line it is.
    pub kind: RowKind,
    /// A value for each of [`FIELDS`].
    pub values: Vec<Value>,
    /// What the page shows beside the columns.
    pub extra: Extra,
}

/// What the page needs and the columns do not have.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// CSS class of the line.
    pub class: &'static str,
    /// Seconds in the present state.
    pub age: u64,
    /// The address for the tooltip.
    pub address: String,
    /// The server is usable, for hiding those that are not.
    pub is_down: bool,
    /// Of a backend: how many of its servers are up, and how many there are.
    pub servers: (usize, usize),
}

impl Row {
    fn new(kind: RowKind, section: &ProxyConfig, name: &str, sid: u32) -> Self {
        let mut row = Self { kind, values: vec![Value::None; FIELDS.len()], extra: Extra::default() };
        row.text("pxname", &section.name);
        row.text("svname", name);
        row.set("pid", Value::U32(1));
        row.set("iid", Value::U32(section.id));
        row.set("sid", Value::U32(sid));
        row.set("type", Value::U32(kind as u32));
        row.text("mode", if section.settings.mode == Mode::Http { "http" } else { "tcp" });
        row
    }

    /// The row as HAProxy shows it where some servers are hidden (`up`, `no-maint`): the status of a backend says how
    /// many of its servers are up.
    #[must_use]
    pub fn where_some_are_hidden(mut self) -> Self {
        if self.kind == RowKind::Backend {
            let (up, all) = self.extra.servers;
            let status = format!("{} ({up}/{all})", self.string("status"));
            self.text("status", &status);
        }
        self
    }

    /// A column's value.
    #[must_use]
    pub fn get(&self, name: &str) -> &Value {
        position(name).and_then(|at| self.values.get(at)).unwrap_or(&Value::None)
    }

    /// A column's value as a number; 0 when it has none.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.get(name).number()
    }

    /// The value of a column of HAProxy's modules.
    #[must_use]
    pub fn module(&self, at: usize) -> Value {
        let has_all = matches!(self.kind, RowKind::Frontend | RowKind::Backend);
        if has_all || at < TLS_FIELDS { Value::U64(0) } else { Value::None }
    }

    /// Every column that has a value, with its number.
    pub fn fields(&self) -> impl Iterator<Item = (usize, &'static Field, Value)> + '_ {
        let own = FIELDS.iter().zip(self.values.iter().cloned());
        let modules = MODULE_FIELDS.iter().enumerate().map(|(at, field)| (field, self.module(at)));
        own.chain(modules)
            .enumerate()
            .filter(|(_, (_, value))| *value != Value::None)
            .map(|(position, (field, value))| (position, self.tagged(field), value))
    }

    fn tagged(&self, field: &'static Field) -> &'static Field {
        let special = BACKEND_FIELDS.iter().find(|special| special.name == field.name);
        special.filter(|_| self.kind == RowKind::Backend).unwrap_or(field)
    }

    /// A column's value as text; empty when it has none.
    #[must_use]
    pub fn string(&self, name: &str) -> &str {
        if let Value::Text(text) = self.get(name) { text } else { "" }
    }

    fn set(&mut self, name: &str, value: Value) {
        if let Some(place) = position(name).and_then(|at| self.values.get_mut(at)) {
            *place = value;
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        self.set(name, Value::Text(value.to_owned()));
    }

    fn u32(&mut self, name: &str, value: &AtomicU32) {
        self.set(name, Value::U32(value.load(Relaxed)));
    }

    fn u64(&mut self, name: &str, value: &AtomicU64) {
        self.set(name, Value::U64(value.load(Relaxed)));
    }

    fn zeros(&mut self, names: &[&str]) {
        for name in names {
            self.set(name, Value::U64(0));
        }
    }

    /// Sessions and bytes.
    fn volume(&mut self, counters: &Counters) {
        self.u32("scur", &counters.current);
        self.u32("smax", &counters.current_max);
        self.u64("stot", &counters.total);
        self.u64("bin", &counters.bytes_in);
        self.u64("bout", &counters.bytes_out);
    }

    fn traffic(&mut self, counters: &Counters, now: Moment) {
        self.volume(counters);
        self.set("rate", Value::U32(counters.rate.read(now)));
        self.u32("rate_max", &counters.rate_max);
        self.zeros(&["dresp", "wrew", "eint"]);
    }

    /// Columns servers and backends share.
    fn behind(&mut self, counters: &Counters, now: Moment) {
        self.u32("qcur", &counters.pending);
        self.u32("qmax", &counters.pending_max);
        self.u64("econ", &counters.connect_errors);
        self.u64("eresp", &counters.response_errors);
        self.u64("wretr", &counters.retries);
        self.u64("wredis", &counters.redispatches);
        self.u64("lbtot", &counters.chosen);
        self.u64("cli_abrt", &counters.client_aborts);
        self.u64("srv_abrt", &counters.server_aborts);
        self.u64("connect", &counters.connected);
        self.zeros(&["reuse"]);
        let last = counters.last_seconds(now).and_then(|seconds| i32::try_from(seconds).ok()).unwrap_or(-1);
        self.set("lastsess", Value::S32(last));
        let connected = counters.connected.load(Relaxed);
        let times = &counters.times;
        for (name, average) in [("qtime", &times.queue), ("ctime", &times.connect), ("ttime", &times.total)] {
            self.set(name, Value::U32(average.mean(connected)));
            self.set(&format!("{name}_max"), Value::U32(average.max()));
        }
        self.set("rtime", Value::U32(0));
        self.set("rtime_max", Value::U32(0));
    }

    fn answers(&mut self, counters: &Counters) {
        let names = ["hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other"];
        for (name, counter) in names.into_iter().zip(&counters.answers) {
            self.u64(name, counter);
        }
    }
}

/// All lines of a section, in HAProxy's order. `legends` adds addresses and the algorithm.
#[must_use]
pub fn rows(process: &Process, section: &Section, legends: bool) -> Vec<Row> {
    let now = Moment::since(process.started);
    let mut rows = Vec::new();
    if let Some(frontend) = &section.frontend {
        rows.push(frontend_row(frontend, now));
        let counted = frontend.entrances.iter().filter(|entrance| entrance.counters.is_some());
        rows.extend(counted.map(|entrance| listener_row(frontend, entrance, legends)));
    }
    if let Some(backend) = &section.backend {
        for server in backend.servers().iter() {
            rows.push(server_row(backend, server, now, legends));
        }
        rows.push(backend_row(process, section, backend, now, legends));
    }
    rows
}

fn frontend_row(frontend: &Frontend, now: Moment) -> Row {
    let counters = &frontend.counters;
    let mut row = Row::new(RowKind::Frontend, &frontend.config, "FRONTEND", 0);
    row.traffic(counters, now);
    row.set("slim", Value::U32(frontend.places.limit()));
    row.u64("dreq", &counters.denied);
    row.u64("ereq", &counters.request_errors);
    row.text("status", frontend.status());
    row.set("rate_lim", Value::U32(frontend.pace.limit()));
    row.set("conn_rate", Value::U32(counters.rate.read(now)));
    row.u32("conn_rate_max", &counters.rate_max);
    row.u64("conn_tot", &counters.total);
    row.zeros(&["comp_in", "comp_out", "comp_byp", "comp_rsp", "dcon", "dses"]);
    row.set("req_rate", Value::U32(0));
    row.set("req_rate_max", Value::U32(0));
    row.zeros(&["req_tot"]);
    if frontend.config.settings.mode == Mode::Http {
        row.answers(counters);
        row.u64("req_tot", &counters.requests);
        row.u64("intercepted", &counters.requests);
        row.set("req_rate", Value::U32(counters.rate.read(now)));
        row.u32("req_rate_max", &counters.rate_max);
        row.zeros(&["cache_lookups", "cache_hits"]);
    }
    row.extra.class = "frontend";
    row
}

/// An address of a frontend, with `option socket-stats`.
fn listener_row(frontend: &Frontend, entrance: &Entrance, legends: bool) -> Row {
    // HAProxy's name for one without.
    let name = entrance.bind.name.clone().unwrap_or_else(|| format!("sock-{}", entrance.id));
    let mut row = Row::new(RowKind::Listener, &frontend.config, &name, entrance.id);
    if let Some(counters) = &entrance.counters {
        row.volume(counters);
        row.u64("dreq", &counters.denied);
        row.u64("ereq", &counters.request_errors);
    }
    row.zeros(&["dresp", "dcon", "dses", "wrew", "eint"]);
    let limit = entrance.places.as_ref().map_or(0, |places| places.limit());
    row.set("slim", Value::U32(limit));
    let is_full = entrance.places.as_ref().is_some_and(|places| places.is_full());
    row.text("status", if is_full { "FULL" } else { "OPEN" });
    let address = entrance.bind.address.to_string();
    if legends {
        row.text("addr", &address);
    }
    row.extra = Extra { class: "socket", address, ..Extra::default() };
    row
}

fn server_row(backend: &Backend, server: &Server, now: Moment, legends: bool) -> Row {
    let counters = &server.counters;
    let config = server.config();
    let options = &config.options;
    let condition = server.condition();
    let mut row = Row::new(RowKind::Server, &backend.config(), server.name(), config.id);
    row.traffic(counters, now);
    row.behind(counters, now);
    if let Some(limit) = server.maxconn() {
        row.set("slim", Value::U32(limit));
    }
    if let Some(limit) = options.maxqueue {
        row.set("qlimit", Value::U32(limit));
    }
    row.text("status", &condition.status());
    let instant = Instant::now();
    row.set("uweight", Value::U32(server.weight()));
    row.set("act", Value::U32(u32::from(!options.backup)));
    row.set("bck", Value::U32(u32::from(options.backup)));
    let age = seconds(instant.saturating_duration_since(condition.changed));
    row.set("lastchg", Value::U32(age));
    // A server that is never checked and was not stopped by anybody has never been down.
    if options.check || condition.is_in_maintenance() {
        row.set("downtime", Value::U32(seconds(condition.downtime(instant))));
    }
    if options.check {
        check_columns(&mut row, &condition, server);
    }
    state_columns(&mut row, &condition, server, instant);
    for name in ["srv_icur", "idle_conn_cur", "safe_conn_cur", "need_conn_est"] {
        row.set(name, Value::U32(0));
    }
    row.u32("used_conn_cur", &counters.current);
    let address =
        server.known_address().map_or_else(|| config.address.to_string(), |found| found.to_string());
    if legends {
        row.text("addr", &address);
    }
    row.extra = Extra {
        class: class(&condition, options.backup, server.weight()),
        age: u64::from(age),
        address,
        is_down: !condition.is_up(),
        servers: (0, 0),
    };
    row
}

/// Weight at this moment, watched sessions, the tracked server, the agent.
fn state_columns(row: &mut Row, condition: &Condition, server: &Server, now: Instant) {
    row.set("weight", Value::U32(server.shown_weight(now)));
    if let Some(throttle) = server.throttle(now) {
        row.set("throttle", Value::U32(throttle));
    }
    if server.is_observed() {
        row.set("hanafail", Value::U64(condition.failed_observations));
    }
    if let Some(via) = &condition.via {
        row.text("tracked", via);
    }
    if condition.check.status.has_code() && condition.checking && !condition.maintenance {
        row.set("check_code", Value::U32(u32::from(condition.check.code)));
    }
    let agent = &condition.agent;
    if agent.configured && agent.checking && !condition.tracks {
        let names = ["agent_status", "last_agt", "agent_desc", "agent_duration"];
        report_columns(row, names, &agent.report, agent.in_progress);
        if agent.report.status.has_code() {
            row.set("agent_code", Value::U32(u32::from(agent.report.code)));
        }
        row.set("agent_rise", Value::U32(1));
        row.set("agent_fall", Value::U32(1));
        row.set("agent_health", Value::U32(agent.health.value()));
    }
}

fn check_columns(row: &mut Row, condition: &Condition, server: &Server) {
    let config = server.config();
    let options = &config.options;
    // HAProxy shows them while checks are run.
    if condition.checking {
        row.set("chkfail", Value::U64(condition.failed_checks));
        row.set("chkdown", Value::U64(condition.downs));
    }
    if condition.checking && !condition.maintenance {
        let names = ["check_status", "last_chk", "check_desc", "check_duration"];
        report_columns(row, names, &condition.check, condition.in_progress);
        row.set("check_rise", Value::U32(options.rise));
        row.set("check_fall", Value::U32(options.fall));
        row.set("check_health", Value::U32(condition.health.value()));
    }
}

/// What a check or an agent said last.
fn report_columns(
    row: &mut Row,
    [status, info, description, duration]: [&str; 4],
    report: &CheckReport,
    in_progress: bool,
) {
    // HAProxy marks a check under way with a star before the last result.
    let star = if in_progress && report.status != CheckStatus::None { "* " } else { "" };
    row.text(status, &format!("{star}{}", report.status.word()));
    row.text(info, &report.info);
    row.text(description, report.status.description());
    if report.status != CheckStatus::None {
        row.set(duration, Value::U64(u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX)));
    }
}

fn backend_row(process: &Process, section: &Section, backend: &Backend, now: Moment, legends: bool) -> Row {
    let counters = &backend.counters;
    let mut row = Row::new(RowKind::Backend, &backend.config(), "BACKEND", 0);
    row.traffic(counters, now);
    row.behind(counters, now);
    row.set("slim", Value::U32(full_connections(process, section)));
    row.u64("dreq", &counters.denied);
    let (up, age, down, downs) = backend.availability(Instant::now());
    row.text("status", if up { "UP" } else { "DOWN" });
    let (active, backups) = backend.active_and_backup();
    // HAProxy: the sum over those that are used; backup servers count while no active one is left.
    let usable: u32 = backend
        .servers()
        .iter()
        .filter(|server| server.is_usable() && server.config().options.backup == (active == 0))
        .map(|server| server.weight())
        .sum();
    row.set("weight", Value::U32(usable));
    row.set("uweight", Value::U32(usable));
    row.set("act", Value::U32(u32::try_from(active).unwrap_or(u32::MAX)));
    row.set("bck", Value::U32(u32::try_from(backups).unwrap_or(u32::MAX)));
    row.set("chkdown", Value::U64(downs));
    row.set("lastchg", Value::U32(seconds(age)));
    if !backend.servers().is_empty() {
        row.set("downtime", Value::U32(seconds(down)));
    }
    row.zeros(&["comp_in", "comp_out", "comp_byp", "comp_rsp"]);
    // HAProxy fills these for its exporter only.
    for name in ["agg_server_status", "agg_server_check_status", "agg_check_status"] {
        row.set(name, Value::U32(0));
    }
    if backend.config().settings.mode == Mode::Http {
        row.answers(counters);
        row.zeros(&["req_tot", "cache_lookups", "cache_hits"]);
    }
    if legends {
        row.text("algo", backend.config().settings.balance.word());
    }
    row.extra.class = "backend";
    row.extra.age = u64::from(seconds(age));
    let servers = backend.servers();
    row.extra.servers = (servers.iter().filter(|server| server.condition().is_up()).count(), servers.len());
    drop(servers);
    row
}

/// HAProxy: `fullconn`, or a tenth of the connections of all frontends that lead here.
pub(crate) fn full_connections(process: &Process, section: &Section) -> u32 {
    if let Some(limit) = section.config.settings.fullconn {
        return limit;
    }
    let name = &section.config.name;
    let total: u64 = process
        .sections()
        .iter()
        .filter_map(|other| other.frontend.as_ref())
        .filter(|frontend| match &frontend.config.settings.default_backend {
            Some((target, _)) => target == name,
            None => frontend.config.name == *name,
        })
        .map(|frontend| u64::from(frontend.places.limit()))
        .sum();
    u32::try_from(total.div_ceil(10)).unwrap_or(u32::MAX).max(1)
}

/// The CSS class that gives the line its colour.
fn class(condition: &Condition, backup: bool, weight: u32) -> &'static str {
    if condition.maintenance {
        return "maintain";
    }
    // A server that takes its state from another one has no checks of its own to go by.
    let checked = condition.checking || condition.tracks || condition.agent.checking;
    let settled = condition.health.is_settled() || !condition.checking;
    if condition.is_up() && condition.state == State::Stopping && !condition.drain {
        return if backup { "backup_nolb" } else { "active_nolb" };
    }
    match (condition.is_up(), condition.drain || weight == 0, settled, backup) {
        (false, _, true, false) => "active_down",
        (false, _, true, true) => "backup_down",
        (false, _, false, false) => "active_going_up",
        (false, _, false, true) => "backup_going_up",
        (true, true, _, false) => "active_draining",
        (true, true, _, true) => "backup_draining",
        (true, false, _, false) if !checked => "active_no_check",
        (true, false, _, true) if !checked => "backup_no_check",
        (true, false, true, false) => "active_up",
        (true, false, true, true) => "backup_up",
        (true, false, false, false) => "active_going_down",
        (true, false, false, true) => "backup_going_down",
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
