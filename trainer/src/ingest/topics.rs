//! Topics of the agent's Kafka sink as journals: one a host and run, in event time. A run goes on where the last one ended.
//!
//! What is kept of a run is `kafka.offsets.json`, written last. A run that was broken off left at most journals of its own
//! number, which the next one, having that number again, removes: no message is taken twice, and none is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use model::journal::{Meta, Row};
use model::{Body, Event};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Ingested, Rejects, wrapped};
use crate::corpus::hex;
use crate::journal::Writer;
use crate::kafka::{self, Record, Taken, Topics};
use crate::report;

/// Events that are held at once, to be put in order.
const MAX_EVENTS: usize = 2_000_000;
const OFFSETS: &str = "kafka.offsets.json";

/// What a run took in.
#[derive(Debug, PartialEq)]
pub struct Run {
    /// Counts up from 1 in a folder.
    pub number: u32,
    /// Which offsets of which partitions.
    pub taken: Vec<Taken>,
    /// A journal for each host.
    pub journals: Vec<Ingested>,
    /// Messages that were set aside with their reasons.
    pub rejected: u64,
    /// Messages that the agent had sent again; each was taken once.
    pub repeated: u64,
    /// Windows whose sender left their calls out.
    pub traceless: u64,
}

/// Where the next run begins.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Offsets {
    /// Runs that are done.
    runs: u32,
    /// First offset of each partition of each topic that was not taken.
    next: BTreeMap<String, BTreeMap<i32, i64>>,
}

#[derive(Serialize)]
struct Reject<'a> {
    place: &'a str,
    reason: &'a str,
}

#[derive(Default)]
struct Sorted {
    hosts: BTreeMap<String, Vec<Event>>,
    ids: BTreeSet<String>,
    count: usize,
    rejects: Rejects,
    repeated: u64,
    traceless: u64,
}

/// Takes in what the topics hold from where the last run in this folder ended, or from the offsets that are asked for.
///
/// # Errors
///
/// When the broker cannot be read, the first run finds no event, there are more than memory should hold, or nothing can be
/// written; the next run takes the same then.
pub fn ingest_topics(topics: &Topics, out: &Path) -> anyhow::Result<Run> {
    let mut offsets = Offsets::read(out)?;
    let mut topics = topics.clone();
    for (name, partitions) in &offsets.next {
        topics.starts.extend(partitions.iter().map(|(number, next)| ((name.clone(), *number), *next)));
    }
    let mut sorted = Sorted::default();
    let taken = kafka::read(&topics, |record| sorted.take(&record))?;
    if sorted.count == 0 && offsets.runs == 0 {
        let (names, rejects) = (topics.names.join(", "), &sorted.rejects);
        bail!("the topics {names} hold no event ({} messages that are none): {}", rejects.count, rejects.first());
    }
    let number = offsets.runs + 1;
    remove_unfinished(out, number)?;
    let Sorted { hosts, rejects, repeated, traceless, .. } = sorted;
    rejects.write(&out.join(format!("run-{number:04}.rejects.jsonl")))?;
    let journals = hosts.into_iter().map(|(host, events)| journal(out, number, host, events));
    let journals = journals.collect::<anyhow::Result<Vec<_>>>()?;
    offsets.runs = number;
    for Taken { partition: (name, partition), until, .. } in &taken {
        offsets.next.entry(name.clone()).or_default().insert(*partition, *until);
    }
    report::whole(&out.join(OFFSETS), serde_json::to_string_pretty(&offsets)? + "\n")?;
    Ok(Run { number, taken, journals, rejected: rejects.count, repeated, traceless })
}

impl Offsets {
    fn read(out: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let path = out.join(OFFSETS);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("{} is damaged: take the topics into another folder", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

impl Sorted {
    fn take(&mut self, record: &Record) -> anyhow::Result<()> {
        if let Some(id) = &record.id
            && !self.ids.insert(id.clone())
        {
            self.repeated += 1;
            return Ok(());
        }
        let text = record.value.as_deref().ok_or_else(|| "it holds no text".to_owned());
        let value = text.and_then(|text| serde_json::from_str(text).map_err(|error| error.to_string()));
        match value.and_then(wrapped) {
            Ok((host, event)) => {
                self.count += 1;
                if self.count > MAX_EVENTS {
                    bail!(
                        "the topics hold more than {MAX_EVENTS} events, which have to be put in order at once: take \
                         them in oftener, or begin later (--from)"
                    );
                }
                let bare = matches!(&event.body, Body::Window(window) if window.trace.is_empty());
                self.traceless += u64::from(bare);
                self.hosts.entry(host).or_default().push(event);
            }
            Err(reason) => self.rejects.add(&Reject { place: &record.place, reason: &reason })?,
        }
        Ok(())
    }
}

/// Partitions are read one beside the other, and a host's workloads lie in several.
fn journal(out: &Path, run: u32, host: String, mut events: Vec<Event>) -> anyhow::Result<Ingested> {
    events.sort_by_key(|event| (event.at.boot_ns, event.at.unix_ns, event.process.cookie));
    let journal = journal_of(&out.join(folder_name(&host)), run);
    let mut writer = Writer::create(&journal, &Meta { host, ..Meta::default() })?;
    events.iter().try_for_each(|event| writer.append(&Row::from(event)))?;
    Ok(Ingested { rows: writer.finish()?, rejected: 0, journal })
}

fn journal_of(folder: &Path, run: u32) -> PathBuf {
    folder.join(format!("run-{run:04}.parquet"))
}

/// What a run of this number wrote before it was broken off.
fn remove_unfinished(out: &Path, run: u32) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(out).with_context(|| format!("cannot look into {}", out.display()))? {
        let path = journal_of(&entry?.path(), run);
        if path.exists() {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// A host's name as a folder's: whoever may write to the topics must not choose folders, and two names must not be one.
fn folder_name(host: &str) -> String {
    let safe = |(at, c): (usize, char)| {
        if c.is_ascii_alphanumeric() || "-_".contains(c) || (c == '.' && at > 0) { c } else { '_' }
    };
    let name: String = host.chars().take(64).enumerate().map(safe).collect();
    if name == host {
        return name;
    }
    format!("{name}-{}", &hex(&Sha256::digest(host))[..8])
}
