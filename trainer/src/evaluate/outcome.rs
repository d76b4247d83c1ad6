//! From tracks to a table: thresholds, what is found, what is false, and the bounds of both.

use std::collections::BTreeMap;

use anyhow::bail;
use model::random::Random;
use serde::{Deserialize, Serialize};

use super::budget::{Promise, promise};
use super::track::{DayNumber, Lane, SpanNumber, Track};
use super::{DENIED, FULL, NOVELTY, Options, Robustness, Seeds, Whole, numbered};
use crate::corpus::{Corpus, Day};
use crate::labels::{Class, Kind, Span, Split};
use crate::stats::{self, Point};

const CONFIDENCE: f64 = 0.95;
const ROUNDS: usize = 2_000;
/// Points of a curve that are kept for a plot.
const MAX_POINTS: usize = 400;

/// Everything that the evaluation says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evaluation {
    /// Commit of the sources.
    pub commit: String,
    /// Hash over journals and labels.
    pub data: String,
    /// Seed.
    pub seed: u64,
    /// Hosts.
    pub hosts: Vec<String>,
    /// Host-days of training, validation and test.
    pub days: [usize; 3],
    /// Events judged in validation and test.
    pub events: u64,
    /// Budgets, alarms a host-day.
    pub budgets: Vec<f64>,
    /// The table.
    pub rows: Vec<Row>,
    /// What the levels of the whole system promise, and what came.
    #[serde(default)]
    pub promises: Vec<Promise>,
    /// The whole system with other seeds, when that was asked for.
    #[serde(default)]
    pub seeds: Option<Seeds>,
    /// With a tainted past, a changed world and a slow attack, when that was asked for.
    #[serde(default)]
    pub robustness: Option<Robustness>,
    /// Each attack of the test, by the whole system at the middle budget.
    pub attacks: Vec<AttackResult>,
    /// Each benign change of the test, by the whole system.
    pub changes: Vec<ChangeResult>,
    /// Would-be denials of benign subtrees at each budget.
    pub denials: Vec<AtBudget>,
    /// What is told at any score: its only operating point.
    pub novelty: Option<AtBudget>,
    /// At the threshold that is shipped: findings, and would-be denials.
    pub shipped: Vec<AtBudget>,
    /// Found by the whole system and not by the sum of bits, and the other way round, in-process attacks only.
    pub forest_brings: Option<(Vec<String>, Vec<String>)>,
    /// Scores of a test day with an attack, minute by minute: benign, attack.
    pub timeline: Option<(String, Vec<(f64, f64)>)>,
    /// New facts of each hour since the first event, host by host.
    pub new_facts: Vec<Vec<u32>>,
    /// What has to be known to read the table.
    pub notes: Vec<String>,
}

/// A row of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Detector.
    pub name: String,
    /// Chance that an attack outranks a benign unit.
    pub auc: Option<f64>,
    /// Average precision.
    pub ap: Option<f64>,
    /// The AUC with labels drawn by lot: far from a half means that the protocol is broken.
    pub auc_shuffled: Option<f64>,
    /// By budget.
    pub at: Vec<AtBudget>,
    /// Best possible, with a threshold from the test: never used.
    pub oracle: Vec<Oracle>,
    /// At the middle budget, by class.
    pub classes: Vec<ClassResult>,
    /// Median rank of an attack among the units of its day; 1 is the top.
    pub median_rank: Option<f64>,
    /// Points of the curves.
    pub curve: Vec<(f64, f64, f64)>,
    /// By recording.
    pub days: Vec<DayCount>,
}

/// What a detector did on one recorded day, by budget.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DayCount {
    /// Host and cycle.
    pub day: String,
    /// Attacks.
    pub attacks: usize,
    /// Attacks found.
    pub found: Vec<usize>,
    /// False alarms.
    pub false_alarms: Vec<usize>,
}

/// What a budget gives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AtBudget {
    /// Alarms a host-day.
    pub budget: f64,
    /// Above it there is an alarm; from the validation. `None`: nothing was said there at all.
    pub threshold: f64,
    /// Attacks found.
    pub found: usize,
    /// Attacks.
    pub of: usize,
    /// Exact interval of the share found.
    pub interval: (f64, f64),
    /// False alarms in the test.
    pub false_alarms: u64,
    /// The same a host-day.
    pub false_a_day: f64,
    /// Exact interval of that rate.
    pub false_interval: (f64, f64),
    /// Attacks not found, by name.
    pub missed: Vec<String>,
}

