//! Episodes: the evidence against one process subtree, added up so that a flood neither dilutes nor multiplies it.
//!
//! `S = Σ top-3 largest contributions of different coordinates + Σ top-5 bits of different facts of at least 6 bits + Σ top-32
//! bits of different calls in an order that was never seen / 32`. The last term tells a corner of known code from code that
//! was never run before, in however many windows or threads its calls are hidden. The contributions of one vector add up to
//! its score, so a vector that is seen again with one more coordinate raised counts only what is new.
//!
//! The anchor is the nearest ancestor against which a fact stands, else the process itself; an episode closes five minutes
//! after its last new distinct evidence, at the latest after a day. Only then, and only if it never reached the threshold,
//! may its facts and calls be learnt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use collector_common::syscall;
use serde::{Deserialize, Serialize};

use crate::counts::hour_of;
use crate::event::{Process, Time};
use crate::facts::Fact;
use crate::features::{Coordinate, FeatureVector};
use crate::score::{AnomalyScore, TOP_FACTS, TOP_SCORES, strongest, top};
use crate::threshold::Past;

/// Episodes that may be open at once; beyond that the weakest is closed early.
pub const MAX_OPEN: usize = 4_096;
/// Facts that an episode keeps.
const MAX_FACTS: usize = 64;
/// Strange windows that an episode keeps, the first ones.
const MAX_WINDOWS: usize = 8;
/// Bits from which a fact is evidence.
pub const FACT_BITS: f64 = 6.0;
/// Bits from which a score opens an episode.
const SCORE_BITS: f64 = 4.0;
/// On the boot clock, so that a compressed demo clock does not close what goes on.
const QUIET_NS: u64 = 300_000_000_000;
const LONGEST_NS: u64 = 86_400_000_000_000;
const TOP_CALLS: usize = 32;
/// Calls that an episode keeps, the strongest ones.
const MAX_CALLS: usize = 64;

/// What one event brings against a subtree.
#[derive(Clone, Debug, Default)]
pub struct Evidence<'a> {
    /// Its vector.
    pub vector: FeatureVector,
    /// Score of its vector.
    pub score: AnomalyScore,
    /// Facts and their bits.
    pub facts: Vec<(Fact, f64)>,
    /// Trigrams that were never seen, and their bits.
    pub calls: &'a [(u32, f64)],
}

/// What others see of an episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpisodeView {
    /// Cookie of the process whose subtree it is about.
    pub anchor: u64,
    /// Workload of the anchor.
    pub workload: Arc<str>,
    /// First evidence.
    pub started: Time,
    /// Last new distinct evidence.
    pub last: Time,
    /// `S` in bits; higher = more anomalous.
    pub score: f64,
    /// The forest's part of it.
    pub forest_sum: f64,
    /// The facts' part of it.
    pub fact_sum: f64,
    /// The part of calls in an order that was never seen.
    pub call_sum: f64,
    /// Distinct pieces of evidence.
    pub evidence: usize,
    /// Whether it reaches the threshold in force.
    pub over_threshold: bool,
    /// The highest score of a single vector.
    pub peak: Option<AnomalyScore>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Episode {
    workload: Arc<str>,
    started: Time,
    last: Time,
    /// The largest contribution of each coordinate, with the vector that made it and its hour.
    scores: BTreeMap<Coordinate, (f64, u64, FeatureVector)>,
    facts: BTreeMap<Fact, f64>,
    /// Trigrams that were never seen.
    calls: BTreeMap<u32, f64>,
    peak: Option<AnomalyScore>,
    /// Every new fact, whatever it is worth.
    lessons: BTreeSet<Fact>,
    /// Windows with calls in an order that their program never showed.
    windows: Vec<StrangeWindow>,
    /// Calls were lost or denied: nothing of it may be learnt.
    spoilt: bool,
}

/// Calls of a program in an order that it never showed: learnt late, if at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrangeWindow {
    /// Program.
    pub exe: Arc<str>,
    /// Tokens, oldest first.
    pub trace: Vec<u16>,
}

/// An episode that closed.
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    /// How it ended.
    pub view: EpisodeView,
    /// What its score was made of.
    pub past: Past,
    /// Its new facts, if they may be learnt: it stayed below the threshold and nothing of it was lost or denied.
    pub lessons: Vec<Fact>,
    /// Its strange windows, under the same condition.
    pub windows: Vec<StrangeWindow>,
}

/// The open episodes of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Episodes {
    open: BTreeMap<u64, Episode>,
    closed_early: u64,
}

