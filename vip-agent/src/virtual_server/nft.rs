//! Hands rules to the kernel through `nft`, and looks at the host they are for.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::rules::Place;

/// Debian's path first; `nft` belongs to root's programs.
const PROGRAMS: [&str; 4] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft"];
const PATIENCE: Duration = Duration::from_secs(20);
/// Of a long complaint, the first lines say what is wrong.
const MAX_COMPLAINT: usize = 600;

/// Whether rules can be made at all.
pub(crate) fn program() -> Option<&'static str> {
    PROGRAMS.into_iter().find(|path| std::path::Path::new(path).exists())
}

/// Carries out one transaction: all of it, or nothing.
///
/// # Errors
///
/// What `nft` says.
pub(crate) async fn load(text: &str) -> Result<(), String> {
    run(&["-f", "-"], text).await.map(drop)
}

/// The families in which `table` exists.
///
/// # Errors
///
/// What `nft` says.
pub(crate) async fn families(table: &str) -> Result<Vec<String>, String> {
    let text = run(&["list", "tables"], "").await?;
    let ours = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let family = words.next()?.to_owned();
        (words.next() == Some(table)).then_some(family)
    };
    Ok(text.lines().filter_map(ours).collect())
}

async fn run(arguments: &[&str], input: &str) -> Result<String, String> {
    let program = program().ok_or("nft is not installed; its package is called nftables")?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that ended early says why on its own.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ended = async { tokio::join!(write, child.wait_with_output()).1 };
    let output = tokio::time::timeout(PATIENCE, ended)
        .await
        .map_err(|_| format!("{program} did not end within {PATIENCE:?}"))?
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let short: String = complaint.trim().chars().take(MAX_COMPLAINT).collect();
    Err(if short.is_empty() { output.status.to_string() } else { short })
}

/// Interfaces and networks of this host.
pub(crate) fn place() -> Place {
    let mut place = Place::default();
    let Ok(found) = nix::ifaddrs::getifaddrs() else { return place };
    for entry in found {
        // Names go into the text of rules. Nobody calls an interface so, but the kernel would let him.
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-:@".contains(letter);
        if entry.interface_name == "lo" || !entry.interface_name.chars().all(plain) {
            continue;
        }
        let name = entry.interface_name;
        if !place.interfaces.contains(&name) {
            place.interfaces.push(name.clone());
        }
        let (Some(address), Some(mask)) = (entry.address, entry.netmask) else { continue };
        if let (Some(address), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
            let prefix = u32::from(mask.ip()).leading_ones() as u8;
            place.networks.push((name, address.ip().into(), prefix));
        } else if let (Some(address), Some(mask)) = (address.as_sockaddr_in6(), mask.as_sockaddr_in6()) {
            let prefix = u128::from(mask.ip()).leading_ones() as u8;
            place.networks.push((name, address.ip().into(), prefix));
        }
    }
    place
}
