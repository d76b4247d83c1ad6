//! `stockade-trainer prior`

use std::path::PathBuf;

use clap::Args;

use crate::corpus::Corpus;
use crate::prior::Shown;

/// Weights of the base that are tried.
const WEIGHTS: [f64; 6] = [f64::INFINITY, 500.0, 150.0, 50.0, 15.0, 5.0];

/// Which days.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of journals, HOST/cycle-NN.parquet.
    journals: PathBuf,
    /// Folder of labels, when they do not lie beside the journals.
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,
}

/// Runs the command; the test days are not opened.
///
/// # Errors
///
/// When a journal cannot be read.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let shown = Shown::of(&Corpus::open(&options.journals, options.labels.as_deref())?)?;
    say!("One workload left out at a time: bits of what is new to it, by a prior of what the others did.");
    for cost in WEIGHTS.map(|weight| shown.cost(weight)) {
        let weight = if cost.weight.is_finite() { format!("{:>5}", cost.weight) } else { " none".to_owned() };
        say!(
            "weight {weight}  benign {:5.2} bits ({:4.1} % known)  attacks {:5.2} bits ({:4.1} % known)  apart {:5.2}",
            cost.benign,
            100.0 * cost.benign_known,
            cost.attack,
            100.0 * cost.attack_known,
            cost.attack - cost.benign
        );
    }
    Ok(())
}
