//! Tables of medians: ours, theirs, and the ratio.

use std::fmt::Write as _;

/// What was measured of one subject.
pub(crate) struct Report {
    subject: &'static str,
    theirs: &'static str,
    remark: &'static str,
    /// The name of the processor time among the figures, and its heading.
    cpu: (&'static str, &'static str),
    tables: Vec<(String, Vec<Row>)>,
}

/// A figure: heading, ours, theirs.
type Row = (String, f64, f64);

impl Report {
    pub(super) fn new(
        subject: &'static str,
        theirs: &'static str,
        remark: &'static str,
        cpu: &'static str,
        cpu_heading: &'static str,
    ) -> Self {
        Self { subject, theirs, remark, cpu: (cpu, cpu_heading), tables: Vec::new() }
    }

    /// Adds the lines of both sides for one load: `name=value` words, in rounds.
    pub(super) fn add(&mut self, heading: &str, results: &[Vec<String>; 2]) {
        let names: Vec<String> = results[0]
            .first()
            .map(|line| {
                line.split(' ')
                    .filter_map(|word| word.split_once('='))
                    .map(|(name, _)| name.to_owned())
                    .collect()
            })
            .unwrap_or_default();
        let row = |name: &String| {
            let title = match name.as_str() {
                "rate" => "per second".to_owned(),
                cpu if cpu == self.cpu.0 => self.cpu.1.to_owned(),
                other => other.replace("_ms", ", ms").replace('_', " "),
            };
            (title, median(&results[0], name), median(&results[1], name))
        };
        self.tables.push((heading.to_owned(), names.iter().map(row).collect()));
    }

    /// The tables as Markdown.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (heading, rows) in &self.tables {
            let _ = writeln!(text, "### {}: {heading}\n", self.subject);
            let _ =
                writeln!(text, "| | ours | {} | ours / theirs |\n| --- | ---: | ---: | ---: |", self.theirs);
            for (title, ours, theirs) in rows {
                let _ = writeln!(
                    text,
                    "| {title} | {} | {} | {} |",
                    number(*ours),
                    number(*theirs),
                    ratio(*ours, *theirs)
                );
            }
            text.push('\n');
        }
        let _ = writeln!(text, "{}", self.remark);
        text
    }
}

/// The whole document for `docs/benchmarks.md`.
pub(super) fn document(reports: &[Report]) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let mut text = format!(
        "# Benchmarks\n\nWritten by `cargo xtask bench --write` on {cores} cores ({model}), load generator and servers \
         on the same machine.\nEach figure is the median of rounds in alternation. A ratio below 1 is good for \
         times and CPU, above 1 for rates.\n\n"
    );
    for report in reports {
        let _ = writeln!(text, "## {}\n\n{}", report.subject, report.text());
    }
    text
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
        it if it >= 100.0 => format!("{value:.0}"),
        it if it >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn ratio(ours: f64, theirs: f64) -> String {
    if theirs > 0.0 { format!("{:.2}", ours / theirs) } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_holds_medians_and_ratios() {
        let mut report = Report::new("broker", "RabbitMQ", "Remark.", "cpu_per_million", "CPU s per million");
        let lines = |values: [&str; 3]| values.map(|it| format!("rate={it} cpu_per_million=2.0")).to_vec();
        report.add("a load", &[lines(["100", "300", "200"]), lines(["50", "10", "90"])]);
        let text = report.text();
        assert!(text.contains("| per second | 200 | 50.00 | 4.00 |"), "{text}");
        assert!(text.contains("| CPU s per million | 2.00 | 2.00 | 1.00 |"), "{text}");
    }
}
