//! One host's days through one model, in event time: score, then learn. Everything that is reported comes from here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::ensure;
use model::random::Random;
use model::replay::Replay;
use model::{Body, Coordinate, EpisodeView, Event, Model, Params, Standing, Time, Verdict};

use super::belongs::{Labels, Part};
use super::copies;
use super::policy::{self, Policy};
use super::track::{DayNumber, Rise, SpanNumber, Track, Unit};
use crate::corpus::Day;
use crate::detectors::{self, Detector, EventKey, Seen, raw};
use crate::labels::Split;

pub(super) const HOUR: u64 = 3_600_000_000_000;
const MINUTE: u64 = 60_000_000_000;
/// Share of the training days after which vectors are those of a baseline that exists.
const LATE: f64 = 0.5;
/// Names of our own rows.
pub const FULL: &str = "Stockade, full";
/// Facts without the forest.
pub const FACTS: &str = "facts only";
/// Whatever is told at any score.
pub const NOVELTY: &str = "novelty told at any score";
/// Episodes that would be denied.
pub const DENIED: &str = "would be denied";
/// Subtrees whose running score is remembered.
const MAX_SUBTREES: usize = 65_536;
/// Deeds that are named of an attack.
const MAX_DEEDS: usize = 12;

/// How a pass is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of the model.
    pub params: Params,
    /// Seed of the rivals.
    pub seed: u64,
    /// Rivals beside our own rows.
    pub rivals: bool,
    /// Folder of scores that rivals gave outside of this program.
    pub outside: Option<PathBuf>,
    /// A coordinate that the model must do without.
    pub without: Option<Coordinate>,
    /// Shuffle the calls inside each window: order is gone, everything else stays.
    pub shuffle_calls: bool,
    /// Further events that are learnt.
    pub taught: Taught,
}

impl Plan {
    /// The whole system with this seed and nothing beside it.
    pub fn alone(params: Params) -> Self {
        let seed = params.seed;
        let (taught, shuffle_calls) = (Taught::default(), false);
        Self { params, seed, rivals: false, outside: None, without: None, shuffle_calls, taught }
    }
}

/// Events that are put among those of a training day, in order of time.
pub type Taught = Arc<BTreeMap<DayNumber, Vec<Event>>>;

/// What came out of one host.
pub struct Passed {
    /// Tracks by row, in the order of the table.
    pub tracks: Vec<Track>,
    /// What each attack did, with the time of each deed.
    pub deeds: BTreeMap<SpanNumber, Vec<(Time, String)>>,
    /// Highest risen score of each minute of a judged day: benign, attack.
    pub timeline: BTreeMap<DayNumber, Vec<(f64, f64)>>,
    /// New facts of each hour, from the first event on.
    pub new_facts: Vec<u32>,
    /// Events judged.
    pub events: u64,
    /// What could not be done.
    pub notes: Vec<String>,
    /// The model at the end.
    pub model: Model,
}

/// Takes a host's days through. `numbers` are the days' places among all.
///
/// # Errors
///
/// When a journal is damaged, a parameter is out of range, or a rival cannot score an event.
pub fn pass(days: &[(DayNumber, &Day)], plan: &Plan) -> anyhow::Result<Passed> {
    let mut rivals = if plan.rivals { detectors::all(plan.seed) } else { Vec::new() };
    if let (Some(folder), Some((_, day))) = (&plan.outside, days.first()) {
        rivals.extend(detectors::from_outside(folder, &day.cycle.host)?);
    }
    pass_beside(days, plan, rivals)
}

/// The same beside these rivals and no others.
///
/// # Errors
///
/// As [`pass`].
pub fn pass_beside(days: &[(DayNumber, &Day)], plan: &Plan, rivals: Vec<Box<dyn Detector>>) -> anyhow::Result<Passed> {
    let mut model = Model::new(plan.params.clone())?;
    if let Some(coordinate) = plan.without {
        model.leave_out(coordinate);
    }
    let mut run = Run::new(model, plan, rivals);
    let training: usize =
        days.iter().filter(|(_, day)| day.cycle.split == Split::Train).map(|(_, d)| d.journal.rows()).sum();
    let mut learnt = 0;
    let mut frozen = false;
    for (number, day) in days {
        let split = day.cycle.split;
        if split != Split::Train && !frozen {
            run.settle();
            frozen = true;
        }
        let labels = Labels::of(*number, day);
        let taught = plan.taught.get(number).map_or([].as_slice(), Vec::as_slice);
        for (place, event) in copies::among(day.events(), taught).enumerate() {
            let event = run.prepared(event?);
            let key = EventKey { day: *number as u32, place: place as u32 };
            if split == Split::Train {
                learnt += 1;
                run.learn(&event, key, learnt as f64 >= LATE * training as f64);
            } else {
                run.judge(&event, key, split, *number, &labels)?;
            }
        }
        run.policy.end_day();
    }
    if !frozen {
        run.settle();
    }
    run.done()
}

