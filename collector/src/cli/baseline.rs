//! `stockade baseline`

use clap::Subcommand;
use model::BaselineFact;

use super::findings::name;
use super::{Common, Exit, table};
use crate::api::protocol::{BaselineRow, Request};

/// What was learnt.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Which workloads are ready, and what the others lack.
    Status,
    /// The facts of one workload.
    Show {
        /// As `status` names it.
        workload: String,
    },
}

/// Runs the command.
///
/// # Errors
///
/// When there is no answer, or nothing can be printed.
pub fn run(common: &Common, command: Command) -> anyhow::Result<Exit> {
    let mut client = common.client()?;
    match command {
        Command::Status => {
            let rows: Vec<BaselineRow> = client.ask(Request::BaselineStatus)?;
            let header = ["WORKLOAD", "MODE", "READY", "SEEN", "HOLDS", "NEW", "NEXT"];
            table::list(common.output, &rows, header, status_cells)?;
        }
        Command::Show { workload } => {
            let facts: Vec<BaselineFact> = client.ask(Request::Baseline { workload })?;
            let header = ["FACT", "SEEN", "DAYS", "SINCE", "FROZEN"];
            table::list(common.output, &facts, header, |fact| {
                let frozen = if fact.frozen { "yes" } else { "no" };
                [
                    format!("{}: {}", fact.fact.what(), fact.fact),
                    fact.count.to_string(),
                    fact.days.to_string(),
                    table::time(fact.first_seen.unix_ns),
                    frozen.to_owned(),
                ]
            })?;
        }
    }
    Ok(Exit::Fine)
}

/// One row of the status.
pub fn status_cells(row: &BaselineRow) -> [String; 7] {
    let falls_back = row.falls_back_in.map(|seconds| format!(" for {}", table::span(seconds))).unwrap_or_default();
    [
        row.workload.clone(),
        format!("{}{falls_back}", name(&row.mode)),
        [vec![if row.ready { "yes" } else { "no" }.to_owned()], row.flags.clone()].concat().join(" "),
        format!("{} windows, {} execs, {} flows", row.windows, row.execs, row.flows),
        format!(
            "{} exes, {} edges, {} destinations, {} trigrams",
            row.exes, row.exec_edges, row.destinations, row.trigrams
        ),
        format!("{:.0} %", 100.0 * row.singleton_share),
        row.reasons.iter().cloned().chain(row.would_deny.map(|known| known.to_string())).collect::<Vec<_>>().join("; "),
    ]
}