impl Episodes {
    /// The process on whose subtree evidence of `process` counts.
    ///
    /// An ancestor draws its descendants in only once a fact stands against it: a server whose load looks a little odd must
    /// not make one episode of every process that it ever starts. And only those of its own workload: everything descends from
    /// whoever starts services, sessions or containers, and one new directory of its would make one episode of the whole host.
    pub fn anchor_of(&self, process: &Process) -> u64 {
        if self.open.contains_key(&process.cookie) {
            return process.cookie;
        }
        let draws = |episode: &Episode| !episode.facts.is_empty() && episode.workload == process.workload;
        let is_drawn_by = |cookie: &u64| self.open.get(cookie).is_some_and(draws);
        process.ancestors.iter().copied().find(is_drawn_by).unwrap_or(process.cookie)
    }

    /// Adds evidence. Weak evidence opens no episode, but is shown as one that was not kept.
    pub fn add(&mut self, anchor: u64, workload: &Arc<str>, at: Time, evidence: &Evidence, level: f64) -> EpisodeView {
        let strong = evidence.score.value >= SCORE_BITS || evidence.facts.iter().any(|(_, bits)| *bits >= FACT_BITS);
        let fresh = || Episode {
            workload: workload.clone(),
            started: at,
            last: at,
            scores: BTreeMap::new(),
            facts: BTreeMap::new(),
            calls: BTreeMap::new(),
            peak: None,
            lessons: BTreeSet::new(),
            windows: Vec::new(),
            spoilt: false,
        };
        if !strong && !self.open.contains_key(&anchor) {
            return fresh().view(anchor, level);
        }
        if self.open.len() >= MAX_OPEN && !self.open.contains_key(&anchor) {
            self.drop_weakest();
        }
        let episode = self.open.entry(anchor).or_insert_with(fresh);
        // Facts of another workload are not this one's to learn.
        episode.spoilt |= episode.workload != *workload;
        episode.take(at, evidence);
        episode.view(anchor, level)
    }

    /// Lost or denied calls: whatever else the episode holds, it teaches nothing.
    pub fn spoil(&mut self, anchor: u64) {
        if let Some(episode) = self.open.get_mut(&anchor) {
            episode.spoilt = true;
        }
    }

    /// Keeps a strange window of an open episode, to be learnt when it closes.
    pub fn keep_window(&mut self, anchor: u64, exe: &Arc<str>, trace: &[u16]) {
        if let Some(episode) = self.open.get_mut(&anchor)
            && episode.windows.len() < MAX_WINDOWS
        {
            episode.windows.push(StrangeWindow { exe: exe.clone(), trace: trace.to_vec() });
        }
    }

    /// Episodes that were dropped because too many were open.
    pub fn closed_early(&self) -> u64 {
        self.closed_early
    }

    /// Whether the subtree has an open episode: then it teaches nothing yet.
    pub fn is_open(&self, anchor: u64) -> bool {
        self.open.contains_key(&anchor)
    }

    /// Closes what has been quiet for five minutes, or open for a day.
    pub fn close(&mut self, now: Time, level: f64) -> Vec<Closed> {
        let is_over = |episode: &Episode| {
            now.boot_ns.saturating_sub(episode.last.boot_ns) >= QUIET_NS
                || now.boot_ns.saturating_sub(episode.started.boot_ns) >= LONGEST_NS
        };
        let done: Vec<u64> =
            self.open.iter().filter(|(_, episode)| is_over(episode)).map(|(anchor, _)| *anchor).collect();
        done.into_iter().filter_map(|anchor| Some(self.open.remove(&anchor)?.closed(anchor, level, now))).collect()
    }

    /// What is wrong with episodes that were read from a snapshot.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let broken = |episode: &Episode| {
            let scores = episode.scores.values().all(|(part, _, vector)| part.is_finite() && vector.is_finite());
            let bits = episode.facts.values().chain(episode.calls.values());
            let bits = scores && bits.into_iter().all(|bits| bits.is_finite()) && episode.calls.len() <= MAX_CALLS;
            let windows = episode.windows.len() > MAX_WINDOWS
                || episode.windows.iter().any(|window| window.trace.len() > syscall::WINDOW);
            !bits || windows || episode.facts.len().max(episode.lessons.len()) > MAX_FACTS
        };
        (self.open.len() > MAX_OPEN || self.open.values().any(broken)).then_some("open episodes")
    }

    fn drop_weakest(&mut self) {
        let weakest = self.open.iter().min_by(|a, b| a.1.score().total_cmp(&b.1.score())).map(|(anchor, _)| *anchor);
        if let Some(anchor) = weakest {
            self.open.remove(&anchor);
            self.closed_early = self.closed_early.saturating_add(1);
        }
    }
}

