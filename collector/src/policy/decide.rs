//! Whether an episode is denied automatically, and whom exactly.
//!
//! Everything has to agree: the workload enforces (or monitors, for a shadow), the episode's score reaches the threshold
//! with a share of the forest's, an exec edge or destination is absent from the frozen baseline, no evidence was lost, and
//! the model is healthy.

use std::sync::Arc;

use model::Verdict;
use model::event::{Event, Time};

use super::decision::{Booked, DecisionError, Proposal};
use super::mode::Mode;
use super::trail::Trail;
use super::{DecisionChange, Entry, Knowledge, Outcome, Policy, gates};
use crate::decision::{Author, DecisionAction, Target};

impl Policy {
    pub(super) fn decide(
        &mut self,
        event: &Event,
        verdict: &Verdict,
        mode: Mode,
        known: &dyn Knowledge,
    ) -> Vec<Outcome> {
        let workload = &event.process.workload;
        let anchor = verdict.episode.anchor;
        let Some(trail) = self.trails.get(&anchor) else { return Vec::new() };
        if mode == Mode::Learning || !verdict.episode.over_threshold || !trail.has_class_a() {
            return Vec::new();
        }
        let shadow = mode == Mode::Monitoring;
        let (target, ancestors) = match self.target(trail) {
            Ok(found) => found,
            Err(why) => return self.say_once(anchor, event.at, workload, why),
        };
        if let Err(why) = may_deny(verdict, trail, workload, known) {
            return self.say_once(anchor, event.at, workload, why);
        }
        if let Target::Tree { cookie } = target
            && let Some(number) = self.decisions.covering(cookie, &ancestors, shadow, event.at)
            && self.decisions.get(number).is_none_or(|decision| decision.target != target)
        {
            return self.attach(anchor, number);
        }
        // Towards one destination only, programs are nobody's business.
        let action = match target {
            Target::TreeAddress { .. } => DecisionAction::Isolate,
            _ => DecisionAction::Fence,
        };
        let proposal = Proposal {
            target,
            action,
            shadow,
            allowed: gates(known.frozen(workload)),
            author: Author::Automatic,
            finding: self.cause(anchor),
            reason: format!(
                "the episode's {:.1} bits (forest {:.1}, facts {:.1}) reach the threshold of {:.1}",
                verdict.episode.score,
                verdict.episode.forest_sum,
                verdict.episode.fact_sum,
                known.threshold().0
            ),
            workload: Some(workload.clone()),
            ttl_ns: self.config.ttl_ns(),
        };
        self.propose(proposal, anchor, event.at)
    }

    fn propose(&mut self, proposal: Proposal, anchor: u64, at: Time) -> Vec<Outcome> {
        let workload: Arc<str> = proposal.workload.clone().unwrap_or_default();
        match self.decisions.book(proposal, &self.protected, &self.config, at) {
            Ok(Booked::New(decision)) => {
                let number = decision.number;
                let mut outcomes = vec![Outcome::Decision(DecisionChange::Made, decision)];
                outcomes.extend(self.attach(anchor, number));
                outcomes
            }
            Ok(Booked::Extended(decision)) => vec![Outcome::Decision(DecisionChange::Extended, decision)],
            Ok(Booked::Covered(number)) => self.attach(anchor, number),
            Err(DecisionError::Overruled(_)) => Vec::new(),
            Err(refused) => self.say_once(anchor, at, &workload, refused.to_string()),
        }
    }

    /// The smallest thing that stops it: the tree below the first never-seen exec edge; without one only that process's
    /// tree to that destination. A service's main process is never taken out as a whole.
    fn target(&self, trail: &Trail) -> Result<(Target, Vec<u64>), String> {
        if let Some(culprit) = &trail.culprit
            && !self.names.is_main(culprit)
        {
            return Ok((Target::Tree { cookie: culprit.cookie }, culprit.ancestors.clone()));
        }
        match &trail.reached {
            Some((process, to)) => {
                Ok((Target::TreeAddress { cookie: process.cookie, to: to.clone() }, process.ancestors.clone()))
            }
            None => Err("the never-seen program is the service's main process: only a person may deny it".to_owned()),
        }
    }

    /// Why nothing is denied is audited once an episode, not at every record.
    fn say_once(&mut self, anchor: u64, at: Time, workload: &Arc<str>, why: String) -> Vec<Outcome> {
        if self.refused.get(&anchor) == Some(&why) {
            return Vec::new();
        }
        self.refused.insert(anchor, why.clone());
        vec![Outcome::Audit(Entry {
            at,
            author: Author::Automatic,
            what: "not denied".to_owned(),
            subject: workload.to_string(),
            text: why,
        })]
    }
}

fn may_deny(verdict: &Verdict, trail: &Trail, workload: &str, known: &dyn Knowledge) -> Result<(), String> {
    if workload.starts_with("login") {
        return Err("people's sessions are never denied automatically".to_owned());
    }
    if !trail.complete || !verdict.complete {
        return Err("evidence was lost in this episode: it does not deny".to_owned());
    }
    if verdict.episode.forest_sum <= 0.0 {
        return Err("the forest isolates nothing in this episode: facts alone do not deny".to_owned());
    }
    known.can_enforce().map_err(|why| format!("the model must not enforce now: {why}"))
}
