//! A TCP load balancer that reads haproxy.cfg or TOML. The program is `proxy`; it also answers to the
//! name `haproxy`.
//!
//! Reading order: [`session`] tells the story of a connection, [`relay`] moves its bytes, [`backend`]
//! and [`balance`] choose a server, [`check`] decides which servers are well, [`config`] reads the files.

pub mod backend;
pub mod balance;
pub mod carried;
pub mod check;
pub mod check_once;
pub mod cli;
pub mod commands;
pub mod condition;
pub mod config;
pub mod connect;
pub mod content;
pub mod control;
pub mod counters;
pub mod early;
pub mod frontend;
pub mod greeting;
pub mod handover;
pub mod keeper;
pub mod limit;
pub mod listener;
pub mod listener_options;
pub mod local_socket;
pub mod log_format;
pub mod migrate;
pub mod outgoing;
pub mod pace;
pub mod private;
pub mod process;
pub mod program;
pub mod proxy_protocol;
pub mod reactor;
pub mod rebalance;
pub mod registry;
pub mod relay;
pub mod reload;
pub mod resolvers;
pub mod runtime_api;
pub mod sections;
pub mod server;
pub mod server_state;
pub mod session;
pub mod side;
pub mod stats;
pub mod status;
pub mod supervisor;
pub mod syslog;
pub mod tcplog;
pub mod text_table;
pub mod tls;
pub mod upgrade;
pub mod workers;

#[cfg(test)]
#[path = "../../tests/fuzz/mutants.rs"]
mod mutants;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
