//! The file that holds the shared secret: RabbitMQ's `.erlang.cookie`, with its rules.
//!
//! One line is the secret. A second line is a secret that is taken too, but not used: that is how a secret is
//! replaced on one node after the other (old and new on all, new and old on all, new on all).

use super::secret::Secret;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Octets of a cookie file at most. Erlang's atoms have 255.
const MAX_FILE: u64 = 1024;
/// Letters of a cookie that is made: 188 bits.
const LETTERS: usize = 40;
/// Secrets in a file at most.
const MAX_SECRETS: usize = 2;

/// A cookie file that can not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CookieError {
    /// RabbitMQ's words.
    #[error("Cookie file {path} must be accessible by owner only: chmod 600 {path}", path = .0.display())]
    Accessible(PathBuf),
    /// A folder, a device.
    #[error("Cookie file {} is no regular file", .0.display())]
    NotRegular(PathBuf),
    /// Nothing in it.
    #[error(
        "Too short cookie string in {}: put the cookie of the other nodes there, or remove the file and a new one is made",
        .0.display()
    )]
    TooShort(PathBuf),
    /// What is no letter, digit or sign.
    #[error("Bad characters in cookie in {}: a cookie is one line of letters, digits and signs", .0.display())]
    BadCharacters(PathBuf),
    /// Too long for a cookie.
    #[error("Cookie file {} is longer than {max} octets: is it another file?", .0.display(), max = MAX_FILE)]
    TooLong(PathBuf),
    /// More lines than can be.
    #[error(
        "Cookie file {} has more than two lines: the first is the cookie, a second one is taken too while it is replaced",
        .0.display()
    )]
    TooMany(PathBuf),
    /// The file system refuses.
    #[error("Error when reading {path}: {1}", path = .0.display())]
    Read(PathBuf, io::Error),
    /// The file system refuses.
    #[error("failed to make the cookie file {path}: {1}", path = .0.display())]
    Make(PathBuf, io::Error),
}

/// The secrets of a cookie file: the one to use first. Makes the file, with a new secret, if there is none.
///
/// # Errors
/// Says what is wrong with the file.
pub(crate) fn load_or_make(path: &Path) -> Result<Vec<Secret>, CookieError> {
    match load(path) {
        Err(CookieError::Read(_, error)) if error.kind() == io::ErrorKind::NotFound => {
            let letters = (0..LETTERS).map(|_| char::from(b'A' + rand::random_range(0..26_u8)));
            make(path, &letters.collect::<String>())?;
            load(path)
        }
        other => other,
    }
}

/// The secrets of a cookie file that is there.
///
/// # Errors
/// As [`load_or_make`], or it is not there.
pub(crate) fn load(path: &Path) -> Result<Vec<Secret>, CookieError> {
    let unreadable = |error| CookieError::Read(path.to_owned(), error);
    let file = File::open(path).map_err(unreadable)?;
    // Of the file that is open, not of one that has its name now.
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(CookieError::NotRegular(path.to_owned()));
    }
    if found.mode() & 0o077 != 0 {
        return Err(CookieError::Accessible(path.to_owned()));
    }
    let mut octets = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut octets).map_err(unreadable)?;
    if octets.len() as u64 > MAX_FILE {
        return Err(CookieError::TooLong(path.to_owned()));
    }
    let lines = octets.split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii_end);
    let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
    if lines.iter().any(|line| !line.iter().all(|octet| (b' '..=b'~').contains(octet))) {
        return Err(CookieError::BadCharacters(path.to_owned()));
    }
    match lines.len() {
        0 => Err(CookieError::TooShort(path.to_owned())),
        1..=MAX_SECRETS => Ok(lines.into_iter().map(Secret::new).collect()),
        _ => Err(CookieError::TooMany(path.to_owned())),
    }
}

