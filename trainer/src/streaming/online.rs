//! Online Isolation Forest (Leveni, Cassales, Pfahringer, Bifet and Boracchi, ICML 2024; PMLR 235:27288–27298), as its authors'
//! code does it: no points are kept in nodes, only a count and a box. A leaf that grew too full is cut by points drawn
//! uniformly within its box; what leaves the window is counted out again, and a node that grew too thin becomes a leaf.

use std::collections::VecDeque;

use model::random::Random;

use super::Streaming;

/// Trees of the paper's experiments.
const TREES: usize = 32;
/// Rows that are remembered.
const WINDOW: usize = 2_048;
/// η: a leaf at the root is cut from so many rows on, one at depth k from η·2^k on.
const LEAF: i64 = 32;

/// How deep a row lies that is still among `n` others. The paper's text and its authors' code differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// log2(n / η), as the paper writes.
    Paper,
    /// log(n / η) / log(2·2), as the code does: half of it, and trees half as deep.
    Code,
}

impl Reading {
    fn depth(self, rows: i64) -> f64 {
        if rows < LEAF {
            return 0.0;
        }
        let doublings = (rows as f64 / LEAF as f64).log2();
        match self {
            Self::Paper => doublings,
            Self::Code => doublings / 2.0,
        }
    }
}

/// The forest of a stream.
pub struct OnlineForest {
    reading: Reading,
    trees: Vec<Node>,
    window: VecDeque<Vec<f64>>,
    random: Random,
}

impl OnlineForest {
    /// Empty, for rows of so many columns.
    pub fn new(columns: usize, reading: Reading, seed: u64) -> Self {
        let trees = (0..TREES).map(|_| Node::empty(columns, 0)).collect();
        Self { reading, trees, window: VecDeque::new(), random: Random::new(seed ^ 0x6f69_6600) }
    }
}

impl Streaming for OnlineForest {
    /// Scores a row, in 0..1; higher = more anomalous. 1 for every row while there are fewer than η.
    fn score(&mut self, row: &[f64]) -> f64 {
        let depth = self.trees.iter().map(|tree| tree.depth(row, self.reading)).sum::<f64>() / TREES as f64;
        (-depth / (self.reading.depth(self.window.len() as i64) + f64::EPSILON)).exp2()
    }

    /// Learns a row, and forgets the one that leaves the window.
    fn learn(&mut self, row: &[f64]) {
        self.window.push_back(row.to_vec());
        let limit = self.reading.depth(self.window.len() as i64);
        for tree in &mut self.trees {
            tree.learn(row, limit, &mut self.random);
        }
        if self.window.len() > WINDOW
            && let Some(old) = self.window.pop_front()
        {
            self.trees.iter_mut().for_each(|tree| tree.forget(&old));
        }
    }
}

struct Node {
    /// Rows within; of a node that was cut, about as many. Forgetting may go another way than learning went: it can be less
    /// than none.
    count: i64,
    depth: u32,
    low: Vec<f64>,
    high: Vec<f64>,
    split: Option<Box<Split>>,
}

struct Split {
    column: usize,
    cut: f64,
    left: Node,
    right: Node,
}

impl Split {
    fn side(&self, row: &[f64]) -> &Node {
        if row[self.column] < self.cut { &self.left } else { &self.right }
    }

    fn side_mut(&mut self, row: &[f64]) -> &mut Node {
        if row[self.column] < self.cut { &mut self.left } else { &mut self.right }
    }
}

impl Node {
    fn empty(columns: usize, depth: u32) -> Self {
        Self { count: 0, depth, low: vec![f64::INFINITY; columns], high: vec![f64::NEG_INFINITY; columns], split: None }
    }

    /// Rows from which on a node of this depth has children.
    fn least(&self) -> i64 {
        LEAF << self.depth.min(32)
    }

    fn hold(&mut self, row: &[f64]) {
        for ((low, high), value) in self.low.iter_mut().zip(&mut self.high).zip(row) {
            (*low, *high) = (low.min(*value), high.max(*value));
        }
    }

