//! Hears whether two other routers are master at the same time.
//!
//! At an ordinary handover the old master and the new one are both heard for a moment, at most within two
//! intervals. Those who still speak in turns after that do not hear each other.

use std::net::IpAddr;
use std::time::Duration;

use super::Heard;

/// Who spoke last, and since when two speak in turns.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    last: Option<IpAddr>,
    /// When the speaker last changed.
    changed_at: Duration,
    /// Since when the speakers have changed again and again.
    since: Option<Duration>,
    /// Said once for each split.
    told: bool,
}

impl Rivals {
    /// Takes an advert; answers the two masters when it shows that there are two.
    pub(super) fn heard(&mut self, now: Duration, heard: &Heard) -> Option<(IpAddr, IpAddr)> {
        if heard.priority == 0 {
            return None;
        }
        let handover = heard.interval * 2;
        let previous = self.last.replace(heard.source).filter(|previous| *previous != heard.source);
        let quiet = now.saturating_sub(self.changed_at) > handover;
        let Some(previous) = previous else {
            if quiet {
                (self.since, self.told) = (None, false);
            }
            return None;
        };
        let since = *self.since.filter(|_| !quiet).get_or_insert(now);
        (self.since, self.changed_at) = (Some(since), now);
        if self.told || now - since <= handover {
            return None;
        }
        self.told = true;
        Some((previous.min(heard.source), previous.max(heard.source)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn speak(rivals: &mut Rivals, host: u8, tenths: u32) -> bool {
        let now = SECOND * tenths / 10;
        let heard = Heard { source: [10, 0, 0, host].into(), priority: 100, at: now, interval: SECOND };
        rivals.heard(now, &heard).is_some()
    }

    #[test]
    fn a_handover_is_no_split_brain() {
        let mut rivals = Rivals::default();
        // 1 is master, 2 takes over, 1 speaks once more.
        for (host, tenths) in [(1, 0), (1, 10), (2, 15), (1, 15), (2, 15), (2, 25), (2, 35), (2, 45)] {
            assert!(!speak(&mut rivals, host, tenths), "{host} at {tenths}");
        }
        // And back, much later.
        for (host, tenths) in [(1, 200), (2, 200), (1, 201), (1, 211)] {
            assert!(!speak(&mut rivals, host, tenths), "{host} at {tenths}");
        }
    }

    #[test]
    fn two_who_go_on_speaking_in_turns_are_told_once() {
        let mut rivals = Rivals::default();
        let told: Vec<u32> =
            (0..100).filter(|turn| speak(&mut rivals, (turn % 2) as u8 + 1, turn * 5)).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0] <= 8, "after two intervals");
        for tenths in (500..560).step_by(10) {
            assert!(!speak(&mut rivals, 1, tenths));
        }
        let again = (0..20).filter(|turn| speak(&mut rivals, (turn % 2) as u8 + 1, 600 + turn * 5)).count();
        assert_eq!(again, 1, "a new split is told again");
    }
}
