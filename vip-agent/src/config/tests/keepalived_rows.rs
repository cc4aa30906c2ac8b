//! The words of keepalived.conf.

/// Blocks that work; a line goes to the end of its block, and wins over one that is there.
const BASE: &[(&str, &str)] = &[
    ("global_defs", "global_defs {\n router_id host\n%}\n"),
    ("vrrp_script", "vrrp_script s {\n script /bin/true\n%}\n"),
    (
        "vrrp_instance",
        "vrrp_instance I {\n interface e0\n virtual_router_id 1\n virtual_ipaddress {\n 10.0.0.9/24\n }\n%}\n",
    ),
    ("virtual_server", "virtual_server 10.0.0.9 80 {\n protocol TCP\n lb_algo wrr\n%"),
    (
        "real_server",
        "real_server 10.0.0.2 80 {\n TCP_CHECK {\n }\n HTTP_GET {\n url {\n path /\n }\n }\n%}\n}\n",
    ),
    ("outside of blocks", "%"),
];

/// The file with `line` in it.
pub(super) fn file(section: &str, line: &str) -> String {
    let section = if section == "checks of a real_server" { "real_server" } else { section };
    let mut text = String::new();
    for (block, base) in BASE {
        let line = if *block == section { format!("{line}\n") } else { String::new() };
        text.push_str(&base.replace('%', &line));
    }
    text
}
