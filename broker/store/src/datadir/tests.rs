//! The data directory on a real file system.

use super::*;

#[test]
fn a_second_broker_is_told_who_holds_it_and_may_start_when_that_one_is_gone() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("data");
    let first = DataDir::open(&dir, "rabbit@A").unwrap();
    let refused = DataDir::open(&dir, "rabbit@A").map(drop).unwrap_err().to_string();
    let expected = format!("is in use by broker pid {} (node rabbit@A, started 20", std::process::id());
    assert!(refused.contains(&expected), "{refused}");
    drop(first);
    DataDir::open(&dir, "rabbit@A").unwrap();
}

#[test]
fn the_identity_stays_and_another_node_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let mut dir = DataDir::open(temporary.path(), "rabbit@A").unwrap();
    assert!(!dir.identity().in_use);
    dir.mark_in_use().unwrap();
    let identity = dir.identity().clone();
    drop(dir);
    let again = DataDir::open(temporary.path(), "rabbit@A").unwrap();
    assert_eq!(*again.identity(), identity);
    assert!(identity.in_use);
    drop(again);
    let refused = DataDir::open(temporary.path(), "rabbit@B").map(drop).unwrap_err().to_string();
    assert!(refused.contains("belongs to node rabbit@A, not rabbit@B"), "{refused}");
}

#[test]
fn a_renamed_directory_belongs_to_the_new_name_and_is_the_same_data() {
    let temporary = tempfile::tempdir().unwrap();
    let mut dir = DataDir::open(temporary.path(), "rabbit@A").unwrap();
    dir.mark_in_use().unwrap();
    let before = dir.identity().clone();
    dir.rename("rabbit@A2").unwrap();
    drop(dir);
    DataDir::open(temporary.path(), "rabbit@A").map(drop).unwrap_err();
    let again = DataDir::open(temporary.path(), "rabbit@A2").unwrap();
    assert_eq!(*again.identity(), Identity { node: "rabbit@A2".to_owned(), ..before });
}

#[test]
fn a_newer_format_is_refused_even_if_it_has_other_keys() {
    let temporary = tempfile::tempdir().unwrap();
    fs::write(temporary.path().join(NODE), "format_version = 9\nwhatever = 1\n").unwrap();
    let refused = DataDir::open(temporary.path(), "rabbit@A").map(drop).unwrap_err();
    assert!(matches!(refused, DataDirError::NewerFormat { found: 9, .. }), "{refused}");
}

#[test]
fn an_older_format_stays_until_it_is_carried_over() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path();
    let text = format!(
        "format_version = 1\nnode = \"rabbit@A\"\nstorage_uuid = \"{}\"\nin_use = true\n",
        "0123456789abcdef".repeat(2)
    );
    fs::write(path.join(NODE), text).unwrap();
    fs::create_dir(path.join("meta")).unwrap();
    fs::write(path.join("meta/journal"), "x").unwrap();
    for _ in 0..2 {
        let dir = DataDir::open(path, "rabbit@A").unwrap();
        assert_eq!((dir.identity().format_version, dir.identity().in_use), (META_JOURNAL_VERSION, true));
        assert!(dir.meta().exists());
    }
    DataDir::open(path, "rabbit@A").unwrap().finish_upgrade().unwrap();
    let mut dir = DataDir::open(path, "rabbit@A").unwrap();
    assert_eq!(dir.identity().format_version, FORMAT_VERSION);
    assert!(!dir.meta().exists());
    let trashed = || fs::read_dir(path.join(TRASH)).unwrap().count();
    assert_eq!(trashed(), 1);
    dir.finish_upgrade().unwrap();
    assert_eq!(trashed(), 1, "nothing left to do");
}

#[test]
fn a_damaged_identity_names_the_line_and_a_missing_one_is_not_a_beginning() {
    let temporary = tempfile::tempdir().unwrap();
    fs::write(temporary.path().join(NODE), "format_version = 1\nnode = \"a\"\nstorage_uuid = \"12\"\n")
        .unwrap();
    let refused = DataDir::open(temporary.path(), "a").map(drop).unwrap_err().to_string();
    assert!(refused.contains("line 3: not 32 hex digits"), "{refused}");

    fs::remove_file(temporary.path().join(NODE)).unwrap();
    fs::create_dir_all(temporary.path().join("wal")).unwrap();
    fs::write(temporary.path().join("wal/control"), "").unwrap();
    let refused = DataDir::open(temporary.path(), "a").map(drop).unwrap_err().to_string();
    assert!(refused.contains("wal/control"), "{refused}");
}

#[test]
fn the_trash_keeps_for_a_while_and_then_forgets() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temporary.path(), "a").unwrap();
    fs::create_dir_all(dir.segments().join("0001")).unwrap();
    fs::write(dir.segments().join("0001/x.dat"), "x").unwrap();
    let there = dir.trash(Path::new("seg/0001")).unwrap();
    assert!(there.join("x.dat").exists());
    assert_eq!(dir.empty_trash(Duration::from_secs(3600)).unwrap(), 0);
    fs::rename(&there, there.with_file_name("1000-seg-0001")).unwrap();
    assert_eq!(dir.empty_trash(Duration::from_secs(3600)).unwrap(), 1);
    assert!(fs::read_dir(temporary.path().join(TRASH)).unwrap().next().is_none());
}

#[test]
fn moments_are_written_as_people_read_them() {
    assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
    assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
    assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
    assert_eq!(utc(1_795_415_043), "2026-11-23 06:24:03 UTC");
}
