//! `stockade doctor`

use super::{Common, Exit, table};
use crate::loader::probe::{Item, Level, probe};

/// Runs the command.
///
/// # Errors
///
/// When there is no answer, or nothing can be printed.
pub fn run(common: &Common) -> anyhow::Result<Exit> {
    let config = common.config()?;
    let report = probe(&config.kernel.bpffs);
    table::one(common.output, &report, |report| text(&report.items))?;
    let worst = report.items.iter().map(|item| item.level).max().unwrap_or(Level::Ok);
    Ok(if worst == Level::Ok { Exit::Fine } else { Exit::Attention })
}

/// The report for people.
pub fn text(items: &[Item]) -> String {
    let mut lines = Vec::new();
    for item in items {
        let level = match item.level {
            Level::Ok => "OK",
            Level::Off => "OFF",
            Level::Fail => "FAIL",
        };
        lines.push(format!("{level:<5} {}: {}", item.area, super::printable::printable(&item.text)));
        if !item.lost.is_empty() {
            lines.push(format!("      lost: {}", item.lost));
        }
        if !item.fix.is_empty() {
            lines.push(format!("      fix:  {}", item.fix));
        }
    }
    let count = |level| items.iter().filter(|item| item.level == level).count();
    lines.push(format!("{} work, {} off, {} failed", count(Level::Ok), count(Level::Off), count(Level::Fail)));
    lines.join("\n")
}
