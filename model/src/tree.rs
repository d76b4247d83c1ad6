//! One isolation tree in integers: complete, eight levels, one column a level.
//!
//! All nodes of a level cut the same column, each at its own place. That costs no accuracy (docs/decisions/0012) and lets a
//! point walk down without looking up which column is next. The nodes are numbered as in a heap from 1 on: the children of `n`
//! are `2n` and `2n + 1`, and a point goes right when it is larger than the cut. Where rows could not be cut, the cut is [`NONE`], which no
//! quantised value exceeds: everything passes to the left.

use std::sync::{Arc, LazyLock};

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

/// What each column had to do with isolating a point, in octaves of company; of the largest forest below 2^32.
pub(crate) type Shares = [u32; MOST_COLUMNS];

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

/// Levels whose cuts lie together at the top; the others lie together below each of their ends.
const TOP: usize = 5;
/// Ends of the top.
const BRANCHES: usize = 1 << TOP;
/// Leaves of a branch.
const TWIGS: usize = 1 << (DEPTH - TOP);

/// One tree, in the order in which a point needs it: its top stands beside that of the next tree, and all that it needs below
/// in one line of the cache. A judge is asked once in a while, and what it needs is not in the cache then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Tree {
    /// Column of each level.
    columns: [u8; DEPTH],
    /// Cuts of the first levels, by node; the first is not used.
    top: [u16; BRANCHES],
    /// Not copied with a forest: of two that follow each other most trees are the same.
    branches: Arc<[Branch; BRANCHES]>,
}

/// The lower levels under one end of the top: one line of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(align(64))]
struct Branch {
    /// A heap as well, from 1 on.
    cuts: [u16; TWIGS],
    /// Depth at which a point in each leaf is isolated, in 1/[`ONE_CUT`].
    leaves: [u16; TWIGS],
    /// Rows in each leaf.
    rows: [u16; TWIGS],
    /// Rows of the nodes on the way from the root to here, without the last one.
    above: [u16; TOP],
}

/// A tree while it is grown: a plain heap.
struct Heap {
    columns: [u8; DEPTH],
    cuts: [u16; LEAVES],
    rows: [u16; LEAVES],
}

impl Tree {
    /// Grows a tree from rows, the first [`MOST_SAMPLE`] of them.
    pub fn grow(rows: &Rows, draw: Draw, random: &mut Random) -> Self {
        let mut chosen: Vec<u32> = (0..rows.len().min(MOST_SAMPLE) as u32).collect();
        let columns = draw_columns(rows, &chosen, draw, random);
        let mut heap = Heap { columns, cuts: [NONE; LEAVES], rows: [0; LEAVES] };
        // Where the rows of each node of the level begin; they end where the next one's begin.
        let mut starts = vec![0, chosen.len()];
        for level in 0..DEPTH {
            let column = usize::from(heap.columns[level]);
            let mut next = Vec::with_capacity(2 * starts.len());
            for (at, ends) in starts.windows(2).enumerate() {
                let own = &mut chosen[ends[0]..ends[1]];
                let cut = draw_cut(rows, own, column, random);
                heap.cuts[(1 << level) + at] = cut;
                let middle = ends[0] + partition(own, |row| rows.get(row, column) <= cut);
                next.extend([ends[0], middle]);
            }
            next.push(chosen.len());
            starts = next;
        }
        for (slot, ends) in heap.rows.iter_mut().zip(starts.windows(2)) {
            *slot = (ends[1] - ends[0]) as u16;
        }
        heap.settled()
    }

    /// Depth at which a point is isolated, in 1/[`ONE_CUT`].
    #[inline]
    pub(crate) fn depth(&self, point: &Quantised) -> u32 {
        let [depth] = Self::leaves_of([self], point).map(|leaf| self.depth_at(leaf));
        depth
    }

    /// The same of a leaf.
    #[inline]
    pub(crate) fn depth_at(&self, leaf: u8) -> u32 {
        let branch = &self.branches[usize::from(leaf) / TWIGS];
        u32::from(branch.leaves[usize::from(leaf) % TWIGS])
    }

