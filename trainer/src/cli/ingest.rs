//! `stockade-trainer ingest`

use std::path::PathBuf;

use clap::Args;

use crate::ingest::{Ingested, ingest};

/// What to take in.
#[derive(Debug, Args)]
pub struct Options {
    /// Journals (`.parquet`) or events as JSON, one a line (`.jsonl`).
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where checked journals go, and NAME.rejects.jsonl beside each.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Take files in again whose journal is there already.
    #[arg(long)]
    again: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When a file cannot be taken in at all; those before it stay.
pub fn run(options: &Options) -> anyhow::Result<()> {
    for file in &options.files {
        match ingest(file, &options.out, options.again)? {
            Some(Ingested { rows, rejected, journal }) => {
                println!("took in  {rows} events, set aside {rejected}: {}", journal.display());
            }
            None => println!("there    {} was taken in before; --again does it anew", file.display()),
        }
    }
    Ok(())
}
