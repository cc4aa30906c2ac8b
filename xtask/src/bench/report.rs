//! A table of medians: ours, theirs, the ratio, and what ours should at most be.

use super::loads::Load;
use std::fmt::Write as _;
use xtask::plot::{Bars, Scale};

/// What was measured of one subject.
pub(crate) struct Report {
    subject: &'static str,
    /// The columns; the first is ours, the second theirs.
    sides: &'static [&'static str],
    remark: &'static str,
    /// The machine's load average before the first load: more than about 0.5 means that others used it too.
    busy: String,
    rows: Vec<Row>,
}

/// A figure of a load: a value for each side, NaN where there is none.
struct Row {
    load: &'static str,
    title: &'static str,
    values: Vec<f64>,
    most: Option<f64>,
    least: Option<f64>,
    most_ratio: Option<f64>,
}

impl Report {
    pub(super) fn new(subject: &'static str, sides: &'static [&'static str], remark: &'static str) -> Self {
        let busy = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let busy = busy.split(' ').next().unwrap_or_default().to_owned();
        Self { subject, sides, remark, busy, rows: Vec::new() }
    }

    /// Adds what the generator printed for one load: for each side a line of `name=value` words a round.
    pub(super) fn add(&mut self, load: &Load, results: &[Vec<String>]) {
        for figure in load.figures {
            let values = results.iter().map(|lines| median(lines, figure.name)).collect();
            self.rows.push(Row {
                load: load.heading,
                title: figure.title,
                values,
                most: figure.most,
                least: figure.least,
                most_ratio: figure.most_ratio,
            });
        }
    }

    /// Adds one figure divided by another, each given by its load and its title.
    pub(super) fn divide(&mut self, heading: &'static str, above: Key, below: Key, most: f64) {
        let find = |(load, title): Key| self.rows.iter().find(|row| row.load == load && row.title == title);
        if let (Some(above), Some(below)) = (find(above), find(below)) {
            let values = above.values.iter().zip(&below.values).map(|(above, below)| above / below).collect();
            self.rows.push(Row {
                load: heading,
                title: "ratio",
                values,
                most: Some(most),
                least: None,
                most_ratio: None,
            });
        }
    }

    /// The table as Markdown.
    pub(super) fn text(&self) -> String {
        let has_bound = |row: &Row| row.most.is_some() || row.least.is_some() || row.most_ratio.is_some();
        let bounded = self.rows.iter().any(has_bound);
        let (head, line) = if bounded { (" ours at most |", " ---: |") } else { ("", "") };
        let columns = self.sides.join(" | ");
        let theirs = self.sides.get(1).unwrap_or(&"-");
        let mut text = format!("| load | | {columns} | ours / {theirs} |{head}\n");
        let _ = writeln!(text, "| --- | --- | {}---: |{line}", "---: | ".repeat(self.sides.len()));
        let mut above = "";
        for row in &self.rows {
            // The name of a load is told once.
            let load = if row.load == above { "" } else { row.load };
            above = row.load;
            let values: Vec<String> = row.values.iter().map(|value| number(*value)).collect();
            let ratio = row.values[0] / row.values.get(1).unwrap_or(&f64::NAN);
            let _ = write!(text, "| {load} | {} | {} | {} |", row.title, values.join(" | "), number(ratio));
            let verdict = |met: bool| if met { "met" } else { "**missed**" };
            if let Some(most) = row.most {
                let _ = write!(text, " {} {} |", number(most), verdict(row.values[0] <= most));
            } else if let Some(least) = row.least {
                let _ = write!(text, " at least {} {} |", number(least), verdict(row.values[0] >= least));
            } else if let Some(most) = row.most_ratio {
                // As shown, so that the verdict agrees with what is read.
                let met = (ratio * 100.0).round() / 100.0 <= most;
                let _ = write!(text, " ratio {most:.2} {} |", verdict(met));
            } else if bounded {
                text.push_str("  |");
            }
            text.push('\n');
        }
        let _ = writeln!(text, "\n{}", self.remark);
        text
    }

    /// How many times better ours is, figure by figure; nothing where there is no other side.
    pub(super) fn plot(&self) -> Option<Bars> {
        let theirs = (*self.sides.get(1)?).to_owned();
        let times = |row: &Row| {
            let ratio = row.values[0] / row.values.get(1).unwrap_or(&f64::NAN);
            if more_is_better(row.title) { ratio } else { 1.0 / ratio }
        };
        let rows = self.rows.iter().map(|row| (format!("{}: {}", row.load, row.title), vec![times(row)]));
        Some(Bars {
            title: format!("{}: how many times better ours is than {theirs}", self.subject),
            unit: "times; right of 1 ours is better".to_owned(),
            series: vec!["ours".to_owned()],
            rows: rows.filter(|(_, values)| values[0].is_finite()).collect(),
            scale: Scale::Ratio,
        })
    }

    /// The file that the plot is in, below `docs`.
    pub(super) fn plot_name(&self) -> String {
        format!("benchmarks-{}.svg", self.subject)
    }

    /// The table with its heading, the command that made it and the machine.
    fn section(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let model = model.trim_start_matches([' ', '\t', ':']);
        let plot = match self.plot() {
            Some(plot) => format!("\n![{}]({})\n", plot.title, self.plot_name()),
            None => String::new(),
        };
        format!(
            "{}\n\nWritten by `cargo xtask bench {} --write` on {cores} cores ({model}), load average {} before.\n\n{}{plot}",
            self.subject,
            self.subject,
            self.busy,
            self.text()
        )
    }
}

/// A load's heading and a figure's title.
type Key = (&'static str, &'static str);

const INTRODUCTION: &str = "# Benchmarks\n\nLoad generator and servers are on the same machine and share its \
cores: the processor time is that of the server alone. Each figure is the median of rounds in alternation. A \
ratio below 1 is good for times, memory and CPU, above 1 for rates. `-`: there is no such figure. On a \
machine that others use too (a load average above about 0.5 before) rates are lower, and where one message waits for \
another 4 ms are a slice of the scheduler. Where the broker's time goes: [profile.md](profile.md).\n";

/// The document for `docs/benchmarks.md`: sections of subjects that were not measured stay as they are.
pub(super) fn document(before: &str, reports: &[Report]) -> String {
    let subject = |section: &str| section.lines().next().unwrap_or_default().to_owned();
    let mut sections: Vec<String> =
        before.split("\n## ").skip(1).map(|section| section.trim_end().to_owned()).collect();
    for report in reports {
        let section = report.section().trim_end().to_owned();
        match sections.iter_mut().find(|it| subject(it) == report.subject) {
            Some(old) => *old = section,
            None => sections.push(section),
        }
    }
    sections.iter().fold(INTRODUCTION.to_owned(), |text, section| text + "\n## " + section + "\n")
}

/// Whether a figure is a rate; the others are costs.
fn more_is_better(title: &str) -> bool {
    title.ends_with("/s") || title == "per second"
}

fn median(lines: &[String], name: &str) -> f64 {
    let value = |line: &String| {
        let mut words = line.split(' ').filter_map(|word| word.split_once('='));
        words.find(|(it, _)| *it == name)?.1.parse::<f64>().ok()
    };
    let mut values: Vec<f64> = lines.iter().filter_map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn number(value: f64) -> String {
    match value.abs() {
        it if !it.is_finite() => "-".to_owned(),
        it if it >= 100.0 => format!("{value:.0}"),
        it if it >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::loads::BROKER;
    use super::*;

    fn measured() -> Report {
        let mut report = Report::new("broker", &["ours", "RabbitMQ", "relay"], "Remark.");
        let lines = |values: [&str; 3]| values.map(|it| format!("rate={it} cpu_per_million=2.1")).to_vec();
        report.add(&BROKER[0], &[lines(["100", "300", "200"]), lines(["50", "10", "90"]), Vec::new()]);
        report
    }

    #[test]
    fn a_table_holds_medians_ratios_and_verdicts() {
        let mut report = measured();
        let rate = (BROKER[0].heading, "messages/s");
        report.divide("one by itself", rate, rate, 2.0);
        let text = report.text();
        assert!(text.contains("| messages/s | 200 | 50.00 | - | 4.00 |  |"), "{text}");
        assert!(
            text.contains("|  | CPU s per million | 2.10 | 2.10 | - | 1.00 | 2.00 **missed** |"),
            "{text}"
        );
        assert!(text.contains("| one by itself | ratio | 1.00 | 1.00 | - | 1.00 | 2.00 met |"), "{text}");
        let cells = |line: &str| line.matches('|').count();
        assert!(text.lines().take(5).all(|line| cells(line) == 8), "{text}");
    }

    #[test]
    fn a_plot_shows_rates_and_costs_the_same_way() {
        let mut report = Report::new("broker", &["ours", "RabbitMQ"], "");
        let lines = |text: &str| vec![text.to_owned()];
        let results = [lines("rate=200 cpu_per_million=1"), lines("rate=50 cpu_per_million=4")];
        report.add(&BROKER[0], &results);
        let plot = report.plot().unwrap();
        assert!(plot.rows.iter().all(|(_, values)| (values[0] - 4.0).abs() < 1e-9), "{plot:?}");
        assert!(Report::new("backlog", &["ours"], "").plot().is_none());
        assert!(report.section().ends_with("](benchmarks-broker.svg)\n"));
    }

    #[test]
    fn what_was_not_measured_stays() {
        let before = "# Old\n\n## broker\n\nold\n\n## proxy\n\nkept\n";
        let text = document(before, &[measured()]);
        assert!(text.contains("\n## proxy\n\nkept\n") && !text.contains("old"), "{text}");
        assert_eq!(document(&text, &[measured()]), text);
        assert!(document("", &[measured()]).contains("\n## broker\n"));
    }
}
