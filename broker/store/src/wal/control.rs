//! The log's control file: which file the log starts with, and what it must at least contain.
//!
//! Two slots of 4096 bytes, written in turn and synced, so that a torn write leaves the other one.
//!
//! ```text
//!  0  "RWC1"
//!  4  u32 crc32c         over bytes 8..56 of the slot
//!  8  u64 counter        the slot with the higher one counts
//! 16  16B storage_uuid
//! 32  u64 first_file_seq files before it are released
//! 40  u64 first_lsn      first position in that file
//! 48  u64 synced_lsn     the log is durable at least up to here
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::Lsn;
use crate::disk::{self, Disk, DiskFile};
use crate::le::{u32_at, u64_at};

const MAGIC: &[u8; 4] = b"RWC1";
const SLOT_BYTES: usize = 4096;
const USED: usize = 56;
/// Positions and file numbers stay below this, so that counting on from them never overflows.
const LIMIT: u64 = 1 << 62;
/// The control file's name.
pub(crate) const NAME: &str = "control";

/// What the control file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) first_file_seq: u64,
    pub(crate) first_lsn: Lsn,
    pub(crate) synced_lsn: Lsn,
}

/// The open control file.
pub(crate) struct Control {
    file: Arc<dyn DiskFile>,
    storage_uuid: [u8; 16],
    counter: u64,
    pub(crate) state: State,
}

/// How reading the control file can fail.
pub(crate) enum ControlError {
    Io(io::Error),
    /// Neither slot is whole.
    Damaged,
    /// It belongs to another data directory.
    Foreign,
}

impl Control {
    /// Creates it, whole or not at all.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        storage_uuid: [u8; 16],
        state: State,
    ) -> io::Result<Self> {
        let mut content = slot(&storage_uuid, 1, state);
        content.resize(2 * SLOT_BYTES, 0);
        disk::write_atomically(disk, dir, NAME, &content)?;
        Ok(Self { file: disk.open(&dir.join(NAME))?, storage_uuid, counter: 1, state })
    }

    pub(crate) fn open(disk: &dyn Disk, dir: &Path, storage_uuid: [u8; 16]) -> Result<Self, ControlError> {
        let file = disk.open(&dir.join(NAME)).map_err(ControlError::Io)?;
        let mut content = Vec::new();
        disk::read_file(&*file, &mut content).map_err(ControlError::Io)?;
        let newest = content
            .chunks(SLOT_BYTES)
            .take(2)
            .filter_map(parse_slot)
            .max_by_key(|(counter, ..)| *counter)
            .ok_or(ControlError::Damaged)?;
        let (counter, uuid, state) = newest;
        if uuid != storage_uuid {
            return Err(ControlError::Foreign);
        }
        Ok(Self { file, storage_uuid, counter, state })
    }

    /// Writes and syncs a new state into the older slot.
    pub(crate) fn write(&mut self, state: State) -> io::Result<()> {
        let counter = self.counter + 1;
        let offset = if counter % 2 == 1 { 0 } else { SLOT_BYTES as u64 };
        self.file.write_at(&slot(&self.storage_uuid, counter, state), offset)?;
        self.file.sync_data()?;
        self.counter = counter;
        self.state = state;
        Ok(())
    }
}

pub(super) fn slot(storage_uuid: &[u8; 16], counter: u64, state: State) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.extend_from_slice(MAGIC);
    slot.extend_from_slice(&[0; 4]);
    slot.extend_from_slice(&counter.to_le_bytes());
    slot.extend_from_slice(storage_uuid);
    slot.extend_from_slice(&state.first_file_seq.to_le_bytes());
    slot.extend_from_slice(&state.first_lsn.to_le_bytes());
    slot.extend_from_slice(&state.synced_lsn.to_le_bytes());
    let crc = crc32c::crc32c(&slot[8..USED]);
    slot[4..8].copy_from_slice(&crc.to_le_bytes());
    slot.resize(SLOT_BYTES, 0);
    slot
}

pub(super) fn parse_slot(slot: &[u8]) -> Option<(u64, [u8; 16], State)> {
    if slot.len() < USED || &slot[..4] != MAGIC || crc32c::crc32c(&slot[8..USED]) != u32_at(slot, 4) {
        return None;
    }
    let uuid = slot[16..32].try_into().ok()?;
    let state =
        State { first_file_seq: u64_at(slot, 32), first_lsn: u64_at(slot, 40), synced_lsn: u64_at(slot, 48) };
    let counter = u64_at(slot, 8);
    let counts = [counter, state.first_file_seq, state.first_lsn, state.synced_lsn.saturating_add(1)];
    counts.iter().all(|count| (1..LIMIT).contains(count)).then_some((counter, uuid, state))
}
