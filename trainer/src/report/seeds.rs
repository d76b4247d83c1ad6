//! The part of the scorecard that says what the seed does.

use std::fmt::Write as _;

use crate::evaluate::{Evaluation, FULL, Spread};

/// The whole system over its seeds; nothing when there was one only.
pub fn seeds(out: &mut String, evaluation: &Evaluation) -> std::fmt::Result {
    let Some(over) = &evaluation.seeds else { return Ok(()) };
    writeln!(out, "## What the seed does\n")?;
    writeln!(out, "{FULL}, with {} seeds on the same days: median (quartiles).\n", over.seeds.len())?;
    write!(out, "| AUC | AP |")?;
    for budget in &evaluation.budgets {
        write!(out, " found at {budget}/day | false/day |")?;
    }
    writeln!(out, "\n|---|---|{}", "---|---|".repeat(evaluation.budgets.len()))?;
    write!(out, "| {} | {} |", said(&over.auc, 3), said(&over.ap, 3))?;
    for (found, false_a_day) in over.found.iter().zip(&over.false_a_day) {
        write!(out, " {} | {} |", said(found, 0), said(false_a_day, 2))?;
    }
    writeln!(out, "\n")
}

/// Median and quartiles in words.
pub(super) fn said(spread: &Spread, places: usize) -> String {
    let Spread { low, median, high } = spread;
    format!("{median:.places$} ({low:.places$}–{high:.places$})")
}
