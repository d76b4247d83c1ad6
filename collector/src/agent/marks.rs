//! What a person says about findings.

use model::event::Time;
use model::purge::Incident;

use super::answers::{Answered, refused, to_value};
use super::chain::Chain;
use super::judge::Judge;
use crate::api::protocol::{ApiError, ErrorCode, NewMark};
use crate::api::server::Caller;
use crate::decision::Author;
use crate::history::HistoryError;
use crate::history::hindsight::Hindsight;
use crate::history::redo::Redo;
use crate::policy::marks::{self, Mark, Wish, Word};
use crate::policy::{Entry, Outcome};
use uuid::Uuid;

const SECOND: u64 = 1_000_000_000;

impl Judge {
    pub(super) fn marks(&self, all: bool, at: Time) -> Answered {
        let kept = self.chain.policy.marks().iter().filter(|mark| all || mark.is_in_force(at));
        to_value(&kept.cloned().collect::<Vec<Mark>>())
    }

    pub(super) fn mark_benign(&mut self, caller: &Caller, new: NewMark, at: Time) -> Answered {
        let finding = self.finding(&new.finding)?;
        let word = marks::benign(&finding, new.reach, new.naming).map_err(refused)?;
        let until = new.for_seconds.map(|seconds| {
            let ns = seconds.saturating_mul(SECOND);
            Time { unix_ns: at.unix_ns.saturating_add(ns), boot_ns: at.boot_ns.saturating_add(ns) }
        });
        let wish = Wish { word, author: Author::Operator(caller.name.clone()), reason: new.reason, until };
        let outcomes = self.chain.policy.mark(&finding, wish, at).map_err(refused)?;
        self.carry_out(outcomes, at);
        to_value(&self.chain.policy.marks().iter().last())
    }

    pub(super) fn mark_malicious(&mut self, caller: &Caller, finding: &str, reason: String, at: Time) -> Answered {
        let finding = self.finding(finding)?;
        let incident = Incident { anchor: finding.anchor, since: finding.began, until: at };
        let redo = self.redo(incident.since, self.incidents().chain([incident]).collect(), at)?;
        let author = Author::Operator(caller.name.clone());
        let wish = Wish { word: Word::Malicious { incident }, author, reason, until: None };
        let outcomes = self.chain.policy.mark(&finding, wish, at).map_err(refused)?;
        self.carry_out(outcomes, at);
        let mark = self.chain.policy.marks().iter().last().cloned();
        self.unlearning = mark.as_ref().map(|mark| (mark.number, redo));
        to_value(&mark)
    }

    pub(super) fn undo_mark(&mut self, caller: &Caller, name: &str, reason: &str, at: Time) -> Answered {
        let named = |mark: &&Mark| mark.short().eq_ignore_ascii_case(name) && mark.is_in_force(at);
        let undone = self.chain.policy.marks().iter().find(named).cloned();
        // What was unlearnt is learnt again, from before it on.
        let redo = match undone.as_ref().and_then(|mark| Some((mark.number, mark.incident()?))) {
            Some((number, incident)) => {
                let others = self.incidents().filter(|other| *other != incident).collect();
                Some((number, self.redo(incident.since, others, at)?))
            }
            None => None,
        };
        let author = Author::Operator(caller.name.clone());
        let outcomes = self.chain.policy.undo_mark(name, author, reason, at).map_err(refused)?;
        self.carry_out(outcomes, at);
        self.unlearning = redo.or(self.unlearning.take());
        to_value(&())
    }

    /// Every incident that is to stay unlearnt.
    fn incidents(&self) -> impl Iterator<Item = Incident> + use<> {
        self.chain.policy.marks().iter().filter_map(Mark::incident).collect::<Vec<_>>().into_iter()
    }

