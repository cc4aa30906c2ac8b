//! Virtual servers: a director before two real servers, and a client that asks who answers.
//!
//! ```text
//!   client CL .200 ──┬── director L .144, which has the virtual address .66
//!                    ├── real server R1 .151, answers "1"
//!                    └── real server R2 .152, answers "2"
//! ```

use harness::scratch::Scratch;
use harness::{Needs, programs, ready};
use nix::sched::{CloneFlags, setns};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use xtask::lab::{Network, Process, until};
use xtask::stack::{Cast, Maker};

const VIP: &str = "192.168.204.66";
const PORT: u16 = 5672;
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `work` in a thread on a host: the sockets it makes are that host's.
fn on<T: Send + 'static>(
    network: &Network,
    host: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let namespace = std::fs::File::open(format!("/var/run/netns/{}", network.namespace(host))).unwrap();
    std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// Answers every connection, and every octet on it, with its name.
struct RealServer {
    open: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl RealServer {
    fn start(network: &Network, host: &str, port: u16, name: u8) -> Self {
        let open = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&open);
        let (ready, listens) = std::sync::mpsc::channel();
        let listening = on(network, host, move || {
            // Both families, where the host has both.
            let listener =
                TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port))).unwrap();
            listener.set_nonblocking(true).unwrap();
            ready.send(()).unwrap();
            while flag.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => drop(std::thread::spawn(move || answer(stream, name))),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        listens.recv().unwrap();
        Self { open, listening: Some(listening) }
    }

    /// Closes the port; connections go on.
    fn close(&mut self) {
        self.open.store(false, Ordering::Relaxed);
        if let Some(listening) = self.listening.take() {
            listening.join().unwrap();
        }
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.open.store(false, Ordering::Relaxed);
    }
}

/// Answers every datagram to an address with its name, until the test ends.
fn answer_datagrams(network: &Network, host: &str, address: &str, name: u8) {
    let address = address.to_owned();
    let (ready, listens) = std::sync::mpsc::channel();
    on(network, host, move || {
        let socket = UdpSocket::bind(&address).unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&[name], from);
        }
    });
    listens.recv().unwrap();
}

/// Who answers a datagram from a port that was not used before.
fn ask_by_datagram(address: &str) -> std::io::Result<char> {
    let local = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(local)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(address)?;
    socket.send(b"?")?;
    let mut name = [0];
    socket.recv(&mut name)?;
    Ok(char::from(name[0]))
}

fn answer(mut stream: TcpStream, name: u8) {
    stream.set_nonblocking(false).unwrap();
    let mut octet = [0];
    let _ = stream.write_all(&[name]);
    while matches!(stream.read(&mut octet), Ok(1)) {
        if stream.write_all(&[name]).is_err() {
            return;
        }
    }
}

fn connect() -> std::io::Result<(TcpStream, char)> {
    connect_to(&format!("{VIP}:{PORT}"))
}

fn connect_to(address: &str) -> std::io::Result<(TcpStream, char)> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut name = [0];
    stream.read_exact(&mut name)?;
    Ok((stream, char::from(name[0])))
}

/// The director, its real servers, and its client.
struct Director {
    network: Network,
    scratch: Scratch,
    agent: Option<Process>,
    /// More flags for the agent.
    flags: &'static [&'static str],
}

impl Director {
    fn new(name: &str) -> Option<Self> {
        if Cast::from_environment().agent_c == Maker::Theirs || !ready(name, &[Needs::Network]) {
            return None;
        }
        let scratch = Scratch::new(name).unwrap();
        let network = Network::new().unwrap();
        for (host, octet) in [("L", 144), ("CL", 200), ("R1", 151), ("R2", 152)] {
            network.add_host(host, octet).unwrap();
        }
        network.ip("L", &format!("addr add {VIP}/24 dev eth0")).unwrap();
        let director = Self { network, scratch, agent: None, flags: &[] };
        director.shell("L", "echo 1 > /proc/sys/net/ipv4/ip_forward");
        Some(director)
    }

    fn shell(&self, host: &str, script: &str) -> String {
        let output = self.network.command(host, "sh").args(["-c", script]).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.scratch.path().join(name)
    }

