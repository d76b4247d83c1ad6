//! A journal is read as it was written; anything else is refused by name, and nothing is left half-written.

use std::path::{Path, PathBuf};

use crate::support::{day, shop::World, write};
use model::journal::{Meta, Row};
use stockade_trainer::journal::{BATCH, GROUP, Journal, Writer};

fn journal(folder: &Path) -> (PathBuf, Vec<model::Event>) {
    let (events, _) = day(&mut World::new(5), &crate::support::plan()[5].1);
    let path = folder.join("cycle-01.parquet");
    write(&path, "web", &events);
    (path, events)
}

#[test]
fn events_come_back_as_they_went() {
    let folder = tempfile::tempdir().unwrap();
    let (path, events) = journal(folder.path());
    let opened = Journal::open(&path).unwrap();
    assert_eq!((opened.rows(), opened.meta().host.as_str()), (events.len(), "web"));
    let read: Vec<model::Event> = opened.events().map(|event| event.unwrap()).collect();
    assert_eq!(read, events);
}

#[test]
fn what_is_no_journal_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = journal(folder.path());
    let bytes = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Journal::open(&path).expect_err("no journal").to_string()
    };
    assert!(refused(b"").contains("is not a whole Parquet file"));
    assert!(refused(&bytes[..bytes.len() - 100]).contains("is not a whole Parquet file"));
    assert!(refused(&[b'x'; 4_096]).contains("is not a whole Parquet file"));
    // The footer is as it was; the pages are gone.
    let mut hollow = bytes.clone();
    hollow[8..bytes.len() / 2].fill(0);
    std::fs::write(&path, &hollow).unwrap();
    assert!(Journal::open(&path).is_err() || Journal::open(&path).unwrap().events().any(|event| event.is_err()));
    let versioned = String::from_utf8_lossy(&bytes).contains("stockade.journal.version");
    assert!(versioned, "the version stands in the file");
    let at = bytes.windows(24).rposition(|window| window == b"stockade.journal.version").unwrap();
    let mut other = bytes.clone();
    let digit = other[at..].iter().position(|byte| *byte == b'1').unwrap();
    other[at + digit] = b'9';
    assert!(refused(&other).contains("it says version 9"));
    let empty = folder.path().join("empty.parquet");
    Writer::create(&empty, &Meta::default()).unwrap().finish().unwrap();
    assert!(Journal::open(&empty).expect_err("nothing in it").to_string().contains("holds no events"));
}

#[test]
fn a_row_that_is_no_event_is_named_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.parquet");
    let (events, _) = day(&mut World::new(5), &[]);
    let mut writer = Writer::create(&path, &Meta::default()).unwrap();
    writer.append(&Row::from(&events[0])).unwrap();
    writer.append(&Row { kind: "dance".into(), ..Row::from(&events[1]) }).unwrap();
    writer.finish().unwrap();
    let opened = Journal::open(&path).unwrap();
    let error = opened.events().find_map(Result::err).expect("a bad row").to_string();
    assert!(error.contains("row 1 of") && error.contains("\"dance\" is no kind of event"), "{error}");
    assert_eq!(opened.rows_checked().count(), 2);
}

#[test]
fn a_journal_that_is_given_up_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.parquet");
    let (events, _) = day(&mut World::new(5), &[]);
    let mut writer = Writer::create(&path, &Meta::default()).unwrap();
    events.iter().take(10).for_each(|event| writer.append(&Row::from(event)).unwrap());
    drop(writer);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Four row groups of a shop's days, with the moment at which each row stands.
fn long_journal(path: &Path) -> Vec<model::Event> {
    let mut world = World::new(5);
    let mut events: Vec<model::Event> = Vec::new();
    while events.len() <= 3 * GROUP {
        events.extend(day(&mut world, &[]).0);
    }
    write(path, "web", &events);
    events
}

#[test]
fn a_scan_reads_the_row_groups_and_columns_that_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.parquet");
    let events = long_journal(&path);
    let opened = Journal::open(&path).unwrap();
    let moments = || events.iter().map(|event| event.at.unix_ns);
    assert_eq!(opened.extent("unix_ns").unwrap(), (moments().min().unwrap(), moments().max().unwrap()));
    let middle = events[GROUP + 5].at.unix_ns..events[GROUP + 900].at.unix_ns;
    let wanted = moments().filter(|at| middle.contains(at)).count();
    let scan = || opened.scan().columns(&["kind"]).during(middle.clone());
    assert_eq!(scan().rows_to_read(), GROUP, "one group of four");
    let frames: Vec<_> = scan().batches().map(|frame| frame.unwrap()).collect();
    assert_eq!(frames.iter().map(|frame| frame.height()).sum::<usize>(), wanted);
    assert!(frames.iter().all(|frame| frame.height() <= BATCH));
    assert_eq!(frames[0].get_column_names(), ["kind", "unix_ns"]);
    let nobody = opened.scan().of_workload("unit:nobody.service").batches();
    assert_eq!(nobody.count(), 0);
    let shop = opened.scan().columns(&["kind"]).of_workload(crate::support::shop::SHOP).batches();
    assert_eq!(shop.map(|frame| frame.unwrap().height()).sum::<usize>(), events.len());
    // What the scan passes over is not looked at: a hole in another group is not found, one in its own is.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[64..4_096].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let opened = Journal::open(&path).unwrap();
    assert!(opened.scan().during(middle).batches().all(|frame| frame.is_ok()));
    assert!(opened.scan().batches().any(|frame| frame.is_err()));
}
