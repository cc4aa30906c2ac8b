//! Crash enumeration over the file that is written whole: the node's identity.
//! After a crash the newest promised version, or a newer one, is there and right.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use broker_store::datadir::Identity;
use broker_store::disk::Disk;

use crate::crash::{Crasher, Survivors};
use crate::disk::SimDisk;
use crate::mutant::{MutantDisk, Mutation};

const DIR: &str = "/data";

/// Versions of something on the disk.
trait Versions {
    fn write(disk: &dyn Disk, version: u64) -> Result<(), String>;
    /// The version found, 0 for none.
    fn read(disk: &dyn Disk) -> Result<u64, String>;
}

struct Identities;

impl Versions for Identities {
    fn write(disk: &dyn Disk, _: u64) -> Result<(), String> {
        Identity::load_or_create(disk, Path::new(DIR), "rabbit@A")
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// The identity is made once; every version is the same.
    fn read(disk: &dyn Disk) -> Result<u64, String> {
        let exists = disk.open(&Path::new(DIR).join("node.toml")).is_ok();
        Self::write(disk, 0)?;
        Ok(if exists { u64::MAX } else { 0 })
    }
}

/// Writes a few versions and recovers from every crash; the first broken promise.
fn enumerate<V: Versions>(mutation: Option<Mutation>) -> Result<u64, String> {
    let sim = Arc::new(SimDisk::new());
    sim.create_dir(Path::new(DIR)).map_err(|error| error.to_string())?;
    let disk: Arc<dyn Disk> = match mutation {
        Some(mutation) => Arc::new(MutantDisk::new(Arc::<SimDisk>::clone(&sim), mutation)),
        None => Arc::<SimDisk>::clone(&sim),
    };
    for version in 1..=6 {
        V::write(&*disk, version)?;
        sim.note(version);
    }
    let ops = sim.ops();
    let mut crasher = Crasher::new(BTreeMap::new(), sim.dirs(), &ops);
    let mut images = 0;
    loop {
        let seeds = (0..30).map(|seed| Survivors::Some(seed * 1000 + crasher.at() as u64));
        for survivors in [Survivors::None, Survivors::All].into_iter().chain(seeds) {
            images += 1;
            let version = V::read(&crasher.image(survivors))
                .map_err(|error| format!("operation {} {survivors:?}: {error}", crasher.at()))?;
            if version < crasher.promised() {
                return Err(format!("operation {}: {version} < {}", crasher.at(), crasher.promised()));
            }
        }
        if !crasher.step() {
            return Ok(images);
        }
    }
}

#[test]
fn no_crash_loses_or_damages_the_identity() {
    assert!(enumerate::<Identities>(None).unwrap() > 100);
}

#[test]
fn a_missing_sync_is_noticed() {
    for mutation in [Mutation::NoDataSync, Mutation::NoDirSync, Mutation::NoSyncBeforeRename] {
        assert!(enumerate::<Identities>(Some(mutation)).is_err(), "{mutation:?}");
    }
}
