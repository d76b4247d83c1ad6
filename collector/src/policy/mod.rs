//! Verdicts → findings and decisions. Pure: no IO and no clock; what has to be done comes out as [`Outcome`]s, which
//! [`commit`] carries out in the right order (audit row before kernel entry).

mod budget;
mod commit;
mod config;
mod decide;
pub mod decision;
pub mod evidence;
pub mod finding;
mod hindsight;
mod knowledge;
pub mod marks;
pub mod mode;
pub mod protect;
pub mod readiness;
mod requests;
mod trail;
mod wellbeing;
pub mod would;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::conduct::Processes;
use model::event::{Body, Event, Time};
use model::{EpisodeView, Verdict, WorkloadSummary};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use budget::Budget;
pub(crate) use commit::audit_entry;
pub use commit::{Apply, Committed, commit};
pub use config::Config;
use decision::Decisions;
use finding::{Change, Findings, Scene};
pub use knowledge::{Knowledge, gates};
use marks::{Mark, MarkChange, Marks};
use mode::{Mode, ModeRow, Modes};
use protect::Protected;
use readiness::{Circumstances, Readiness};
use trail::{MAX_TRAILS, Trail};
pub use wellbeing::Wellbeing;

use crate::decision::{Author, Decision};
use crate::finding::{Finding, FindingType, Reason, Severity};

/// What happened to a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionChange {
    /// New: it needs its audit row, then its kernel entry.
    Made,
    /// Its deadline moved.
    Extended,
    /// It denied something; only the count changed.
    Hit,
    /// Lapsed, released, tripped or taken back.
    Ended,
}

/// What the agent has to do, keep and tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A finding changed.
    Finding(Change, Finding),
    /// A decision changed.
    Decision(DecisionChange, Decision),
    /// A mode changed; the scorer follows.
    Mode(ModeRow),
    /// A person's word about a finding, or what came of it.
    Mark(MarkChange, Mark),
    /// A line for the audit that is none of the above.
    Audit(Entry),
}

/// One line of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Time,
    /// On whose word.
    pub author: Author,
    /// What: `decision made`, `mode set`, `refused`, …
    pub what: String,
    /// About: a decision's or finding's short name, or a workload.
    pub subject: String,
    /// Why, in words.
    pub text: String,
}

/// What is kept over a restart besides modes and decisions, which have tables of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Open findings.
    pub findings: Vec<Finding>,
    /// Trails of open episodes.
    trails: Vec<Trail>,
    budget: Budget,
    /// Next decision number.
    pub next_decision: u64,
}

/// Everything that turns verdicts into findings and decisions on one host.
pub struct Policy {
    config: Config,
    host: Arc<str>,
    modes: Modes,
    marks: Marks,
    findings: Findings,
    decisions: Decisions,
    protected: Protected,
    trails: BTreeMap<u64, Trail>,
    names: Processes,
    budget: Budget,
    refused: BTreeMap<u64, String>,
    overflow: u64,
}

impl Policy {
    /// An empty one, or with what the store kept.
    pub fn new(
        config: Config,
        host: Arc<str>,
        protected: Protected,
        state: State,
        modes: Vec<ModeRow>,
        decisions: Vec<Decision>,
    ) -> Self {
        Self {
            config,
            host,
            modes: Modes::from_rows(modes),
            marks: Marks::default(),
            findings: Findings::restore(state.findings),
            decisions: Decisions::restore(decisions, state.next_decision),
            protected,
            trails: state.trails.into_iter().map(|trail| (trail.anchor, trail)).collect(),
            names: Processes::default(),
            budget: state.budget,
            refused: BTreeMap::new(),
            overflow: 0,
        }
    }

    /// With the marks that the store kept.
    #[must_use]
    pub fn with_marks(mut self, marks: Vec<Mark>) -> Self {
        self.marks = Marks::restore(marks);
        self
    }

    /// What has to be kept, besides [`Policy::modes`] and [`Policy::decisions`].
    pub fn state(&self) -> State {
        State {
            findings: self.findings.iter().cloned().collect(),
            trails: self.trails.values().cloned().collect(),
            budget: self.budget.clone(),
            next_decision: self.decisions.next_number(),
        }
    }

