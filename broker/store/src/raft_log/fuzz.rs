//! Bodies of fuzz targets: items and snapshots of the replicated log.

use super::Memory;
use super::codec::{self, Item};

/// An item of the journal.
pub fn raft_item(octets: &[u8]) {
    let Ok(item) = codec::item(octets) else { return };
    let again = match &item {
        Item::Vote(vote) => codec::vote(*vote),
        Item::Entry(entry) => codec::entry(entry),
        Item::Truncate(last) => codec::truncate(*last),
    };
    assert_eq!(again, octets, "{item:?}");
    if !matches!(item, Item::Entry(_) | Item::Truncate(None)) {
        let cut = codec::item(&octets[..octets.len() - 1]);
        assert!(cut.is_err(), "accepts {item:?} cut off");
    }
    // Whether it makes sense where it stands is another matter.
    let _ = Memory::default().replay(item);
}

/// The content of a snapshot.
pub fn raft_snapshot(octets: &[u8]) {
    let Ok(snapshot) = codec::read_snapshot(octets) else { return };
    let again = codec::snapshot(snapshot.vote, &snapshot.head, snapshot.entries.iter(), snapshot.state);
    assert_eq!(again, octets, "{snapshot:?}");
    let before = octets.len() - snapshot.state.len();
    assert!(codec::read_snapshot(&octets[..before - 1]).is_err(), "accepts a snapshot cut off");
    let mut memory = Memory::default();
    if let Ok(state) = memory.start_from(octets) {
        assert_eq!(state, snapshot.state);
        assert_eq!(memory.entries.len(), snapshot.entries.len());
    }
}
