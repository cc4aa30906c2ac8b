//! `broker doctor`: goes the way of a client step by step, and says at each what to do when it ends there.

use super::connection::{Connection, dial};
use super::line;
use super::url::Url;
use amqp::Method;
use amqp::content::BasicProperties;
use amqp::method::{basic, queue};
use amqp::table::FieldValue;
use daemon::exit::Exit;
use daemon::run::Failure;
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

/// How long a message may be under way.
const UNDERWAY: Duration = Duration::from_secs(10);

/// `broker doctor`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Broker, such as amqp://user:password@host:5672/vhost
    #[arg(value_name = "URL")]
    address: Option<String>,
    /// Certificates to trust, for amqps
    #[arg(long, value_name = "FILE")]
    cacert: Option<std::path::PathBuf>,
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
    connection.close()
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
