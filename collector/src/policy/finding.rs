//! The book of findings: created, updated, closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Verdict;
use model::conduct::Processes;
use model::event::{Event, Time};
use model::explain::Part;
use uuid::Uuid;

use super::Config;
use super::budget::{Budget, Candidate};
use super::evidence;
use super::marks;
use super::mode::Mode;
use super::trail::{self, Trail};
use crate::finding::{Finding, FindingState, FindingType, Reason, Severity};

/// Open findings at once; beyond it new ones are counted, not kept.
pub const MAX_OPEN: usize = 4_096;
/// Reasons kept of one finding.
const MAX_REASONS: usize = 16;
/// Facts kept of one finding.
const MAX_FACTS: usize = 16;
/// Related findings and decisions named in one finding.
const MAX_RELATED: usize = 16;
/// A finding that no episode closes is closed after this long without evidence.
const STALE_NS: u64 = 25 * 3_600 * 1_000_000_000;
/// Ids are made in this namespace.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d0c_4ade_0001_5000_8000_7374_6f63_6b61);

/// What happened to a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// New.
    Created,
    /// Evidence, severity, denials or decisions were added.
    Updated,
    /// No new evidence for long enough, or a person closed it.
    Closed,
}

type Key = (Arc<str>, u64, FindingType);

/// What a finding is about besides its verdict.
pub struct Scene<'a> {
    /// Host name.
    pub host: &'a Arc<str>,
    /// Mode of the workload.
    pub mode: Mode,
    /// Threshold in bits, and whether it is calibrated.
    pub threshold: (f64, bool),
    /// The subtree so far.
    pub trail: &'a Trail,
    /// Processes by name.
    pub names: &'a Processes,
    /// Settings.
    pub config: &'a Config,
}

/// Open findings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    open: BTreeMap<Key, Finding>,
    overflow: u64,
}

impl Findings {
    /// From stored open ones.
    pub fn restore(open: Vec<Finding>) -> Self {
        let key = |finding: &Finding| (finding.workload.clone(), finding.anchor, finding.kind);
        Self { open: open.into_iter().map(|finding| (key(&finding), finding)).collect(), overflow: 0 }
    }

