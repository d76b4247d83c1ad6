//! One isolation tree in integers: complete, eight levels, one column a level.
//!
//! All nodes of a level cut the same column, each at its own place. That costs no accuracy (docs/decisions/0010) and lets a
//! point walk down without looking up which column is next. The tree is a heap from 1 on: the children of `n` are `2n` and
//! `2n + 1`, and a point goes right when it is larger than the cut. Where rows could not be cut, the cut is [`NONE`], which no
//! quantised value exceeds: everything passes to the left.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::quantiser::{Quantiser, octaves};
use crate::random::Random;

/// Levels of cuts.
pub const DEPTH: usize = 8;
/// Columns that a forest can cut.
pub const MOST_COLUMNS: usize = 256;
/// Rows that a tree is grown from, at most.
pub const MOST_SAMPLE: usize = 4_096;
/// Leaves, and one more than there are cuts.
const LEAVES: usize = 1 << DEPTH;
/// No cut: every point is at most this.
const NONE: u16 = u16::MAX;
/// Fixed point of a leaf's value: 1/2,048 of a cut. The largest, eight cuts and the rest of 4,096 rows, is below 24.
pub(crate) const ONE_CUT: u32 = 1 << 11;

/// A row that was quantised, with room for as many columns as a tree can name.
pub type Quantised = [u16; MOST_COLUMNS];

/// How the column of each level is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// In proportion to how far the rows reach in it: columns with far values are cut more often.
    ByRange,
    /// Every column in which rows differ alike: one far column does not take all the cuts.
    Uniform,
}

/// Quantised rows, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    values: Vec<u16>,
    width: usize,
}

impl Rows {
    /// Of a width, 1 to [`MOST_COLUMNS`].
    pub fn new(width: usize, values: Vec<u16>) -> Self {
        Self { values, width: width.clamp(1, MOST_COLUMNS) }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn get(&self, row: usize, column: usize) -> u16 {
        self.values.get(row * self.width + column).copied().unwrap_or(0)
    }
}

/// One tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Tree {
    /// Column of each level.
    columns: [u8; DEPTH],
    /// By node; the first is not used.
    cuts: [u16; LEAVES],
    /// Depth at which a point in this leaf is isolated, in 1/[`ONE_CUT`].
    leaves: [u16; LEAVES],
    /// Rows that reached each node.
    mass: [u16; 2 * LEAVES],
}

impl Tree {
    /// Grows a tree from `sample` rows drawn without replacement (all, when there are fewer; at most [`MOST_SAMPLE`]).
    pub fn grow(rows: &Rows, sample: usize, draw: Draw, random: &mut Random) -> Self {
        let mut chosen = sampled(rows.len(), sample.min(MOST_SAMPLE), random);
        let mut tree = Self::empty(draw_columns(rows, &chosen, draw, random));
        // Where the rows of each node of the level begin; they end where the next one's begin.
        let mut starts = vec![0, chosen.len()];
        for level in 0..DEPTH {
            let column = usize::from(tree.columns[level]);
            let mut next = Vec::with_capacity(2 * starts.len());
            for (at, ends) in starts.windows(2).enumerate() {
                let own = &mut chosen[ends[0]..ends[1]];
                let cut = draw_cut(rows, own, column, random);
                tree.cuts[(1 << level) + at] = cut;
                let middle = ends[0] + partition(own, |row| rows.get(row, column) <= cut);
                next.extend([ends[0], middle]);
            }
            next.push(chosen.len());
            starts = next;
        }
        for (slot, ends) in tree.mass[LEAVES..].iter_mut().zip(starts.windows(2)) {
            *slot = (ends[1] - ends[0]) as u16;
        }
        tree.settle();
        tree
    }

    fn empty(columns: [u8; DEPTH]) -> Self {
        Self { columns, cuts: [NONE; LEAVES], leaves: [0; LEAVES], mass: [0; 2 * LEAVES] }
    }

