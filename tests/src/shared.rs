//! One broker for all tests of a binary, with its HTTP API: ours or RabbitMQ.
//!
//! It is started by the first test that asks and ends with the process: a thread that never ends owns it,
//! because what this process starts dies with the thread that started it.

use crate::api::Api;
use crate::node::{Node, Setup};
use crate::wire::{Client, Login};
use std::path::PathBuf;
use std::sync::{OnceLock, mpsc};

/// The broker that is shared.
#[derive(Debug)]
pub struct Shared {
    /// Its AMQP port on 127.0.0.1.
    pub port: u16,
    /// The port of its HTTP API.
    pub management_port: u16,
    /// Its HTTP API, as guest.
    pub api: Api,
    /// Its process id.
    pub pid: u32,
}

impl Shared {
    /// The broker of this test binary, with its data in `target/e2e/NAME`.
    ///
    /// # Panics
    /// It does not start.
    pub fn node(name: &'static str) -> &'static Self {
        static SHARED: OnceLock<Shared> = OnceLock::new();
        SHARED.get_or_init(|| {
            let (sender, started) = mpsc::channel();
            std::thread::spawn(move || {
                let folder: PathBuf = xtask::target().join("e2e").join(name);
                let _ = std::fs::remove_dir_all(&folder);
                let node = std::fs::create_dir_all(&folder)
                    .map_err(anyhow::Error::from)
                    .and_then(|()| Node::start_with(&folder, &Setup::managed()));
                let told = node.as_ref().map(|node| (node.port, node.management_port, node.process.pid()));
                let _ = sender.send(told.map_err(|error| format!("{error:#}")));
                loop {
                    std::thread::park();
                }
            });
            let told = started.recv().expect("the thread that owns the broker");
            let (port, management, pid) = told.unwrap_or_else(|error| panic!("{error}"));
            Shared { port, management_port: management, api: Api::new(management), pid }
        })
    }

    /// Its AMQP address for the default user.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2F", self.port)
    }

    /// A client that is logged in as guest, with channel 1 open.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.port)
    }

    /// A client that is logged in as said, with channel 1 open.
    #[must_use]
    pub fn client_with(&self, login: &Login<'_>) -> Client {
        Client::with(self.port, login)
    }

    /// A client that is connected and has said nothing.
    #[must_use]
    pub fn stranger(&self) -> Client {
        Client::connect(self.port)
    }
}
