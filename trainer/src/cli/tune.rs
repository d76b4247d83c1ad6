//! `stockade-trainer tune`

use std::path::PathBuf;

use clap::Args;
use model::Params;
use model::random::Random;

use crate::corpus::Corpus;
use crate::evaluate::{FULL, Plan, numbered, pass};
use crate::labels::Split;
use crate::stats;

/// Where to search.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of journals, HOST/cycle-NN.parquet.
    journals: PathBuf,
    /// Folder of labels, when they do not lie beside the journals.
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,
    /// Parameter sets that are tried, the default one first.
    #[arg(long, default_value_t = 8)]
    trials: usize,
    /// Seeds that each is tried with.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Seed of the search.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the command: random search, on the validation days only; the test days are not opened.
///
/// # Errors
///
/// When a journal cannot be read.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let corpus = Corpus::open(&options.journals, options.labels.as_deref())?;
    let mut random = Random::new(options.seed);
    let mut tried = Vec::new();
    for trial in 0..options.trials {
        let mut params = Params::default();
        if trial > 0 {
            params.trees = 16 << random.below(5);
            params.sample = 64 << random.below(5);
        }
        let mut reached = Vec::new();
        for seed in 1..=options.seeds {
            reached.extend(on_validation(&corpus, &Params { seed, ..params.clone() })?);
        }
        let middle = stats::quantile(&mut reached.clone(), 0.5);
        say!(
            "trees {:>4}  sample {:>4}  average precision {middle:.4} of {} seeds",
            params.trees,
            params.sample,
            reached.len()
        );
        tried.push((middle, params));
    }
    tried.retain(|(reached, _)| reached.is_finite());
    match tried.iter().max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((reached, best)) => say!("best: trees {}, sample {} ({reached:.4})", best.trees, best.sample),
        None => say!("the validation days hold no attacks: nothing can be chosen by them"),
    }
    Ok(())
}

fn on_validation(corpus: &Corpus, params: &Params) -> anyhow::Result<Option<f64>> {
    let plan = Plan::alone(params.clone());
    let mut scored = Vec::new();
    for host in numbered(corpus) {
        let known: Vec<_> = host.into_iter().filter(|(_, day)| day.cycle.split != Split::Test).collect();
        for track in pass(&known, &plan)?.tracks.iter().filter(|track| track.name == FULL) {
            scored.extend(track.benign_scores(Split::Validation).map(|score| (score, false)));
            scored.extend(track.attacks.keys().map(|attack| (track.peak(*attack), true)));
        }
    }
    Ok(stats::average_precision(&scored))
}
