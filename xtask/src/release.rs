//! `cargo xtask release VERSION`: from a working copy to what is given to people.
//!
//! ```text
//! check      the version is new, the change log has something to say, nothing lies about uncommitted
//! ci         everything passes
//! version    Cargo.toml, Cargo.lock and CHANGELOG.md name it; commit and tag
//! package    Debian packages, static programs, symbols for debuggers, bills of materials, the sources, SHA256SUMS in
//!            target/release-VERSION
//! ```
//!
//! Nothing is sent anywhere: pushing the tag and the files is left to whoever releases.

use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::Command;
use xtask::lab::process::run;
use xtask::package::{self, PROGRAMS, Profile};
use xtask::{root, target};

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
struct Order<'a> {
    version: &'a str,
    dry: bool,
}

/// Runs the command with its arguments.
///
/// # Errors
/// The working copy is not ready, or a step fails.
pub(crate) fn command(words: &[&str], commands: &[&str]) -> Result<()> {
    let order = order(words)?;
    let manifest = read("Cargo.toml")?;
    let log = read("CHANGELOG.md")?;
    let new_manifest = with_version(&manifest, order.version)?;
    let new_log = with_heading(&log, order.version, &run(Command::new("date").args(["-u", "+%F"]))?)?;
    let tag = format!("v{}", order.version);
    if order.dry {
        println!("would run everything that CI runs");
        println!("would write the version {} into Cargo.toml, Cargo.lock and CHANGELOG.md", order.version);
        println!("would commit that and tag it {tag}");
        println!("would build the programs with the release profile");
        println!("would leave in target/release-{}:", order.version);
        for program in PROGRAMS {
            println!("  the Debian package and the bill of materials of {}", program.name);
        }
        println!("  the symbols of these programs, for debuggers");
        match package::musl::ready() {
            Ok(()) => println!("  static programs for {}", package::musl::triple()),
            Err(error) => println!("  no static programs: {error}"),
        }
        println!("  the sources and SHA256SUMS");
        return Ok(());
    }
    package::need_tools()?;
    let changed = git(&["status", "--porcelain"])?;
    ensure!(changed.is_empty(), "there are changes that are not committed:\n{changed}");
    ensure!(git(&["tag", "--list", &tag])?.is_empty(), "the tag {tag} is there already");
    crate::ci::run(commands)?;
    std::fs::write(root().join("Cargo.toml"), new_manifest)?;
    std::fs::write(root().join("CHANGELOG.md"), new_log)?;
    // Writes the versions of our own packages into the lock file, and changes no other.
    run(Command::new("cargo").args(["update", "--workspace", "--offline"]).current_dir(root()))?;
    git(&["commit", "--all", "--message", &format!("Version {}", order.version)])?;
    git(&["tag", "--annotate", &tag, "--message", &tag])?;
    finish(&order, &tag).with_context(|| {
        format!("{tag} is tagged already; to begin anew: git tag --delete {tag} && git reset --hard HEAD~1")
    })
}

/// What is made of the tagged version.
fn finish(order: &Order<'_>, tag: &str) -> Result<()> {
    // Of an earlier version there may be more.
    let _ = std::fs::remove_dir_all(package::symbols());
    package::compile(Profile::Release)?;
    let packages = package::packages(Profile::Release, &Profile::Release.folder())?;
    let folder = target().join(format!("release-{}", order.version));
    std::fs::create_dir_all(&folder)?;
    for path in &packages {
        copy(path, &folder)?;
    }
    for program in PROGRAMS {
        let generated = package::folder().join("release/generated").join(program.name);
        copy(&generated.join(format!("{}.cdx.json", program.name)), &folder)?;
    }
    match package::musl::ready() {
        Ok(()) => copy(&package::musl::archive(order.version)?, &folder)?,
        Err(error) => println!("note: {error}"),
    }
    let name = format!("warren-{}", order.version);
    let symbols = folder.join(format!("{name}-symbols.tar.gz"));
    run(Command::new("tar").arg("-czf").arg(&symbols).arg("-C").arg(package::symbols()).arg("."))?;
    let archive = folder.join(format!("{name}.tar.gz"));
    let archive = archive.to_str().context("the path of the archive is not text")?;
    git(&["archive", "--prefix", &format!("{name}/"), "--output", archive, tag])?;
    sums(&folder)?;
    println!("{} holds the release; `git push origin HEAD {tag}` makes it known", folder.display());
    Ok(())
}

fn order<'a>(words: &[&'a str]) -> Result<Order<'a>> {
    let dry = words.contains(&"--dry-run");
    let rest: Vec<&str> = words.iter().copied().filter(|word| *word != "--dry-run").collect();
    match rest[..] {
        [version] if is_version(version) => Ok(Order { version, dry }),
        [word] if !word.starts_with('-') => bail!("`{word}` is no version such as 0.2.0"),
        _ => bail!("write `cargo xtask release [--dry-run] VERSION`"),
    }
}

fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok() && !part.starts_with('+'))
}

/// The version that the manifest has.
///
/// # Errors
/// It cannot be read, or has none.
pub(crate) fn version() -> Result<String> {
    version_in(&read("Cargo.toml")?).map(str::to_owned)
}

fn version_in(manifest: &str) -> Result<&str> {
    let (_, rest) = manifest.split_once("[workspace.package]\n").context("no [workspace.package]")?;
    let line = rest.lines().find(|line| line.starts_with("version = ")).context("no version in it")?;
    Ok(line.trim_start_matches("version = ").trim_matches('"'))
}

/// The manifest with another version of the workspace, which has to be a later one or the same.
fn with_version(manifest: &str, version: &str) -> Result<String> {
    let (head, rest) = manifest.split_once("[workspace.package]\n").context("no [workspace.package]")?;
    let before = version_in(manifest)?;
    let number = |text: &str| text.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    ensure!(number(version) >= number(before), "{version} comes before {before}, which Cargo.toml has");
    let before = format!("version = \"{before}\"");
    let rest = rest.replacen(&before, &format!("version = \"{version}\""), 1);
    Ok(format!("{head}[workspace.package]\n{rest}"))
}

/// The change log with what was unreleased under the version's heading.
fn with_heading(log: &str, version: &str, day: &str) -> Result<String> {
    ensure!(!log.contains(&format!("\n## {version}")), "CHANGELOG.md has a section {version} already");
    let (head, rest) = log.split_once("## Unreleased\n").context("CHANGELOG.md has no `## Unreleased`")?;
    let of_section = rest.split("\n## ").next().unwrap_or_default();
    ensure!(of_section.contains("\n- "), "CHANGELOG.md says nothing below `## Unreleased`");
    Ok(format!("{head}## Unreleased\n\n## {version} - {}\n{rest}", day.trim()))
}

fn sums(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder)?;
    let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    names.retain(|name| name != "SHA256SUMS");
    names.sort();
    let text = run(Command::new("sha256sum").args(&names).current_dir(folder))?;
    Ok(std::fs::write(folder.join("SHA256SUMS"), text)?)
}

fn copy(path: &Path, folder: &Path) -> Result<()> {
    let name = path.file_name().context("a package without a name")?;
    std::fs::copy(path, folder.join(name)).with_context(|| format!("copy {}", path.display()))?;
    Ok(())
}

fn git(arguments: &[&str]) -> Result<String> {
    run(Command::new("git").args(arguments).current_dir(root()))
}

fn read(name: &str) -> Result<String> {
    std::fs::read_to_string(root().join(name)).with_context(|| format!("read {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_a_version_and_may_be_dry() {
        assert_eq!(order(&["--dry-run", "0.2.0"]).unwrap(), Order { version: "0.2.0", dry: true });
        assert!(!order(&["0.2.0"]).unwrap().dry);
        for wrong in [&["next"][..], &["0.2"], &[], &["1.2.x"], &["0.2.0", "0.3.0"], &["--wet", "0.2.0"]] {
            assert!(order(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_version_of_the_workspace_changes_and_no_other() {
        let manifest = "[workspace.dependencies]\nx = { version = \"0.1.0\" }\n[workspace.package]\nversion = \"0.1.0\"\nedition = \"2024\"\n";
        let changed = with_version(manifest, "0.2.0").unwrap();
        assert!(
            changed.contains("x = { version = \"0.1.0\" }") && changed.contains("\nversion = \"0.2.0\"\n")
        );
        let error = with_version(&changed, "0.1.9").unwrap_err().to_string();
        assert!(error.contains("0.2.0"), "{error}");
    }

    #[test]
    fn what_was_unreleased_gets_the_heading() {
        let log =
            "# Changelog\n\n## Unreleased\n\n### Added\n\n- a thing\n\n## 0.1.0 - 2026-01-01\n\n- old\n";
        let changed = with_heading(log, "0.2.0", "2026-02-03\n").unwrap();
        assert!(
            changed.contains("## Unreleased\n\n## 0.2.0 - 2026-02-03\n\n### Added\n\n- a thing\n"),
            "{changed}"
        );
        assert!(with_heading(log, "0.1.0", "x").is_err(), "it is there already");
        assert!(with_heading(&log.replace("- a thing\n", ""), "0.2.0", "x").is_err(), "nothing to tell");
    }

    #[test]
    fn our_own_files_are_ready_for_a_release() {
        with_version(&read("Cargo.toml").unwrap(), "99.0.0").unwrap();
        with_heading(&read("CHANGELOG.md").unwrap(), "99.0.0", "2026-02-03").unwrap();
    }
}
