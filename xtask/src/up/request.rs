//! Requests to the supervisor: a file with a line in it; the answer is a file beside it.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;
use xtask::lab::process;
use xtask::lab::wait::until;

fn inbox(folder: &Path) -> PathBuf {
    folder.join("requests")
}

/// Leaves a request and waits for its answer, or for the end of the supervisor.
pub(super) fn ask(folder: &Path, supervisor: u32, what: &str) -> Result<String> {
    let name = format!("{}-{}", std::process::id(), what.replace(' ', "-"));
    let request = inbox(folder).join(format!("{name}.request"));
    let answer = inbox(folder).join(format!("{name}.answer"));
    let draft = inbox(folder).join(format!("{name}.draft"));
    std::fs::create_dir_all(inbox(folder))?;
    std::fs::write(&draft, what).with_context(|| format!("write {}", draft.display()))?;
    std::fs::rename(&draft, &request)?;
    until(Duration::from_secs(90), "the supervisor's answer", || {
        (answer.exists() || !process::exists(supervisor)).then_some(())
    })?;
    let text = process::read_lossy(&answer);
    let _ = std::fs::remove_file(&answer);
    match text.split_once('\n') {
        Some(("ok", rest)) => Ok(rest.to_owned()),
        Some(("error", rest)) => bail!("{}", rest.trim_end()),
        _ => bail!("the supervisor ended without an answer; see {}", folder.display()),
    }
}

/// Takes the requests that wait, and answers each with what `serve` says.
pub(super) fn answer(folder: &Path, mut serve: impl FnMut(&str) -> Result<String>) {
    let Ok(entries) = std::fs::read_dir(inbox(folder)) else { return };
    let waiting = entries.flatten().map(|entry| entry.path());
    for path in waiting.filter(|path| path.extension().is_some_and(|it| it == "request")) {
        let what = process::read_lossy(&path);
        let _ = std::fs::remove_file(&path);
        let text = match serve(what.trim()) {
            Ok(text) => format!("ok\n{text}"),
            Err(error) => format!("error\n{error:#}\n"),
        };
        let draft = path.with_extension("draft");
        if std::fs::write(&draft, text).is_ok() {
            let _ = std::fs::rename(&draft, path.with_extension("answer"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_and_a_refusal_is_an_error() {
        let folder = std::env::temp_dir().join(format!("xtask-request-{}", std::process::id()));
        let server = std::thread::spawn({
            let folder = folder.clone();
            move || {
                let mut served = 0;
                while served < 2 {
                    answer(&folder, |what| {
                        served += 1;
                        if what == "kill A" { Ok("A is off\n".to_owned()) } else { bail!("no host Z") }
                    });
                    std::thread::yield_now();
                }
            }
        });
        assert_eq!(ask(&folder, std::process::id(), "kill A").unwrap(), "A is off\n");
        assert_eq!(ask(&folder, std::process::id(), "kill Z").unwrap_err().to_string(), "no host Z");
        server.join().unwrap();
        let _ = std::fs::remove_dir_all(folder);
    }
}
