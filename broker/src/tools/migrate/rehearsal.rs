//! Whether a node would take definitions, without one: they go into metadata in memory, which holds what the node has.

use super::summary::entries;
use crate::metadata::definitions::{Draft, ImportError};
use daemon::exit::Exit;
use daemon::run::Failure;
use serde_json::{Value, json};

/// Imports `wanted` beside what is `there`, or beside what a new node has. Returns what would be refused.
pub(super) fn run(wanted: &Value, there: Option<&Value>) -> Result<Vec<ImportError>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Failure::new(Exit::Software, format!("the definitions cannot be tried: {error}")))?;
    let draft = Draft::default();
    Ok(runtime.block_on(async {
        match there {
            // What was asked for part by part from a node at work may not fit together; what does not is left out.
            Some(there) => {
                let mut all = there.clone();
                // A vhost may have more than its limit, which came later.
                let limits: Vec<Value> = entries(there, "parameters").cloned().collect();
                if let Some(all) = all.as_object_mut() {
                    all.remove("parameters");
                }
                draft.import(&all).await;
                draft.import(&json!({"parameters": limits})).await;
            }
            None => {
                let new = json!({"vhosts": [{"name": "/"}], "users": [{"name": "guest"}]});
                draft.import(&new).await;
            }
        }
        draft.import(wanted).await
    }))
}

/// Refusals that are shown.
const SHOWN: usize = 10;

/// The failure that says what a node would refuse.
pub(super) fn failure(refused: &[ImportError], from_file: bool) -> Failure {
    let shown: Vec<String> = refused.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = refused.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    let text = format!("the node would refuse this; nothing was written:\n  {}{more}", shown.join("\n  "));
    let failure = Failure::new(Exit::DataError, text);
    match refused.first() {
        Some(ImportError::NoVhost) => failure.detail(
            "try",
            "the definitions of all vhosts; those of one go to its own address: POST /api/definitions/VHOST",
        ),
        _ if from_file => failure.detail("write", "other definitions of these, or none, in the file"),
        _ => failure.detail(
            "try",
            "rabbitmqctl export_definitions FILE   there, and --definitions FILE here, without these",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_has_is_no_obstacle_and_counts() {
        let queue = |name: &str| json!({"vhost": "/", "name": name, "durable": true, "auto_delete": false, "arguments": {}});
        let binding = |to: &str| json!({"vhost": "/", "source": "amq.direct", "destination": to, "destination_type": "queue", "routing_key": "", "arguments": {}});
        let there = json!({
            "vhosts": [{"name": "/"}],
            "queues": [queue("one"), queue("two")],
            // One came in between.
            "bindings": [binding("three"), binding("one")],
            "parameters": [{"vhost": "/", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 1}}],
        });
        let refused = |wanted: &Value, there: Option<&Value>| -> Vec<String> {
            run(wanted, there).unwrap().iter().map(ToString::to_string).collect()
        };
        let users = json!({"users": [{"name": "u"}], "bindings": [binding("two")]});
        assert_eq!(refused(&users, Some(&there)), [""; 0]);
        let [no_binding] = &refused(&users, None)[..] else { panic!("a new node has no queue") };
        assert!(no_binding.contains("no queue 'two'"), "{no_binding}");
        let more = json!({"queues": [queue("two"), queue("four"), queue("five")]});
        let told = refused(&more, Some(&there));
        assert!(told.len() == 2 && told[0].contains("four") && told[1].contains("five"), "{told:?}");
        assert_eq!(refused(&more, None), [""; 0]);
    }
}
