//! Asks the model about each event. Nothing after this stage learns.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use model::event::{Event, Time};
use model::purge::{Heard, Said};
use model::{EpisodeView, Model, Standing, Verdict};

use crate::history::{History, HistoryError};
use crate::policy::Knowledge;
use crate::policy::mode::{Mode, ModeRow};

/// The model and who is judged against a frozen baseline.
pub struct Scorer {
    model: Model,
    ready: BTreeSet<Arc<str>>,
    scored: u64,
    /// What the model was told, in a running agent.
    history: Option<History>,
}

impl Scorer {
    /// A model, new or restored, and the modes that the policy restored with it.
    pub fn new<'a>(model: Model, rows: impl Iterator<Item = &'a ModeRow>) -> Self {
        let ready = rows.filter(|row| row.mode > Mode::Learning).map(|row| row.workload.clone()).collect();
        Self { model, ready, scored: 0, history: None }
    }

    /// Scores an event against what was known before it, then learns from it. `None` when it carries no evidence.
    pub fn score(&mut self, event: &Event) -> Option<Verdict> {
        let standing = self.standing(&event.process.workload);
        if let Some(history) = &mut self.history {
            history.note_event(event, standing);
        }
        let verdict = self.model.observe(event, standing);
        self.scored += u64::from(verdict.is_some());
        verdict
    }

    /// How a workload is judged.
    pub fn standing(&self, workload: &str) -> Standing {
        if self.ready.contains(workload) { Standing::Ready } else { Standing::Learning }
    }

    /// Follows a changed mode: leaving learning freezes the baseline, going back thaws it.
    pub fn follow(&mut self, row: &ModeRow, at: Time) {
        let was_ready = self.ready.contains(&row.workload);
        match (was_ready, row.mode > Mode::Learning) {
            (false, true) => {
                self.tell(&Said::Freeze(row.workload.clone(), at), at);
                self.ready.insert(row.workload.clone());
            }
            (true, false) => {
                self.tell(&Said::Thaw(row.workload.clone()), at);
                self.ready.remove(&row.workload);
            }
            _ => {}
        }
    }

    /// Episodes that closed by now.
    pub fn tick(&mut self, at: Time) -> Vec<EpisodeView> {
        let closed = self.tell(&Said::Time(at), at).closed;
        if let Some(history) = &mut self.history {
            history.pass_time(&self.model, at);
        }
        closed
    }

    fn tell(&mut self, said: &Said, at: Time) -> Heard {
        if let Some(history) = &mut self.history {
            history.note(said, at);
        }
        self.model.hear(said)
    }

    /// Keeps what the model is told from now on.
    pub fn keep_history(&mut self, directory: &Path, most_bytes: u64, at: Time) {
        self.history = Some(History::open(directory, most_bytes, &self.model, at));
    }

    /// What the model was told.
    pub fn history(&mut self) -> Option<&mut History> {
        self.history.as_mut()
    }

    /// Since when something can be unlearnt; `None` when nothing can.
    pub fn reaches(&self) -> Option<Time> {
        self.history.as_ref()?.reaches()
    }

    /// Ends the history: the next agent goes on from this model.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn end_history(&mut self) -> Result<(), HistoryError> {
        self.history.take().map_or(Ok(()), |history| history.end(&self.model))
    }

    /// Goes on with a model to which the history leads now.
    pub fn replace(&mut self, model: Model) {
        self.model = model;
    }

    /// Verdicts given since the start.
    pub fn scored(&self) -> u64 {
        self.scored
    }

    /// The model, for reading.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What the policy asks of the model.
    pub fn knowledge(&self) -> &dyn Knowledge {
        &self.model
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::event::{Body, Event, Exec, Process, Time};
    use model::{DetectorKind, Model, Params, Standing};

    use super::*;
    use crate::decision::Author;

    fn exec(second: u64, parent: &str, exe: &str) -> Event {
        let at = Time { unix_ns: (1_000_000 + second) * 1_000_000_000, boot_ns: second * 1_000_000_000 };
        let process = Process {
            cookie: second,
            pid: 7,
            workload: "unit:web.service".into(),
            exe: exe.into(),
            script: None,
            cmdline: exe.into(),
            uid: 33,
            loginuid: None,
            cgroup: 7,
            ancestors: vec![],
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
        Event { at, process: Arc::new(process), body: Body::Exec(exec) }
    }

    fn row(mode: Mode) -> ModeRow {
        ModeRow {
            workload: "unit:web.service".into(),
            mode,
            author: Author::Operator("ada".to_owned()),
            reason: "test".to_owned(),
            since: Time::default(),
            until: None,
            before: Mode::Learning,
        }
    }

    #[test]
    fn leaving_learning_freezes_and_going_back_thaws() {
        let mut scorer = Scorer::new(Model::new(Params::default()).unwrap(), [].iter());
        for second in 1..50 {
            scorer.score(&exec(second, "/srv/httpd", "/srv/helper"));
        }
        scorer.follow(&row(Mode::Monitoring), Time::default());
        assert_eq!(scorer.standing("unit:web.service"), Standing::Ready);
        assert!(scorer.model().summary("unit:web.service").is_some_and(|summary| summary.frozen));
        let usual = scorer.score(&exec(60, "/srv/httpd", "/srv/helper")).unwrap();
        assert!(usual.facts.iter().all(|fact| !fact.novel));
        let strange = scorer.score(&exec(61, "/srv/helper", "/bin/sh")).unwrap();
        assert!(strange.facts.iter().any(|fact| fact.novel && fact.class_a));
        scorer.follow(&row(Mode::Learning), Time::default());
        assert_eq!(scorer.standing("unit:web.service"), Standing::Learning);
        assert!(scorer.model().summary("unit:web.service").is_some_and(|summary| !summary.frozen));
    }

    #[test]
    fn a_constant_detector_must_not_deny() {
        let params = Params { detector: DetectorKind::Constant, ..Params::default() };
        let scorer = Scorer::new(Model::new(params).unwrap(), [].iter());
        assert!(!scorer.knowledge().health("unit:web.service").state.may_deny());
    }

    #[test]
    fn what_was_learnt_survives_a_restart() {
        let mut scorer = Scorer::new(Model::new(Params::default()).unwrap(), [].iter());
        for second in 1..50 {
            scorer.score(&exec(second, "/srv/httpd", "/srv/helper"));
        }
        scorer.follow(&row(Mode::Monitoring), Time::default());
        let model = Model::restore(&scorer.model().snapshot().unwrap()).unwrap();
        let mut restarted = Scorer::new(model, [row(Mode::Monitoring)].iter());
        let strange = exec(61, "/srv/helper", "/bin/sh");
        assert_eq!(restarted.score(&strange), scorer.score(&strange));
        assert_eq!(restarted.model(), scorer.model());
    }
}