/// Keeps the secret of a cluster that this node joined by a token. What the file had before stays beside it, with
/// `.before` at its end.
///
/// # Errors
/// The file system refuses.
pub(crate) fn keep(path: &Path, secret: &Secret) -> Result<(), CookieError> {
    if load(path).is_ok_and(|now| now.first().is_some_and(|now| now.octets() == secret.octets())) {
        return Ok(());
    }
    let failed = |error| CookieError::Make(path.to_owned(), error);
    let (folder, beside) = (path.parent().unwrap_or(Path::new(".")), draft(path));
    write_draft(&beside, secret.octets()).map_err(failed)?;
    if path.exists() {
        let mut before = path.as_os_str().to_owned();
        before.push(".before");
        fs::rename(path, before).map_err(failed)?;
    }
    fs::rename(&beside, path).and_then(|()| File::open(folder)?.sync_all()).map_err(failed)
}

/// Makes a cookie file, whole or not at all. When another process was quicker, its file stays.
fn make(path: &Path, cookie: &str) -> Result<(), CookieError> {
    let failed = |error| CookieError::Make(path.to_owned(), error);
    let beside = draft(path);
    write_draft(&beside, cookie.as_bytes()).map_err(failed)?;
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside).map_err(failed)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => Ok(()),
    }
}

fn draft(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{:08x}", std::process::id(), rand::random::<u32>()));
    path.with_file_name(name)
}

fn write_draft(path: &Path, cookie: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // Whatever the umask says.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(cookie)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, text: &[u8], mode: u32) -> PathBuf {
        let path = folder.join(".erlang.cookie");
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_cookie_that_is_missing_is_made_once_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".erlang.cookie");
        let made = load_or_make(&path).unwrap();
        assert_eq!((made.len(), made[0].octets().len()), (1, LETTERS));
        assert!(made[0].octets().iter().all(u8::is_ascii_uppercase));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(load_or_make(&path).unwrap()[0].octets(), made[0].octets());
        make(&path, "LATER").unwrap();
        assert_eq!(load(&path).unwrap()[0].octets(), made[0].octets(), "another's file was replaced");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a draft stays");
        let other = load_or_make(&folder.path().join("other")).unwrap();
        assert_ne!(other[0].octets(), made[0].octets());
    }

    #[test]
    fn rabbitmqs_cookie_files_are_taken_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        for (text, mode, secrets) in [
            (&b"NLWVGZXGEJHJSJHSBIVU"[..], 0o400, vec![&b"NLWVGZXGEJHJSJHSBIVU"[..]]),
            (b"secret cookie\r\n\n", 0o600, vec![b"secret cookie"]),
            (b"new\nold\n", 0o600, vec![b"new", b"old"]),
        ] {
            let found = load(&file(folder.path(), text, mode)).unwrap();
            assert_eq!(found.iter().map(Secret::octets).collect::<Vec<_>>(), secrets);
        }
    }

    #[test]
    fn what_is_wrong_with_a_cookie_file_is_said() {
        let folder = tempfile::tempdir().unwrap();
        for (text, mode, said) in [
            (&b"A"[..], 0o640, "must be accessible by owner only: chmod 600 "),
            (b"A", 0o604, "must be accessible by owner only"),
            (b" \n", 0o600, "Too short cookie string"),
            (b"A\x07B", 0o600, "Bad characters in cookie"),
            (b"A\nB\nC\n", 0o600, "more than two lines"),
            (&[b'A'; 1025], 0o600, "longer than 1024"),
        ] {
            let error = load_or_make(&file(folder.path(), text, mode)).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains(".erlang.cookie"), "{error}");
        }
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("is no regular file"), "{error}");
        let error = load_or_make(&folder.path().join("no/such")).unwrap_err().to_string();
        assert!(error.contains("failed to make the cookie file"), "{error}");
    }

    #[test]
    fn a_cookie_that_came_with_a_token_is_kept_beside_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), b"own", 0o600);
        for _ in 0..2 {
            keep(&path, &Secret::new(b"theirs")).unwrap();
            assert_eq!(load(&path).unwrap()[0].octets(), b"theirs");
            let before = folder.path().join(".erlang.cookie.before");
            assert_eq!(fs::read(before).unwrap(), b"own");
        }
    }
}