/// What a threshold from the test itself would find.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Oracle {
    /// Alarms a host-day.
    pub budget: f64,
    /// Attacks found.
    pub found: usize,
}

/// Detection of a class of attacks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClassResult {
    /// Class.
    pub class: Class,
    /// Found.
    pub found: usize,
    /// Attacks.
    pub of: usize,
    /// Bootstrap over attacks.
    pub interval: Option<(f64, f64)>,
}

/// What became of an attack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttackResult {
    /// Host and cycle.
    pub day: String,
    /// Name.
    pub name: String,
    /// Class.
    pub class: Class,
    /// Its highest score.
    pub peak: f64,
    /// Its place among the units of its day.
    pub rank: usize,
    /// Budgets at which it is found, largest first.
    pub found_at: Vec<f64>,
    /// At the middle budget: by which record.
    pub lane: Option<Lane>,
    /// Real seconds from its first operation to the finding.
    pub seconds_to_finding: Option<f64>,
    /// Real seconds from its first operation to the first novelty that is told at any score.
    pub seconds_to_novelty: Option<f64>,
    /// Real seconds from its first operation to the denial.
    pub seconds_to_denial: Option<f64>,
    /// Whether the denial, or else the finding, came before the harm; `None` when the harm has no time.
    pub before_harm: Option<bool>,
    /// What succeeded before the denial, or at all.
    pub succeeded: Vec<String>,
}

/// What a benign change caused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChangeResult {
    /// Name.
    pub name: String,
    /// How often it was made.
    pub times: usize,
    /// Times with a finding, by budget.
    pub findings: Vec<usize>,
    /// Times with a would-be denial, by budget.
    pub denials: Vec<usize>,
    /// Times with a novelty that is told at any score (severity Low).
    pub novelties: usize,
}

/// Whether there is something to evaluate.
pub(super) fn check(corpus: &Corpus) -> anyhow::Result<()> {
    for (split, why) in [
        (Split::Train, "baselines are learnt from them"),
        (Split::Validation, "thresholds come from them and from nothing else"),
        (Split::Test, "they are what is reported"),
    ] {
        if corpus.host_days(split) == 0 {
            bail!("the corpus has no days with split = {split:?}: {why}");
        }
    }
    let names = |split| {
        let days = corpus.days().filter(move |day| day.cycle.split == split);
        days.flat_map(|day| day.spans(Kind::Attack)).map(|span| span.name).collect::<std::collections::BTreeSet<_>>()
    };
    if let Some(both) = names(Split::Validation).intersection(&names(Split::Test)).next() {
        bail!("the attack {both:?} is in the validation and in the test: its threshold would have seen it");
    }
    Ok(())
}

/// The level above which no more than so many scores lie.
pub fn level(scores: impl Iterator<Item = f64>, allowed: usize) -> f64 {
    let mut scores: Vec<f64> = scores.collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    // With fewer units than the budget allows, anything at all is an alarm.
    scores.get(allowed).copied().unwrap_or(f64::MIN)
}

struct Test<'a> {
    days: BTreeMap<DayNumber, &'a Day>,
    attacks: Vec<(SpanNumber, Span)>,
    validation_days: f64,
    test_days: f64,
}

impl<'a> Test<'a> {
    fn of(corpus: &'a Corpus) -> Self {
        let days: BTreeMap<DayNumber, &Day> = numbered(corpus).into_iter().flatten().collect();
        let tests = days.iter().filter(|(_, day)| day.cycle.split == Split::Test);
        let attacks = tests.flat_map(|(number, day)| {
            day.spans(Kind::Attack).enumerate().map(|(span, label)| (SpanNumber { day: *number, span }, label))
        });
        Self {
            attacks: attacks.collect(),
            validation_days: corpus.host_days(Split::Validation) as f64,
            test_days: corpus.host_days(Split::Test) as f64,
            days,
        }
    }

    /// So that no more benign units of the validation than the budget allows lie above it.
    fn threshold(&self, track: &Track, budget: f64) -> f64 {
        level(track.benign_scores(Split::Validation), (budget * self.validation_days) as usize)
    }

