//! The keys of `broker.toml`.

use super::rows::key;

/// The tables of a file that works, as far as a section needs them.
fn base(section: &str) -> &'static [(&'static str, &'static [&'static str])] {
    match section {
        "[[users]]" => &[("[[users]]", &["name = 'u'"])],
        "[[[users].permissions]]" => &[
            ("[[users]]", &["name = 'u'"]),
            ("[[users.permissions]]", &["configure = ''", "write = ''", "read = ''"]),
        ],
        "[[vhosts]]" => &[("[[vhosts]]", &["name = 'v'"])],
        "[amqp.tls]" => &[("[amqp.tls]", &["cert = 'FOLDER/cert'", "key = 'FOLDER/key'"])],
        "[cluster.tls]" => {
            &[("[cluster.tls]", &["cert = 'FOLDER/cert'", "key = 'FOLDER/key'", "ca = 'FOLDER/ca'"])]
        }
        "[log.rotation]" => &[("[log]", &["file = '/l'"]), ("[log.rotation]", &[])],
        _ => &[],
    }
}

/// The file with `line` in it, in the place of one with the same key.
pub(super) fn file(section: &str, line: &str) -> String {
    let tables = base(section);
    let keys: Vec<&str> = line.lines().map(|line| plain(key(line))).collect();
    let mut text = String::new();
    let last = tables.len().saturating_sub(1);
    for (at, (name, lines)) in tables.iter().enumerate() {
        text.extend([name, "\n"]);
        for kept in lines.iter().filter(|kept| at != last || !keys.contains(&key(kept))) {
            text.extend([kept, "\n"]);
        }
    }
    if tables.is_empty() {
        text.extend([section, "\n"]);
    }
    text + line + "\n"
}

/// RabbitMQ's names for files mean the same as ours.
fn plain(key: &str) -> &str {
    match key {
        "certfile" => "cert",
        "keyfile" => "key",
        "cacertfile" => "ca",
        key => key,
    }
}
