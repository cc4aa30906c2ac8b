//! What a run came to: a table and a plot of how long publishers were without a confirm, by kind of fault.

use super::faults::{Kind, Layout};
use super::record::Record;
use std::fmt::Write as _;
use xtask::plot::{Bars, Scale};

/// The figures of a kind of fault.
#[derive(Debug, Default, Clone, PartialEq)]
struct Figures {
    /// Outages where it came alone, and where it came with another.
    alone: Vec<f64>,
    paired: Vec<f64>,
    /// The longest until everything was as before, alone.
    whole: f64,
}

fn figures(record: &Record, kind: Kind) -> Figures {
    let mut figures = Figures::default();
    for entry in record.entries.iter().filter(|entry| entry.kinds.contains(&kind)) {
        if entry.kinds.len() == 1 {
            figures.alone.push(entry.outage);
            figures.whole = figures.whole.max(entry.whole);
        } else {
            figures.paired.push(entry.outage);
        }
    }
    figures.alone.sort_by(f64::total_cmp);
    figures.paired.sort_by(f64::total_cmp);
    figures
}

/// The section of a layout.
#[must_use]
pub fn section(layout: Layout, record: &Record, seed: u64, clients: &str, plot: &str) -> String {
    let sum = &record.sum;
    let mut text = format!(
        "## {}\n\nSeed {seed}, {:.0} minutes, {} faults in {} episodes; clients: {clients}.\n\n\
         | confirmed | received | redelivered | lost | repeated without the mark |\n\
         | ---: | ---: | ---: | ---: | ---: |\n| {} | {} | {} | 0 | 0 |\n\n\
         | fault | alone | outage, median, s | longest, s | whole after at most, s | in pairs | longest, s |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        capitalised(layout.title()),
        sum.seconds / 60.0,
        record.faults(),
        record.episodes(),
        sum.confirmed,
        sum.received,
        sum.redelivered
    );
    for kind in Kind::all(layout) {
        let figures = figures(record, kind);
        let median = figures.alone.get(figures.alone.len() / 2);
        let whole = (!figures.alone.is_empty()).then_some(&figures.whole);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            kind.title(),
            figures.alone.len(),
            shown(median),
            shown(figures.alone.last()),
            shown(whole),
            figures.paired.len(),
            shown(figures.paired.last())
        );
    }
    let _ = writeln!(text, "\n![{}: longest outage by kind of fault]({plot})", capitalised(layout.title()));
    text
}

/// The plot of a layout.
#[must_use]
pub fn plot(layout: Layout, record: &Record) -> String {
    let rows = Kind::all(layout).into_iter().map(|kind| {
        let figures = figures(record, kind);
        let longest = |outages: &[f64]| outages.last().copied().unwrap_or(f64::NAN);
        (kind.title().to_owned(), vec![longest(&figures.alone), longest(&figures.paired)])
    });
    Bars {
        title: format!("{}: the longest time without a confirm", capitalised(layout.title())),
        unit: "seconds; the fault itself may last up to 6".to_owned(),
        series: vec!["alone".to_owned(), "with another fault".to_owned()],
        rows: rows.collect(),
        scale: Scale::Linear,
    }
    .svg()
}

fn shown(value: Option<&f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::record::{Entry, Round};
    use super::*;

    #[test]
    fn every_kind_has_a_row_with_its_longest_outage() {
        let path = std::env::temp_dir().join(format!("chaos-report-{}", std::process::id()));
        let mut record = Record::open(&path, false).unwrap();
        let entry = |kinds: &[Kind], outage| Entry { kinds: kinds.to_vec(), outage, whole: 1.0 };
        let entries = [
            entry(&[Kind::BrokerKilled], 0.25),
            entry(&[Kind::BrokerKilled], 0.5),
            entry(&[Kind::BrokerKilled, Kind::SlowDisk], 3.0),
        ];
        record.add(&entries, &Round { seconds: 90.0, confirmed: 100, received: 99, redelivered: 5 }).unwrap();
        let text = section(Layout::Three, &record, 7, "pika", "chaos-three.svg");
        assert!(text.contains("| broker killed with -9 | 2 | 0.50 | 0.50 | 1.00 | 1 | 3.00 |"), "{text}");
        assert!(text.contains("| slow disk | 0 | - | - | - | 1 | 3.00 |"), "{text}");
        assert!(text.contains("| 100 | 99 | 5 | 0 | 0 |") && !text.contains("witness"), "{text}");
        assert!(plot(Layout::Two, &record).contains("witness killed"));
        let _ = std::fs::remove_file(path);
    }
}
