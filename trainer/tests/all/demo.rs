//! The agent's journal of the recorded demo, judged here: the same scores as there, bit for bit.

use std::path::Path;

use model::replay::{Fingerprint, Replay};
use model::{Body, Model, Params};
use stockade_trainer::journal::Journal;

fn demo() -> Journal {
    Journal::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/demo.parquet")).expect("the demo's journal")
}

#[test]
fn scores_are_those_of_the_agent_bit_for_bit() {
    let journal = demo();
    let mut replay = Replay::new(Model::new(Params::default()).expect("parameters"));
    let mut taken = Fingerprint::default();
    let mut changes = journal.meta().modes.iter().peekable();
    for (row, event) in journal.events().enumerate() {
        while let Some(change) = changes.next_if(|change| change.row <= row as u64) {
            match change.ready {
                true => replay.freeze(&change.workload, change.at),
                false => replay.thaw(&change.workload),
            }
        }
        replay.feed(&event.expect("an event")).verdict.iter().for_each(|verdict| taken.take(verdict));
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../collector/tests/golden/recorded-demo.fingerprint");
    let wanted = std::fs::read_to_string(golden).expect("what the agent's test holds");
    assert_eq!(format!("{:016x}", taken.0), wanted.trim(), "the agent's own scores");
}

#[test]
fn a_snapshot_made_here_goes_on_like_the_model_that_made_it() {
    let journal = demo();
    let events: Vec<model::Event> = journal.events().map(|event| event.expect("an event")).collect();
    let (first, second) = events.split_at(events.len() / 2);
    let mut replay = Replay::new(Model::new(Params::default()).expect("parameters"));
    first.iter().for_each(|event| drop(replay.feed(event)));
    replay.freeze_all(first.last().expect("an event").at);
    let mut again = Replay::new(Model::restore(&replay.model().snapshot().expect("bytes")).expect("a model"));
    // Time has to stand where it stood; what a tick does is in the snapshot, when the next one is due is not.
    again.pass_time(first.last().expect("an event").at);
    replay.pass_time(first.last().expect("an event").at);
    for event in second {
        let (one, two) = (replay.feed(event), again.feed(event));
        assert_eq!(one.verdict, two.verdict);
    }
}

/// Acceptance 15: windows that lost calls teach nothing, whatever they hold, and each verdict says what share was lost.
#[test]
fn lossy_windows_teach_nothing_and_say_how_much_was_lost() {
    const MISSED: u32 = 32;
    let journal = demo();
    let before_the_first_freeze = journal.meta().modes[0].row as usize;
    let [mut with, mut without] = [(); 2].map(|()| Replay::new(Model::new(Params::default()).expect("parameters")));
    let (mut windows, mut lossy) = (0, 0);
    for event in journal.events().take(before_the_first_freeze) {
        let mut event = event.expect("an event");
        windows += u64::from(matches!(event.body, Body::Window(_)));
        match &mut event.body {
            Body::Window(window) if windows % 20 == 1 => {
                // What is left is in an order that nobody makes: it would be learnt, were it not for the loss.
                window.trace.reverse();
                window.missed = MISSED;
                let share = f64::from(MISSED) / (f64::from(MISSED) + window.trace.len() as f64);
                let verdict = with.feed(&event).verdict.expect("evidence");
                assert!(!verdict.complete && verdict.lost == share, "{} of {share}", verdict.lost);
                lossy += 1;
            }
            _ => {
                with.feed(&event);
                without.feed(&event);
            }
        }
    }
    assert!(lossy > 20, "{lossy} windows");
    let (with, without) = (with.model(), without.model());
    let of =
        |model: &Model| model.workloads().iter().filter_map(|name| model.summary(name)).map(|s| s.lossy).sum::<u64>();
    assert_eq!((of(with), of(without)), (lossy, 0), "counted");
    assert_eq!(with.workloads(), without.workloads());
    for workload in with.workloads() {
        assert_eq!(with.exes(&workload), without.exes(&workload));
        for exe in with.exes(&workload) {
            assert_eq!(with.seen_trigrams(&workload, &exe), without.seen_trigrams(&workload, &exe), "{workload} {exe}");
        }
    }
}
