//! Reload and upgrade of a running program: nobody is refused, nobody is reset.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may end it")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use support::{echo, free_port, text};

const PATIENCE: Duration = Duration::from_secs(30);

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    if &answer == b"hello" { Ok(()) } else { Err(std::io::Error::other("wrong answer")) }
}

/// A proxy with a configuration in a folder of its own; all its processes are killed at the end.
struct Proxy {
    directory: tempfile::TempDir,
    child: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let own = self.child.id();
        for pid in std::iter::once(own).chain(self.pid().filter(|pid| *pid != own)) {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
        let _ = self.child.wait();
    }
}

impl Proxy {
    fn start(config: &str, listens: SocketAddr, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.cfg");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_proxy"))
            .args(arguments)
            .arg("-f")
            .arg(&file)
            .arg("-p")
            .arg(directory.path().join("pid"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let proxy = Self { directory, child };
        // The pid file is written after the sockets are open.
        until("listening", || TcpStream::connect(listens).is_ok() && proxy.pid().is_some());
        proxy
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("a.cfg")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The process that has written the pid file last.
    fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.directory.path().join("pid")).ok()?.trim().parse().ok()
    }

    fn call(&self, command: &str) -> Output {
        let pid = self.pid().unwrap().to_string();
        Command::new(env!("CARGO_BIN_EXE_proxy")).args([command, "--pid", &pid]).output().unwrap()
    }

    fn reload(&self, config: &str) -> Output {
        std::fs::write(self.file(), config).unwrap();
        self.call("reload")
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }
}

const DEFAULTS: &str = "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n";

/// Clients that connect one after another, each with one exchange.
struct Storm {
    done: Arc<AtomicUsize>,
    failed: Arc<parking_lot::Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Storm {
    fn start(address: SocketAddr) -> Self {
        let mut storm =
            Self { done: Arc::default(), failed: Arc::default(), stop: Arc::default(), threads: Vec::new() };
        for _ in 0..8 {
            let (done, failed, stop) = (storm.done.clone(), storm.failed.clone(), storm.stop.clone());
            storm.threads.push(std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    if let Err(error) = connect(address).and_then(|mut stream| exchange(&mut stream)) {
                        failed.lock().push(error.to_string());
                    }
                    done.fetch_add(1, Relaxed);
                }
            }));
        }
        storm
    }

    fn wait_for(&self, count: usize) {
        until("connections", || self.done.load(Relaxed) >= count);
    }

    /// How many there were; none may have failed.
    fn end(self) -> usize {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let failed = self.failed.lock();
        assert!(failed.is_empty(), "{} of {:?} failed: {:?}", failed.len(), self.done, &failed[..1]);
        self.done.load(Relaxed)
    }
}

