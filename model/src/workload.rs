//! What is known of one workload: the learnt baseline, and the frozen copy that it is judged against once it is ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::counts::Counts;
use crate::drift::Drift;
use crate::event::Time;
use crate::facts::Fact;
use crate::grams::Grams;
use crate::numeric::Numbers;
use crate::sequence::Sequences;

/// Nanoseconds of a day.
const DAY: u64 = 86_400_000_000_000;
/// Days and process subtrees by which a fact enters a baseline that was frozen without it.
const DAYS_TO_ADMIT: u32 = 2;
const TREES_TO_ADMIT: u32 = 2;
/// Trigrams of one program that wait to be admitted; further ones are counted as overflow.
const MAX_WAITING: usize = 1_024;
/// What nobody else has shown within so many days waits no longer: a monthly job shows it again in time.
const DAYS_TO_WAIT: u64 = 35;
/// Programs that a workload holds.
pub const MAX_PROGRAMS: usize = 256;
/// For so long the counts of a program that is another one now count half; unix clock.
const STALE_NS: u64 = DAY;

/// Distributions that are compared one-sidedly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Bytes that a flow has sent.
    pub flow_bytes: Numbers,
    /// Bytes that a window has read and written.
    pub window_bytes: Numbers,
    /// Failed calls in a window, per 128.
    pub errors: Numbers,
    /// Calls refused for lack of permission in a window, per 128.
    pub permission_errors: Numbers,
    /// Different destinations of a process subtree in a minute.
    pub destinations: Numbers,
}

impl Measures {
    /// Whether distributions that were read from a snapshot can have been learnt.
    pub(crate) fn is_sound(&self) -> bool {
        let all = [&self.flow_bytes, &self.window_bytes, &self.errors, &self.permission_errors, &self.destinations];
        all.into_iter().all(Numbers::is_sound)
    }
}

/// Facts and sequences: what can be frozen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Facts.
    pub facts: Counts,
    /// Sequences by program.
    pub sequences: BTreeMap<Arc<str>, Sequences>,
    /// Programs that did not fit.
    pub overflow: u64,
}

impl Baseline {
    /// The sequences of a program, to learn into; `None` when there is no room for another one.
    pub fn sequences_mut(&mut self, program: &Arc<str>) -> Option<&mut Sequences> {
        if !self.sequences.contains_key(program) && self.sequences.len() >= MAX_PROGRAMS {
            self.overflow = self.overflow.saturating_add(1);
            return None;
        }
        Some(self.sequences.entry(program.clone()).or_default())
    }

    fn fault(&self) -> Option<&'static str> {
        let sequences = self.sequences.len() > MAX_PROGRAMS || !self.sequences.values().all(Sequences::is_sound);
        sequences.then_some("sequences of a program").or_else(|| self.facts.fault())
    }

    /// How many facts are of a kind.
    pub fn count(&self, is: impl Fn(&Fact) -> bool) -> usize {
        self.facts.facts().filter(|(fact, _)| is(fact)).count()
    }
}

/// One workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Grows as long as it is not judged; afterwards only by what the learning rules admit.
    pub learned: Baseline,
    /// Judged against once ready.
    pub frozen: Option<Box<Baseline>>,
    /// Distributions.
    pub measures: Measures,
    /// Trigrams by program that the frozen baseline lacks, with the day and the subtree that showed them first.
    waiting: BTreeMap<Arc<str>, BTreeMap<u32, (u64, u64)>>,
    /// Trigrams that found no room to wait.
    not_waiting: u64,
    /// Evidence seen.
    pub tally: Tally,
    /// Courses of its quantities since it is judged.
    pub drift: Drift,
    /// Programs whose file is another one than the frozen baseline was learnt from, and since when.
    renewed: BTreeMap<Arc<str>, Time>,
}

fn is_within_a_day(since: Time, at: Time) -> bool {
    at.unix_ns.saturating_sub(since.unix_ns) < STALE_NS
}

/// How much evidence a workload has given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Windows.
    pub windows: u64,
    /// Windows that had lost calls.
    pub lossy: u64,
    /// Execs.
    pub execs: u64,
    /// Flow records.
    pub flows: u64,
    /// File records.
    pub files: u64,
    /// First event.
    pub first: Option<Time>,
    /// Last event.
    pub last: Time,
}

impl Workload {
    /// What is wrong with a workload that was read from a snapshot.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if !self.measures.is_sound() || !self.drift.is_sound() {
            return Some("distributions of a workload");
        }
        if self.waiting.len() > MAX_PROGRAMS || self.waiting.values().any(|waiting| waiting.len() > MAX_WAITING) {
            return Some("calls that wait to be admitted");
        }
        if self.renewed.len() > MAX_PROGRAMS {
            return Some("renewed programs");
        }
        self.learned.fault().or_else(|| self.frozen.as_deref().and_then(Baseline::fault))
    }

    /// A program of it is another one now. Whatever it was that is not judged yet has learnt from the one there is.
    pub(crate) fn renew(&mut self, program: &Arc<str>, at: Time) {
        self.renewed.retain(|_, since| is_within_a_day(*since, at));
        if self.frozen.is_some() && self.renewed.len() < MAX_PROGRAMS {
            self.renewed.insert(program.clone(), at);
        }
    }

    /// Programs that its baseline has only inherited, at this time.
    pub(crate) fn stale(&self, at: Time) -> impl Iterator<Item = &Arc<str>> {
        self.renewed.iter().filter(move |(_, since)| is_within_a_day(**since, at)).map(|(program, _)| program)
    }

    /// What it is judged against.
    pub fn reference(&self) -> &Baseline {
        self.frozen.as_deref().unwrap_or(&self.learned)
    }
}

