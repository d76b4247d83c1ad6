//! Takes events in from outside: every row is checked, bad ones are set aside with their reason, good ones become a journal.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use model::Event;
use model::journal::{Meta, Row};
use serde::Serialize;
use serde_json::Value;

use crate::datasets::Lines;
use crate::journal::{Journal, Writer};
use crate::kafka::{self, Topics};
use crate::report;

/// Wrappings that hold events.
const SCHEMAS: [&str; 3] = ["stockade.windows.v1", "stockade.flows.v1", "stockade.events.v1"];
/// Events of topics that are held at once, to be put in order.
const MAX_EVENTS: u64 = 2_000_000;
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
struct RejectAt<'a> {
    place: &'a str,
    reason: &'a str,
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

/// Takes topics in: one journal a host, in event time.
///
/// # Errors
///
/// When the broker cannot be read, there is no event in the topics, or there are more than memory should hold.
pub fn ingest_topics(topics: &Topics, out: &Path) -> anyhow::Result<Vec<Ingested>> {
    let mut hosts: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    let (mut good, mut rejected, mut rejects) = (0, 0, Vec::new());
    kafka::read(topics, |record| {
        match record.value.as_deref().ok_or_else(|| "it holds no text".to_owned()).and_then(wrapped_event_of) {
            Ok((host, event)) => {
                good += 1;
                if good > MAX_EVENTS {
                    bail!("the topics hold more than {MAX_EVENTS} events: take them in parts, by a later first offset");
                }
                hosts.entry(host).or_default().push(event);
            }
            Err(reason) => {
                rejected += 1;
                if rejected <= MAX_REJECTS {
                    serde_json::to_writer(&mut rejects, &RejectAt { place: &record.place, reason: &reason })?;
                    writeln!(rejects)?;
                }
            }
        }
        Ok(())
    })?;
    if good == 0 {
        bail!("the topics {} hold no event ({rejected} messages that are none)", topics.names.join(", "));
    }
    if rejected > 0 {
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        report::whole(&out.join("kafka.rejects.jsonl"), rejects)?;
    }
    let mut done = Vec::new();
    for (host, mut events) in hosts {
        // Partitions are read side by side; a host's workloads lie in several.
        events.sort_by_key(|event| (event.at.boot_ns, event.at.unix_ns, event.process.cookie));
        let journal = out.join(format!("{}.parquet", file_name(&host)));
        let mut writer = Writer::create(&journal, &Meta { host, ..Meta::default() })?;
        events.iter().try_for_each(|event| writer.append(&Row::from(event)))?;
        done.push(Ingested { rows: writer.finish()?, rejected, journal });
    }
    Ok(done)
}

/// A host's name as a file's: whoever may write to the topics must not choose folders.
fn file_name(host: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    host.chars().map(safe).take(64).collect()
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
    wrapped_event_of(text).map(|(_, event)| event)
}

/// The same, with the host that the wrapping names.
fn wrapped_event_of(text: &str) -> Result<(String, Event), String> {
    let mut value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let host = value["host"].as_str().unwrap_or("unnamed").to_owned();
    if let Some(schema) = value.get("schema") {
        let schema = schema.as_str().unwrap_or_default();
        if !SCHEMAS.contains(&schema) {
            return Err(format!("its schema is {schema:?}; {} are read by this version", SCHEMAS.join(", ")));
        }
        value = value.get_mut("event").map(Value::take).unwrap_or_default();
    }
    let event = serde_json::from_value(value).map_err(|error| error.to_string())?;
    Ok((host, event))
}
