//! `stockade-trainer export`

use std::path::PathBuf;

use clap::Args;
use model::Params;

use crate::corpus::Corpus;
use crate::evaluate::numbered;
use crate::export::Exporter;

/// What to export.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of journals, HOST/cycle-NN.parquet.
    journals: PathBuf,
    /// Folder of labels, when they do not lie beside the journals.
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,
    /// Where the table goes: Parquet, one row a judged event.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Events without any surprise, too.
    #[arg(long)]
    all: bool,
    /// Seed of the model.
    #[arg(long, default_value_t = Params::default().seed)]
    seed: u64,
}

/// Runs the command.
///
/// # Errors
///
/// When a journal cannot be read or the table not be written; nothing is left half-written.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let corpus = Corpus::open(&options.journals, options.labels.as_deref())?;
    let params = Params { seed: options.seed, ..Params::default() };
    let mut exporter = Exporter::create(&options.out, options.all)?;
    for days in numbered(&corpus) {
        exporter.host(&days, &params)?;
    }
    let rows = exporter.finish()?;
    say!("wrote    {rows} judged events to {}", options.out.display());
    Ok(())
}