    fn by_day(&self, track: &Track, at: &[AtBudget]) -> Vec<DayCount> {
        let tests = self.days.iter().filter(|(_, day)| day.cycle.split == Split::Test);
        let of = |(number, day): (&DayNumber, &&Day)| {
            let attacks: Vec<_> = self.attacks.iter().filter(|(attack, _)| attack.day == *number).collect();
            let units: Vec<f64> = track
                .benign
                .iter()
                .filter(|((split, unit), _)| *split == Split::Test && unit.day == *number)
                .map(|(_, score)| *score)
                .collect();
            let found = |at: &AtBudget| attacks.iter().filter(|(n, _)| track.peak(*n) > at.threshold).count();
            let false_alarms = |at: &AtBudget| units.iter().filter(|score| **score > at.threshold).count();
            DayCount {
                day: day.name().to_string(),
                attacks: attacks.len(),
                found: at.iter().map(found).collect(),
                false_alarms: at.iter().map(false_alarms).collect(),
            }
        };
        tests.map(of).collect()
    }

    fn at(&self, track: &Track, budget: f64, threshold: f64) -> AtBudget {
        let is_found = |attack: &(SpanNumber, Span)| track.peak(attack.0) > threshold;
        let found = self.attacks.iter().filter(|attack| is_found(attack)).count();
        let false_alarms = track.benign_scores(Split::Test).filter(|score| *score > threshold).count() as u64;
        let missed = self.attacks.iter().filter(|attack| !is_found(attack));
        let tail = 1.0 - (1.0 - CONFIDENCE) / 2.0;
        let bound = if false_alarms == 0 { CONFIDENCE } else { tail };
        AtBudget {
            budget,
            threshold,
            found,
            of: self.attacks.len(),
            interval: stats::clopper_pearson(found as u64, self.attacks.len() as u64, CONFIDENCE),
            false_alarms,
            false_a_day: false_alarms as f64 / self.test_days,
            false_interval: (
                stats::poisson_lower(false_alarms, tail) / self.test_days,
                stats::poisson_upper(false_alarms, bound) / self.test_days,
            ),
            missed: missed.map(|attack| self.name(attack)).collect(),
        }
    }

    fn name(&self, (number, span): &(SpanNumber, Span)) -> String {
        let day = self.days.get(&number.day).map(|day| day.name()).unwrap_or_default();
        format!("{} ({day})", span.name)
    }

    fn rank(&self, track: &Track, attack: SpanNumber) -> usize {
        let peak = track.peak(attack);
        let above = |((split, unit), score): (&(Split, super::track::Unit), &f64)| {
            *split == Split::Test && unit.day == attack.day && *score >= peak
        };
        1 + track.benign.iter().filter(|(key, score)| above((key, score))).count()
    }

    fn row(&self, track: &Track, options: &Options) -> Row {
        let mut scored: Vec<(f64, bool)> = track.benign_scores(Split::Test).map(|score| (score, false)).collect();
        // An attack of which nothing was seen ranks below everything that was.
        let floor = scored.iter().map(|(score, _)| *score).fold(0.0, f64::min) - 1.0;
        scored.extend(self.attacks.iter().map(|(number, _)| (track.peak(*number).max(floor), true)));
        let at: Vec<AtBudget> =
            options.budgets.iter().map(|budget| self.at(track, *budget, self.threshold(track, *budget))).collect();
        let oracle = options.budgets.iter().map(|budget| {
            let level = level(track.benign_scores(Split::Test), (budget * self.test_days) as usize);
            Oracle { budget: *budget, found: self.at(track, *budget, level).found }
        });
        let mut ranks: Vec<f64> = self.attacks.iter().map(|(number, _)| self.rank(track, *number) as f64).collect();
        Row {
            name: track.name.clone(),
            auc: stats::auc(&scored),
            ap: stats::average_precision(&scored),
            auc_shuffled: stats::auc(&by_lot(&scored, options.seed)),
            oracle: oracle.collect(),
            classes: self.classes(track, middle(&at), options.seed),
            median_rank: (!ranks.is_empty()).then(|| stats::quantile(&mut ranks, 0.5)),
            curve: thinned(&stats::curve(&scored)),
            days: self.by_day(track, &at),
            at,
        }
    }

