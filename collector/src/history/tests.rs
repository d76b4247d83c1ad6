//! The history on disk: what it reaches is unlearnt to the byte, what it does not reach is refused.

use std::sync::Arc;
use std::time::Duration;

use collector_common::process::EXEC_MEMORY;
use model::event::{Body, Exec, Process};
use model::purge::Incident;
use model::{Params, Standing};

use super::redo::{Redo, Redone};
use super::*;

const SECOND: u64 = 1_000_000_000;
const WEB: &str = "unit:web.service";

fn at(second: u64) -> Time {
    Time { unix_ns: (1_000_000 + second) * SECOND, boot_ns: second * SECOND }
}

fn exec(second: u64, cookie: u64, parent: &str, exe: &str, ancestors: &[u64]) -> Event {
    let process = Process {
        cookie,
        pid: 7,
        workload: WEB.into(),
        exe: exe.into(),
        script: None,
        cmdline: exe.into(),
        uid: 33,
        loginuid: None,
        cgroup: 7,
        ancestors: ancestors.to_vec(),
        pre_existing: false,
    };
    let exec = Exec {
        parent: 0,
        parent_exe: parent.into(),
        parent_script: None,
        argv: vec![],
        argv_full: 0,
        bits: 0,
        euid: 33,
        gid: 33,
        netns: 0,
    };
    Event { at: at(second), process: Arc::new(process), body: Body::Exec(exec) }
}

/// A model that is told things and writes them down.
struct Told {
    model: Model,
    history: History,
}

impl Told {
    fn new(directory: &Path, most_bytes: u64) -> Self {
        let model = Model::new(Params::default()).unwrap();
        let history = History::open(directory, most_bytes, &model, at(0));
        Self { model, history }
    }

    fn tell(&mut self, said: &Said, at: Time) {
        self.history.note(said, at);
        self.model.hear(said);
        self.history.pass_time(&self.model, at);
    }
}

/// An hour a step: a helper every time, and a shell with a child in the tenth hour, which teaches for as long as it runs.
fn story(hours: std::ops::Range<u64>, with_incident: bool, mut tell: impl FnMut(&Said, Time)) {
    for hour in hours {
        let second = hour * 3_600 + 1;
        if hour == 4 {
            tell(&Said::Freeze(WEB.into(), at(second)), at(second));
        }
        let standing = if hour < 4 { Standing::Learning } else { Standing::Ready };
        let usual = exec(second, 1_000 + hour, "/srv/httpd", "/srv/helper", &[10]);
        tell(&Said::Event(usual, standing), at(second));
        if hour == 10 && with_incident {
            let shell = exec(second + 1, 66, "/srv/httpd", "/bin/sh", &[10]);
            let child = exec(second + 2, 67, "/bin/sh", "/bin/id", &[66, 10]);
            tell(&Said::Event(shell, standing), at(second + 1));
            tell(&Said::Event(child, standing), at(second + 2));
        }
        for second in (second..second + 3_600).step_by(600) {
            tell(&Said::Time(at(second + 5)), at(second + 5));
        }
    }
}

fn incident() -> Incident {
    Incident { anchor: 66, since: at(36_002), until: at(50_000) }
}

fn never_saw(hours: u64) -> Vec<u8> {
    let mut model = Model::new(Params::default()).unwrap();
    story(0..hours, false, |said, _| drop(model.hear(said)));
    model.snapshot().unwrap()
}

