//! The program as a person or a script sees it: exit codes, messages, names, signals, limits.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may end it")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{echo, free_port, text};

const PATIENCE: Duration = Duration::from_secs(10);

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_proxy")).args(arguments).output().unwrap()
}

fn config(directory: &Path, global: &str, bind: SocketAddr, server: SocketAddr) -> PathBuf {
    let file = directory.join("test.cfg");
    let text = format!(
        "global\n maxconn 50\n{global}\ndefaults\n mode tcp\n timeout connect 2s\n timeout client 60s\n timeout server 60s\n\
         listen l\n bind {bind}\n server a {server}\n"
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// A running proxy, killed at the end of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command, address: SocketAddr) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let running = Self(child);
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < PATIENCE, "did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        running
    }

    fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([format!("-{name}"), self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < PATIENCE, "did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(text(&answer))
}

#[test]
fn a_check_of_the_configuration_tells_by_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let good = config(directory.path(), "", free_port(), free_port());
    let output = run(&["-c", "-f", good.to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output.stdout).contains("valid")), (Some(0), true));
    let output = run(&["-c", "-q", "-f", good.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(0), 0, 0));
    let bad = directory.path().join("bad.toml");
    std::fs::write(&bad, "[listen.a]\nbnd = \":1\"\n").unwrap();
    let output = run(&["--check", "--config", bad.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    let words = text(&output.stderr);
    assert!(words.contains("bad.toml:2:1") && words.contains("did you mean `bind`?"), "{words}");
    assert_eq!(run(&["-f", "/nonexistent.cfg"]).status.code(), Some(78));
    assert_eq!(run(&["--nonsense"]).status.code(), Some(64));
    assert_eq!(run(&["-v"]).status.code(), Some(0));
}

#[test]
fn called_as_haproxy_a_check_answers_as_haproxy_does() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("haproxy");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_proxy"), &name).unwrap();
    let good = config(directory.path(), "", free_port(), free_port());
    let run = |file: &Path, more: &[&str]| {
        Command::new(&name).arg("-c").args(more).arg("-f").arg(file).output().unwrap()
    };
    let output = run(&good, &[]);
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(0), "Configuration file is valid\n")
    );
    let warned = directory.path().join("warned.cfg");
    std::fs::write(&warned, std::fs::read_to_string(&good).unwrap() + " option forwardfor\n").unwrap();
    let output = run(&warned, &[]);
    assert_eq!(text(&output.stdout), "Warnings were found.\nConfiguration file is valid\n");
    assert_eq!(run(&warned, &["-dW"]).status.code(), Some(1));
    let bad = directory.path().join("bad.cfg");
    std::fs::write(&bad, "listen a\n bnd :1\n").unwrap();
    let output = run(&bad, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("bad.cfg:2:2"), "{}", text(&output.stderr));
}

#[test]
fn migrate_writes_a_twin_that_check_accepts() {
    let directory = tempfile::tempdir().unwrap();
    let file = config(directory.path(), " nbproc 2\n", free_port(), free_port());
    let twin = directory.path().join("twin.toml");
    let (from, to) = (file.to_str().unwrap(), twin.to_str().unwrap());
    let output = run(&["migrate", from, "-o", to]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let written = std::fs::read_to_string(&twin).unwrap();
    assert!(
        written.contains("# note: ") && written.contains("nbproc") && written.contains("[listen.l]"),
        "{written}"
    );
    assert_eq!(run(&["-c", "-f", to]).status.code(), Some(0));
    // It does not write over what is there.
    assert_eq!(run(&["migrate", from, "-o", to]).status.code(), Some(73));
    assert_eq!(text(&run(&["migrate", from]).stdout), written);
}

#[test]
fn a_taken_port_names_its_holder_and_the_line_that_asked() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = config(directory.path(), "", taken.local_addr().unwrap(), free_port());
    let output = run(&["-f", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(73));
    let words = text(&output.stderr);
    assert!(
        words.contains("address in use") && words.contains(&format!("pid {}", std::process::id())),
        "{words}"
    );
    assert!(words.contains("test.cfg line 10"), "{words}");
}

#[test]
fn an_unknown_user_is_an_error_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    let file = config(directory.path(), " user no-such-user", free_port(), free_port());
    let output = run(&["-f", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("useradd"), "{}", text(&output.stderr));
}

#[test]
fn called_as_haproxy_it_is_found_by_that_name_and_stops_by_signal() {
    let directory = tempfile::tempdir().unwrap();
    let (front, back) = (free_port(), echo());
    let pidfile = directory.path().join("p.pid");
    let file = config(directory.path(), "", front, back);
    let name = directory.path().join("haproxy");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_proxy"), &name).unwrap();
    for (signal, arguments) in [("TERM", ["-db", "-V"]), ("INT", ["-Ws", "-q"])] {
        let mut command = Command::new(&name);
        command.arg("-f").arg(&file).arg("-p").arg(&pidfile).args(arguments);
        let mut running = Running::start(&mut command, front);
        assert_eq!(ask(front).unwrap(), "hello");
        let pid = std::fs::read_to_string(&pidfile).unwrap();
        assert_eq!(pid.trim(), running.0.id().to_string());
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", pid.trim())).unwrap();
        assert_eq!(comm.trim(), "haproxy");
        running.signal(signal);
        assert_eq!(running.exit_code(), Some(0));
    }
}

#[test]
fn a_soft_stop_lets_connections_finish() {
    let directory = tempfile::tempdir().unwrap();
    let (front, back) = (free_port(), echo());
    let file = config(directory.path(), "", front, back);
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxy"));
    let mut running = Running::start(command.arg("-f").arg(file), front);
    let mut stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0; 1];
    stream.write_all(b"a").unwrap();
    stream.read_exact(&mut byte).unwrap();
    running.signal("USR1");
    let begun = Instant::now();
    while TcpStream::connect(front).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "still accepts");
    }
    stream.write_all(b"b").unwrap();
    stream.read_exact(&mut byte).unwrap();
    assert_eq!((&byte, running.0.try_wait().unwrap()), (b"b", None));
    drop(stream);
    assert_eq!(running.exit_code(), Some(0));
}

