//! How long a lasting benign change is noise.
//!
//! The recorded changes last minutes, so lasting ones are made: from the first test day on, the recorded events of the test
//! days are told as if something had changed for good. The model learns the training days, passes through the validation
//! days as they are, and then through the test days twice over (as other processes each time), without their attacks.
//! Beside each change runs the same without it, and what the changed workload causes above that is the change's.

mod change;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::replay::Replay;
use model::{Event, Model, Params};
use serde::{Deserialize, Serialize};

use self::change::{Change, changes};
use super::middle;
use crate::corpus::{Corpus, Day};
use crate::evaluate::belongs::{Labels, Part};
use crate::evaluate::copies::by_another;
use crate::evaluate::pass::{HOUR, Running};
use crate::evaluate::seeds::Spread;
use crate::evaluate::{DayNumber, Evaluation, HostDays, Options, at_once, numbered};
use crate::labels::Split;

/// How often the test days are gone through.
pub(super) const ROUNDS: usize = 2;

/// What a lasting change causes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// What is different from then on.
    pub change: String,
    /// On which host, where and how.
    pub details: Vec<String>,
    /// Runs: each seed on one of the hosts, in turn.
    pub runs: usize,
    /// Runs in which the changed workload has more findings than without the change, on any day.
    pub disturbed: usize,
    /// Of those, the ones in which it still has on the last day.
    pub unsettled: usize,
    /// Days until one without more findings; as many as are looked at when there was none.
    pub quiet_after: Spread,
    /// Days until the last one with more findings is over.
    pub noise_ends_after: Spread,
    /// Findings of the workload beyond those without the change: on the first day.
    pub first_day: Spread,
    /// On all days together.
    pub all_days: Spread,
    /// Days until one whose highest score of the workload is no higher than on the validation days, or that day without the
    /// change.
    pub in_range_after: Spread,
}

/// Test days of the host that has the fewest.
pub(super) fn test_days(corpus: &Corpus) -> usize {
    let of = |days: &Vec<Day>| days.iter().filter(|day| day.cycle.split == Split::Test).count();
    corpus.hosts.values().map(of).min().unwrap_or(0)
}

/// Every change that every host can have.
pub(super) fn recovery(corpus: &Corpus, options: &Options, each: &[Evaluation]) -> anyhow::Result<Vec<Recovery>> {
    let corpus = corpus.repeated(Split::Test, ROUNDS)?;
    let hosts = numbered(&corpus);
    let made: Vec<Vec<Change>> = hosts.iter().map(changes).collect::<anyhow::Result<_>>()?;
    // One host with each seed, in turn: a run is as long as four evaluations of the host.
    let runs = at_once(options.jobs, hosts.len().max(each.len()), |at| {
        let (host, evaluation) = (at % hosts.len(), &each[at % each.len()]);
        let params = Params { seed: evaluation.seed, ..options.params.clone() };
        let level = middle(evaluation).map_or(f64::INFINITY, |at| at.threshold);
        let courses = run(&hosts[host], params, &made[host], level)?;
        (options.progress)(&format!("{}: recovery, seed {}", name_of(&hosts[host]), evaluation.seed));
        Ok(courses)
    })?;
    let names: Vec<&str> = made.iter().flatten().fold(Vec::new(), |mut names, change| {
        if !names.contains(&change.name) {
            names.push(change.name);
        }
        names
    });
    Ok(names.into_iter().map(|name| told(name, &hosts, &made, &runs)).collect())
}

fn name_of<'a>(days: &'a HostDays) -> &'a str {
    days.first().map_or("", |(_, day)| day.cycle.host.as_str())
}

/// What a workload showed, day after day: findings and highest score.
#[derive(Clone, Debug, Default)]
struct Course {
    findings: Vec<usize>,
    highest: Vec<f64>,
}

/// A change's course, and that of the same workload without it.
struct Pair {
    name: &'static str,
    with: Course,
    without: Course,
    /// Highest score of the workload on the validation days.
    range: f64,
}

/// A world in which something has changed, or nothing.
struct World<'a> {
    change: Option<&'a Change>,
    replay: Replay,
    running: Running,
    /// Subtrees and hours of today with their highest scores, by workload.
    today: BTreeMap<Arc<str>, BTreeMap<(u64, u64), f64>>,
    courses: BTreeMap<Arc<str>, Course>,
}

impl World<'_> {
    fn take(&mut self, event: &Event, workloads: &BTreeSet<&str>) {
        let Some(verdict) = self.replay.feed(event).verdict else { return };
        let (score, _) = self.running.risen(&verdict.episode);
        if !workloads.contains(&*event.process.workload) {
            return;
        }
        let unit = (verdict.episode.anchor, event.at.unix_ns / HOUR);
        let units = self.today.entry(event.process.workload.clone()).or_default();
        let highest = units.entry(unit).or_insert(0.0);
        *highest = f64::max(*highest, score);
    }

    fn end_day(&mut self, workloads: &BTreeSet<&str>, level: f64) {
        let today = std::mem::take(&mut self.today);
        for workload in workloads {
            let scores = || today.get(*workload).into_iter().flat_map(BTreeMap::values);
            let course = self.courses.entry((*workload).into()).or_default();
            course.findings.push(scores().filter(|score| **score > level).count());
            course.highest.push(scores().copied().fold(0.0, f64::max));
        }
    }
}