    /// The leaves of several trees in which a point ends: their steps do not wait for each other. Everywhere numbers are
    /// taken modulo that of the places: they are never larger, and the compiler need not check.
    #[inline]
    pub(crate) fn leaves_of<const N: usize>(trees: [&Self; N], point: &Quantised) -> [u8; N] {
        let mut nodes = [1; N];
        for level in 0..TOP {
            for (node, tree) in nodes.iter_mut().zip(trees) {
                *node = step(&tree.top, *node, point[usize::from(tree.columns[level])]);
            }
        }
        let branches: [&Branch; N] = std::array::from_fn(|at| &trees[at].branches[nodes[at] % BRANCHES]);
        let mut twigs = [1; N];
        for level in TOP..DEPTH {
            for ((twig, tree), branch) in twigs.iter_mut().zip(trees).zip(branches) {
                *twig = step(&branch.cuts, *twig, point[usize::from(tree.columns[level])]);
            }
        }
        std::array::from_fn(|at| (nodes[at] % BRANCHES * TWIGS + twigs[at] % TWIGS) as u8)
    }

    /// Adds the depths of a block of points, which stand column by column.
    ///
    /// The first four levels have so few cuts that each point's own is chosen among all of them by masks, for many points in
    /// one instruction; below, each point looks its cut up.
    #[inline]
    pub(crate) fn add_depths<const N: usize>(&self, columns: &[[u16; N]], sums: &mut [u32; N]) {
        let none = [0; N];
        let values = self.columns.map(|column| columns.get(usize::from(column)).unwrap_or(&none));
        let mut nodes = [0u16; N];
        for (at, node) in nodes.iter_mut().enumerate() {
            let mut sides = [0; 4];
            sides[0] = side(values[0][at], self.pick::<1>(&[]));
            sides[1] = side(values[1][at], self.pick::<2>(&sides[..1]));
            sides[2] = side(values[2][at], self.pick::<4>(&sides[..2]));
            sides[3] = side(values[3][at], self.pick::<8>(&sides[..3]));
            *node = 16 | sides[0] & 8 | sides[1] & 4 | sides[2] & 2 | sides[3] & 1;
        }
        for (at, sum) in sums.iter_mut().enumerate() {
            let branch = &self.branches[step(&self.top, usize::from(nodes[at]), values[4][at]) % BRANCHES];
            let twig = values[TOP..].iter().fold(1, |twig, level| step(&branch.cuts, twig, level[at]));
            *sum += u32::from(branch.leaves[twig % TWIGS]);
        }
    }

    /// The cut that a point meets on the level of `CUTS` cuts, by the sides that it took before: all bits for the right one.
    #[inline]
    fn pick<const CUTS: usize>(&self, sides: &[u16]) -> u16 {
        let mut cuts: [u16; CUTS] = std::array::from_fn(|at| self.top[CUTS + at]);
        let mut left = CUTS;
        for side in sides {
            left /= 2;
            for at in 0..left {
                cuts[at] ^= (cuts[at] ^ cuts[left + at]) & side;
            }
        }
        cuts[0]
    }

    /// Each cut on the way to a leaf counts by the octaves by which it thinned the company of the point. Where nothing was cut
    /// all the company came along.
    pub(crate) fn attribute(&self, leaf: u8, shares: &mut Shares) {
        let branch = &self.branches[usize::from(leaf) / TWIGS];
        let twig = usize::from(leaf) % TWIGS;
        // Together they are no more than a sample: no sum is too large.
        let pairs: [u16; TWIGS / 2] =
            std::array::from_fn(|at| branch.rows[2 * at].wrapping_add(branch.rows[2 * at + 1]));
        let fours = [pairs[0].wrapping_add(pairs[1]), pairs[2].wrapping_add(pairs[3])];
        let [a, b, c, d, e] = branch.above;
        let rows =
            [a, b, c, d, e, fours[0].wrapping_add(fours[1]), fours[twig / 4], pairs[twig / 2], branch.rows[twig]];
        let octaves: &[u16; MOST_SAMPLE + 1] = &COMPANY;
        let company = rows.map(|rows| octaves[usize::from(rows).min(MOST_SAMPLE)]);
        for (level, column) in self.columns.into_iter().enumerate() {
            shares[usize::from(column)] += u32::from(company[level].saturating_sub(company[level + 1]));
        }
    }