    /// Takes one event: remembers its process, then judges its verdict or counts its denial.
    pub fn on_event(&mut self, event: &Event, verdict: Option<&Verdict>, known: &dyn Knowledge) -> Vec<Outcome> {
        self.note(event);
        match (&event.body, verdict) {
            (Body::Deny(_), _) => self.on_deny(event),
            (_, Some(verdict)) => self.on_verdict(event, verdict, known),
            _ => Vec::new(),
        }
    }

    /// Remembers who an event is about; true when its process joined the protected set just now, so that the kernel has to
    /// be told. Calling it before [`Policy::on_event`] for the same event does no harm.
    pub fn note(&mut self, event: &Event) -> bool {
        self.names.note(event);
        match event.body {
            Body::Exit(_) => {
                self.protected.forget(event.process.cookie);
                false
            }
            _ => self.protected.consider(&event.process, &self.config),
        }
    }

    /// Judges a verdict: findings first, then whether something has to be denied.
    pub fn on_verdict(&mut self, event: &Event, verdict: &Verdict, known: &dyn Knowledge) -> Vec<Outcome> {
        let mode = self.modes.of(&event.process.workload);
        let mut kinds = evidence::kinds(event, verdict, mode);
        let found = kinds.len();
        let hit = self.marks.sift(&mut kinds, event, verdict);
        let anchor = verdict.episode.anchor;
        let mut outcomes = self.begin_anew(verdict, event.at);
        outcomes.extend(hit.into_iter().map(|mark| Outcome::Mark(MarkChange::Noted, mark)));
        // Somebody said that this is fine: it is no reason to deny either.
        if found > 0 && kinds.is_empty() {
            return outcomes;
        }
        let judged = mode > Mode::Learning || !kinds.is_empty();
        if !self.trails.contains_key(&anchor) {
            if !judged || (kinds.is_empty() && evidence::sensor(event, verdict).is_none()) {
                return outcomes;
            }
            if self.trails.len() >= MAX_TRAILS {
                self.overflow += 1;
                return outcomes;
            }
        }
        let trail = self.trails.entry(anchor).or_insert_with(|| Trail::begin(event, verdict));
        trail.follow(event, verdict, judged);
        let scene = Scene {
            host: &self.host,
            mode,
            threshold: known.threshold(),
            trail,
            names: &self.names,
            config: &self.config,
        };
        let held_before = self.budget.held_back();
        for kind in kinds {
            let told = self.findings.add(kind, event, verdict, &scene, &mut self.budget);
            outcomes.extend(told.map(|(change, finding)| Outcome::Finding(change, finding)));
        }
        let risen = self.findings.rise(verdict, &scene, &mut self.budget);
        outcomes.extend(risen.into_iter().map(|finding| Outcome::Finding(Change::Updated, finding)));
        if self.budget.held_back() > held_before {
            outcomes.extend(self.about_storm(event.at));
        }
        outcomes.extend(self.decide(event, verdict, mode, known));
        outcomes
    }

    /// The same anchor in a new episode: what belonged to the old one is closed.
    fn begin_anew(&mut self, verdict: &Verdict, at: Time) -> Vec<Outcome> {
        let anchor = verdict.episode.anchor;
        match self.trails.get(&anchor) {
            Some(trail) if trail.kept && verdict.episode.evidence > 0 && trail.started != verdict.episode.started => {
                self.end_episode(anchor, at)
            }
            _ => Vec::new(),
        }
    }

    fn end_episode(&mut self, anchor: u64, at: Time) -> Vec<Outcome> {
        self.trails.remove(&anchor);
        self.refused.remove(&anchor);
        let closed = self.findings.close_anchor(anchor, at);
        closed.into_iter().map(|finding| Outcome::Finding(Change::Closed, finding)).collect()
    }

