//! What the text of a check script gives away.

use std::time::Duration;

use daemon::diagnostic::Diagnostic;

use super::ScriptConfig;

/// Scripts longer than this are not looked at.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads the script, when it is a text file of modest length, and remarks on it.
pub(crate) fn remarks(script: &ScriptConfig) -> Vec<Diagnostic> {
    let Some(path) = script.command.argv.first() else { return Vec::new() };
    let short = std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() <= MAX_BYTES);
    if !short {
        return Vec::new();
    }
    std::fs::read_to_string(path).map_or_else(|_| Vec::new(), |text| lint(script, path, &text))
}

fn lint(script: &ScriptConfig, path: &str, text: &str) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if !text.starts_with("#!") {
        return found;
    }
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let longest = lines.iter().filter_map(|line| sleep_of(line)).max();
    if let Some(longest) = longest.filter(|longest| *longest >= script.timeout) {
        let message = format!(
            "vrrp_script `{}`: {path} sleeps {} s, but it is ended after {} s",
            script.name,
            longest.as_secs_f64(),
            script.timeout.as_secs_f64()
        );
        let help = "a run that is ended counts as failed; add a longer `timeout`";
        found.push(Diagnostic::warning("script-timeout", message).help(help));
    }
    if let Some(line) = lines.iter().find(|line| greps_for_process(line)) {
        let message =
            format!("vrrp_script `{}`: {path} looks for a process by its name: {line}", script.name);
        let help = "a process that hangs is still found; asking its port is the better check";
        found.push(Diagnostic::note("script-process-name", message).help(help));
    }
    if lines.iter().any(|line| line.contains("killall keepalived") || line.contains("pkill keepalived")) {
        let message = format!("vrrp_script `{}`: {path} ends keepalived by its name", script.name);
        let help = "this agent has that name only when it is started as `keepalived`; with a weight, or \
                    without one, a failing check moves the address by itself";
        found.push(Diagnostic::note("script-kills", message).help(help));
    }
    found
}

fn sleep_of(line: &str) -> Option<Duration> {
    let mut words = line.split(|letter: char| letter.is_whitespace() || letter == ';');
    words.find(|word| *word == "sleep")?;
    let seconds: f64 = words.next()?.trim_end_matches('s').parse().ok()?;
    (0.0..1e6).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

fn greps_for_process(line: &str) -> bool {
    ["ps -C ", "pgrep ", "pidof ", "ps -ef", "ps aux", "killall -0 "].iter().any(|sign| line.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Command;

    #[test]
    fn the_tutorials_script_is_seen_through() {
        let script = ScriptConfig {
            name: "chk_haproxy".into(),
            command: Command { argv: vec!["/x".into()], user: None },
            probe: None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            rise: 1,
            fall: 1,
            weight: -20,
            reverse: false,
            init_fail: false,
        };
        let text = include_str!("../../../configs/tutorial/haproxy_check.sh");
        let codes: Vec<&str> = lint(&script, "/x", text).iter().map(|remark| remark.code).collect();
        assert_eq!(codes, ["script-timeout", "script-process-name", "script-kills"]);
        assert_eq!(lint(&script, "/x", "#!/bin/sh\n# sleep 9\nnc -z localhost 5672\n"), []);
        assert_eq!(lint(&script, "/x", "\x7fELF sleep 9"), []);
    }
}
