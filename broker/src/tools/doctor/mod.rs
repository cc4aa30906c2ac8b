//! `broker doctor`: goes the way of a client step by step, and says at each what to do when it ends there. Then it looks
//! at what lies on the way and behind it: balancers, nodes, mirrors.

mod balancer;
mod deployment;
mod drill;
mod finding;

use super::connection::{Connection, dial};
use super::line;
use super::url::Url;
use crate::ctl::{Asked, encoded};
use amqp::Method;
use amqp::content::BasicProperties;
use amqp::method::{basic, queue};
use amqp::table::FieldValue;
use daemon::exit::Exit;
use daemon::run::Failure;
use finding::{Finding, Level};
use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long a message may be under way.
const UNDERWAY: Duration = Duration::from_secs(10);
/// How long it may take to connect to an API that was not named.
const GLANCE: Duration = Duration::from_secs(2);
/// Connections that are made to see who answers.
const SPREAD: usize = 6;

/// `broker doctor`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Broker, such as amqp://user:password@host:5672/vhost
    #[arg(value_name = "URL")]
    address: Option<String>,
    /// Certificates to trust, for amqps
    #[arg(long, value_name = "FILE")]
    cacert: Option<std::path::PathBuf>,
    /// HTTP API of a broker, such as http://admin:password@host:15672; unless given, the node of this host is asked, or
    /// the API behind the address
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    /// Page of statistics of a balancer, such as http://host:8100/monitor; may be repeated
    #[arg(long, value_name = "URL")]
    monitor: Vec<String>,
    /// Stay connected and say nothing for as long as a heartbeat takes: does a balancer cut idle clients off?
    #[arg(long)]
    idle: bool,
    /// Publish through the address for a while as you stop something, or as this command does, such as
    /// 'ssh C systemctl restart warren-vip-agent'; tells the longest time without a confirm
    #[arg(long, value_name = "COMMAND", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    drill: Option<String>,
    /// How long the drill takes
    #[arg(long, value_name = "N", default_value_t = 30, requires = "drill")]
    #[arg(value_parser = clap::value_parser!(u64).range(3..=3600))]
    seconds: u64,
}

fn passed(step: &str, what: &str) -> Result<(), Failure> {
    line(&format!("PASS {step:<24} {what}"))
}

fn warned(step: &str, what: &str, fix: &str) -> Result<(), Failure> {
    line(&format!("WARN {step:<24} {what}\n     fix: {fix}"))
}

fn failed(step: &str, failure: Failure, fix: &str) -> Result<Failure, Failure> {
    line(&format!("FAIL {step:<24} {}\n     fix: {fix}", failure.message))?;
    Ok(Failure::new(failure.exit, format!("{step} failed")))
}

/// Looks.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let url = Url::chosen(args.address.as_deref())?;
    let place = (url.host.as_str(), url.port);
    match place.to_socket_addrs() {
        Ok(found) => {
            let found: Vec<String> = found.map(|address| address.ip().to_string()).collect();
            passed("dns", &format!("{} is {}", url.host, found.join(", ")))?;
        }
        Err(error) => {
            let failure = Failure::new(Exit::Unavailable, format!("{}: {error}", url.host));
            return Err(failed("dns", failure, "correct the name, or /etc/hosts, or the resolver")?);
        }
    }
    let began = Instant::now();
    let (address, stream) = match dial(&url) {
        Ok(found) => found,
        Err(failure) => {
            let fix = "is the broker running, does it listen on this address (broker ctl listeners), does a firewall let it through?";
            return Err(failed("tcp", failure, fix)?);
        }
    };
    passed("tcp", &format!("{address} in {:.1} ms", milliseconds(began)))?;
    let began = Instant::now();
    let mut connection = match Connection::over(stream, &url, args.cacert.as_deref()) {
        Ok(connection) => connection,
        Err(failure) => {
            let fix = explain(&failure.message, &url);
            return Err(failed("amqp handshake, login", failure, fix)?);
        }
    };
    let said =
        |name: &str| connection.server.get(name).and_then(FieldValue::as_str).unwrap_or("-").to_owned();
    let server = format!("{} {}, cluster {}", said("product"), said("version"), said("cluster_name"));
    passed(
        "amqp handshake, login",
        &format!("{server}, as {} on vhost {} in {:.1} ms", url.user, url.vhost, milliseconds(began)),
    )?;
    match round_trip(&mut connection) {
        Ok(took) => passed("round trip", &format!("publish, confirm, consume in {took:.1} ms"))?,
        Err(failure) => {
            if let Some(reason) = connection.blocked.take() {
                let fix = "broker ctl status says what is short; consumers go on meanwhile";
                let failure = Failure::new(Exit::TempFail, format!("publishers are held back: {reason}"));
                return Err(failed("round trip", failure, fix)?);
            }
            let fix = format!(
                "broker ctl set_permissions -p {} {} '.*' '.*' '.*'   if the user may not do this",
                url.vhost, url.user
            );
            return Err(failed("round trip", failure, &fix)?);
        }
    }
    deployment(args, &url, &connection)?;
    if args.idle {
        idle(&mut connection)?;
    }
    if !url.secure && !address.ip().is_loopback() {
        warned(
            "encryption",
            "the password and the messages cross the network in clear",
            "[amqp.tls] in broker.toml, and amqps:// here",
        )?;
    }
    if url.user == "guest" && url.password == "guest" && !address.ip().is_loopback() {
        warned("password", "guest/guest works from this host", "broker ctl change_password guest")?;
    }
    connection.close()?;
    let Some(command) = &args.drill else {
        let text = "not run: --drill measures the outage while you stop something";
        return line(&Finding::note("failover drill", text, "").to_string());
    };
    let finding = drill::drill(&url, args.cacert.as_deref(), command, Duration::from_secs(args.seconds))?;
    line(&finding.to_string())?;
    match finding.level {
        Level::Fail => Err(Failure::new(Exit::Unavailable, "the drill failed")),
        _ => Ok(()),
    }
}