    fn classes(&self, track: &Track, at: Option<&AtBudget>, seed: u64) -> Vec<ClassResult> {
        let Some(at) = at else { return Vec::new() };
        let of = |class: Class| {
            let attacks = self.attacks.iter().filter(|(_, span)| span.class == Some(class));
            let hits: Vec<f64> =
                attacks.map(|(number, _)| f64::from(u8::from(track.peak(*number) > at.threshold))).collect();
            ClassResult {
                class,
                found: hits.iter().sum::<f64>() as usize,
                of: hits.len(),
                interval: stats::bootstrap(&hits, ROUNDS, CONFIDENCE, seed),
            }
        };
        Class::ALL.into_iter().map(of).collect()
    }

    fn attack(&self, attack: &(SpanNumber, Span), own: &Own, full: &Row, deeds: &Whole) -> AttackResult {
        let (number, span) = attack;
        let day = self.days.get(&number.day);
        let factor = day.map_or(1.0, |day| day.cycle.clock_factor);
        let seconds = |unix_ns: u64| unix_ns.saturating_sub(span.start_unix_ns) as f64 / 1e9 / factor;
        let threshold = middle(&full.at).map_or(f64::INFINITY, |at| at.threshold);
        let finding = own.full.first_above(*number, threshold);
        let novelty = own.novelty.and_then(|track| track.first_above(*number, 0.0));
        let denial = own.denied.and_then(|track| track.first_above(*number, threshold));
        let stopped = denial.or(finding);
        let done = deeds.deeds.get(number).into_iter().flatten();
        let before = |at: &model::Time| denial.is_none_or(|denial| *at <= denial.at);
        AttackResult {
            day: day.map(|day| day.name().to_string()).unwrap_or_default(),
            name: span.name.clone(),
            class: span.class.unwrap_or(Class::Visible),
            peak: own.full.peak(*number).max(0.0),
            rank: self.rank(own.full, *number),
            found_at: full.at.iter().filter(|at| own.full.peak(*number) > at.threshold).map(|at| at.budget).collect(),
            lane: finding.map(|rise| rise.lane),
            seconds_to_finding: finding.map(|rise| seconds(rise.at.unix_ns)),
            seconds_to_novelty: novelty.map(|rise| seconds(rise.at.unix_ns)),
            seconds_to_denial: denial.map(|rise| seconds(rise.at.unix_ns)),
            before_harm: span.harm_unix_ns.map(|harm| stopped.is_some_and(|rise| rise.at.unix_ns <= harm)),
            succeeded: done.filter(|(at, _)| before(at)).map(|(_, deed)| deed.clone()).collect(),
        }
    }

    fn changes(&self, own: &Own, full: &Row) -> Vec<ChangeResult> {
        let mut results: BTreeMap<String, ChangeResult> = BTreeMap::new();
        for (number, day) in self.days.iter().filter(|(_, day)| day.cycle.split == Split::Test) {
            for (span, label) in day.spans(Kind::Benign).enumerate() {
                let number = SpanNumber { day: *number, span };
                let result = results.entry(label.name.clone()).or_insert_with(|| ChangeResult {
                    name: label.name.clone(),
                    times: 0,
                    findings: vec![0; full.at.len()],
                    denials: vec![0; full.at.len()],
                    novelties: 0,
                });
                let most = |track: Option<&Track>| track.and_then(|track| track.changes.get(&number)).copied();
                result.times += 1;
                result.novelties += usize::from(most(own.novelty).is_some_and(|score| score > 0.0));
                for (at, budget) in full.at.iter().enumerate() {
                    let above = |score: Option<f64>| usize::from(score.is_some_and(|score| score > budget.threshold));
                    result.findings[at] += above(most(Some(own.full)));
                    result.denials[at] += above(most(own.denied));
                }
            }
        }
        results.into_values().collect()
    }
}

/// Our own tracks.
struct Own<'a> {
    full: &'a Track,
    novelty: Option<&'a Track>,
    denied: Option<&'a Track>,
}

