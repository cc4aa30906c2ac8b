//! The account of messages: what publishers tried and saw confirmed against what consumers received.
//!
//! The rules: every confirmed message is received; nothing is received that nobody sent; a message that
//! comes again is marked as redelivered.

use std::collections::{BTreeMap, BTreeSet};

/// What a publisher wrote down.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Published {
    /// Every id that was sent or may have been sent.
    pub tried: BTreeSet<String>,
    /// The confirmed ids, each with the time of its confirm in seconds.
    pub confirmed: Vec<(String, f64)>,
}

/// What a consumer wrote down, in the order of arrival: id and redelivered flag.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Received {
    /// Each delivery.
    pub deliveries: Vec<(String, bool)>,
}

/// The result of holding one against the other.
#[derive(Debug, Default, PartialEq)]
pub struct Balance {
    /// How many ids were confirmed.
    pub confirmed: usize,
    /// How many different ids were received.
    pub received: usize,
    /// Confirmed and not received.
    pub lost: Vec<String>,
    /// Received and never sent.
    pub invented: Vec<String>,
    /// Received again without the redelivered flag.
    pub repeated: Vec<String>,
    /// Deliveries marked as redelivered.
    pub redelivered: usize,
}

impl Published {
    /// Reads a publisher's record. A last line that is cut off counts as not written.
    #[must_use]
    pub fn read(record: &str) -> Self {
        let mut published = Self::default();
        for [event, id, time] in lines::<3>(record) {
            match event {
                "try" => drop(published.tried.insert(id.to_owned())),
                "confirm" => published.confirmed.push((id.to_owned(), time.parse().unwrap_or_default())),
                _ => {}
            }
        }
        published
    }

    /// Adds another publisher's record.
    pub fn merge(&mut self, other: Self) {
        self.tried.extend(other.tried);
        self.confirmed.extend(other.confirmed);
    }

    /// The longest time between two confirms, in seconds; the confirms may stand in any order.
    #[must_use]
    pub fn longest_gap(&self) -> f64 {
        self.longest_gap_since(0)
    }

    /// The longest time between two confirms, without the first `count` confirms but the last of those.
    #[must_use]
    pub fn longest_gap_since(&self, count: usize) -> f64 {
        let mut times: Vec<f64> = self.confirmed.iter().map(|(_, time)| *time).collect();
        times.sort_by(f64::total_cmp);
        let later = &times[count.saturating_sub(1).min(times.len())..];
        later.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
    }
}

impl Received {
    /// Reads a consumer's record.
    #[must_use]
    pub fn read(record: &str) -> Self {
        let got = lines::<4>(record).filter(|[event, ..]| *event == "got");
        Self { deliveries: got.map(|[_, id, _, again]| (id.to_owned(), again == "1")).collect() }
    }
}

/// Holds what was received against what was published.
#[must_use]
pub fn balance(published: &Published, received: &Received) -> Balance {
    let mut account = Account::default();
    published.tried.iter().for_each(|id| account.tried(id));
    published.confirmed.iter().for_each(|(id, _)| account.confirmed(id));
    received.deliveries.iter().for_each(|(id, redelivered)| account.received(id, *redelivered));
    account.balance()
}

/// An account that grows with the records: an octet for each message, so that it holds for hours. Ids are
/// `PUBLISHER-NUMBER`, with numbers that a publisher counts up.
#[derive(Debug, Default)]
pub struct Account {
    publishers: BTreeMap<String, Vec<Fate>>,
    /// Ids of another form, which nobody of ours makes.
    strange: BTreeMap<String, Fate>,
    repeated: Vec<String>,
    redelivered: usize,
}

/// What is known of a message.
#[derive(Debug, Default, Clone, Copy)]
struct Fate {
    tried: bool,
    confirmed: bool,
    received: bool,
}

/// A number beyond this is nobody's of ours.
const MOST_NUMBERS: usize = 100_000_000;

impl Account {
    /// A line of a publisher's record.
    pub fn published_line(&mut self, line: &str) {
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("try"), Some(id)) => self.tried(id),
            (Some("confirm"), Some(id)) => self.confirmed(id),
            _ => {}
        }
    }

    /// A line of a consumer's record.
    pub fn received_line(&mut self, line: &str) {
        let mut words = line.split(' ');
        if let (Some("got"), Some(id), Some(_), Some(again)) =
            (words.next(), words.next(), words.next(), words.next())
        {
            self.received(id, again == "1");
        }
    }

    /// A message was sent, or may have been.
    pub fn tried(&mut self, id: &str) {
        self.fate(id).tried = true;
    }

    /// The broker has it.
    pub fn confirmed(&mut self, id: &str) {
        self.fate(id).confirmed = true;
    }

    /// A consumer got it.
    pub fn received(&mut self, id: &str, redelivered: bool) {
        let fate = self.fate(id);
        let again = std::mem::replace(&mut fate.received, true);
        if again && !redelivered {
            self.repeated.push(id.to_owned());
        }
        self.redelivered += usize::from(redelivered);
    }

    fn fate(&mut self, id: &str) -> &mut Fate {
        let parts = id.rsplit_once('-').and_then(|(name, number)| Some((name, number.parse().ok()?)));
        match parts {
            Some((name, number)) if number <= MOST_NUMBERS => {
                if !self.publishers.contains_key(name) {
                    self.publishers.insert(name.to_owned(), Vec::new());
                }
                let fates = self.publishers.get_mut(name).expect("it was just made");
                if fates.len() <= number {
                    fates.resize(number + 1, Fate::default());
                }
                &mut fates[number]
            }
            _ => self.strange.entry(id.to_owned()).or_default(),
        }
    }

    /// Whether every confirmed message came.
    #[must_use]
    pub fn is_even(&self) -> bool {
        let missing = |fate: &Fate| fate.confirmed && !fate.received;
        !self.publishers.values().flatten().chain(self.strange.values()).any(missing)
    }

    /// What it comes to now.
    #[must_use]
    pub fn balance(&self) -> Balance {
        let mut balance =
            Balance { repeated: self.repeated.clone(), redelivered: self.redelivered, ..Balance::default() };
        let mut add = |id: &dyn Fn() -> String, fate: &Fate| {
            balance.confirmed += usize::from(fate.confirmed);
            balance.received += usize::from(fate.received);
            if fate.confirmed && !fate.received {
                balance.lost.push(id());
            }
            if fate.received && !fate.tried {
                balance.invented.push(id());
            }
        };
        for (name, fates) in &self.publishers {
            fates.iter().enumerate().for_each(|(number, fate)| add(&|| format!("{name}-{number}"), fate));
        }
        self.strange.iter().for_each(|(id, fate)| add(&|| id.clone(), fate));
        balance
    }
}

