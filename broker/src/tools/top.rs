//! `broker top`: a node at a glance, again and again.

use super::line;
use crate::ctl::Asked;
use daemon::run::Failure;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// `broker top`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Node of this machine, or http://user:password@host:15672
    #[arg(short = 'n', long, value_name = "NODE")]
    node: Option<String>,
    /// Seconds between two looks
    #[arg(short = 'd', long, default_value_t = 1.0)]
    delay: f64,
    /// One look, and no more
    #[arg(long)]
    once: bool,
    /// Queues that are shown
    #[arg(long, default_value_t = 20)]
    queues: usize,
}

/// Shows the node until it is interrupted.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut asked = Asked::connect(args.node.as_deref())?;
    let delay = if args.delay.is_finite() { args.delay.clamp(0.1, 3600.0) } else { 1.0 };
    let mut out = std::io::stdout();
    if args.once || !out.is_terminal() {
        return line(screen(&mut asked, args.queues)?.trim_end());
    }
    loop {
        let text = screen(&mut asked, args.queues)?;
        // Home, the lines each cleared to its end, and what is below cleared: no flicker.
        let shown = text.replace('\n', "\u{1b}[K\r\n");
        let written = write!(out, "\u{1b}[H{shown}\u{1b}[J").and_then(|()| out.flush());
        if written.is_err() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs_f64(delay));
    }
}

fn screen(asked: &mut Asked, most: usize) -> Result<String, Failure> {
    let overview = asked.get("/api/overview")?;
    let node_name = overview["node"].as_str().unwrap_or_default().to_owned();
    let node = asked.get(&format!("/api/nodes/{}", crate::ctl::encoded(&node_name)))?;
    let columns = "columns=name,vhost,messages_ready,messages_unacknowledged,messages_details.rate,consumers,message_stats,state";
    let queues = asked.get(&format!(
        "/api/queues?sort=messages&sort_reverse=true&page=1&page_size={}&{columns}",
        most.clamp(1, 500)
    ))?;
    let mut text = String::new();
    let number = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), |it| format!("{it:.0}"));
    let gigabytes =
        |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), |it| format!("{:.2} GB", it / 1e9));
    let totals = &overview["object_totals"];
    let alarms: Vec<&str> = [("mem_alarm", "MEMORY ALARM"), ("disk_free_alarm", "DISK ALARM")]
        .into_iter()
        .filter(|(field, _)| node[*field] == true)
        .map(|(_, words)| words)
        .collect();
    let uptime = node["uptime"].as_u64().unwrap_or(0) / 1000;
    // Writing to a string can not fail.
    let _ = writeln!(
        text,
        "{node_name}  cluster {}  up {}:{:02}:{:02}  {}",
        overview["cluster_name"].as_str().unwrap_or_default(),
        uptime / 3600,
        uptime / 60 % 60,
        uptime % 60,
        alarms.join("  ")
    );
    let _ = writeln!(
        text,
        "memory {} of {}   disk free {}   connections {}   channels {}   queues {}   consumers {}",
        gigabytes(&node["mem_used"]),
        gigabytes(&node["mem_limit"]),
        gigabytes(&node["disk_free"]),
        number(&totals["connections"]),
        number(&totals["channels"]),
        number(&totals["queues"]),
        number(&totals["consumers"])
    );
    let stats = &overview["message_stats"];
    let rate = |stats: &Value, name: &str| number(&stats[format!("{name}_details")]["rate"]);
    let _ = writeln!(
        text,
        "ready {}   unacked {}   publish {}/s   confirm {}/s   deliver {}/s   ack {}/s\n",
        number(&overview["queue_totals"]["messages_ready"]),
        number(&overview["queue_totals"]["messages_unacknowledged"]),
        rate(stats, "publish"),
        rate(stats, "confirm"),
        rate(stats, "deliver_get"),
        rate(stats, "ack")
    );
    let _ = writeln!(
        text,
        "{:<40} {:>10} {:>10} {:>10} {:>10} {:>10} {:>6}",
        "QUEUE", "READY", "UNACKED", "CHANGE/S", "IN/S", "OUT/S", "CONS"
    );
    for queue in queues["items"].as_array().into_iter().flatten() {
        let vhost = queue["vhost"].as_str().unwrap_or_default();
        let name = queue["name"].as_str().unwrap_or_default();
        let title = if vhost == "/" { name.to_owned() } else { format!("{vhost} {name}") };
        let title: String = title.chars().filter(|it| !it.is_control()).take(40).collect();
        let _ = writeln!(
            text,
            "{title:<40} {:>10} {:>10} {:>10} {:>10} {:>10} {:>6}",
            number(&queue["messages_ready"]),
            number(&queue["messages_unacknowledged"]),
            number(&queue["messages_details"]["rate"]),
            rate(&queue["message_stats"], "publish"),
            rate(&queue["message_stats"], "deliver_get"),
            number(&queue["consumers"])
        );
    }
    Ok(text)
}
