//! `stockade replay`

use std::path::PathBuf;

use clap::Args;

use super::findings::name;
use super::printable::printable;
use super::{Common, Exit, Output, table};
use crate::replay::run::{Replayed, replay};

/// What to replay.
#[derive(Debug, Args)]
pub struct Options {
    /// A file that `stockade record` or an agent wrote.
    file: PathBuf,
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
    let replayed = replay(&options.file, &common.config()?, options.modes)?;
    match common.output {
        Output::Table => table::say(&text(&replayed))?,
        Output::Json => table::json(common.output, &replayed)?,
        Output::Jsonl => replayed.findings.iter().try_for_each(|finding| table::json(common.output, finding))?,
    }
    Ok(if replayed.cut_off.is_some() { Exit::Attention } else { Exit::Fine })
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
    lines.push(format!("{} findings, {} decisions", replayed.findings.len(), replayed.decisions.len()));
    lines.join("\n")
}
