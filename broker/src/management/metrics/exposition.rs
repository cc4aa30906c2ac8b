//! Prometheus's text format (version 0.0.4).

use super::names::help;
use std::fmt::Write as _;

/// Text that is being written.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }

    /// What names that end in `_total` are.
    pub(super) fn of(name: &str) -> Kind {
        if name.ends_with("_total") { Kind::Counter } else { Kind::Gauge }
    }
}

/// The samples of one metric.
pub(super) struct Samples<'a> {
    out: &'a mut String,
    name: String,
}

impl Exposition {
    /// Begins a metric: `prefix` and `name` make its name, `name` says what it means.
    pub(super) fn metric(&mut self, prefix: &str, name: &str, kind: Kind) -> Samples<'_> {
        let full = format!("{prefix}{name}");
        let _ = write!(self.text, "# TYPE {full} {}\n# HELP {full} {}\n", kind.name(), help(name));
        Samples { out: &mut self.text, name: full }
    }

    /// A metric with one sample.
    pub(super) fn value(&mut self, prefix: &str, name: &str, labels: &[(&str, &str)], value: f64) {
        self.metric(prefix, name, Kind::of(name)).sample(labels, value);
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

impl Samples<'_> {
    /// Adds a sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.suffixed("", labels, value);
    }

    /// Adds a histogram: its bounds, and how many fell below each and beyond the last.
    pub(super) fn histogram(&mut self, bounds: &[f64], counts: &[u64], sum: f64) {
        let mut below = 0;
        for (at, count) in counts.iter().enumerate() {
            below += count;
            let bound = bounds.get(at).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            self.suffixed("_bucket", &[("le", &bound)], below as f64);
        }
        self.suffixed("_sum", &[], sum);
        self.suffixed("_count", &[], below as f64);
    }

    fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.out.push_str(&self.name);
        self.out.push_str(suffix);
        for (at, (name, value)) in labels.iter().enumerate() {
            self.out.push(if at == 0 { '{' } else { ',' });
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(self.out, value);
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        // Writing to a string does not fail.
        let _ = writeln!(self.out, " {value}");
    }
}

/// Names of queues may hold anything.
fn escape(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_buckets_add_up() {
        let mut out = Exposition::default();
        out.metric("rabbitmq_", "queue_messages", Kind::Gauge)
            .sample(&[("vhost", "/"), ("queue", "a\"b\\c\nd")], 3.0);
        out.metric("x_", "size", Kind::Histogram).histogram(&[0.5, 1.0], &[1, 2, 4], 9.25);
        let text = out.finish();
        assert!(
            text.contains("rabbitmq_queue_messages{vhost=\"/\",queue=\"a\\\"b\\\\c\\nd\"} 3\n"),
            "{text}"
        );
        let buckets = "x_size_bucket{le=\"0.5\"} 1\nx_size_bucket{le=\"1\"} 3\nx_size_bucket{le=\"+Inf\"} 7\n\
                       x_size_sum 9.25\nx_size_count 7\n";
        assert!(text.ends_with(buckets), "{text}");
    }
}
