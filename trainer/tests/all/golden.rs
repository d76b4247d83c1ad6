//! A small part of the recorded corpus, evaluated: one host, two training days, one of validation, one of test.
//!
//! The days and the bands were chosen before anybody had looked at a result. With a quarter of the training days it is no
//! statement about detection (that is docs/scorecard.md): it is the alarm wire for what breaks the whole.

use std::path::Path;

use stockade_trainer::corpus::Corpus;
use stockade_trainer::evaluate::{FULL, Options, evaluate};

#[test]
fn a_small_part_of_the_corpus_stays_within_its_bands() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/corpus");
    let corpus = Corpus::open(&folder, None).expect("the golden days");
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
