//! `keepalived.stats`.

use std::fmt::Write as _;

use crate::status::{CounterStatus, InstanceStatus};

/// Titles and counters, in keepalived's order.
fn sections(c: &CounterStatus) -> [(&'static str, Vec<(&'static str, u64)>); 6] {
    [
        ("Advertisements", vec![("Received", c.adverts_received), ("Sent", c.adverts_sent)]),
        ("Became master", vec![("", c.become_master)]),
        ("Released master", vec![("", c.release_master)]),
        (
            "Packet Errors",
            vec![
                ("Length", c.packet_length_errors),
                ("TTL", c.hop_limit_errors),
                ("Invalid Type", c.unknown_packets + c.version_errors),
                ("Advertisement Interval", c.interval_errors),
                ("Address List", c.address_mismatches),
            ],
        ),
        (
            "Authentication Errors",
            vec![("Invalid Type", 0), ("Type Mismatch", c.auth_type_errors), ("Failure", c.auth_failures)],
        ),
        ("Priority Zero", vec![("Received", c.priority_zero_received), ("Sent", c.priority_zero_sent)]),
    ]
}

pub(super) fn text(instances: &[InstanceStatus]) -> String {
    let mut text = String::new();
    for instance in instances {
        let _ = writeln!(text, "VRRP Instance: {}", instance.name);
        for (title, values) in sections(&instance.counters) {
            if let [("", value)] = values.as_slice() {
                let _ = writeln!(text, "  {title}: {value}");
                continue;
            }
            let _ = writeln!(text, "  {title}:");
            for (name, value) in values {
                let _ = writeln!(text, "    {name}: {value}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    /// What keepalived 2.2.7 wrote for an instance that had heard one advert and sent none (here with two errors).
    const THEIRS: &str = "VRRP Instance: VI_1\n  Advertisements:\n    Received: 1\n    Sent: 0\n  Became master: 0\n  \
        Released master: 0\n  Packet Errors:\n    Length: 0\n    TTL: 0\n    Invalid Type: 0\n    \
        Advertisement Interval: 2\n    Address List: 0\n  Authentication Errors:\n    Invalid Type: 0\n    \
        Type Mismatch: 0\n    Failure: 0\n  Priority Zero:\n    Received: 0\n    Sent: 0\n";

    #[test]
    fn counters_are_laid_out_as_keepalived_does() {
        let instance = crate::status::example([192, 168, 204, 143].into());
        assert_eq!(super::text(&[instance]), THEIRS);
    }
}
