//! A laboratory of hosts on one machine: [`network`] makes them from network namespaces, [`process`] runs
//! programs in them, [`wait`] waits for what they should do.

pub mod network;
pub mod process;
pub mod wait;

pub use network::Network;
pub use process::Process;
pub use wait::until;
