//! A small corpus that is made up by seed: one host with a shop, days of ninety real seconds, labelled.

#[path = "../../../model/tests/support/mod.rs"]
pub mod shop;

use std::path::Path;
use std::sync::Arc;

use collector_common::flow::{Direction, Why};
use model::event::Process;
use model::journal::{Meta, Row};
use model::{Body, Event};
use shop::{DATABASE, HTTPD, SHOP, World, exec, flow, in_process_attack};
use stockade_trainer::journal::Writer;
use stockade_trainer::labels::{Class, Cycle, Kind, Span, Split};

pub const SECONDS: u64 = 90;
pub const FACTOR: f64 = 960.0;

/// What a day holds beside what is usual.
#[derive(Clone, Copy, PartialEq)]
pub enum Extra {
    Deploy,
    Shell(&'static str),
    InProcess(&'static str),
    /// Connections to the database, each a third larger than the one before.
    Ramp(&'static str),
}

/// Split and extras of each day.
pub fn plan() -> Vec<(Split, Vec<Extra>)> {
    use Extra::{Deploy, InProcess, Shell};
    vec![
        (Split::Train, vec![]),
        (Split::Train, vec![]),
        (Split::Train, vec![]),
        (Split::Validation, vec![Deploy, Shell("dropper")]),
        (Split::Validation, vec![]),
        (Split::Test, vec![Deploy, Shell("reverse shell")]),
        (Split::Test, vec![InProcess("file walk"), Shell("web shell")]),
        (Split::Test, vec![InProcess("memory scraper")]),
    ]
}

/// Writes a corpus of one host.
pub fn corpus(folder: &Path, host: &str, seed: u64, days: &[(Split, Vec<Extra>)]) {
    let mut world = World::new(seed);
    for (number, (split, extras)) in days.iter().enumerate() {
        let (events, spans) = day(&mut world, extras);
        let stem = folder.join(host).join(format!("cycle-{number:02}"));
        write(&stem.with_extension("parquet"), host, &events);
        let cycle = Cycle {
            host: host.to_owned(),
            cycle: number as u32,
            split: *split,
            seed,
            kernel: "6.18".to_owned(),
            recorded: String::new(),
            seconds: SECONDS as f64,
            clock_factor: FACTOR,
            start_unix_ns: events.first().map_or(0, |event| event.at.unix_ns),
            records: events.len() as u64,
            lost: 0,
            loss: String::new(),
            requests: [0, 0],
            spans,
        };
        std::fs::write(stem.with_extension("toml"), toml::to_string(&cycle).expect("labels")).expect("written");
    }
}

/// Writes events as a journal.
pub fn write(path: &Path, host: &str, events: &[Event]) {
    let meta = Meta { host: host.to_owned(), ..Meta::default() };
    let mut writer = Writer::create(path, &meta).expect("a journal");
    for event in events {
        writer.append(&Row::from(event)).expect("a row");
    }
    writer.finish().expect("a whole journal");
}

/// Ninety seconds of the shop with something in the middle.
pub fn day(world: &mut World, extras: &[Extra]) -> (Vec<Event>, Vec<Span>) {
    let (mut events, mut spans) = (Vec::new(), Vec::new());
    for second in 0..SECONDS {
        events.extend(world.second());
        for (n, extra) in extras.iter().enumerate() {
            if second == 30 + 20 * n as u64 {
                let (more, span) = happen(world, *extra);
                events.extend(more);
                spans.push(span);
            }
        }
    }
    (events, spans)
}

fn happen(world: &mut World, extra: Extra) -> (Vec<Event>, Span) {
    let start = world.now().unix_ns;
    let mut events = Vec::new();
    let (kind, name, class, root): (_, _, _, Option<Arc<Process>>) = match extra {
        Extra::Deploy => {
            let migrate = world.process("/usr/bin/migrate", &[101, 100]);
            events.push(world.event(&migrate, Body::Exec(exec(HTTPD, 0))));
            (Kind::Benign, "deploy", None, None)
        }
        Extra::Shell(name) => {
            let shell = world.process("/bin/sh", &[101, 100]);
            events.push(world.event(&shell, Body::Exec(exec(HTTPD, 0))));
            world.pass(0.1);
            let home = flow(Direction::Out, "198.51.100.7:4444", Why::Novel, 0);
            events.push(world.event(&shell, Body::Flow(home)));
            (Kind::Attack, name, Some(Class::Visible), Some(shell))
        }
        Extra::InProcess(name) => {
            let worker = shop::process(102, HTTPD, &[100]);
            for _ in 0..3 {
                world.pass(0.1);
                events.push(world.event(&worker, Body::Window(in_process_attack(400_000_000))));
            }
            (Kind::Attack, name, Some(Class::InProcess), None)
        }
        Extra::Ramp(name) => {
            let worker = shop::process(102, HTTPD, &[100]);
            for piece in 0..24 {
                world.pass(0.2);
                let bytes = (200.0 * 1.33f64.powi(piece)) as u64;
                events.push(world.event(&worker, Body::Flow(flow(Direction::Out, DATABASE, Why::Close, bytes))));
            }
            (Kind::Attack, name, Some(Class::Evasive), None)
        }
    };
    let span = Span {
        kind,
        name: name.to_owned(),
        class,
        workload: SHOP.to_owned(),
        start_unix_ns: start,
        end_unix_ns: world.now().unix_ns,
        root_pid: 0,
        root_cookie: root.map_or(0, |root| root.cookie),
        other_roots: Vec::new(),
        harm_unix_ns: Some(world.now().unix_ns),
        harm: "what it came for".to_owned(),
        note: String::new(),
    };
    (events, span)
}

#[test]
#[ignore = "writes a corpus to play with into the folder that STOCKADE_CORPUS names"]
fn a_corpus_to_play_with() {
    let folder = std::env::var_os("STOCKADE_CORPUS").expect("STOCKADE_CORPUS");
    corpus(Path::new(&folder), "web", 3, &plan());
    corpus(Path::new(&folder), "shop", 4, &plan());
}
