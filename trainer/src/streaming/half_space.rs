//! Half-Space Trees (Tan, Ting and Liu, IJCAI 2011), as in the paper: complete trees whose cuts never look at the data, each
//! halving a randomly chosen column of a work range that is drawn around [0, 1]; the mass of every node in the last whole window
//! of rows is the reference, that of the window which is being filled takes its place.
//!
//! The paper takes columns in [0, 1] for granted. They are brought there by the smallest and largest value that was learnt.

use model::random::Random;

use super::Streaming;

const TREES: usize = 25;
const HEIGHT: usize = 15;
/// Rows of a window.
const WINDOW: usize = 250;
/// A node of fewer reference rows ends the way down.
const LEAST: u16 = (WINDOW / 10) as u16;

/// The trees of a stream.
pub struct HalfSpaceTrees {
    trees: Vec<Tree>,
    low: Vec<f64>,
    high: Vec<f64>,
    filled: usize,
}

impl HalfSpaceTrees {
    /// Empty, for rows of so many columns.
    pub fn new(columns: usize, seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6873_7400);
        let trees = (0..TREES).map(|_| Tree::draw(columns, &mut random)).collect();
        Self { trees, low: vec![f64::INFINITY; columns], high: vec![f64::NEG_INFINITY; columns], filled: 0 }
    }

    fn scaled(&self, row: &[f64]) -> Vec<f64> {
        let limits = self.low.iter().zip(&self.high);
        row.iter().zip(limits).map(|(v, (low, high))| if high > low { (v - low) / (high - low) } else { 0.0 }).collect()
    }
}

impl Streaming for HalfSpaceTrees {
    /// Scores a row: minus the mass that the reference window had around it; higher = more anomalous. 0 for every row until
    /// there is a window.
    fn score(&mut self, row: &[f64]) -> f64 {
        let row = self.scaled(row);
        -self.trees.iter().map(|tree| tree.mass(&row)).sum::<f64>()
    }

    /// Learns a row.
    fn learn(&mut self, row: &[f64]) {
        for ((low, high), value) in self.low.iter_mut().zip(&mut self.high).zip(row) {
            (*low, *high) = (low.min(*value), high.max(*value));
        }
        let row = self.scaled(row);
        self.trees.iter_mut().for_each(|tree| tree.learn(&row));
        self.filled += 1;
        if self.filled == WINDOW {
            self.trees.iter_mut().for_each(Tree::turn);
            self.filled = 0;
        }
    }
}

/// A complete tree; the children of node n are 2n + 1 and 2n + 2.
struct Tree {
    column: Vec<u16>,
    cut: Vec<f64>,
    reference: Vec<u16>,
    latest: Vec<u16>,
}

impl Tree {
    fn draw(columns: usize, random: &mut Random) -> Self {
        let inner = (1 << HEIGHT) - 1;
        let mut tree = Self {
            column: vec![0; inner],
            cut: vec![0.0; inner],
            reference: vec![0; 2 * inner + 1],
            latest: vec![0; 2 * inner + 1],
        };
        let mut ranges: Vec<(f64, f64)> = (0..columns)
            .map(|_| {
                let middle = random.unit();
                let reach = 2.0 * middle.max(1.0 - middle);
                (middle - reach, middle + reach)
            })
            .collect();
        tree.cut_below(0, &mut ranges, random);
        tree
    }

    fn cut_below(&mut self, node: usize, ranges: &mut [(f64, f64)], random: &mut Random) {
        if node >= self.cut.len() {
            return;
        }
        let column = random.below(ranges.len());
        let (low, high) = ranges[column];
        let middle = f64::midpoint(low, high);
        (self.column[node], self.cut[node]) = (column as u16, middle);
        ranges[column] = (low, middle);
        self.cut_below(2 * node + 1, ranges, random);
        ranges[column] = (middle, high);
        self.cut_below(2 * node + 2, ranges, random);
        ranges[column] = (low, high);
    }

    fn next(&self, node: usize, row: &[f64]) -> usize {
        2 * node + if row[usize::from(self.column[node])] < self.cut[node] { 1 } else { 2 }
    }

    fn learn(&mut self, row: &[f64]) {
        let mut node = 0;
        self.latest[node] += 1;
        while node < self.cut.len() {
            node = self.next(node, row);
            self.latest[node] += 1;
        }
    }

    /// Reference mass times 2^depth of the node where the way down ends.
    fn mass(&self, row: &[f64]) -> f64 {
        let (mut node, mut depth) = (0, 0);
        while node < self.cut.len() && self.reference[node] >= LEAST {
            node = self.next(node, row);
            depth += 1;
        }
        f64::from(self.reference[node]) * f64::from(1_u32 << depth)
    }

    fn turn(&mut self) {
        std::mem::swap(&mut self.reference, &mut self.latest);
        self.latest.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_counted_once_on_every_level_and_a_window_later_it_is_the_reference() {
        let (mut trees, mut random) = (HalfSpaceTrees::new(2, 3), Random::new(4));
        for _ in 0..WINDOW {
            trees.learn(&[random.unit() * 40.0, -random.unit()]);
        }
        for tree in &trees.trees {
            for depth in 0..=HEIGHT {
                let level = (1 << depth) - 1..(1 << (depth + 1)) - 1;
                assert_eq!(tree.reference[level].iter().map(|mass| usize::from(*mass)).sum::<usize>(), WINDOW);
            }
            assert!(tree.latest.iter().all(|mass| *mass == 0));
        }
    }

    #[test]
    fn cuts_halve_a_work_range_that_holds_the_unit_interval() {
        let mut random = Random::new(5);
        for _ in 0..50 {
            let tree = Tree::draw(1, &mut random);
            assert!(tree.cut[0] > 0.0 && tree.cut[0] < 1.0, "the first cut is the middle that was drawn");
            assert!(tree.cut[1] < 1e-9 && tree.cut[2] > 1.0 - 1e-9, "the interval lies on both sides of it");
        }
    }
}
