//! Our forest, as the agent has it, on plain rows.

use linfa::ParamGuard;
use model::forest::ForestParams;
use model::stream::OnlineForest;

use super::Streaming;

/// Rows of a tree.
const SAMPLE: usize = 256;

/// The forest of [`model::stream`].
pub struct Ours(Option<OnlineForest>);

impl Ours {
    /// For rows of a width.
    pub fn new(width: usize, trees: usize, seed: u64) -> Self {
        // Without trees, or with too many, there is no forest, and every row scores alike.
        let params = ForestParams::new(trees, SAMPLE, seed).check();
        Self(params.ok().map(|params| OnlineForest::new(params, width)))
    }
}

impl Streaming for Ours {
    fn score(&mut self, row: &[f64]) -> f64 {
        self.0.as_ref().map_or(0.0, |forest| forest.score(row))
    }

    fn learn(&mut self, row: &[f64]) {
        if let Some(forest) = &mut self.0 {
            forest.learn(row);
        }
    }
}
