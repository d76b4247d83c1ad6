//! Whether an episode is denied automatically, and whom exactly.
//!
//! Everything has to agree: the workload enforces (or monitors, for a shadow), the episode's score reaches the threshold
//! with a share of the forest's, an exec edge or destination is absent from the frozen baseline, no evidence was lost, and
//! the model is healthy.

use std::net::SocketAddr;
use std::sync::Arc;

use model::Verdict;
use model::event::{Event, Process, Time};

use super::decision::{Booked, DecisionError, Proposal};
use super::mode::Mode;
use super::trail::Trail;
use super::{DecisionChange, Entry, Knowledge, Outcome, Policy, gates};
use crate::decision::{Author, DecisionAction, Destination, Target};

/// Targets of one episode that are denied one by one.
const FEW: usize = 3;

/// Somebody to deny something to.
struct Wish {
    process: Arc<Process>,
    target: Target,
    action: DecisionAction,
}

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
        if mode == Mode::Learning || !verdict.episode.over_threshold || !trail.conduct.has_class_a() {
            return Vec::new();
        }
        let shadow = mode == Mode::Monitoring;
        if let Err(why) = may_deny(verdict, trail, workload, known) {
            return self.say_once(anchor, event.at, workload, why);
        }
        let wishes = self.wishes(trail);
        if wishes.is_empty() {
            let why = "the never-seen program is the service's main process: only a person may deny it";
            return self.say_once(anchor, event.at, workload, why.to_owned());
        }
        let reason = format!(
            "the episode's {:.1} bits (forest {:.1}, facts {:.1}, calls {:.1}) reach the threshold of {:.1}",
            verdict.episode.score,
            verdict.episode.forest_sum,
            verdict.episode.fact_sum,
            verdict.episode.call_sum,
            known.threshold().0
        );
        let mut outcomes = Vec::new();
        for wish in wishes {
            let covering = self.decisions.covering(wish.process.cookie, &wish.process.ancestors, shadow, event.at);
            if let Some(number) = covering
                && self.decisions.get(number).is_none_or(|decision| decision.target != wish.target)
            {
                outcomes.extend(self.attach(anchor, number));
                continue;
            }
            let proposal = Proposal {
                target: wish.target,
                action: wish.action,
                shadow,
                allowed: gates(known.frozen(workload)),
                author: Author::Automatic,
                finding: self.cause(anchor),
                reason: reason.clone(),
                workload: Some(workload.clone()),
                ttl_ns: self.config.ttl_ns(),
            };
            outcomes.extend(self.propose(proposal, anchor, event.at));
        }
        outcomes
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

    /// The smallest things that stop it: the trees below never-seen exec edges; of a process that has none, its tree towards
    /// each never-seen destination. More than a few of them, and it is the process behind them that has to be fenced: a scan
    /// has a new destination for every denial. A service's main process is never taken out as a whole.
    fn wishes(&self, trail: &Trail) -> Vec<Wish> {
        let fence = |process: &Arc<Process>| Wish {
            process: process.clone(),
            target: Target::Tree { cookie: process.cookie },
            action: DecisionAction::Fence,
        };
        // Towards one destination only, programs are nobody's business.
        let block = |(process, to): &(Arc<Process>, SocketAddr)| Wish {
            process: process.clone(),
            target: Target::TreeAddress { cookie: process.cookie, to: Destination::from(*to) },
            action: DecisionAction::Isolate,
        };
        let culprits = trail.conduct.culprits.iter().filter(|culprit| !self.names.is_main(culprit)).map(fence);
        let wishes: Vec<Wish> = culprits.chain(trail.conduct.reached.iter().map(block)).collect();
        match self.names.get(trail.anchor) {
            Some(anchor) if wishes.len() > FEW && !self.names.is_main(anchor) => vec![fence(anchor)],
            _ => wishes,
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
    match trail.conduct.refusal(verdict, workload) {
        Some(why) => Err(why.to_owned()),
        None => known.can_enforce().map_err(|why| format!("the model must not enforce now: {why}")),
    }
}
