//! Local wall-clock time, for lines a person reads (log lines, HAProxy's access log).

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::libc;

/// A moment broken into the fields of the local calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// Year, e.g. 2026.
    pub year: i32,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, 1 to 31.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute, 0 to 59.
    pub minute: u8,
    /// Second, 0 to 60 (leap second).
    pub second: u8,
    /// Milliseconds of the second.
    pub millis: u16,
    /// Seconds east of UTC.
    pub utc_offset_seconds: i32,
}

/// English month abbreviations, as syslog and HAProxy's log line use them.
pub const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl LocalTime {
    /// The present moment in the local time zone (`TZ` or `/etc/localtime`). The calendar is asked once a second.
    #[must_use]
    pub fn now() -> Self {
        thread_local! {
            /// The second since 1970 that was asked for last, and what it is here.
            static LAST: Cell<Option<(u64, LocalTime)>> = const { Cell::new(None) };
        }
        let now = SystemTime::now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        match LAST.get() {
            Some((second, local)) if second == since.as_secs() => Self { millis: millis(since), ..local },
            _ => {
                let local = Self::from_system(now);
                LAST.set(Some((since.as_secs(), local)));
                local
            }
        }
    }

    /// `at` in the local time zone.
    #[must_use]
    pub fn from_system(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = libc::time_t::try_from(since.as_secs()).unwrap_or(0);
        // SAFETY: `tm` is a plain C struct for which all zero bytes are a valid value.
        let mut fields: libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are valid for the call; `localtime_r` writes only to `fields`.
        unsafe { libc::localtime_r(&raw const seconds, &raw mut fields) };
        let small = |value: libc::c_int| u8::try_from(value).unwrap_or(0);
        Self {
            year: fields.tm_year + 1900,
            month: small(fields.tm_mon + 1),
            day: small(fields.tm_mday),
            hour: small(fields.tm_hour),
            minute: small(fields.tm_min),
            second: small(fields.tm_sec),
            millis: millis(since),
            utc_offset_seconds: i32::try_from(fields.tm_gmtoff).unwrap_or(0),
        }
    }

    /// The month's English abbreviation.
    #[must_use]
    pub fn month_name(&self) -> &'static str {
        MONTHS[usize::from(self.month.clamp(1, 12)) - 1]
    }

    /// `2026-11-22T14:36:06.664+01:00` (RFC 3339).
    #[must_use]
    pub fn rfc3339(&self) -> String {
        let offset = self.utc_offset_seconds;
        let sign = if offset < 0 { '-' } else { '+' };
        let minutes = offset.unsigned_abs() / 60;
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}{sign}{:02}:{:02}",
            self.year,
            self.month,
            self.day,
            self.hour,
            self.minute,
            self.second,
            self.millis,
            minutes / 60,
            minutes % 60
        )
    }
}

fn millis(since: Duration) -> u16 {
    u16::try_from(since.subsec_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_the_moment_of_the_call() {
        for _ in 0..3 {
            let before = SystemTime::now();
            let now = LocalTime::now();
            let seconds = [before, SystemTime::now()].map(|at| LocalTime::from_system(at).second);
            assert!(seconds.contains(&now.second), "{now:?}");
        }
    }

    #[test]
    fn a_moment_survives_the_way_to_the_calendar_and_back() {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_357_366_664);
        let local = LocalTime::from_system(at);
        assert_eq!((local.millis, local.second), (664, 46));
        assert!((2026..=2027).contains(&local.year));
        assert!(local.rfc3339().contains(".664"));
        assert!(MONTHS.contains(&local.month_name()));
    }
}
