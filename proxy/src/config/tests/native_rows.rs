//! The keys of `proxy.toml`.

use super::rows::key;

/// The file with `line` in it: a section `l` with a server, a page `m`, and a backend to name.
pub(super) fn file(section: &str, line: &str) -> String {
    let at = |wanted: &str| if section == wanted { line } else { "" };
    // What a line says itself takes the place of what is there.
    let unless = |wanted: &str, what: &str, there: &str| {
        if key(at(wanted)) == what { String::new() } else { there.to_owned() }
    };
    let options = at("[….servers.NAME]");
    let address = unless("[….servers.NAME]", "address", "address = '10.0.0.1:1'");
    let comma = if address.is_empty() || options.is_empty() { "" } else { ", " };
    let server = format!("servers.s = {{ {address}{comma}{options} }}\n");
    [
        "[global]\n",
        at("[global]"),
        "\n[listen.l]\n",
        &unless("[defaults]", "bind", "bind = ':1'\n"),
        &unless("[defaults]", "servers", &server),
        at("[defaults]"),
        "\n",
        &table("server_defaults", at("[….server_defaults]")),
        &table("check", at("[….check]")),
        &table("timeout", at("[….timeout]")),
        "[stats.m]\n",
        &unless("[stats.NAME]", "bind", "bind = ':3'\n"),
        at("[stats.NAME]"),
        "\n[backend.b]\n",
    ]
    .concat()
}

fn table(name: &str, line: &str) -> String {
    if line.is_empty() { String::new() } else { format!("[listen.l.{name}]\n{line}\n") }
}
