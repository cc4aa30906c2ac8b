//! What is only known when all files were read: numbers of sections, whole names of files, and what
//! becomes of sections in mode http.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use daemon::diagnostic::{Diagnostic, Diagnostics};

use super::{BindAddress, Config, Kind, Mode, ProxyConfig, StatsConfig};

/// Fills in what was left open.
pub fn complete(config: &mut Config, remarks: &mut Diagnostics) {
    numbers(config);
    config.proxies.iter_mut().for_each(|proxy| server_numbers(proxy, remarks));
    files(config);
    pages_of_backends(config);
    modes(config, remarks);
    if config.global.nosplice {
        config.proxies.iter_mut().for_each(|proxy| proxy.settings.splice = false);
    }
}

/// As HAProxy: sections with an `id` keep it, the others get the next free number.
fn numbers(config: &mut Config) {
    let used: HashSet<u32> = config.proxies.iter().map(|proxy| proxy.id).filter(|id| *id > 0).collect();
    let mut next = 1 + u32::from(!config.global.stats_sockets.is_empty());
    for proxy in &mut config.proxies {
        if proxy.id == 0 {
            while used.contains(&next) {
                next += 1;
            }
            proxy.id = next;
        }
        next += 1;
    }
}

/// As HAProxy: servers with an `id` keep it, the others get the next free number.
fn server_numbers(proxy: &mut ProxyConfig, remarks: &mut Diagnostics) {
    let mut used: HashMap<u32, String> = HashMap::new();
    for server in proxy.servers.iter().filter(|server| server.id > 0) {
        if let Some(first) = used.insert(server.id, server.name.clone()) {
            let message = format!("id {} of server `{}` is also the id of `{first}`", server.id, server.name);
            remarks.push(server.place.mark(Diagnostic::error("id-twice", message)));
        }
    }
    let mut next = 1;
    for server in &mut proxy.servers {
        if server.id == 0 {
            while used.contains_key(&next) {
                next += 1;
            }
            server.id = next;
        }
        next += 1;
    }
}

/// Joins relative names to `crt-base` and `ca-base`; gives addresses what their section and `global` say for
/// all of them.
fn files(config: &mut Config) {
    let global = &config.global;
    let (crt, ca) = (global.crt_base.clone(), global.ca_base.clone());
    let join = |base: &Option<PathBuf>, file: &mut PathBuf| {
        if let Some(base) = base {
            // A name with @ is no file.
            if !file.to_string_lossy().starts_with('@') && !file.starts_with(base) {
                *file = base.join(&*file);
            }
        }
    };
    let unix = global.unix_bind.clone();
    let prefix = config.global.unix_bind_prefix.take();
    let put_before = |address: &mut BindAddress| {
        if let (Some(prefix), BindAddress::Unix(path)) = (&prefix, &mut *address) {
            *path = PathBuf::from(format!("{prefix}{}", path.display()));
        }
    };
    config.global.stats_sockets.iter_mut().for_each(|socket| put_before(&mut socket.bind.address));
    for proxy in &mut config.proxies {
        let backlog = proxy.settings.backlog;
        for bind in &mut proxy.binds {
            bind.backlog = bind.backlog.or(backlog);
            put_before(&mut bind.address);
            if matches!(bind.address, BindAddress::Unix(_)) {
                let own = &mut bind.unix;
                own.mode = own.mode.or(unix.mode);
                own.user = own.user.take().or_else(|| unix.user.clone());
                own.group = own.group.take().or_else(|| unix.group.clone());
                (own.uid, own.gid) = (own.uid.or(unix.uid), own.gid.or(unix.gid));
            }
        }
        for tls in proxy.binds.iter_mut().filter_map(|bind| bind.tls.as_mut()) {
            tls.crt.iter_mut().chain(&mut tls.crt_list).for_each(|file| join(&crt, file));
            tls.ca_file.iter_mut().chain(&mut tls.crl_file).for_each(|file| join(&ca, file));
        }
        let default = &mut proxy.settings.default_server.tls;
        let servers = proxy.servers.iter_mut().map(|server| &mut server.options.tls);
        for tls in servers.chain([default]) {
            tls.crt.iter_mut().for_each(|file| join(&crt, file));
            tls.ca_file.iter_mut().chain(&mut tls.crl_file).for_each(|file| join(&ca, file));
        }
    }
}

/// A frontend in mode http whose backend has nothing but the statistics page serves that page itself.
fn pages_of_backends(config: &mut Config) {
    for at in 0..config.proxies.len() {
        let front = &config.proxies[at];
        if front.settings.mode != Mode::Http || front.kind != Kind::Frontend || front.settings.stats.enabled {
            continue;
        }
        let Some((name, _)) = &front.settings.default_backend else { continue };
        let page = config.proxies.iter().find(|back| {
            back.has_backend()
                && back.name == *name
                && back.servers.is_empty()
                && back.settings.mode == Mode::Http
                && back.settings.stats.enabled
        });
        if let Some(stats) = page.map(|page| page.settings.stats.clone()) {
            let settings = &mut config.proxies[at].settings;
            settings.stats = stats;
            settings.default_backend = None;
        }
    }
}

/// Sections in mode http that are more than a statistics page are relayed as TCP.
fn modes(config: &mut Config, remarks: &mut Diagnostics) {
    for proxy in &mut config.proxies {
        if proxy.settings.mode == Mode::Http && (proxy.carries_traffic() || proxy.kind == Kind::Backend) {
            if proxy.carries_traffic() {
                remarks.push(relayed(proxy));
            }
            proxy.settings.mode = Mode::Tcp;
            if proxy.settings.httplog {
                (proxy.settings.httplog, proxy.settings.tcplog) = (false, true);
            }
        }
        if proxy.settings.mode == Mode::Tcp && proxy.settings.stats != StatsConfig::default() {
            if proxy.settings.stats.enabled && proxy.has_frontend() && !proxy.settings.disabled {
                remarks.push(no_page(proxy));
            }
            proxy.settings.stats = StatsConfig::default();
        }
        if proxy.settings.mode == Mode::Tcp && proxy.settings.httplog {
            (proxy.settings.httplog, proxy.settings.tcplog) = (false, true);
        }
    }
}

fn relayed(proxy: &ProxyConfig) -> Diagnostic {
    let message = format!(
        "section `{}` is in mode http; its connections are relayed whole as with mode tcp, requests are not looked at",
        proxy.name
    );
    proxy
        .place
        .mark(Diagnostic::warning("http-as-tcp", message))
        .help("write `mode tcp` when that is what you want; use an HTTP proxy when it is not")
}

fn no_page(proxy: &ProxyConfig) -> Diagnostic {
    let why = if proxy.carries_traffic() { "the section has servers" } else { "the section is in mode tcp" };
    let message = format!("the statistics page of `{}` is not served: {why}", proxy.name);
    proxy
        .place
        .mark(Diagnostic::warning("stats-need-http", message))
        .help("give the page a section of its own: listen stats, bind :8100, mode http, stats enable")
}
