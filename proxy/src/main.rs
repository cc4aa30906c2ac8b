//! `proxy`; see the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    proxy::program::main()
}