    /// Counts a denial and raises what it belongs to.
    pub fn on_deny(&mut self, event: &Event) -> Vec<Outcome> {
        let Body::Deny(deny) = &event.body else { return Vec::new() };
        let count = 1 + u64::from(deny.suppressed);
        let Some((decision, tripped)) = self.decisions.hit(deny.decision, count, deny.breaker, event.at) else {
            return Vec::new();
        };
        let mut outcomes = Vec::new();
        let told = decision.hits == count || (decision.hits - count).leading_zeros() != decision.hits.leading_zeros();
        if tripped {
            outcomes.push(Outcome::Decision(DecisionChange::Ended, decision.clone()));
            let text = format!("{} was disarmed by its breaker after {} hits", decision.short(), decision.hits);
            outcomes.extend(self.about_agent("breaker", text, event.at));
        } else if told {
            outcomes.push(Outcome::Decision(DecisionChange::Hit, decision.clone()));
        }
        outcomes.extend(self.denied(event, &decision, count, told));
        outcomes
    }

    fn denied(&mut self, event: &Event, decision: &Decision, count: u64, told: bool) -> Vec<Outcome> {
        let Body::Deny(deny) = &event.body else { return Vec::new() };
        let process = &event.process;
        let lineage = |anchor: u64| anchor == process.cookie || process.ancestors.contains(&anchor);
        let by_person = decision.author != Author::Automatic;
        let caused = decision.finding;
        let mut outcomes = Vec::new();
        let ids: Vec<Uuid> = self
            .findings
            .iter()
            .filter(|finding| Some(finding.id) == caused || (by_person && lineage(finding.anchor)))
            .map(|finding| finding.id)
            .collect();
        for id in ids {
            let Some(finding) = self.findings.get_mut(id) else { continue };
            finding.updated = event.at;
            let before = finding.severity;
            if !deny.shadow {
                finding.denied = finding.denied.saturating_add(count);
                if let Some(trail) = self.trails.get_mut(&finding.anchor) {
                    trail.denied = true;
                }
            }
            // A denial by our own decision corroborates nothing: it came from the same score.
            if by_person && !deny.shadow && finding.severity < Severity::High {
                finding.severity = Severity::High;
                finding::add_reason(
                    finding,
                    Reason {
                        what: "denied".to_owned(),
                        now: format!("{} hit {}, which a person ordered", deny.remote, decision.short()),
                        usual: "no denials".to_owned(),
                        bits: 0.0,
                    },
                );
            }
            if told || finding.severity != before {
                outcomes.push(Outcome::Finding(Change::Updated, finding.clone()));
            }
        }
        outcomes
    }

    /// Lets time pass: closed episodes, lapsed decisions, modes that fall back.
    pub fn on_tick(&mut self, at: Time, closed: &[EpisodeView]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for episode in closed {
            let current = self.trails.get(&episode.anchor).is_none_or(|trail| trail.started == episode.started);
            if current {
                outcomes.extend(self.end_episode(episode.anchor, at));
            }
        }
        let over: Vec<u64> = self.trails.values().filter(|trail| trail.is_over(at)).map(|trail| trail.anchor).collect();
        for anchor in over {
            outcomes.extend(self.end_episode(anchor, at));
        }
        let stale = self.findings.close_stale(at);
        outcomes.extend(stale.into_iter().map(|finding| Outcome::Finding(Change::Closed, finding)));
        if self.budget.storm(at, self.config.pages_per_day).is_none() {
            outcomes.extend(self.close_all(|finding| finding.kind == FindingType::Storm, at));
        }
        outcomes.extend(self.decisions.lapse(at).into_iter().map(|d| Outcome::Decision(DecisionChange::Ended, d)));
        outcomes.extend(self.modes.lapse(at).into_iter().map(Outcome::Mode));
        outcomes
    }

    /// The host was started anew since the state was kept: cookies and kernel entries of before mean nothing.
    pub fn on_reboot(&mut self, at: Time) -> Vec<Outcome> {
        self.modes.carry_over(at);
        let mut outcomes: Vec<Outcome> = self
            .decisions
            .end_all_by_reboot(at)
            .into_iter()
            .map(|d| Outcome::Decision(DecisionChange::Ended, d))
            .collect();
        let anchors: Vec<u64> = self.findings.iter().map(|finding| finding.anchor).collect();
        self.trails.clear();
        for anchor in anchors {
            outcomes.extend(self.end_episode(anchor, at));
        }
        outcomes
    }

