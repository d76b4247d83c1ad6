//! Sequences of syscalls: how surprising is what a thread called, given what its program usually calls?
//!
//! A Witten–Bell model of order three per program, `P(c|ab) = (n(abc) + T(ab)·P(c|b)) / (N(ab) + T(ab))`, down to single
//! calls and a uniform base. The score of a window is the mean of its eight most surprising *distinct* trigrams, so padding
//! with ordinary calls dilutes nothing and repeating one strange call adds nothing. How much of it was never run before is
//! told apart: the episode adds that up over its windows ([`crate::episode`]).

use std::collections::BTreeMap;

use libm::log2;
use serde::{Deserialize, Serialize};

use crate::grams::{Grams, MOST_GRAM, calls_of, pair};
use crate::table::Table;

/// Trigrams that one program holds.
pub const MAX_TRIGRAMS: usize = 16_384;
/// Bigrams that one program holds.
pub const MAX_BIGRAMS: usize = 16_384;
/// Distinct calls whose surprise is averaged.
const TOP: usize = 8;
/// Calls of a machine that are equally likely before anything is known.
const ALPHABET: f64 = 512.0;
/// Most bits that a single call can be worth.
const MOST_BITS: f64 = 20.0;
/// Windows after which a program's rows may teach the forest: before that everything is new.
pub const SETTLED_WINDOWS: u64 = 16;

/// How often something followed a context, and how many different things did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Follows {
    n: u32,
    kinds: u32,
}

/// How often a call or pair was seen, and what followed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    n: u32,
    then: Follows,
}

/// What a program usually calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Sequences {
    windows: u64,
    calls: Follows,
    one: Table<Seen>,
    two: Table<Seen>,
    /// Pairs that were seen: others were not, for lack of room, but what followed them was.
    bigrams: usize,
    three: Table<u32>,
    overflow: u64,
}

/// The same in a snapshot.
#[derive(Serialize, Deserialize)]
struct Stored {
    windows: u64,
    calls: Follows,
    one: BTreeMap<u16, u32>,
    after_one: BTreeMap<u16, Follows>,
    two: BTreeMap<u32, u32>,
    after_two: BTreeMap<u32, Follows>,
    three: BTreeMap<u32, u32>,
    overflow: u64,
}

/// What a window's sequence is worth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surprise {
    /// Mean bits of the eight most surprising distinct calls, 0–20; higher = more anomalous.
    pub bits: f64,
    /// Trigrams that were never seen and their bits, 0–20, the most surprising first.
    pub novel: Vec<(u32, f64)>,
}

/// A trigram of a window and its surprise.
struct Ranked {
    trigram: u32,
    bits: f64,
    /// Whether it was never seen.
    novel: bool,
}

impl Sequences {
    /// Windows learnt.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// Trigrams held.
    pub fn trigrams(&self) -> impl Iterator<Item = u32> {
        self.three.iter().map(|(trigram, _)| trigram)
    }

    /// Bigrams and trigrams that did not fit.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Whether sequences that were read from a snapshot are within their bounds.
    pub(crate) fn is_sound(&self) -> bool {
        let contexts = self.two.iter().filter(|(_, seen)| seen.then.n > 0).count();
        self.three.len() <= MAX_TRIGRAMS && self.bigrams <= MAX_BIGRAMS && contexts <= MAX_TRIGRAMS
    }

    /// Learns a window.
    pub fn learn(&mut self, trace: &[u16]) {
        self.learn_grams(&Grams::of(trace));
    }

    /// The same of one that was counted already.
    pub(crate) fn learn_grams(&mut self, grams: &Grams) {
        self.windows = self.windows.saturating_add(1);
        for (call, times) in &grams.one {
            let fresh = bump(&mut self.one.entry(*call).n, *times);
            self.calls.grow(*times, fresh);
        }
        for (two, times) in &grams.two {
            if self.bigrams >= MAX_BIGRAMS && self.two.get(*two).is_none_or(|seen| seen.n == 0) {
                self.overflow = self.overflow.saturating_add(u64::from(*times));
                continue;
            }
            let fresh = bump(&mut self.two.entry(*two).n, *times);
            self.bigrams += usize::from(fresh);
            let [_, b, _] = calls_of(*two);
            self.one.entry(b).then.grow(*times, fresh);
        }
        for (three, times) in &grams.three {
            if self.three.len() >= MAX_TRIGRAMS && self.three.get(*three).is_none() {
                self.overflow = self.overflow.saturating_add(u64::from(*times));
                continue;
            }
            let fresh = bump(self.three.entry(*three), *times);
            let [a, b, _] = calls_of(*three);
            self.two.entry(pair(a, b)).then.grow(*times, fresh);
        }
    }

