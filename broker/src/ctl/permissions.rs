//! Permissions of users in vhosts, and on topic exchanges.

use super::error::{CtlError, NO_USER};
use super::format::Rows;
use super::run::Run;
use daemon::exit::Exit;
use hyper::Method;
use serde_json::{Value, json};

pub(super) fn set_permissions(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, user) = (run.parsed.vhost(), run.argument(0));
    run.say(&format!("Setting permissions for user \"{user}\" in vhost \"{vhost}\" ..."))?;
    both(run, vhost, user)?;
    let body = json!({"configure": run.argument(1), "write": run.argument(2), "read": run.argument(3)});
    put(run, &["permissions", vhost, user], &body)
}

pub(super) fn clear_permissions(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, user) = (run.parsed.vhost(), run.argument(0));
    run.say(&format!("Clearing permissions for user \"{user}\" in vhost \"{vhost}\" ..."))?;
    known_user(run, user)?;
    run.need_vhost(vhost)?;
    gone(run, &["permissions", vhost, user])
}

pub(super) fn list_permissions(run: &mut Run<'_>) -> Result<(), CtlError> {
    let vhost = run.parsed.vhost();
    run.say(&format!("Listing permissions for vhost \"{vhost}\" ..."))?;
    run.need_vhost(vhost)?;
    let found = run.list(&["vhosts", vhost, "permissions"])?;
    run.rows(&Rows::pick(&["user", "configure", "write", "read"], &found))
}

pub(super) fn list_user_permissions(run: &mut Run<'_>) -> Result<(), CtlError> {
    let user = run.argument(0);
    run.say(&format!("Listing permissions for user \"{user}\" ..."))?;
    run.need_user(user)?;
    let found = run.list(&["users", user, "permissions"])?;
    run.rows(&Rows::pick(&["vhost", "configure", "write", "read"], &found))
}

pub(super) fn set_topic_permissions(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, user, exchange) = (run.parsed.vhost(), run.argument(0), run.argument(1));
    run.say(&format!(
        "Setting topic permissions on \"{exchange}\" for user \"{user}\" in vhost \"{vhost}\" ..."
    ))?;
    both(run, vhost, user)?;
    let body = json!({"exchange": exchange, "write": run.argument(2), "read": run.argument(3)});
    put(run, &["topic-permissions", vhost, user], &body)
}

pub(super) fn clear_topic_permissions(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (vhost, user) = (run.parsed.vhost(), run.argument(0));
    let exchange = run.arguments_from(1).first();
    let on = exchange.map(|exchange| format!(" on \"{exchange}\"")).unwrap_or_default();
    run.say(&format!("Clearing topic permissions{on} for user \"{user}\" in vhost \"{vhost}\" ..."))?;
    both(run, vhost, user)?;
    let Some(exchange) = exchange else { return gone(run, &["topic-permissions", vhost, user]) };
    // The API clears all of a user's; the others are set again.
    let answer = run.ask(Method::GET, &["topic-permissions", vhost, user], None)?;
    if answer.is_missing() {
        return Ok(());
    }
    let Value::Array(found) = answer.fine()? else { return Ok(()) };
    if !found.iter().any(|entry| entry["exchange"] == **exchange) {
        return Ok(());
    }
    gone(run, &["topic-permissions", vhost, user])?;
    for entry in found.iter().filter(|entry| entry["exchange"] != **exchange) {
        put(run, &["topic-permissions", vhost, user], entry)?;
    }
    Ok(())
}

pub(super) fn list_topic_permissions(run: &mut Run<'_>) -> Result<(), CtlError> {
    let vhost = run.parsed.vhost();
    run.say(&format!("Listing topic permissions for vhost \"{vhost}\" ..."))?;
    run.need_vhost(vhost)?;
    let found = run.list(&["vhosts", vhost, "topic-permissions"])?;
    run.rows(&Rows::pick(&["user", "exchange", "write", "read"], &found))
}

pub(super) fn list_user_topic_permissions(run: &mut Run<'_>) -> Result<(), CtlError> {
    let user = run.argument(0);
    run.say(&format!("Listing topic permissions for user \"{user}\" ..."))?;
    run.need_user(user)?;
    let found = run.list(&["users", user, "topic-permissions"])?;
    run.rows(&Rows::pick(&["vhost", "exchange", "write", "read"], &found))
}

fn both(run: &mut Run<'_>, vhost: &str, user: &str) -> Result<(), CtlError> {
    run.need_user(user)?;
    run.need_vhost(vhost)
}

/// RabbitMQ's words have no quotes here.
fn known_user(run: &mut Run<'_>, user: &str) -> Result<(), CtlError> {
    match run.need_user(user) {
        Err(error) if error.code == NO_USER => {
            Err(CtlError::refused(NO_USER, format!("User {user} does not exist")))
        }
        other => other.map(drop),
    }
}

/// A pattern that does not compile is bad data.
fn put(run: &mut Run<'_>, parts: &[&str], body: &Value) -> Result<(), CtlError> {
    let answer = run.ask(Method::PUT, parts, Some(body))?;
    if answer.status == 400 {
        return Err(CtlError::refused(Exit::DataError.code(), answer.reason()));
    }
    answer.fine().map(drop)
}

/// What was not there is gone too.
fn gone(run: &mut Run<'_>, parts: &[&str]) -> Result<(), CtlError> {
    let answer = run.ask(Method::DELETE, parts, None)?;
    if answer.is_missing() { Ok(()) } else { answer.fine().map(drop) }
}
