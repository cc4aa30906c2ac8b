//! Users and their limits.

use super::error::CtlError;
use super::format::Rows;
use super::run::{Run, typed_json};
use daemon::exit::Exit;
use hyper::Method;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};

/// Letters of a generated password, without those that look alike.
const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// How many it has: 23 x 5.8 bits.
const GENERATED: usize = 23;

pub(super) fn list_users(run: &mut Run<'_>) -> Result<(), CtlError> {
    run.say("Listing users ...")?;
    let users = run.list(&["users"])?;
    let named = |user: &Value| json!({"user": user["name"], "tags": user["tags"]});
    let users: Vec<Value> = users.iter().map(named).collect();
    run.rows(&Rows::pick(&["user", "tags"], &users))
}

pub(super) fn add_user(run: &mut Run<'_>) -> Result<(), CtlError> {
    let name = run.argument(0);
    if name.is_empty() {
        return Err(CtlError::bad_argument("user cannot be an empty string"));
    }
    let generated = run.parsed.has("generate").then(generated_password);
    let password = match &generated {
        Some(password) => password.clone(),
        None => password(run)?,
    };
    run.say(&format!("Adding user \"{name}\" ..."))?;
    if run.ask(Method::GET, &["users", name], None)?.is_fine() {
        return Err(CtlError::refused(Exit::Software.code(), format!("User \"{name}\" already exists")));
    }
    let key = if run.parsed.has("pre-hashed-password") { "password_hash" } else { "password" };
    let tags = if run.parsed.has("admin") { "administrator" } else { "" };
    run.put(&["users", name], &json!({key: password, "tags": tags}))?;
    if run.parsed.has("admin") {
        let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
        for vhost in run.list_with(&["vhosts"], "name")? {
            run.put(&["permissions", vhost["name"].as_str().unwrap_or("/"), name], &everything)?;
        }
    } else {
        run.say(&format!(
            "Done. Don't forget to grant the user permissions to some virtual hosts! See '{} help set_permissions' to learn more.",
            run.tool
        ))?;
    }
    match generated {
        Some(password) => run.print(&format!("Password (shown once): {password}")),
        None => Ok(()),
    }
}

fn generated_password() -> String {
    let mut random = rand::rng();
    let letter = |_| LETTERS.choose(&mut random).map_or('x', |octet| char::from(*octet));
    (0..GENERATED).map(letter).collect()
}

/// The second argument, or a line of standard input, so that it does not show in the list of processes.
fn password(run: &Run<'_>) -> Result<String, CtlError> {
    if let Some(password) = run.arguments_from(1).first() {
        return Ok(password.clone());
    }
    let input = std::io::stdin();
    if input.is_terminal() {
        write!(std::io::stderr(), "Password: ")?;
    }
    let mut line = String::new();
    if input.lock().read_line(&mut line)? == 0 {
        return Err(CtlError::usage("not enough arguments."));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

pub(super) fn delete_user(run: &mut Run<'_>) -> Result<(), CtlError> {
    let name = run.argument(0);
    run.say(&format!("Deleting user \"{name}\" ..."))?;
    let answer = run.ask(Method::DELETE, &["users", name], None)?;
    if answer.is_missing() {
        return Err(CtlError::no_user(name));
    }
    answer.fine().map(drop)
}

pub(super) fn change_password(run: &mut Run<'_>) -> Result<(), CtlError> {
    let name = run.argument(0);
    let password = password(run)?;
    run.say(&format!("Changing password for user \"{name}\" ..."))?;
    let known = run.need_user(name)?;
    run.put(&["users", name], &json!({"password": password, "tags": known["tags"]}))
}

pub(super) fn clear_password(run: &mut Run<'_>) -> Result<(), CtlError> {
    let name = run.argument(0);
    run.say(&format!("Clearing password for user \"{name}\" ..."))?;
    let known = run.need_user(name)?;
    run.put(&["users", name], &json!({"password_hash": "", "tags": known["tags"]}))
}

pub(super) fn authenticate_user(run: &mut Run<'_>) -> Result<(), CtlError> {
    let name = run.argument(0);
    let password = password(run)?;
    run.say(&format!("Authenticating user \"{name}\" ..."))?;
    let answer = run.ask_as(name, &password, &["whoami"])?;
    // Anything but this is about what the user may do, not about who it is.
    if answer.status == 401 && answer.body["reason"] == "Login failed" {
        let text =
            format!("Error: failed to authenticate user \"{name}\"\nuser '{name}' - invalid credentials");
        return Err(CtlError::refused(Exit::DataError.code(), text));
    }
    if answer.status != 401 {
        answer.fine()?;
    }
    run.print("Success")
}

pub(super) fn set_user_tags(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (name, tags) = (run.argument(0), run.arguments_from(1));
    run.say(&format!("Setting tags for user \"{name}\" to [{}] ...", tags.join(", ")))?;
    let known = run.need_user(name)?;
    let body = json!({
        "password_hash": known["password_hash"], "hashing_algorithm": known["hashing_algorithm"],
        "tags": tags.join(","),
    });
    run.put(&["users", name], &body)
}

pub(super) fn set_user_limits(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (name, limits) = (run.argument(0), run.argument(1));
    run.say(&format!("Setting user limits to \"{limits}\" for user \"{name}\" ..."))?;
    run.need_user(name)?;
    set_limits(run, &["user-limits", name], limits)
}

pub(super) fn clear_user_limits(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (name, limit) = (run.argument(0), run.argument(1));
    run.say(&format!("Clearing \"{limit}\" limit for user \"{name}\" ..."))?;
    run.need_user(name)?;
    let known = ["max-connections", "max-channels"];
    let limits = if limit == "all" { known.to_vec() } else { vec![limit] };
    for limit in limits {
        run.ask(Method::DELETE, &["user-limits", name, limit], None)?.fine()?;
    }
    Ok(())
}

pub(super) fn list_user_limits(run: &mut Run<'_>) -> Result<(), CtlError> {
    if let Some(name) = run.parsed.value("user") {
        run.say(&format!("Listing limits for user \"{name}\" ..."))?;
        run.need_user(name)?;
        let found = run.list(&["user-limits", name])?;
        return found.first().map_or(Ok(()), |entry| run.print(&entry["value"].to_string()));
    }
    run.say("Listing limits for all users ...")?;
    let found = run.list(&["user-limits"])?;
    let shown = |entry: &Value| json!({"user": entry["user"], "limits": entry["value"].to_string()});
    let found: Vec<Value> = found.iter().map(shown).collect();
    run.rows(&Rows::pick(&["user", "limits"], &found))
}

/// Makes the limits of a user or a vhost those of a JSON object; what is not named is not limited.
pub(super) fn set_limits(run: &mut Run<'_>, parts: &[&str], json: &str) -> Result<(), CtlError> {
    let Value::Object(limits) = typed_json(json)? else {
        return Err(CtlError::unavailable("Validation failed\n\nlimits must be a JSON object\n"));
    };
    let known = run.list(parts)?;
    let old = known.first().and_then(|entry| entry["value"].as_object()).cloned().unwrap_or_default();
    for (name, value) in &limits {
        run.put(&[parts, &[name.as_str()]].concat(), &json!({"value": value}))?;
    }
    for name in old.keys().filter(|name| !limits.contains_key(*name)) {
        run.ask(Method::DELETE, &[parts, &[name.as_str()]].concat(), None)?.fine()?;
    }
    Ok(())
}
