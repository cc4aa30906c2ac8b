//! Our side of a move of messages: who publishes there, and through which exchange.

use super::Args;
use super::restore::{Left, Way, is_plain, mark};
use crate::ctl::{Asked, encoded};
use crate::tools::connection::{Connection, dial};
use crate::tools::url::Url;
use amqp::content::BasicProperties;
use amqp::method::{basic, exchange, queue};
use daemon::exit::Exit;
use daemon::run::Failure;
use serde_json::{Value, json};

/// How a user begins that is made for the time of a move where none was named. Each move has its own: one that ends does
/// not take away the user of another.
const USER: &str = "broker-migrate-";

/// The connection that messages are published on.
pub(super) struct Arrival {
    /// It.
    pub(super) connection: Connection,
    /// Publishes so far: the number of the last one.
    pub(super) published: u64,
    made: Option<MadeUser>,
    exchange: String,
    bindings: u32,
}

impl Arrival {
    /// Connects to where messages go: the vhost that the address names, or else `vhost`.
    pub(super) fn open(args: &Args, vhost: &str) -> Result<Self, Failure> {
        let (url, made) = match &args.to_amqp {
            Some(text) => (named(text, vhost)?, None),
            None => {
                let (made, url) = MadeUser::make(args.node.as_deref(), vhost)?;
                (url, Some(made))
            }
        };
        let opened = connect(&url, args);
        match opened {
            Ok((connection, exchange)) => Ok(Self { connection, published: 0, made, exchange, bindings: 0 }),
            Err(failure) => {
                // Why it failed matters more than that the user stays, too.
                let _ = made.map(MadeUser::delete);
                Err(failure)
            }
        }
    }

    /// The exchange that messages go through; nothing else is called like it.
    pub(super) fn exchange(&self) -> &str {
        &self.exchange
    }

    /// Prepares a queue; returns what leads to it from the exchange.
    pub(super) fn prepare(&mut self, queue: &str) -> Result<String, Failure> {
        self.bindings += 1;
        let binding = format!("{}/{}", self.exchange, self.bindings);
        let bind =
            queue::Bind { queue, exchange: &self.exchange, routing_key: &binding, ..Default::default() };
        self.connection.call(bind, "queue.bind-ok").map_err(|mut failure| {
            // What a refusal advises in general is not what to do here.
            failure.details.clear();
            let try_this = "broker migrate --from-running URL --apply   makes the queues first";
            failure.detail("try", try_this)
        })?;
        Ok(binding)
    }

    /// Publishes a message of that place.
    pub(super) fn publish(
        &mut self,
        way: &Way<'_>,
        mut properties: BasicProperties,
        left: Left,
        body: &[u8],
    ) {
        self.published += 1;
        let publish = if is_plain(way, &properties, left) {
            basic::Publish { routing_key: way.queue, mandatory: true, ..Default::default() }
        } else {
            mark(way, &mut properties, left);
            basic::Publish {
                exchange: &self.exchange,
                routing_key: way.routing_key,
                mandatory: true,
                ..Default::default()
            }
        };
        self.connection.publish(publish, &properties, body);
    }

    /// Takes away what was made for the move.
    pub(super) fn close(mut self) -> Result<(), Failure> {
        let delete = exchange::Delete { exchange: &self.exchange, ..Default::default() };
        let deleted = self.connection.call(delete, "exchange.delete-ok").map(drop);
        let closed = deleted.and_then(|()| self.connection.close());
        let deleted = self.made.map_or(Ok(()), MadeUser::delete);
        closed.and(deleted)
    }
}

