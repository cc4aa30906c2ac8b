//! Policies, operator policies, and runtime parameters.

use super::error::CtlError;
use super::format::Rows;
use super::run::{Run, typed_json};
use hyper::Method;
use serde_json::{Value, json};

/// Where policies of a kind are, and what they are called.
struct Kind {
    path: &'static str,
    title: &'static str,
}

const POLICY: Kind = Kind { path: "policies", title: "policy" };
const OPERATOR: Kind = Kind { path: "operator-policies", title: "operator policy override" };

pub(super) fn set_policy(run: &mut Run<'_>) -> Result<(), CtlError> {
    set(run, &POLICY)
}

pub(super) fn set_operator_policy(run: &mut Run<'_>) -> Result<(), CtlError> {
    set(run, &OPERATOR)
}

fn set(run: &mut Run<'_>, kind: &Kind) -> Result<(), CtlError> {
    let (name, pattern, definition) = (run.argument(0), run.argument(1), run.argument(2));
    let vhost = run.parsed.vhost();
    let priority = run.parsed.value("priority").unwrap_or("0");
    run.say(&format!(
        "Setting {} \"{name}\" for pattern \"{pattern}\" to \"{definition}\" with priority \"{priority}\" for vhost \"{vhost}\" ...",
        kind.title
    ))?;
    let priority: i64 = priority
        .parse()
        .map_err(|_| CtlError::usage(format!("--priority is `{priority}`, which is not a number")))?;
    let body = json!({
        "pattern": pattern, "definition": typed_json(definition)?, "priority": priority,
        "apply-to": run.parsed.value("apply-to").unwrap_or("all"),
    });
    run.need_vhost(vhost)?;
    run.put(&[kind.path, vhost, name], &body)
}

pub(super) fn clear_policy(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, name) = (run.parsed.vhost(), run.argument(0));
    run.say(&format!("Clearing policy \"{name}\" on vhost \"{vhost}\" ..."))?;
    clear(run, &["policies", vhost, name], vhost)
}

pub(super) fn clear_operator_policy(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, name) = (run.parsed.vhost(), run.argument(0));
    run.say(&format!("Clearing operator policy \"{name}\" on vhost \"{vhost}\" ..."))?;
    clear(run, &["operator-policies", vhost, name], vhost)
}

fn clear(run: &mut Run<'_>, parts: &[&str], vhost: &str) -> Result<(), CtlError> {
    run.need_vhost(vhost)?;
    let answer = run.ask(Method::DELETE, parts, None)?;
    if answer.is_missing() {
        return Err(CtlError::unavailable("Parameter does not exist"));
    }
    answer.fine().map(drop)
}

pub(super) fn list_policies(run: &mut Run<'_>) -> Result<(), CtlError> {
    let vhost = run.parsed.vhost();
    run.say(&format!("Listing policies for vhost \"{vhost}\" ..."))?;
    list(run, "policies", vhost)
}

pub(super) fn list_operator_policies(run: &mut Run<'_>) -> Result<(), CtlError> {
    let vhost = run.parsed.vhost();
    run.say(&format!("Listing operator policy overrides for vhost \"{vhost}\" ..."))?;
    list(run, "operator-policies", vhost)
}

fn list(run: &mut Run<'_>, path: &str, vhost: &str) -> Result<(), CtlError> {
    run.need_vhost(vhost)?;
    let mut found = run.list(&[path, vhost])?;
    found.iter_mut().for_each(|policy| as_text(policy, "definition"));
    let columns = ["vhost", "name", "pattern", "apply-to", "definition", "priority"];
    run.rows(&Rows::pick(&columns, &found))
}

/// A definition is shown as the JSON it was written in.
fn as_text(entry: &mut Value, field: &str) {
    entry[field] = Value::from(entry[field].to_string());
}

pub(super) fn set_parameter(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (component, name, value) = (run.argument(0), run.argument(1), run.argument(2));
    let vhost = run.parsed.vhost();
    run.say(&format!(
        "Setting runtime parameter \"{name}\" for component \"{component}\" to \"{value}\" in vhost \"{vhost}\" ..."
    ))?;
    let value = typed_json(value)?;
    run.need_vhost(vhost)?;
    let body = json!({"component": component, "vhost": vhost, "name": name, "value": value});
    run.put(&["parameters", component, vhost, name], &body)
}

pub(super) fn clear_parameter(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, component, name) = (run.parsed.vhost(), run.argument(0), run.argument(1));
    run.say(&format!(
        "Clearing runtime parameter \"{name}\" for component \"{component}\" on vhost \"{vhost}\" ..."
    ))?;
    clear(run, &["parameters", component, vhost, name], vhost)
}

pub(super) fn list_parameters(run: &mut Run<'_>) -> Result<(), CtlError> {
    let vhost = run.vhost()?;
    run.say(&format!("Listing runtime parameters for vhost \"{vhost}\" ..."))?;
    let mut found = run.list(&["parameters"])?;
    found.retain(|entry| entry["vhost"] == *vhost);
    found.iter_mut().for_each(|entry| as_text(entry, "value"));
    run.rows(&Rows::pick(&["component", "name", "value"], &found))
}

pub(super) fn set_global_parameter(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (name, value) = (run.argument(0), run.argument(1));
    run.say(&format!("Setting global runtime parameter \"{name}\" to \"{value}\" ..."))?;
    let value = typed_json(value)?;
    run.put(&["global-parameters", name], &json!({"name": name, "value": value}))
}

pub(super) fn clear_global_parameter(run: &mut Run<'_>) -> Result<(), CtlError> {
    let name = run.argument(0);
    run.say(&format!("Clearing global runtime parameter \"{name}\" ..."))?;
    let answer = run.ask(Method::DELETE, &["global-parameters", name], None)?;
    if answer.is_missing() {
        return Err(CtlError::unavailable("Parameter does not exist"));
    }
    answer.fine().map(drop)
}

pub(super) fn list_global_parameters(run: &mut Run<'_>) -> Result<(), CtlError> {
    run.say("Listing global runtime parameters ...")?;
    let mut found = run.list(&["global-parameters"])?;
    found.iter_mut().for_each(|entry| as_text(entry, "value"));
    run.rows(&Rows::pick(&["name", "value"], &found))
}