    /// From the rows in each leaf to everything else. A leaf is as deep as the levels at which its rows had company, also when
    /// they did not differ in that level's column: they would have needed another cut.
    fn settle(&mut self) {
        for node in (1..LEAVES).rev() {
            self.mass[node] = self.mass[2 * node].saturating_add(self.mass[2 * node + 1]);
        }
        for leaf in 0..LEAVES {
            let mut node = LEAVES + leaf;
            let rest = u32::from(REST[usize::from(self.mass[node]).min(MOST_SAMPLE)]);
            let mut levels = 0;
            while node > 1 {
                node /= 2;
                levels += u32::from(self.mass[node] > 1);
            }
            self.leaves[leaf] = (levels * ONE_CUT + rest) as u16;
        }
    }

    /// Depth at which a point is isolated, in 1/[`ONE_CUT`].
    #[inline]
    pub(crate) fn depth(&self, point: &Quantised) -> u32 {
        let mut node = 1;
        for column in self.columns {
            node = self.step(node, point[usize::from(column)]);
        }
        u32::from(self.leaves[node % LEAVES])
    }

    /// The child that a value goes to. Taken modulo the number of nodes: it is never larger, and the compiler need not check.
    #[inline]
    fn step(&self, node: usize, value: u16) -> usize {
        2 * node + usize::from(value > self.cuts[node % LEAVES])
    }
}

impl Tree {
    /// The same point through eight trees: their steps do not wait for each other.
    #[inline]
    pub(crate) fn depth_of_eight(trees: &[Self; 8], point: &Quantised) -> u32 {
        let mut nodes = [1; 8];
        for level in 0..DEPTH {
            for (node, tree) in nodes.iter_mut().zip(trees) {
                *node = tree.step(*node, point[usize::from(tree.columns[level])]);
            }
        }
        nodes.iter().zip(trees).map(|(node, tree)| u32::from(tree.leaves[node % LEAVES])).sum()
    }

    /// Adds the depths of a block of points, which stand column by column.
    #[inline]
    pub(crate) fn add_depths<const N: usize>(&self, columns: &[[u16; N]], sums: &mut [u32; N]) {
        let mut nodes = [1; N];
        for column in self.columns {
            let Some(values) = columns.get(usize::from(column)) else { continue };
            for (node, value) in nodes.iter_mut().zip(values) {
                *node = self.step(*node, *value);
            }
        }
        for (sum, node) in sums.iter_mut().zip(nodes) {
            *sum += u32::from(self.leaves[node % LEAVES]);
        }
    }

    /// Each cut on the way counts by the octaves by which it thinned the company of the point.
    pub(crate) fn attribute(&self, point: &Quantised, shares: &mut [u64]) {
        // Twice as many rows, so that none at all counts as half a row.
        let company = |node: usize| octaves((2.0 * f64::from(self.mass[node])).max(1.0));
        let mut node = 1;
        for column in self.columns.map(usize::from) {
            let next = self.step(node, point[column]);
            if self.cuts[node] != NONE
                && let Some(share) = shares.get_mut(column)
            {
                *share += u64::from(company(node).saturating_sub(company(next)));
            }
            node = next;
        }
    }

    /// The same tree in another scale.
    pub(crate) fn carry(&mut self, older: &Quantiser, newer: &Quantiser) {
        for level in 0..DEPTH {
            for cut in &mut self.cuts[1 << level..2 << level] {
                if *cut != NONE {
                    *cut = older.carry(newer, usize::from(self.columns[level]), *cut);
                }
            }
        }
    }

    /// Whether it cuts only columns that there are.
    pub(crate) fn is_sound(&self, width: usize) -> bool {
        self.columns.iter().all(|column| usize::from(*column) < width)
    }
}

/// What of a tree is kept: the rest follows from it.
#[derive(Serialize, Deserialize)]
struct Stored {
    columns: [u8; DEPTH],
    cuts: Vec<u16>,
    rows: Vec<u16>,
}