    /// The same tree in another scale.
    pub(crate) fn carry(&mut self, older: &Quantiser, newer: &Quantiser) {
        let mut heap = self.heap();
        for level in 0..DEPTH {
            for cut in &mut heap.cuts[1 << level..2 << level] {
                if *cut != NONE {
                    *cut = older.carry(newer, usize::from(self.columns[level]), *cut);
                }
            }
        }
        *self = heap.settled();
    }

    fn heap(&self) -> Heap {
        let mut heap = Heap { columns: self.columns, cuts: [NONE; LEAVES], rows: [0; LEAVES] };
        heap.cuts[1..BRANCHES].copy_from_slice(&self.top[1..]);
        for (at, branch) in self.branches.iter().enumerate() {
            heap.rows[at * TWIGS..][..TWIGS].copy_from_slice(&branch.rows);
            for twig in 1..TWIGS {
                heap.cuts[below(BRANCHES + at, twig)] = branch.cuts[twig];
            }
        }
        heap
    }

    /// Whether it cuts only columns that there are.
    pub(crate) fn is_sound(&self, width: usize) -> bool {
        self.columns.iter().all(|column| usize::from(*column) < width)
    }
}

impl Heap {
    /// In the order in which it is walked. A leaf is as deep as the levels at which its rows had company, also when they did
    /// not differ in that level's column: they would have needed another cut.
    fn settled(&self) -> Tree {
        let mut mass = [0u16; 2 * LEAVES];
        mass[LEAVES..].copy_from_slice(&self.rows);
        for node in (1..LEAVES).rev() {
            mass[node] = mass[2 * node].saturating_add(mass[2 * node + 1]);
        }
        let depth = |leaf: usize| {
            let rest = u32::from(REST[usize::from(mass[LEAVES + leaf]).min(MOST_SAMPLE)]);
            let levels = (1..=DEPTH).filter(|up| mass[(LEAVES + leaf) >> up] > 1).count() as u32;
            (levels * ONE_CUT + rest) as u16
        };
        let branch = |at: usize| Branch {
            cuts: std::array::from_fn(|twig| if twig == 0 { NONE } else { self.cuts[below(BRANCHES + at, twig)] }),
            leaves: std::array::from_fn(|twig| depth(at * TWIGS + twig)),
            rows: std::array::from_fn(|twig| mass[LEAVES + at * TWIGS + twig]),
            above: std::array::from_fn(|level| mass[(BRANCHES + at) >> (TOP - level)]),
        };
        let mut top = [NONE; BRANCHES];
        top.copy_from_slice(&self.cuts[..BRANCHES]);
        Tree { columns: self.columns, top, branches: Arc::new(std::array::from_fn(branch)) }
    }
}

/// The child that a value goes to.
#[inline]
fn step<const N: usize>(cuts: &[u16; N], node: usize, value: u16) -> usize {
    2 * node + usize::from(value > cuts[node % N])
}

/// The number in the tree of a node that has this number in the branch below another node.
fn below(node: usize, twig: usize) -> usize {
    let level = twig.ilog2();
    (node << level) + twig - (1 << level)
}

/// All bits when a value goes to the right.
#[inline]
fn side(value: u16, cut: u16) -> u16 {
    u16::from(value > cut).wrapping_neg()
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
        let heap = tree.heap();
        Self { columns: heap.columns, cuts: heap.cuts[1..].to_vec(), rows: heap.rows.to_vec() }
    }
}

impl TryFrom<Stored> for Tree {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let rows: u32 = stored.rows.iter().map(|rows| u32::from(*rows)).sum();
        if stored.cuts.len() != LEAVES - 1 || stored.rows.len() != LEAVES || rows as usize > MOST_SAMPLE {
            return Err("a tree of another size");
        }
        let mut heap = Heap { columns: stored.columns, cuts: [NONE; LEAVES], rows: [0; LEAVES] };
        heap.cuts[1..].copy_from_slice(&stored.cuts);
        heap.rows.copy_from_slice(&stored.rows);
        Ok(heap.settled())
    }
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

