//! Our checks beside a real haproxy's: both watch the same servers, which come and go, and must see the
//! same, in the same words, at the same time.
//!
//! Needs `haproxy` (Debian's package; `HAPROXY=/path` names another) and about 20 seconds:
//! `cargo test -p proxy --test beside_haproxy -- --ignored --nocapture`

#![expect(clippy::unwrap_used, reason = "the helpers of a test may end it")]

use std::collections::HashMap;
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Two processes are never started at quite the same time, and the machine may be busy.
const TOLERANCE: Duration = Duration::from_millis(400);

/// What one of the two said about one server, and when.
#[derive(Debug, Clone)]
struct Event {
    at: Duration,
    text: String,
}

struct Balancer {
    child: Child,
    log: UdpSocket,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(program: &str, directory: &std::path::Path, name: &str, servers: &HashMap<&str, u16>) -> Balancer {
    let log = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = directory.join(format!("{name}.cfg"));
    let text = format!(
        "global\n log {} local0\n maxconn 100\ndefaults\n log global\n mode tcp\n option log-health-checks\n \
         timeout connect 1s\n timeout client 9s\n timeout server 9s\nlisten l\n bind 127.0.0.1:{port}\n \
         server A 127.0.0.1:{} check inter 1000 rise 2 fall 3\n \
         server B 127.0.0.1:{} check inter 1000 fastinter 300 downinter 600 rise 3 fall 2\n \
         server C 127.0.0.1:{} check inter 1000 rise 1 fall 1 backup\n",
        log.local_addr().unwrap(),
        servers["A"],
        servers["B"],
        servers["C"],
    );
    std::fs::write(&file, text).unwrap();
    let child = Command::new(program)
        .args(["-db", "-f"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {program}: {error}; install haproxy or set HAPROXY"));
    Balancer { child, log }
}

/// Everything said until `end`, without the times that differ by nature, by server.
fn listen(log: &UdpSocket, base: Instant, end: Instant) -> HashMap<String, Vec<Event>> {
    let mut events: HashMap<String, Vec<Event>> = HashMap::new();
    let mut buffer = [0; 2048];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return events;
        }
        log.set_read_timeout(Some(left)).unwrap();
        let Ok(length) = log.recv(&mut buffer) else { continue };
        let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let Some((_, text)) = line.trim_end().split_once("]: ") else { continue };
        let Some(server) = text.split("l/").nth(1).and_then(|rest| rest.split([' ', '.']).next()) else {
            continue;
        };
        // How long a check took differs by a millisecond now and then.
        let text = match text.split_once(", check duration: ") {
            Some((before, after)) => {
                format!("{before}{}", after.split_once("ms").map_or("", |(_, rest)| rest))
            }
            None => text.to_owned(),
        };
        events.entry(server.to_owned()).or_default().push(Event { at: base.elapsed(), text });
    }
}

#[test]
#[ignore = "needs haproxy from Debian's packages and 20 seconds"]
fn checks_see_the_same_as_haproxys_at_the_same_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut servers = HashMap::new();
    let mut open: HashMap<&str, TcpListener> = HashMap::new();
    for name in ["A", "B", "C"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        servers.insert(name, listener.local_addr().unwrap().port());
        open.insert(name, listener);
    }
    open.remove("C");
    let haproxy = std::env::var("HAPROXY").unwrap_or_else(|_| "haproxy".to_owned());
    let base = Instant::now();
    let ours = start(env!("CARGO_BIN_EXE_proxy"), directory.path(), "ours", &servers);
    let theirs = start(&haproxy, directory.path(), "theirs", &servers);
    let end = base + Duration::from_secs(20);
    let (seen, expected) = std::thread::scope(|scope| {
        let seen = scope.spawn(|| listen(&ours.log, base, end));
        let expected = scope.spawn(|| listen(&theirs.log, base, end));
        // (milliseconds, server, comes up); away from the moments at which checks run.
        let steps = [
            (2750, "A", false),
            (4250, "B", false),
            (5500, "C", true),
            (8750, "A", true),
            (9250, "B", true),
            (12_500, "C", false),
            (14_750, "A", false),
            (16_750, "A", true),
        ];
        for (at, name, up) in steps {
            std::thread::sleep((base + Duration::from_millis(at)).saturating_duration_since(Instant::now()));
            if up {
                open.insert(name, TcpListener::bind(("127.0.0.1", servers[name])).unwrap());
            } else {
                open.remove(name);
            }
        }
        (seen.join().unwrap(), expected.join().unwrap())
    });
    let mut largest = Duration::ZERO;
    for name in ["A", "B", "C"] {
        let (seen, expected) = (&seen[name], &expected[name]);
        let texts = |events: &[Event]| events.iter().map(|event| event.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(seen), texts(expected), "server {name}");
        for (ours, theirs) in seen.iter().zip(expected) {
            let difference = ours.at.abs_diff(theirs.at);
            println!("{name} {:>8.3} {:>8.3}  {}", ours.at.as_secs_f64(), theirs.at.as_secs_f64(), ours.text);
            largest = largest.max(difference);
        }
    }
    println!("largest difference: {largest:?}");
    assert!(largest < TOLERANCE, "{largest:?}");
}