    /// Open findings.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.open.values()
    }

    /// Findings for which there was no room.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Whether a workload has an open finding.
    pub fn suspects(&self, workload: &str) -> bool {
        // What the agent says of itself, its forest of the workload for one, is no suspicion.
        let suspects = |finding: &Finding| finding.kind != FindingType::Agent && *finding.workload == *workload;
        self.open.values().any(suspects)
    }

    /// An open finding by id.
    pub fn get_mut(&mut self, id: Uuid) -> Option<&mut Finding> {
        self.open.values_mut().find(|finding| finding.id == id)
    }

    /// Open findings of a subtree.
    pub fn of_anchor_mut(&mut self, anchor: u64) -> impl Iterator<Item = &mut Finding> {
        self.open.values_mut().filter(move |finding| finding.anchor == anchor)
    }

    /// Adds evidence of one kind. The finding when it changed enough to be told again, and whether it is new.
    pub fn add(
        &mut self,
        kind: FindingType,
        event: &Event,
        verdict: &Verdict,
        scene: &Scene,
        budget: &mut Budget,
    ) -> Option<(Change, Finding)> {
        let key = (event.process.workload.clone(), verdict.episode.anchor, kind);
        let is_new = !self.open.contains_key(&key);
        if is_new && self.open.len() >= MAX_OPEN {
            self.overflow += 1;
            return None;
        }
        let related = self.related(&key.0, key.1, kind);
        let finding = self.open.entry(key).or_insert_with(|| begin(kind, event, verdict, scene));
        let before = (finding.severity, finding.reasons.len());
        absorb(finding, event, verdict, scene);
        finding.related = related;
        raise(finding, verdict.episode.over_threshold, evidence::alone(event, verdict), scene, budget);
        let told = is_new || (finding.severity, finding.reasons.len()) != before || finding.count.is_power_of_two();
        told.then(|| (if is_new { Change::Created } else { Change::Updated }, finding.clone()))
    }

    /// Follows an episode whose score moved because of evidence of another kind: its findings may rise with it.
    pub fn rise(&mut self, verdict: &Verdict, scene: &Scene, budget: &mut Budget) -> Vec<Finding> {
        let mut risen = Vec::new();
        for finding in self.of_anchor_mut(verdict.episode.anchor) {
            let before = finding.severity;
            finding.score = finding.score.max(verdict.episode.score);
            finding.happened.clone_from(&scene.trail.deeds);
            raise(finding, verdict.episode.over_threshold, Severity::Low, scene, budget);
            if finding.severity != before {
                risen.push(finding.clone());
            }
        }
        risen
    }

    fn related(&self, workload: &Arc<str>, anchor: u64, kind: FindingType) -> Vec<Uuid> {
        let same =
            |finding: &&Finding| finding.anchor == anchor && finding.kind != kind && finding.workload == *workload;
        self.open.values().filter(same).map(|finding| finding.id).take(MAX_RELATED).collect()
    }

    /// A finding about the agent itself or about lost evidence, one per subject while it lasts.
    pub fn about_agent(
        &mut self,
        host: &Arc<str>,
        kind: FindingType,
        subject: &str,
        text: String,
        config: &Config,
        at: Time,
    ) -> Option<(Change, Finding)> {
        let workload: Arc<str> = format!("agent:{subject}").into();
        if let Some(finding) = self.open.get_mut(&(workload.clone(), 0, kind)) {
            finding.count = finding.count.saturating_add(1);
            finding.updated = at;
            finding.title = text;
            return finding.count.is_power_of_two().then(|| (Change::Updated, finding.clone()));
        }
        self.begin_of(host, workload, kind, text, config, at).map(|finding| (Change::Created, finding))
    }

    /// A finding about a workload as a whole, told once while it lasts. It stays open for as long as it is asked for.
    pub fn about_workload(
        &mut self,
        host: &Arc<str>,
        workload: &Arc<str>,
        kind: FindingType,
        (text, reasons): (String, Vec<Reason>),
        config: &Config,
        at: Time,
    ) -> Option<Finding> {
        if let Some(finding) = self.open.get_mut(&(workload.clone(), 0, kind)) {
            finding.updated = at;
            return None;
        }
        let mut finding = self.begin_of(host, workload.clone(), kind, text, config, at)?;
        finding.reasons = reasons;
        self.open.insert((workload.clone(), 0, kind), finding.clone());
        Some(finding)
    }

    /// A finding that hangs on no process.
    fn begin_of(
        &mut self,
        host: &Arc<str>,
        workload: Arc<str>,
        kind: FindingType,
        text: String,
        config: &Config,
        at: Time,
    ) -> Option<Finding> {
        if self.open.len() >= MAX_OPEN {
            self.overflow += 1;
            return None;
        }
        let finding = Finding {
            id: id(host, &workload, 0, kind, at),
            kind,
            severity: Severity::Medium,
            state: FindingState::Open,
            host: host.clone(),
            workload,
            mode: Mode::Learning,
            created: at,
            began: at,
            updated: at,
            count: 1,
            title: text,
            anchor: 0,
            tree: Vec::new(),
            score: 0.0,
            threshold: 0.0,
            calibrated: false,
            depth: None,
            parts: Vec::new(),
            reasons: Vec::new(),
            program: Arc::default(),
            facts: Vec::new(),
            happened: Vec::new(),
            related: Vec::new(),
            decisions: Vec::new(),
            denied: 0,
            lost: 0.0,
            stale: false,
            test: config.test,
        };
        self.open.insert((finding.workload.clone(), 0, kind), finding.clone());
        Some(finding)
    }

    /// Closes the findings of an anchor.
    pub fn close_anchor(&mut self, anchor: u64, at: Time) -> Vec<Finding> {
        self.close_where(at, |finding| finding.anchor == anchor && finding.anchor != 0)
    }

    /// Closes one by a person's word.
    pub fn close(&mut self, id: Uuid, at: Time) -> Option<Finding> {
        self.close_where(at, |finding| finding.id == id).pop()
    }

    /// Closes what had no evidence for a day.
    pub fn close_stale(&mut self, at: Time) -> Vec<Finding> {
        self.close_where(at, |finding| at.unix_ns.saturating_sub(finding.updated.unix_ns) > STALE_NS)
    }

    fn close_where(&mut self, at: Time, which: impl Fn(&Finding) -> bool) -> Vec<Finding> {
        let keys: Vec<Key> = self.open.iter().filter(|(_, f)| which(f)).map(|(key, _)| key.clone()).collect();
        let close = |mut finding: Finding| {
            finding.state = FindingState::Closed;
            finding.updated = finding.updated.max(at);
            finding
        };
        keys.iter().filter_map(|key| self.open.remove(key)).map(close).collect()
    }
}

