//! The Stockade model: what happened in, how surprising it is out.
//!
//! Pure maths: no IO, no clock, no randomness but seeded, no `unsafe`, and one thread, on which trees grow. Data flows from top to
//! bottom:
//!
//! ```text
//! event ─► facts ─► counts: bits of surprise by back-off ──┐
//!       ─► sequence: bits of the eight strangest calls ────┤
//!       ─► numeric: bits of how much, how many, how often ─┴─► features: 8 coordinates
//!                                                                  │
//!              reservoir ─► growth ─► grown: score = depth + gap ◄─┘   (forest: quantiser, tree; plain rows: stream)
//!                                        │   own: mixed with the workload's own forest
//!                                        │
//!        episode: evidence of one subtree added up ─► threshold: return level ─► verdict, explained
//! ```
//!
//! An event is judged first and learnt afterwards, and only if the learning rules admit it ([`Model::observe`]).
#![forbid(unsafe_code)]

mod beside;
pub mod conduct;
pub mod counts;
pub mod drift;
pub mod episode;
pub mod event;
mod exam;
pub mod explain;
pub mod facts;
pub mod features;
pub mod forest;
mod grams;
mod grown;
mod growth;
mod halves;
pub mod health;
pub mod journal;
mod judge;
mod knowledge;
pub mod names;
pub mod numeric;
pub mod online;
pub mod own;
pub mod params;
pub mod paths;
pub mod purge;
pub mod quantiser;
mod quantities;
pub mod random;
pub mod rate;
pub mod replay;
pub mod reservoir;
pub mod schema;
pub mod score;
pub mod sequence;
pub mod snapshot;
pub mod state;
pub mod stream;
mod table;
pub mod threshold;
pub mod tree;
pub mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use counts::Count;
pub use drift::Drifted;
pub use episode::EpisodeView;
pub use event::{Body, Event, Process, Time};
pub use explain::Explanation;
pub use facts::Fact;
pub use features::{Coordinate, FeatureVector};
pub use health::Health;
pub use knowledge::{BaselineFact, FrozenDestination};
pub use params::{DetectorKind, Params, ParamsError};
pub use score::AnomalyScore;
pub use snapshot::SnapshotError;
pub use state::HealthState;
pub use threshold::Threshold;
pub use workload::WorkloadSummary;

use counts::Counts;
use episode::{Closed, Episodes};
use grams::Grams;
use health::Vigil;
use judge::Recent;
use online::AnyDetector;
use own::OwnForests;
use params::ValidParams;
use sequence::Sequences;
use threshold::Calibration;
use workload::{Measures, Workload};

/// Workloads that the model holds; the events of further ones are not judged, and counted.
pub const MAX_WORKLOADS: usize = 4_096;

/// Whether a workload is still learning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Standing {
    /// What it does is normal by definition; only what is dangerous anywhere is judged.
    Learning,
    /// Judged against its frozen baseline: monitoring or enforcing.
    Ready,
}

/// A fact and what it is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactSurprise {
    /// The fact.
    pub fact: Fact,
    /// Bits, 0–24; higher = more surprising.
    pub bits: f64,
    /// Absent from what the workload is judged against.
    pub novel: bool,
    /// New where new values are daily bread ([`Counts::is_used_to_news`]): not told as a finding of its own.
    pub expected: bool,
    /// What is usual there, in words.
    pub usual: String,
    /// Exec edge or destination: what a denial may be founded on.
    pub class_a: bool,
}

/// What the model says about an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The point that was scored.
    pub vector: FeatureVector,
    /// Its score.
    pub score: AnomalyScore,
    /// The facts that the event states, the most surprising first.
    pub facts: Vec<FactSurprise>,
    /// Why.
    pub explanation: Explanation,
    /// The episode that it belongs to.
    pub episode: EpisodeView,
    /// Trigrams that its program never made, by name, at most eight.
    pub trigrams: Vec<Arc<str>>,
    /// No call of this evidence was lost.
    pub complete: bool,
    /// Share of its calls that were lost, 0–1. Its bits are then a lower bound: what is not there surprises nobody.
    pub lost: f64,
    /// The program's file is another one since less than a day: what its workload knows of it is inherited and counts half.
    pub stale: bool,
}

/// Everything learnt on one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    params: ValidParams,
    workloads: BTreeMap<Arc<str>, Workload>,
    host: Counts,
    pool: Sequences,
    measures: Measures,
    detector: AnyDetector,
    own: OwnForests,
    episodes: Episodes,
    calibration: Calibration,
    /// Read for every event, and renewed when time passes.
    threshold: Threshold,
    recent: BTreeMap<u64, Recent>,
    unmodelled: u64,
    vigil: Vigil,
    now: Time,
    /// Not kept: an evaluation's question, never an agent's state.
    #[serde(skip)]
    without: Option<Coordinate>,
}

