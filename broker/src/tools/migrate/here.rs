//! What the node here says of its queues before messages come into them: how long messages live there, and whether a
//! limit drops the oldest.

use super::say;
use crate::ctl::{Asked, encoded};
use daemon::run::Failure;
use serde_json::Value;

/// Asks for the times to live of queues here, in their order, and tells what may cost messages. Before a move, queues
/// that are not here are left to it; before a mere look, they need not be.
pub(super) fn look(
    node: Option<&str>,
    vhost: &str,
    queues: &[&str],
    moves: bool,
) -> Result<Vec<Option<u64>>, Failure> {
    let mut asked = match Asked::connect(node) {
        Ok(asked) => asked,
        Err(failure) => {
            say(&unasked(&failure))?;
            return Ok(vec![None; queues.len()]);
        }
    };
    let mut times = Vec::new();
    for queue in queues {
        let answer = asked.get(&format!("/api/queues/{}/{}", encoded(vhost), encoded(queue)));
        for warning in warnings(queue, &answer, moves) {
            say(&warning)?;
        }
        times.push(answer.as_ref().ok().and_then(time_to_live));
    }
    Ok(times)
}

fn unasked(failure: &Failure) -> String {
    format!(
        "warn    the node here can not be asked about its queues ({}): where they have a time to live, that of moved \
         messages begins anew, and it is not known whether they have limits; --node http://admin:password@host:15672 \
         tells whom to ask",
        reason(failure)
    )
}

/// The first line of it: it stands within another.
fn reason(failure: &Failure) -> &str {
    failure.message.lines().next().unwrap_or_default()
}

/// What to say of a queue.
fn warnings(queue: &str, answer: &Result<Value, Failure>, moves: bool) -> Vec<String> {
    let shown = match answer {
        Ok(shown) => shown,
        Err(_) if !moves => return Vec::new(),
        Err(failure) => {
            return vec![format!(
                "warn    queue {queue}: the node here does not show it ({}): if it has a time to live, that of moved \
                 messages begins anew, and it is not known whether it has a limit",
                reason(failure)
            )];
        }
    };
    let limits = limits(shown);
    if limits.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "warn    queue {queue} here has a limit ({}) and drops its oldest messages beyond it: what publishers here add, \
         and what comes twice after a run that was cut off, pushes out moved messages; raise the limit for the move",
        limits.join(", ")
    )]
}

/// The limits beyond which a queue drops its oldest messages. One that refuses new ones instead loses none: the move
/// ends, and what was refused is still there.
fn limits(queue: &Value) -> Vec<String> {
    let (arguments, policy) = (&queue["arguments"], &queue["effective_policy_definition"]);
    let overflow = arguments["x-overflow"].as_str().or_else(|| policy["overflow"].as_str());
    if overflow.is_some_and(|it| it.starts_with("reject-publish")) {
        return Vec::new();
    }
    let mut all = Vec::new();
    for name in ["max-length", "max-length-bytes"] {
        let argument = format!("x-{name}");
        if let Some(limit) = arguments[&argument].as_u64() {
            all.push(format!("{argument} {limit}"));
        }
        if let Some(limit) = policy[name].as_u64() {
            all.push(format!("policy {name} {limit}"));
        }
    }
    all
}

/// The time to live of a queue, as the API shows the queue: the lower one of argument and policies.
fn time_to_live(queue: &Value) -> Option<u64> {
    let argument = queue["arguments"]["x-message-ttl"].as_u64();
    let policy = queue["effective_policy_definition"]["message-ttl"].as_u64();
    [argument, policy].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::exit::Exit;
    use serde_json::json;

    #[test]
    fn a_limit_that_drops_the_oldest_is_told_before_messages_move() {
        let told = |arguments: Value, policy: Value| {
            let queue = json!({"arguments": arguments, "effective_policy_definition": policy});
            warnings("q", &Ok(queue), true).join("\n")
        };
        let both = told(json!({"x-max-length": 5}), json!({"max-length-bytes": 900}));
        assert!(
            both.starts_with(
                "warn    queue q here has a limit (x-max-length 5, policy max-length-bytes 900)"
            )
        );
        assert!(!told(json!({"x-max-length": 5, "x-overflow": "drop-head"}), json!({})).is_empty());
        assert_eq!(told(json!({"x-max-length": 5}), json!({"overflow": "reject-publish"})), "");
        assert_eq!(told(json!({"x-message-ttl": 5}), Value::Null), "");
    }

    #[test]
    fn it_is_told_when_the_time_to_live_of_a_queue_can_not_be_known() {
        let failure = || Failure::new(Exit::Unavailable, "nobody answers\nat all");
        assert!(unasked(&failure()).contains("(nobody answers)"));
        let told = warnings("q", &Err(failure()), true);
        assert!(
            told.iter().any(|it| it.starts_with("warn    queue q:") && it.contains("begins anew")),
            "{told:?}"
        );
        assert_eq!(warnings("q", &Err(failure()), false), Vec::<String>::new(), "it is not here yet");
    }

    #[test]
    fn the_lower_time_to_live_counts() {
        let queue =
            json!({"arguments": {"x-message-ttl": 7}, "effective_policy_definition": {"message-ttl": 5}});
        assert_eq!((time_to_live(&queue), time_to_live(&json!({}))), (Some(5), None));
    }
}