/// Connects, and makes the exchange; both.
fn connect(url: &Url, args: &Args) -> Result<(Connection, String), Failure> {
    let (_, stream) = dial(url)?;
    let mut connection = Connection::over(stream, url, args.cacert.as_deref())?;
    let information = connection.server.get("information").and_then(amqp::FieldValue::as_str);
    if !information.is_some_and(|text| text.starts_with("Warren")) {
        return Err(Failure::new(Exit::Usage, format!("{url} is not one of our brokers"))
            .detail("why", "only ours can make a message what it was: its exchange, its time to live"));
    }
    connection.confirm()?;
    let exchange = format!("broker-migrate-{:08x}", rand::random::<u32>());
    let declare = exchange::Declare { exchange: &exchange, kind: "direct", ..Default::default() };
    connection.call(declare, "exchange.declare-ok")?;
    Ok((connection, exchange))
}

/// The vhost that messages go to, of one of this name there.
pub(super) fn vhost(args: &Args, from: &str) -> Result<String, Failure> {
    match &args.to_amqp {
        Some(text) => Ok(named(text, from)?.vhost),
        None => Ok(from.to_owned()),
    }
}

/// The address that was given.
fn named(text: &str, vhost: &str) -> Result<Url, Failure> {
    let mut url = Url::chosen(Some(text))?;
    if !text.split_once("://").is_some_and(|(_, rest)| rest.contains('/')) {
        url.vhost = vhost.to_owned();
    }
    Ok(url)
}

/// A user of this move on the node that is asked.
struct MadeUser {
    node: Option<String>,
    name: String,
}

impl MadeUser {
    /// Makes it, and finds out where the node listens.
    fn make(node: Option<&str>, vhost: &str) -> Result<(Self, Url), Failure> {
        let mut asked = Asked::connect(node).map_err(|failure| {
            failure.detail("try", "--node http://admin:password@host:15672, or --to-amqp")
        })?;
        let (host, port) = listener(node, &asked.get("/api/overview")?)?;
        let (made, password) = (Self::new(node), format!("{:032x}", rand::random::<u128>()));
        let user = json!({"password": password, "tags": "impersonator"});
        asked.put(&made.path(), &user)?;
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        let path = format!("/api/permissions/{}/{}", encoded(vhost), made.name);
        let user = made.name.clone();
        if let Err(failure) = asked.put(&path, &all) {
            let _ = made.delete();
            let try_this = "broker migrate --from-running URL --apply   makes the vhost first";
            return Err(failure.detail("try", try_this));
        }
        Ok((made, Url { secure: false, host, port, user, password, vhost: vhost.to_owned() }))
    }

    fn new(node: Option<&str>) -> Self {
        Self { node: node.map(str::to_owned), name: format!("{USER}{:08x}", rand::random::<u32>()) }
    }

    fn path(&self) -> String {
        format!("/api/users/{}", self.name)
    }

    /// Takes it away, and no other. A connection for it: a move may take longer than a node keeps an idle one.
    fn delete(self) -> Result<(), Failure> {
        Asked::connect(self.node.as_deref())?.delete(&self.path()).map(drop)
    }
}

/// Where a node listens for AMQP that is asked here.
fn listener(node: Option<&str>, overview: &Value) -> Result<(String, u16), Failure> {
    let plain = overview["listeners"].as_array().into_iter().flatten().find(|it| it["protocol"] == "amqp");
    let listener = plain.ok_or_else(|| {
        Failure::new(Exit::Unavailable, "the node listens for AMQP with TLS only")
            .detail("write", "--to-amqp amqps://user:password@host --cacert FILE")
    })?;
    let address = listener["ip_address"].as_str().unwrap_or_default();
    // An address of the HTTP API says where the node is.
    let remote = node
        .filter(|node| node.contains("://"))
        .and_then(|node| Url::parse(&node.replacen("http", "amqp", 1)));
    let host = match (remote, address) {
        (Some(url), _) => url.host,
        (None, "" | "::" | "0.0.0.0") => "127.0.0.1".to_owned(),
        (None, address) => address.to_owned(),
    };
    let port = listener["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(5672);
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_takes_away_its_own_user_only() {
        let (one, other) = (MadeUser::new(None), MadeUser::new(None));
        assert!(one.name.starts_with(USER) && one.path().ends_with(&one.name), "{}", one.path());
        assert_ne!(one.path(), other.path());
    }
}