#[test]
fn ten_thousand_connections_during_a_hundred_reloads_are_neither_refused_nor_reset() {
    let (bind, extra, server) = (free_port(), free_port(), echo());
    let base =
        format!("global\n nbthread 2\n{DEFAULTS}listen l\n bind {bind}\n server a {server} check inter 1s\n");
    let more = format!("{base} server b {server} weight 2\nlisten m\n bind {extra}\n server c {server}\n");
    let proxy = Proxy::start(&base, bind, &[]);
    let mut old = connect(bind).unwrap();
    exchange(&mut old).unwrap();
    let storm = Storm::start(bind);
    for round in 0..100 {
        // Each with about a hundredth of the connections.
        storm.wait_for(round * 100);
        let output = proxy.reload(if round % 2 == 0 { &more } else { &base });
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    storm.wait_for(10_000);
    assert!(storm.end() >= 10_000);
    exchange(&mut old).unwrap();
}

#[test]
fn connections_during_upgrades_are_neither_refused_nor_reset_and_old_sessions_finish() {
    let (bind, server) = (free_port(), echo());
    let config =
        format!("global\n nbthread 2\n{DEFAULTS}listen l\n bind {bind}\n server a {server} weight 9\n");
    let mut proxy = Proxy::start(&config, bind, &[]);
    let storm = Storm::start(bind);
    let mut old = Vec::new();
    for round in 0..5 {
        storm.wait_for(round * 200);
        let mut stream = connect(bind).unwrap();
        exchange(&mut stream).unwrap();
        old.push(stream);
        let before = proxy.pid().unwrap();
        let output = proxy.call("upgrade");
        assert!(output.status.success(), "{}{}", text(&output.stderr), proxy.log());
        assert!(text(&output.stdout).contains(&format!("taken over from process {before}")));
        assert_ne!(proxy.pid().unwrap(), before);
    }
    storm.wait_for(1_500);
    storm.end();
    // Sessions of every generation live on in their own processes; then these end.
    for mut stream in old {
        exchange(&mut stream).unwrap();
    }
    until("the first process ends", || proxy.child.try_wait().unwrap().is_some());
    assert!(proxy.child.wait().unwrap().success());
}

#[test]
fn an_upgrade_that_fails_leaves_everything_as_it_is() {
    let (bind, server) = (free_port(), echo());
    let config = format!("{DEFAULTS}listen l\n bind {bind}\n server a {server}\n");
    let proxy = Proxy::start(&config, bind, &[]);
    let before = proxy.pid();
    std::fs::write(proxy.file(), config.replace("listen", "lisen")).unwrap();
    let output = proxy.call("upgrade");
    assert!(!output.status.success() && text(&output.stderr).contains("the new program ended"));
    assert_eq!(proxy.pid(), before);
    exchange(&mut connect(bind).unwrap()).unwrap();
}

#[test]
fn a_signal_reloads_and_a_bad_file_is_named_in_the_log_and_by_the_exit_code() {
    let (bind, later, server) = (free_port(), free_port(), echo());
    let config = format!("{DEFAULTS}listen l\n bind {bind}\n server a {server}\n");
    let proxy = Proxy::start(&config, bind, &[]);
    let output = proxy.reload(&config.replace("server a", "sever a"));
    assert_eq!(output.status.code(), Some(78));
    let words = text(&output.stderr);
    assert!(words.contains("a.cfg:8:2") && words.contains("did you mean"), "{words}");
    assert!(proxy.log().contains("a.cfg:8:2"), "{}", proxy.log());
    exchange(&mut connect(bind).unwrap()).unwrap();
    for (signal, port) in [("USR2", later), ("HUP", free_port())] {
        std::fs::write(proxy.file(), config.replace("\n server", &format!("\n bind {port}\n server")))
            .unwrap();
        proxy.signal(signal);
        until("the new listener", || TcpStream::connect(port).is_ok());
    }
    until("the listener before is closed", || TcpStream::connect(later).is_err());
}

#[test]
fn listeners_pause_and_resume() {
    let (bind, server) = (free_port(), echo());
    let proxy = Proxy::start(&format!("{DEFAULTS}listen l\n bind {bind}\n server a {server}\n"), bind, &[]);
    let mut session = connect(bind).unwrap();
    exchange(&mut session).unwrap();
    proxy.signal("TTOU");
    until("paused", || TcpStream::connect(bind).is_err());
    exchange(&mut session).unwrap();
    proxy.signal("TTIN");
    until("resumed", || TcpStream::connect(bind).is_ok());
    exchange(&mut connect(bind).unwrap()).unwrap();
}

/// Root only: with root and the file system given up, a reload still finds its files, and an upgrade is
/// done by the one who asks.
#[test]
fn a_confined_process_reloads_and_is_upgraded() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (bind, later, server) = (free_port(), free_port(), echo());
    let root = tempfile::tempdir().unwrap();
    let config = format!(
        "global\n chroot {}\n uid 65534\n gid 65534\n{DEFAULTS}listen l\n bind {bind}\n server a {server}\n",
        root.path().display()
    );
    let proxy = Proxy::start(&config, bind, &[]);
    open_to_all(proxy.directory.path());
    let output = proxy.reload(&config.replace("\n server", &format!("\n bind {later}\n server")));
    assert!(output.status.success(), "{}{}", text(&output.stderr), proxy.log());
    exchange(&mut connect(later).unwrap()).unwrap();
    let before = proxy.pid().unwrap();
    let output = proxy.call("upgrade");
    assert!(output.status.success(), "{}{}", text(&output.stderr), proxy.log());
    until("taken over", || proxy.pid().unwrap() != before);
    exchange(&mut connect(bind).unwrap()).unwrap();
}

fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// As a service manager sees it: READY, RELOADING and READY, MAINPID of the successor.
#[test]
fn the_service_manager_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (bind, server) = (free_port(), echo());
    let config = directory.path().join("a.cfg");
    std::fs::write(&config, format!("{DEFAULTS}listen l\n bind {bind}\n server a {server}\n")).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_proxy"))
        .args(["-Ws", "-f"])
        .arg(&config)
        .arg("-p")
        .arg(directory.path().join("pid"))
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let first = child.id();
    let proxy = Proxy { directory, child };
    let next = |wanted: &str| {
        let mut buffer = [0; 512];
        loop {
            let length = socket.recv(&mut buffer).unwrap_or_else(|_| panic!("no {wanted}"));
            let message = text(&buffer[..length]);
            if let Some(line) = message.lines().find(|line| line.starts_with(wanted)) {
                return line.to_owned();
            }
        }
    };
    next("READY=1");
    proxy.signal("USR2");
    next("RELOADING=1");
    next("READY=1");
    assert!(proxy.call("upgrade").status.success());
    let main = next("MAINPID=");
    assert_eq!(main, format!("MAINPID={}", proxy.pid().unwrap()));
    assert_ne!(proxy.pid(), Some(first));
    proxy.signal("USR1");
    next("STOPPING=1");
}

#[test]
fn a_soft_stop_takes_who_waits_and_finishes_everybody() {
    let (bind, server) = (free_port(), echo());
    let config = format!("{DEFAULTS}listen l\n bind {bind}\n maxconn 1\n server a {server}\n");
    let mut proxy = Proxy::start(&config, bind, &[]);
    let mut first = connect(bind).unwrap();
    exchange(&mut first).unwrap();
    // In the accept queue: the only place is taken.
    let mut second = connect(bind).unwrap();
    let mut third = connect(bind).unwrap();
    proxy.signal("USR1");
    until("soft stop", || proxy.log().contains("soft stop"));
    exchange(&mut first).unwrap();
    drop(first);
    exchange(&mut second).unwrap();
    drop(second);
    exchange(&mut third).unwrap();
    drop(third);
    until("closed", || TcpStream::connect(bind).is_err());
    until("ended", || proxy.child.try_wait().unwrap().is_some());
    assert!(proxy.child.wait().unwrap().success());
    let log = std::fs::File::open(proxy.directory.path().join("log")).unwrap();
    assert!(BufReader::new(log).lines().map_while(Result::ok).any(|line| line.contains("stopped")));
}

