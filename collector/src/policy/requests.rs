//! What people ask for: modes, decisions, releases.

use model::event::Time;
use uuid::Uuid;

use super::decision::{Booked, DecisionError, Proposal};
use super::finding::Change;
use super::marks::{MarkChange, MarkError, Wish, Word};
use super::mode::{Mode, ModeError, ModeRequest, ModeRow};
use super::readiness::Readiness;
use super::{DecisionChange, Entry, Outcome, Policy};
use crate::decision::{Author, Decision, FileId};
use crate::finding::Finding;

impl Policy {
    /// Changes a workload's mode.
    ///
    /// # Errors
    ///
    /// A [`ModeError`] that says what has to be done first.
    pub fn set_mode(
        &mut self,
        request: ModeRequest,
        readiness: &Readiness,
        at: Time,
    ) -> Result<Vec<Outcome>, ModeError> {
        let row = self.modes.set(request, readiness, at)?;
        let mut outcomes = vec![Outcome::Mode(row.clone())];
        if row.mode < Mode::Enforcing {
            outcomes.extend(self.release_automatic(&row, at));
        }
        Ok(outcomes)
    }

    /// Leaving enforcing undoes what was denied automatically because of it.
    fn release_automatic(&mut self, row: &ModeRow, at: Time) -> Vec<Outcome> {
        let numbers: Vec<u64> = self
            .decisions
            .live(at)
            .into_iter()
            .filter(|d| d.author == Author::Automatic && !d.shadow && d.workload.as_ref() == Some(&row.workload))
            .map(|d| d.number)
            .collect();
        let why = format!("{} went to {}", row.workload, row.mode);
        let release = |number| self.decisions.release(number, "mode", &why, at).ok();
        numbers.into_iter().filter_map(release).map(|d| Outcome::Decision(DecisionChange::Ended, d)).collect()
    }

    /// Confirms a mode that would fall back.
    ///
    /// # Errors
    ///
    /// When nothing waits for confirmation.
    pub fn confirm_mode(&mut self, workload: &str, author: Author) -> Result<Vec<Outcome>, ModeError> {
        Ok(vec![Outcome::Mode(self.modes.confirm(workload, author)?)])
    }

    /// Makes a person's decision.
    ///
    /// # Errors
    ///
    /// A [`DecisionError`], e.g. because the target is protected.
    pub fn add_decision(&mut self, proposal: Proposal, at: Time) -> Result<Vec<Outcome>, DecisionError> {
        Ok(match self.decisions.book(proposal, &self.protected, &self.config, at)? {
            Booked::New(decision) => vec![Outcome::Decision(DecisionChange::Made, decision)],
            Booked::Extended(decision) => vec![Outcome::Decision(DecisionChange::Extended, decision)],
            Booked::Covered(_) => Vec::new(),
        })
    }

    /// Enters what containment came to.
    pub fn set_contained(&mut self, number: u64, text: &str) {
        self.decisions.set_contained(number, text);
    }

    /// Enters the programs that a fence lets through; known only where the decision is put into force.
    pub fn set_gates(&mut self, number: u64, files: &[FileId]) {
        self.decisions.set_gates(number, files);
    }

    /// Undoes a decision.
    ///
    /// # Errors
    ///
    /// When it is not in force.
    pub fn release(&mut self, number: u64, who: &str, why: &str, at: Time) -> Result<Vec<Outcome>, DecisionError> {
        let decision = self.decisions.release(number, who, why, at)?;
        Ok(vec![Outcome::Decision(DecisionChange::Ended, decision)])
    }

    /// Undoes every live decision, or only the automatic ones.
    pub fn release_all(&mut self, automatic_only: bool, who: &str, why: &str, at: Time) -> Vec<Outcome> {
        let chosen = |d: &Decision| !automatic_only || d.author == Author::Automatic;
        let numbers: Vec<u64> = self.decisions.live(at).iter().filter(|d| chosen(d)).map(|d| d.number).collect();
        numbers.into_iter().filter_map(|number| self.release(number, who, why, at).ok()).flatten().collect()
    }

    /// Moves a deadline.
    ///
    /// # Errors
    ///
    /// When the decision is not in force or the deadline is out of bounds.
    pub fn extend(&mut self, number: u64, ttl_ns: u64, at: Time) -> Result<Vec<Outcome>, DecisionError> {
        let decision = self.decisions.extend(number, ttl_ns, &self.config, at)?;
        Ok(vec![Outcome::Decision(DecisionChange::Extended, decision)])
    }

    /// Enters a person's word about a finding, which closes with a benign one.
    ///
    /// # Errors
    ///
    /// A [`MarkError`]; nothing was changed then.
    pub fn mark(&mut self, finding: &Finding, wish: Wish, at: Time) -> Result<Vec<Outcome>, MarkError> {
        let mark = self.marks.make(finding, wish, at)?;
        let closed = matches!(mark.word, Word::Benign { .. }).then(|| self.findings.close(finding.id, at)).flatten();
        let made = Outcome::Mark(MarkChange::Made, mark);
        Ok([made].into_iter().chain(closed.map(|finding| Outcome::Finding(Change::Closed, finding))).collect())
    }

    /// Enters what unlearning an incident came to.
    pub fn note_unlearnt(&mut self, number: u64, text: &str) -> Vec<Outcome> {
        let noted = self.marks.note_unlearnt(number, text);
        noted.into_iter().map(|mark| Outcome::Mark(MarkChange::Noted, mark)).collect()
    }

    /// Takes a mark back.
    ///
    /// # Errors
    ///
    /// A [`MarkError`].
    pub fn undo_mark(&mut self, name: &str, author: Author, why: &str, at: Time) -> Result<Vec<Outcome>, MarkError> {
        Ok(vec![Outcome::Mark(MarkChange::Undone, self.marks.undo(name, author, why, at)?)])
    }

    /// Closes a finding by a person's word.
    pub fn close_finding(&mut self, id: Uuid, who: &str, why: &str, at: Time) -> Vec<Outcome> {
        let Some(finding) = self.findings.close(id, at) else { return Vec::new() };
        let entry = Entry {
            at,
            author: Author::Operator(who.to_owned()),
            what: "finding closed".to_owned(),
            subject: finding.short(),
            text: why.to_owned(),
        };
        vec![Outcome::Finding(Change::Closed, finding), Outcome::Audit(entry)]
    }
}
