//! Programs that need nothing of the system they run on: linked statically with musl, in one archive.
//!
//! ```text
//! target/package/warren-0.1.0-x86_64-musl.tar.gz
//!   warren-0.1.0/bin/broker, proxy, vip-agent        the programs, without symbols
//!   warren-0.1.0/libexec/rabbitmqctl …               names that they answer to as well
//!   warren-0.1.0/etc/…                               the configurations of the packages
//!   warren-0.1.0/man/…, completions/…, *.cdx.json
//! ```

use super::{PROGRAMS, folder, generate, sbom, strip};
use crate::install::{self, Need};
use crate::lab::process::run;
use crate::{root, target};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// For the parts that are written in C: allocator and cryptography.
pub(super) const COMPILER: &[Need] = &[Need { program: "musl-gcc", package: "musl-tools" }];

/// The target for this machine's processor.
#[must_use]
pub fn triple() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Whether the compiler has a standard library for musl; if not, what to do about it.
///
/// # Errors
/// It has none.
pub fn ready() -> Result<()> {
    let sysroot = run(Command::new("rustc").args(["--print", "sysroot"]))?;
    library_in(Path::new(sysroot.trim()))
}

fn library_in(sysroot: &Path) -> Result<()> {
    let triple = triple();
    let has = sysroot.join("lib/rustlib").join(&triple).join("lib").is_dir();
    if has {
        return Ok(());
    }
    bail!(
        "this Rust has no standard library for {triple}, so static programs cannot be built here.\n  \
         get it:   rustup target add {triple}\n  \
         without:  `cargo xtask package` makes Debian packages, which use the system's C library"
    );
}

/// Builds the programs and packs them; returns the archive.
///
/// # Errors
/// What is needed is missing, or something does not build.
pub fn archive(version: &str) -> Result<PathBuf> {
    ready()?;
    install::packages(COMPILER)?;
    let triple = triple();
    let mut cargo = crate::cargo();
    cargo.args(["build", "--locked", "--release", "--target", &triple]).current_dir(root());
    for program in PROGRAMS {
        cargo.args(["-p", program.name]);
    }
    cargo.env(compiler_of(&triple), "musl-gcc");
    // What the C compiler calls of its own library, such as __popcountdi2: not every Rust brings that along.
    cargo.env(flags_of(&triple), "-C link-arg=-lgcc");
    let status = cargo.status().context("start cargo build")?;
    ensure!(status.success(), "`cargo build --target {triple}` failed");
    let name = format!("warren-{version}");
    let stage = folder().join("musl");
    let _ = std::fs::remove_dir_all(&stage);
    let inside = stage.join(&name);
    for part in ["bin", "libexec", "etc"] {
        std::fs::create_dir_all(inside.join(part))?;
    }
    let graph = sbom::Graph::read(&triple)?;
    for program in PROGRAMS {
        let path = inside.join("bin").join(program.name);
        std::fs::copy(target().join(&triple).join("release").join(program.name), &path)?;
        strip::strip(&path, &folder().join("symbols/musl"))?;
        is_static(&path)?;
        let generated = stage.join("generated").join(program.name);
        generate(program, &path, &generated, &graph)?;
        run(Command::new("cp").arg("-a").arg(generated.join("man")).arg(&inside))?;
        run(Command::new("cp").arg("-a").arg(generated.join("completions")).arg(&inside))?;
        std::fs::copy(
            generated.join(format!("{}.cdx.json", program.name)),
            inside.join(format!("{}.cdx.json", program.name)),
        )?;
        for other in program.answers_to {
            std::os::unix::fs::symlink(
                format!("../bin/{}", program.name),
                inside.join("libexec").join(other),
            )?;
        }
    }
    for file in ["broker.toml", "proxy.toml", "vip.toml"] {
        std::fs::copy(root().join("configs/default").join(file), inside.join("etc").join(file))?;
    }
    for file in ["LICENSE", "LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md"] {
        std::fs::copy(root().join(file), inside.join(file))?;
    }
    let archive = folder().join(format!("{name}-{}-musl.tar.gz", std::env::consts::ARCH));
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--sort=name", "-czf"]).arg(&archive);
    run(tar.arg("-C").arg(&stage).arg(&name))?;
    Ok(archive)
}

/// The variable that names the C compiler of a target.
fn compiler_of(triple: &str) -> String {
    format!("CC_{}", triple.replace('-', "_"))
}

/// The variable that has the compiler's flags for a target.
fn flags_of(triple: &str) -> String {
    format!("CARGO_TARGET_{}_RUSTFLAGS", triple.replace('-', "_").to_uppercase())
}

/// A program that asks for no loader and no library.
fn is_static(path: &Path) -> Result<()> {
    let headers = run(Command::new("readelf").args(["-lW"]).arg(path))?;
    ensure!(!headers.contains("INTERP"), "{} is not static:\n{headers}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_without_musl_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let told = library_in(folder.path()).unwrap_err().to_string();
        assert!(told.contains(&format!("rustup target add {}", triple())), "{told}");
        std::fs::create_dir_all(folder.path().join("lib/rustlib").join(triple()).join("lib")).unwrap();
        library_in(folder.path()).unwrap();
        assert_eq!(compiler_of("x86_64-unknown-linux-musl"), "CC_x86_64_unknown_linux_musl");
        let flags = flags_of("x86_64-unknown-linux-musl");
        assert_eq!(flags, "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS");
    }

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        assert!(is_static(&std::env::current_exe().unwrap()).is_err());
    }
}
