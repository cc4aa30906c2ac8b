//! VRRP (RFC 3768 for version 2, RFC 9568 for version 3): packets and the state machine, without I/O.
//!
//! Nothing here opens a socket or reads a clock. The program hands in packets and the time since it
//! started; [`Instance`] answers with [`Effect`]s on a list that the program carries out in order.
//!
//! ```text
//!              start, faults = 0            master down timer
//!   ┌──────┐ ───────────────────► ┌────────┐ ──────────────► ┌────────┐
//!   │ INIT │                      │ BACKUP │                 │ MASTER │
//!   └──────┘ ──► priority 255 ──┐ └────────┘ ◄────────────── └────────┘
//!      ▲                        │    ▲  │     higher advert      │  │ stop: priority 0,
//!      │                        │    │  │ fault                  │  │ keep the address until
//!      │   fault ┌───────┐      │    │  ▼               fault    │  ▼ the successor speaks
//!      │         │ FAULT │ ◄────┼────┼──────────────────────────┘ ┌───────────┐
//!      │         └───────┘      └────┼──────────────────────────► │ RELEASING │
//!      └──────────────────────────────────────────────────────────└───────────┘
//! ```

pub mod config;
pub mod effect;
#[doc(hidden)]
pub mod fuzz;
pub mod hmac;
pub mod instance;
pub mod ip;
pub mod packet;
pub mod priority;
pub mod script;
pub mod sync_group;
pub mod timers;

pub use config::{Announce, InitialState, InstanceConfig};
pub use effect::{Alarm, Effect, NotifyState, Reason};
pub use instance::{Counters, Heard, Instance, Received, Rejected, State, Tracking};
pub use packet::{Advert, Auth, ChecksumMode, DecodeError, Password, Version};
