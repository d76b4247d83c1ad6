//! Findings of the past: what a model that has unlearnt an incident finds in the last day.

use model::Verdict;
use model::event::Event;
use uuid::Uuid;

use super::finding::{self, Change, Scene};
use super::trail::Trail;
use super::{Knowledge, Outcome, Policy, evidence};
use crate::finding::Reason;

impl Policy {
    /// Reports an episode of the past that was not told then; `is_told` knows the findings that are closed by now. Nothing is
    /// denied for it: it is for a person to look whether there is still somebody to stop.
    pub fn on_hindsight(
        &mut self,
        (event, verdict): (&Event, &Verdict),
        known: &dyn Knowledge,
        is_told: impl Fn(Uuid) -> bool,
        why: &str,
    ) -> Vec<Outcome> {
        let (workload, anchor) = (&event.process.workload, verdict.episode.anchor);
        let mode = self.modes.of(workload);
        let mut kinds = evidence::kinds(event, verdict, mode);
        self.marks.sift(&mut kinds, event, verdict);
        let id = |kind| finding::id(&self.host, workload, anchor, kind, verdict.episode.started);
        if self.findings.iter().any(|open| open.anchor == anchor) || kinds.iter().any(|kind| is_told(id(*kind))) {
            return Vec::new();
        }
        let mut trail = Trail::begin(event, verdict);
        trail.follow(event, verdict, true);
        let (host, names, config) = (&self.host, &self.names, &self.config);
        let scene = Scene { host, mode, threshold: known.threshold(), trail: &trail, names, config };
        for kind in kinds {
            self.findings.add(kind, event, verdict, &scene, &mut self.budget);
        }
        let reason = Reason {
            what: "hindsight".to_owned(),
            now: format!("found after {why} was unlearnt"),
            usual: "taken for usual until then".to_owned(),
            bits: 0.0,
        };
        let tell = |found: &mut crate::finding::Finding| {
            finding::add_reason(found, reason.clone());
            Outcome::Finding(Change::Created, found.clone())
        };
        self.findings.of_anchor_mut(anchor).map(tell).collect()
    }
}
