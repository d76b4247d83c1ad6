//! The part of the scorecard about a tainted past, a changed world and a slow attack.

use std::fmt::Write as _;

use super::seeds::said;
use crate::evaluate::{Contaminated, Evaluation, Kinds, Ramp, Recovery, Robustness};

/// Attacks that are named in one cell.
const MOST_NAMED: usize = 8;

/// The three tables; nothing when that was not asked for.
pub(super) fn robustness(out: &mut String, evaluation: &Evaluation) -> std::fmt::Result {
    let Some(of) = &evaluation.robustness else { return Ok(()) };
    writeln!(out, "## A tainted past, a changed world, a slow attack\n")?;
    writeln!(out, "The whole system at {} a host-day, {} seeds: median (quartiles).\n", of.budget, of.seeds)?;
    contamination(out, of)?;
    recovery(out, of)?;
    ramps(out, of)
}

fn contamination(out: &mut String, of: &Robustness) -> std::fmt::Result {
    if of.contamination.is_empty() {
        return Ok(());
    }
    writeln!(out, "### Attacks learnt as normal\n")?;
    writeln!(
        out,
        "A share of all events of the training is attack evidence, in whole attacks at moments drawn by lot: of other kinds than the test's (from the validation days), or of the same kinds (from the test days of the other hosts); the attacks that are judged are never taught. Evidence is what the labels call an attack's own: of an attack inside a service all that the service did while it lasted, most of which is usual. Levels come from the validation anew.\n"
    )?;
    writeln!(
        out,
        "| learnt | share | attacks taught a host | found | false/day | level, bits | AP | lost by most seeds |\n|---|---|---|---|---|---|---|---|"
    )?;
    of.contamination.iter().try_for_each(|row| writeln!(out, "{}", contaminated(row)))?;
    writeln!(out)
}

fn contaminated(row: &Contaminated) -> String {
    format!(
        "| {} | {:.0} % | {:.0} | {} of {} | {} | {} | {} | {} |",
        match row.kinds {
            None => "no attacks",
            Some(Kinds::Other) => "attacks of other kinds",
            Some(Kinds::Same) => "attacks of the same kinds",
        },
        row.share * 100.0,
        row.taught,
        said(&row.found, 1),
        row.of,
        said(&row.false_a_day, 2),
        said(&row.level, 1),
        said(&row.ap, 3),
        match row.lost.len() {
            0 => "–".to_owned(),
            1..=MOST_NAMED => row.lost.join(", "),
            more => format!("{more} attacks"),
        }
    )
}

fn recovery(out: &mut String, of: &Robustness) -> std::fmt::Result {
    if of.recovery.is_empty() {
        return Ok(());
    }
    writeln!(out, "### After a lasting change\n")?;
    writeln!(
        out,
        "**Made, not recorded:** the recorded changes last minutes, so from the first test day on the recorded events are told as if something had changed for good. {} days without attacks follow, and nobody marks or freezes anything. Counted are the changed workload's findings beyond those that it has in the same days without the change.\n",
        of.days
    )?;
    writeln!(
        out,
        "| change | runs disturbed | findings more, first day | all {} days | quiet after, days | noise over after, days | highest score in range after, days | still disturbed on the last |\n|---|---|---|---|---|---|---|---|",
        of.days
    )?;
    of.recovery.iter().try_for_each(|row| writeln!(out, "{}", recovered(row)))?;
    writeln!(
        out,
        "\nA run is one seed, on one of the hosts in turn. Quiet after: days until the first without more findings; noise over after: until the last with more is over; in range: no higher than on the validation days, or that day without the change; {} is never.\n",
        of.days
    )?;
    for row in &of.recovery {
        writeln!(out, "- {}: {}", row.change, row.details.join("; "))?;
    }
    writeln!(out)
}

fn recovered(row: &Recovery) -> String {
    format!(
        "| {} | {}/{} | {} | {} | {} | {} | {} | {}/{} |",
        row.change,
        row.disturbed,
        row.runs,
        said(&row.first_day, 1),
        said(&row.all_days, 1),
        said(&row.quiet_after, 1),
        said(&row.noise_ends_after, 1),
        said(&row.in_range_after, 1),
        row.unsettled,
        row.runs
    )
}

fn ramps(out: &mut String, of: &Robustness) -> std::fmt::Result {
    if of.ramps.is_empty() {
        return Ok(());
    }
    writeln!(out, "### A slow ramp\n")?;
    writeln!(
        out,
        "Each piece is a connection to outside that sends more than the one before. Usual is what the workload's connections to outside send on the training days.\n"
    )?;
    writeln!(
        out,
        "| attack | usual bytes, half and all at most | pieces, bytes | seeds that found it | finding s | largest piece by then, times the usual half | at its end | bits | level |\n|---|---|---|---|---|---|---|---|---|"
    )?;
    of.ramps.iter().try_for_each(|row| writeln!(out, "{}", ramp(row)))?;
    writeln!(out)
}

fn ramp(row: &Ramp) -> String {
    let spread = |spread: &Option<_>, places| spread.as_ref().map_or("–".to_owned(), |spread| said(spread, places));
    format!(
        "| {} ({}) | {:.0}, {:.0} | {:.0}–{:.0} | {}/{} | {} | {} | {:.0} | {} | {} |",
        row.name,
        row.day,
        row.usual.0,
        row.usual.1,
        row.pieces.0,
        row.pieces.1,
        row.found,
        row.of,
        spread(&row.seconds, 2),
        spread(&row.times_usual, 1),
        row.at_most,
        said(&row.peak, 1),
        said(&row.level, 1)
    )
}
