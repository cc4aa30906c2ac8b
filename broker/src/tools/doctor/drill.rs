//! A failure on purpose: messages go through the address all the time while something behind it is stopped, and what is
//! told is the longest time that none was confirmed. The doctor stops nothing itself; a command that it is given may.

use super::finding::Finding;
use crate::tools::connection::{Connection, dial_within};
use crate::tools::line;
use crate::tools::url::Url;
use amqp::Method;
use amqp::content::BasicProperties;
use amqp::method::{basic, queue};
use amqp::table::{FieldTable, FieldValue, Table};
use daemon::exit::Exit;
use daemon::run::Failure;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const STEP: &str = "failover drill";
/// How much longer it is waited for confirms to come back.
const MORE: Duration = Duration::from_secs(30);
/// Messages flow for so long before the command is run.
const BEFORE: Duration = Duration::from_secs(2);
/// How long connecting and each confirm may take until a connection is given up.
const PATIENCE: Duration = Duration::from_secs(2);
/// At the end a confirm was heard within this, or it is waited for longer.
const QUIET: Duration = Duration::from_millis(500);
/// Between messages, and between attempts to connect.
const PACE: Duration = Duration::from_millis(10);
/// A queue that a doctor left behind goes after this, in milliseconds.
const EXPIRES_MS: i32 = 600_000;
/// What a failover with the defaults takes at most: three adverts of the address, two failed checks of a broker.
const USUAL: Duration = Duration::from_secs(5);

/// What came of the messages.
#[derive(Debug, Clone, Copy)]
struct Gaps {
    last: Instant,
    longest: Duration,
    confirmed: u64,
    /// Messages that came back because nothing takes them.
    returned: u64,
    /// Connections that ended.
    lost: u64,
}

impl Gaps {
    fn new(began: Instant) -> Gaps {
        Gaps { last: began, longest: Duration::ZERO, confirmed: 0, returned: 0, lost: 0 }
    }

    fn confirm(&mut self, now: Instant, count: u64) {
        self.longest = self.longest.max(now.duration_since(self.last));
        self.last = now;
        self.confirmed += count;
    }

    /// What is told at the end; `why` is what went wrong last.
    fn finding(&self, now: Instant, why: &str) -> Finding {
        let silent = now.duration_since(self.last);
        if silent > QUIET {
            let text = format!(
                "no confirm for {:.1} s, and still none ({why}); {}",
                silent.as_secs_f64(),
                self.counts()
            );
            return Finding::fail(STEP, text, "broker doctor URL   says where it ends now");
        }
        if self.returned > 0 {
            let text =
                format!("{} messages came back: their queue was gone; {}", self.returned, self.counts());
            return Finding::fail(
                STEP,
                text,
                "broker ctl list_queues   says which queues survive what you stopped",
            );
        }
        let longest = self.longest.max(silent);
        let text = format!("at most {:.2} s without a confirm; {}", longest.as_secs_f64(), self.counts());
        if longest > USUAL {
            let fix = "shorter checks of the balancer (inter 1s fall 2), mirrored queues (set_policy), faster adverts of the address";
            return Finding::warn(STEP, text, fix);
        }
        Finding::pass(STEP, text)
    }

    fn counts(&self) -> String {
        let word = if self.lost == 1 { "connection" } else { "connections" };
        format!("{} confirmed, {} {word} lost", self.confirmed, self.lost)
    }
}

/// Publishes all the time while `command` runs, or while somebody stops something, for so long; what came of it.
pub(super) fn drill(
    url: &Url,
    cacert: Option<&Path>,
    command: &str,
    length: Duration,
) -> Result<Finding, Failure> {
    let what = if command.is_empty() {
        "stop what you like now: messages go through the address".to_owned()
    } else {
        format!("messages go through the address while this runs: {command}")
    };
    let what = format!("{what}, for {} s", length.as_secs());
    line(&Finding::note(STEP, what, "").to_string())?;
    let name = format!("broker-doctor-drill-{:08x}", rand::random::<u32>());
    let began = Instant::now();
    let mut gaps = Gaps::new(began);
    let mut traffic: Option<Traffic> = None;
    let mut why = String::new();
    let mut child: Option<Child> = None;
    let mut to_run = Some(command).filter(|command| !command.is_empty());
    loop {
        let elapsed = began.elapsed();
        if elapsed >= BEFORE
            && let Some(command) = to_run.take()
        {
            child = Some(start(command)?);
        }
        let flows = gaps.last.elapsed() < QUIET;
        if elapsed >= length && (flows || elapsed >= length + MORE) {
            break;
        }
        match &mut traffic {
            None => match Traffic::start(url, cacert, &name) {
                Ok(open) => traffic = Some(open),
                Err(failure) => why = failure.message,
            },
            Some(open) => {
                if let Err(failure) = open.step(&name, &mut gaps) {
                    why = failure.message;
                    gaps.lost += 1;
                    traffic = None;
                }
            }
        }
        std::thread::sleep(PACE);
    }
    let finding = gaps.finding(Instant::now(), &why);
    if let Some(Traffic { mut connection, .. }) = traffic {
        // What is not deleted here expires.
        let _ = connection.call(queue::Delete { queue: &name, ..Default::default() }, "queue.delete-ok");
        let _ = connection.close();
    }
    if let Some(Err(failure)) = child.map(|child| finish(child, command)) {
        // What was measured is told all the same.
        line(&finding.to_string())?;
        return Ok(failure);
    }
    Ok(finding)
}

