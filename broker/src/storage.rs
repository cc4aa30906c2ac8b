//! Opens what a node keeps on disk: the data directory, the metadata journal, the message log.

use crate::metadata::{self, FileJournal, Metadata};
use crate::pager::{Pager, PagerInbox};
use broker_core::ids::QueueId;
use broker_store::datadir::{DataDir, DataDirError};
use broker_store::disk::{Disk, RealDisk};
use broker_store::journal::{JournalOpenError, JournalOptions};
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
    /// The metadata journal.
    #[error(transparent)]
    Journal(#[from] JournalOpenError),
    /// What is in the metadata journal.
    #[error(transparent)]
    Metadata(#[from] metadata::OpenError),
    /// The message log.
    #[error(transparent)]
    Log(#[from] OpenError),
}

/// What a node keeps on disk, open.
pub(crate) struct Storage {
    /// Holds the lock for as long as the node runs.
    pub(crate) directory: DataDir,
    /// The metadata.
    pub(crate) metadata: Metadata,
    /// The message log.
    pub(crate) wal: Wal,
    /// What the log has for each queue.
    pub(crate) images: Vec<QueueImage>,
    /// The segment files.
    pub(crate) segments: (Pager, PagerInbox),
}

impl Storage {
    /// Opens the data directory at `path`, creating it if need be, and recovers what is in it.
    pub(crate) fn open(path: &Path, node: &str) -> Result<Storage, StorageError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut directory = DataDir::open(path, node)?;
        let (storage_uuid, in_use) = (directory.identity().storage_uuid, directory.identity().in_use);

        let options = JournalOptions { expect_existing: in_use, ..JournalOptions::new(storage_uuid) };
        let (journal, recovered, _) = FileJournal::open(Arc::clone(&disk), &directory.meta(), options)?;
        let metadata = Metadata::open(Box::new(journal), &recovered)?;

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
