//! Tables for people, JSON for machines.

use std::io::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use super::Output;
use super::printable::{printable, printable_json};

/// Whoever read the output went away, as `head` does: nothing is wrong.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub struct Unread;

/// Prints lines that are harmless already.
///
/// # Errors
///
/// [`Unread`], or the output cannot be written.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Unread.into()),
        other => Ok(other?),
    }
}

/// Prints one JSON document: over several lines, or on one.
///
/// # Errors
///
/// As [`say`].
pub fn json(output: Output, value: &impl Serialize) -> anyhow::Result<()> {
    let text = match output {
        Output::Json => serde_json::to_string_pretty(value)?,
        Output::Table | Output::Jsonl => serde_json::to_string(value)?,
    };
    say(&printable_json(&text))
}

/// Prints a list: as JSON, or as a table that `cells` makes of each item.
pub fn list<T: Serialize, const N: usize>(
    output: Output,
    items: &[T],
    header: [&str; N],
    cells: impl Fn(&T) -> [String; N],
) -> anyhow::Result<()> {
    match output {
        Output::Json => json(output, &items),
        Output::Jsonl => items.iter().try_for_each(|item| json(output, item)),
        Output::Table => say(&rendered(header, items.iter().map(cells))),
    }
}

/// Prints one thing: as JSON, or as the text that `text` makes of it.
pub fn one<T: Serialize>(output: Output, item: &T, text: impl Fn(&T) -> String) -> anyhow::Result<()> {
    match output {
        Output::Json | Output::Jsonl => json(output, item),
        Output::Table => say(&text(item)),
    }
}

/// A table as text; every cell is made printable.
pub fn rendered<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| printable(&cell).into_owned()));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A duration in the two largest units: `9 d 4 h`, `3 min 20 s`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A time of day in UTC: `2026-11-25 14:02:11Z`.
pub fn time(unix_ns: u64) -> String {
    let seconds = i64::try_from(unix_ns / 1_000_000_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| "?".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}
