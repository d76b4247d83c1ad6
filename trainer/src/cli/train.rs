//! `stockade-trainer train`

use std::path::PathBuf;

use clap::Args;
use model::replay::Replay;
use model::{Model, Params};

use crate::corpus::Corpus;
use crate::labels::Split;
use crate::report;

/// What to train from.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of journals, HOST/cycle-NN.parquet, with their labels.
    journals: PathBuf,
    /// Folder of labels, when they do not lie beside the journals.
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,
    /// Host whose baselines are learnt; may be left out when there is one only.
    #[arg(long)]
    host: Option<String>,
    /// Where the snapshot goes: the agent begins with it by `model.start`, a replay by `--model`.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Seed of the model.
    #[arg(long, default_value_t = Params::default().seed)]
    seed: u64,
    /// Leave the baselines open, so that the agent goes on learning before it judges.
    #[arg(long)]
    open: bool,
    /// Take the validation days, too: they calibrate the threshold.
    #[arg(long)]
    calibrate: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When a journal cannot be read or the snapshot not be written; nothing is left half-written.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let corpus = Corpus::open(&options.journals, options.labels.as_deref())?;
    let days = super::host_days(&corpus, options.host.as_deref())?;
    let params = Params { seed: options.seed, ..Params::default() };
    let mut replay = Replay::new(Model::new(params)?);
    let mut last = model::Time::default();
    let (mut events, mut frozen) = (0u64, options.open);
    let wanted = |split| split == Split::Train || (options.calibrate && split == Split::Validation);
    let progress =
        super::progress(days.iter().filter(|day| wanted(day.cycle.split)).map(|day| day.journal.rows()).sum());
    for day in days.iter().filter(|day| wanted(day.cycle.split)) {
        if day.cycle.split != Split::Train && !frozen {
            replay.freeze_all(last);
            frozen = true;
        }
        for event in day.events() {
            let event = event?;
            last = event.at;
            replay.feed(&event);
            events += 1;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    if !frozen {
        replay.freeze_all(last);
    }
    let bytes = replay.model().snapshot()?;
    report::whole(&options.out, &bytes)?;
    let model = replay.model();
    say!(
        "learnt   {events} events of {} workloads; {}; {} bytes in {}",
        model.workloads().len(),
        model.health().detail,
        bytes.len(),
        options.out.display()
    );
    Ok(())
}
