//! `stockade replay`

use std::path::{Path, PathBuf};

use clap::Args;

use super::findings::name;
use super::printable::printable;
use super::{Common, Exit, Output, table};
use crate::replay::run::{Play, Replayed, replay};

/// What to replay.
#[derive(Debug, Args)]
pub struct Options {
    /// A file that `stockade record` or an agent wrote, compressed by gzip or not.
    file: PathBuf,
    /// Write the events to DIR/NAME.parquet, for `stockade-trainer` and notebooks.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Begin with this model, as `stockade-trainer train` writes it, instead of an empty one.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Take the workloads that were monitored or enforcing in the recording as such.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    modes: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When there is no answer, or nothing can be printed.
pub fn run(common: &Common, options: &Options) -> anyhow::Result<Exit> {
    let journal = options.journal.as_deref().map(|folder| folder.join(journal_name(&options.file)));
    let play = Play { modes: options.modes, journal: journal.as_deref(), model: options.model.as_deref() };
    let replayed = replay(&options.file, &common.config()?, play)?;
    match common.output {
        Output::Table => table::say(&text(&replayed))?,
        Output::Json => table::json(common.output, &replayed)?,
        Output::Jsonl => replayed.findings.iter().try_for_each(|finding| table::json(common.output, finding))?,
    }
    Ok(if replayed.cut_off.is_some() { Exit::Attention } else { Exit::Fine })
}

/// `cycle-01.stk.gz` becomes `cycle-01.parquet`.
fn journal_name(recording: &Path) -> String {
    let name = recording.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".gz").unwrap_or(&name);
    format!("{}.parquet", stem.strip_suffix(".stk").unwrap_or(stem))
}

/// What a replay came to, for people.
pub fn text(replayed: &Replayed) -> String {
    let mut lines = vec![format!(
        "replayed {} records of {} in {:.1} s of the {:.1} s that they took ({:.0} records/s)",
        replayed.records,
        printable(&replayed.host),
        replayed.took_seconds,
        replayed.span_seconds,
        replayed.records as f64 / replayed.took_seconds.max(1e-9),
    )];
    lines.extend(replayed.cut_off.clone());
    lines.push(replayed.ledger.clone());
    for finding in &replayed.findings {
        lines.push(format!(
            "{}  {:<6} {:<12} {}  {}",
            finding.short(),
            name(&finding.severity).to_uppercase(),
            name(&finding.kind),
            printable(&finding.workload),
            printable(&finding.title)
        ));
    }
    for decision in &replayed.decisions {
        let target = super::decisions::described(&decision.target);
        lines.push(format!("{}  {}  {}", decision.short(), printable(&target), table::time(decision.created.unix_ns)));
    }
    lines.extend(replayed.journal_rows.map(|rows| format!("journal  {rows} events")));
    lines.push(format!("{} findings, {} decisions", replayed.findings.len(), replayed.decisions.len()));
    lines.join("\n")
}