/// Looks at balancers and brokers; something that does not work ends the program with an error.
fn deployment(args: &Args, url: &Url, connection: &Connection) -> Result<(), Failure> {
    let mut found = balancer::look(&args.monitor, &url.host);
    let cluster = connection.server.get("cluster_name").and_then(FieldValue::as_str).unwrap_or_default();
    match api(args, url, cluster) {
        Ok(mut asked) => {
            found.extend(spread(args, url, &mut asked));
            found.extend(deployment::look(&mut asked));
        }
        Err(finding) => found.push(finding),
    }
    for finding in &found {
        line(&finding.to_string())?;
    }
    match found.iter().filter(|finding| finding.level == Level::Fail).count() {
        0 => Ok(()),
        count => Err(Failure::new(
            Exit::Unavailable,
            format!("{count} of what is behind the address does not work"),
        )),
    }
}

/// The API that was named; or that of this host's node, if it is of the same cluster; or that behind the address.
fn api(args: &Args, url: &Url, cluster: &str) -> Result<Asked, Finding> {
    let fix =
        "--api http://USER:PASSWORD@BROKER:15672, with a user that has the tag monitoring or administrator";
    if let Some(named) = &args.api {
        let asked = Asked::connect(Some(named))
            .and_then(|mut asked| asked.get("/api/overview").map(|overview| (asked, overview)));
        let (asked, overview) = asked.map_err(|failure| Finding::fail("api", failure.message, fix))?;
        let other = overview["cluster_name"].as_str().unwrap_or_default();
        if other != cluster {
            let text = format!(
                "nodes, mirrors, alarms not looked at: --api answers for cluster {other}, the address leads to cluster {cluster}"
            );
            let fix = "--api of a broker behind the address; where it is one, the same cluster_name on all of its nodes";
            return Err(Finding::warn("api", text, fix));
        }
        return Ok(asked);
    }
    let same = |mut asked: Asked| -> Option<Asked> {
        let overview = asked.get("/api/overview").ok()?;
        (overview["cluster_name"] == cluster).then_some(asked)
    };
    if let Some(asked) = Asked::connect(None).ok().and_then(same) {
        return Ok(asked);
    }
    if url.secure {
        // Nobody who encrypts wants the password sent in clear to whoever listens there.
        let text = "not looked at: the API behind an encrypted address is asked only where --api names it";
        return Err(Finding::note("nodes, mirrors, alarms", text, fix));
    }
    let there = (url.host.as_str(), 15672).to_socket_addrs().ok();
    let answers = there.is_some_and(|mut all| all.any(|it| TcpStream::connect_timeout(&it, GLANCE).is_ok()));
    let address = format!("http://{}:{}@{}:15672", encoded(&url.user), encoded(&url.password), url.host);
    let asked = answers.then(|| Asked::connect(Some(&address)).ok()).flatten();
    asked.and_then(same).ok_or_else(|| {
        Finding::note("nodes, mirrors, alarms", "not looked at: no HTTP API that this user may ask", fix)
    })
}