    /// Trigrams of a window that were never seen, each once.
    pub(crate) fn novel_in(&self, grams: &Grams) -> Vec<u32> {
        let all = grams.three.iter().map(|(trigram, _)| *trigram);
        let mut novel: Vec<u32> = all.filter(|trigram| self.three.get(*trigram).is_none()).collect();
        novel.sort_unstable();
        novel
    }

    /// Scores a window; `pool` is what the host's programs call, for calls that this one never made.
    pub fn surprise(&self, trace: &[u16], pool: &Sequences) -> Surprise {
        self.surprise_of(&Grams::of(trace), pool)
    }

    /// The same of one that was counted already.
    pub(crate) fn surprise_of(&self, grams: &Grams, pool: &Sequences) -> Surprise {
        let mut ranked: Vec<Ranked> = grams.three.iter().map(|(trigram, _)| self.rank(*trigram, pool)).collect();
        ranked.sort_by(|a, b| b.bits.total_cmp(&a.bits).then(a.trigram.cmp(&b.trigram)));
        let sum: f64 = ranked.iter().take(TOP).map(|ranked| ranked.bits).sum();
        let novel = ranked.iter().filter(|ranked| ranked.novel).map(|ranked| (ranked.trigram, ranked.bits));
        Surprise { bits: sum / TOP as f64, novel: novel.collect() }
    }

    fn rank(&self, trigram: u32, pool: &Sequences) -> Ranked {
        let seen = self.three.get(trigram).copied();
        let bits = (-log2(self.probability(trigram, seen, pool))).clamp(0.0, MOST_BITS);
        Ranked { trigram, bits, novel: seen.is_none() }
    }

    fn probability(&self, trigram: u32, seen: Option<u32>, pool: &Sequences) -> f64 {
        let [a, b, c] = calls_of(trigram);
        let base = pool.one_probability(c, 1.0 / ALPHABET);
        let one = self.one_probability(c, base);
        let (bc, ab) = (self.two.get(pair(b, c)), self.two.get(pair(a, b)));
        let two = mixed(bc.map(|seen| seen.n), self.one.get(b).map(|seen| seen.then), one);
        mixed(seen, ab.map(|seen| seen.then), two)
    }

    fn one_probability(&self, c: u32, base: f64) -> f64 {
        mixed(self.one.get(c).map(|seen| seen.n), Some(self.calls), base)
    }
}

impl Follows {
    fn grow(&mut self, times: u32, fresh: bool) {
        self.n = self.n.saturating_add(times);
        self.kinds = self.kinds.saturating_add(u32::from(fresh));
    }
}

fn mixed(seen: Option<u32>, follows: Option<Follows>, lower: f64) -> f64 {
    let Some(follows) = follows.filter(|follows| follows.n > 0) else { return lower };
    let (n, kinds) = (f64::from(follows.n), f64::from(follows.kinds));
    (f64::from(seen.unwrap_or(0)) + kinds * lower) / (n + kinds)
}

/// Counts; `true` when it was new.
fn bump(count: &mut u32, times: u32) -> bool {
    let fresh = *count == 0;
    *count = count.saturating_add(times);
    fresh
}

