//! A folder for one test: kept until the test says that it passed.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The folder. Dropped without [`Scratch::passed`], it stays and says where it is.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    passed: bool,
}

impl Scratch {
    /// Makes an empty folder `target/e2e/NAME`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let path = xtask::target().join("e2e").join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path, passed: false })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The test passed: the folder goes.
    pub fn passed(mut self) {
        self.passed = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.passed {
            let _ = std::fs::remove_dir_all(&self.path);
        } else {
            eprintln!("logs and records are kept in {}", self.path.display());
        }
    }
}
