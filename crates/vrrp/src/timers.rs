//! Skew time and master-down interval.

use std::time::Duration;

use crate::packet::Version;

/// Skew time: a router of high priority waits less than one of low priority.
///
/// Version 2: (256 - priority) / 256 seconds (RFC 3768 section 6.1). Version 3: the same fraction of the
/// master's interval (RFC 9568 section 6.1).
pub fn skew(version: Version, priority: u8, master_interval: Duration) -> Duration {
    let unit = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => master_interval,
    };
    unit * (256 - u32::from(priority)) / 256
}

/// How long a backup waits without adverts: `adverts` intervals (3 in both RFCs) and the skew time.
pub fn master_down(version: Version, priority: u8, master_interval: Duration, adverts: u32) -> Duration {
    master_interval * adverts + skew(version, priority, master_interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn master_down_is_three_intervals_and_skew() {
        let second = Duration::from_secs(1);
        assert_eq!(master_down(Version::V2, 100, second, 3), Duration::from_micros(3_609_375));
        assert_eq!(master_down(Version::V2, 100, second * 5, 3), Duration::from_micros(15_609_375));
        let tenth = Duration::from_millis(100);
        assert_eq!(master_down(Version::V3, 90, tenth, 3), Duration::from_nanos(364_843_750));
        assert_eq!(skew(Version::V3, 255, second * 40), second * 40 / 256);
    }
}
