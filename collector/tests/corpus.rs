//! The recorded corpus keeps its promises: labels parse, lie inside their recordings and name processes that are in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use collector::decode::decode;
use collector::enrich::Enricher;
use collector::enrich::surroundings::Recorded;
use collector::replay::{Frame, Recording};
use model::event::{Body, Event};
use serde::Deserialize;

/// All of it, compressed: what a clone of the repository has to carry.
const MOST_BYTES: u64 = 25_000_000;

#[derive(Deserialize)]
struct Cycle {
    host: String,
    cycle: u32,
    split: String,
    seconds: f64,
    clock_factor: f64,
    start_unix_ns: u64,
    records: u64,
    lost: u64,
    #[serde(default)]
    loss: String,
    #[serde(default)]
    span: Vec<Span>,
}

#[derive(Deserialize)]
struct Span {
    kind: String,
    name: String,
    class: Option<String>,
    workload: String,
    start_unix_ns: u64,
    end_unix_ns: u64,
    root_pid: u32,
    root_cookie: u64,
    harm_unix_ns: Option<u64>,
    #[serde(default)]
    note: String,
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/corpus")
}

/// Every label file with its recording.
fn cycles() -> Vec<(Cycle, PathBuf)> {
    let hosts = std::fs::read_dir(corpus()).expect("the corpus").flatten().map(|entry| entry.path());
    let files = hosts.flat_map(|host| std::fs::read_dir(host).expect("a host's folder").flatten());
    let mut labels: Vec<PathBuf> =
        files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|kind| kind == "toml")).collect();
    labels.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a label file");
        let cycle = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (cycle, path.with_extension("stk.gz"))
    };
    labels.into_iter().map(read).collect()
}

/// The events of a recording and how many records it holds; panics unless it ends properly.
fn events(path: &Path) -> (Vec<Event>, u64) {
    let mut plain = Vec::new();
    let file = BufReader::new(File::open(path).expect("a recording"));
    flate2::read::GzDecoder::new(file).read_to_end(&mut plain).expect("gzip");
    let recording = Recording::open(plain.as_slice()).expect("a recording");
    let mut enricher = Enricher::new(recording.info().clock, Recorded::default());
    let (mut events, mut records) = (Vec::new(), 0);
    for frame in recording {
        match frame.expect("a whole recording") {
            Frame::Note(note) => enricher.take_note(&note),
            Frame::Record(bytes) => {
                records += 1;
                events.extend(enricher.enrich(&decode(&bytes).expect("a good record")));
            }
        }
    }
    (events, records)
}

#[test]
fn labels_are_sound_and_earlier_days_teach_later_ones_test() {
    const DAY_NS: u64 = 86_400_000_000_000;
    let mut days = BTreeSet::new();
    for (cycle, path) in cycles() {
        let name = path.display();
        assert_eq!(cycle.start_unix_ns % DAY_NS, 0, "{name}");
        assert!(days.insert((cycle.host.clone(), cycle.cycle)), "{name}: twice");
        let split = if cycle.cycle <= 8 {
            "train"
        } else if cycle.cycle <= 11 {
            "validation"
        } else {
            "test"
        };
        assert_eq!(cycle.split, split, "{name}");
        let end = cycle.start_unix_ns + (cycle.seconds * cycle.clock_factor * 1e9) as u64;
        for span in &cycle.span {
            let inside = |at: u64| (cycle.start_unix_ns..=end).contains(&at);
            assert!(inside(span.start_unix_ns) && inside(span.end_unix_ns), "{name}: {}", span.name);
            assert!(span.start_unix_ns < span.end_unix_ns, "{name}: {}", span.name);
            if span.kind == "benign" {
                continue;
            }
            assert_ne!(cycle.split, "train", "{name}: {} is an attack", span.name);
            let classes = ["visible", "in-process", "evasive"];
            assert!(span.class.as_deref().is_some_and(|class| classes.contains(&class)), "{name}: {}", span.name);
            assert!(span.harm_unix_ns.is_some() || !span.note.is_empty(), "{name}: {} says not why", span.name);
            let within = |at: u64| (span.start_unix_ns..=span.end_unix_ns).contains(&at);
            assert!(span.harm_unix_ns.is_none_or(within), "{name}: harm of {}", span.name);
        }
    }
    let hosts: BTreeSet<_> = days.iter().map(|(host, _)| host.clone()).collect();
    assert!(hosts.iter().any(|host| days.iter().filter(|(other, _)| other == host).count() >= 15), "{days:?}");
}

#[test]
fn no_attack_of_the_test_split_is_in_validation() {
    let mut splits: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (cycle, _) in cycles() {
        for span in cycle.span.into_iter().filter(|span| span.kind == "attack") {
            splits.entry(span.name).or_default().insert(cycle.split.clone());
        }
    }
    assert!(splits.values().all(|splits| splits.len() == 1), "{splits:?}");
    let in_test = splits.values().filter(|splits| splits.contains("test")).count();
    assert!(in_test >= 16, "{in_test} attacks");
}

#[test]
fn the_corpus_is_small_enough_to_be_cloned() {
    let bytes: u64 = cycles().iter().map(|(_, path)| path.metadata().expect("a recording").len()).sum();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
}

#[test]
fn recordings_are_whole_and_hold_what_their_labels_say() {
    for (cycle, path) in cycles() {
        let name = path.display();
        let (events, records) = events(&path);
        assert_eq!(records, cycle.records, "{name}");
        assert!(cycle.lost * 1000 <= cycle.records, "{name}: {} lost", cycle.lost);
        assert_eq!(cycle.lost > 0, !cycle.loss.is_empty(), "{name}: it says what was lost");
        let end = cycle.start_unix_ns + (cycle.seconds * cycle.clock_factor * 1e9).ceil() as u64;
        assert!(events.iter().all(|event| (cycle.start_unix_ns..=end).contains(&event.at.unix_ns)), "{name}");
        let unknown = events.iter().filter(|event| &*event.process.exe == "?").count();
        assert!(unknown * 100 <= events.len(), "{name}: {unknown} of {} events without a process", events.len());
        for span in &cycle.span {
            let during = |event: &&Event| (span.start_unix_ns..=span.end_unix_ns).contains(&event.at.unix_ns);
            let workload = |event: &Event| *event.process.workload == *span.workload;
            assert!(
                events.iter().filter(during).any(workload),
                "{name}: {} left no trace in {}",
                span.name,
                span.workload
            );
            let is_root = |event: &Event| {
                event.process.cookie == span.root_cookie
                    && event.process.pid == span.root_pid
                    && matches!(event.body, Body::Exec(_))
            };
            assert!(
                span.root_cookie == 0 || events.iter().filter(during).any(is_root),
                "{name}: the root of {} does not start in it",
                span.name
            );
        }
    }
}

#[test]
fn nothing_of_the_recording_machine_is_in_a_recording() {
    for (_, path) in cycles().into_iter().filter(|(cycle, _)| cycle.cycle == 1) {
        let (events, _) = events(&path);
        for event in &events {
            let text = format!("{} {}", event.process.exe, event.process.cmdline);
            let foreign = ["/root/", "cargo", "rustc"].iter().any(|word| text.contains(word));
            assert!(!foreign, "{}: {text}", path.display());
        }
    }
}