/// What the episodes of subtrees have reached. One that stays high without new evidence is not told again.
#[derive(Clone, Debug, Default)]
pub(super) struct Running(BTreeMap<u64, (Time, f64, f64)>);

impl Running {
    /// Score and sum of facts of an episode, each only if it has never been as high.
    pub(super) fn risen(&mut self, episode: &EpisodeView) -> (f64, f64) {
        if self.0.len() >= MAX_SUBTREES {
            self.0.clear();
        }
        let known = self.0.entry(episode.anchor).or_insert((episode.started, 0.0, 0.0));
        if known.0 != episode.started {
            *known = (episode.started, 0.0, 0.0);
        }
        let full = if episode.score > known.1 { episode.score } else { 0.0 };
        let facts = if episode.fact_sum > known.2 { episode.fact_sum } else { 0.0 };
        (known.1, known.2) = (known.1.max(episode.score), known.2.max(episode.fact_sum));
        (full, facts)
    }
}

struct Run {
    replay: Replay,
    rivals: Vec<Box<dyn Detector>>,
    policy: Policy,
    passed: Tracks,
    running: Running,
    attacked: BTreeMap<u64, Time>,
    attack_events: BTreeMap<SpanNumber, u64>,
    first: Option<u64>,
    last: Time,
    shuffle: Option<Random>,
}

struct Tracks {
    own: [Track; 4],
    rivals: Vec<Track>,
    deeds: BTreeMap<SpanNumber, Vec<(Time, String)>>,
    timeline: BTreeMap<DayNumber, Vec<(f64, f64)>>,
    new_facts: Vec<u32>,
    events: u64,
    notes: Vec<String>,
}

impl Run {
    fn new(model: Model, plan: &Plan, rivals: Vec<Box<dyn Detector>>) -> Self {
        let passed = Tracks {
            own: [FULL, FACTS, NOVELTY, DENIED].map(Track::named),
            rivals: rivals.iter().map(|rival| Track::named(rival.name())).collect(),
            deeds: BTreeMap::new(),
            timeline: BTreeMap::new(),
            new_facts: Vec::new(),
            events: 0,
            notes: Vec::new(),
        };
        Self {
            replay: Replay::new(model),
            rivals,
            policy: Policy::default(),
            passed,
            running: Running::default(),
            attacked: BTreeMap::new(),
            attack_events: BTreeMap::new(),
            first: None,
            last: Time::default(),
            shuffle: plan.shuffle_calls.then(|| Random::new(plan.seed ^ 0x73_6875)),
        }
    }

    fn prepared(&mut self, mut event: Event) -> Event {
        if let (Some(random), Body::Window(window)) = (&mut self.shuffle, &mut event.body) {
            for at in (1..window.trace.len()).rev() {
                window.trace.swap(at, random.below(at + 1));
            }
        }
        self.last = event.at;
        event
    }

    fn learn(&mut self, event: &Event, key: EventKey, late: bool) {
        self.policy.note(event);
        let Some(verdict) = self.replay.feed(event).verdict else { return };
        let hour = (event.at.unix_ns - (*self.first.get_or_insert(event.at.unix_ns)).min(event.at.unix_ns)) / HOUR;
        let new = verdict.facts.iter().filter(|fact| fact.novel).count() as u32;
        if self.passed.new_facts.len() <= hour as usize && hour < 24 * 366 {
            self.passed.new_facts.resize(hour as usize + 1, 0);
        }
        if let Some(count) = self.passed.new_facts.get_mut(hour as usize) {
            *count += new;
        }
        if self.rivals.is_empty() {
            return;
        }
        let seen = Seen { key, event, verdict: &verdict, raw: raw(event), late };
        self.rivals.iter_mut().for_each(|rival| rival.learn(&seen));
    }

    /// The training is over: baselines are frozen, rivals fitted.
    fn settle(&mut self) {
        self.replay.freeze_all(self.last);
        for rival in &mut self.rivals {
            if let Err(error) = rival.settle() {
                self.passed.notes.push(format!("{} says nothing: {error:#}", rival.name()));
            }
        }
    }

