//! One host's days through one model, in event time: score, then learn. Everything that is reported comes from here.

use std::collections::BTreeMap;

use model::random::Random;
use model::replay::Replay;
use model::{Body, Coordinate, Event, Model, Params, Standing, Time, Verdict};

use super::belongs::{Labels, Part};
use super::policy::{self, Policy};
use super::track::{DayNumber, Rise, SpanNumber, Track, Unit};
use crate::corpus::Day;
use crate::detectors::{self, Detector, Seen, raw};
use crate::labels::Split;

const HOUR: u64 = 3_600_000_000_000;
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
    /// A coordinate that the model must do without.
    pub without: Option<Coordinate>,
    /// Shuffle the calls inside each window: order is gone, everything else stays.
    pub shuffle_calls: bool,
}

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
/// When a journal is damaged, or a parameter is out of range.
pub fn pass(days: &[(DayNumber, &Day)], plan: &Plan) -> anyhow::Result<Passed> {
    let mut model = Model::new(plan.params.clone())?;
    if let Some(coordinate) = plan.without {
        model.leave_out(coordinate);
    }
    let mut run = Run::new(model, plan);
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
        for event in day.events() {
            let event = run.prepared(event?);
            if split == Split::Train {
                learnt += 1;
                run.learn(&event, learnt as f64 >= LATE * training as f64);
            } else {
                run.judge(&event, split, *number, &labels);
            }
        }
        run.policy.end_day();
    }
    if !frozen {
        run.settle();
    }
    Ok(run.done())
}

struct Run {
    replay: Replay,
    rivals: Vec<Box<dyn Detector>>,
    policy: Policy,
    passed: Tracks,
    running: BTreeMap<u64, (Time, f64, f64)>,
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
    fn new(model: Model, plan: &Plan) -> Self {
        let rivals = if plan.rivals { detectors::all(plan.seed) } else { Vec::new() };
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
            running: BTreeMap::new(),
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

    fn learn(&mut self, event: &Event, late: bool) {
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
        let seen = Seen { event, verdict: &verdict, raw: raw(event), late };
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

    fn judge(&mut self, event: &Event, split: Split, day: DayNumber, labels: &Labels) {
        self.policy.note(event);
        let step = self.replay.feed(event);
        let Some(verdict) = step.verdict else { return };
        self.passed.events += 1;
        let ours = self.our_scores(event, &verdict, step.standing);
        let rivals = self.ask_rivals(event, &verdict);
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

    fn ask_rivals(&mut self, event: &Event, verdict: &Verdict) -> Vec<f64> {
        if self.rivals.is_empty() {
            return Vec::new();
        }
        let seen = Seen { event, verdict, raw: raw(event), late: true };
        self.rivals.iter_mut().map(|rival| rival.score(&seen)).collect()
    }

    /// Full, facts, novelty, denied. An episode that stays high without new evidence is not told again.
    fn our_scores(&mut self, event: &Event, verdict: &Verdict, standing: Standing) -> [f64; 4] {
        let episode = &verdict.episode;
        if self.running.len() >= MAX_SUBTREES {
            self.running.clear();
        }
        let running = self.running.entry(episode.anchor).or_insert((episode.started, 0.0, 0.0));
        if running.0 != episode.started {
            *running = (episode.started, 0.0, 0.0);
        }
        let full = if episode.score > running.1 { episode.score } else { 0.0 };
        let facts = if episode.fact_sum > running.2 { episode.fact_sum } else { 0.0 };
        (running.1, running.2) = (running.1.max(episode.score), running.2.max(episode.fact_sum));
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

    fn done(self) -> Passed {
        let Tracks { own, rivals, deeds, timeline, new_facts, events, notes } = self.passed;
        let tracks = own.into_iter().chain(rivals).collect();
        Passed { tracks, deeds, timeline, new_facts, events, notes, model: self.replay.into_model() }
    }
}
