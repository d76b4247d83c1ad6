//! `stockade-trainer evaluate`

use std::path::PathBuf;

use clap::Args;

use crate::corpus::Corpus;
use crate::evaluate::{self, Question, Seeds, evaluate, over_seeds, robustness};
use crate::report;

/// What to evaluate.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of journals, HOST/cycle-NN.parquet.
    journals: PathBuf,
    /// Folder of labels, HOST/cycle-NN.toml, when they do not lie beside the journals.
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,
    /// Where scorecard.md, scorecard.json and the plots go.
    #[arg(long, value_name = "DIR", default_value = "target/scorecard")]
    out: PathBuf,
    /// Seed of the model and of everything random.
    #[arg(long, default_value_t = model::Params::default().seed)]
    seed: u64,
    /// Seeds of the whole system, from the one above on; with more than one the scorecard says what the seed does.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
    /// Over the same seeds: what becomes of the result with attacks in the training, how long a lasting change disturbs, and
    /// from when on a slow ramp is found.
    #[arg(long, value_name = "QUESTION", value_enum, value_delimiter = ',', num_args = 0.., require_equals = true)]
    robustness: Option<Vec<Question>>,
    /// False alarms a host-day that are allowed, largest first.
    #[arg(long, value_delimiter = ',', default_values_t = [10.0, 1.0, 0.1])]
    budgets: Vec<f64>,
    /// Leave out the passes without each coordinate.
    #[arg(long)]
    no_ablations: bool,
    /// A control: shuffle the calls inside each window.
    #[arg(long)]
    shuffle_calls: bool,
    /// Let the boot clock pass slower by this factor; without it so that a recorded day takes an hour of it. Episodes close
    /// after five minutes, and a day of minutes would be one single episode.
    #[arg(long)]
    stretch: Option<f64>,
    /// Passes at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// Runs the command.
///
/// # Errors
///
/// When the corpus cannot be evaluated or the report not be written.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut corpus = Corpus::open(&options.journals, options.labels.as_deref())?;
    corpus.stretch(options.stretch)?;
    corpus.keep()?;
    let asked = evaluate::Options {
        params: model::Params { seed: options.seed, ..model::Params::default() },
        seed: options.seed,
        budgets: options.budgets.clone(),
        ablations: !options.no_ablations,
        shuffle_calls: options.shuffle_calls,
        jobs: options.jobs,
        progress: |pass| eprintln!("passed   {pass}"),
        ..evaluate::Options::default()
    };
    let mut evaluation = evaluate(&corpus, &asked, &super::commit())?;
    let each = over_seeds(&corpus, &asked, &evaluation, options.seeds)?;
    evaluation.seeds = (options.seeds > 1).then(|| Seeds::of(&each));
    if let Some(questions) = &options.robustness {
        let questions = if questions.is_empty() { &Question::ALL[..] } else { questions };
        evaluation.robustness = Some(robustness(&corpus, &asked, &each, questions)?);
    }
    let stretched = corpus.stretched();
    if stretched > 1.0 {
        evaluation.notes.push(format!(
            "the boot clock was made to pass {stretched:.1} times slower, so that an episode closes after {:.1} real seconds without news: the days were recorded in minutes, and with their own clock each would be one single episode (`--stretch 1`)",
            300.0 / stretched
        ));
    }
    for file in report::write(&options.out, &evaluation)? {
        eprintln!("wrote    {}", options.out.join(file).display());
    }
    say!("{}", report::markdown(&evaluation, &[]));
    Ok(())
}
