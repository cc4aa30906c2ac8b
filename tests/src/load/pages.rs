//! The load of people who look: one list of many queues, and a web page that is kept fresh.

use super::Target;
use super::figures::{Latencies, Line, cpu_seconds};
use crate::api::{Api, encoded};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What the page of the queues asks for in each round, as the browser does.
const ROUND: [&str; 5] = [
    "overview?lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5",
    "vhosts?columns=name",
    "nodes",
    "queues?page=1&page_size=5&sort=messages_details.rate&sort_reverse=true&pagination=true&columns=name,vhost,messages,\
     messages_ready,messages_details.rate,consumers,paused,message_stats.publish_details.rate",
    "queues?page=1&page_size=100&pagination=true&sort=messages&sort_reverse=true&columns=name,vhost,node,type,durable,\
     auto_delete,exclusive,arguments,policy,operator_policy,effective_policy_definition,state,idle_since,paused,consumers,\
     consumer_capacity,messages,messages_details,messages_ready,messages_unacknowledged,message_bytes,members,online,\
     message_stats.publish_details.rate,message_stats.deliver_get_details.rate,message_stats.ack_details.rate",
];
/// How often a list is asked for.
const LISTS: usize = 9;

/// Makes queues, asks for lists of them, then looks at their page once a second for a time. `address` is that of the
/// HTTP API.
///
/// # Errors
/// The API refuses something.
pub fn pages(target: &Target, count: usize, time: Duration) -> Result<Line> {
    let port = target.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let api = Api::as_user(port.context("the address has no port")?, &target.user, &target.password);
    let queues: Vec<Value> = (0..count)
        .map(|at| json!({"name": format!("load-{at}"), "durable": true, "auto_delete": false, "arguments": {}}))
        .collect();
    let path = format!("definitions/{}", encoded(&target.vhost));
    let (status, answer) = api.ask("POST", &path, Some(&json!({ "queues": queues })))?;
    ensure!(status == 204, "the queues are not made: {status} {answer}");
    let asked = |path: &str| -> Result<Duration> {
        let began = Instant::now();
        let (status, length) = api.measure(path)?;
        ensure!(status == 200 && length > 2, "{path}: {status}");
        Ok(began.elapsed())
    };
    let mut line = Line::default();
    for (name, path) in [
        ("all_ms", "queues"),
        ("columns_ms", "queues?columns=name,messages,consumers"),
        ("page_ms", ROUND[4]),
    ] {
        let mut latencies = Latencies::default();
        for _ in 0..LISTS {
            latencies.add(asked(path)?);
        }
        line.add(name, f64::from(latencies.at(0.5)) / 1e3);
    }
    let pids = &target.pids;
    let (before, began) = (cpu_seconds(pids), Instant::now());
    let mut next = began;
    while began.elapsed() < time {
        ROUND.iter().try_for_each(|path| asked(path).map(drop))?;
        next += Duration::from_secs(1);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    line.add("polling_percent", (cpu_seconds(pids) - before) / began.elapsed().as_secs_f64() * 100.0);
    Ok(line)
}
