//! Script security as keepalived's `enable_script_security`: nobody but root may be able to change a
//! program that root runs, neither the file nor any directory above it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
const ANY_EXECUTE: u32 = 0o111;

/// Programs that run the file which their first argument names.
const INTERPRETERS: &[&str] = &[
    "sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "python", "perl", "ruby", "node", "nodejs",
    "lua", "tclsh", "php", "awk", "busybox",
];
/// Programs that run another one, which stands behind their own options.
const WRAPPERS: &[&str] =
    &["env", "nice", "ionice", "timeout", "setsid", "stdbuf", "nohup", "chrt", "taskset"];

/// Finds the program as `execvp` would.
fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).exists().then(|| PathBuf::from(program));
    }
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.exists())
}

/// Whether the program exists and may be executed by somebody.
///
/// # Errors
///
/// Says what is wrong, to be put after the name.
pub(crate) fn runnable(program: &str) -> Result<(), &'static str> {
    let path = find(program).ok_or("does not exist")?;
    let data = std::fs::metadata(path).map_err(|_| "cannot be read")?;
    if data.is_dir() {
        return Err("is a directory");
    }
    if data.mode() & ANY_EXECUTE == 0 { Err("is not executable") } else { Ok(()) }
}

/// Whether only root can change what this command runs: the program, and the script that an interpreter is given.
///
/// # Errors
///
/// Names the file or directory that somebody else can change.
pub(crate) fn safe_for_root(argv: &[String]) -> Result<(), String> {
    let mut rest = argv;
    while let [program, arguments @ ..] = rest {
        only_root_changes(program)?;
        let name = program.rsplit('/').next().unwrap_or_default();
        // python3, python3.11, perl5.36
        let name = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        if INTERPRETERS.contains(&name) {
            return match script(arguments) {
                // Only what is there can be looked at: a script of one line is an argument itself.
                Some(file) if Path::new(file).exists() => only_root_changes(file),
                _ => Ok(()),
            };
        }
        if !WRAPPERS.contains(&name) {
            return Ok(());
        }
        // Options, their values, and variables before the program: whatever can be run and is there is looked at.
        let next =
            arguments.iter().position(|it| !it.starts_with('-') && !it.contains('=') && find(it).is_some());
        rest = next.map_or(&[], |at| &arguments[at..]);
    }
    Ok(())
}

/// The file that an interpreter with these arguments runs; none when the text of the script is an argument.
fn script(arguments: &[String]) -> Option<&str> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--" | "-f" => return arguments.next().map(String::as_str),
            // Options of one letter may stand together: `sh -ec '…'`.
            it if it.starts_with('-') && !it.starts_with("--") && it.ends_with('c') => return None,
            it if it.starts_with('-') => {}
            it => return Some(it),
        }
    }
    None
}

fn only_root_changes(program: &str) -> Result<(), String> {
    let Some(path) = find(program) else { return Ok(()) };
    let real = std::fs::canonicalize(&path).unwrap_or(path);
    for part in real.ancestors() {
        let Ok(data) = std::fs::metadata(part) else { continue };
        let shown = part.display();
        if data.uid() != 0 {
            return Err(format!("{shown} belongs to user {}", data.uid()));
        }
        let sticky_directory = data.is_dir() && data.mode() & STICKY != 0;
        let group = data.mode() & GROUP_WRITE != 0 && data.gid() != 0;
        if (group || data.mode() & OTHERS_WRITE != 0) && !sticky_directory {
            return Err(format!("{shown} can be changed by others than root"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_script_others_can_write_is_not_safe() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("check.sh");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        let name = script.to_str().unwrap();
        assert_eq!(runnable(name), Err("is not executable"));
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(runnable(name), Ok(()));
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o777)).unwrap();
        let words = |line: &str| -> Vec<String> {
            line.replace("SCRIPT", name).split(' ').map(str::to_owned).collect()
        };
        for line in [
            "SCRIPT",
            "SCRIPT eth0",
            "/bin/sh SCRIPT",
            "sh -e SCRIPT arg",
            "/usr/bin/env sh -- SCRIPT",
            "env PATH=/bin bash SCRIPT",
            "timeout 5 sh SCRIPT",
            "python3.11 -u SCRIPT",
        ] {
            let reason = safe_for_root(&words(line)).unwrap_err();
            assert!(
                reason.contains(directory.path().to_str().unwrap()) || reason.contains("/tmp"),
                "{reason}"
            );
        }
        for line in ["/bin/sh -c SCRIPT", "sh -ec SCRIPT", "/bin/cat SCRIPT", "sh", "env", "sh /no/such/file"]
        {
            assert_eq!(safe_for_root(&words(line)), Ok(()), "{line}");
        }
        assert_eq!(runnable("/nonexistent/x"), Err("does not exist"));
        assert_eq!(runnable("sh"), Ok(()));
    }
}
