//! The evaluation: score-then-learn in event time, thresholds from the validation only, every number with its bound.
//!
//! Days are split by cycle: baselines are learnt on the training days and frozen; on the validation days each detector's
//! threshold is chosen so that a budget of false alarms a host-day is kept; the test days are looked at once. What the best
//! threshold of the test itself would have given (the oracle) is printed apart and never used.

mod belongs;
mod budget;
mod copies;
mod outcome;
mod pass;
mod policy;
mod robustness;
mod seeds;
mod track;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use model::{Coordinate, Params};

pub use belongs::{Labels, Part};
pub use budget::{PROMISED, Promise, promise};
pub use outcome::{AtBudget, AttackResult, ChangeResult, ClassResult, DayCount, Evaluation, Oracle, Row, level};
pub use pass::{DENIED, FACTS, FULL, NOVELTY, Passed, Plan, Taught, pass, pass_beside};
pub use policy::lane;
pub use robustness::{Contaminated, Kinds, Question, Ramp, Recovery, Robustness, robustness};
pub use seeds::{Seeds, Spread, over_seeds};
pub use track::{DayNumber, Lane, Rise, SpanNumber, Track};

use crate::corpus::{Corpus, Day};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of the model.
    pub params: Params,
    /// Seed of everything random in the evaluation.
    pub seed: u64,
    /// Alarms a host-day that are allowed, each a column of the table.
    pub budgets: Vec<f64>,
    /// Rivals beside our own rows.
    pub rivals: bool,
    /// Folder of scores that rivals gave outside of this program: HOST.parquet.
    pub outside: Option<PathBuf>,
    /// Our own system without each coordinate in turn.
    pub ablations: bool,
    /// A control: shuffle the calls inside each window.
    pub shuffle_calls: bool,
    /// Further events that are learnt: [`robustness`] asks what they spoil.
    pub taught: Taught,
    /// Passes at once.
    pub jobs: usize,
    /// Told about each finished pass.
    pub progress: fn(&str),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            params: Params::default(),
            seed: 1,
            budgets: vec![10.0, 1.0, 0.1],
            rivals: true,
            outside: None,
            ablations: true,
            shuffle_calls: false,
            taught: Taught::default(),
            jobs: 2,
            progress: |_| (),
        }
    }
}

/// Evaluates a corpus.
///
/// # Errors
///
/// When a journal is damaged, a parameter is out of range, or a split is missing.
pub fn evaluate(corpus: &Corpus, options: &Options, commit: &str) -> anyhow::Result<Evaluation> {
    outcome::check(corpus)?;
    let hosts = numbered(corpus);
    let passes = passes(&hosts, options);
    let results = run_all(&passes, options)?;
    let mut tracks: Vec<Track> = Vec::new();
    let mut whole = Whole::default();
    for ((label, _, _), passed) in passes.iter().zip(results) {
        match label {
            None => {
                whole.take_in(&passed);
                passed.tracks.into_iter().enumerate().for_each(|(at, track)| join(&mut tracks, at, track));
            }
            Some(coordinate) => {
                let full = passed.tracks.into_iter().next().unwrap_or_default();
                let named = Track { name: format!("full, without {}", coordinate.name()), ..full };
                let at = tracks.iter().position(|track| track.name == named.name).unwrap_or(tracks.len());
                join(&mut tracks, at, named);
            }
        }
    }
    Ok(outcome::judge(corpus, tracks, whole, options, commit))
}

/// What the passes of the whole system saw, all hosts together.
#[derive(Default)]
pub(crate) struct Whole {
    deeds: BTreeMap<SpanNumber, Vec<(model::Time, String)>>,
    timeline: BTreeMap<DayNumber, Vec<(f64, f64)>>,
    new_facts: Vec<Vec<u32>>,
    events: u64,
    notes: Vec<String>,
}

impl Whole {
    fn take_in(&mut self, passed: &Passed) {
        self.deeds.extend(passed.deeds.clone());
        self.timeline.extend(passed.timeline.clone());
        self.new_facts.push(passed.new_facts.clone());
        self.events += passed.events;
        self.notes.extend(passed.notes.clone());
    }
}

fn join(tracks: &mut Vec<Track>, at: usize, track: Track) {
    match tracks.get_mut(at) {
        Some(known) => known.join(track),
        None => tracks.push(track),
    }
}

/// A host's days with their numbers.
pub type HostDays<'a> = Vec<(DayNumber, &'a Day)>;

/// Every day with its number among all.
pub fn numbered(corpus: &Corpus) -> Vec<HostDays<'_>> {
    let mut numbers = 0..;
    corpus.hosts.values().map(|days| numbers.by_ref().zip(days).collect()).collect()
}

type PassOf<'a, 'b> = (Option<Coordinate>, &'b HostDays<'a>, Plan);

fn passes<'a, 'b>(hosts: &'b [HostDays<'a>], options: &Options) -> Vec<PassOf<'a, 'b>> {
    let plan = Plan {
        params: options.params.clone(),
        seed: options.seed,
        rivals: options.rivals,
        outside: options.outside.clone(),
        without: None,
        shuffle_calls: options.shuffle_calls,
        taught: options.taught.clone(),
    };
    let mut all: Vec<PassOf> = hosts.iter().map(|days| (None, days, plan.clone())).collect();
    if options.ablations {
        for coordinate in Coordinate::ALL {
            let plan = Plan { without: Some(coordinate), rivals: false, outside: None, ..plan.clone() };
            all.extend(hosts.iter().map(|days| (Some(coordinate), days, plan.clone())));
        }
    }
    all
}

/// Runs the passes, a few at once; their results in the order of the passes.
fn run_all(passes: &[PassOf], options: &Options) -> anyhow::Result<Vec<Passed>> {
    at_once(options.jobs, passes.len(), |at| {
        let (without, days, plan) = &passes[at];
        let result = pass(days, plan);
        let host = days.first().map_or("", |(_, day)| day.cycle.host.as_str());
        let what = without.map_or("whole system and rivals", Coordinate::name);
        (options.progress)(&format!("{host}: {what}"));
        result
    })
}

/// Does so many pieces of work, a few at once; their results in the order of their numbers.
fn at_once<T: Send>(
    jobs: usize,
    pieces: usize,
    work: impl Fn(usize) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let next = Mutex::new(0..pieces);
    let done: Mutex<BTreeMap<usize, anyhow::Result<T>>> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, pieces.max(1)) {
            scope.spawn(|| {
                loop {
                    let Some(at) = next.lock().ok().and_then(|mut next| next.next()) else { return };
                    let result = work(at);
                    if let Ok(mut done) = done.lock() {
                        done.insert(at, result);
                    }
                }
            });
        }
    });
    let done = done.into_inner().map_err(|_| anyhow::anyhow!("a pass panicked: this is a bug"))?;
    done.into_values().collect()
}