impl Model {
    /// An empty model.
    ///
    /// # Errors
    ///
    /// When a parameter is out of range.
    pub fn new(params: Params) -> Result<Self, ParamsError> {
        let params = params.check()?;
        let (budget, start) = (params.get().budget_per_day, params.get().start_threshold);
        Ok(Self {
            detector: AnyDetector::new(params.get()),
            own: OwnForests::new(params.get()),
            threshold: Calibration::default().threshold(Time::default(), budget, start),
            params,
            workloads: BTreeMap::new(),
            host: Counts::default(),
            pool: Sequences::default(),
            measures: Measures::default(),
            episodes: Episodes::default(),
            calibration: Calibration::default(),
            recent: BTreeMap::new(),
            unmodelled: 0,
            vigil: Vigil::default(),
            now: Time::default(),
            without: None,
        })
    }

    /// Takes a coordinate away, and the facts that feed it: an evaluation asks what each of them is worth.
    pub fn leave_out(&mut self, coordinate: Coordinate) {
        self.without = Some(coordinate);
    }

    /// Closes the episodes that have been quiet for long enough, and learns late what they may teach: the facts of those
    /// that stayed below the threshold and of which nothing was lost or denied.
    pub fn tick(&mut self, at: Time) -> Vec<EpisodeView> {
        self.now = at;
        let closed = self.episodes.close(at, self.threshold.level);
        for episode in &closed {
            self.calibration.add(episode.past.clone(), episode.view.score, self.params.get().budget_per_day);
            self.learn_late(episode);
        }
        self.recent.retain(|_, recent| recent.is_fresh(at));
        self.tend_forest(at);
        self.renew_threshold();
        self.keep_vigil(at);
        closed.into_iter().map(|episode| episode.view).collect()
    }

    /// Publishes a forest whose time has come, with what it says about closed episodes, and begins to grow the next.
    fn tend_forest(&mut self, at: Time) {
        let AnyDetector::Forest(forest) = &mut self.detector else { return };
        let published = forest.publish(at);
        self.own.publish(at);
        forest.begin_what_is_due(at, &self.host, || self.calibration.recall().with(self.own.says()));
        if !forest.is_growing() {
            self.own.begin_one(at, &self.host);
        }
        if let Some(rescored) = published {
            self.calibration.rescore(&rescored);
            self.renew_threshold();
            beside::leave(rescored);
        }
    }

    fn learn_late(&mut self, episode: &Closed) {
        let EpisodeView { anchor, last, .. } = episode.view;
        let Some(known) = self.workloads.get_mut(&episode.view.workload) else { return };
        for fact in episode.lessons.iter().flat_map(|fact| [fact.clone()].into_iter().chain(fact.parts())) {
            known.learned.facts.learn(&fact, last, anchor);
            known.admit(&fact);
            self.host.learn(&fact, last, anchor);
        }
        for window in &episode.windows {
            let grams = Grams::of(&window.trace);
            known.learn_window(&window.exe, &grams, last, anchor);
            self.pool.learn_grams(&grams);
        }
    }

    /// Copies what a workload has learnt into the baseline that it is judged against from now on.
    pub fn freeze(&mut self, workload: &str, at: Time) {
        if let Some(known) = self.workloads.get_mut(workload) {
            known.freeze();
            self.calibration.begin(at);
        }
    }

    /// Goes back to learning.
    pub fn thaw(&mut self, workload: &str) {
        if let Some(known) = self.workloads.get_mut(workload) {
            known.frozen = None;
        }
    }

    /// The forests that workloads have of their own.
    pub fn own_forests(&self) -> &OwnForests {
        &self.own
    }

    /// The level in force.
    pub fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// Findings a day that the level in force promises, at 90 %: the budget, as far as so few episodes tell.
    pub fn promised_a_day(&self) -> (f64, f64) {
        let ((low, high), budget) = (self.threshold.interval, self.params.get().budget_per_day);
        (low * budget, high * budget)
    }

    fn renew_threshold(&mut self) {
        let Params { budget_per_day, start_threshold, .. } = *self.params.get();
        self.threshold = self.calibration.threshold(self.now, budget_per_day, start_threshold);
    }

    /// The model as bytes: versioned and checksummed.
    ///
    /// # Errors
    ///
    /// When it cannot be encoded.
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        snapshot::write(self)
    }

    /// A model from bytes; it continues bit for bit where the other one stopped.
    ///
    /// # Errors
    ///
    /// When the bytes are not a whole snapshot of this version, or hold what no model can have learnt.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut model: Self = snapshot::read(bytes)?;
        model.params.get().clone().check()?;
        if let Some(what) = model.fault() {
            return Err(SnapshotError::Impossible(what));
        }
        model.recover();
        Ok(model)
    }

    /// What of this model cannot have been learnt: bounds that are exceeded, trees that a point cannot walk down.
    fn fault(&self) -> Option<&'static str> {
        if self.workloads.len() > MAX_WORKLOADS {
            return Some("so many workloads");
        }
        let own = [
            self.host.fault(),
            self.detector.fault(self.params.get()),
            self.own.fault(self.params.get()),
            self.episodes.fault(),
            self.calibration.fault(),
            (!self.threshold.is_sound()).then_some("the threshold"),
            (!self.pool.is_sound()).then_some("sequences of the host"),
            (!self.measures.is_sound()).then_some("distributions of the host"),
            (!judge::are_sound(&self.recent)).then_some("recent subtrees"),
        ];
        own.into_iter().flatten().next().or_else(|| self.workloads.values().find_map(Workload::fault))
    }
}