/// With 40 files there is room for about ten connections: more must wait or fail, and none may take
/// the proxy down.
#[test]
fn running_out_of_descriptors_passes() {
    let directory = tempfile::tempdir().unwrap();
    let (front, back) = (free_port(), echo());
    let file = config(directory.path(), " ulimit-n 40", front, back);
    // A hard limit it cannot raise, below what maxconn needs.
    let line = format!("ulimit -n 40; exec {} -f {}", env!("CARGO_BIN_EXE_proxy"), file.display());
    let running = Running::start(Command::new("sh").args(["-c", &line]), front);
    let crowd: Vec<TcpStream> = (0..100).filter_map(|_| TcpStream::connect(front).ok()).collect();
    assert!(crowd.len() > 40, "{}", crowd.len());
    drop(crowd);
    let begun = Instant::now();
    while ask(front).is_err() {
        assert!(begun.elapsed() < PATIENCE, "does not recover");
    }
    drop(running);
}

#[test]
fn init_writes_a_file_that_check_accepts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("deep/proxy.toml");
    let path = file.to_str().unwrap();
    let server = echo().to_string();
    let output =
        run(&["init", "--backend", &format!("A={server}"), "--listen", "127.0.0.1:5672", "-o", path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(run(&["-c", "-f", path]).status.code(), Some(0));
    // It does not write over what is there.
    assert_eq!(run(&["init", "--backend", "A=h:1", "-o", path]).status.code(), Some(73));
    // An echo server is no broker, and the check says so.
    let output = run(&["check", path]);
    assert_eq!(output.status.code(), Some(69));
    assert!(text(&output.stdout).contains("Layer7 invalid response"), "{}", text(&output.stdout));
    assert_eq!(run(&["init", "--backend", "A", "-o", "-"]).status.code(), Some(64));
}

#[test]
fn a_socket_of_the_parent_and_one_outside_the_file_system_are_listened_on() {
    let directory = tempfile::tempdir().unwrap();
    let name = format!("proxy-test-{}", std::process::id());
    let (listener, front) = (TcpListener::bind("127.0.0.1:0").unwrap(), free_port());
    let inherited = listener.local_addr().unwrap();
    let file = directory.path().join("test.cfg");
    let text = format!(
        "defaults\n mode tcp\n timeout connect 2s\n timeout client 60s\n timeout server 60s\n\
         listen parents\n bind fd@0\n server s abns@{name}\nlisten inner\n bind abns@{name}\n bind {front}\n server s {}\n",
        echo()
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxy"));
    command.arg("-f").arg(&file).stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)));
    let running = Running::start(&mut command, front);
    // Through the socket that was open already, to the other one, to the server.
    assert_eq!(ask(inherited).unwrap(), "hello");
    drop(running);
}

/// Four sessions in a second may be moved: eight need at least a second and a half.
#[test]
fn sessions_of_a_draining_server_move_at_a_bounded_rate() {
    let directory = tempfile::tempdir().unwrap();
    let (front, first, second) = (free_port(), echo(), echo());
    let socket = directory.path().join("admin.sock");
    let file = directory.path().join("test.cfg");
    let text = format!(
        "global\n stats socket {} level admin\ndefaults\n mode tcp\n timeout connect 2s\n timeout client 60s\n timeout server 60s\n\
         listen l\n bind {front}\n option rebalance 4/s drain\n server a {first}\n server b {second} weight 0\n",
        socket.display()
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxy"));
    let running = Running::start(command.arg("-f").arg(&file), front);
    let order = |line: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let sessions: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(front).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0; 1]).unwrap();
            stream
        })
        .collect();
    order("set server l/b weight 1");
    order("set server l/a state drain");
    let begun = Instant::now();
    let ends: Vec<Duration> = sessions
        .into_iter()
        .map(|mut stream| {
            // Ended from outside, with or without a reset.
            assert!(!matches!(stream.read(&mut [0; 1]), Ok(1)));
            begun.elapsed()
        })
        .collect();
    assert!(ends[7] >= Duration::from_millis(1500), "{ends:?}");
    // Who comes back comes to the other server.
    assert_eq!(ask(front).unwrap(), "hello");
    let table = order("show stat");
    let row = table.lines().find(|line| line.starts_with("l,b,")).unwrap();
    assert_eq!(row.split(',').nth(7), Some("1"), "{row}");
    drop(running);
}
