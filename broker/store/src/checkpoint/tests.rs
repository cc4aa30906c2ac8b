//! Checkpoints on a real file system.

use super::*;
use crate::disk::RealDisk;

const UUID: [u8; 16] = *b"0123456789abcdef";

fn sample(lsn: Lsn, queues: u64) -> Checkpoint {
    let queue = |queue_id: u64| QueueState {
        queue_id,
        epoch: 3,
        next_qseq: u64::MAX,
        next_off: queue_id * 7,
        hwm: 4096,
        leader: queue_id.is_multiple_of(2).then_some(queue_id),
        epochs: vec![(1, 0), (3, 500)],
        resident: vec![
            LiveRange { first_qseq: 0, last_qseq: 0, first_lsn: 5, last_lsn: 5 },
            LiveRange { first_qseq: 7, last_qseq: u64::MAX - 1, first_lsn: 6, last_lsn: 900 },
        ],
        segments: vec![SegmentState {
            meta: SegmentMeta {
                queue_id,
                first_qseq: 1,
                last_qseq: 6,
                messages: 6,
                bytes: 700,
                earliest_expiry_ms: (queue_id == 3).then_some(1_764_000_000_000),
            },
            live: 2,
        }],
    };
    Checkpoint { lsn, queues: (1..=queues).map(queue).collect() }
}

#[test]
fn the_newest_comes_back_and_two_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Checkpoint::load_newest(&RealDisk, dir.path(), &UUID).unwrap(), None);
    for lsn in [5, 300, 70_000] {
        sample(lsn, 5000).write(&RealDisk, dir.path(), &UUID).unwrap();
    }
    let loaded = Checkpoint::load_newest(&RealDisk, dir.path(), &UUID).unwrap().unwrap();
    assert_eq!(loaded, Loaded { checkpoint: sample(70_000, 5000), damaged: Vec::new() });
    assert_eq!(find(&RealDisk, dir.path()).unwrap(), [300, 70_000]);
}

#[test]
fn a_damaged_one_is_passed_over_and_told_and_none_whole_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    sample(1, 20).write(&RealDisk, dir.path(), &UUID).unwrap();
    sample(2, 20).write(&RealDisk, dir.path(), &UUID).unwrap();
    let path = dir.path().join(name(2));
    let good = std::fs::read(&path).unwrap();
    for at in (0..good.len()).filter(|at| !(44..64).contains(at)) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, bytes).unwrap();
        let loaded = Checkpoint::load_newest(&RealDisk, dir.path(), &UUID).unwrap().unwrap();
        assert_eq!((loaded.checkpoint.lsn, loaded.damaged.len()), (1, 1), "byte {at}");
    }
    for len in 0..good.len() {
        std::fs::write(&path, &good[..len]).unwrap();
        let loaded = Checkpoint::load_newest(&RealDisk, dir.path(), &UUID).unwrap().unwrap();
        assert_eq!(loaded.checkpoint.lsn, 1, "cut to {len}");
    }
    std::fs::write(dir.path().join(name(1)), b"").unwrap();
    let error = Checkpoint::load_newest(&RealDisk, dir.path(), &UUID).unwrap_err();
    assert!(matches!(error, CheckpointError::AllDamaged { .. }), "{error}");
}

#[test]
fn noise_behind_right_checksums_never_panics() {
    let encoded = codec::encode(&sample(9, 3), &UUID);
    let seed = crate::le::u32_at(&encoded, 40);
    let mut noise = 88_172_645_463_325_252u64;
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut bytes = encoded.clone();
        for _ in 0..3 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let at = 64 + 16 + (noise as usize >> 8) % (bytes.len() - 80);
            bytes[at] = noise as u8;
        }
        let crc = crc32c::crc32c_append(seed, &bytes[64 + 4..]);
        bytes[64..68].copy_from_slice(&crc.to_le_bytes());
        refused += u32::from(codec::decode(&bytes, 9, &UUID).is_err());
    }
    assert!(refused > 1000, "{refused}");
}
