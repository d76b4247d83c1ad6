//! Adaptive Isolation Forest (Liu, Cassales, Liu, Pfahringer and Bifet, Discovery Science 2025; doi
//! 10.1007/978-3-032-05461-6_24), as its authors' code in CapyMOA does it: every ψ rows a few candidate trees are grown of them;
//! the best replaces the worst tree if it is better, and the oldest if it is not.

use model::random::Random;

use super::Streaming;

const TREES: usize = 100;
/// ψ: rows of a tree.
const SAMPLE: usize = 256;
/// ⌈log2 ψ⌉.
const HEIGHT: u32 = 8;
const CANDIDATES: usize = 10;
/// How much the size of a tree counts beside the mass of its fullest leaf.
const SIZE_COUNTS: f64 = 0.5;
/// Euler's constant, to the digits of the code.
const EULER: f64 = 0.577_215_664_9;

/// The forest of a stream.
pub struct AdaptiveForest {
    columns: usize,
    trees: Vec<Tree>,
    rows: Vec<Vec<f64>>,
    random: Random,
}

impl AdaptiveForest {
    /// Empty, for rows of so many columns.
    pub fn new(columns: usize, seed: u64) -> Self {
        Self { columns, trees: Vec::new(), rows: Vec::new(), random: Random::new(seed ^ 0x6169_6600) }
    }

    /// Trees are kept by age, the oldest first.
    fn replace(&mut self, mut candidates: Vec<Tree>) {
        let merits = merits(candidates.iter().chain(&self.trees));
        let (theirs, ours) = merits.split_at(candidates.len());
        let best = first(theirs, |one, other| one > other);
        let worst = first(ours, |one, other| one < other);
        self.trees.remove(if theirs[best] > ours[worst] { worst } else { 0 });
        self.trees.push(candidates.swap_remove(best));
    }
}

impl Streaming for AdaptiveForest {
    /// Scores a row, in 0..1; higher = more anomalous. One half for every row until there are ψ of them.
    fn score(&mut self, row: &[f64]) -> f64 {
        if self.trees.is_empty() {
            return 0.5;
        }
        let depth = self.trees.iter().map(|tree| tree.depth(row)).sum::<f64>() / self.trees.len() as f64;
        (-depth / usual_depth(SAMPLE)).exp2()
    }

    /// Learns a row.
    fn learn(&mut self, row: &[f64]) {
        self.rows.push(row.to_vec());
        if self.rows.len() < SAMPLE {
            return;
        }
        let rows = std::mem::take(&mut self.rows);
        if self.trees.is_empty() {
            self.trees = (0..TREES).map(|_| Tree::grow(&rows, self.columns, &mut self.random)).collect();
            return;
        }
        let candidates: Vec<Tree> =
            (0..CANDIDATES).map(|_| Tree::grow(&rows, self.columns, &mut self.random)).collect();
        self.replace(candidates);
    }
}

/// Place of the first number that no other beats.
fn first(numbers: &[f64], beats: fn(f64, f64) -> bool) -> usize {
    (0..numbers.len()).fold(0, |best, at| if beats(numbers[at], numbers[best]) { at } else { best })
}

/// A small tree with a full leaf separates well: both are brought to 0..1 over all the trees compared.
fn merits<'a>(trees: impl Iterator<Item = &'a Tree>) -> Vec<f64> {
    let (sizes, masses): (Vec<f64>, Vec<f64>) =
        trees.map(|tree| (tree.nodes.len() as f64, tree.fullest as f64)).unzip();
    let scaled = |values: &[f64]| -> Vec<f64> {
        let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        values.iter().map(|value| if high > low { (value - low) / (high - low) } else { 0.0 }).collect()
    };
    let small: Vec<f64> = sizes.iter().map(|size| -size).collect();
    scaled(&small).into_iter().zip(scaled(&masses)).map(|(s, m)| SIZE_COUNTS * s + (1.0 - SIZE_COUNTS) * m).collect()
}

/// c(n): mean depth of a row among `n` in a random tree.
fn usual_depth(rows: usize) -> f64 {
    match rows {
        0 | 1 => 0.0,
        n => 2.0 * (((n - 1) as f64).ln() + EULER) - 2.0 * (n - 1) as f64 / n as f64,
    }
}

enum Node {
    Leaf { depth: f64 },
    Cut { column: usize, at: f64, left: usize, right: usize },
}