    /// The box around both children.
    fn shrink(&mut self) {
        let Some(split) = &self.split else { return };
        for column in 0..self.low.len() {
            self.low[column] = split.left.low[column].min(split.right.low[column]);
            self.high[column] = split.left.high[column].max(split.right.high[column]);
        }
    }

    fn learn(&mut self, row: &[f64], limit: f64, random: &mut Random) {
        self.count += 1;
        self.hold(row);
        if let Some(split) = &mut self.split {
            split.side_mut(row).learn(row, limit, random);
        } else if self.count >= self.least() && f64::from(self.depth) < limit {
            let points: Vec<Vec<f64>> = (0..self.count).map(|_| self.point(random)).collect();
            *self = Self::build(self.low.len(), &points, self.depth, limit, random);
        }
    }

    fn point(&self, random: &mut Random) -> Vec<f64> {
        self.low.iter().zip(&self.high).map(|(low, high)| low + (high - low) * random.unit()).collect()
    }

    /// A node of these points, with children as long as there are enough of them. A column without range is not avoided: all
    /// points go to the right, as in the authors' code.
    fn build(columns: usize, points: &[Vec<f64>], depth: u32, limit: f64, random: &mut Random) -> Self {
        let mut node = Self::empty(columns, depth);
        node.count = points.len() as i64;
        points.iter().for_each(|point| node.hold(point));
        if node.count < node.least() || f64::from(depth) >= limit {
            return node;
        }
        let column = random.below(columns);
        let cut = node.low[column] + (node.high[column] - node.low[column]) * random.unit();
        let (left, right): (Vec<_>, Vec<_>) = points.iter().cloned().partition(|point| point[column] < cut);
        let left = Self::build(columns, &left, depth + 1, limit, random);
        let right = Self::build(columns, &right, depth + 1, limit, random);
        node.split = Some(Box::new(Split { column, cut, left, right }));
        node
    }

    fn forget(&mut self, row: &[f64]) {
        self.count -= 1;
        let too_few = self.count < self.least();
        let Some(split) = &mut self.split else { return };
        if too_few {
            self.collapse();
            return;
        }
        split.side_mut(row).forget(row);
        self.shrink();
    }

    fn collapse(&mut self) {
        if let Some(split) = &mut self.split {
            split.left.collapse();
            split.right.collapse();
        }
        self.shrink();
        self.split = None;
    }

    fn depth(&self, row: &[f64], reading: Reading) -> f64 {
        let mut node = self;
        while let Some(split) = &node.split {
            node = split.side(row);
        }
        f64::from(node.depth) + reading.depth(node.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn height(node: &Node) -> u32 {
        node.split.as_ref().map_or(node.depth, |split| height(&split.left).max(height(&split.right)))
    }

    fn filled(reading: Reading) -> OnlineForest {
        let (mut forest, mut random) = (OnlineForest::new(3, reading, 1), Random::new(2));
        for _ in 0..2 * WINDOW {
            forest.learn(&[random.unit(), random.unit(), 7.0]);
        }
        forest
    }

    #[test]
    fn one_reading_grows_trees_about_half_as_deep_as_the_other() {
        let highest = |forest: &OnlineForest| forest.trees.iter().map(height).max().unwrap_or(0);
        // A row more than the window is there while one is learnt, which lets a fourth level begin.
        let (code, paper) = (highest(&filled(Reading::Code)), highest(&filled(Reading::Paper)));
        assert!((3..=4).contains(&code) && (5..=7).contains(&paper), "{code} {paper}");
    }

    #[test]
    fn what_leaves_the_window_is_counted_out() {
        let mut forest = filled(Reading::Code);
        assert!(forest.trees.iter().all(|tree| tree.count == WINDOW as i64));
        let strange = [5.0, 5.0, 7.0];
        let before = forest.score(&strange);
        for _ in 0..WINDOW {
            forest.learn(&strange);
        }
        assert!(forest.score(&strange) < before, "a window of them is usual");
        assert_eq!(forest.window.len(), WINDOW);
    }
}
