//! The text files of a working copy: what git tracks, and what it would track.

use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::lab::process::run;

/// The files, with their paths from the root, sorted.
pub(super) struct Tree {
    files: Vec<(String, String)>,
}

impl Tree {
    /// The files that git tracks in this working copy, and new ones that it does not ignore. Without git (an
    /// unpacked archive), every file outside `target`.
    pub(super) fn of_working_copy() -> Result<Self> {
        let root = xtask::root();
        let listed = run(Command::new("git").current_dir(&root).args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
        ]));
        match listed {
            Ok(text) => Ok(Self::read(&root, text.lines().map(str::to_owned))),
            Err(_) => Self::of_folder(&root),
        }
    }

    /// Every file below a folder, but `target` and `.git`.
    pub(super) fn of_folder(root: &Path) -> Result<Self> {
        let mut paths = Vec::new();
        let mut todo = vec![root.to_path_buf()];
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path: PathBuf = entry?.path();
                let name = path.file_name().unwrap_or_default();
                if path.is_dir() {
                    if name != "target" && name != ".git" {
                        todo.push(path);
                    }
                } else if let Ok(relative) = path.strip_prefix(root) {
                    paths.push(relative.to_string_lossy().into_owned());
                }
            }
        }
        Ok(Self::read(root, paths.into_iter()))
    }

    fn read(root: &Path, paths: impl Iterator<Item = String>) -> Self {
        // What is not text (a fuzzing corpus, a picture) or was just deleted has nothing to check.
        let mut files: Vec<(String, String)> = paths
            .map(|path| {
                let text = std::fs::read_to_string(root.join(&path)).unwrap_or_default();
                (path, text)
            })
            .collect();
        files.sort();
        files.dedup();
        Self { files }
    }

    /// Each file's path and text.
    pub(super) fn files(&self) -> &[(String, String)] {
        &self.files
    }

    /// A file's text.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|(it, _)| it == path).map(|(_, text)| text.as_str())
    }

    /// The Rust files below a folder ("" for all).
    pub(super) fn rust<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.starts_with(folder) && path.ends_with(".rs"))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}
