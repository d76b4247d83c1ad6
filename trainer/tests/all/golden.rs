//! A small part of the recorded corpus, evaluated: one host, two training days, one of validation, one of test.
//!
//! The days and the bands were chosen before anybody had looked at a result. With a quarter of the training days it is no
//! statement about detection (that is docs/scorecard.md): it is the alarm wire for what breaks the whole.

use std::collections::BTreeMap;
use std::path::Path;

use model::replay::Replay;
use model::{Model, Params};
use stockade_trainer::corpus::{Corpus, Day};
use stockade_trainer::evaluate::{FULL, Labels, Options, Part, evaluate, level, numbered};
use stockade_trainer::labels::Split;

fn golden() -> Corpus {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/corpus");
    Corpus::open(&folder, None).expect("the golden days")
}

#[test]
fn a_small_part_of_the_corpus_stays_within_its_bands() {
    let corpus = golden();
    let options = Options { ablations: false, ..Options::default() };
    let evaluation = evaluate(&corpus, &options, "golden").expect("an evaluation");
    let row = |name: &str| evaluation.rows.iter().find(|row| row.name == name).expect("a row");
    let (full, constant) = (row(FULL), row("constant"));
    assert!(evaluation.events > 10_000 && !evaluation.attacks.is_empty());
    assert!(full.auc.is_some_and(|auc| auc > 0.6), "{:?}", full.auc);
    assert!(full.at[0].found >= 1, "at ten a day: {:?}", full.at[0]);
    assert!(full.at[0].false_a_day < 100.0, "{:?}", full.at[0]);
    assert!(full.at.windows(2).all(|pair| pair[0].found >= pair[1].found), "a smaller budget never finds more");
    assert!(constant.at.iter().all(|at| at.found == 0 && at.false_alarms == 0), "{constant:?}");
    assert!(evaluation.notes.iter().all(|note| !note.contains("says nothing")), "{:?}", evaluation.notes);
}

/// What the forest says of a benign subtree in an hour, and of an attack, at most: of all that are judged.
fn forest_scores(days: &[(usize, &Day)], params: Params) -> (Vec<f64>, Vec<f64>) {
    let mut replay = Replay::new(Model::new(params).expect("good parameters"));
    let (mut benign, mut attacks) = (BTreeMap::new(), BTreeMap::new());
    let (mut last, mut frozen) = (model::Time::default(), false);
    for (number, day) in days {
        let judged = day.cycle.split != Split::Train;
        if judged && !frozen {
            replay.freeze_all(last);
            frozen = true;
        }
        let labels = Labels::of(*number, day);
        for event in day.events() {
            let event = event.expect("an event");
            last = event.at;
            let Some(verdict) = replay.feed(&event).verdict.filter(|_| judged) else { continue };
            let most = match labels.part(&event) {
                Part::Beside => continue,
                Part::Benign(_) => {
                    benign.entry((number, verdict.episode.anchor, event.at.unix_ns / 3_600_000_000_000)).or_insert(0.0)
                }
                Part::Attack(attack) => attacks.entry(attack).or_insert(0.0),
            };
            *most = f64::max(*most, verdict.score.value);
        }
    }
    (benign.into_values().collect(), attacks.into_values().collect())
}

/// Acceptance 7 asks that detection at 1 % false alarms falls without the cross-fit. On these days it does not: the level rises, and
/// what lies above it stays above it (docs/decisions/0017-what-the-cross-fit-is-worth.md). So this is what is asked here; that
/// detection falls where it must is shown in the model's tests, `crossfit.rs`. The band was fixed with seeds 1 to 10.
#[test]
fn rows_that_are_told_what_their_own_hour_taught_raise_the_level() {
    let corpus = golden();
    let hosts = numbered(&corpus);
    for seed in 11..=12 {
        let [with, without] = [false, true].map(|leaks| {
            let (benign, attacks) = forest_scores(&hosts[0], Params { seed, leaks, ..Params::default() });
            assert!(benign.len() > 1_000 && attacks.len() >= 10, "{} {}", benign.len(), attacks.len());
            let level = level(benign.iter().copied(), benign.len() / 100);
            (level, attacks.iter().filter(|score| **score > level).count())
        });
        assert!(without.0 > with.0 + 1.0, "seed {seed}: {without:?} without, {with:?} with");
        assert!(without.1 <= with.1, "seed {seed}: {without:?} without, {with:?} with");
    }
}
