//! Where our programs are: built once for a test binary.

use std::path::PathBuf;
use std::sync::OnceLock;
use xtask::stack::Cast;

/// The folder of our executables: `WARREN_BIN`, or what `cargo build` makes now.
///
/// # Panics
/// They do not build.
#[must_use]
pub fn folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            if let Some(folder) = std::env::var_os("WARREN_BIN") {
                return xtask::root().join(PathBuf::from(folder));
            }
            let mut cargo = xtask::cargo();
            cargo.args(["build", "--quiet"]).current_dir(xtask::root());
            let ours = Cast::from_environment().ours();
            for package in &ours {
                cargo.args(["-p", package]);
            }
            if !ours.is_empty() {
                assert!(cargo.status().expect("cargo starts").success(), "the programs do not build");
            }
            xtask::target().join("debug")
        })
        .clone()
}
