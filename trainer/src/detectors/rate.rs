//! How much happens: events of one process subtree in ten seconds of the boot clock.

use std::collections::{BTreeMap, VecDeque};

use super::{Detector, Seen};

const SPAN_NS: u64 = 10_000_000_000;
/// Subtrees that are counted.
const MAX_SUBTREES: usize = 16_384;
/// Moments kept of one.
const MAX_MOMENTS: usize = 65_536;

/// Recent moments by subtree.
#[derive(Default)]
pub struct Rate {
    recent: BTreeMap<u64, VecDeque<u64>>,
}

impl Detector for Rate {
    fn name(&self) -> &str {
        "event rate"
    }

    fn learn(&mut self, _: &Seen) {}

    fn score(&mut self, seen: &Seen) -> anyhow::Result<f64> {
        let now = seen.event.at.boot_ns;
        let anchor = seen.verdict.episode.anchor;
        if self.recent.len() >= MAX_SUBTREES && !self.recent.contains_key(&anchor) {
            self.recent.retain(|_, moments| moments.back().is_some_and(|last| now.saturating_sub(*last) < SPAN_NS));
        }
        let moments = self.recent.entry(anchor).or_default();
        moments.push_back(now);
        while moments.front().is_some_and(|first| now.saturating_sub(*first) >= SPAN_NS || moments.len() > MAX_MOMENTS)
        {
            moments.pop_front();
        }
        Ok(moments.len() as f64)
    }
}
