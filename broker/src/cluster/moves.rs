//! Exchanging the data of a node as a whole, when it joins or leaves a cluster or begins anew: so that whenever
//! the node is killed, the next start finds the old data or the new, or finishes the move.
//!
//! ```text
//! move.toml written ──► parts moved out ──► move.toml: moved_out ──► parts moved back in, cluster.toml ──► removed
//! ```

use super::papers::{FileError, Papers};
use broker_store::disk::{Disk, RealDisk, write_atomically};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const FILE: &str = "move.toml";
/// Before the time at which data of a node on its own was put aside.
const STANDALONE: &str = "standalone-";
/// All that belongs to a node's data.
const PARTS: [&str; 6] = ["wal", "raft", "seg", "meta", "node.toml", "cluster.toml"];

/// What is to be moved where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Move {
    /// In a word: what for.
    title: String,
    /// What is moved out, relative to the data directory.
    parts: Vec<String>,
    /// The folder that it is moved to.
    out: String,
    /// The folder whose content is moved in.
    back: Option<String>,
    /// Everything is out.
    moved_out: bool,
    /// What the new data says about the cluster.
    papers: Option<Papers>,
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError::Io { doing, path: path.to_owned(), source }
}

impl Move {
    /// A node joins: what it had is kept for when it leaves.
    pub(crate) fn join(papers: Papers) -> Move {
        Move::of_all("join", format!("{STANDALONE}{}", unix_ms()), None, Some(papers))
    }

    /// A node leaves: what it had before it joined is taken up again, if there is anything.
    pub(crate) fn leave(data: &Path) -> Result<Move, FileError> {
        Ok(Move::of_all("leave", format!("trash/{}-left", unix_ms()), newest_standalone(data)?, None))
    }

    /// A node becomes an empty one.
    pub(crate) fn reset() -> Move {
        Move::of_all("reset", format!("trash/{}-reset", unix_ms()), None, None)
    }

    /// The replicated log is exchanged for the one in folder `new` of the data directory, which is below a
    /// folder of its own.
    pub(crate) fn new_generation(new: String, papers: Papers) -> Move {
        let parts = vec!["raft".to_owned(), "cluster.toml".to_owned()];
        let out = format!("trash/{}-recover", unix_ms());
        Move {
            title: "recover".to_owned(),
            parts,
            out,
            back: Some(new),
            moved_out: false,
            papers: Some(papers),
        }
    }

    fn of_all(title: &str, out: String, back: Option<String>, papers: Option<Papers>) -> Move {
        let parts = PARTS.map(str::to_owned).to_vec();
        Move { title: title.to_owned(), parts, out, back, moved_out: false, papers }
    }

    /// Whether data of before comes back.
    pub(crate) fn brings_back(&self) -> bool {
        self.back.is_some()
    }

    /// Carries it out. Nobody may use the data meanwhile.
    pub(crate) fn carry_out(&self, data: &Path) -> Result<(), FileError> {
        self.save(data)?;
        finish(data)
    }

    fn save(&self, data: &Path) -> Result<(), FileError> {
        let path = data.join(FILE);
        let text = toml::to_string(self)
            .map_err(|error| FileError::Content { path: path.clone(), problem: error.to_string() })?;
        write_atomically(&RealDisk, data, FILE, text.as_bytes()).map_err(io_error("write", &path))
    }

    fn load(data: &Path) -> Result<Option<Move>, FileError> {
        let path = data.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let found: Move = toml::from_str(&text)
            .map_err(|error| FileError::Content { path: path.clone(), problem: error.to_string() })?;
        let inside = |name: &String| {
            let mut parts = Path::new(name).components();
            !name.is_empty() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
        };
        let names = found.parts.iter().chain([&found.out]).chain(found.back.as_ref());
        if let Some(name) = names.into_iter().find(|name| !inside(name)) {
            let problem = format!("`{name}` is not a place in the data directory");
            return Err(FileError::Content { path, problem });
        }
        Ok(Some(found))
    }
}

/// Finishes a move that was cut short, if there is one. To be called before the data is looked at.
pub(crate) fn finish(data: &Path) -> Result<(), FileError> {
    finish_with(data, &mut || Ok(()))
}