    fn judge(
        &mut self,
        event: &Event,
        key: EventKey,
        split: Split,
        day: DayNumber,
        labels: &Labels,
    ) -> anyhow::Result<()> {
        self.policy.note(event);
        let step = self.replay.feed(event);
        let Some(verdict) = step.verdict else { return Ok(()) };
        self.passed.events += 1;
        let ours = self.our_scores(event, &verdict, step.standing);
        let rivals = self.ask_rivals(event, key, &verdict)?;
        let part = self.part(labels, event, &verdict);
        self.note_minute(event, day, ours[0], matches!(part, Part::Attack(_)));
        let tracks = self.passed.own.iter_mut().zip(ours).chain(self.passed.rivals.iter_mut().zip(rivals));
        match part {
            Part::Beside => (),
            Part::Benign(change) => {
                let unit = Unit { day, anchor: verdict.episode.anchor, hour: event.at.unix_ns / HOUR };
                tracks.for_each(|(track, score)| track.benign(split, unit, change, score));
            }
            Part::Attack(attack) => {
                let before = self.attack_events.entry(attack).or_insert(0);
                let lane = policy::lane(event, &verdict);
                for (track, score) in tracks {
                    track.attack(attack, Rise { at: event.at, score, before: *before, lane });
                }
                *before += 1;
                let deeds = self.passed.deeds.entry(attack).or_default();
                let own = !labels.is_in_service(attack) || verdict.facts.iter().any(|fact| fact.novel);
                if let Some(deed) = model::conduct::deed(event).filter(|_| own)
                    && deeds.len() < MAX_DEEDS
                    && !deeds.iter().any(|(_, said)| *said == deed)
                {
                    deeds.push((event.at, deed));
                }
            }
        }
        Ok(())
    }

    /// What an event is part of. What the attacked subtree does afterwards joins the attack's episode, whose finding has been
    /// told: an alarm there is neither found nor false, whoever raises it.
    fn part(&mut self, labels: &Labels, event: &Event, verdict: &Verdict) -> Part {
        let episode = &verdict.episode;
        match labels.part(event) {
            Part::Attack(attack) => {
                if self.attacked.len() < MAX_SUBTREES {
                    self.attacked.insert(episode.anchor, episode.started);
                }
                Part::Attack(attack)
            }
            Part::Benign(_) if self.attacked.get(&episode.anchor) == Some(&episode.started) => Part::Beside,
            part => part,
        }
    }

    /// A score that is none would be sorted somewhere: the evaluation ends instead.
    fn ask_rivals(&mut self, event: &Event, key: EventKey, verdict: &Verdict) -> anyhow::Result<Vec<f64>> {
        if self.rivals.is_empty() {
            return Ok(Vec::new());
        }
        let seen = Seen { key, event, verdict, raw: raw(event), late: true };
        let mut scores = Vec::with_capacity(self.rivals.len());
        for rival in &mut self.rivals {
            let score = rival.score(&seen)?;
            ensure!(score.is_finite(), "{} scores {key:?} with {score}", rival.name());
            scores.push(score);
        }
        Ok(scores)
    }

    /// Full, facts, novelty, denied.
    fn our_scores(&mut self, event: &Event, verdict: &Verdict, standing: Standing) -> [f64; 4] {
        let (full, facts) = self.running.risen(&verdict.episode);
        let told = policy::is_told_anyway(event, verdict, standing);
        let denied = self.policy.would_deny(event, verdict, standing);
        [full, facts, f64::from(u8::from(told)), if denied { full } else { 0.0 }]
    }

    fn note_minute(&mut self, event: &Event, day: DayNumber, score: f64, attack: bool) {
        let minutes = self.passed.timeline.entry(day).or_insert_with(|| vec![(0.0, 0.0); 24 * 60]);
        if let Some(slot) = minutes.get_mut((event.at.unix_ns / MINUTE % (24 * 60)) as usize) {
            let most = if attack { &mut slot.1 } else { &mut slot.0 };
            *most = f64::max(*most, score);
        }
    }

    fn done(mut self) -> anyhow::Result<Passed> {
        self.rivals.iter_mut().try_for_each(|rival| rival.finish())?;
        let Tracks { own, rivals, deeds, timeline, new_facts, events, notes } = self.passed;
        let tracks = own.into_iter().chain(rivals).collect();
        Ok(Passed { tracks, deeds, timeline, new_facts, events, notes, model: self.replay.into_model() })
    }
}