impl From<Tree> for Stored {
    fn from(tree: Tree) -> Self {
        Self { columns: tree.columns, cuts: tree.cuts[1..].to_vec(), rows: tree.mass[LEAVES..].to_vec() }
    }
}

impl TryFrom<Stored> for Tree {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let rows: u32 = stored.rows.iter().map(|rows| u32::from(*rows)).sum();
        if stored.cuts.len() != LEAVES - 1 || stored.rows.len() != LEAVES || rows as usize > MOST_SAMPLE {
            return Err("a tree of another size");
        }
        let mut tree = Self::empty(stored.columns);
        tree.cuts[1..].copy_from_slice(&stored.cuts);
        tree.mass[LEAVES..].copy_from_slice(&stored.rows);
        tree.settle();
        Ok(tree)
    }
}

/// Row numbers drawn without replacement.
fn sampled(rows: usize, sample: usize, random: &mut Random) -> Vec<u32> {
    let mut chosen: Vec<u32> = (0..rows as u32).collect();
    let taken = sample.min(chosen.len());
    for at in 0..taken {
        let other = at + random.below(chosen.len() - at);
        chosen.swap(at, other);
    }
    chosen.truncate(taken);
    chosen
}

/// The column of each level; of those in which the rows differ, if there are any.
fn draw_columns(rows: &Rows, chosen: &[u32], draw: Draw, random: &mut Random) -> [u8; DEPTH] {
    let weights: Vec<usize> = (0..rows.width)
        .map(|column| {
            let (low, high) = range(rows, chosen, column);
            let wide = usize::from(high.saturating_sub(low));
            if draw == Draw::ByRange { wide } else { wide.min(1) }
        })
        .collect();
    let sum: usize = weights.iter().sum();
    let mut columns = [0; DEPTH];
    if sum > 0 {
        for slot in &mut columns {
            let mut left = random.below(sum);
            for (column, weight) in weights.iter().enumerate() {
                if left < *weight {
                    *slot = column as u8;
                    break;
                }
                left -= weight;
            }
        }
    }
    columns
}

/// A place between the smallest and the largest, uniform; both sides get a row. [`NONE`] when the rows do not differ.
fn draw_cut(rows: &Rows, chosen: &[u32], column: usize, random: &mut Random) -> u16 {
    let (low, high) = range(rows, chosen, column);
    if low < high { low + random.below(usize::from(high - low)) as u16 } else { NONE }
}

fn range(rows: &Rows, chosen: &[u32], column: usize) -> (u16, u16) {
    chosen.iter().fold((u16::MAX, 0), |(low, high), row| {
        let value = rows.get(*row as usize, column);
        (low.min(value), high.max(value))
    })
}

fn partition(rows: &mut [u32], is_left: impl Fn(usize) -> bool) -> usize {
    let mut middle = 0;
    for at in 0..rows.len() {
        if is_left(rows[at] as usize) {
            rows.swap(at, middle);
            middle += 1;
        }
    }
    middle
}

/// `c(n)` in 1/[`ONE_CUT`].
static REST: LazyLock<[u16; MOST_SAMPLE + 1]> = LazyLock::new(|| {
    let mut harmonic = 0.0;
    std::array::from_fn(|n| {
        let rest = rest(n, harmonic);
        harmonic += if n > 0 { 1.0 / n as f64 } else { 0.0 };
        (rest * f64::from(ONE_CUT) + 0.5) as u16
    })
});

/// `c(n)`: expected depth of an unsuccessful search among `n` rows (equation 1 of the paper), the harmonic number added up
/// instead of estimated by a logarithm, so that it is the same on every machine.
pub fn expected_rest(n: usize) -> f64 {
    rest(n, (1..n).map(|k| 1.0 / k as f64).sum())
}

/// `harmonic`: that of `n − 1`.
fn rest(n: usize, harmonic: f64) -> f64 {
    if n < 2 { 0.0 } else { 2.0 * harmonic - 2.0 * (n - 1) as f64 / n as f64 }
}
