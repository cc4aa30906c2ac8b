//! Tests of reloads inside this process: what stays, what changes, what is refused.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Parser as _;
use daemon::shutdown::{Shutdown, Stop};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::check::{CheckReport, CheckStatus, carry_out};
use crate::handover::Inherited;
use crate::server::{Order, Server};
use crate::testing::{named, nobody};
use crate::workers;

const PATIENCE: Duration = Duration::from_secs(10);

/// A proxy whose configuration is a file.
struct Proxy {
    _directory: tempfile::TempDir,
    source: Source,
    keeper: Keeper,
    process: Arc<Process>,
    shutdown: Shutdown,
    running: Running,
    first: Global,
}

fn head(global: &str) -> String {
    format!(
        "global\n nbthread 2\n{global}\ndefaults\n mode tcp\n timeout connect 2s\n timeout client 60s\n timeout server 60s\n"
    )
}

impl Proxy {
    fn start(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.cfg");
        std::fs::write(&file, text).unwrap();
        let source = Source { files: vec![file], arguments: Arc::new(Args::parse_from(["proxy"])) };
        let process = Arc::new(Process::new(source.read().unwrap().0, "haproxy"));
        let listeners = process.bind(&mut Inherited::default(), false).unwrap();
        let (shutdown, _) = Shutdown::new();
        let running = workers::start(&process, listeners, &shutdown).unwrap();
        let first = Global::clone(&process.global());
        let keeper = Keeper::start().unwrap();
        Self { _directory: directory, source, keeper, process, shutdown, running, first }
    }

    async fn reload(&mut self, text: &str) -> Report {
        std::fs::write(&self.source.files[0], text).unwrap();
        let keys = self.running.listeners.all.iter().map(|listener| listener.key.clone()).collect();
        let prepared = prepare(
            self.process.clone(),
            self.keeper.clone(),
            self.source.clone(),
            keys,
            self.running.closing(),
        )
        .await;
        match prepared {
            Ok(prepared) => {
                apply(&self.process, &mut self.running, &self.keeper, prepared, &self.first).unwrap()
            }
            Err(failure) => refuse(&failure),
        }
    }

    fn server(&self, backend: &str, name: &str) -> Arc<Server> {
        self.process.backend(backend).unwrap().server(name).unwrap()
    }

    async fn stop(self) {
        self.shutdown.stop(Stop::Now);
        self.running.join().await;
    }
}

async fn read(stream: &mut TcpStream) -> String {
    let mut byte = [0; 1];
    let length = tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await.unwrap().unwrap();
    String::from_utf8_lossy(&byte[..length]).into_owned()
}

