//! `cargo xtask bench management`: what it costs to look at a broker with many queues. Ours alone.

use super::report::Report;
use super::rivals::{self, Scratch};
use super::{build, loads, one};
use anyhow::Result;

const REMARK: &str = "Each list is asked for nine times, with a login each time; the median is shown, from the request to \
the last octet of the answer. While the page is kept fresh the broker is asked what the browser asks: the overview, the \
names of the virtual hosts, the nodes, the queues that grow most, and the page.";

pub(super) fn run() -> Result<Report> {
    build()?;
    let scratch = Scratch::new("bench-management")?;
    let mut report = Report::new("management", &["ours"], REMARK);
    let broker = rivals::broker_pages(&scratch)?;
    println!("{}", loads::PAGES.heading);
    let line = one(&broker, &loads::PAGES)?;
    println!("  {line}");
    report.add(&loads::PAGES, &[vec![line]]);
    println!("\n{}", report.text());
    Ok(report)
}
