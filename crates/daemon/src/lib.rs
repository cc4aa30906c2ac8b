//! The frame of every Warren daemon: what `broker`, `proxy` and `vip-agent` share around their own work.
//!
//! | module | what a program takes from it |
//! | --- | --- |
//! | [`exit`] | the documented exit codes |
//! | [`diagnostic`] | errors of a configuration file with line, caret and "did you mean" |
//! | [`config`] | a TOML file into a struct, all its errors at once |
//! | [`logging`] | `--log-format`, `--log-level`, fields rather than sentences |
//! | [`signals`], [`shutdown`], [`notify`] | being told to stop, passing it on, telling systemd |
//! | [`listen`] | a listening socket, and who holds the port when it fails |
//! | [`privilege`] | becoming another user, chroot, file-descriptor limit |
//! | [`http`] | a small bounded HTTP/1 server for status pages |
//! | [`clock`] | local wall-clock time for log lines |
//! | [`run`] | the order of a daemon's life |

pub mod clock;
pub mod config;
pub mod der;
pub mod diagnostic;
pub mod exit;
pub mod http;
pub mod listen;
pub mod logging;
pub mod manual;
pub mod notify;
pub mod privilege;
pub mod run;
pub mod shutdown;
pub mod signals;