/// The same host, workload, subtree, kind and start give the same id, in a replay too.
pub fn id(host: &str, workload: &str, anchor: u64, kind: FindingType, started: Time) -> Uuid {
    let name = format!("{host}\0{workload}\0{anchor}\0{kind:?}\0{}\0{}", started.boot_ns, started.unix_ns);
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

fn begin(kind: FindingType, event: &Event, verdict: &Verdict, scene: &Scene) -> Finding {
    Finding {
        id: id(scene.host, &event.process.workload, verdict.episode.anchor, kind, verdict.episode.started),
        kind,
        severity: Severity::Low,
        state: FindingState::Open,
        host: scene.host.clone(),
        workload: event.process.workload.clone(),
        mode: scene.mode,
        created: event.at,
        began: verdict.episode.started,
        updated: event.at,
        count: 0,
        title: evidence::title(kind, event),
        anchor: verdict.episode.anchor,
        tree: trail::tree(scene.names, &event.process),
        score: 0.0,
        threshold: scene.threshold.0,
        calibrated: scene.threshold.1,
        depth: None,
        parts: Vec::new(),
        reasons: Vec::new(),
        program: marks::program_of(event),
        facts: Vec::new(),
        happened: Vec::new(),
        related: Vec::new(),
        decisions: Vec::new(),
        denied: 0,
        lost: 0.0,
        stale: false,
        test: scene.config.test,
    }
}

fn absorb(finding: &mut Finding, event: &Event, verdict: &Verdict, scene: &Scene) {
    finding.count = finding.count.saturating_add(1);
    finding.updated = event.at;
    finding.mode = scene.mode;
    finding.stale |= verdict.stale;
    finding.score = finding.score.max(verdict.episode.score);
    (finding.threshold, finding.calibrated) = scene.threshold;
    finding.happened.clone_from(&scene.trail.deeds);
    finding.lost += (verdict.lost - finding.lost) / f64::from(finding.count);
    if let Some(peak) = verdict.episode.peak.as_ref().or(Some(&verdict.score)).filter(|peak| peak.value > 0.0) {
        finding.depth = Some((peak.depth, peak.median_depth));
    }
    let share = |parts: &[Part]| parts.iter().map(|part| part.contribution).sum::<f64>();
    if share(&verdict.explanation.parts) > share(&finding.parts) {
        finding.parts.clone_from(&verdict.explanation.parts);
    }
    for reason in evidence::reasons(verdict) {
        add_reason(finding, reason);
    }
    for fact in marks::facts_of(finding.kind, verdict) {
        if finding.facts.len() < MAX_FACTS && !finding.facts.contains(fact) {
            finding.facts.push(fact.clone());
        }
    }
}

/// Adds a reason unless the same thing is said already. The least surprising one makes room.
pub fn add_reason(finding: &mut Finding, reason: Reason) {
    let said = finding
        .reasons
        .iter_mut()
        .find(|known| known.what == reason.what && (known.now == reason.now || reason.what == "sequence"));
    match said {
        Some(known) if known.bits < reason.bits => *known = reason,
        Some(_) => return,
        None => finding.reasons.push(reason),
    }
    finding.reasons.sort_by(|left, right| right.bits.total_cmp(&left.bits));
    finding.reasons.truncate(MAX_REASONS);
}

/// Sets the severity that the evidence allows, the new event's `alone` or all together; it never falls while the finding is
/// open.
fn raise(finding: &mut Finding, over_threshold: bool, alone: Severity, scene: &Scene, budget: &mut Budget) {
    let trail = scene.trail;
    let corroborated = trail.sensors.len() >= 2;
    let together = match (over_threshold, corroborated) {
        (true, true) => Severity::High,
        (true, false) => Severity::Medium,
        (false, _) => Severity::Low,
    };
    let wanted = together.max(alone);
    if wanted <= finding.severity {
        return;
    }
    let class_a = trail.conduct.has_class_a() || finding.kind == FindingType::MemoryExec;
    let candidate = Candidate { id: finding.id, workload: finding.workload.clone(), score: finding.score, class_a };
    if finding.severity == Severity::Low && !budget.admit(&candidate, finding.updated, scene.config.pages_per_day) {
        return;
    }
    finding.severity = wanted;
    let agree = if corroborated { format!("{} agree and ", trail.sensor_names()) } else { String::new() };
    if over_threshold {
        let now = format!("{agree}the episode's {:.1} bits reach the threshold", finding.score);
        let reason =
            Reason { what: "severity".to_owned(), now, usual: format!("{:.1} bits", finding.threshold), bits: 0.0 };
        finding.reasons.retain(|known| known.what != "severity");
        finding.reasons.truncate(MAX_REASONS - 1);
        finding.reasons.push(reason);
    }
}
