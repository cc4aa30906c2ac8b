//! A storm of connections and a server that comes and goes leave the other sessions alone.

use harness::load::tcp::{self, Mode};
use harness::node::free_port;
use harness::programs;
use harness::scratch::Scratch;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use xtask::lab::Process;
use xtask::lab::wait::until_true;

/// Connections of the storm.
const STORM: usize = 20_000;
/// Sessions beside it.
const OTHERS: usize = 50;
/// How long the server is there, and how long it is not.
const FLAP: Duration = Duration::from_millis(500);

#[test]
fn twenty_thousand_connections_and_a_flapping_server_lose_no_other_session() {
    let scratch = Scratch::new("proxy-storm").unwrap();
    let [steady, flapping, stormy, calm] = [(); 4].map(|()| free_port().unwrap());
    std::thread::spawn(move || tcp::echo(steady));
    let over = Arc::new(AtomicBool::new(false));
    let server = std::thread::spawn({
        let over = over.clone();
        move || flap(flapping, &over)
    });
    let config = format!(
        "global\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n \
         timeout server 60s\nlisten stormy\n bind 127.0.0.1:{stormy}\n option redispatch 1\n \
         server flapping 127.0.0.1:{flapping} check inter 100ms fall 1 rise 1\n \
         server steady 127.0.0.1:{steady}\nlisten calm\n bind 127.0.0.1:{calm}\n \
         server steady 127.0.0.1:{steady}\n"
    );
    let file = scratch.path().join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(programs::folder().join("proxy"));
    command.arg("-f").arg(&file);
    let mut proxy = Process::spawn("proxy", command, &scratch.path().join("proxy.log")).unwrap();
    let listens = || TcpStream::connect(("127.0.0.1", calm)).is_ok();
    until_true(Duration::from_secs(10), "the proxy to listen", listens).unwrap();
    let mut others: Vec<TcpStream> = (0..OTHERS).map(|_| ask_first(calm)).collect();

    let address = format!("127.0.0.1:{stormy}");
    let begin = Instant::now();
    let line = tcp::storm(&address, STORM, proxy.pid(), true).unwrap();
    println!("{STORM} connections in {:?}: {line}", begin.elapsed());
    // Some sessions on the flapping server itself go down with it; nobody else may.
    tcp::run(&address.replace(&stormy.to_string(), &calm.to_string()), Mode::Ask, 4, FLAP, &[]).unwrap();
    for stream in &mut others {
        ask(stream);
    }
    over.store(true, Relaxed);
    server.join().unwrap();
    assert!(proxy.is_running(), "{}", proxy.log());
    scratch.passed();
}

fn ask_first(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    ask(&mut stream);
    stream
}

fn ask(stream: &mut TcpStream) {
    stream.write_all(b"still there?").unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
}

/// A server that answers for a while, then is gone with all its connections for a while.
fn flap(port: u16, over: &AtomicBool) {
    while !over.load(Relaxed) {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let begin = Instant::now();
        let mut peers: Vec<TcpStream> = Vec::new();
        while begin.elapsed() < FLAP {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true).unwrap();
                peers.push(stream);
            }
            peers.retain_mut(|stream| {
                let mut question = [0; 256];
                match stream.read(&mut question) {
                    Ok(0) => false,
                    Ok(count) => stream.write_all(&question[..count]).is_ok(),
                    Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
                }
            });
            std::thread::yield_now();
        }
        drop((listener, peers));
        std::thread::sleep(FLAP);
    }
}