/// Octaves of so many rows' company. Twice as many rows, so that none at all counts as half a row.
static COMPANY: LazyLock<[u16; MOST_SAMPLE + 1]> =
    LazyLock::new(|| std::array::from_fn(|rows| octaves((2.0 * rows as f64).max(1.0)) as u16));

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(width: usize, many: usize, seed: u64) -> Rows {
        let mut random = Random::new(seed);
        Rows::new(width, (0..width * many).map(|_| (random.below(200) * random.below(300)) as u16).collect())
    }

    #[test]
    fn a_leaf_is_as_deep_as_its_rows_had_company() {
        let tree = Tree::grow(&rows(4, 256, 1), Draw::ByRange, &mut Random::new(2));
        let heap = tree.heap();
        let rows_of = |node: usize| -> u16 {
            let (first, many) = (node << node.leading_zeros() - LEAVES.leading_zeros(), LEAVES >> node.ilog2());
            heap.rows[first - LEAVES..][..many].iter().sum()
        };
        assert_eq!(rows_of(1), 256);
        for node in 1..LEAVES {
            let (left, right) = (rows_of(2 * node), rows_of(2 * node + 1));
            assert_eq!(heap.cuts[node] != NONE, left > 0 && right > 0, "a cut has rows on both sides");
        }
        let alone = (LEAVES..2 * LEAVES).find(|leaf| rows_of(*leaf) == 1 && rows_of(leaf / 2) > 1).expect("one");
        assert_eq!(tree.depth_at((alone - LEAVES) as u8), 8 * ONE_CUT, "isolated by the last cut");
    }

    #[test]
    fn expected_rests_are_those_of_the_paper() {
        // c(256) with the harmonic number estimated by ln + Euler's constant is 10.244.
        assert!((expected_rest(256) - 10.244).abs() < 0.005 && expected_rest(1) == 0.0 && expected_rest(2) == 1.0);
        for n in [2, 3, 256, MOST_SAMPLE] {
            assert!((f64::from(REST[n]) / f64::from(ONE_CUT) - expected_rest(n)).abs() < 1e-3);
        }
    }

    #[test]
    fn a_column_that_reaches_far_is_drawn_more_often_unless_all_have_their_turn() {
        let mut random = Random::new(3);
        let values = (0..256).flat_map(|n| [n % 4, n * 100 % 20_011].map(|value| value as u16)).collect();
        let rows = Rows::new(2, values);
        let mut far = |draw| -> usize {
            let trees = (0..100).map(|_| Tree::grow(&rows, draw, &mut random));
            trees.map(|tree| tree.columns.iter().filter(|column| **column == 1).count()).sum()
        };
        assert!(far(Draw::ByRange) > 790);
        assert!((330..470).contains(&far(Draw::Uniform)));
    }

    #[test]
    fn stored_trees_of_another_size_are_refused() {
        let tree = Tree::grow(&rows(3, 300, 1), Draw::Uniform, &mut Random::new(1));
        let stored = || Stored::from(tree.clone());
        assert_eq!(Tree::try_from(stored()), Ok(tree.clone()), "what is left out follows from the rest");
        let wrong = [
            Stored { cuts: vec![1; LEAVES], ..stored() },
            Stored { rows: vec![0; LEAVES - 1], ..stored() },
            Stored { rows: vec![u16::MAX; LEAVES], ..stored() },
        ];
        for stored in wrong {
            assert!(Tree::try_from(stored).is_err());
        }
    }

    proptest! {
        /// One point through one tree, through eight, and in a block: the same sums.
        #[test]
        fn every_way_down_ends_in_the_same_leaf(width in 1usize..12, seed in any::<u64>(), point in any::<[u16; 12]>()) {
            let mut random = Random::new(seed);
            let rows = rows(width, 300, seed);
            let trees: [Tree; 8] = std::array::from_fn(|n| {
                Tree::grow(&rows, if n % 2 == 0 { Draw::ByRange } else { Draw::Uniform }, &mut random)
            });
            let mut quantised = [0; MOST_COLUMNS];
            quantised[..width].copy_from_slice(&point[..width]);
            let one_by_one: u32 = trees.iter().map(|tree| tree.depth(&quantised)).sum();
            let leaves = Tree::leaves_of(trees.each_ref(), &quantised);
            let together: u32 = trees.iter().zip(leaves).map(|(tree, leaf)| tree.depth_at(leaf)).sum();
            prop_assert_eq!(together, one_by_one);
            let block: Vec<[u16; 4]> = (0..width).map(|column| [0, quantised[column], 9, u16::MAX]).collect();
            let mut sums = [0; 4];
            trees.iter().for_each(|tree| tree.add_depths(&block, &mut sums));
            prop_assert_eq!(sums[1], one_by_one);
        }
    }
}