/// `step` is called before each change on the disk and may fail.
fn finish_with(data: &Path, step: &mut dyn FnMut() -> Result<(), FileError>) -> Result<(), FileError> {
    let Some(mut found) = Move::load(data)? else { return Ok(()) };
    if !found.moved_out {
        let out = data.join(&found.out);
        step()?;
        fs::create_dir_all(&out).map_err(io_error("create", &out))?;
        for part in &found.parts {
            step()?;
            rename_if_there(&data.join(part), &out.join(part))?;
        }
        sync(&out)?;
        sync(data)?;
        step()?;
        found.moved_out = true;
        found.save(data)?;
    }
    if let Some(back) = &found.back {
        let back = data.join(back);
        match fs::read_dir(&back) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry.map_err(io_error("list", &back))?;
                    step()?;
                    rename_if_there(&entry.path(), &data.join(entry.file_name()))?;
                }
                sync(data)?;
                step()?;
                fs::remove_dir(&back).map_err(io_error("remove", &back))?;
            }
            // All of it is back.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("list", &back)(error)),
        }
    }
    if let Some(papers) = &found.papers {
        step()?;
        papers.save(data)?;
    }
    step()?;
    let path = data.join(FILE);
    fs::remove_file(&path).map_err(io_error("remove", &path))?;
    sync(data)?;
    tracing::info!(
        title = found.title,
        out = found.out,
        back = found.back,
        "the data directory was exchanged"
    );
    Ok(())
}

fn rename_if_there(from: &Path, to: &Path) -> Result<(), FileError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("move", from)(error)),
        _ => Ok(()),
    }
}

fn sync(dir: &Path) -> Result<(), FileError> {
    RealDisk.sync_dir(dir).map_err(io_error("sync", dir))
}

/// The newest data of the node on its own that was put aside.
fn newest_standalone(data: &Path) -> Result<Option<String>, FileError> {
    let entries = fs::read_dir(data).map_err(io_error("list", data))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.starts_with(STANDALONE)).max_by_key(|name| (name.len(), name.clone())))
}

fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_core::ids::NodeId;
    use std::collections::BTreeMap;

    /// Every file below a folder with what is in it.
    fn everything(dir: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                found.extend(
                    everything(&path).into_iter().map(|(below, text)| (format!("{name}/{below}"), text)),
                );
            } else {
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
        found
    }

    fn fill(dir: &Path, text: &str) {
        for folder in ["wal", "raft", "trash"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        for file in ["wal/1.log", "raft/journal-1.log", "node.toml", ".erlang.cookie"] {
            fs::write(dir.join(file), text).unwrap();
        }
    }

    /// Carries a move out, killed before its `limit`th step and started again; says whether it got to its end at
    /// once.
    fn killed_at(data: &Path, wanted: &Move, limit: usize) -> bool {
        wanted.save(data).unwrap();
        let mut steps = 0;
        let outcome = finish_with(data, &mut || {
            steps += 1;
            let killed = FileError::Content { path: std::path::PathBuf::new(), problem: "killed".to_owned() };
            if steps > limit { Err(killed) } else { Ok(()) }
        });
        finish(data).unwrap();
        outcome.is_ok()
    }

    #[test]
    fn joining_and_leaving_survive_being_killed_at_any_step() {
        for limit in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let data = dir.path();
            fill(data, "own");
            let papers = Papers::new(NodeId(7), 5, 1, false, Vec::new());
            let whole = killed_at(data, &Move::join(papers.clone()), limit);
            assert_eq!(Papers::load(data).unwrap(), Some(papers));
            assert!(
                !data.join("wal").exists() && !data.join("node.toml").exists() && !data.join(FILE).exists()
            );
            assert!(data.join(".erlang.cookie").exists(), "the secret stays");
            fill(data, "shared");
            let leave = Move::leave(data).unwrap();
            assert!(leave.brings_back());
            let whole = killed_at(data, &leave, limit) && whole;
            let found = everything(data);
            assert_eq!(found["wal/1.log"], "own");
            assert_eq!(found["node.toml"], "own");
            assert!(
                !found.contains_key("cluster.toml") && !found.keys().any(|name| name.starts_with(STANDALONE))
            );
            assert!(found.iter().any(|(name, text)| name.starts_with("trash/") && text == "shared"));
            if whole {
                assert!(limit > 5, "{limit}");
                return;
            }
        }
    }

    #[test]
    fn a_move_out_of_the_data_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut wrong = Move::reset();
        wrong.out = "../elsewhere".to_owned();
        wrong.save(dir.path()).unwrap();
        assert!(finish(dir.path()).unwrap_err().to_string().contains("../elsewhere"));
    }
}