struct Tree {
    nodes: Vec<Node>,
    /// Rows of the fullest leaf.
    fullest: usize,
}

impl Tree {
    fn grow(rows: &[Vec<f64>], columns: usize, random: &mut Random) -> Self {
        let mut tree = Self { nodes: Vec::new(), fullest: 0 };
        tree.node(rows.iter().map(Vec::as_slice).collect(), 0, columns, random);
        tree
    }

    /// Grows a node with all that is below; its place.
    fn node(&mut self, rows: Vec<&[f64]>, depth: u32, columns: usize, random: &mut Random) -> usize {
        let place = self.nodes.len();
        let mass = rows.len();
        // The code counts the nodes of the way, one more than its cuts: a constant within a forest.
        self.nodes.push(Node::Leaf { depth: f64::from(depth + 1) + usual_depth(mass) });
        let cut = if depth == HEIGHT || mass <= 1 { None } else { draw(&rows, columns, random) };
        let Some((column, at)) = cut else {
            self.fullest = self.fullest.max(mass);
            return place;
        };
        let (left, right): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row[column] < at);
        let left = self.node(left, depth + 1, columns, random);
        let right = self.node(right, depth + 1, columns, random);
        self.nodes[place] = Node::Cut { column, at, left, right };
        place
    }

    fn depth(&self, row: &[f64]) -> f64 {
        let mut place = 0;
        loop {
            match self.nodes[place] {
                Node::Leaf { depth } => return depth,
                Node::Cut { column, at, left, right } => place = if row[column] < at { left } else { right },
            }
        }
    }
}

/// A column that is not constant, and a place within its range, both uniform.
fn draw(rows: &[&[f64]], columns: usize, random: &mut Random) -> Option<(usize, f64)> {
    let mut left: Vec<usize> = (0..columns).collect();
    while !left.is_empty() {
        let chosen = random.below(left.len());
        let column = left[chosen];
        let values = rows.iter().map(|row| row[column]);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low < high {
            return Some((column, low + (high - low) * random.unit()));
        }
        left.swap_remove(chosen);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(seed: u64, rows: usize, middle: f64) -> Vec<Vec<f64>> {
        let mut random = Random::new(seed);
        (0..rows).map(|_| vec![middle + random.unit(), middle - random.unit()]).collect()
    }

    #[test]
    fn a_tree_is_replaced_every_sample_and_the_new_one_is_the_youngest() {
        let mut forest = AdaptiveForest::new(2, 1);
        for row in stream(1, SAMPLE, 0.0) {
            assert_eq!(forest.score(&row), 0.5);
            forest.learn(&row);
        }
        let later = [9.5, 8.5];
        let before = forest.score(&later);
        for row in stream(2, 60 * SAMPLE, 9.0) {
            forest.learn(&row);
        }
        assert_eq!(forest.trees.len(), TREES);
        assert!(forest.score(&later) < before - 0.05, "what became usual is usual");
    }

    #[test]
    fn a_small_tree_with_a_full_leaf_has_the_most_merit() {
        let tree =
            |nodes: usize, fullest| Tree { nodes: (0..nodes).map(|_| Node::Leaf { depth: 0.0 }).collect(), fullest };
        let trees = [tree(9, 2), tree(3, 8), tree(9, 8)];
        assert_eq!(merits(trees.iter()), [0.0, 1.0, 0.5]);
        let mut forest = AdaptiveForest::new(1, 1);
        forest.trees = vec![tree(3, 8), tree(9, 2), tree(9, 8)];
        forest.replace(vec![tree(5, 8), tree(9, 3)]);
        let sizes: Vec<usize> = forest.trees.iter().map(|tree| tree.nodes.len()).collect();
        assert_eq!(sizes, [3, 9, 5], "the worst goes");
        forest.trees = vec![tree(3, 8), tree(3, 8)];
        forest.replace(vec![tree(9, 2), tree(9, 3)]);
        let fullest: Vec<usize> = forest.trees.iter().map(|tree| tree.fullest).collect();
        assert_eq!(fullest, [8, 3], "no candidate is better: the oldest goes");
    }

    #[test]
    fn the_usual_depth_is_that_of_the_books() {
        assert!((usual_depth(256) - 10.2448).abs() < 1e-3);
        assert_eq!(usual_depth(1), 0.0);
    }
}