async fn ask(address: SocketAddr) -> String {
    read(&mut TcpStream::connect(address).await.unwrap()).await
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn unchanged_servers_keep_health_counters_weight_orders_and_sessions() {
    let (a, bind) = (named("A").await, nobody().await);
    let text = |more: &str| {
        format!(
            "{}listen l\n bind {bind}\n server a {a} check inter 1h\n server b {a} check inter 1h\n{more}",
            head("")
        )
    };
    let mut proxy = Proxy::start(&text(""));
    let mut session = TcpStream::connect(bind).await.unwrap();
    assert_eq!(read(&mut session).await, "A");
    let (first, second) = (proxy.server("l", "a"), proxy.server("l", "b"));
    let failed =
        || CheckReport { status: CheckStatus::L4Con, code: 0, info: String::new(), duration: Duration::ZERO };
    // The first check comes at once, the next one in an hour.
    until("first check", || first.condition().check.status == CheckStatus::L4Ok).await;
    first.change(|condition| condition.check_ended(failed(), Instant::now()));
    first.set_weight(7);
    carry_out(&proxy.process.backend("l").unwrap(), &second, Order::Drain);
    let (health, total) =
        (first.condition().health, first.counters.total.load(std::sync::atomic::Ordering::Relaxed));
    let report = proxy.reload(&text(" server c 127.0.0.1:1 weight 3\n")).await;
    assert!(report.accepted, "{}", report.text);
    assert!(report.text.contains("2 unchanged, 0 changed, 1 added, 0 removed"), "{}", report.text);
    let after = proxy.server("l", "a");
    assert!(Arc::ptr_eq(&first, &after));
    assert_eq!((after.condition().health, after.weight()), (health, 7));
    assert_eq!(after.counters.total.load(std::sync::atomic::Ordering::Relaxed), total);
    assert!(proxy.server("l", "b").condition().drain);
    assert_eq!(proxy.server("l", "c").weight(), 3);
    session.write_all(b"x").await.unwrap();
    assert_eq!(read(&mut session).await, "x");
    // The file changes its mind about the weight: then it counts.
    let other = text("").replace("check inter 1h\n server b", "check inter 1h weight 9\n server b");
    assert!(proxy.reload(&other).await.accepted);
    assert_eq!(proxy.server("l", "a").weight(), 9);
    assert_eq!(proxy.server("l", "a").condition().health, health);
    proxy.stop().await;
}

#[tokio::test]
async fn another_address_means_another_server_to_checks_and_clients() {
    let (a, b, bind) = (named("A").await, named("B").await, nobody().await);
    let text = |server: SocketAddr| {
        format!("{}listen l\n bind {bind}\n server s {server} check inter 1h\n", head(""))
    };
    let mut proxy = Proxy::start(&text(a));
    let down =
        || CheckReport { status: CheckStatus::L4Con, code: 0, info: String::new(), duration: Duration::ZERO };
    let server = proxy.server("l", "s");
    until("first check", || server.condition().check.status == CheckStatus::L4Ok).await;
    for _ in 0..5 {
        server.change(|condition| condition.check_ended(down(), Instant::now()));
    }
    assert!(!server.condition().health.is_up());
    assert!(proxy.reload(&text(b)).await.accepted);
    assert!(server.condition().health.is_up());
    assert_eq!(ask(bind).await, "B");
    proxy.stop().await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_where() {
    let (a, bind) = (named("A").await, nobody().await);
    let text = format!("{}listen l\n bind {bind}\n server a {a}\n", head(""));
    let mut proxy = Proxy::start(&text);
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (bad, words) in [
        (text.replace("server a", "servr a"), "a.cfg:11:2"),
        (format!("{text} bind {}\n", taken.local_addr().unwrap()), "address in use"),
    ] {
        let report = proxy.reload(&bad).await;
        assert!(!report.accepted && report.text.contains(words), "{}", report.text);
        assert_eq!(proxy.running.listeners.all.len(), 1);
        assert_eq!(ask(bind).await, "A");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn sections_and_listeners_come_and_go() {
    let (a, b) = (named("A").await, named("B").await);
    let (one, two) = (nobody().await, nobody().await);
    let first = format!("{}listen l\n bind {one}\n server a {a}\n", head(" maxconn 100"));
    let mut proxy = Proxy::start(&first);
    let mut old = TcpStream::connect(one).await.unwrap();
    assert_eq!(read(&mut old).await, "A");
    let second = format!("{}listen m\n bind {two}\n server b {b}\n", head(" maxconn 50\n node n2"));
    let report = proxy.reload(&second).await;
    assert!(report.text.contains("listeners: 0 kept, 1 opened, 1 closed"), "{}", report.text);
    assert_eq!(ask(two).await, "B");
    until("closed", || std::net::TcpStream::connect(one).is_err()).await;
    assert_eq!((proxy.process.maxconn(), proxy.process.global().node.clone()), (50, Some("n2".to_owned())));
    // A session of the section that is gone lives on.
    old.write_all(b"x").await.unwrap();
    assert_eq!(read(&mut old).await, "x");
    // The same port for all addresses: the narrower one is in the way until it is closed.
    let third = second.replace(&two.to_string(), &format!(":{}", two.port()));
    let report = proxy.reload(&third).await;
    assert!(report.text.contains("1 opened, 1 closed"), "{}", report.text);
    until("served by the wider listener", || std::net::TcpStream::connect(two).is_ok()).await;
    assert_eq!(ask(two).await, "B");
    proxy.stop().await;
}

#[tokio::test]
async fn who_waits_for_a_place_gets_it_after_a_reload() {
    let (a, bind) = (named("A").await, nobody().await);
    let text = |limit: u32| format!("{}listen l\n bind {bind}\n server a {a} maxconn {limit}\n", head(""));
    let mut proxy = Proxy::start(&text(1));
    let mut first = TcpStream::connect(bind).await.unwrap();
    assert_eq!(read(&mut first).await, "A");
    let mut second = TcpStream::connect(bind).await.unwrap();
    let backend = proxy.process.backend("l").unwrap();
    until("waiting", || backend.pending_count() == 1).await;
    assert!(proxy.reload(&text(2)).await.accepted);
    assert_eq!(read(&mut second).await, "A");
    proxy.stop().await;
}

#[tokio::test]
async fn settings_of_the_start_stay_and_are_named() {
    let bind = nobody().await;
    let text = |global: &str| format!("{}listen l\n bind {bind}\n server a 127.0.0.1:1\n", head(global));
    let mut proxy = Proxy::start(&text(""));
    let report = proxy.reload(&text(" chroot /var/empty\n user nobody\n no numa-cpu-mapping")).await;
    assert!(report.accepted, "{}", report.text);
    for word in ["user", "chroot", "numa-cpu-mapping"] {
        assert!(report.text.contains(&format!("warning: {word} cannot change")), "{}", report.text);
    }
    proxy.stop().await;
}

#[tokio::test]
async fn frontends_shrink_and_grow() {
    let (a, bind) = (named("A").await, nobody().await);
    let text = |limit: u32| format!("{}listen l\n bind {bind}\n maxconn {limit}\n server a {a}\n", head(""));
    let mut proxy = Proxy::start(&text(2));
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(bind).await.unwrap();
        assert_eq!(read(&mut stream).await, "A");
        held.push(stream);
    }
    let mut waiting = TcpStream::connect(bind).await.unwrap();
    assert!(proxy.reload(&text(1)).await.accepted);
    held.pop();
    let mut byte = [0; 1];
    // One place was taken away: the one that was given back is not given again.
    assert!(tokio::time::timeout(Duration::from_millis(100), waiting.read(&mut byte)).await.is_err());
    assert!(proxy.reload(&text(3)).await.accepted);
    assert_eq!(read(&mut waiting).await, "A");
    assert_eq!(ask(bind).await, "A");
    proxy.stop().await;
}

#[tokio::test]
async fn a_reload_does_not_undo_what_an_operator_did_while_it_was_prepared() {
    let (a, bind) = (named("A").await, nobody().await);
    let mut proxy = Proxy::start(&format!("{}listen l\n bind {bind}\n server a {a}\n", head("")));
    let process = proxy.process.clone();
    let keys: Vec<_> = proxy.running.listeners.all.iter().map(|listener| listener.key.clone()).collect();
    let prepared =
        prepare(process.clone(), proxy.keeper.clone(), proxy.source.clone(), keys, proxy.running.closing())
            .await
            .unwrap();
    let backend = process.backend("l").unwrap();
    let mut config = config::ServerConfig::clone(&proxy.server("l", "a").config());
    config.name = "c".to_owned();
    backend.add_server(config, Instant::now()).unwrap();
    process.control.servers_changed();
    assert!(apply(&process, &mut proxy.running, &proxy.keeper, prepared, &proxy.first).is_none());
    assert!(backend.server("c").is_some());
    proxy.stop().await;
}

/// A certificate that signed itself and its key, in one file.
fn certificate(path: &std::path::Path) {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    std::fs::write(path, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn a_certificate_that_changed_on_disk_is_shown_after_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (server, bind) = (named("S").await, nobody().await);
    certificate(&path("first.pem"));
    certificate(&path("second.pem"));
    std::fs::copy(path("first.pem"), path("used.pem")).unwrap();
    let inner = format!(
        "{}listen l\n bind {bind} ssl crt {}\n server s {server}\n",
        head(""),
        path("used.pem").display()
    );
    let mut inner_proxy = Proxy::start(&inner);
    // Two that trust one certificate each.
    let (trusts_first, trusts_second) = (nobody().await, nobody().await);
    let outer = Proxy::start(&format!(
        "{}listen f\n bind {trusts_first}\n retries 0\n server s {bind} ssl verify required ca-file {}\n\
         listen s\n bind {trusts_second}\n retries 0\n server s {bind} ssl verify required ca-file {}\n",
        head(""),
        path("first.pem").display(),
        path("second.pem").display()
    ));
    let trusted = async |address| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
        matches!(read, Ok(1))
    };
    assert!(trusted(trusts_first).await && !trusted(trusts_second).await);
    std::fs::copy(path("second.pem"), path("used.pem")).unwrap();
    // Not before somebody asks for it.
    assert!(trusted(trusts_first).await);
    assert!(inner_proxy.reload(&inner).await.accepted);
    assert!(!trusted(trusts_first).await && trusted(trusts_second).await);
    // One that cannot be read changes nothing.
    std::fs::write(path("used.pem"), "no certificate").unwrap();
    assert!(!inner_proxy.reload(&inner).await.accepted);
    assert!(trusted(trusts_second).await);
    inner_proxy.stop().await;
    outer.stop().await;
}

#[tokio::test]
async fn a_unix_socket_that_a_reload_removes_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (server, keep) = (named("S").await, nobody().await);
    let path = |name: &str| folder.path().join(name);
    let text = |names: &[&str]| {
        let binds: String =
            names.iter().map(|name| format!(" bind unix@{}\n", path(name).display())).collect();
        format!("{}listen l\n bind {keep}\n{binds} server s {server}\n", head(""))
    };
    let mut proxy = Proxy::start(&text(&["one", "two"]));
    // Somebody else has put a socket of his own in the place of the second.
    std::fs::remove_file(path("two")).unwrap();
    let _theirs = tokio::net::UnixListener::bind(path("two")).unwrap();
    assert!(proxy.reload(&text(&["three"])).await.accepted);
    until("the file to go", || !path("one").exists()).await;
    assert!(path("two").exists() && path("three").exists());
    proxy.stop().await;
}
