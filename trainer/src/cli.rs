//! `stockade-trainer`: one subcommand a file.

/// `println!` for whom `head` may read: a reader that has seen enough ends the program, and it is no fault.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::line(format_args!($($text)*)) };
}

mod calibrate;
mod compare;
mod datasets;
mod evaluate;
mod export;
mod ingest;
mod inspect;
mod prior;
mod rivals;
mod streaming;
mod train;
mod tune;

use anyhow::Context;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::corpus::{Corpus, Day};

/// Learns from recorded days, evaluates, and makes model snapshots for the agent.
#[derive(Debug, Parser)]
#[command(name = "stockade-trainer", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check events from outside and make journals of them; bad rows are set aside with their reason.
    Ingest(ingest::Options),
    /// Learn the baselines of a host; the agent goes on from the snapshot.
    Train(train::Options),
    /// What does the model find in labelled days, how soon, at how many false findings a day?
    Evaluate(evaluate::Options),
    /// The threshold of each budget, from the validation days.
    Calibrate(calibrate::Options),
    /// Two rows or two evaluations of the same data, with intervals by recording.
    Compare(compare::Options),
    /// Search parameters on the validation days.
    Tune(tune::Options),
    /// What would shipped counts of facts be worth? Asked with one workload left out at a time.
    Prior(prior::Options),
    /// Look into a model snapshot or a journal.
    Inspect(inspect::Options),
    /// Every verdict as a Parquet table, for notebooks.
    Export(export::Options),
    /// Our trees on public sets.
    Datasets(datasets::Options),
    /// Rivals beside us, on the own corpus and on public sets.
    Rivals(rivals::Options),
    /// Streaming detectors side by side on ADBench's tables: score, then learn.
    Streaming(streaming::Options),
}

/// Runs what was asked for.
///
/// # Errors
///
/// One sentence that says what was tried, why it failed, and what to do.
pub fn run(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Ingest(options) => ingest::run(options),
        Command::Train(options) => train::run(options),
        Command::Evaluate(options) => evaluate::run(options),
        Command::Calibrate(options) => calibrate::run(options),
        Command::Compare(options) => compare::run(options),
        Command::Tune(options) => tune::run(options),
        Command::Prior(options) => prior::run(options),
        Command::Inspect(options) => inspect::run(options),
        Command::Export(options) => export::run(options),
        Command::Datasets(options) => datasets::run(options),
        Command::Rivals(options) => rivals::run(options),
        Command::Streaming(options) => streaming::run(options),
    }
}

/// A line on the standard output.
fn line(text: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => eprintln!("stockade-trainer: cannot print: {error}"),
        Ok(()) => (),
    }
}

/// Commit of the sources, or `unknown`.
fn commit() -> String {
    let told = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output().ok();
    let told = told.filter(|output| output.status.success());
    told.map_or_else(|| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The days of a host, or of the only one.
fn host_days<'a>(corpus: &'a Corpus, host: Option<&str>) -> anyhow::Result<&'a [Day]> {
    let known = || corpus.hosts.keys().cloned().collect::<Vec<_>>().join(", ");
    match (host, corpus.hosts.values().next()) {
        (Some(host), _) => {
            corpus.hosts.get(host).map(Vec::as_slice).with_context(|| format!("there is no host {host}: {}", known()))
        }
        (None, Some(days)) if corpus.hosts.len() == 1 => Ok(days),
        _ => anyhow::bail!("a model belongs to one host; say --host with one of {}", known()),
    }
}

/// A bar on a terminal, nothing elsewhere.
fn progress(events: usize) -> ProgressBar {
    let bar = ProgressBar::new(events as u64);
    match ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} events, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