/// Messages on their way to the address.
struct Traffic {
    connection: Connection,
    /// When it was made, or the last confirm came.
    heard: Instant,
    /// The last delivery tag that was confirmed.
    confirmed: u64,
}

impl Traffic {
    fn start(url: &Url, cacert: Option<&Path>, queue: &str) -> Result<Traffic, Failure> {
        let (_, stream) = dial_within(url, PATIENCE)?;
        let mut connection = Connection::over_within(stream, url, cacert, PATIENCE)?;
        declare(&mut connection, queue)?;
        connection.look_for(PACE)?;
        Ok(Traffic { connection, heard: Instant::now(), confirmed: 0 })
    }

    /// One message more, whether those before are confirmed or not, as an application goes on; what came meanwhile.
    fn step(&mut self, queue: &str, gaps: &mut Gaps) -> Result<(), Failure> {
        let publish = basic::Publish { routing_key: queue, mandatory: true, ..Default::default() };
        let properties = BasicProperties { delivery_mode: Some(2), ..Default::default() };
        self.connection.publish(publish, &properties, b"broker doctor");
        let mut event = self.connection.next(PACE)?;
        while let Some(known) = event {
            match known.method()? {
                Method::BasicAck(ack) => {
                    let count =
                        if ack.multiple { ack.delivery_tag.saturating_sub(self.confirmed) } else { 1 };
                    self.confirmed = self.confirmed.max(ack.delivery_tag);
                    self.heard = Instant::now();
                    gaps.confirm(self.heard, count);
                }
                Method::BasicReturn(_) => gaps.returned += 1,
                Method::BasicNack(_) => {
                    return Err(Failure::new(Exit::Unavailable, "the broker did not keep the message"));
                }
                _ => {}
            }
            event = self.connection.next_known()?;
        }
        if self.heard.elapsed() > PATIENCE {
            return Err(Failure::new(Exit::TempFail, format!("no confirm within {PATIENCE:?}")));
        }
        Ok(())
    }
}

/// A durable queue of one message, under the policies that other queues are under.
fn declare(connection: &mut Connection, name: &str) -> Result<(), Failure> {
    let mut arguments = FieldTable::new();
    arguments.insert("x-expires", FieldValue::SignedInt(EXPIRES_MS));
    arguments.insert("x-max-length", FieldValue::SignedInt(1));
    let octets = arguments.to_bytes();
    let arguments = Table::parse(&octets)
        .map_err(|error| Failure::new(Exit::Software, format!("arguments of a queue: {error}")))?;
    connection.declare(queue::Declare { queue: name, durable: true, arguments, ..Default::default() })?;
    connection.confirm()
}

fn start(command: &str) -> Result<Child, Failure> {
    // In a group of its own, so that all of it can be ended.
    let child = Command::new("/bin/sh").args(["-c", command]).process_group(0).spawn();
    child.map_err(|error| Failure::new(Exit::OsError, format!("cannot run {command}: {error}")))
}

/// Whether the command did what it should; one that still runs is ended.
fn finish(mut child: Child, command: &str) -> Result<(), Finding> {
    let text = match child.try_wait() {
        Ok(Some(status)) if status.success() => return Ok(()),
        Ok(Some(status)) => format!("`{command}`: {status}"),
        _ => {
            if let Ok(group) = i32::try_from(child.id()) {
                // It may end at this moment.
                let _ = nix::sys::signal::killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = child.wait();
            format!("`{command}` still ran at the end")
        }
    };
    Err(Finding::fail(STEP, text, "run it by hand first"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::doctor::finding::Level;

    #[test]
    fn the_longest_time_without_a_confirm_is_told_and_how_bad_it_is() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let mut gaps = Gaps::new(began);
        for ms in [10, 20, 1270, 1280] {
            gaps.confirm(at(ms), 1);
        }
        gaps.lost = 1;
        let told = gaps.finding(at(1300), "");
        assert_eq!(told.level, Level::Pass);
        assert_eq!(
            told.to_string(),
            "PASS failover drill           at most 1.25 s without a confirm; 4 confirmed, 1 connection lost"
        );
        let still = gaps.finding(at(4280), "refused").to_string();
        assert!(
            still.starts_with("FAIL failover drill           no confirm for 3.0 s, and still none (refused)"),
            "{still}"
        );
        gaps.confirm(at(9000), 1);
        assert_eq!(gaps.finding(at(9001), "").level, Level::Warn);
        gaps.returned = 1;
        let returned = gaps.finding(at(9001), "").to_string();
        assert!(returned.contains("1 messages came back"), "{returned}");
    }

    #[test]
    fn a_command_that_fails_or_does_not_end_is_told() {
        let run = |command: &str, ends: bool| {
            let mut child = start(command).unwrap();
            if ends {
                child.wait().unwrap();
            }
            finish(child, command).map_err(|finding| finding.to_string())
        };
        assert_eq!(run("true", true), Ok(()));
        assert!(run("exit 3", true).unwrap_err().contains("`exit 3`: exit status: 3"));
        assert!(run("sleep 600; true", false).unwrap_err().contains("still ran at the end"));
    }
}
