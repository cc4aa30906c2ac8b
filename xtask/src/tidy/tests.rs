//! Each rule on a small tree that keeps it, and on one that breaks it.

use super::strangers::Machine;
use super::tree::Tree;
use super::{Finding, check};
use std::path::PathBuf;

/// A folder with files, removed at the end.
struct Fixture(PathBuf);

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const README: &str = "# Warren\n\n    cargo xtask up      # a comment\n    cargo xtask test\n";

/// The findings on a tree of these files beside a good README.
fn findings(name: &str, files: &[(&str, &str)]) -> Vec<Finding> {
    let folder = std::env::temp_dir().join(format!("xtask-tidy-{}-{name}", std::process::id()));
    let fixture = Fixture(folder);
    for (path, text) in [("README.md", README)].iter().chain(files) {
        let path = fixture.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let tree = Tree::of_folder(&fixture.0).unwrap();
    check(&tree, &["up", "test"], &Machine::with(&["/srv/builder/", "mirror.example.net"]))
}

/// Where the only finding is, and that its text says this.
fn only(name: &str, files: &[(&str, &str)], says: &str) -> (String, usize) {
    let found = findings(name, files);
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert!(finding.text.contains(says), "{finding}");
    (finding.path.clone(), finding.line)
}

fn at(path: &str, line: usize) -> (String, usize) {
    (path.to_owned(), line)
}

#[test]
fn a_clean_tree_has_no_findings() {
    let manifest =
        "[package]\nname = \"broker\"\n[dependencies]\nbroker-core = { workspace = true }\ntokio = \"1\"\n";
    let main =
        "//! The broker.\nuse broker_core::Queue;\nuse tokio::net::TcpStream;\nuse crate::proxy::Thing;\n";
    let found = findings("clean", &[("broker/Cargo.toml", manifest), ("broker/src/main.rs", main)]);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_dependency_against_the_arrows_is_named_with_its_line() {
    let manifest = "[package]\nname = \"vrrp\"\n\n[dev-dependencies]\ndaemon = { workspace = true }\n";
    assert_eq!(
        only("manifest", &[("crates/vrrp/Cargo.toml", manifest)], "must not know daemon"),
        at("crates/vrrp/Cargo.toml", 5)
    );
    let manifest = "[dependencies]\nx = { package = \"broker\", path = \"../broker\" }\n";
    assert_eq!(
        only("renamed", &[("proxy/Cargo.toml", manifest)], "proxy must not know broker"),
        at("proxy/Cargo.toml", 2)
    );
    let manifest = "[target.'cfg(unix)'.dependencies.broker-core]\nworkspace = true\n";
    assert_eq!(
        only("table", &[("crates/amqp/Cargo.toml", manifest)], "must not know broker-core"),
        at("crates/amqp/Cargo.toml", 1)
    );
}

#[test]
fn a_use_against_the_arrows_is_named_with_its_line() {
    let text = "//! A queue.\n\npub(crate) use broker_store::Wal;\n";
    assert_eq!(
        only("use", &[("broker/core/src/queue.rs", text)], "must not know broker-store"),
        at("broker/core/src/queue.rs", 3)
    );
    let local = "//! Checks.\nmod vrrp;\nuse vrrp::Thing;\n";
    assert!(findings("local", &[("proxy/src/check.rs", local)]).is_empty());
}

#[test]
fn a_library_behind_one_folder_is_found_elsewhere() {
    let text = "//! Consensus, by openraft.\n\nuse openraft::Raft;\n";
    assert_eq!(
        only("elsewhere", &[("broker/src/metadata.rs", text)], "only broker/src/cluster/raft/ may name"),
        at("broker/src/metadata.rs", 3)
    );
    assert!(findings("home", &[("broker/src/cluster/raft/mod.rs", text)]).is_empty());
}

#[test]
fn tokio_in_a_core_is_found_in_manifest_and_code() {
    let manifest = "[dependencies]\ntokio.workspace = true\n";
    assert_eq!(
        only("core", &[("broker/store/Cargo.toml", manifest)], "is a core"),
        at("broker/store/Cargo.toml", 2)
    );
    let text = "//! A packet.\nuse tokio::time::Instant;\n";
    assert_eq!(
        only("core-use", &[("crates/vrrp/src/packet.rs", text)], "is a core"),
        at("crates/vrrp/src/packet.rs", 2)
    );
}

#[test]
fn a_file_without_a_first_line_of_purpose_is_found() {
    assert_eq!(
        only("header", &[("proxy/src/relay.rs", "use std::io;\n//! Late.\n")], "//!"),
        at("proxy/src/relay.rs", 1)
    );
}

#[test]
fn a_long_file_is_found_and_its_tests_do_not_count() {
    let body = |lines: usize| format!("//! Long.\n{}", "// line\n".repeat(lines - 1));
    assert!(findings("800", &[("proxy/src/a.rs", &body(800))]).is_empty());
    assert_eq!(only("801", &[("proxy/src/a.rs", &body(801))], "801 lines"), at("proxy/src/a.rs", 801));
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", body(800), "    // test\n".repeat(500));
    assert!(findings("tested", &[("proxy/src/a.rs", &tested)]).is_empty());
    let behind = format!("{tested}// after\n");
    assert_eq!(only("behind", &[("proxy/src/a.rs", &behind)], "801 lines").1, 801);
    assert!(findings("tests-file", &[("proxy/src/a/tests.rs", &body(900))]).is_empty());
    let generated = format!("//! @generated by a program.\n{}", body(900));
    assert!(findings("generated", &[("proxy/src/a.rs", &generated)]).is_empty());
}

#[test]
fn an_unlisted_top_level_entry_is_found_once() {
    assert_eq!(only("top", &[("stuff/a.txt", ""), ("stuff/b.txt", "")], "`stuff`"), at("stuff/a.txt", 1));
}

#[test]
fn paths_and_package_sources_of_a_machine_are_found() {
    let note = "fine\nsee /srv/builder/notes\n";
    assert_eq!(only("path", &[("docs/a.md", note)], "/srv/builder/"), at("docs/a.md", 2));
    assert_eq!(
        only("host", &[("docs/a.md", "https://mirror.example.net/x\n")], "mirror.example.net"),
        at("docs/a.md", 1)
    );
    assert_eq!(only("home", &[("docs/a.md", "cd /home/ada/warren\n")], "home folder"), at("docs/a.md", 1));
    assert_eq!(only("pip", &[("docs/a.md", "pip --index-url x\n")], "--index-url"), at("docs/a.md", 1));
    let lock = "[[package]]\nname = \"a\"\nsource = \"registry+https://elsewhere.example/index\"\n";
    assert_eq!(only("lock", &[("Cargo.lock", lock)], "elsewhere than crates.io"), at("Cargo.lock", 3));
}

#[test]
fn a_readme_without_the_two_commands_or_with_unknown_ones_is_found() {
    assert_eq!(
        only("readme", &[("README.md", "    cargo xtask up\n")], "`cargo xtask test` is missing"),
        at("README.md", 1)
    );
    let text = format!("{README}\nand `cargo xtask fly` too\n");
    assert_eq!(only("unknown", &[("README.md", &text)], "no `cargo xtask fly`"), at("README.md", 6));
}
