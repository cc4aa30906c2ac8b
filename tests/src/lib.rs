//! The harness of the end-to-end tests: official clients, the account of their messages, a folder and the
//! programs for each test.
//!
//! Hosts and processes come from [`xtask::lab`], the stack from [`xtask::stack`]: `cargo xtask up` and the
//! tests run the same thing.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "measured outages are part of the output")]

pub mod account;
pub mod api;
pub mod chaos;
pub mod clients;
pub mod cluster;
pub mod document;
pub mod load;
pub mod node;
pub mod pair;
pub mod programs;
pub mod rivals;
pub mod scratch;
pub mod shared;
pub mod small_disk;
pub mod transcript;
pub mod wire;
pub mod world;

use std::io::Write as _;
use xtask::install::{self, Need};
use xtask::lab::{network, process};
use xtask::libraries::{self, Library};
use xtask::stack::{Cast, Maker};

/// What a test cannot do without.
#[derive(Debug, Clone, Copy)]
pub enum Needs {
    /// Network namespaces: root, or root in a user namespace.
    Network,
    /// These programs.
    Programs(&'static [Need]),
    /// The Python client.
    Python,
    /// A client library and its program.
    Library(Library),
    /// Chromium, and Playwright to drive it.
    Browser,
    /// A bare Debian to install packages in, and what makes packages.
    Debian,
    /// The Rust client of the HTTP API.
    HttpClient,
}

/// Whether RabbitMQ plays the broker; otherwise ours does.
#[must_use]
pub fn against_rabbitmq() -> bool {
    Cast::from_environment().broker == Maker::Theirs
}

/// haproxy and keepalived.
pub const PEERS: Needs = Needs::Programs(install::PEERS);

/// Whether a test can run here. If not, it says so, and notes it in the file named by `WARREN_SKIPS`, from
/// which `cargo xtask test` makes its summary.
///
/// # Panics
/// With `WARREN_NO_SKIP` set, as in CI, where a test that cannot run is a failure.
#[must_use]
pub fn ready(test: &str, needs: &[Needs]) -> bool {
    let Some(reason) = needs.iter().find_map(|need| lacking(*need)) else { return true };
    assert!(std::env::var_os("WARREN_NO_SKIP").is_none(), "nothing may be skipped here, but: {reason}");
    println!("SKIPPED: {test}: {reason}");
    if let Some(path) = std::env::var_os("WARREN_SKIPS") {
        let line = format!("{test}: {reason}\n");
        let noted = process::append(path.as_ref()).and_then(|mut file| Ok(file.write_all(line.as_bytes())?));
        noted.expect("the file named by WARREN_SKIPS can be written");
    }
    false
}

fn lacking(need: Needs) -> Option<String> {
    match need {
        Needs::Network => match install::packages(install::NETWORK) {
            Ok(()) => network::may().err(),
            Err(error) => Some(format!("{error:#}")),
        },
        Needs::Programs(list) => install::packages(list).err().map(|error| format!("{error:#}")),
        Needs::Library(library) => library.program().err().map(|error| format!("{error:#}")),
        Needs::HttpClient => libraries::http_client().err().map(|error| format!("{error:#}")),
        Needs::Browser => libraries::browser("pages.js").err().map(|error| format!("{error:#}")),
        Needs::Debian => {
            let made = install::cargo_deb().and_then(|()| install::debian_root());
            made.err().map(|error| format!("{error:#}"))
        }
        Needs::Python => install::python().err().map(|error| format!("{error:#}")),
    }
}
