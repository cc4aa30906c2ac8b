//! Log files: where they lie, when the next one begins, how many are kept.
//!
//! A file that is done with, `node.log`, becomes `node.log.0`; the one before it becomes `node.log.1`, and so on, as
//! RabbitMQ names them. A file that somebody else moves away (logrotate) is made anew within a second.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::clock::LocalTime;

/// How often a look is taken whether the file is still where it was.
const LOOK: Duration = Duration::from_secs(1);
/// Hours of a week.
const WEEK: i64 = 7 * 24;

/// A log file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFile {
    /// Where it is. Its folder is made if it is missing.
    pub path: PathBuf,
    /// It is done with when it would become larger than so many octets.
    pub octets: Option<u64>,
    /// It is done with when a new period has begun.
    pub period: Option<Period>,
    /// How many files are kept beside the one that is written to.
    pub keep: usize,
}

/// When a new file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// Each hour, at a minute.
    Hour(u8),
    /// Each day, at an hour.
    Day(u8),
    /// Each week, on a day (0 is Sunday) at an hour.
    Week(u8, u8),
    /// Each month, on a day at an hour.
    Month(u8, u8),
}

/// The text is no period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time at which a log file ends: write $D0 (each day at midnight), $H30, $W0D23 or $M1D0")]
pub struct NoPeriod;

impl FromStr for Period {
    type Err = NoPeriod;

    /// As RabbitMQ writes them: `$H30`, `$D0`, `$W0D23`, `$M1D0`.
    fn from_str(text: &str) -> Result<Self, NoPeriod> {
        let mut letters = text.strip_prefix('$').ok_or(NoPeriod)?.chars();
        let unit = letters.next().ok_or(NoPeriod)?;
        let (first, hour) = match letters.as_str().split_once('D') {
            Some((first, hour)) if "WM".contains(unit) => (first, hour),
            _ => (letters.as_str(), "0"),
        };
        let number = |text: &str, range: std::ops::RangeInclusive<u8>| {
            text.parse().ok().filter(|it| range.contains(it)).ok_or(NoPeriod)
        };
        match unit {
            'H' => Ok(Self::Hour(number(first, 0..=59)?)),
            'D' => Ok(Self::Day(number(first, 0..=23)?)),
            'W' => Ok(Self::Week(number(first, 0..=6)?, number(hour, 0..=23)?)),
            'M' => Ok(Self::Month(number(first, 1..=31)?, number(hour, 0..=23)?)),
            _ => Err(NoPeriod),
        }
    }
}

impl Period {
    /// Which one it is, counted from some time in the past.
    fn number(self, at: LocalTime) -> i64 {
        let days = days_since_1970(at);
        let hours = days * 24 + i64::from(at.hour);
        match self {
            Self::Hour(minute) => hours - i64::from(at.minute < minute),
            Self::Day(hour) => (hours - i64::from(hour)).div_euclid(24),
            // 1 January 1970 was a Thursday.
            Self::Week(day, hour) => {
                (hours + 4 * 24 - i64::from(day) * 24 - i64::from(hour)).div_euclid(WEEK)
            }
            Self::Month(day, hour) => {
                let before = (at.day, at.hour) < (day, hour);
                i64::from(at.year) * 12 + i64::from(at.month) - i64::from(before)
            }
        }
    }
}

/// Days of the Gregorian calendar since 1 January 1970.
fn days_since_1970(at: LocalTime) -> i64 {
    // A year that begins in March has its leap day at its end.
    let late = at.month > 2;
    let year = i64::from(at.year) - i64::from(!late);
    let month = i64::from(at.month) + if late { -3 } else { 9 };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + i64::from(at.day) - 1 - 719_468
}

/// A log file that is written to.
#[derive(Debug)]
pub(super) struct Open {
    options: LogFile,
    file: File,
    written: u64,
    period: Option<i64>,
    looked: Instant,
}

impl Open {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When it, or its folder, cannot be made or written to.
    pub(super) fn new(options: LogFile) -> io::Result<Self> {
        if let Some(folder) = options.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let file = open(&options.path)?;
        let facts = file.metadata()?;
        // A file that lies here already belongs to the time in which it was last written to.
        let since = facts.modified().map_or_else(|_| LocalTime::now(), LocalTime::from_system);
        let period = options.period.map(|period| period.number(since));
        Ok(Self { options, file, written: facts.len(), period, looked: Instant::now() })
    }

