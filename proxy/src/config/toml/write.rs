//! The model as a TOML file that reads as the same model.

use daemon::diagnostic::Diagnostics;

use super::native_defaults;
use crate::config::haproxy_cfg::native;
use crate::config::show::{self, Keys, Value};
use crate::config::{Config, Place, ProxyConfig, ServerConfig, ServerOptions, show_settings};

/// Writes a configuration; `remarks` (about the file it was read from) become comments at its top.
#[must_use]
pub fn write(config: &Config, remarks: &Diagnostics, source: &str) -> String {
    let mut text = format!("# Written from {source}. Check it with: proxy -c -f FILE\n");
    for remark in remarks {
        text.push_str(&format!("# note: {}\n", one_line(&remark.one_line())));
    }
    let global = show_settings::global(&config.global);
    table(&mut text, "global", &global);
    let base = native_defaults();
    let sections: Vec<Keys> =
        config.proxies.iter().map(|proxy| show_settings::settings(&proxy.settings, &base)).collect();
    let server_defaults: Vec<Keys> = config
        .proxies
        .iter()
        .map(|proxy| show::server_options(&proxy.settings.default_server, &base.default_server))
        .collect();
    let shared = shared(&sections);
    let shared_servers = self::shared(&server_defaults);
    if !shared.is_empty() || !shared_servers.is_empty() {
        table(&mut text, "defaults", &shared);
        servers_defaults(&mut text, &shared_servers);
    }
    for (index, proxy) in config.proxies.iter().enumerate() {
        text.push_str(&format!("\n[{}.{}]\n", proxy.kind.word(), key(&proxy.name)));
        if proxy.id != show_settings::natural_id(config, index) {
            text.push_str(&format!("id = {}\n", proxy.id));
        }
        keys(&mut text, &show_settings::section(proxy));
        keys(&mut text, &without(&sections[index], &shared));
        servers_defaults(&mut text, &without(&server_defaults[index], &shared_servers));
        servers(&mut text, proxy);
    }
    for resolvers in &config.resolvers {
        let name = format!("resolvers.{}", key(&resolvers.name));
        table(&mut text, &name, &show_settings::resolvers(resolvers));
    }
    for list in &config.userlists {
        let name = format!("userlist.{}", key(&list.name));
        table(&mut text, &name, &show_settings::userlist(list));
    }
    text
}

/// Keys that all sections have with the same value, when there are several sections; these go into
/// `[defaults]`.
fn shared(sections: &[Keys]) -> Keys {
    /// What `[defaults]` cannot say, or what would be odd there.
    const OWN: &[&str] =
        &["mode", "default_backend", "description", "disabled", "stats", "http-request", "no", "track"];
    let [first, others @ ..] = sections else { return Keys::new() };
    if others.is_empty() {
        return Keys::new();
    }
    let is_shared = |entry: &&(String, Value)| {
        !OWN.contains(&entry.0.as_str()) && others.iter().all(|keys| keys.contains(entry))
    };
    first.iter().filter(is_shared).cloned().collect()
}

fn without(keys: &Keys, shared: &Keys) -> Keys {
    keys.iter().filter(|entry| !shared.contains(entry)).cloned().collect()
}

fn table(text: &mut String, name: &str, list: &Keys) {
    text.push_str(&format!("\n[{name}]\n"));
    keys(text, list);
}

fn keys(text: &mut String, keys: &Keys) {
    for (name, value) in keys {
        text.push_str(&format!("{} = {}\n", setting(name), show_value(value)));
    }
}

fn servers_defaults(text: &mut String, list: &Keys) {
    if !list.is_empty() {
        text.push_str(&format!("server_defaults = {{ {} }}\n", inline(list)));
    }
}

fn servers(text: &mut String, proxy: &ProxyConfig) {
    for server in &proxy.servers {
        let mut list = Keys::new();
        list.push(("address".to_owned(), Value::Text(server.address.to_string())));
        let mut name = server.name.as_str();
        if let Some(template) = &server.template {
            if server.name != format!("{}{}", template.prefix, template.low) {
                continue;
            }
            name = &template.prefix;
            list.push(("template".to_owned(), Value::Text(format!("{}-{}", template.low, template.high))));
        }
        let index = proxy.servers.iter().position(|other| other.name == server.name).unwrap_or(0);
        if usize::try_from(server.id).ok() != Some(index + 1) {
            list.push(("id".to_owned(), Value::Number(server.id.into())));
        }
        list.extend(options(server, &proxy.settings.default_server));
        text.push_str(&format!("servers.{} = {{ {} }}\n", key(name), inline(&list)));
    }
}

/// The options of a server beside those of the section; all of them when some of the section's cannot be
/// taken back by a word.
fn options(server: &ServerConfig, base: &ServerOptions) -> Keys {
    let list = show::server_options(&server.options, base);
    if replay(&list, base.clone()) == server.options {
        return list;
    }
    let mut all = vec![("inherit".to_owned(), Value::Flag(false))];
    all.extend(show::server_options(&server.options, &ServerOptions::default()));
    all
}

/// What reading these keys makes of `options`.
fn replay(list: &Keys, mut options: ServerOptions) -> ServerOptions {
    let mut remarks = Diagnostics::new();
    let place = Place::default();
    for (name, value) in list {
        let (key, rest) = match (name.as_str(), value) {
            // Keys the TOML form has itself can always be taken back.
            ("disabled", Value::Flag(false)) => ("enabled".to_owned(), String::new()),
            (_, Value::Flag(true)) => (name.clone(), String::new()),
            (_, Value::Flag(false)) => match name.strip_prefix("no-") {
                Some(positive) => (positive.to_owned(), String::new()),
                None => (format!("no-{name}"), String::new()),
            },
            (_, Value::Number(number)) => (name.clone(), number.to_string()),
            (_, Value::Text(text)) => (name.clone(), text.clone()),
            (_, Value::List(_)) => continue,
        };
        native::server_option(&place, &key, &rest, (&mut options, &mut None), &mut remarks);
    }
    if remarks.has_errors() { ServerOptions { rise: 0, ..options } } else { options }
}

fn inline(list: &Keys) -> String {
    let entries: Vec<String> =
        list.iter().map(|(name, value)| format!("{} = {}", setting(name), show_value(value))).collect();
    entries.join(", ")
}

/// A key as it is written: words of haproxy.cfg with a dot are quoted, `timeout.client` is a key in a table.
fn setting(name: &str) -> String {
    match name.split_once('.') {
        Some(("timeout", _)) => name.to_owned(),
        _ => key(name),
    }
}

fn key(name: &str) -> String {
    let is_bare =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare { name.to_owned() } else { string(name) }
}

fn show_value(value: &Value) -> String {
    match value {
        Value::Flag(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => string(text),
        Value::List(items) => match &items[..] {
            [] => "[]".to_owned(),
            [one] => format!("[{}]", string(one)),
            items => {
                let lines: String = items.iter().map(|item| format!("    {},\n", string(item))).collect();
                format!("[\n{lines}]")
            }
        },
    }
}

/// A basic string of TOML.
fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