    fn redo(&mut self, since: Time, incidents: Vec<Incident>, at: Time) -> Result<Redo, ApiError> {
        if let Some((number, _)) = &self.unlearning {
            let text =
                format!("M-{number} is still being unlearnt: try again when `stockade marks list` shows it done");
            return Err(ApiError::new(ErrorCode::Refused, text));
        }
        let history = self.chain.scorer.history().ok_or(HistoryError::Off).map_err(refused)?;
        // From before the earliest that it reaches, so that the descendants of every incident are known.
        let reached = history.reaches().map_or(u64::MAX, |reached| reached.unix_ns);
        let within = incidents.iter().map(|incident| incident.since).filter(|since| since.unix_ns >= reached);
        let earliest = within.chain([since]).min_by_key(|since| since.unix_ns).unwrap_or(since);
        Redo::begin(history, earliest, incidents, at).map_err(refused)
    }

    /// Takes the model that never saw an incident once it is there, and says what went wrong with the history.
    pub(super) fn look_after_history(&mut self, at: Time) {
        let Some(history) = self.chain.scorer.history() else { return };
        let failed = history.take_failure();
        let looked = self.unlearning.take().map(|(number, redo)| (number, redo.look(history)));
        if let Some(why) = failed {
            let text =
                format!("what the model is told cannot be kept, so that nothing before now can be unlearnt: {why}");
            let outcomes = self.chain.policy.about_agent("history", text, at);
            self.carry_out(outcomes, at);
        }
        match looked {
            Some((number, Err(goes_on))) => self.unlearning = Some((number, goes_on)),
            Some((number, Ok(Ok(redone)))) => {
                self.chain.scorer.replace(redone.model);
                let found = self.tell_hindsight(number, redone.hindsight, at);
                let (left_out, told) = (redone.left_out, redone.told);
                let text = format!("{left_out} events left out, {told} things told again, {found} found in hindsight");
                self.say_unlearnt(number, "model told again", text, at);
                self.keep_snapshot();
            }
            Some((number, Ok(Err(error)))) => self.give_up(number, &error.to_string(), at),
            None => self.take_up(at),
        }
    }

    /// Tells what the incident had hidden in the last day; how many episodes those are.
    fn tell_hindsight(&mut self, number: u64, hindsight: Hindsight, at: Time) -> usize {
        if hindsight.dropped > 0 {
            tracing::warn!(dropped = hindsight.dropped, "more episodes were found in hindsight than are told");
        }
        let mut found = 0;
        for (event, verdict) in hindsight.into_episodes() {
            let Chain { policy, scorer, .. } = &mut self.chain;
            let is_told = |id: Uuid| self.store.finding(&id.to_string()).is_ok_and(|kept| !kept.is_empty());
            let why = format!("M-{number}");
            let outcomes = policy.on_hindsight((&event, &verdict), scorer.knowledge(), is_told, &why);
            found += usize::from(!outcomes.is_empty());
            self.carry_out(outcomes, at);
        }
        found
    }

    /// Goes on with what an agent before this one had begun.
    fn take_up(&mut self, at: Time) {
        let Some((number, since)) =
            self.chain.policy.marks().to_unlearn().and_then(|mark| Some((mark.number, mark.incident()?.since)))
        else {
            return;
        };
        match self.redo(since, self.incidents().collect(), at) {
            Ok(redo) => self.unlearning = Some((number, redo)),
            Err(error) => self.give_up(number, &error.text, at),
        }
    }

    /// The model stays as it is, and so nobody may believe that it never saw the incident.
    fn give_up(&mut self, number: u64, why: &str, at: Time) {
        self.say_unlearnt(number, "model not told again", why.to_owned(), at);
        let name = format!("M-{number}");
        let mut outcomes = self.chain.policy.undo_mark(&name, Author::Automatic, why, at).unwrap_or_default();
        let text = format!("{name} could not be carried out, the model is as it was: {why}");
        outcomes.extend(self.chain.policy.about_agent("unlearning", text, at));
        self.carry_out(outcomes, at);
    }

    fn say_unlearnt(&mut self, number: u64, what: &str, text: String, at: Time) {
        tracing::info!(number, what, text, "unlearning");
        let mut outcomes = self.chain.policy.note_unlearnt(number, &text);
        let subject = format!("M-{number}");
        outcomes.push(Outcome::Audit(Entry { at, author: Author::Automatic, what: what.to_owned(), subject, text }));
        self.carry_out(outcomes, at);
    }
}
