//! What happened, on disk after each round: a line for each episode, and one for the round.
//!
//! ```text
//! episode OUTAGE WHOLE TITLE[|TITLE]
//! round SECONDS CONFIRMED RECEIVED REDELIVERED
//! ```

use super::faults::Kind;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use xtask::lab::process;

/// An episode.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The faults that were made.
    pub kinds: Vec<Kind>,
    /// The longest time that a publisher was without a confirm, seconds.
    pub outage: f64,
    /// From the repair until everything was as before, seconds.
    pub whole: f64,
}

/// What went through between two looks at the account.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Round {
    /// How long it took.
    pub seconds: f64,
    /// Messages confirmed.
    pub confirmed: usize,
    /// Different messages received.
    pub received: usize,
    /// Deliveries with the mark.
    pub redelivered: usize,
}

/// The record of a run.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    /// Of the rounds that were finished.
    pub entries: Vec<Entry>,
    /// The sum of the rounds.
    pub sum: Round,
}

impl Record {
    /// Opens a record: what is in it counts with `resume` only. A round that was not finished does not count.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn open(path: &Path, resume: bool) -> Result<Self> {
        let mut record = if resume { Self::read(path)? } else { Self::new(path) };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // Only whole rounds stay.
        let (entries, sum) = (std::mem::take(&mut record.entries), record.sum);
        std::fs::write(path, "").with_context(|| format!("write {}", path.display()))?;
        record.sum = Round::default();
        if !entries.is_empty() {
            record.add(&entries, &sum)?;
        }
        Ok(record)
    }

    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), entries: Vec::new(), sum: Round::default() }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// A line makes no sense.
    pub fn read(path: &Path) -> Result<Self> {
        let mut record = Self::new(path);
        let mut open = Vec::new();
        for (number, line) in process::read_lossy(path).lines().enumerate() {
            record
                .line(line, &mut open)
                .with_context(|| format!("{}:{}: `{line}`", path.display(), number + 1))?;
        }
        Ok(record)
    }

    fn line(&mut self, line: &str, open: &mut Vec<Entry>) -> Result<()> {
        let mut words = line.splitn(4, ' ');
        let event = words.next().context("an event")?;
        let mut word = || words.next().context("too short");
        if event == "episode" {
            let (outage, whole) = (word()?.parse()?, word()?.parse()?);
            // A fault that could not be made leaves no title.
            let titles = words.next().unwrap_or_default().split('|').filter(|it| !it.is_empty());
            let kinds =
                titles.map(|title| Kind::titled(title).with_context(|| format!("no fault `{title}`")));
            open.push(Entry { kinds: kinds.collect::<Result<_>>()?, outage, whole });
        } else if event == "round" {
            self.sum.seconds += word()?.parse::<f64>()?;
            self.sum.confirmed += word()?.parse::<usize>()?;
            let rest = word()?;
            let (received, redelivered) = rest.split_once(' ').context("too short")?;
            self.sum.received += received.parse::<usize>()?;
            self.sum.redelivered += redelivered.parse::<usize>()?;
            self.entries.append(open);
        }
        Ok(())
    }

    /// Adds a round with its episodes.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, entries: &[Entry], round: &Round) -> Result<()> {
        let mut text = String::new();
        for entry in entries {
            let titles: Vec<&str> = entry.kinds.iter().map(|kind| kind.title()).collect();
            writeln!(text, "episode {:.3} {:.3} {}", entry.outage, entry.whole, titles.join("|"))?;
        }
        let Round { seconds, confirmed, received, redelivered } = round;
        writeln!(text, "round {seconds:.3} {confirmed} {received} {redelivered}")?;
        process::append(&self.path)?.write_all(text.as_bytes())?;
        self.entries.extend_from_slice(entries);
        self.sum.seconds += seconds;
        self.sum.confirmed += confirmed;
        self.sum.received += received;
        self.sum.redelivered += redelivered;
        Ok(())
    }

    /// How long the rounds took.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.sum.seconds
    }

    /// How many episodes there were.
    #[must_use]
    pub fn episodes(&self) -> usize {
        self.entries.len()
    }

    /// How many faults there were.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.entries.iter().map(|entry| entry.kinds.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_after_its_last_whole_round() {
        let path = std::env::temp_dir().join(format!("chaos-record-{}", std::process::id()));
        let entry = |kinds: &[Kind]| Entry { kinds: kinds.to_vec(), outage: 0.5, whole: 1.25 };
        let mut record = Record::open(&path, false).unwrap();
        let first = [entry(&[Kind::BrokerKilled, Kind::FullDisk]), entry(&[])];
        record.add(&first, &Round { seconds: 9.0, confirmed: 30, received: 31, redelivered: 2 }).unwrap();
        process::append(&path).unwrap().write_all(b"episode 1.000 2.000 slow disk\n").unwrap();
        let mut again = Record::open(&path, true).unwrap();
        assert_eq!((again.episodes(), again.faults(), again.sum.confirmed), (2, 2, 30));
        again.add(&[entry(&[Kind::SlowDisk])], &Round { seconds: 1.0, ..Round::default() }).unwrap();
        let read = Record::read(&path).unwrap();
        assert_eq!(read.entries[..2], first);
        assert_eq!((read.entries.len(), read.sum.redelivered), (3, 2));
        assert!((read.seconds() - 10.0).abs() < 1e-9);
        assert_eq!(Record::open(&path, false).unwrap().episodes(), 0);
        let _ = std::fs::remove_file(path);
    }
}
