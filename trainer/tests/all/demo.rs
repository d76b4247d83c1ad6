//! The agent's journal of the recorded demo, judged here: the same scores as there, bit for bit.

use std::path::Path;

use model::replay::{Fingerprint, Replay};
use model::{Model, Params};
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
