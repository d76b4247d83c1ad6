//! The database file itself.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::decision::Author;
use crate::policy::{Entry, State};
use model::event::Time;

fn at(second: u64) -> Time {
    Time { unix_ns: second * 1_000_000_000, boot_ns: second }
}

fn entry(text: &str) -> Entry {
    Entry {
        at: at(1),
        author: Author::Operator("ada".to_owned()),
        what: "test".to_owned(),
        subject: "x".to_owned(),
        text: text.to_owned(),
    }
}

#[test]
fn its_files_are_private_even_if_they_were_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    std::fs::write(&path, b"").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut store = Store::open(&path).unwrap();
    store.audit(&entry("a")).unwrap();
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[test]
fn what_was_written_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    Store::open(&path).unwrap().audit(&entry("kept")).unwrap();
    let rows = Store::open(&path).unwrap().audit_rows(10).unwrap();
    assert_eq!((rows[0].number, rows[0].entry.text.as_str()), (1, "kept"));
}

#[test]
fn a_damaged_file_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let garbage = b"this is certainly not a database ".repeat(64);
    std::fs::write(&path, &garbage).unwrap();
    let error = Store::open(&path).err().unwrap();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("s.db") && error.to_string().contains("Move it away"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), garbage);
}

#[test]
fn damage_inside_is_found_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let mut store = Store::open(&path).unwrap();
    for number in 0..2_000 {
        store.audit(&entry(&format!("line {number} {}", "x".repeat(100)))).unwrap();
    }
    store.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE").ok();
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_newer_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    Store::open(&path).unwrap().connection.pragma_update(None, "user_version", 99).unwrap();
    let error = Store::open(&path).err().unwrap();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
}

#[test]
fn the_audit_is_neither_changed_nor_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(&directory.path().join("s.db")).unwrap();
    store.audit(&entry("a")).unwrap();
    assert!(store.connection.execute("UPDATE audit SET what = 'b'", []).is_err());
    assert!(store.connection.execute("DELETE FROM audit", []).is_err());
    assert_eq!(store.audit_about("x").unwrap().len(), 1);
}

#[test]
fn two_snapshots_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(&directory.path().join("s.db")).unwrap();
    assert_eq!(store.snapshot(0).unwrap(), None);
    for number in 1..=3u8 {
        store.save_snapshot(&[number; 8], &State::default(), "boot", at(u64::from(number))).unwrap();
    }
    let models = [0, 1, 2].map(|age| store.snapshot(age).unwrap().map(|saved| saved.model[0]));
    assert_eq!(models, [Some(3), Some(2), None]);
}

#[test]
fn a_failed_write_leaves_no_half_and_the_next_one_works() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(&directory.path().join("s.db")).unwrap();
    store.refuse_writes(true);
    assert!(store.audit(&entry("lost")).is_err());
    assert!(store.save_snapshot(b"x", &State::default(), "boot", at(1)).is_err());
    store.refuse_writes(false);
    store.audit(&entry("kept")).unwrap();
    assert_eq!(store.audit_rows(10).unwrap().len(), 1);
    assert_eq!(store.snapshot(0).unwrap(), None);
}

#[test]
fn the_log_is_written_back_beside_a_writer_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.db");
    let mut store = Store::open(&path).unwrap();
    for n in 0..200 {
        store.audit(&entry(&format!("row {n} {}", "x".repeat(1_000)))).unwrap();
    }
    let before = std::fs::metadata(&path).unwrap().len();
    write_back(&path).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() > before, "the rows are in the database now");
    store.audit(&entry("after")).unwrap();
    drop(store);
    assert_eq!(Store::open(&path).unwrap().audit_rows(1_000).unwrap().len(), 201);
}
