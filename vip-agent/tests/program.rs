//! The program as a person or a script sees it, as far as it needs no rights: what flags do, and exit codes.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may end it")]

use std::path::{Path, PathBuf};
use std::process::Output;

const INSTANCE: &str = "vrrp_instance I {\n interface nosuch0\n virtual_router_id 1\n virtual_ipaddress {\n 10.0.0.9/24\n }\n}\n";

fn run(arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_vip-agent")).args(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn signum_prints_the_signal_that_keepalived_would_take() {
    let signals =
        [("STOP", 15), ("RELOAD", 1), ("DATA", 10), ("STATS", 12), ("JSON", nix::libc::SIGRTMIN() + 2)];
    for (function, number) in signals {
        assert_eq!(out(&run(&["--signum", function])), format!("{number}\n"), "{function}");
    }
    let wrong = run(&["--signum", "JUMP"]);
    assert!(!wrong.status.success() && err(&wrong).contains("STOP, RELOAD, DATA"), "{}", err(&wrong));
}

#[test]
fn config_test_has_keepalived_s_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let script = file(folder.path(), "check.sh", "#!/bin/sh\n");
    let mut rights = std::fs::metadata(&script).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o777);
    std::fs::set_permissions(&script, rights).unwrap();
    let unsafe_script = format!(
        "global_defs {{\n script_user root\n enable_script_security\n}}\nvrrp_script s {{\n script {}\n}}\n{INSTANCE}",
        script.display()
    );
    for (text, code) in [(INSTANCE, 0), ("vrrp_instanc I {\n}\n", 4), (&unsafe_script, 5)] {
        let path = file(folder.path(), "keepalived.conf", text);
        let tested = run(&[&format!("--config-test={}", path.display())]);
        assert_eq!(tested.status.code(), Some(code), "{text}{}", err(&tested));
        let tested = run(&["-f", path.to_str().unwrap(), "-t"]);
        assert_eq!(tested.status.code(), Some(code), "{text}{}", err(&tested));
    }
    assert_eq!(run(&["-t=/no/such.conf"]).status.code(), Some(3));
}

#[test]
fn lines_with_an_at_sign_are_for_the_host_of_that_id() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = INSTANCE.lines().map(|line| format!("@left {line}\n")).collect();
    let path = file(folder.path(), "keepalived.conf", &lines);
    for (id, count) in [("left", "1 instances"), ("right", "0 instances")] {
        let checked = run(&["--check", "--config-id", id, "-f", path.to_str().unwrap()]);
        assert!(out(&checked).contains(count), "{id}: {}{}", out(&checked), err(&checked));
    }
}

#[test]
fn the_file_of_the_other_host_is_compared_when_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let own = file(folder.path(), "own.conf", INSTANCE);
    let other =
        file(folder.path(), "other.conf", &INSTANCE.replace("virtual_router_id 1", "virtual_router_id 2"));
    let (own, other) = (own.to_str().unwrap(), other.to_str().unwrap());
    let alone = run(&["--check", "-f", own]);
    assert!(alone.status.success() && !err(&alone).contains("virtual_router_id"), "{}", err(&alone));
    let both = run(&["--check", "-f", own, "--peer", other]);
    assert!(both.status.success() && err(&both).contains("virtual_router_id"), "{}", err(&both));
    // Two that would both be master do not go together.
    let other = file(
        folder.path(),
        "other.conf",
        &INSTANCE.replace("virtual_router_id 1", "virtual_router_id 1\n version 3"),
    );
    let both = run(&["--check", "-f", own, "--peer", other.to_str().unwrap()]);
    assert_eq!(both.status.code(), Some(78), "{}{}", out(&both), err(&both));
    assert!(err(&both).contains("VRRP version 2 here, but 3"), "{}", err(&both));
}

#[test]
fn the_configuration_is_printed_as_it_was_understood_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "keepalived.conf", INSTANCE);
    // There is no such interface, so that the agent goes no further.
    let with = |flags: &[&str]| run(&[&["-f", path.to_str().unwrap()], flags].concat());
    assert_eq!(out(&with(&[])), "");
    for flag in ["-d", "--dump-conf"] {
        let dumped = with(&[flag]);
        assert!(out(&dumped).contains("virtual_router_id: 1"), "{}", out(&dumped));
        assert!(!dumped.status.success());
    }
}

#[test]
fn migrate_replaces_a_script_that_looks_for_a_process_unless_it_is_to_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let tutorial = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/tutorial/");
    let script = file(
        folder.path(),
        "haproxy_check.sh",
        "#!/bin/bash\nif [ $(ps -C haproxy --no-header | wc -l) -eq 0 ];then\n exit 1\nfi\n",
    );
    let text = std::fs::read_to_string(format!("{tutorial}keepalived.conf")).unwrap();
    let text = text.replace("/etc/keepalived/haproxy_check.sh", script.to_str().unwrap());
    let path = file(folder.path(), "keepalived.conf", &text);
    let replaced = run(&["migrate", path.to_str().unwrap()]);
    assert!(out(&replaced).contains("tcp = \"127.0.0.1:5672\""), "{}{}", out(&replaced), err(&replaced));
    assert!(!out(&replaced).contains("haproxy_check.sh"), "{}", out(&replaced));
    let kept = run(&["migrate", path.to_str().unwrap(), "--keep-script"]);
    assert!(out(&kept).contains("haproxy_check.sh") && !out(&kept).contains("tcp = \"127"), "{}", out(&kept));
    let output = folder.path().join("vip.toml");
    let written = run(&["migrate", path.to_str().unwrap(), "-o", output.to_str().unwrap()]);
    assert!(written.status.success() && output.exists(), "{}", err(&written));
    let again = run(&["migrate", path.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    assert!(err(&again).contains("not overwritten"), "{}", err(&again));
}
