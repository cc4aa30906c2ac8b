//! Two hosts' files beside each other: what neither of them shows alone.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use daemon::diagnostic::{Diagnostic, Diagnostics};
use vrrp::priority::effective;

use super::{AgentConfig, RouterConfig, load};

/// Compares a configuration with the peer's file.
///
/// # Errors
///
/// The peer's file is wrong.
pub(crate) fn compare(ours: &AgentConfig, path: &Path, peer: &Path) -> Result<Diagnostics, Diagnostics> {
    let (theirs, _) = load(peer)?;
    let mut remarks = Diagnostics::new();
    let names = (path.display().to_string(), peer.display().to_string());
    for own in &ours.instances {
        let same = |other: &&RouterConfig| {
            other.core.virtual_router_id == own.core.virtual_router_id && other.is_ipv6() == own.is_ipv6()
        };
        let mut add = |remark: Diagnostic| remarks.push(remark.in_file(&*names.0));
        let Some(other) = theirs.instances.iter().find(same) else {
            let message = format!(
                "`{}`: {} has no instance of virtual_router_id {}",
                own.core.name, names.1, own.core.virtual_router_id
            );
            add(Diagnostic::warning("peer", message).help("nobody takes the address over"));
            continue;
        };
        wire(own, other, &mut add);
        priorities((ours, own), (&theirs, other), &mut add);
        // The peer's own checks must be able to move the address too.
        priorities((&theirs, other), (ours, own), &mut |remark| remarks.push(remark.in_file(&*names.1)));
    }
    Ok(remarks)
}

/// What makes one reject the other's adverts.
fn wire(own: &RouterConfig, other: &RouterConfig, add: &mut impl FnMut(Diagnostic)) {
    let name = &own.core.name;
    let mut differ = |what: &str, a: String, b: String| {
        if a != b {
            let message = format!("`{name}`: {what} {a} here, but {b} at the peer");
            add(Diagnostic::error("peer", message)
                .help("each would reject the other's adverts, and both be master"));
        }
    };
    let number = |config: &RouterConfig| config.core.version.number().to_string();
    differ("VRRP version", number(own), number(other));
    if own.core.version == vrrp::Version::V2 {
        let interval = |config: &RouterConfig| format!("{:?}", config.core.advert_interval);
        differ("advert interval", interval(own), interval(other));
    }
    let auth = |config: &RouterConfig| match &config.core.auth {
        vrrp::Auth::None => "none",
        vrrp::Auth::Simple(_) => "PASS",
        vrrp::Auth::Other(_) => "another",
    };
    differ("authentication", auth(own).to_owned(), auth(other).to_owned());
    let way =
        |config: &RouterConfig| if config.core.unicast_peers.is_empty() { "multicast" } else { "unicast" };
    differ("adverts by", way(own).to_owned(), way(other).to_owned());
    if auth(own) == auth(other) && own.core.auth != other.core.auth {
        let message = format!("`{name}`: the passwords of the two files differ");
        add(Diagnostic::error("peer", message)
            .help("each would reject the other's adverts, and both be master"));
    }
    if own.hmac_key != other.hmac_key {
        let message = format!("`{name}`: the `hmac_key` of the two files differs");
        add(Diagnostic::error("peer", message)
            .help("each would reject the other's adverts, and both be master"));
    }
    let list = |config: &RouterConfig| config.core.addresses.iter().copied().collect::<BTreeSet<IpAddr>>();
    if list(own) != list(other) {
        let message = format!("`{name}`: the two files name other virtual addresses");
        add(Diagnostic::warning("peer", message).help("write the same list on every host"));
    }
}

/// Whether a failing check of the stronger host moves the address to the weaker.
fn priorities(
    (config, own): (&AgentConfig, &RouterConfig),
    (_, other): (&AgentConfig, &RouterConfig),
    add: &mut impl FnMut(Diagnostic),
) {
    let (mine, theirs) = (own.core.priority, other.core.priority);
    let name = &own.core.name;
    if mine == theirs {
        let message = format!("`{name}`: both hosts have priority {mine}; the higher address wins");
        add(Diagnostic::note("peer", message));
    }
    for track in &own.track_scripts {
        let script = config.scripts.iter().find(|script| script.name == track.name);
        let weight = track.weight.or(script.map(|script| script.weight)).unwrap_or(0);
        let after = effective(mine, i32::from(weight));
        if weight < 0 && mine >= theirs && after >= theirs {
            let needed = i32::from(mine) - i32::from(theirs) + 1;
            let message = format!(
                "`{name}`: when `{}` fails, priority {mine} becomes {after}, which is not below the peer's \
                 {theirs}: the address does not move",
                track.name
            );
            add(Diagnostic::warning("weight-gap", message).help(format!("write weight -{needed} or less")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(directory: &Path, name: &str, body: &str) -> std::path::PathBuf {
        let path = directory.join(name);
        let text = format!(
            "vrrp_script chk {{\n script \"/bin/true\"\n weight WEIGHT\n}}\n\
             vrrp_instance VI_1 {{\n interface eth0\n virtual_router_id 66\n virtual_ipaddress {{ 10.0.0.66 }}\n \
             track_script {{ chk }}\n{body}\n}}\n"
        );
        std::fs::write(&path, text.replace("WEIGHT", if body.contains("150") { "-20" } else { "-60" }))
            .unwrap();
        path
    }

    fn codes(ours: &str, theirs: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let (c, d) = (file(directory.path(), "c.conf", ours), file(directory.path(), "d.conf", theirs));
        let (config, _) = load(&c).unwrap_or_else(|remarks| panic!("{}", remarks.render(false)));
        let found = compare(&config, &c, &d).unwrap();
        found.iter().map(|remark| format!("{} {}", remark.code, remark.message)).collect()
    }

    #[test]
    fn a_weight_below_the_gap_is_seen() {
        let found = codes("priority 150", "priority 100");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("weight-gap") && found[0].contains("150 becomes 130"), "{found:?}");
        assert_eq!(codes("priority 140", "priority 100"), Vec::<String>::new());
    }

    #[test]
    fn what_makes_two_masters_is_an_error() {
        let found = codes(
            "priority 90\nadvert_int 2",
            "priority 100\nauthentication {\nauth_type PASS\nauth_pass x\n}",
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|text| text.starts_with("peer ")), "{found:?}");
    }
}