impl From<Sequences> for Stored {
    fn from(sequences: Sequences) -> Self {
        let Sequences { windows, calls, one, two, three, overflow, .. } = sequences;
        let seen = |(gram, seen): (u32, &Seen)| (seen.n > 0).then_some((gram, seen.n));
        let then = |(gram, seen): (u32, &Seen)| (seen.then.n > 0).then_some((gram, seen.then));
        Self {
            windows,
            calls,
            one: one.iter().filter_map(seen).map(|(call, n)| (call as u16, n)).collect(),
            after_one: one.iter().filter_map(then).map(|(call, then)| (call as u16, then)).collect(),
            two: two.iter().filter_map(seen).collect(),
            after_two: two.iter().filter_map(then).collect(),
            three: three.iter().map(|(trigram, n)| (trigram, *n)).collect(),
            overflow,
        }
    }
}

impl From<Stored> for Sequences {
    /// What cannot have been counted is left out.
    fn from(stored: Stored) -> Self {
        let Stored { windows, calls, one, after_one, two, after_two, three, overflow } = stored;
        let can_be = |gram: &u32| *gram <= MOST_GRAM;
        let mut sequences = Self { windows, calls, overflow, ..Self::default() };
        one.into_iter().for_each(|(call, n)| sequences.one.entry(u32::from(call)).n = n);
        after_one.into_iter().for_each(|(call, then)| sequences.one.entry(u32::from(call)).then = then);
        two.into_iter().filter(|(two, _)| can_be(two)).for_each(|(two, n)| sequences.two.entry(two).n = n);
        let after_two = after_two.into_iter().filter(|(two, _)| can_be(two));
        after_two.for_each(|(two, then)| sequences.two.entry(two).then = then);
        sequences.three = three.into_iter().filter(|(three, _)| can_be(three)).collect();
        sequences.bigrams = sequences.two.iter().filter(|(_, seen)| seen.n > 0).count();
        sequences
    }
}

#[cfg(test)]
mod tests {
    use collector_common::token;

    use super::*;

    fn usual() -> Sequences {
        let mut sequences = Sequences::default();
        let trace: Vec<u16> = [0, 1, 232, 45].into_iter().cycle().take(128).collect();
        (0..50).for_each(|_| sequences.learn(&trace));
        sequences
    }

    #[test]
    fn what_was_learnt_is_not_surprising_and_what_was_not_is_named() {
        let sequences = usual();
        let trace: Vec<u16> = [0, 1, 232, 45].into_iter().cycle().take(64).collect();
        let known = sequences.surprise(&trace, &sequences);
        assert!(known.bits < 0.5 && known.novel.is_empty(), "{known:?}");
        let strange = sequences.surprise(&[0, 1, 232, 41, 42, 33, 33, 33, 59], &sequences);
        assert!(strange.bits > 5.0, "{strange:?}");
        assert!(strange.novel.iter().any(|(trigram, _)| *trigram == token::trigram(41, 42, 33)));
    }

    #[test]
    fn padding_and_repetition_change_nothing() {
        let sequences = usual();
        let attack = [0, 1, 41, 42, 33, 59, 41, 42, 33, 59];
        let alone = sequences.surprise(&attack, &sequences);
        let padded: Vec<u16> =
            [0, 1, 232, 45].into_iter().cycle().take(100).chain(attack).chain([0, 1, 232, 45]).collect();
        let padded = sequences.surprise(&padded, &sequences);
        assert!(padded.bits >= 0.75 * alone.bits, "{} against {}", padded.bits, alone.bits);
        let repeated: Vec<u16> = attack.into_iter().cycle().take(120).collect();
        assert!((sequences.surprise(&repeated, &sequences).bits - alone.bits).abs() < 3.0);
    }

    #[test]
    fn trigrams_are_bounded() {
        let mut sequences = Sequences::default();
        let mut state = 7u64;
        for _ in 0..400 {
            let trace: Vec<u16> = (0..128)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 40) as u16 & 511
                })
                .collect();
            sequences.learn(&trace);
        }
        assert_eq!((sequences.trigrams().count(), sequences.bigrams), (MAX_TRIGRAMS, MAX_BIGRAMS));
        assert!(sequences.overflow() > 0);
        let bytes = postcard::to_stdvec(&sequences).expect("bytes");
        let restored: Sequences = postcard::from_bytes(&bytes).expect("sequences");
        assert!(restored == sequences && restored.is_sound() && restored.bigrams == MAX_BIGRAMS);
    }
}
