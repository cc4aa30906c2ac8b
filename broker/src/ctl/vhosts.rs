//! Vhosts, their limits and tracing.

use super::error::CtlError;
use super::format::Rows;
use super::listing::columns;
use super::run::Run;
use super::users::set_limits;
use daemon::exit::Exit;
use hyper::Method;
use serde_json::{Map, Value, json};

const COLUMNS: &[&str] =
    &["name", "description", "tags", "default_queue_type", "tracing", "cluster_state", "metadata"];

pub(super) fn list_vhosts(run: &mut Run<'_>) -> Result<(), CtlError> {
    let columns = columns(run, COLUMNS, &["name"])?;
    run.say("Listing vhosts ...")?;
    let vhosts = run.list(&["vhosts"])?;
    run.rows(&Rows::pick(&columns, &vhosts))
}

pub(super) fn add_vhost(run: &mut Run<'_>) -> Result<(), CtlError> {
    let name = run.argument(0);
    if name.is_empty() {
        return Err(CtlError::bad_argument("virtual host name cannot be an empty string"));
    }
    run.say(&format!("Adding vhost \"{name}\" ..."))?;
    let mut body = Map::new();
    for (switch, key) in
        [("description", "description"), ("tags", "tags"), ("default-queue-type", "default_queue_type")]
    {
        if let Some(value) = run.parsed.value(switch) {
            body.insert(key.to_owned(), Value::from(value));
        }
    }
    run.put(&["vhosts", name], &Value::Object(body))
}

pub(super) fn delete_vhost(run: &mut Run<'_>) -> Result<(), CtlError> {
    let name = run.argument(0);
    run.say(&format!("Deleting vhost \"{name}\" ..."))?;
    let answer = run.ask(Method::DELETE, &["vhosts", name], None)?;
    if answer.is_missing() {
        let text = format!("Virtual host '{name}' does not exist");
        return Err(CtlError::plain(Exit::DataError, text));
    }
    answer.fine().map(drop)
}

pub(super) fn set_vhost_tags(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (name, tags) = (run.argument(0), run.arguments_from(1));
    run.say(&format!("Setting tags for virtual host \"{name}\" to [{}] ...", tags.join(", ")))?;
    run.need_vhost(name)?;
    run.put(&["vhosts", name], &json!({"tags": tags.join(",")}))
}

pub(super) fn restart_vhost(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, node) = (run.parsed.vhost(), run.node()?);
    run.say(&format!("Trying to restart vhost \"{vhost}\" on node {node} ..."))?;
    run.need_vhost(vhost)?;
    run.print(&format!("Vhost \"{vhost}\" is running on node {node}: vhosts do not fail one by one here"))
}

pub(super) fn trace_on(run: &mut Run<'_>) -> Result<(), CtlError> {
    trace(run, true)
}

pub(super) fn trace_off(run: &mut Run<'_>) -> Result<(), CtlError> {
    trace(run, false)
}

fn trace(run: &mut Run<'_>, on: bool) -> Result<(), CtlError> {
    let (begin, done) = if on { ("Starting", "enabled") } else { ("Stopping", "disabled") };
    let vhost = run.parsed.vhost();
    run.say(&format!("{begin} tracing for vhost \"{vhost}\" ..."))?;
    run.need_vhost(vhost)?;
    run.put(&["vhosts", vhost], &json!({"tracing": on}))?;
    run.print(&format!("Trace {done} for vhost {vhost}"))
}

pub(super) fn set_vhost_limits(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, limits) = (run.parsed.vhost(), run.argument(0));
    run.say(&format!("Setting vhost limits to \"{limits}\" for vhost \"{vhost}\" ..."))?;
    run.need_vhost(vhost)?;
    set_limits(run, &["vhost-limits", vhost], limits)
}

pub(super) fn clear_vhost_limits(run: &mut Run<'_>) -> Result<(), CtlError> {
    let vhost = run.parsed.vhost();
    run.say(&format!("Clearing vhost \"{vhost}\" limits ..."))?;
    run.need_vhost(vhost)?;
    set_limits(run, &["vhost-limits", vhost], "{}")
}

pub(super) fn list_vhost_limits(run: &mut Run<'_>) -> Result<(), CtlError> {
    if run.parsed.has("global") {
        run.say("Listing limits for all vhosts ...")?;
        let found = run.list(&["vhost-limits"])?;
        let shown = |entry: &Value| json!({"vhost": entry["vhost"], "limits": entry["value"].to_string()});
        let found: Vec<Value> = found.iter().map(shown).collect();
        return run.rows(&Rows::pick(&["vhost", "limits"], &found));
    }
    let vhost = run.parsed.vhost();
    run.say(&format!("Listing limits for vhost \"{vhost}\" ..."))?;
    run.need_vhost(vhost)?;
    let found = run.list(&["vhost-limits", vhost])?;
    found.first().map_or(Ok(()), |entry| run.print(&entry["value"].to_string()))
}
