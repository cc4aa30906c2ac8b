//! Where definitions come from: a file, or a RabbitMQ that runs.

use crate::ctl::Asked;
use daemon::exit::Exit;
use daemon::run::Failure;
use serde_json::{Map, Value};
use std::io::Read as _;
use std::path::Path;

/// Octets a file of definitions may have, as the API takes them.
const LARGEST: u64 = 64 << 20;

/// Definitions, and what is known of where they are from.
pub(super) struct Read {
    /// A file, or an address without its password.
    pub(super) from: String,
    /// As RabbitMQ exports them.
    pub(super) definitions: Value,
    /// Its queues as its API lists them, if it runs.
    pub(super) queues: Option<Vec<Value>>,
    /// What to do next.
    pub(super) hint: Option<String>,
}

/// Reads a file.
pub(super) fn file(path: &Path) -> Result<Read, Failure> {
    let shown = path.display();
    let unreadable =
        |error: &dyn std::fmt::Display| Failure::new(Exit::Io, format!("cannot read {shown}: {error}"));
    let opened = std::fs::File::open(path).map_err(|error| unreadable(&error))?;
    let mut octets = Vec::new();
    opened.take(LARGEST + 1).read_to_end(&mut octets).map_err(|error| unreadable(&error))?;
    if octets.len() as u64 > LARGEST {
        return Err(unreadable(&format!("it has more than {} MiB", LARGEST >> 20)));
    }
    let definitions: Value = serde_json::from_slice(&octets).map_err(|error| {
        let place = format!("{shown}:{}:{}: {error}", error.line(), error.column());
        Failure::new(Exit::DataError, place)
            .detail("write", "what `rabbitmqctl export_definitions FILE` made")
    })?;
    if !["queues", "users", "vhosts"].iter().any(|part| definitions[part].is_array()) {
        let text = format!("{shown} has neither users nor vhosts nor queues: it is no file of definitions");
        return Err(Failure::new(Exit::DataError, text)
            .detail("write", "what `rabbitmqctl export_definitions FILE` made"));
    }
    let from = path.file_name().map_or_else(|| shown.to_string(), |name| name.to_string_lossy().into_owned());
    Ok(Read { from, definitions, queues: None, hint: None })
}

/// Asks a broker that runs.
pub(super) fn running(url: &str) -> Result<Read, Failure> {
    if !url.contains("://") {
        return Err(Failure::new(Exit::Usage, "the address of the running broker can not be understood")
            .detail("write", "--from-running http://admin:password@host:15672"));
    }
    let mut asked = Asked::connect(Some(url)).map_err(not_reached)?;
    let overview = asked.get("/api/overview").map_err(|failure| {
        failure.detail("try", "a user with the tag administrator, and its password in the address")
    })?;
    let mut definitions = asked.get("/api/definitions").map_err(|failure| {
        failure.detail("try", "a user with the tag administrator; others do not see definitions")
    })?;
    add_user_limits(&mut definitions, asked.get("/api/user-limits").unwrap_or_default());
    let columns = "columns=vhost,name,type,messages,durable,exclusive,auto_delete,consumers";
    let queues = asked.get(&format!("/api/queues?{columns}"))?;
    let queues: Vec<Value> = queues.as_array().cloned().unwrap_or_default();
    let place = url.rsplit_once('@').map_or_else(|| url.split_once("://").map_or(url, |it| it.1), |it| it.1);
    let host = place.split('/').next().unwrap_or(place);
    let messages: u64 = queues.iter().filter_map(|queue| queue["messages"].as_u64()).sum();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let hint = (messages > 0).then(|| {
        format!("{messages} messages lie there: broker migrate --from-amqp amqp://USER:PASSWORD@{name}:5672/VHOST --drain")
    });
    let node = overview["node"].as_str().unwrap_or_default();
    Ok(Read { from: format!("{host} ({node})"), definitions, queues: Some(queues), hint })
}

fn not_reached(failure: Failure) -> Failure {
    failure.detail("try", "rabbitmq-plugins enable rabbitmq_management   there, or --definitions FILE here")
}

/// Puts limits of users into the users, where older versions leave them out.
fn add_user_limits(definitions: &mut Value, limits: Value) {
    let Value::Array(limits) = limits else { return };
    let Some(users) = definitions.get_mut("users").and_then(Value::as_array_mut) else { return };
    for limit in limits {
        let Some(value) = limit["value"].as_object().filter(|value| !value.is_empty()) else { continue };
        let has_limits = |user: &Value| user["limits"].as_object().is_some_and(|own| !own.is_empty());
        let mut of_user = users.iter_mut().filter(|user| user["name"] == limit["user"]);
        let user = of_user.next().filter(|user| !has_limits(user)).and_then(Value::as_object_mut);
        if let Some(user) = user {
            user.insert("limits".to_owned(), Value::Object(Map::clone(value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_of_users_come_from_where_they_are() {
        let mut definitions = json!({"users": [{"name": "a"}, {"name": "b", "limits": {"max-channels": 1}}]});
        let limits = json!([{"user": "a", "value": {"max-connections": 3}}, {"user": "b", "value": {"max-channels": 9}}]);
        add_user_limits(&mut definitions, limits);
        assert_eq!(definitions["users"][0]["limits"], json!({"max-connections": 3}));
        assert_eq!(definitions["users"][1]["limits"], json!({"max-channels": 1}));
    }

    #[test]
    fn a_file_that_is_something_else_is_refused_with_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        std::fs::write(&path, "{\n  \"users\": [}").unwrap();
        let told = file(&path).err().unwrap().to_string();
        assert!(told.contains("x.json:2:13") && told.contains("export_definitions"), "{told}");
        std::fs::write(&path, "{\"name\": 1}").unwrap();
        assert!(file(&path).err().unwrap().to_string().contains("no file of definitions"));
    }
}