impl Episode {
    fn take(&mut self, at: Time, evidence: &Evidence) {
        let Evidence { vector, score, facts, calls } = evidence;
        let mut news = self.take_calls(calls);
        for coordinate in Coordinate::ALL {
            let part = score.contributions[coordinate as usize];
            if part > 0.0 {
                let kept = self.scores.entry(coordinate).or_insert((0.0, 0, FeatureVector::default()));
                news |= part > kept.0 + 1.0;
                if part > kept.0 {
                    *kept = (part, hour_of(at), *vector);
                }
            }
        }
        let room = MAX_FACTS - self.lessons.len().min(MAX_FACTS);
        self.lessons.extend(facts.iter().map(|(fact, _)| fact.clone()).take(room));
        for (fact, bits) in facts.iter().filter(|(_, bits)| *bits >= FACT_BITS) {
            if let Some(kept) = self.facts.get_mut(fact) {
                *kept = kept.max(*bits);
            } else if self.facts.len() < MAX_FACTS {
                self.facts.insert(fact.clone(), *bits);
                news = true;
            }
        }
        if self.peak.is_none_or(|peak| score.value > peak.value) {
            self.peak = Some(*score);
        }
        if news {
            self.last = at;
        }
    }

    /// `true` when they raise the sum by a bit.
    fn take_calls(&mut self, calls: &[(u32, f64)]) -> bool {
        let before = self.call_sum();
        for (trigram, bits) in calls {
            self.calls.insert(*trigram, *bits);
            if self.calls.len() > MAX_CALLS {
                self.drop_weakest_call();
            }
        }
        self.call_sum() > before + 1.0
    }

    /// Whoever floods an episode with weak calls first must not keep the strong ones out.
    fn drop_weakest_call(&mut self) {
        let weakest = self.calls.iter().min_by(|a, b| a.1.total_cmp(b.1)).map(|(trigram, _)| *trigram);
        weakest.and_then(|trigram| self.calls.remove(&trigram));
    }

    fn call_sum(&self) -> f64 {
        top(self.calls.values(), TOP_CALLS) / TOP_CALLS as f64
    }

    fn sums(&self) -> (f64, f64, f64) {
        (strongest(self.scores.values().map(|(part, ..)| part)), top(self.facts.values(), TOP_FACTS), self.call_sum())
    }

    fn score(&self) -> f64 {
        let (forest, facts, calls) = self.sums();
        forest + facts + calls
    }

    fn closed(self, anchor: u64, level: f64, at: Time) -> Closed {
        let view = self.view(anchor, level);
        let past = Past::new(self.workload.clone(), at, view.fact_sum + view.call_sum, self.strongest_vectors());
        let teaches = !self.spoilt && !view.over_threshold;
        if teaches {
            Closed { view, past, lessons: self.lessons.into_iter().collect(), windows: self.windows }
        } else {
            Closed { view, past, lessons: Vec::new(), windows: Vec::new() }
        }
    }

    /// The vectors behind the forest's part, each once, with their hours.
    fn strongest_vectors(&self) -> Vec<(u64, FeatureVector)> {
        let mut scores: Vec<_> = self.scores.values().collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut vectors = Vec::with_capacity(TOP_SCORES);
        for (_, hour, vector) in scores.into_iter().take(TOP_SCORES) {
            if !vectors.contains(&(*hour, *vector)) {
                vectors.push((*hour, *vector));
            }
        }
        vectors
    }

