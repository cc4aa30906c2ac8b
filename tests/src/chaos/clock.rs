//! Wall clocks that jump, each for one program alone: a library that is loaded before the program (`clock.c`) and a file
//! that says how far off the clock is.

use anyhow::{Context, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::lab::process::run;

/// A program's clock.
#[derive(Debug)]
pub struct Clock {
    path: PathBuf,
    file: File,
    library: PathBuf,
}

impl Clock {
    /// A clock that is right, with its file at `path` and its library in `folder`, where it is made if it is not there.
    ///
    /// # Errors
    /// There is no C compiler, or a file cannot be written.
    pub fn new(path: &Path, folder: &Path) -> Result<Self> {
        let library = folder.join("clock.so");
        if !library.exists() {
            let source = xtask::root().join("tests/src/chaos/clock.c");
            let mut compiler = Command::new("cc");
            compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-o"]).arg(&library).arg(source);
            run(&mut compiler).context("compile clock.c")?;
        }
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        let clock = Self { path: path.to_owned(), file, library };
        clock.set(0)?;
        Ok(clock)
    }

    /// Puts it off by so many seconds.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, seconds: i64) -> Result<()> {
        self.file.write_all_at(&seconds.to_ne_bytes(), 0).context("set a clock")
    }

    /// What a program needs in its environment to have it.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", self.library.display().to_string()), ("CLOCK_FILE", self.path.display().to_string())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_jumps_for_its_program_alone() {
        let folder = std::env::temp_dir().join(format!("clock-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let clock = Clock::new(&folder.join("clock"), &folder).unwrap();
        let year = || {
            let mut date = Command::new("date");
            run(date.arg("+%Y").envs(clock.variables())).unwrap().trim().parse::<i64>().unwrap()
        };
        let now = year();
        clock.set(10 * 366 * 86_400).unwrap();
        assert!((now + 10..=now + 11).contains(&year()), "{now}, then {}", year());
        clock.set(0).unwrap();
        assert!(year() <= now + 1);
        let _ = std::fs::remove_dir_all(folder);
    }
}
