//! Mergeable summaries: what N shards learnt apart is what one would have learnt, bit for bit.
//!
//! Of each (host, workload, day) a bounded sample is kept, chosen by a keyed hash: every row draws `−ln u / w` from the hash of
//! its identity, weighs `w = 2^(days / half life)` by when it happened (forward decay; Cormode and others, 2009), and the `k`
//! smallest stay. Which rows stay depends neither on order nor on shards, and a row that comes twice counts once: merging is
//! associative, commutative and idempotent. Beside it stand histograms of fixed bins; these are sums, so a row must go to one
//! shard only.

use std::collections::BTreeMap;
use std::sync::Arc;

use linfa::traits::Fit;
use linfa::{Dataset, ParamGuard};
use model::event::{Body, Event};
use model::forest::{Forest, ForestParams};
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::detectors::{RAW, raw};

const DAY: u64 = 86_400_000_000_000;
/// Bins of a quarter of a power of two.
const BINS: usize = 256;

/// How summaries are made; only equal ones can be merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SummaryParams {
    /// Secret of the hash: nobody outside can choose to be in the sample.
    pub key: u64,
    /// Rows kept of each (host, workload, day).
    pub rows: usize,
    /// Days in which a row's weight halves.
    pub half_life_days: f64,
}

impl Default for SummaryParams {
    fn default() -> Self {
        Self { key: 0x5eed, rows: 512, half_life_days: 14.0 }
    }
}

/// Whose rows: host, workload, day since 1970.
pub type Whose = (Arc<str>, Arc<str>, u64);

/// Everything that was summarised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summaries {
    params: SummaryParams,
    by: BTreeMap<Whose, Summary>,
}

/// Of one (host, workload, day).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows by their draw, the smallest first.
    sample: BTreeMap<(u64, u64), Vec<f64>>,
    /// Of each feature.
    histograms: Vec<Histogram>,
}

/// Counts in fixed bins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram(Vec<u64>);

impl Default for Histogram {
    fn default() -> Self {
        Self(vec![0; BINS])
    }
}

impl Histogram {
    fn add(&mut self, value: f64) {
        let bin = if value > 0.0 { 1.0 + (value + 1.0).log2() * 4.0 } else { 0.0 };
        if let Some(count) = self.0.get_mut((bin as usize).min(BINS - 1)) {
            *count += 1;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(count, more)| *count += more);
    }

    /// Values counted.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Summaries that were made in another way.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("summaries made with {0:?} cannot be merged with those made with {1:?}: summarise one of them anew")]
pub struct OtherParams(SummaryParams, SummaryParams);

impl Summaries {
    /// Empty.
    pub fn new(params: SummaryParams) -> Self {
        Self { params, by: BTreeMap::new() }
    }

    /// Adds an event of a host.
    pub fn add(&mut self, host: &Arc<str>, event: &Event) {
        if matches!(event.body, Body::Fork(_) | Body::Exit(_) | Body::Deny(_)) {
            return;
        }
        let (id, row) = (identity(self.params.key, host, event), raw(event));
        let draw = self.draw(id, event.at.unix_ns);
        let day = event.at.unix_ns / DAY;
        let most = self.params.rows;
        let summary = self.by.entry((host.clone(), event.process.workload.clone(), day)).or_default();
        summary.histograms.resize_with(RAW, Histogram::default);
        summary.histograms.iter_mut().zip(row).for_each(|(histogram, value)| histogram.add(value));
        summary.sample.insert((draw, id), row.to_vec());
        summary.cut(most);
    }

    /// Takes over what another shard summarised.
    ///
    /// # Errors
    ///
    /// When it was made in another way.
    pub fn merge(&mut self, other: &Self) -> Result<(), OtherParams> {
        if self.params != other.params {
            return Err(OtherParams(self.params.clone(), other.params.clone()));
        }
        for (whose, theirs) in &other.by {
            let ours = self.by.entry(whose.clone()).or_default();
            ours.histograms.resize_with(RAW, Histogram::default);
            ours.histograms.iter_mut().zip(&theirs.histograms).for_each(|(one, more)| one.merge(more));
            ours.sample.extend(theirs.sample.iter().map(|(draw, row)| (*draw, row.clone())));
            ours.cut(self.params.rows);
        }
        Ok(())
    }

    /// Rows kept, all together.
    pub fn rows(&self) -> usize {
        self.by.values().map(|summary| summary.sample.len()).sum()
    }

    /// Histograms of a (host, workload, day), by feature.
    pub fn histograms(&self, whose: &Whose) -> Option<&[Histogram]> {
        Some(&self.by.get(whose)?.histograms)
    }

    /// A batch forest grown from every row that was kept, in their fixed order.
    ///
    /// # Errors
    ///
    /// When nothing was kept, or a parameter is out of range.
    pub fn forest(&self, trees: usize, sample: usize, seed: u64) -> anyhow::Result<Forest> {
        let rows: Vec<f64> = self.by.values().flat_map(|summary| summary.sample.values()).flatten().copied().collect();
        let dataset = Dataset::from(Array2::from_shape_vec((rows.len() / RAW, RAW), rows)?);
        Ok(ForestParams::new(trees, sample, seed).check()?.fit(&dataset)?)
    }

    /// `ln(−ln u) − λt`: its order is that of `−ln u / w`, and it does not overflow. As a number whose order is the float's.
    fn draw(&self, id: u64, unix_ns: u64) -> u64 {
        let u = ((id >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let days = unix_ns as f64 / DAY as f64;
        let draw = (-u.ln()).ln() - std::f64::consts::LN_2 * days / self.params.half_life_days;
        let bits = draw.to_bits();
        if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
    }
}

impl Summary {
    fn cut(&mut self, most: usize) {
        while self.sample.len() > most {
            self.sample.pop_last();
        }
    }
}

/// A keyed hash of what makes an event this one.
fn identity(key: u64, host: &str, event: &Event) -> u64 {
    let mut hash = Sha256::new();
    hash.update(key.to_le_bytes());
    hash.update(host.as_bytes());
    for number in [event.at.boot_ns, event.at.unix_ns, event.process.cookie] {
        hash.update(number.to_le_bytes());
    }
    for number in raw(event) {
        hash.update(number.to_bits().to_le_bytes());
    }
    let bytes = hash.finalize();
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