    fn view(&self, anchor: u64, level: f64) -> EpisodeView {
        let (forest_sum, fact_sum, call_sum) = self.sums();
        let score = forest_sum + fact_sum + call_sum;
        EpisodeView {
            anchor,
            workload: self.workload.clone(),
            started: self.started,
            last: self.last,
            score,
            forest_sum,
            fact_sum,
            call_sum,
            evidence: self.scores.len() + self.facts.len() + self.calls.len(),
            over_threshold: score >= level,
            peak: self.peak,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(episodes: &mut Episodes, anchor: u64, at: Time, score: AnomalyScore, facts: &[(Fact, f64)]) -> EpisodeView {
        let evidence = Evidence { score, facts: facts.to_vec(), ..Evidence::default() };
        episodes.add(anchor, &"unit:web".into(), at, &evidence, 30.0)
    }

    #[test]
    fn calls_never_seen_add_up_over_windows_and_are_bounded() {
        let (mut episodes, workload): (_, Arc<str>) = (Episodes::default(), "unit:web".into());
        let strange: Vec<(u32, f64)> = (0..1_000).map(|trigram| (trigram, 20.0)).collect();
        let score = score(Coordinate::Seq, 9.0);
        let mut add = |calls: &[(u32, f64)], second| {
            let evidence = Evidence { score, calls, ..Evidence::default() };
            episodes.add(1, &workload, at(second), &evidence, 1_000.0).call_sum
        };
        assert_eq!(add(&strange[..4], 0), 2.5, "four of thirty-two places, of 20 bits each");
        assert_eq!(add(&strange[..4], 1), 2.5, "the same calls again are no news");
        assert_eq!(add(&strange[4..16], 2), 10.0, "another window adds its own");
        assert_eq!(add(&strange, 3), 20.0, "and no flood adds more than the mean of thirty-two");
    }

    #[test]
    fn a_flood_of_weak_calls_leaves_room_for_strong_ones() {
        let (mut episodes, workload): (_, Arc<str>) = (Episodes::default(), "unit:web".into());
        let weak: Vec<(u32, f64)> = (0..1_000).map(|trigram| (trigram, 1.0)).collect();
        let strong: Vec<(u32, f64)> = (2_000..2_032).map(|trigram| (trigram, 20.0)).collect();
        let mut add = |calls: &[(u32, f64)]| {
            let evidence = Evidence { score: score(Coordinate::Seq, 9.0), calls, ..Evidence::default() };
            episodes.add(1, &workload, at(0), &evidence, 1_000.0).call_sum
        };
        assert_eq!(add(&weak), 1.0);
        assert_eq!(add(&strong), 20.0);
    }

    fn score(coordinate: Coordinate, value: f64) -> AnomalyScore {
        let mut score = AnomalyScore { value, ..AnomalyScore::default() };
        score.contributions[coordinate as usize] = value;
        score
    }

    fn at(seconds: u64) -> Time {
        Time { unix_ns: seconds * 1_000_000_000, boot_ns: seconds * 1_000_000_000 }
    }

    fn fact(port: u16) -> Fact {
        Fact::Port { exe: "/bin/sh".into(), port, protocol: 6 }
    }

    #[test]
    fn a_flood_of_one_kind_of_evidence_counts_once() {
        let mut episodes = Episodes::default();
        let first = add(&mut episodes, 1, at(0), score(Coordinate::Seq, 9.0), &[(fact(1), 10.0)]);
        for second in 1..100 {
            add(&mut episodes, 1, at(second), score(Coordinate::Seq, 9.0), &[(fact(1), 10.0)]);
        }
        let last = add(&mut episodes, 1, at(100), score(Coordinate::Seq, 9.0), &[]);
        assert_eq!(first.score, 19.0);
        assert_eq!(last.score, first.score);
        assert!(!last.over_threshold);
        let raised = add(&mut episodes, 1, at(101), score(Coordinate::Net, 12.0), &[(fact(2), 8.0)]);
        assert!(raised.over_threshold && raised.score == 39.0);
    }

    #[test]
    fn descendants_add_to_the_episode_of_their_ancestor() {
        let (mut episodes, workload): (_, Arc<str>) = (Episodes::default(), "unit:web".into());
        let child = Process {
            cookie: 3,
            pid: 3,
            workload: workload.clone(),
            exe: "/bin/sh".into(),
            script: None,
            cmdline: "".into(),
            uid: 0,
            loginuid: None,
            cgroup: 1,
            ancestors: vec![2, 1],
            pre_existing: false,
        };
        assert_eq!(episodes.anchor_of(&child), 3);
        add(&mut episodes, 1, at(0), AnomalyScore::default(), &[(fact(1), 10.0)]);
        assert_eq!(episodes.anchor_of(&child), 1);
        // The one that starts everybody's services shows something new.
        let elsewhere = Process { workload: "unit:mail".into(), ..child };
        assert_eq!(episodes.anchor_of(&elsewhere), 3, "what it starts in other workloads is not part of it");
    }

    #[test]
    fn an_episode_closes_after_five_quiet_minutes_and_weak_evidence_opens_none() {
        let mut episodes = Episodes::default();
        add(&mut episodes, 9, at(0), score(Coordinate::Seq, 1.0), &[(fact(1), 2.0)]);
        assert!(!episodes.is_open(9));
        add(&mut episodes, 1, at(0), AnomalyScore::default(), &[(fact(1), 10.0)]);
        assert!(episodes.close(at(299), 30.0).is_empty());
        assert_eq!(episodes.close(at(300), 30.0).len(), 1);
    }
}
