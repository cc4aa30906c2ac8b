//! What tracked scripts, interfaces and processes do to the priority.

use crate::instance::Tracking;

/// State of one tracked thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackStatus {
    /// No result yet.
    Unknown,
    /// Works.
    Good,
    /// Failed.
    Failed,
}

/// The owner of the addresses keeps this priority whatever its tracked things say (RFC 9568 section 6.1).
pub const OWNER: u8 = 255;

/// Base priority and the sum of all weights, kept within 1..=254.
pub fn effective(base: u8, adjustment: i32) -> u8 {
    if base == OWNER {
        return OWNER;
    }
    (i32::from(base) + adjustment).clamp(1, 254) as u8
}

/// What one tracked thing adds to an instance.
///
/// A positive weight is a bonus while it works, a negative one a penalty while it fails, and without a
/// weight a failure is a fault. `reverse` swaps working and failing. Unknown changes nothing, except
/// that an instance waits for the first result of a thing without weight.
pub fn contribution(weight: i16, reverse: bool, status: TrackStatus) -> Tracking {
    let status = match (status, reverse) {
        (TrackStatus::Good, true) => TrackStatus::Failed,
        (TrackStatus::Failed, true) => TrackStatus::Good,
        (status, _) => status,
    };
    let mut tracking = Tracking::default();
    match (weight, status) {
        (0, TrackStatus::Failed) => tracking.faults = 1,
        (0, TrackStatus::Unknown) => tracking.pending = 1,
        (1.., TrackStatus::Good) | (..=-1, TrackStatus::Failed) => tracking.adjustment = i32::from(weight),
        _ => {}
    }
    tracking
}

/// What a tracked file adds: its number times the weight. Without a weight any number but 0 is a fault, and
/// so is a product of -254 or less, which no priority survives.
pub fn value_contribution(weight: i16, reverse: bool, value: i32) -> Tracking {
    let mut tracking = Tracking::default();
    let weight = if reverse { -i32::from(weight) } else { i32::from(weight) };
    let product = value.saturating_mul(weight);
    if (weight == 0 && value != 0) || product <= -254 {
        tracking.faults = 1;
    } else {
        tracking.adjustment = product.clamp(-253, 253);
    }
    tracking
}

/// The priority a master would have left when a check with this weight failed there, if that is still enough
/// to keep the addresses from `backup`; `None` when the addresses would move, or when the check has no weight.
///
/// A backup takes over from a lower master only: equal priorities leave everything as it is.
pub fn keeps_after(master: u8, backup: u8, weight: i16) -> Option<u8> {
    let left = match master {
        OWNER => OWNER,
        _ => effective(master, -i32::from(weight).abs()),
    };
    (weight != 0 && left >= backup).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_stays_between_1_and_254_and_the_owner_stays_255() {
        assert_eq!(effective(100, -20), 80);
        assert_eq!(effective(100, -253), 1);
        assert_eq!(effective(250, 253), 254);
        assert_eq!(effective(255, -100), 255);
    }

    #[test]
    fn a_weight_moves_the_addresses_when_it_is_larger_than_the_gap() {
        assert_eq!(keeps_after(100, 90, -5), Some(95));
        assert_eq!(keeps_after(100, 90, -10), Some(90), "a tie stays where it is");
        assert_eq!(keeps_after(100, 90, -11), None);
        assert_eq!(keeps_after(100, 90, 5), Some(95), "a bonus that is lost is a penalty");
        assert_eq!(keeps_after(100, 90, 0), None, "a failure is a fault, and that always moves them");
        assert_eq!(keeps_after(255, 254, -253), Some(255), "the owner keeps its priority");
    }

    #[test]
    fn a_file_counts_with_its_number() {
        let tracking = |weight, value| {
            let tracking = value_contribution(weight, false, value);
            (tracking.adjustment, tracking.faults)
        };
        assert_eq!(tracking(1, -10), (-10, 0));
        assert_eq!(tracking(-2, 7), (-14, 0));
        assert_eq!(tracking(0, 0), (0, 0));
        assert_eq!(tracking(0, 3), (0, 1));
        assert_eq!(tracking(1, -254), (0, 1));
        assert_eq!(tracking(253, i32::MAX), (253, 0));
        assert_eq!(value_contribution(2, true, 5).adjustment, -10);
    }

    #[test]
    fn every_weight_direction_and_status() {
        use TrackStatus::{Failed, Good, Unknown};
        let table = [
            // weight, reverse, status, adjustment, faults, pending
            (-20, false, Good, 0, 0, 0),
            (-20, false, Failed, -20, 0, 0),
            (-20, false, Unknown, 0, 0, 0),
            (-20, true, Good, -20, 0, 0),
            (-20, true, Failed, 0, 0, 0),
            (10, false, Good, 10, 0, 0),
            (10, false, Failed, 0, 0, 0),
            (10, false, Unknown, 0, 0, 0),
            (10, true, Good, 0, 0, 0),
            (10, true, Failed, 10, 0, 0),
            (0, false, Good, 0, 0, 0),
            (0, false, Failed, 0, 1, 0),
            (0, false, Unknown, 0, 0, 1),
            (0, true, Good, 0, 1, 0),
            (0, true, Failed, 0, 0, 0),
        ];
        for (weight, reverse, status, adjustment, faults, pending) in table {
            assert_eq!(
                contribution(weight, reverse, status),
                Tracking { adjustment, faults, pending },
                "{weight} {reverse} {status:?}"
            );
        }
    }
}
