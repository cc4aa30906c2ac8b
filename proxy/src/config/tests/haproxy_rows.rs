//! The words of haproxy.cfg.

/// A file that works; `%SECTION%` is where a line goes.
const BASE: &str = "global
 %global%
defaults
 mode tcp
 timeout connect 5s
 timeout client 1h
 timeout server 1h
listen l
 bind :1 %bind%
 %listen%
 %option%
 %timeout%
 server s 10.0.0.1:1 %server%
frontend f
 bind :2
 default_backend b
 %acl%
backend b
 server t 10.0.0.2:1
listen m
 mode http
 bind :3
 %stats%
resolvers d
 nameserver n 10.0.0.3:53
 %resolvers%
userlist u
 user a insecure-password b
 %userlist%
";

/// What stands before a line in the file.
const BEFORE: &[(&str, &str)] = &[("option", "option "), ("timeout", "timeout "), ("stats", "stats ")];

/// The file with `line` in it.
pub(super) fn file(section: &str, line: &str) -> String {
    let before = BEFORE.iter().find(|(known, _)| *known == section).map_or("", |(_, before)| before);
    let written = match section {
        _ if line.is_empty() => String::new(),
        "acl" => format!("use_backend b if {{ {line} }}"),
        // A word of `stats` has an effect where the page is there.
        _ => format!("{before}{line}"),
    };
    let mut text = BASE.replace(&format!("%{section}%"), &written);
    // A socket has no host and no port.
    if section == "bind" && ["mode", "user", "uid", "group", "gid"].contains(&super::rows::key(line)) {
        text = text.replace("bind :1", "bind unix@/run/l");
    }
    let words =
        ["global", "bind", "listen", "option", "timeout", "server", "acl", "stats", "resolvers", "userlist"];
    words.iter().fold(text, |text, word| text.replace(&format!("%{word}%"), ""))
}