    /// Reports something about the agent itself: `subject` is a short stable word, told once while it lasts.
    pub fn about_agent(&mut self, subject: &str, text: String, at: Time) -> Vec<Outcome> {
        let told = self.findings.about_agent(&self.host, FindingType::Agent, subject, text, &self.config, at);
        told.into_iter().map(|(change, finding)| Outcome::Finding(change, finding)).collect()
    }

    /// Reports that evidence is being lost.
    pub fn about_loss(&mut self, text: String, at: Time) -> Vec<Outcome> {
        let told = self.findings.about_agent(&self.host, FindingType::Loss, "loss", text, &self.config, at);
        told.into_iter().map(|(change, finding)| Outcome::Finding(change, finding)).collect()
    }

    /// Reports that far more is found than people will be disturbed about: once, instead of each.
    fn about_storm(&mut self, at: Time) -> Vec<Outcome> {
        let Some(storm) = self.budget.storm(at, self.config.pages_per_day) else { return Vec::new() };
        let text = storm.to_string();
        let told = self.findings.about_agent(&self.host, FindingType::Storm, "storm", text, &self.config, at);
        told.into_iter().map(|(change, finding)| Outcome::Finding(change, finding)).collect()
    }

    /// Nothing is lost any more.
    pub fn loss_is_over(&mut self, at: Time) -> Vec<Outcome> {
        self.close_all(|finding| finding.kind == FindingType::Loss, at)
    }

    /// Whether a workload's baseline is ready. `lost` is the share of its evidence that was lost.
    pub fn readiness(&self, workload: &Arc<str>, summary: &WorkloadSummary, lost: f64, at: Time) -> Readiness {
        let circumstances = Circumstances { lost, suspected: self.findings.suspects(workload) };
        readiness::readiness(workload, summary, circumstances, &self.config, at)
    }

    /// Modes.
    pub fn modes(&self) -> &Modes {
        &self.modes
    }

    /// What people said about findings.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Open findings.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter()
    }

    /// Decisions.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// Decisions in force.
    pub fn live(&self, at: Time) -> Vec<Decision> {
        self.decisions.live(at)
    }

    /// The protected set.
    pub fn protected(&self) -> &Protected {
        &self.protected
    }

    /// The protected set, for telling it about cgroups and addresses.
    pub fn protected_mut(&mut self) -> &mut Protected {
        &mut self.protected
    }

    /// Settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Findings held back by the budget, and things that did not fit into bounded tables.
    pub fn losses(&self) -> (u64, u64) {
        let full = self.findings.overflow() + self.names.overflow() + self.protected.overflow() + self.overflow;
        (self.budget.held_back(), full)
    }

    fn retract(&mut self, number: u64, why: &str, at: Time) -> Option<Outcome> {
        let decision = self.decisions.retract(number, why, at)?;
        Some(Outcome::Decision(DecisionChange::Ended, decision))
    }

    fn attach(&mut self, anchor: u64, number: u64) -> Vec<Outcome> {
        let note = |finding: &mut Finding| {
            finding.decisions.push(number);
            Outcome::Finding(Change::Updated, finding.clone())
        };
        let unnamed = |finding: &&mut Finding| finding.decisions.len() < 16 && !finding.decisions.contains(&number);
        self.findings.of_anchor_mut(anchor).filter(unnamed).map(note).collect()
    }

    /// The finding that a decision on this subtree is made for: the most telling kind.
    fn cause(&self, anchor: u64) -> Option<Uuid> {
        let rank = |kind: FindingType| match kind {
            FindingType::ExecNovel => 0,
            FindingType::EgressNovel => 1,
            FindingType::MemoryExec => 2,
            _ => 3,
        };
        let of_anchor = self.findings.iter().filter(|finding| finding.anchor == anchor);
        of_anchor.min_by_key(|finding| rank(finding.kind)).map(|finding| finding.id)
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
