//! Everyday tools: publish, consume, measure, watch, check. They are ordinary clients, also of RabbitMQ.

pub(crate) mod bench;
pub(crate) mod ca;
mod connection;
pub(crate) mod consume;
pub(crate) mod doctor;
pub(crate) mod manual;
pub(crate) mod migrate;
pub(crate) mod publish;
pub(crate) mod top;
mod url;

use daemon::exit::Exit;
use daemon::run::Failure;
use std::io::Write;

/// Which broker.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Place {
    /// Broker, such as amqp://user:password@host:5672/vhost; AMQP_URL, or the one on this machine, unless given
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Certificates to trust, for amqps
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<std::path::PathBuf>,
}

/// Writes a line of the result; whoever closed it has had enough.
fn line(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| Failure::new(Exit::Io, error.to_string()))
}
