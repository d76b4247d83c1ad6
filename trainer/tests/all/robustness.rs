//! What is asked beyond found and false: a tainted past, a changed world, a slow attack.

use std::sync::OnceLock;

use stockade_trainer::corpus::Corpus;
use stockade_trainer::evaluate::{
    Contaminated, Evaluation, Kinds, Options, Question, Recovery, Robustness, Seeds, evaluate, over_seeds, robustness,
};
use stockade_trainer::labels::Split;
use stockade_trainer::report;

use crate::support::{Extra, corpus};

const DAYS: usize = 2;

/// Two hosts with the same kinds of attack, two seeds.
fn asked() -> &'static Evaluation {
    static ASKED: OnceLock<Evaluation> = OnceLock::new();
    ASKED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let days = [
            (Split::Train, vec![]),
            (Split::Train, vec![]),
            // Two deploys a host, of which two in all may be alarms: the level is a deploy's score.
            (Split::Validation, vec![Extra::Deploy, Extra::Deploy, Extra::InProcess("scraper")]),
            (Split::Test, vec![Extra::Shell("reverse shell"), Extra::Ramp("ramp-exfiltration")]),
            (Split::Test, vec![Extra::Shell("web shell")]),
        ];
        corpus(folder.path(), "web", 3, &days);
        corpus(folder.path(), "shop", 4, &days);
        let corpus = Corpus::open(folder.path(), None).expect("a corpus");
        let options = Options { ablations: false, rivals: false, ..Options::default() };
        let mut evaluation = evaluate(&corpus, &options, "").expect("an evaluation");
        let each = over_seeds(&corpus, &options, &evaluation, 2).expect("seeds");
        evaluation.seeds = Some(Seeds::of(&each));
        evaluation.robustness = Some(robustness(&corpus, &options, &each, &Question::ALL).expect("answers"));
        evaluation
    })
}

fn answers() -> &'static Robustness {
    asked().robustness.as_ref().expect("asked for")
}

fn taught(kinds: Option<Kinds>, share: f64) -> &'static Contaminated {
    let is_it = |row: &&Contaminated| row.kinds == kinds && row.share == share;
    answers().contamination.iter().find(is_it).expect("the row")
}

fn after(change: &str) -> &'static Recovery {
    answers().recovery.iter().find(|row| row.change == change).unwrap_or_else(|| panic!("no change {change}"))
}

#[test]
fn what_was_learnt_as_normal_is_not_found_and_what_was_not_still_is() {
    let clean = taught(None, 0.0);
    assert_eq!((clean.of, clean.taught), (6, 0.0), "{clean:?}");
    assert_eq!(clean.found, asked().seeds.as_ref().expect("seeds").found[1], "the same seeds: {clean:?}");
    let same = taught(Some(Kinds::Same), 0.05);
    assert!(same.taught > 1.0 && same.found.median + 2.0 <= clean.found.median, "{clean:?} {same:?}");
    assert!(same.lost.iter().any(|name| name.contains("shell")), "{same:?}");
    let other = taught(Some(Kinds::Other), 0.05);
    assert!(!other.lost.iter().any(|name| name.contains("shell")), "{other:?}");
}

#[test]
fn a_host_alone_cannot_be_taught_what_it_is_judged_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let days = [
        (Split::Train, vec![]),
        (Split::Validation, vec![Extra::InProcess("scraper")]),
        (Split::Test, vec![Extra::Shell("reverse shell")]),
    ];
    corpus(folder.path(), "web", 3, &days);
    let corpus = Corpus::open(folder.path(), None).expect("a corpus");
    let options = Options { ablations: false, rivals: false, ..Options::default() };
    let evaluation = evaluate(&corpus, &options, "").expect("an evaluation");
    let answers = robustness(&corpus, &options, &[evaluation], &Question::ALL).expect("answers");
    assert!(answers.contamination.iter().all(|row| row.kinds != Some(Kinds::Same)), "{answers:?}");
    assert!(
        answers.contamination.len() == 3
            && answers.recovery.iter().all(|row| row.runs == 1)
            && answers.ramps.is_empty(),
        "{answers:?}"
    );
}

#[test]
fn a_new_name_is_noise_for_as_long_as_it_is_new_and_an_upgrade_in_place_is_none() {
    assert_eq!(answers().days, 2 * DAYS, "the test days twice");
    let renamed = after("a program has another name");
    assert_eq!(renamed.runs, 2, "each seed on one of two hosts: {renamed:?}");
    assert!(renamed.disturbed == 2 && renamed.first_day.median >= 1.0, "{renamed:?}");
    assert!(renamed.quiet_after.median >= 1.0, "{renamed:?}");
    assert!(renamed.details.iter().all(|told| told.contains("/usr/bin/helper")), "{renamed:?}");
    let in_place = after("all programs upgraded in place");
    assert_eq!((in_place.disturbed, in_place.noise_ends_after.high), (0, 0.0), "{in_place:?}");
}

#[test]
fn a_ramp_is_told_by_what_is_usual() {
    let ramps = &answers().ramps;
    assert_eq!(ramps.len(), 2, "one of each host: {ramps:?}");
    for ramp in ramps {
        assert!((300.0..1_200.0).contains(&ramp.usual.0) && ramp.usual.1 <= 1_200.0, "{ramp:?}");
        assert_eq!((ramp.pieces.0, ramp.of), (200.0, 2), "{ramp:?}");
        assert!(ramp.at_most > 100.0 && ramp.found <= 2, "{ramp:?}");
        let at_finding = ramp.times_usual.as_ref().map_or(0.0, |times| times.high);
        assert!(at_finding <= ramp.at_most && (ramp.found > 0) == ramp.seconds.is_some(), "{ramp:?}");
    }
}

#[test]
fn the_scorecard_says_all_of_it_and_can_be_read_back() {
    let text = report::markdown(asked(), &[]);
    for part in [
        "### Attacks learnt as normal",
        "attacks of the same kinds | 5 %",
        "**Made, not recorded:**",
        "ramp-exfiltration (web/3)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = serde_json::to_string(asked()).expect("JSON");
    let again: Evaluation = serde_json::from_str(&json).expect("what was written is read");
    assert_eq!(again.robustness, asked().robustness);
    let without = Evaluation { robustness: None, ..asked().clone() };
    assert!(!report::markdown(&without, &[]).contains("learnt as normal"));
}
