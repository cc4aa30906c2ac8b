//! How far a move is: bars on a terminal, and a line for each queue that is done.

use crate::ctl::escaped;
use indicatif::{HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// All bars. Where standard error is no terminal there are none to see.
pub(super) struct Progress {
    bars: MultiProgress,
    width: usize,
}

impl Progress {
    /// For queues with these names.
    pub(super) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let width = names.map(|name| name.chars().count()).max().unwrap_or(0).clamp(8, 40);
        Self { bars: MultiProgress::new(), width }
    }

    /// The bar of a queue with so many messages.
    pub(super) fn queue(&self, name: &str, messages: u64) -> Bar {
        let name = escaped(name);
        let template = "{prefix}  {bar:20}  {human_pos}/{human_len}  {per_sec}  eta {eta}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.bars.add(ProgressBar::new(messages));
        bar.set_style(style.progress_chars("━╸─"));
        bar.set_prefix(format!("{name:<width$}", width = self.width));
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar { bar, began: Instant::now(), name: format!("{name:<width$}", width = self.width) }
    }
}

/// The bar of one queue.
pub(super) struct Bar {
    bar: ProgressBar,
    began: Instant,
    name: String,
}

impl Bar {
    /// So many messages are over.
    pub(super) fn at(&self, messages: u64) {
        // Publishers there may go on.
        if messages > self.bar.length().unwrap_or(0) {
            self.bar.set_length(messages);
        }
        self.bar.set_position(messages);
    }

    /// Why nothing moves for the moment.
    pub(super) fn waits(&self, why: Option<&str>) {
        let shown = why.map_or_else(|| self.name.clone(), |why| format!("{} ({})", self.name, escaped(why)));
        self.bar.set_prefix(shown);
    }

    /// The bar goes; what to say instead.
    pub(super) fn done(self, messages: u64) -> String {
        self.bar.finish_and_clear();
        let took = self.began.elapsed();
        let rate = HumanCount((messages as f64 / took.as_secs_f64().max(0.001)) as u64);
        let took = if took.as_secs() == 0 {
            "less than a second".to_owned()
        } else {
            HumanDuration(took).to_string()
        };
        format!("{}  {} moved in {took}, {rate} msg/s", self.name, HumanCount(messages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_queue_does_not_steer_the_terminal() {
        let bar = Progress::new(std::iter::once("q")).queue("a\u{1b}[2J", 0);
        bar.waits(Some("no\u{7}"));
        assert_eq!(bar.bar.prefix(), "a\\u{1b}[2J (no\\u{7})");
        assert!(bar.done(0).starts_with("a\\u{1b}[2J  0 moved"));
    }
}
