//! `stockade-trainer inspect`

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use jiff::Timestamp;
use model::Model;

use crate::journal::Journal;

/// What to look at.
#[derive(Debug, Args)]
pub struct Options {
    /// A model snapshot, or a journal (`.parquet`).
    file: PathBuf,
    /// Of a model: every fact of this workload.
    #[arg(long, value_name = "WORKLOAD", conflicts_with_all = ["workload", "from", "until"])]
    facts: Option<String>,
    /// Of a journal: only this workload.
    #[arg(long, value_name = "WORKLOAD")]
    workload: Option<String>,
    /// Of a journal: only from this moment of event time on, e.g. 2026-01-05T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Of a journal: only before this moment.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
}

/// Runs the command.
///
/// # Errors
///
/// When the file is neither.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if options.file.extension().is_some_and(|extension| extension == "parquet") {
        if options.facts.is_some() {
            bail!(
                "{} is a journal: facts are in a model, as `stockade-trainer train` makes it",
                options.file.display()
            );
        }
        return journal(&Journal::open(&options.file)?, options);
    }
    if options.workload.is_some() || options.from.is_some() || options.until.is_some() {
        bail!("{} is no journal (.parquet): of a model, --facts WORKLOAD shows a workload", options.file.display());
    }
    let bytes = std::fs::read(&options.file).with_context(|| format!("cannot read {}", options.file.display()))?;
    let model = Model::restore(&bytes).with_context(|| format!("{} is no model", options.file.display()))?;
    if let Some(workload) = &options.facts {
        let facts = model.baseline(workload);
        if facts.is_empty() {
            let known: Vec<String> = model.workloads().iter().map(ToString::to_string).collect();
            bail!("the model knows nothing of {workload}; it knows {}", known.join(", "));
        }
        for fact in facts {
            let frozen = if fact.frozen { "frozen" } else { "learnt" };
            say!("{frozen}  {:>6} times  {:>3} days  {}: {}", fact.count, fact.days, fact.fact.what(), fact.fact);
        }
        return Ok(());
    }
    let (health, threshold) = (model.health(), model.threshold());
    let calibrated = if threshold.calibrated { "this host's own" } else { "not calibrated" };
    say!("model      {health}");
    say!("threshold  {:.1} bits ({calibrated}), {:.1} days of data", threshold.level, threshold.days);
    if threshold.calibrated {
        let (low, high) = model.promised_a_day();
        say!(
            "           promises {low:.1} to {high:.1} findings a day, by {:.1} independent episodes",
            threshold.independent
        );
    }
    let (own, refused) = model.own_forests().size();
    say!("own rows   {own} workloads; {refused} rows of others found no place");
    if !health.state.may_deny() {
        say!("enforce    no: the model is {}", health.state.name());
    }
    for (workload, state) in model.all_sick() {
        say!("sick       {workload}: its own forest is {state}");
    }
    for (workload, drifted) in model.all_drifted() {
        drifted.iter().for_each(|drifted| println!("drifted    {workload}: {drifted}"));
    }
    for workload in model.workloads() {
        let Some(summary) = model.summary(&workload) else { continue };
        say!(
            "{workload}: {} windows, {} execs, {} flows; {} programs, {} exec edges, {} destinations, {} trigrams; chance of a new fact {:.3}; {:.0} % scored by its own forest{}",
            summary.windows,
            summary.execs,
            summary.flows,
            summary.exes,
            summary.exec_edges,
            summary.destinations,
            summary.trigrams,
            summary.singleton_share,
            100.0 * model.own_forests().share(&workload),
            if summary.frozen { ", frozen" } else { "" }
        );
    }
    Ok(())
}

/// What is in a journal: three columns are read of it, and of them what was asked for.
fn journal(journal: &Journal, options: &Options) -> anyhow::Result<()> {
    let meta = journal.meta();
    say!("journal    {} events of {}, kernel {}, agent {}", journal.rows(), meta.host, meta.kernel, meta.agent);
    let (first, last) = journal.extent("unix_ns")?;
    say!("time       {} to {}", moment(first), moment(last));
    let nanoseconds = |at: Timestamp| u64::try_from(at.as_nanosecond()).unwrap_or(0);
    let during = options.from.map_or(0, nanoseconds)..options.until.map_or(u64::MAX, nanoseconds);
    let mut scan = journal.scan().columns(&["kind", "workload"]);
    if options.from.is_some() || options.until.is_some() {
        scan = scan.during(during);
    }
    if let Some(workload) = &options.workload {
        scan = scan.of_workload(workload);
    }
    let (mut kinds, mut workloads) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    for frame in scan.batches() {
        let frame = frame?;
        for (counts, name) in [(&mut kinds, "kind"), (&mut workloads, "workload")] {
            for value in frame.column(name)?.str()?.iter().flatten() {
                match counts.get_mut(value) {
                    Some(count) => *count += 1,
                    None => drop(counts.insert(value.to_owned(), 1)),
                }
            }
        }
    }
    kinds.iter().for_each(|(kind, count)| say!("{kind:>9}  {count}"));
    workloads.iter().for_each(|(workload, count)| say!("{count:>9}  {workload}"));
    if kinds.is_empty() {
        say!("           nothing of that is in it");
    }
    for change in &meta.modes {
        say!("after row {}: {} is {}", change.row, change.workload, if change.ready { "judged" } else { "learning" });
    }
    Ok(())
}

fn moment(unix_ns: u64) -> String {
    Timestamp::from_nanosecond(i128::from(unix_ns)).map_or_else(|_| format!("{unix_ns} ns"), |at| at.to_string())
}
