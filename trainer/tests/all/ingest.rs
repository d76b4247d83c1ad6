//! Events from outside: good rows are taken, bad ones set aside with their reason, and a bad file leaves nothing behind.

use std::path::Path;

use model::journal::{Meta, Row};
use stockade_trainer::ingest::ingest;
use stockade_trainer::journal::{Journal, Writer};

use crate::support::{day, shop::World};

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn bad_lines_are_set_aside_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (events, _) = day(&mut World::new(1), &[]);
    let mut lines: Vec<String> = events.iter().take(20).map(|event| serde_json::to_string(event).unwrap()).collect();
    // As the agent's sinks write them, and one of a later version.
    lines[5] = format!("{{\"schema\":\"stockade.events.v1\",\"host\":\"web\",\"event\":{}}}", lines[5]);
    let later = format!("{{\"schema\":\"stockade.events.v2\",\"host\":\"web\",\"event\":{}}}", lines[6]);
    lines.insert(6, later);
    lines.insert(3, "{\"at\": NaN}".to_owned());
    lines.insert(9, "not json".to_owned());
    let file = folder.path().join("events.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let done = ingest(&file, &out, false).unwrap().unwrap();
    assert_eq!((done.rows, done.rejected), (20, 3));
    let read: Vec<model::Event> = Journal::open(&done.journal).unwrap().events().map(|event| event.unwrap()).collect();
    assert_eq!(read, events[..20]);
    let rejects = std::fs::read_to_string(out.join("events.rejects.jsonl")).unwrap();
    assert!(rejects.starts_with("{\"row\":4,\"reason\":") && rejects.lines().count() == 3, "{rejects}");
    assert!(rejects.contains("stockade.events.v2"), "{rejects}");
    assert_eq!(ingest(&file, &out, false).unwrap(), None, "it is there already");
}

#[test]
fn bad_rows_of_a_journal_are_set_aside_too() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("mixed.parquet"), folder.path().join("out"));
    let (events, _) = day(&mut World::new(1), &[]);
    let mut writer = Writer::create(&file, &Meta::default()).unwrap();
    writer.append(&Row { kind: "dance".into(), ..Row::from(&events[0]) }).unwrap();
    writer.append(&Row { cookie: 7, trace: None, remote: Some("nowhere".into()), ..Row::from(&events[1]) }).unwrap();
    writer.append(&Row::from(&events[2])).unwrap();
    writer.finish().unwrap();
    let done = ingest(&file, &out, false).unwrap().unwrap();
    assert!(done.rows >= 1 && done.rejected >= 1, "{done:?}");
    let rejects = std::fs::read_to_string(out.join("mixed.rejects.jsonl")).unwrap();
    assert!(rejects.contains("is no kind of event"), "{rejects}");
}

#[test]
fn files_that_hold_nothing_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let refused = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        format!("{:#}", ingest(&file, &out, false).unwrap_err())
    };
    assert!(refused("a.jsonl", b"").contains("holds no event"));
    assert!(refused("b.jsonl", b"{}\n{}\n").contains("2 rows that are none"));
    assert!(refused("c.jsonl", &vec![b'x'; 3 << 20]).contains("line 1: it is longer"));
    assert!(refused("d.parquet", b"PAR1").contains("is not a whole Parquet file"));
    assert!(refused("e.txt", b"").contains("neither a journal (.parquet) nor events (.jsonl)"));
    assert!(!out.exists() || files(&out).is_empty(), "{:?}", files(&out));
}