/// A workload in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadSummary {
    /// Windows.
    pub windows: u64,
    /// Windows that had lost calls.
    pub lossy: u64,
    /// Execs.
    pub execs: u64,
    /// Flow records.
    pub flows: u64,
    /// Programs with sequences.
    pub exes: usize,
    /// Exec edges.
    pub exec_edges: usize,
    /// Destinations.
    pub destinations: usize,
    /// Trigrams, all programs together.
    pub trigrams: usize,
    /// First event.
    pub first_seen: Time,
    /// Last event.
    pub last_seen: Time,
    /// When the newest fact was learnt.
    pub last_new: Time,
    /// Chance that the next fact is new (Good–Turing), 0–1.
    pub singleton_share: f64,
    /// Facts, programs and trigrams that did not fit.
    pub overflow: u64,
    /// Whether there is a frozen baseline.
    pub frozen: bool,
    /// Programs whose file is another one since less than a day: their counts are inherited and count half.
    pub stale: Vec<Arc<str>>,
}

impl Workload {
    /// Admits a learnt fact to the frozen baseline once different subtrees have taught it on different days.
    pub(crate) fn admit(&mut self, fact: &Fact) {
        let Some(frozen) = self.frozen.as_deref_mut() else { return };
        if let Some(count) = self.learned.facts.get(fact)
            && count.days >= DAYS_TO_ADMIT
            && count.n >= TREES_TO_ADMIT
            && frozen.facts.get(fact).is_none()
        {
            frozen.facts.take_over(fact, *count);
        }
    }

    /// Judges by what has been learnt so far from now on.
    pub(crate) fn freeze(&mut self) {
        self.frozen = Some(Box::new(self.learned.clone()));
        self.waiting.clear();
        self.renewed.clear();
        self.drift = Drift::default();
    }

    /// Learns a window of a program, and admits it to the frozen baseline once each of its trigrams has been shown by
    /// different subtrees on different days, as facts are. Calls admit no program: what the frozen baseline holds, a fence
    /// lets start.
    pub(crate) fn learn_window(&mut self, exe: &Arc<str>, grams: &Grams, at: Time, process: u64) {
        if let Some(sequences) = self.learned.sequences_mut(exe) {
            sequences.learn_grams(grams);
        }
        let frozen = self.frozen.as_deref_mut();
        let Some(sequences) = frozen.and_then(|frozen| frozen.sequences.get_mut(exe)) else { return };
        let novel = sequences.novel_in(grams);
        if novel.is_empty() {
            return;
        }
        // As many as the frozen baseline has programs, at most.
        let waiting = self.waiting.entry(exe.clone()).or_default();
        let today = at.unix_ns / DAY;
        waiting.retain(|_, (day, _)| day.saturating_add(DAYS_TO_WAIT) >= today);
        let was_shown = |trigram: &u32| waiting.get(trigram).is_some_and(|(day, by)| *day != today && *by != process);
        if novel.iter().all(was_shown) {
            sequences.learn_grams(grams);
            novel.iter().for_each(|trigram| _ = waiting.remove(trigram));
            return;
        }
        for trigram in novel {
            if waiting.len() < MAX_WAITING {
                waiting.entry(trigram).or_insert((today, process));
            } else if !waiting.contains_key(&trigram) {
                self.not_waiting = self.not_waiting.saturating_add(1);
            }
        }
    }

    /// In numbers.
    pub fn summary(&self) -> WorkloadSummary {
        let of = self.reference();
        let sequences = || of.sequences.values();
        WorkloadSummary {
            windows: self.tally.windows,
            lossy: self.tally.lossy,
            execs: self.tally.execs,
            flows: self.tally.flows,
            exes: of.sequences.len(),
            exec_edges: of.count(|fact| matches!(fact, Fact::ExecEdge { .. })),
            destinations: of.count(|fact| matches!(fact, Fact::Destination { .. })),
            trigrams: sequences().map(|sequences| sequences.trigrams().count()).sum(),
            first_seen: self.tally.first.unwrap_or_default(),
            last_seen: self.tally.last,
            last_new: self.learned.facts.newest(),
            singleton_share: of.facts.singleton_share(),
            overflow: self.not_waiting
                + of.overflow
                + of.facts.overflow()
                + sequences().map(Sequences::overflow).sum::<u64>(),
            frozen: self.frozen.is_some(),
            stale: self.stale(self.tally.last).cloned().collect(),
        }
    }
}