fn wait(mut redo: Redo, history: &mut History) -> Result<Redone, HistoryError> {
    loop {
        match redo.look(history) {
            Ok(done) => return done,
            Err(goes_on) => redo = goes_on,
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_incident_is_unlearnt_to_the_byte_and_learnt_again_when_it_was_none() {
    let directory = tempfile::tempdir().unwrap();
    let mut told = Told::new(directory.path(), 1 << 30);
    story(0..30, true, |said, at| told.tell(said, at));
    assert!(told.history.segments.len() > 3, "several checkpoints lie behind the incident");
    let saw = told.model.snapshot().unwrap();
    let redo = Redo::begin(&mut told.history, incident().since, [incident()], at(110_000)).unwrap();
    // The agent goes on meanwhile.
    story(30..31, false, |said, at| told.tell(said, at));
    let redone = wait(redo, &mut told.history).unwrap();
    assert!(redone.model.snapshot().unwrap() == never_saw(31));
    assert_eq!(redone.left_out, 2);
    told.model = redone.model;

    // The checkpoints never saw it either: the same from a later one, and the incident back from an earlier one.
    story(31..40, false, |said, at| told.tell(said, at));
    let later = Redo::begin(&mut told.history, at(100_000), [incident()], at(150_000)).unwrap();
    assert!(wait(later, &mut told.history).unwrap().model.snapshot().unwrap() == never_saw(40));
    let back = Redo::begin(&mut told.history, incident().since, [], at(150_000)).unwrap();
    let mut model = Model::restore(&saw).unwrap();
    story(30..40, false, |said, _| drop(model.hear(said)));
    assert!(wait(back, &mut told.history).unwrap().model.snapshot().unwrap() == model.snapshot().unwrap());
}

#[test]
fn an_agent_that_stopped_in_order_goes_on_and_one_that_was_killed_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let mut told = Told::new(directory.path(), 1 << 30);
    story(0..12, true, |said, at| told.tell(said, at));
    let Told { model, history } = told;
    history.end(&model).unwrap();
    let mut model = Model::restore(&model.snapshot().unwrap()).unwrap();
    let mut history = History::open(directory.path(), 1 << 30, &model, at(43_300));
    assert_eq!(history.reaches(), Some(at(0)));
    story(12..14, false, |said, at| {
        history.note(said, at);
        model.hear(said);
    });
    let redo = Redo::begin(&mut history, incident().since, [incident()], at(60_000)).unwrap();
    assert!(wait(redo, &mut history).unwrap().model.snapshot().unwrap() == never_saw(14));

    drop(history);
    let mut history = History::open(directory.path(), 1 << 30, &model, at(60_000));
    assert_eq!(history.reaches(), Some(at(60_000)), "killed: the logs may hold what the kept model never heard");
    let refused = Redo::begin(&mut history, incident().since, [incident()], at(63_600)).err().unwrap();
    let text = refused.to_string();
    assert!(matches!(refused, HistoryError::TooLongAgo { .. }) && text.contains("reaches back 60 min"), "{text}");
}

#[test]
fn what_does_not_fit_is_dropped_and_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut told = Told::new(directory.path(), 1);
    story(0..30, true, |said, at| told.tell(said, at));
    assert_eq!(told.history.segments.len(), 1, "the newest is always kept");
    let files = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(files, 2, "a checkpoint and a log");
    let refused = Redo::begin(&mut told.history, incident().since, [incident()], at(110_000));
    assert!(matches!(refused, Err(HistoryError::TooLongAgo { .. })));
}

#[test]
fn a_log_that_cannot_be_written_is_said_once_and_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let mut told = Told::new(&file, 1 << 30);
    assert!(told.history.take_failure().is_some() && told.history.take_failure().is_none());
    story(0..2, false, |said, at| told.tell(said, at));
    let refused = Redo::begin(&mut told.history, at(100), [incident()], at(8_000));
    assert!(matches!(refused, Err(HistoryError::Broken(_))));
    std::fs::remove_file(&file).unwrap();
    story(2..4, false, |said, at| told.tell(said, at));
    assert!(told.history.reaches().is_some(), "tried again ten minutes later");
}

#[test]
fn what_an_incident_had_hidden_is_found_when_it_is_unlearnt() {
    let directory = tempfile::tempdir().unwrap();
    let mut told = Told::new(directory.path(), 1 << 30);
    let mut tell = |said: &Said, at: Time| {
        told.history.note(said, at);
        let verdict = told.model.hear(said).verdict;
        told.history.pass_time(&told.model, at);
        verdict
    };
    let strange = |second, cookie| {
        let mut event = exec(second, cookie, "/srv/httpd", "/memfd:miner", &[10]);
        if let Body::Exec(exec) = &mut event.body {
            exec.bits = EXEC_MEMORY;
        }
        event
    };
    // It breaks in while the workload is learnt, again and again, and what it starts passes for usual.
    story(0..3, false, |said, at| drop(tell(said, at)));
    for round in 0..40 {
        let second = 10_900 + 10 * round;
        tell(&Said::Event(strange(second, 500 + round), Standing::Learning), at(second));
        tell(&Said::Time(at(second + 5)), at(second + 5));
    }
    story(4..20, false, |said, at| drop(tell(said, at)));
    let then = tell(&Said::Event(strange(72_100, 900), Standing::Ready), at(72_100)).expect("a verdict");
    assert!(!then.episode.over_threshold, "hidden: {:.1} bits", then.episode.score);

    let incidents = (0..40).map(|round| Incident { anchor: 500 + round, since: at(10_900), until: at(12_000) });
    let redo = Redo::begin(&mut told.history, at(10_900), incidents, at(73_000)).unwrap();
    let episodes = wait(redo, &mut told.history).unwrap().hindsight.into_episodes();
    let anchors: Vec<u64> = episodes.iter().map(|(_, verdict)| verdict.episode.anchor).collect();
    assert_eq!(anchors, [900], "{:.1} bits then", then.episode.score);
}

proptest::proptest! {
    #[test]
    fn any_bytes_of_a_log_give_an_answer(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = log::said(&bytes);
    }
}
