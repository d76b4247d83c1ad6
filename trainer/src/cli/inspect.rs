//! `stockade-trainer inspect`

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use model::Model;

use crate::journal::Journal;

/// What to look at.
#[derive(Debug, Args)]
pub struct Options {
    /// A model snapshot, or a journal (`.parquet`).
    file: PathBuf,
    /// Every fact of this workload.
    #[arg(long, value_name = "WORKLOAD")]
    facts: Option<String>,
}

/// Runs the command.
///
/// # Errors
///
/// When the file is neither.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if options.file.extension().is_some_and(|extension| extension == "parquet") {
        return journal(&Journal::open(&options.file)?);
    }
    let bytes = std::fs::read(&options.file).with_context(|| format!("cannot read {}", options.file.display()))?;
    let model = Model::restore(&bytes).with_context(|| format!("{} is no model", options.file.display()))?;
    if let Some(workload) = &options.facts {
        for fact in model.baseline(workload) {
            let frozen = if fact.frozen { "frozen" } else { "learnt" };
            println!("{frozen}  {:>6} times  {:>3} days  {}: {}", fact.count, fact.days, fact.fact.what(), fact.fact);
        }
        return Ok(());
    }
    let (health, threshold) = (model.health(), model.threshold());
    let calibrated = if threshold.calibrated { "this host's own" } else { "not calibrated" };
    println!("model      {health}");
    println!("threshold  {:.1} bits ({calibrated}), {:.1} days of data", threshold.level, threshold.days);
    if !health.state.may_deny() {
        println!("enforce    no: the model is {}", health.state.name());
    }
    for (workload, drifted) in model.all_drifted() {
        drifted.iter().for_each(|drifted| println!("drifted    {workload}: {drifted}"));
    }
    for workload in model.workloads() {
        let Some(summary) = model.summary(&workload) else { continue };
        println!(
            "{workload}: {} windows, {} execs, {} flows; {} programs, {} exec edges, {} destinations, {} trigrams; chance of a new fact {:.3}{}",
            summary.windows,
            summary.execs,
            summary.flows,
            summary.exes,
            summary.exec_edges,
            summary.destinations,
            summary.trigrams,
            summary.singleton_share,
            if summary.frozen { ", frozen" } else { "" }
        );
    }
    Ok(())
}

fn journal(journal: &Journal) -> anyhow::Result<()> {
    let meta = journal.meta();
    println!("journal    {} events of {}, kernel {}, agent {}", journal.rows(), meta.host, meta.kernel, meta.agent);
    let mut kinds = std::collections::BTreeMap::<String, u64>::new();
    for row in journal.rows_checked() {
        let kind = row?.map_or_else(|error| error.to_string(), |row| row.kind.to_string());
        *kinds.entry(kind).or_default() += 1;
    }
    kinds.iter().for_each(|(kind, count)| println!("{kind:>9}  {count}"));
    for change in &meta.modes {
        println!(
            "after row {}: {} is {}",
            change.row,
            change.workload,
            if change.ready { "judged" } else { "learning" }
        );
    }
    Ok(())
}