    /// Writes the configuration and starts the agent, or has it read it again.
    fn configure(&mut self, config: &str) {
        let file = self.path("keepalived.conf");
        std::fs::write(&file, config).unwrap();
        match &mut self.agent {
            Some(agent) => xtask::lab::process::signal(agent.pid(), nix::sys::signal::Signal::SIGHUP),
            None => {
                let mut command = self.network.command("L", programs::folder().join("vip-agent"));
                command.arg("-f").arg(&file).arg("--runtime-dir").arg(self.path("run")).args(self.flags);
                let log = self.path("log");
                self.agent = Some(Process::spawn("vip-agent", command, &log).unwrap());
            }
        }
    }

    /// Who answers the next connections of the client.
    fn ask(&self, times: usize) -> String {
        let ask = move || (0..times).map(|_| connect().map_or('-', |(_, name)| name)).collect();
        on(&self.network, "CL", ask).join().unwrap()
    }

    /// Asks until the answers are as they should be.
    fn wait_for(&self, what: &str, times: usize, good: impl Fn(&str) -> bool) -> String {
        self.wait_for_answers(what, &|| self.ask(times), good)
    }

    /// The same for a question of its own.
    fn wait_for_answers(&self, what: &str, ask: &dyn Fn() -> String, good: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let found = until(PATIENCE, what, || {
            last = ask();
            good(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|error| {
            let rules = self.rules();
            panic!("{error}: {last}\n{rules}\n{}", self.log())
        })
    }

    /// Who answers four questions of the client, each put in this way.
    fn four(&self, ask: impl Fn() -> std::io::Result<char> + Send + 'static) -> String {
        let four = move || (0..4).map(|_| ask().unwrap_or('-')).collect();
        on(&self.network, "CL", four).join().unwrap()
    }

    /// Gives every host an IPv6 address with its number, and the director the virtual one.
    fn with_ipv6(&self) {
        for (host, octet) in [("L", 144), ("CL", 200), ("R1", 151), ("R2", 152)] {
            self.shell(host, "echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6");
            self.network.ip(host, &format!("addr add fd00::{octet}/64 dev eth0 nodad")).unwrap();
        }
        // Not for what the director itself sends: a real server that has the address would answer itself.
        self.network.ip("L", "addr add fd00::66/128 dev eth0 nodad preferred_lft 0").unwrap();
        self.shell("L", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    }

    fn hold(&self) -> (TcpStream, char) {
        on(&self.network, "CL", || connect().unwrap()).join().unwrap()
    }

    fn log(&self) -> String {
        self.agent.as_ref().map(Process::log).unwrap_or_default()
    }

    fn rules(&self) -> String {
        self.shell("L", "nft list ruleset")
    }

    fn passed(mut self) {
        if let Some(agent) = &mut self.agent {
            agent.stop(PATIENCE);
        }
        let rules = self.rules();
        assert!(!rules.contains("vip_agent"), "a stopped agent leaves no rules: {rules}");
        self.scratch.passed();
    }
}

/// A virtual server with two real servers, each with `body`.
fn config(algorithm: &str, settings: &str, body: &str) -> String {
    let server = |octet: u8| format!("  real_server 192.168.204.{octet} {PORT} {{\n{body}\n  }}\n");
    format!(
        "virtual_server {VIP} {PORT} {{\n  lb_algo {algorithm}\n  lb_kind NAT\n  protocol TCP\n{settings}\n{}{}}}\n",
        server(151),
        server(152)
    )
}

/// A check that sees a change within moments.
const QUICK: &str = "delay_loop 0.1\nwarmup 0\nretry 0\nTCP_CHECK {\nconnect_timeout 1\n}";

fn count(answers: &str, name: char) -> usize {
    answers.chars().filter(|answer| *answer == name).count()
}

#[test]
fn every_algorithm_shares_out_as_it_should() {
    let Some(mut director) = Director::new("vs-algorithms") else { return };
    let _one = RealServer::start(&director.network, "R1", PORT, b'1');
    let _two = RealServer::start(&director.network, "R2", PORT, b'2');
    director.configure(&config("rr", "", ""));
    director.wait_for("turns", 8, |answers| matches!(answers, "12121212" | "21212121"));

    let weighted = config("wrr", "", "").replacen("{\n\n  }", "{\nweight 3\n  }", 1);
    director.configure(&weighted);
    director.wait_for("three to one", 8, |answers| count(answers, '1') == 6 && count(answers, '2') == 2);

    director.configure(&config("sh", "", ""));
    director.wait_for("one server per client", 8, |answers| matches!(answers, "11111111" | "22222222"));

    director.configure(&config("sh", "sh-port", ""));
    director.wait_for("one server per port", 32, |answers| {
        count(answers, '1') + count(answers, '2') == 32 && count(answers, '1') > 0 && count(answers, '2') > 0
    });

    director.configure(&config("random", "", ""));
    director.wait_for("chance", 32, |answers| {
        let uneven = !answers.contains("12121212") && !answers.contains("21212121");
        uneven && count(answers, '1') + count(answers, '2') == 32
    });

    director.configure(&config("rr", "persistence_timeout 300", ""));
    director.wait_for("a client that stays", 8, |answers| matches!(answers, "11111111" | "22222222"));

    director.configure(&config("fo", "", "").replacen("{\n\n  }", "{\nweight 9\n  }", 1));
    director.wait_for("the heaviest server", 8, |answers| answers == "11111111");
    director.passed();
}

#[test]
fn a_failed_server_gets_nobody_new_and_open_connections_stay() {
    let Some(mut director) = Director::new("vs-checks") else { return };
    let mut one = RealServer::start(&director.network, "R1", PORT, b'1');
    let _two = RealServer::start(&director.network, "R2", PORT, b'2');
    director.configure(&config("rr", "", QUICK));
    director.wait_for("both servers", 4, |answers| matches!(answers, "1212" | "2121"));
    let (mut held, _) = loop {
        let (stream, name) = director.hold();
        if name == '1' {
            break (stream, name);
        }
    };
    one.close();
    director.wait_for("only the living server", 6, |answers| answers == "222222");
    held.write_all(b"x").unwrap();
    let mut octet = [0];
    held.read_exact(&mut octet).unwrap();
    assert_eq!(octet, *b"1", "the connection to the failed server goes on");
    let _one = RealServer::start(&director.network, "R1", PORT, b'1');
    director.wait_for("both servers again", 4, |answers| matches!(answers, "1212" | "2121"));
    held.write_all(b"x").unwrap();
    held.read_exact(&mut octet).unwrap();
    director.passed();
}

#[test]
fn the_sorry_server_answers_without_a_quorum_and_the_scripts_are_told() {
    let Some(mut director) = Director::new("vs-sorry") else { return };
    let mut one = RealServer::start(&director.network, "R1", PORT, b'1');
    let mut two = RealServer::start(&director.network, "R2", PORT, b'2');
    let _sorry = RealServer::start(&director.network, "R2", 5999, b'S');
    let told = director.path("told");
    let script = |word: &str| format!("\"/bin/sh -c 'echo {word} >> {}'\"", told.display());
    let settings = format!(
        "quorum 1\nquorum_up {}\nquorum_down {}\nsorry_server 192.168.204.152 5999",
        script("up"),
        script("down")
    );
    let body = format!("notify_down {}\n{QUICK}", script("server"));
    director.configure(&config("rr", &settings, &body));
    director.wait_for("both servers", 4, |answers| matches!(answers, "1212" | "2121"));
    one.close();
    two.close();
    director.wait_for("the sorry server", 4, |answers| answers == "SSSS");
    let _one = RealServer::start(&director.network, "R1", PORT, b'1');
    director.wait_for("the server that came back", 4, |answers| answers == "1111");
    let expected = "up\nserver\nserver\ndown\nup\n";
    let heard = || std::fs::read_to_string(&told).ok().filter(|text| text == expected);
    until(PATIENCE, "the scripts", heard)
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::fs::read_to_string(&told)));
    director.passed();
}

#[test]
fn pages_and_programs_decide_too() {
    let Some(mut director) = Director::new("vs-pages") else { return };
    let _one = RealServer::start(&director.network, "R1", PORT, b'1');
    let _two = RealServer::start(&director.network, "R2", PORT, b'2');
    let mark = director.path("weight");
    std::fs::write(&mark, "0").unwrap();
    let misc = format!(
        "delay_loop 0.1\nwarmup 0\nMISC_CHECK {{\nmisc_path \"/bin/sh -c 'exit $(cat {})'\"\nmisc_dynamic\n}}",
        mark.display()
    );
    let one_only = config("wrr", "", "").replacen("{\n\n  }", &format!("{{\n{misc}\n  }}"), 1);
    director.configure(&one_only);
    director.wait_for("both servers", 4, |answers| matches!(answers, "1212" | "2121"));
    std::fs::write(&mark, "5").unwrap();
    director.wait_for("weight 3 to 1", 8, |answers| count(answers, '1') == 6);
    std::fs::write(&mark, "2").unwrap();
    director.wait_for("weight 0", 4, |answers| answers == "2222");
    std::fs::write(&mark, "1").unwrap();
    director.wait_for("a failed server", 4, |answers| answers == "2222");
    // The real servers speak no HTTP.
    let page = "delay_loop 0.1\nwarmup 0\nretry 0\nHTTP_GET {\nurl {\npath /\nstatus_code 200\n}\nconnect_timeout 1\n}";
    director.configure(&config("rr", "", page));
    director.wait_for("a refusal by everybody", 4, |answers| answers == "----");
    director.passed();
}

#[test]
fn direct_routing_leaves_the_packet_as_it_is() {
    let Some(mut director) = Director::new("vs-dr") else { return };
    for host in ["R1", "R2"] {
        // As every real server of DR: it has the address and does not say so.
        director.shell(host, "echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore");
        director.shell(host, "echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce");
        director.network.ip(host, &format!("addr add {VIP}/32 dev lo")).unwrap();
    }
    let _one = RealServer::start(&director.network, "R1", PORT, b'1');
    let mut two = RealServer::start(&director.network, "R2", PORT, b'2');
    director.configure(&config("rr", "", QUICK).replace("NAT", "DR"));
    director.wait_for("turns", 8, |answers| matches!(answers, "12121212" | "21212121"));
    let (mut held, name) = director.hold();
    two.close();
    director.wait_for("only the living server", 4, |answers| answers == "1111");
    if name == '1' {
        held.write_all(b"x").unwrap();
        held.read_exact(&mut [0]).unwrap();
    }
    director.passed();
}

#[test]
fn rules_that_a_crash_left_go_with_the_next_start() {
    let Some(mut director) = Director::new("vs-crash") else { return };
    let _one = RealServer::start(&director.network, "R1", PORT, b'1');
    let _two = RealServer::start(&director.network, "R2", PORT, b'2');
    director.configure(&config("rr", "", ""));
    director.wait_for("both servers", 4, |answers| matches!(answers, "1212" | "2121"));
    let mut agent = director.agent.take().unwrap();
    agent.kill();
    assert!(director.rules().contains("vip_agent"), "a killed agent cannot take its rules along");
    // Nothing of virtual servers in it.
    director.configure("global_defs {\n  router_id L\n}\n");
    until(PATIENCE, "the sweep", || (!director.rules().contains("vip_agent")).then_some(())).unwrap();
    // Somebody else flushes the kernel's tables.
    director.configure(&config("rr", "", ""));
    director.wait_for("both servers", 4, |answers| matches!(answers, "1212" | "2121"));
    director.shell("L", "nft flush ruleset");
    director.wait_for("both servers again", 4, |answers| matches!(answers, "1212" | "2121"));
    director.passed();
}

#[test]
fn the_kernel_takes_the_rules_of_every_kind() {
    let Some(mut director) = Director::new("vs-kinds") else { return };
    director.shell("L", "echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6");
    director.network.ip("L", "addr add fd00::144/64 dev eth0 nodad").unwrap();
    let mut config = String::from(
        "virtual_server_group many {\n192.168.204.70-79 80\n192.168.204.80/29 81\nfwmark 7\n}\n\
         virtual_server group many {\nlb_algo wrr\nlb_kind NAT\nprotocol TCP\nmasquerade always\npersistence_timeout 60\n\
         persistence_granularity 255.255.255.0\nreal_server 192.168.204.151 0 {\nweight 3\n}\n\
         real_server 192.168.204.152 8080 {\n}\n}\n",
    );
    for (number, (protocol, algorithm)) in
        [("TCP", "rr"), ("UDP", "sh"), ("SCTP", "random"), ("UDP", "fo")].into_iter().enumerate()
    {
        for (address, first, second, kind) in [
            ("192.168.204.66", "192.168.204.151", "192.168.204.152", "NAT"),
            ("fd00::66", "fd00::151", "fd00::152", "NAT"),
            ("192.168.204.67", "192.168.204.151", "192.168.204.144", "DR"),
            ("fd00::67", "fd00::151", "fd00::144", "DR"),
        ] {
            let port = 1000 + number;
            config += &format!(
                "virtual_server {address} {port} {{\nlb_algo {algorithm}\nlb_kind {kind}\nsh-port\n\
                 protocol {protocol}\npersistence_timeout 30\n\
                 real_server {first} {port} {{\n}}\nreal_server {second} {port} {{\n}}\n}}\n"
            );
        }
    }
    // Nobody left: a refusal.
    config += "virtual_server 192.168.204.66 9 {\nlb_algo rr\nprotocol UDP\n}\n";
    director.configure(&config);
    let whole = || {
        let rules = director.rules();
        ["table ip vip_agent", "table ip6 vip_agent", "table netdev vip_agent"]
            .iter()
            .all(|table| rules.contains(table))
            .then_some(rules)
    };
    let rules =
        until(PATIENCE, "every table", whole).unwrap_or_else(|error| panic!("{error}: {}", director.log()));
    for text in [
        "ip daddr 192.168.204.70-192.168.204.79 tcp dport 80 goto",
        "meta mark 0x00000007 meta l4proto tcp goto",
        "fwd ip6 to fd00::151 device \"eth0\"",
        "dnat to [fd00::151]:1000",
        "jhash ip6 saddr . udp sport",
        "reject",
        "masquerade",
    ] {
        assert!(rules.contains(text), "{text}\n{rules}");
    }
    assert!(!director.log().contains("not served as they should"), "{}", director.log());
    // A second reading changes nothing; a smaller file takes the rest away.
    director.configure("virtual_server 192.168.204.66 9 {\nlb_algo rr\nprotocol UDP\n}\n");
    let less = || {
        let rules = director.rules();
        (!rules.contains("netdev") && !rules.contains("ip6") && rules.contains("reject")).then_some(())
    };
    until(PATIENCE, "the rest", less)
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", director.rules(), director.log()));
    director.passed();
}

#[test]
fn ipv6_is_shared_out_too() {
    let Some(mut director) = Director::new("vs-ipv6") else { return };
    director.with_ipv6();
    let _one = RealServer::start(&director.network, "R1", PORT, b'1');
    let mut two = RealServer::start(&director.network, "R2", PORT, b'2');
    director.configure(&ipv6_config("NAT"));
    let ask = || director.four(|| connect_to(&format!("[fd00::66]:{PORT}")).map(|(_, name)| name));
    director.wait_for_answers("turns", &ask, |answers| matches!(answers, "1212" | "2121"));
    two.close();
    director.wait_for_answers("only the living server", &ask, |answers| answers == "1111");
    director.passed();
}

/// A virtual server of IPv6 over TCP.
fn ipv6_config(kind: &str) -> String {
    let server = |octet: u8| format!("real_server fd00::{octet} {PORT} {{\n{QUICK}\n}}\n");
    format!(
        "virtual_server fd00::66 {PORT} {{\nlb_algo rr\nlb_kind {kind}\nprotocol TCP\n{}{}}}\n",
        server(151),
        server(152)
    )
}

#[test]
fn direct_routing_of_ipv6_leaves_the_packet_as_it_is() {
    let Some(mut director) = Director::new("vs-ipv6-dr") else { return };
    director.with_ipv6();
    for host in ["R1", "R2"] {
        // On the loopback interface nobody is told that it is there.
        director.network.ip(host, "addr add fd00::66/128 dev lo nodad").unwrap();
    }
    let _one = RealServer::start(&director.network, "R1", PORT, b'1');
    let mut two = RealServer::start(&director.network, "R2", PORT, b'2');
    director.configure(&ipv6_config("DR"));
    let ask = || director.four(|| connect_to(&format!("[fd00::66]:{PORT}")).map(|(_, name)| name));
    director.wait_for_answers("turns", &ask, |answers| matches!(answers, "1212" | "2121"));
    let held = || connect_to(&format!("[fd00::66]:{PORT}")).unwrap();
    let (mut held, name) = on(&director.network, "CL", held).join().unwrap();
    two.close();
    director.wait_for_answers("only the living server", &ask, |answers| answers == "1111");
    // The connection stays with its server, whoever may be asked by new ones.
    held.write_all(b"x").unwrap();
    let mut again = [0];
    held.read_exact(&mut again).unwrap();
    assert_eq!(char::from(again[0]), name);
    director.passed();
}

#[test]
fn datagrams_are_shared_out_by_nat_and_by_direct_routing() {
    let Some(mut director) = Director::new("vs-udp") else { return };
    director.with_ipv6();
    for host in ["R1", "R2"] {
        director.shell(host, "echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore");
        director.shell(host, "echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce");
        director.network.ip(host, "addr add 192.168.204.67/32 dev lo").unwrap();
    }
    director.network.ip("L", "addr add 192.168.204.67/24 dev eth0").unwrap();
    for (host, octet, name) in [("R1", 151, b'1'), ("R2", 152, b'2')] {
        answer_datagrams(&director.network, host, &format!("192.168.204.{octet}:53"), name);
        answer_datagrams(&director.network, host, &format!("[fd00::{octet}]:53"), name);
        // With direct routing a server answers from the virtual address.
        answer_datagrams(&director.network, host, "192.168.204.67:53", name);
    }
    let block = |vip: &str, kind: &str, algorithm: &str, [one, two]: [&str; 2]| {
        format!(
            "virtual_server {vip} 53 {{\nlb_algo {algorithm}\nlb_kind {kind}\nprotocol UDP\n\
             real_server {one} 53 {{\n}}\nreal_server {two} 53 {{\n}}\n}}\n"
        )
    };
    let four = ["192.168.204.151", "192.168.204.152"];
    let config = |algorithm: &str| {
        block(VIP, "NAT", algorithm, four)
            + &block("fd00::66", "NAT", algorithm, ["fd00::151", "fd00::152"])
            + &block("192.168.204.67", "DR", algorithm, four)
    };
    director.configure(&config("rr"));
    for address in ["192.168.204.66:53", "[fd00::66]:53", "192.168.204.67:53"] {
        let ask = || director.four(move || ask_by_datagram(address));
        director.wait_for_answers(address, &ask, |answers| matches!(answers, "1212" | "2121"));
    }
    // By source address: one server for this client.
    director.configure(&config("sh"));
    for address in ["192.168.204.66:53", "[fd00::66]:53", "192.168.204.67:53"] {
        let ask = || director.four(move || ask_by_datagram(address));
        director.wait_for_answers(address, &ask, |answers| matches!(answers, "1111" | "2222"));
    }
    director.passed();
}

#[test]
fn keepaliveds_flags_leave_rules_alone_or_make_none() {
    let Some(mut director) = Director::new("vs-flags") else { return };
    let _one = RealServer::start(&director.network, "R1", PORT, b'1');
    let _two = RealServer::start(&director.network, "R2", PORT, b'2');
    director.flags = &["-I"];
    director.configure(&config("rr", "", ""));
    director.wait_for("both servers", 4, |answers| matches!(answers, "1212" | "2121"));
    director.agent.take().unwrap().stop(PATIENCE);
    assert!(director.rules().contains("vip_agent"), "-I leaves the rules: {}", director.rules());
    assert!(matches!(director.ask(4).as_str(), "1212" | "2121"));
    director.flags = &["-P"];
    director.configure(&config("rr", "", ""));
    until(PATIENCE, "the sweep", || (!director.rules().contains("vip_agent")).then_some(())).unwrap();
    let started = || director.log().matches("started").count().ge(&2).then_some(());
    until(PATIENCE, "the start", started).unwrap_or_else(|error| panic!("{error}: {}", director.log()));
    assert_eq!(director.ask(2), "--", "-P is only VRRP");
    director.passed();
}
