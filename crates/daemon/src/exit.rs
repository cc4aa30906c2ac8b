//! Exit codes, after BSD's `sysexits.h`, so that scripts and unit files can tell why a program ended.

use std::process::ExitCode;

/// Why a program ended. The number is what the shell sees in `$?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Ok = 0,
    /// It failed, and the caller expects this number whatever the reason.
    Failed = 1,
    /// A configuration that was checked has no mistake and nothing to do (HAProxy's number for it).
    NothingToDo = 2,
    /// The command line is wrong.
    Usage = 64,
    /// The input data (not the configuration) is wrong.
    DataError = 65,
    /// A service this program needs cannot be reached.
    Unavailable = 69,
    /// A mistake of the program itself.
    Software = 70,
    /// The operating system refused something it should allow (no threads, no sockets).
    OsError = 71,
    /// Something cannot be created: a port in use, a data directory locked by another process.
    CannotCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// Temporary trouble; trying again later may help.
    TempFail = 75,
    /// A privilege is missing.
    NoPermission = 77,
    /// The configuration is wrong or cannot be read.
    Config = 78,
}

impl Exit {
    /// The number as seen by the shell.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
