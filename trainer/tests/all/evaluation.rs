//! The protocol cannot be fooled: detectors that know nothing find nothing, shuffles take away what they must, and the same
//! seed says the same.

use crate::support::{Extra, corpus, plan};
use stockade_trainer::corpus::Corpus;
use stockade_trainer::evaluate::{Evaluation, FULL, Options, Row, Seeds, evaluate, over_seeds};
use stockade_trainer::labels::{Class, Split};
use stockade_trainer::report;

fn evaluated(options: &Options) -> Evaluation {
    let folder = tempfile::tempdir().expect("a folder");
    corpus(folder.path(), "web", 3, &plan());
    let corpus = Corpus::open(folder.path(), None).expect("a corpus");
    evaluate(&corpus, options, "0123456789abcdef").expect("an evaluation")
}

fn row<'a>(evaluation: &'a Evaluation, name: &str) -> &'a Row {
    evaluation.rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row {name}"))
}

fn of_class(row: &Row, class: Class) -> (usize, usize) {
    row.classes.iter().find(|result| result.class == class).map_or((0, 0), |result| (result.found, result.of))
}

/// What a detector must do to be one: at one false alarm a host-day it finds more than half of the attacks, and an attack
/// outranks a benign unit nineteen times of twenty.
fn detects(row: &Row) -> bool {
    row.at[1].budget == 1.0 && 2 * row.at[1].found > row.at[1].of && row.auc.is_some_and(|auc| auc > 0.95)
}

#[test]
fn attacks_are_found_and_detectors_that_know_nothing_find_nothing() {
    let evaluation = evaluated(&Options { ablations: false, ..Options::default() });
    let full = row(&evaluation, FULL);
    assert_eq!(of_class(full, Class::Visible), (2, 2), "{full:?}");
    assert_eq!(of_class(full, Class::InProcess), (2, 2), "{full:?}");
    assert!(full.auc.is_some_and(|auc| auc > 0.99), "{full:?}");
    assert!(detects(full), "{full:?}");
    for fool in ["constant", "random"] {
        assert!(!detects(row(&evaluation, fool)), "{fool} must fail what we pass: {:?}", row(&evaluation, fool));
    }
    let constant = row(&evaluation, "constant");
    assert!(constant.at.iter().all(|at| at.found == 0 && at.false_alarms == 0), "{constant:?}");
    assert_eq!(constant.auc, Some(0.5));
    let random = row(&evaluation, "random");
    assert!(random.at[1].found <= 1, "{random:?}");
    assert!(
        random.at[0].false_a_day > 3.0 && random.at[0].false_a_day < 30.0,
        "its budget is what it spends: {random:?}"
    );
    for row in &evaluation.rows {
        assert!(row.auc_shuffled.is_some_and(|auc| (auc - 0.5).abs() < 0.35), "labels by lot: {row:?}");
        assert!(row.at.iter().all(|at| at.false_interval.1 > 0.0), "never zero: {row:?}");
    }
}

#[test]
fn what_an_attack_did_and_how_soon_it_was_found_is_said() {
    let evaluation = evaluated(&Options { ablations: false, rivals: false, ..Options::default() });
    let shell = evaluation.attacks.iter().find(|attack| attack.name == "reverse shell").expect("the attack");
    assert!(shell.seconds_to_finding.is_some_and(|seconds| seconds < 0.5), "{shell:?}");
    assert!(shell.seconds_to_denial.is_some_and(|seconds| seconds < 0.5), "{shell:?}");
    assert!(shell.succeeded.iter().any(|deed| deed == "exec sh"), "{shell:?}");
    assert_eq!(shell.rank, 1);
    let walk = evaluation.attacks.iter().find(|attack| attack.name == "file walk").expect("the attack");
    assert_eq!(walk.seconds_to_denial, None, "nothing new to deny: {walk:?}");
    let deploy = evaluation.changes.iter().find(|change| change.name == "deploy").expect("the change");
    assert_eq!((deploy.times, deploy.novelties), (1, 1), "{deploy:?}");
    let told = report::markdown(&evaluation, &["roc.svg"]);
    assert!(told.contains("| reverse shell (web/5) | visible |") && told.contains("![roc](roc.svg)"), "{told}");
}

