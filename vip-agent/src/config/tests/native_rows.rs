//! The keys of `vip.toml`.

use super::rows::key as first_word;

/// A file that works; a line goes to the end of its section, and takes the place of one with the same key.
const BASE: &[(&str, &[&str])] = &[
    ("[agent]", &["router_id = 'host'"]),
    ("[[script]]", &["name = 's'", "command = ['/bin/true']"]),
    (
        "[[instance]]",
        &[
            "name = 'I'",
            "interface = 'e0'",
            "virtual_router_id = 1",
            "addresses = ['10.0.0.9/24']",
            "version = 2",
        ],
    ),
    ("[[group]]", &["name = 'G'", "members = ['I']"]),
    ("[[virtual_server]]", &["addresses = ['10.0.0.9:80']"]),
    ("[[virtual_server.real_server]]", &["address = '10.0.0.2:80'"]),
    ("[[virtual_server.real_server.checks]]", &["type = 'tcp'"]),
];

/// What a check of a script may ask instead of a program.
const PROBES: &[&str] = &["tcp", "amqp", "http", "proxy", "process", "file"];

/// The file with `line` in it. Sections that are tables in a list of another section are written there.
pub(super) fn file(section: &str, line: &str) -> String {
    let (outer, line) = match section {
        "[[instance].garp]" => ("[[instance]]", dotted("garp", line)),
        "[[instance].notify]" => ("[[instance]]", dotted("notify", line)),
        "[[agent.static_addresses]]" => {
            ("[agent]", within("static_addresses", "address = '10.1.0.1/24', dev = 'e1'", line))
        }
        "[[agent.static_routes]]" => {
            ("[agent]", within("static_routes", "to = '10.2.0.0/16', dev = 'e1'", line))
        }
        "[[[instance].rules]]" => ("[[instance]]", within("rules", "from = '10.3.0.0/16', table = 9", line)),
        "[[[instance].track_scripts]]" => ("[[instance]]", within("track_scripts", "name = 's'", line)),
        "[agent.notify_fifo_script]" => {
            let inner = format!("notify_fifo_script = {{ {} }}", table("command = ['/bin/x']", line));
            ("[agent]", inner)
        }
        "[[[virtual_server].real_server]]" => ("[[virtual_server.real_server]]", line.to_owned()),
        "[[[[virtual_server].real_server].checks]]" => {
            ("[[virtual_server.real_server.checks]]", line.to_owned())
        }
        "[[[[[virtual_server].real_server].checks].pages]]" => {
            let pages = within("type = 'http'\npages", "path = '/'", line);
            ("[[virtual_server.real_server.checks]]", pages)
        }
        section => (section, line.to_owned()),
    };
    let keys: Vec<&str> = line.lines().map(first_word).collect();
    let probe = outer == "[[script]]" && keys.iter().any(|key| PROBES.contains(key));
    let mut text = String::new();
    for (section, lines) in BASE {
        // A list that is written out takes the place of the tables below it.
        let written = (keys.contains(&"real_server") && section.starts_with("[[virtual_server."))
            || (keys.contains(&"checks") && section.ends_with(".checks]]"));
        if written {
            continue;
        }
        text.push_str(section);
        text.push('\n');
        let kept = lines.iter().filter(|kept| {
            let key = first_word(kept);
            *section != outer || !(keys.contains(&key) || probe && key == "command")
        });
        kept.for_each(|kept| text.extend([kept, "\n"]));
        if *section == outer {
            text.extend([line.as_str(), "\n"]);
        }
    }
    text
}

fn dotted(key: &str, line: &str) -> String {
    if line.is_empty() { String::new() } else { format!("{key}.{line}") }
}

/// `key` with a list of one table.
fn within(key: &str, base: &str, line: &str) -> String {
    format!("{key} = [{{ {} }}]", table(base, line))
}

/// A table of `base` and `line`, which takes the place of what has the same key there.
fn table(base: &str, line: &str) -> String {
    let of = |entry: &str| {
        if ["goto", "action"].contains(&first_word(entry)) {
            "table".to_owned()
        } else {
            first_word(entry).to_owned()
        }
    };
    let new: Vec<String> = line.split(", ").map(of).collect();
    let kept = base.split(", ").filter(|entry| !new.contains(&of(entry)));
    let entries: Vec<&str> = kept.chain([line]).filter(|entry| !entry.is_empty()).collect();
    entries.join(", ")
}