/// The real program, where it is installed: it takes over from us, and we from it.
#[test]
fn haproxy_takes_over_and_gives_back() {
    let haproxy = Path::new("/usr/sbin/haproxy");
    if !haproxy.exists() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sock");
    let (bind, server) = (free_port(), echo());
    let file = directory.path().join("a.cfg");
    let config = format!(
        "global\n stats socket {} level admin expose-fd listeners\n{DEFAULTS}listen l\n bind {bind}\n server a {server}\n",
        socket.display()
    );
    std::fs::write(&file, config).unwrap();
    let ours = Path::new(env!("CARGO_BIN_EXE_proxy"));
    let start = |program: &Path, old: Option<u32>| {
        let mut command = Command::new(program);
        command.args(["-db", "-f"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(old) = old {
            command.arg("-x").arg(&socket).args(["-sf", &old.to_string()]);
        }
        Killed(command.spawn().unwrap())
    };
    let mut present = start(haproxy, None);
    until("listening", || TcpStream::connect(bind).is_ok());
    let storm = Storm::start(bind);
    let mut done = 0;
    for program in [ours, haproxy, ours] {
        storm.wait_for(done + 100);
        let next = start(program, Some(present.0.id()));
        // Without sessions the one before ends, which says that the next one has taken over.
        until("taken over", || present.0.try_wait().unwrap().is_some());
        present = next;
        done = storm.done.load(Relaxed);
    }
    storm.wait_for(done + 100);
    storm.end();
    assert!(present.0.try_wait().unwrap().is_none());
}

/// A process that is killed at the end of the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Gives a line of commands to a stats socket.
fn order(socket: &Path, line: &str) -> std::io::Result<String> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn stats_sockets_follow_a_reload() {
    let (bind, server) = (free_port(), echo());
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let config =
        |sockets: &str| format!("global\n{sockets}{DEFAULTS}listen l\n bind {bind}\n server a {server}\n");
    let line = |path: &Path, level: &str| format!(" stats socket {} level {level}\n", path.display());
    let proxy = Proxy::start(&config(&line(&first, "user")), bind, &[]);
    let level = |path: &Path| order(path, "show cli level").map(|answer| answer.trim().to_owned());
    assert_eq!(level(&first).unwrap(), "user");
    let mut talk = std::os::unix::net::UnixStream::connect(&first).unwrap();
    talk.write_all(b"prompt\n").unwrap();
    talk.read_exact(&mut [0; 3]).unwrap();
    // More rights, and another socket.
    let both = config(&(line(&first, "admin") + &line(&second, "operator")));
    assert!(proxy.reload(&both).status.success());
    until("both", || {
        level(&first).is_ok_and(|level| level == "admin")
            && level(&second).is_ok_and(|level| level == "operator")
    });
    // One is gone with its file; who talks through it goes on.
    assert!(proxy.reload(&config(&line(&second, "operator"))).status.success());
    until("the first to go", || !first.exists());
    talk.write_all(b"show cli level\n").unwrap();
    let mut answer = [0; 4];
    talk.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"user");
    assert_eq!(level(&second).unwrap(), "operator");
}

#[test]
fn servers_added_at_run_time_are_remembered_and_an_upgrade_goes_on_counting() {
    let (bind, server, added) = (free_port(), echo(), echo());
    let folder = tempfile::tempdir().unwrap();
    let (socket, memory) = (folder.path().join("socket"), folder.path().join("added"));
    let config = format!(
        "global\n stats socket {} level admin\n runtime-servers-file {}\n{DEFAULTS}listen l\n bind {bind}\n server a {server}\n",
        socket.display(),
        memory.display()
    );
    let proxy = Proxy::start(&config, bind, &[]);
    let answer = order(&socket, &format!("add server l/b {added} weight 7")).unwrap();
    assert!(answer.contains("New server registered."), "{answer}");
    let written = std::fs::read_to_string(&memory).unwrap();
    assert!(written.ends_with(&format!("add server l/b {added} weight 7\n")), "{written}");
    order(&socket, "enable server l/b").unwrap();
    assert!(proxy.reload(&config).status.success());
    for _ in 0..20 {
        exchange(&mut connect(bind).unwrap()).unwrap();
    }
    let column = |row: &str, at: usize| {
        let table = order(&socket, "show stat").unwrap();
        let line = table.lines().find(|line| line.starts_with(row)).map(str::to_owned);
        line.and_then(|line| line.split(',').nth(at).map(str::to_owned)).unwrap_or_default()
    };
    until("all to be counted", || column("l,FRONTEND,", 4) == "0");
    let before: Vec<u64> =
        ["l,a,", "l,b,", "l,BACKEND,"].iter().map(|row| column(row, 7).parse().unwrap()).collect();
    assert!(before[1] > before[0] && before[2] > 20, "{before:?}");
    let old = proxy.pid();
    let output = proxy.call("upgrade");
    assert!(output.status.success(), "{}", text(&output.stderr));
    until("the new process", || proxy.pid() != old && order(&socket, "show info").is_ok());
    let after: Vec<u64> =
        ["l,a,", "l,b,", "l,BACKEND,"].iter().map(|row| column(row, 7).parse().unwrap()).collect();
    assert_eq!(after, before);
    assert!(order(&socket, "disable server l/b;del server l/b").unwrap().contains("Server deleted."));
    assert!(!std::fs::read_to_string(&memory).unwrap().contains("add server"));
}