/// Everything together.
pub(super) fn judge(corpus: &Corpus, tracks: Vec<Track>, whole: Whole, options: &Options, commit: &str) -> Evaluation {
    let test = Test::of(corpus);
    let named = |name: &str| tracks.iter().find(|track| track.name == name);
    let nothing = Track::named(FULL);
    let own = Own { full: named(FULL).unwrap_or(&nothing), novelty: named(NOVELTY), denied: named(DENIED) };
    let rows: Vec<Row> = tracks
        .iter()
        .filter(|track| ![NOVELTY, DENIED].contains(&track.name.as_str()))
        .map(|track| test.row(track, options))
        .collect();
    let full = test.row(own.full, options);
    let denials = full.at.iter().filter_map(|at| Some(test.at(own.denied?, at.budget, at.threshold))).collect();
    let attacks: Vec<AttackResult> =
        test.attacks.iter().map(|attack| test.attack(attack, &own, &full, &whole)).collect();
    let timeline = test.attacks.first().and_then(|(number, _)| {
        let day = test.days.get(&number.day)?;
        Some((day.name().to_string(), whole.timeline.get(&number.day)?.clone()))
    });
    let mut notes = whole.notes;
    let smallest = options.budgets.iter().copied().fold(f64::INFINITY, f64::min);
    if smallest * test.validation_days < 1.0 {
        notes.push(format!(
            "{} validation host-days cannot measure a budget of {smallest} a day: its threshold is the highest benign score seen there",
            test.validation_days
        ));
    }
    Evaluation {
        commit: commit.to_owned(),
        data: corpus.hash.clone(),
        seed: options.seed,
        hosts: corpus.hosts.keys().cloned().collect(),
        days: [Split::Train, Split::Validation, Split::Test].map(|split| corpus.host_days(split)),
        events: whole.events,
        budgets: options.budgets.clone(),
        forest_brings: forest_brings(&test, &tracks, options),
        attacks,
        promises: full.at.iter().filter_map(|at| promise(own.full, at.budget, at.threshold, test.test_days)).collect(),
        changes: test.changes(&own, &full),
        denials,
        novelty: own.novelty.map(|track| test.at(track, 0.0, 0.0)),
        shipped: [Some(own.full), own.denied]
            .into_iter()
            .flatten()
            .map(|track| test.at(track, 0.0, options.params.start_threshold))
            .collect(),
        timeline,
        new_facts: whole.new_facts,
        notes,
        rows,
        seeds: None,
        robustness: None,
    }
}

/// In-process attacks that only the whole system finds at the middle budget, and those that only the sum of bits finds.
fn forest_brings(test: &Test, tracks: &[Track], options: &Options) -> Option<(Vec<String>, Vec<String>)> {
    let full = tracks.iter().find(|track| track.name == FULL)?;
    let sum = tracks.iter().find(|track| track.name.starts_with("sum of surprise bits"))?;
    let budget = *options.budgets.get(options.budgets.len() / 2)?;
    let found = |track: &Track, number| track.peak(number) > test.threshold(track, budget);
    let only = |one: &Track, other: &Track| {
        let attacks = test.attacks.iter().filter(|(_, span)| span.class == Some(Class::InProcess));
        let only = attacks.filter(|(number, _)| found(one, *number) && !found(other, *number));
        only.map(|attack| test.name(attack)).collect::<Vec<_>>()
    };
    Some((only(full, sum), only(sum, full)))
}

fn middle(at: &[AtBudget]) -> Option<&AtBudget> {
    at.get(at.len() / 2)
}

/// The same scores with labels drawn by lot.
fn by_lot(scored: &[(f64, bool)], seed: u64) -> Vec<(f64, bool)> {
    let mut labels: Vec<bool> = scored.iter().map(|(_, positive)| *positive).collect();
    let mut random = Random::new(seed ^ 0x6c6f74);
    for at in (1..labels.len()).rev() {
        labels.swap(at, random.below(at + 1));
    }
    scored.iter().zip(labels).map(|((score, _), label)| (*score, label)).collect()
}

fn thinned(points: &[Point]) -> Vec<(f64, f64, f64)> {
    let step = points.len().div_ceil(MAX_POINTS).max(1);
    let kept = points.iter().enumerate().filter(|(at, _)| at % step == 0 || at + 1 == points.len());
    kept.map(|(_, point)| (point.false_share, point.recall, point.precision)).collect()
}
