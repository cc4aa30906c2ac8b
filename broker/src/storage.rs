//! Opens what a node keeps on disk: the data directory, the replicated log of metadata, the message log.

use crate::cluster::Seat;
use crate::cluster::papers::FileError;
use crate::metadata::upgrade::{self, UpgradeError};
use crate::metadata::{self, Metadata};
use crate::pager::{Pager, PagerInbox};
use broker_core::ids::QueueId;
use broker_store::datadir::{DataDir, DataDirError, META_JOURNAL_VERSION};
use broker_store::disk::{Disk, RealDisk};
use broker_store::journal::JournalOptions;
use broker_store::recovery::{LiveSet, QueueImage};
use broker_store::wal::{OpenError, Wal, WalOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long what nobody knows is kept.
const TRASH_AGE: Duration = Duration::from_secs(24 * 3600);

/// Why a node's storage can not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The metadata journal of an older version.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// The metadata.
    #[error(transparent)]
    Metadata(#[from] metadata::OpenError),
    /// The message log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The exchange of the data as a whole, cut short before.
    #[error(transparent)]
    Move(#[from] FileError),
}

/// What a node keeps on disk, open.
pub(crate) struct Storage {
    /// Holds the lock for as long as the node runs.
    pub(crate) directory: DataDir,
    /// The metadata.
    pub(crate) metadata: Arc<Metadata>,
    /// The message log.
    pub(crate) wal: Wal,
    /// What the log has for each queue.
    pub(crate) images: Vec<QueueImage>,
    /// The segment files.
    pub(crate) segments: (Pager, PagerInbox),
}

impl Storage {
    /// Opens the metadata only: for a node that holds no queues.
    pub(crate) fn open_witness(
        mut directory: DataDir,
        seat: &Seat,
    ) -> Result<(Arc<Metadata>, DataDir), StorageError> {
        let (storage_uuid, in_use) = (directory.identity().storage_uuid, directory.identity().in_use);
        let options = JournalOptions { expect_existing: in_use, ..JournalOptions::new(storage_uuid) };
        let metadata = Metadata::open(Arc::new(RealDisk), &directory.raft(), options, seat)?;
        directory.mark_in_use()?;
        Ok((Arc::new(metadata), directory))
    }

    /// Recovers what is in a data directory.
    pub(crate) fn open(mut directory: DataDir, seat: &Seat) -> Result<Storage, StorageError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let (storage_uuid, in_use) = (directory.identity().storage_uuid, directory.identity().in_use);

        let options = JournalOptions { expect_existing: in_use, ..JournalOptions::new(storage_uuid) };
        if directory.identity().format_version <= META_JOURNAL_VERSION {
            // What an upgrade that was cut short left here; nothing was made by it yet.
            directory.trash(Path::new("raft"))?;
            upgrade::carry_over(&disk, &directory.meta(), &directory.raft(), options, &seat.name)?;
        }
        directory.finish_upgrade()?;
        let metadata = Arc::new(Metadata::open(Arc::clone(&disk), &directory.raft(), options, seat)?);

        let mut live = LiveSet::new();
        let options = WalOptions { expect_existing: in_use, ..WalOptions::new(storage_uuid) };
        let (wal, report) =
            Wal::open(Arc::clone(&disk), &directory.wal(), options, |lsn, record| live.apply(lsn, record))?;
        directory.mark_in_use()?;
        tracing::debug!(?report, "log recovered");
        let images = live.finish();
        let segments = Pager::new(disk, directory.segments(), storage_uuid);
        let known = |queue: QueueId, first: u64| {
            let image = images.binary_search_by_key(&queue.0, |image| image.queue_id);
            image.is_ok_and(|at| images[at].segments.contains_key(&first))
        };
        for stranger in segments.0.sort_out(known) {
            // Nothing is deleted for being unknown.
            let path = directory.trash(&segments.0.relative_dir(stranger))?;
            tracing::warn!(queue = %stranger, path = %path.display(), "segments that the log does not know are in the trash");
        }
        if let Err(error) = directory.empty_trash(TRASH_AGE) {
            tracing::warn!(%error, "the trash could not be emptied");
        }
        Ok(Storage { directory, metadata, wal, images, segments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_store::datadir::FORMAT_VERSION;

    #[test]
    fn a_directory_of_format_1_is_carried_over_once() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path();
        let node = "format_version = 1\nnode = \"rabbit@here\"\n\
                    storage_uuid = \"91628dddccd0c311c0ed4bc73ab53b42\"\nin_use = false\n";
        std::fs::write(path.join("node.toml"), node).unwrap();
        std::fs::create_dir(path.join("meta")).unwrap();
        let journal = include_bytes!("metadata/testdata/format-1.journal");
        std::fs::write(path.join("meta/journal-0000000000000001.log"), journal).unwrap();
        // What an attempt left that lost its power half way.
        std::fs::create_dir(path.join("raft")).unwrap();
        std::fs::write(path.join("raft/journal-0000000000000001.log"), "half").unwrap();
        for _ in 0..2 {
            let directory = DataDir::open(path, "rabbit@here").unwrap();
            let storage = Storage::open(directory, &Seat::alone("rabbit@here")).unwrap();
            assert_eq!(storage.directory.identity().format_version, FORMAT_VERSION);
            assert!(!path.join("meta").exists());
            let sm = storage.metadata.read();
            assert!(sm.queue_named(sm.vhost_id("/").unwrap(), "invoices").is_some());
        }
        let trash = std::fs::read_dir(path.join("trash")).unwrap();
        let mut names: Vec<String> =
            trash.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.iter_mut().for_each(|name| drop(name.drain(..=name.find('-').unwrap())));
        names.sort();
        assert_eq!(names, ["meta", "raft"]);
    }
}
