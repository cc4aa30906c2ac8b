//! Environment variables as a file sees them: those of the process, changed by `setenv`, `presetenv`,
//! `unsetenv` and `resetenv`, and those that say where the reader is (`.FILE`, `.LINE`, `.SECTION`).

use std::collections::{HashMap, HashSet};

use super::args::Args;
use super::lexer::Word;

/// What variables are worth.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// Set by the file; `None` when taken away.
    changed: HashMap<String, Option<String>>,
    /// After `resetenv`: all others of the process are gone.
    kept: Option<HashSet<String>>,
    file: String,
    line: usize,
    section: &'static str,
}

impl Environment {
    /// Says where the reader is.
    pub(super) fn at(&mut self, file: &str, line: usize, section: &'static str) {
        if self.file != file {
            file.clone_into(&mut self.file);
        }
        (self.line, self.section) = (line, section);
    }

    /// The value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        match name {
            ".FILE" => return Some(self.file.clone()),
            ".LINE" => return Some(self.line.to_string()),
            ".SECTION" => return Some(self.section.to_owned()),
            _ => {}
        }
        if let Some(changed) = self.changed.get(name) {
            return changed.clone();
        }
        if self.kept.as_ref().is_some_and(|kept| !kept.contains(name)) {
            return None;
        }
        std::env::var(name).ok()
    }

    /// Takes a line of `global` that is about variables; `false` when it is not.
    pub(super) fn directive(&mut self, keyword: &Word, args: &mut Args<'_, '_>) -> bool {
        match keyword.text.as_str() {
            "setenv" | "presetenv" => {
                let Some(name) = args.text("a name and a value") else { return true };
                let Some(value) = args.text("a value") else { return true };
                if keyword.text == "setenv" || self.get(&name).is_none() {
                    self.changed.insert(name, Some(value));
                }
            }
            "unsetenv" => {
                while let Some(name) = args.next() {
                    self.changed.insert(name.text.clone(), None);
                }
            }
            "resetenv" => {
                let mut kept = HashSet::new();
                while let Some(name) = args.next() {
                    kept.insert(name.text.clone());
                }
                self.changed.retain(|name, _| kept.contains(name));
                self.kept = Some(kept);
            }
            _ => return false,
        }
        true
    }
}
