//! `vip-agent`; see the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    vip_agent::main()
}
