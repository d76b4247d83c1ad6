//! Does the budget hold?

use std::fmt::Write as _;

use crate::evaluate::{Evaluation, PROMISED};

/// A row for each budget whose level rests on alarms of the validation.
pub(super) fn budget(out: &mut String, evaluation: &Evaluation) -> std::fmt::Result {
    if evaluation.promises.is_empty() {
        return Ok(());
    }
    writeln!(out, "## Does the budget hold?\n")?;
    writeln!(
        out,
        "Alarms come in crowds: a restart makes several at once. So the alarms behind a level are counted by the times between them (extremal index, Ferro and Segers, 2003), and what {:.0} % of test periods of this length see follows from the independent ones alone.\n",
        PROMISED * 100.0
    )?;
    writeln!(
        out,
        "| budget, a host-day | level, bits | alarms behind it | independent | true rate between | expected in the test | seen | inside |\n|---|---|---|---|---|---|---|---|"
    )?;
    for promise in &evaluation.promises {
        writeln!(
            out,
            "| {} | {:.1} | {} | {:.1} | {:.2}–{:.2} | {:.2}–{:.2} | {:.2} | {} |",
            promise.budget,
            promise.level,
            promise.alarms,
            promise.independent,
            promise.rate.0,
            promise.rate.1,
            promise.expected.0,
            promise.expected.1,
            promise.seen,
            if promise.is_kept() { "yes" } else { "**no**" }
        )?;
    }
    writeln!(out)
}
