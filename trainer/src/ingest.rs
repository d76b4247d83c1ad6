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

mod topics;

pub use topics::{Run, ingest_topics};

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

/// Rows that are none, with where each stood and why; the first [`MAX_REJECTS`] are written down.
#[derive(Default)]
struct Rejects {
    count: u64,
    lines: Vec<u8>,
}

impl Rejects {
    fn add(&mut self, reject: &impl Serialize) -> anyhow::Result<()> {
        self.count += 1;
        if self.count <= MAX_REJECTS {
            serde_json::to_writer(&mut self.lines, reject)?;
            writeln!(self.lines)?;
        }
        Ok(())
    }

    fn first(&self) -> String {
        String::from_utf8_lossy(self.lines.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned()
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        if self.count == 0 { Ok(()) } else { report::whole(path, &self.lines) }
    }
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
    let (mut good, mut rejects) = (0, Rejects::default());
    for (number, row) in rows {
        match row? {
            Ok(event) => {
                writer.append(&Row::from(&event))?;
                good += 1;
            }
            Err(reason) => rejects.add(&Reject { row: number, reason: &reason })?,
        }
    }
    if good == 0 {
        bail!("{} holds no event ({} rows that are none): {}", file.display(), rejects.count, rejects.first());
    }
    let rows = writer.finish()?;
    rejects.write(&out.join(format!("{name}.rejects.jsonl")))?;
    Ok(Some(Ingested { rows, rejected: rejects.count, journal }))
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
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match value.get("schema") {
        Some(_) => wrapped(value).map(|(_, event)| event),
        None => serde_json::from_value(value).map_err(|error| error.to_string()),
    }
}

/// An event in its wrapping, with the host that the wrapping names.
fn wrapped(mut value: Value) -> Result<(String, Event), String> {
    let schema = value.get("schema").and_then(Value::as_str).ok_or("it names no schema")?;
    if !SCHEMAS.contains(&schema) {
        return Err(format!("its schema is {schema:?}; {} are read by this version", SCHEMAS.join(", ")));
    }
    let host = value.get("host").and_then(Value::as_str).unwrap_or("unnamed").to_owned();
    let event = value.get_mut("event").map(Value::take).ok_or("it holds no event")?;
    Ok((host, serde_json::from_value(event).map_err(|error| error.to_string())?))
}
