//! `stockade-trainer compare`

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use crate::evaluate::{DayCount, Evaluation, FULL};
use crate::stats;

const ROUNDS: usize = 10_000;

/// What to compare.
#[derive(Debug, Args)]
pub struct Options {
    /// scorecard.json of one evaluation.
    one: PathBuf,
    /// scorecard.json of another one, or the same for another row of it.
    other: PathBuf,
    /// Row of the first.
    #[arg(long, default_value = FULL)]
    row: String,
    /// Row of the second.
    #[arg(long, default_value = FULL)]
    other_row: String,
    /// Seed of the bootstrap.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the command: differences with intervals, resampled by recording, since what one recording holds hangs together.
///
/// # Errors
///
/// When the two were not made from the same data.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (one, other) = (read(&options.one)?, read(&options.other)?);
    if one.data != other.data {
        bail!(
            "{} and {} were made from different data ({} and {}): nothing can be compared",
            options.one.display(),
            options.other.display(),
            one.data,
            other.data
        );
    }
    let (left, right) = (days(&one, &options.row)?, days(&other, &options.other_row)?);
    say!("{} minus {}, resampled by recording, 95 %", options.row, options.other_row);
    for (at, budget) in one.budgets.iter().enumerate() {
        let count = |of: &dyn Fn(&DayCount) -> Option<f64>| -> Vec<f64> {
            left.iter().zip(right).filter_map(|(a, b)| Some(of(a)? - of(b)?)).collect()
        };
        let found = count(&|day| {
            (day.attacks > 0).then(|| day.found.get(at).map(|n| *n as f64 / day.attacks as f64)).flatten()
        });
        let false_alarms = count(&|day| day.false_alarms.get(at).map(|n| *n as f64));
        say!(
            "at {budget}/day   share found {}   false alarms a day {}",
            said(&found, options.seed),
            said(&false_alarms, options.seed)
        );
    }
    Ok(())
}

fn said(differences: &[f64], seed: u64) -> String {
    let mean = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
    match stats::bootstrap(differences, ROUNDS, 0.95, seed) {
        Some((low, high)) => {
            let verdict = if low > 0.0 || high < 0.0 { "" } else { ", may be nothing" };
            format!("{mean:+.3} ({low:+.3} to {high:+.3}{verdict})")
        }
        None => "nothing to compare".to_owned(),
    }
}

fn days<'a>(evaluation: &'a Evaluation, name: &str) -> anyhow::Result<&'a [DayCount]> {
    let row = evaluation.rows.iter().find(|row| row.name == name).with_context(|| {
        let names: Vec<&str> = evaluation.rows.iter().map(|row| row.name.as_str()).collect();
        format!("there is no row {name:?}: {}", names.join("; "))
    })?;
    Ok(&row.days)
}

fn read(path: &Path) -> anyhow::Result<Evaluation> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no scorecard.json", path.display()))
}