/// One host with one seed: every change beside the world as it was.
fn run(days: &HostDays, params: Params, changes: &[Change], level: f64) -> anyhow::Result<Vec<Pair>> {
    let workloads: BTreeSet<&str> = changes.iter().map(|change| &*change.workload).collect();
    let replay = Replay::new(Model::new(params)?);
    let (running, today, courses) = (Running::default(), BTreeMap::new(), BTreeMap::new());
    let mut before = World { change: None, replay, running, today, courses };
    let of = |split: Split| days.iter().filter(move |(_, day)| day.cycle.split == split);
    for (_, day) in of(Split::Train) {
        day.events().try_for_each(|event| event.map(|event| drop(before.replay.feed(&event))))?;
    }
    if let Some((_, last)) = of(Split::Train).last() {
        before.replay.freeze_all(last.lasts()?.1);
    }
    for (number, day) in of(Split::Validation) {
        let labels = Labels::of(*number, day);
        for event in day.events() {
            let event = event?;
            match labels.part(&event) {
                Part::Benign(_) => before.take(&event, &workloads),
                Part::Attack(_) | Part::Beside => before.take(&event, &BTreeSet::new()),
            }
        }
        before.end_day(&workloads, level);
    }
    let ranges = std::mem::take(&mut before.courses);
    let worlds = std::iter::once(None).chain(changes.iter().map(Some)).map(|change| World {
        change,
        replay: before.replay.clone(),
        running: before.running.clone(),
        today: BTreeMap::new(),
        courses: BTreeMap::new(),
    });
    let mut worlds: Vec<World> = worlds.collect();
    for (round, (number, day)) in of(Split::Test).enumerate() {
        pass_day(&mut worlds, *number, day, round, &workloads)?;
        worlds.iter_mut().for_each(|world| world.end_day(&workloads, level));
    }
    Ok(pairs(&worlds, &ranges))
}

/// A test day without its attacks, in every world.
fn pass_day(
    worlds: &mut [World],
    number: DayNumber,
    day: &Day,
    place: usize,
    workloads: &BTreeSet<&str>,
) -> anyhow::Result<()> {
    let labels = Labels::of(number, day);
    for event in day.events() {
        let event = event?;
        if !matches!(labels.part(&event), Part::Benign(_)) {
            continue;
        }
        let event = by_another(event, place as u64 + 1);
        for world in worlds.iter_mut() {
            match world.change {
                Some(change) => world.take(&change.applied(event.clone(), place), workloads),
                None => world.take(&event, workloads),
            }
        }
    }
    Ok(())
}

fn pairs(worlds: &[World], ranges: &BTreeMap<Arc<str>, Course>) -> Vec<Pair> {
    let Some(unchanged) = worlds.iter().find(|world| world.change.is_none()) else { return Vec::new() };
    let pair = |world: &World| {
        let change = world.change?;
        let of = |courses: &BTreeMap<_, Course>| courses.get(&change.workload).cloned().unwrap_or_default();
        let range = of(ranges).highest.into_iter().fold(0.0, f64::max);
        Some(Pair { name: change.name, with: of(&world.courses), without: of(&unchanged.courses), range })
    };
    worlds.iter().filter_map(pair).collect()
}

impl Pair {
    /// Bits above the highest score of the validation days, and of that day without the change.
    fn beyond(&self) -> Vec<f64> {
        let days = self.with.highest.iter().zip(&self.without.highest);
        days.map(|(with, without)| (with - without.max(self.range)).max(0.0)).collect()
    }

    /// Findings that the change added, day by day.
    fn added(&self) -> Vec<f64> {
        let days = self.with.findings.iter().zip(&self.without.findings);
        days.map(|(with, without)| with.saturating_sub(*without) as f64).collect()
    }
}

/// Days until one on which a condition holds.
fn until(days: &[f64], holds: impl Fn(f64) -> bool) -> f64 {
    days.iter().position(|value| holds(*value)).unwrap_or(days.len()) as f64
}

/// Days until the last finding more.
fn noisy(days: &[f64]) -> f64 {
    days.iter().rposition(|more| *more > 0.0).map_or(0.0, |last| last as f64 + 1.0)
}

fn told(name: &str, hosts: &[HostDays], made: &[Vec<Change>], runs: &[Vec<Pair>]) -> Recovery {
    let pairs: Vec<&Pair> = runs.iter().flatten().filter(|pair| pair.name == name).collect();
    let added: Vec<Vec<f64>> = pairs.iter().map(|pair| pair.added()).collect();
    let disturbed: Vec<&Vec<f64>> = added.iter().filter(|days| days.iter().any(|more| *more > 0.0)).collect();
    let is_unsettled = |days: &&&Vec<f64>| days.last().is_some_and(|more| *more > 0.0);
    let details = hosts.iter().zip(made).flat_map(|(days, changes)| {
        let of = changes.iter().filter(|change| change.name == name);
        of.map(|change| format!("{}: {}", name_of(days), change.what))
    });
    Recovery {
        change: name.to_owned(),
        details: details.collect(),
        runs: pairs.len(),
        disturbed: disturbed.len(),
        unsettled: disturbed.iter().filter(is_unsettled).count(),
        quiet_after: Spread::of(added.iter().map(|days| until(days, |more| more == 0.0))),
        noise_ends_after: Spread::of(added.iter().map(|days| noisy(days))),
        first_day: Spread::of(added.iter().filter_map(|days| days.first().copied())),
        all_days: Spread::of(added.iter().map(|days| days.iter().sum())),
        in_range_after: Spread::of(pairs.iter().map(|pair| until(&pair.beyond(), |more| more == 0.0))),
    }
}