/// Deliveries to one consumer that came before an older message of the same publisher, although neither was
/// marked as redelivered. Ids are `PUBLISHER-NUMBER`.
#[must_use]
pub fn disordered(received: &Received) -> Vec<String> {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (id, _) in received.deliveries.iter().filter(|(_, redelivered)| !redelivered) {
        let Some((publisher, number)) = id.rsplit_once('-') else { continue };
        let number = number.parse().unwrap_or(0);
        let newest = last.entry(publisher).or_default();
        if number < *newest {
            wrong.push(id.clone());
        }
        *newest = number.max(*newest);
    }
    wrong
}

/// The whole lines of a record, cut into `N` words; shorter lines are left out.
fn lines<const N: usize>(record: &str) -> impl Iterator<Item = [&str; N]> {
    let whole = record.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').take(N).collect();
        words.try_into().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = "connected - 1.0 \ntry p-1 1.0 \nconfirm p-1 1.1 \ntry p-2 1.2 \nlost - 1.3 X\n\
                             try p-3 4.0 \nconfirm p-3 4.1 \ntry p-4 4.2 \nconfirm p-4 4.";

    #[test]
    fn a_line_that_was_cut_off_confirms_nothing() {
        let published = Published::read(PUBLISHED);
        assert_eq!(published.tried.len(), 4);
        assert_eq!(published.confirmed.len(), 2);
        assert!((published.longest_gap() - 3.0).abs() < 1e-9);
        assert!((published.longest_gap_since(1) - 3.0).abs() < 1e-9);
        assert!(published.longest_gap_since(2) < 1e-9 && published.longest_gap_since(9) < 1e-9);
    }

    #[test]
    fn loss_invention_and_unmarked_repetition_are_found() {
        let published = Published::read(PUBLISHED);
        let received =
            Received::read("got p-1 1.2 0\ngot p-1 1.3 0\ngot p-9 1.4 0\ngot p-2 2.0 1\ngot p-2 2.1 1\n");
        let found = balance(&published, &received);
        assert_eq!(found.lost, ["p-3"]);
        assert_eq!(found.invented, ["p-9"]);
        assert_eq!(found.repeated, ["p-1"]);
        assert_eq!((found.received, found.redelivered), (3, 2));
    }

    #[test]
    fn an_account_that_grows_comes_to_the_same() {
        let mut account = Account::default();
        let lines = ["try p-1 1.0 ", "confirm p-1 1.1 ", "try p-2 1.2 ", "lost - 1.3 X", "try p-3 4.0 "];
        lines.iter().for_each(|line| account.published_line(line));
        assert!(!account.is_even());
        for line in ["got p-1 1.2 0", "got p-1 1.3 1", "got p-2 1.4 0", "got p-2 1.4 0", "got strange 1 0"] {
            account.received_line(line);
        }
        assert!(account.is_even());
        account.published_line("confirm p-3 4.1 ");
        let found = account.balance();
        assert_eq!((found.confirmed, found.received, found.redelivered), (2, 3, 1));
        assert_eq!(found.lost, ["p-3"]);
        assert_eq!(found.repeated, ["p-2"]);
        assert_eq!(found.invented, ["strange"]);
    }

    #[test]
    fn only_unmarked_deliveries_must_be_in_order() {
        let received = |record| disordered(&Received::read(record));
        assert!(received("got a-1 1 0\ngot b-9 1 0\ngot a-2 1 0\ngot a-1 1 1\ngot a-3 1 0\n").is_empty());
        assert_eq!(received("got a-2 1 0\ngot a-1 1 0\n"), ["a-1"]);
    }

    #[test]
    fn an_unconfirmed_message_may_come_or_not_and_a_marked_one_may_come_twice() {
        let published = Published::read(PUBLISHED);
        let received = Received::read("got p-1 1 0\ngot p-3 2 0\ngot p-3 3 1\ngot p-2 4 0\n");
        let found = balance(&published, &received);
        assert!(found.lost.is_empty() && found.invented.is_empty() && found.repeated.is_empty(), "{found:?}");
    }
}
