//! `stockade-trainer calibrate`

use std::path::PathBuf;

use clap::Args;

use crate::corpus::Corpus;
use crate::evaluate::{self, FULL, Plan, Track, numbered, pass};
use crate::labels::Split;

/// What to calibrate on.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of journals, HOST/cycle-NN.parquet.
    journals: PathBuf,
    /// Folder of labels, when they do not lie beside the journals.
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,
    /// Budgets, false alarms a host-day.
    #[arg(long, value_delimiter = ',', default_values_t = [100.0, 10.0, 1.0, 0.1])]
    budgets: Vec<f64>,
    /// Seed of the model.
    #[arg(long, default_value_t = model::Params::default().seed)]
    seed: u64,
}

/// Runs the command: the level of each budget from the benign part of the validation days.
///
/// # Errors
///
/// When a journal cannot be read.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let corpus = Corpus::open(&options.journals, options.labels.as_deref())?;
    let plan = Plan::alone(model::Params { seed: options.seed, ..model::Params::default() });
    let days = corpus.host_days(Split::Validation);
    if days == 0 {
        anyhow::bail!("there are no validation days: thresholds come from them and from nothing else");
    }
    let mut full = Track::named(FULL);
    for host in numbered(&corpus) {
        let known: Vec<_> = host.into_iter().filter(|(_, day)| day.cycle.split != Split::Test).collect();
        let passed = pass(&known, &plan)?;
        passed.tracks.into_iter().filter(|track| track.name == FULL).for_each(|track| full.join(track));
    }
    say!("budget/day  threshold  exceedances  independent  true rate a day (90 %)");
    for budget in &options.budgets {
        let level = evaluate::level(full.benign_scores(Split::Validation), (budget * days as f64) as usize);
        match evaluate::promise(&full, *budget, level, days as f64) {
            None => {
                say!("{budget:>10}  {level:>9.2}  {:>11}  {days} days do not tell: the highest benign score seen", 0)
            }
            Some(promise) => {
                let ((low, high), alarms) = (promise.rate, promise.alarms);
                say!("{budget:>10}  {level:>9.2}  {alarms:>11}  {:>11.1}  {low:.2}–{high:.2}", promise.independent);
            }
        }
    }
    Ok(())
}