#[test]
fn without_the_order_of_calls_trigrams_find_no_more() {
    // What that does to our own sequence is shown on calls that are strange by their order alone: the model's own tests.
    let options = Options { ablations: false, ..Options::default() };
    let (ordered, shuffled) = (evaluated(&options), evaluated(&Options { shuffle_calls: true, ..options }));
    let stide = |evaluation: &Evaluation| row(evaluation, "STIDE, n = 3").ap.unwrap_or(0.0);
    assert!(stide(&shuffled) < stide(&ordered) + 1e-9, "{} {}", stide(&shuffled), stide(&ordered));
}

#[test]
fn each_coordinate_can_be_left_out_and_what_depended_on_it_falls() {
    let evaluation = evaluated(&Options { rivals: false, ..Options::default() });
    assert_eq!(evaluation.rows.iter().filter(|row| row.name.starts_with("full, without")).count(), 8);
    let found = |name: &str| of_class(row(&evaluation, name), Class::InProcess).0;
    assert!(found("full, without seq") <= found(FULL));
}

#[test]
fn the_same_seed_says_the_same_in_any_number_of_threads() {
    let options = Options { rivals: false, jobs: 1, ..Options::default() };
    let (one, two) = (evaluated(&options), evaluated(&Options { jobs: 3, ..options }));
    assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&two).unwrap());
}

#[test]
fn what_the_seed_does_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    corpus(folder.path(), "web", 3, &plan());
    let corpus = Corpus::open(folder.path(), None).expect("a corpus");
    let options = Options { ablations: false, rivals: false, ..Options::default() };
    let mut evaluation = evaluate(&corpus, &options, "").expect("an evaluation");
    let over = Seeds::of(&over_seeds(&corpus, &options, &evaluation, 3).expect("seeds"));
    assert_eq!(over.seeds, [1, 2, 3]);
    assert!(over.auc.low <= over.auc.median && over.auc.median <= over.auc.high, "{over:?}");
    assert!(over.found.iter().all(|found| found.high <= 4.0) && over.found[0].median > 0.0, "{over:?}");
    let said = |evaluation: &Evaluation| report::markdown(evaluation, &[]);
    assert!(!said(&evaluation).contains("What the seed does"), "one seed says nothing of it");
    evaluation.seeds = Some(over);
    assert!(said(&evaluation).contains("with 3 seeds on the same days"));
}

#[test]
fn an_attack_that_the_validation_has_seen_is_refused_in_the_test() {
    let folder = tempfile::tempdir().expect("a folder");
    let days = [
        (Split::Train, vec![]),
        (Split::Validation, vec![Extra::Shell("reverse shell")]),
        (Split::Test, vec![Extra::Shell("reverse shell")]),
    ];
    corpus(folder.path(), "web", 3, &days);
    let opened = Corpus::open(folder.path(), None).expect("a corpus");
    let refused = evaluate(&opened, &Options::default(), "").expect_err("a leak").to_string();
    assert!(refused.contains("\"reverse shell\" is in the validation and in the test"), "{refused}");
    let folder = tempfile::tempdir().expect("a folder");
    corpus(folder.path(), "web", 3, &days[..1]);
    let opened = Corpus::open(folder.path(), None).expect("a corpus");
    let refused = evaluate(&opened, &Options::default(), "").expect_err("no validation").to_string();
    assert!(refused.contains("no days with split = Validation"), "{refused}");
}

#[test]
fn the_report_is_written_whole() {
    let evaluation = evaluated(&Options { ablations: false, ..Options::default() });
    let folder = tempfile::tempdir().expect("a folder");
    let files = report::write(folder.path(), &evaluation).expect("a report");
    assert!(files.len() >= 6, "{files:?}");
    for file in &files {
        assert!(std::fs::metadata(folder.path().join(file)).is_ok_and(|file| file.len() > 500), "{file}");
    }
    let json = std::fs::read_to_string(folder.path().join("scorecard.json")).unwrap();
    let again: Evaluation = serde_json::from_str(&json).expect("what was written is read");
    assert_eq!(again.rows.len(), evaluation.rows.len());
}
