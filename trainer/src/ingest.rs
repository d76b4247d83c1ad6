//! Takes events in from outside: every row is checked, bad ones are set aside with their reason, good ones become a journal.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use model::Event;
use model::journal::{Meta, Row};
use serde::Serialize;
use serde_json::Value;

use crate::datasets::Lines;
use crate::journal::{Journal, Writer};
use crate::report;

/// Wrappings that hold events.
const SCHEMAS: [&str; 3] = ["stockade.windows.v1", "stockade.flows.v1", "stockade.events.v1"];
/// Rejects that are written down; further ones are counted.
const MAX_REJECTS: u64 = 100_000;

/// What was taken in.
#[derive(Debug, PartialEq)]
pub struct Ingested {
    /// Good rows.
    pub rows: u64,
    /// Bad rows.
    pub rejected: u64,
    /// The journal.
    pub journal: PathBuf,
}

#[derive(Serialize)]
struct Reject<'a> {
    row: u64,
    reason: &'a str,
}

/// Takes a file in. `None` when its journal is there already and `again` is not asked for.
///
/// # Errors
///
/// When the file as a whole is none of ours, holds no good row, or nothing can be written: nothing is left of it then.
pub fn ingest(file: &Path, out: &Path, again: bool) -> anyhow::Result<Option<Ingested>> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let journal = out.join(format!("{name}.parquet"));
    if journal.exists() && !again {
        return Ok(None);
    }
    let (meta, rows) = opened(file)?;
    let mut writer = Writer::create(&journal, &meta)?;
    let (mut good, mut rejected, mut rejects) = (0, 0, Vec::new());
    for (number, row) in rows {
        match row? {
            Ok(event) => {
                writer.append(&Row::from(&event))?;
                good += 1;
            }
            Err(reason) => {
                rejected += 1;
                if rejected <= MAX_REJECTS {
                    serde_json::to_writer(&mut rejects, &Reject { row: number, reason: &reason })?;
                    writeln!(rejects)?;
                }
            }
        }
    }
    if good == 0 {
        let first =
            String::from_utf8_lossy(rejects.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
        bail!("{} holds no event ({rejected} rows that are none): {first}", file.display());
    }
    let rows = writer.finish()?;
    if rejected > 0 {
        report::whole(&out.join(format!("{name}.rejects.jsonl")), rejects)?;
    }
    Ok(Some(Ingested { rows, rejected, journal }))
}

type Rows = Box<dyn Iterator<Item = (u64, anyhow::Result<Result<Event, String>>)>>;

fn opened(file: &Path) -> anyhow::Result<(Meta, Rows)> {
    let opened: anyhow::Result<(Meta, Rows)> = match file.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => {
            let journal = Journal::open(file)?;
            let mut meta = journal.meta().clone();
            // Rows that are set aside would move them.
            meta.modes.clear();
            let rows = journal.into_rows_checked().enumerate().map(|(number, row)| {
                let event = row.map(|row| row.and_then(Event::try_from).map_err(|error| error.to_string()));
                (number as u64, event.map_err(anyhow::Error::from))
            });
            Ok((meta, Box::new(rows)))
        }
        Some("jsonl" | "ndjson") => {
            let host = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let rows = Lines::open(file)?.enumerate().map(|(at, line)| match line {
                Ok((number, text)) => (number, Ok(event_of(&text))),
                Err(error) => (at as u64 + 1, Err(error.into())),
            });
            Ok((Meta { host, ..Meta::default() }, Box::new(rows)))
        }
        _ => Err(anyhow::anyhow!("{} is neither a journal (.parquet) nor events (.jsonl)", file.display())),
    };
    opened.with_context(|| format!("cannot take {} in", file.display()))
}

/// An event by itself, or in the wrapping of the agent's sinks (NDJSON file, Kafka topics).
fn event_of(text: &str) -> Result<Event, String> {
    let mut value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if let Some(schema) = value.get("schema") {
        let schema = schema.as_str().unwrap_or_default();
        if !SCHEMAS.contains(&schema) {
            return Err(format!("its schema is {schema:?}; {} are read by this version", SCHEMAS.join(", ")));
        }
        value = value.get_mut("event").map(Value::take).unwrap_or_default();
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}