/// Makes some connections, and asks at which nodes they are.
fn spread(args: &Args, url: &Url, asked: &mut Asked) -> Option<Finding> {
    let connect = || {
        let (_, stream) = dial(url)?;
        Connection::over(stream, url, args.cacert.as_deref())
    };
    let mut connections = Vec::new();
    for number in 1..=SPREAD {
        match connect() {
            Ok(connection) => connections.push(connection),
            Err(failure) => {
                let text = format!("connection {number} of {SPREAD} failed: {}", failure.message);
                let fix =
                    "one of the brokers or balancers behind the address does not answer as the others do";
                return Some(Finding::fail("spread", text, fix));
            }
        }
    }
    let listed = asked.get("/api/connections?columns=node,client_properties").ok()?;
    let ours = |it: &&serde_json::Value| {
        let name = it["client_properties"]["connection_name"].as_str();
        connections.iter().any(|connection| name == Some(&connection.name))
    };
    let mut nodes: BTreeMap<&str, usize> = BTreeMap::new();
    for connection in listed.as_array().into_iter().flatten().filter(ours) {
        *nodes.entry(connection["node"].as_str().unwrap_or_default()).or_default() += 1;
    }
    let told: Vec<String> = nodes.iter().map(|(node, count)| format!("{node} {count}")).collect();
    for connection in connections {
        // It served its purpose.
        let _ = connection.close();
    }
    (!nodes.is_empty()).then(|| Finding::pass("spread", format!("{SPREAD} connections: {}", told.join(", "))))
}

/// Says nothing but heartbeats for as long as one takes, as a consumer does that gets no messages.
fn idle(connection: &mut Connection) -> Result<(), Failure> {
    let heartbeat = connection.heartbeat();
    if heartbeat.is_zero() {
        return line(&Finding::note("idle", "the broker asks for no heartbeats", "").to_string());
    }
    let began = Instant::now();
    // Other clients send a heartbeat half as often as they promise, which is less often than we do.
    connection.beat_every(heartbeat / 2);
    while began.elapsed() < heartbeat {
        if let Err(failure) = connection.next(Duration::from_secs(1)) {
            let after = began.elapsed().as_secs();
            let failure = Failure::new(
                failure.exit,
                format!("cut off after {after} s of silence: {}", failure.message),
            );
            let fix = "timeout client and timeout server of the balancer longer than the heartbeat, or idle = \"1h\"";
            return Err(failed("idle", failure, fix)?);
        }
    }
    passed("idle", &format!("heartbeat {} s, still connected after as long", heartbeat.as_secs()))
}

fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1000.0
}

fn explain(message: &str, url: &Url) -> &'static str {
    match () {
        () if message.contains("403") && url.user == "guest" => {
            "guest may log in from the broker's own host only: broker ctl add_user NAME --generate --admin"
        }
        () if message.contains("403") => {
            "broker ctl authenticate_user NAME PASSWORD   on the broker's host says whether it is right"
        }
        () if message.contains("530") => {
            "broker ctl list_vhosts; broker ctl set_permissions -p VHOST USER '.*' '.*' '.*'"
        }
        () if message.contains("certificate") || message.contains("UnknownIssuer") => {
            "--cacert FILE names the certificate to trust"
        }
        () if message.contains("hung up") => {
            "a balancer hangs up at once while none of its servers is up: proxy check. Or it is no AMQP port: 15672 is the HTTP API"
        }
        () => "is it an AMQP port? 15672 is the HTTP API, 5671 needs amqps://",
    }
}

/// A message to a queue of our own and back.
fn round_trip(connection: &mut Connection) -> Result<f64, Failure> {
    let declare = queue::Declare { exclusive: true, auto_delete: true, ..Default::default() };
    let (name, _) = connection.declare(declare)?;
    connection.confirm()?;
    connection
        .call(basic::Consume { queue: &name, no_ack: true, ..Default::default() }, "basic.consume-ok")?;
    let began = Instant::now();
    let properties = BasicProperties { delivery_mode: Some(2), ..Default::default() };
    let publish = basic::Publish { routing_key: &name, mandatory: true, ..Default::default() };
    connection.publish(publish, &properties, b"broker doctor");
    let (mut confirmed, mut delivered) = (false, false);
    while !(confirmed && delivered) {
        let left = UNDERWAY.saturating_sub(began.elapsed());
        let Some(event) = connection.next(left)? else {
            let missing = if confirmed { "the delivery" } else { "the confirm" };
            return Err(Failure::new(Exit::TempFail, format!("{missing} did not come within {UNDERWAY:?}")));
        };
        match event.method()? {
            Method::BasicAck(_) => confirmed = true,
            Method::BasicDeliver(_) => delivered = true,
            Method::BasicNack(_) | Method::BasicReturn(_) => {
                return Err(Failure::new(Exit::Unavailable, "the broker did not keep the message"));
            }
            _ => {}
        }
    }
    Ok(milliseconds(began))
}