    /// Writes lines, into a new file if this one is done with.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn write(&mut self, lines: &[u8], now: LocalTime) -> io::Result<()> {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            if self.is_elsewhere() {
                self.begin()?;
            }
        }
        if self.is_done_with(lines.len() as u64, now) {
            self.put_aside()?;
            self.begin()?;
        }
        self.period = self.options.period.map(|period| period.number(now));
        self.file.write_all(lines)?;
        self.written += lines.len() as u64;
        Ok(())
    }

    fn is_done_with(&self, more: u64, now: LocalTime) -> bool {
        let large = self.options.octets.is_some_and(|most| self.written.saturating_add(more) > most);
        let old = self.options.period.map(|period| period.number(now)) != self.period;
        self.written > 0 && (large || old)
    }

    fn is_elsewhere(&self) -> bool {
        let there = std::fs::metadata(&self.options.path).map(|facts| (facts.dev(), facts.ino()));
        let own = self.file.metadata().map(|facts| (facts.dev(), facts.ino()));
        !matches!((there, own), (Ok(there), Ok(own)) if there == own)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.file = open(&self.options.path)?;
        self.written = self.file.metadata()?.len();
        Ok(())
    }

    /// Gives the file its number, and each older one the next.
    fn put_aside(&self) -> io::Result<()> {
        let LogFile { path, keep, .. } = &self.options;
        let Some(last) = keep.checked_sub(1) else { return std::fs::remove_file(path) };
        for number in (0..last).rev() {
            match std::fs::rename(numbered(path, number), numbered(path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(path, numbered(path, 0))
    }
}

/// Others may not read what users did.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i32, month: u8, day: u8, hour: u8, minute: u8) -> LocalTime {
        LocalTime { year, month, day, hour, minute, second: 0, millis: 0, utc_offset_seconds: 0 }
    }

    #[test]
    fn periods_are_written_as_rabbitmq_does_and_begin_when_they_say() {
        for (text, last, first) in [
            ("$H30", at(2026, 11, 28, 14, 29), at(2026, 11, 28, 14, 30)),
            ("$D0", at(2026, 12, 31, 23, 59), at(2027, 1, 1, 0, 0)),
            ("$D5", at(2028, 2, 29, 4, 59), at(2028, 2, 29, 5, 0)),
            // 29 November 2026 is a Sunday.
            ("$W0D23", at(2026, 11, 29, 22, 59), at(2026, 11, 29, 23, 0)),
            ("$W1", at(2026, 11, 29, 23, 59), at(2026, 11, 30, 0, 0)),
            ("$M1D5", at(2026, 12, 1, 4, 59), at(2026, 12, 1, 5, 0)),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.number(last) + 1, period.number(first), "{text}");
        }
        let week: Period = "$W0D23".parse().unwrap();
        assert_eq!(week.number(at(2026, 11, 29, 23, 0)), week.number(at(2026, 12, 6, 22, 59)));
        for wrong in ["", "$", "D0", "$D24", "$H60", "$W7", "$M0", "$W0D24", "$X1", "$D", "$D1D2"] {
            assert_eq!(wrong.parse::<Period>(), Err(NoPeriod), "{wrong}");
        }
    }

    fn texts(folder: &Path) -> Vec<(String, String)> {
        let mut all: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, std::fs::read_to_string(path).unwrap())
            })
            .collect();
        all.sort();
        all
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let options =
            LogFile { path: folder.path().join("sub/a.log"), octets: Some(6), period: None, keep: 2 };
        let now = at(2026, 11, 28, 12, 0);
        let mut file = Open::new(options.clone()).unwrap();
        for line in ["one\n", "2\n", "three\n", "four\n"] {
            file.write(line.as_bytes(), now).unwrap();
        }
        let kept = [("a.log", "four\n"), ("a.log.0", "three\n"), ("a.log.1", "one\n2\n")];
        assert_eq!(texts(&folder.path().join("sub")), pairs(&kept));
        // A start goes on where the last one ended.
        let mut file = Open::new(options).unwrap();
        file.write(b"5\n", now).unwrap();
        let kept = [("a.log", "5\n"), ("a.log.0", "four\n"), ("a.log.1", "three\n")];
        assert_eq!(texts(&folder.path().join("sub")), pairs(&kept));
    }

    #[test]
    fn a_new_day_begins_a_new_file_and_none_is_kept_if_so_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let options = LogFile { path: path.clone(), octets: None, period: Some(Period::Day(0)), keep: 1 };
        let mut file = Open::new(options.clone()).unwrap();
        file.write(b"evening\n", at(2026, 11, 28, 23, 59)).unwrap();
        file.write(b"night\n", at(2026, 11, 29, 0, 0)).unwrap();
        file.write(b"morning\n", at(2026, 11, 29, 6, 0)).unwrap();
        assert_eq!(texts(folder.path()), pairs(&[("a.log", "night\nmorning\n"), ("a.log.0", "evening\n")]));
        let mut file = Open::new(LogFile { keep: 0, ..options }).unwrap();
        file.period = Some(0);
        file.write(b"later\n", at(2026, 11, 30, 0, 0)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "later\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let now = at(2026, 11, 28, 12, 0);
        let mut file = Open::new(LogFile { path: path.clone(), ..LogFile::default() }).unwrap();
        file.write(b"one\n", now).unwrap();
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        file.looked = Instant::now().checked_sub(LOOK).unwrap();
        file.write(b"two\n", now).unwrap();
        assert_eq!(texts(folder.path()), pairs(&[("a.log", "two\n"), ("moved", "one\n")]));
        assert_eq!(path.metadata().unwrap().mode() & 0o777 & !0o640, 0);
    }
}
