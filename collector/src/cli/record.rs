//! `stockade record`: kernel records to a file.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use super::decisions::seconds;
use super::{Common, Exit, Output, table};
use crate::agent::{inbox, options_of, take_in};
use crate::decode::{Record, decode};
use crate::enrich::Enricher;
use crate::enrich::clock::{Clock, boot_now};
use crate::enrich::surroundings::{Live, Noting};
use crate::ledger::Ledger;
use crate::loader::{Kernel, KernelOptions};
use crate::record::{Info, Note, Recorder};
use crate::ring::{RingSink, Rings};

/// What to record.
#[derive(Debug, Args)]
pub struct Options {
    /// The file.
    file: PathBuf,
    /// For how long, attaching included: `90s`, `10m`, `4h`.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds, default_value = "60s")]
    seconds: u64,
    /// How many seconds of event time pass in a second: a scripted day in minutes.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = pace)]
    faster: f64,
    /// Event time at the beginning (RFC 3339) [default: now].
    #[arg(long, value_name = "TIME")]
    beginning: Option<jiff::Timestamp>,
}

impl Options {
    /// The clock of the recording's events.
    fn clock(&self) -> anyhow::Result<Clock> {
        let now = Clock::now();
        let unix_ns = match self.beginning {
            Some(beginning) => {
                u64::try_from(beginning.as_nanosecond()).context("--beginning is before 1970 or after 2554")?
            }
            None => now.unix_ns,
        };
        Ok(Clock { unix_ns, factor: self.faster, ..now })
    }
}

fn pace(text: &str) -> Result<f64, String> {
    let pace: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (1.0..=1e6).contains(&pace) { Ok(pace) } else { Err("1 to 1000000".to_owned()) }
}

/// As in a running agent: threads that have gone idle show what they did.
const IDLE_EVERY: Duration = Duration::from_secs(2);

type Records = inbox::Inbox<Vec<u8>, ()>;

struct IntoInbox(std::sync::Arc<Records>);

impl RingSink for IntoInbox {
    fn take(&mut self, lane: inbox::Lane, bytes: &[u8]) -> bool {
        self.0.push(lane, bytes.to_vec())
    }

    fn bulk_must_wait(&self) -> bool {
        self.0.bulk_is_full()
    }
}

pub fn run(common: &Common, options: &Options) -> anyhow::Result<Exit> {
    let config = common.config()?;
    let file = File::create(&options.file).with_context(|| format!("cannot make {}", options.file.display()))?;
    // Nothing of a recording outlives it.
    let clock = options.clock()?;
    let mut kernel = Kernel::load(&KernelOptions { bpffs: None, ..options_of(&config) })?;
    let (ctrl, bulk) = kernel.take_rings()?;
    let mut recorder = Recorder::new(BufWriter::new(file), &Info::of_this_host(clock))?;
    recorder.note(&Note::Seed(config.model.seed))?;
    let mut enricher = Enricher::new(clock, Noting::new(Live::new()));
    let mut ledger = Ledger::default();
    let watched = config.scope.cgroup.as_deref().map(take_in::ids_below);
    let old = enricher.surroundings_mut().inner_mut().take_in();
    take_in::stamp(&mut kernel, &old);
    kernel.sweep_sockets()?;
    for exec in old {
        // What runs outside the scope is nobody's business, least of all that of who is given the file.
        if watched.as_ref().is_some_and(|watched| !watched.contains(&exec.cgroup)) {
            continue;
        }
        let record = Record::Exec(Box::new(exec));
        enricher.enrich(&record);
        for note in enricher.drain_notes() {
            recorder.note(&note)?;
        }
        recorder.record(record.bytes())?;
    }
    let records = std::sync::Arc::new(Records::default());
    let rings = Rings::start(ctrl, bulk, IntoInbox(records.clone()))?;
    if common.output != Output::Table {
        table::json(Output::Jsonl, &serde_json::json!({ "clock": clock }))?;
    }
    // The recording lasts so long on its own clock, whatever it takes to attach before and to detach after.
    let end_ns = clock.boot_ns.saturating_add(options.seconds.saturating_mul(1_000_000_000));
    let mut rings = Some(rings);
    let mut looked = Instant::now();
    loop {
        if looked.elapsed() >= IDLE_EVERY && rings.is_some() {
            looked = Instant::now();
            kernel.sweep_tasks()?;
        }
        if boot_now() >= end_ns
            && let Some(rings) = rings.take()
        {
            kernel.sweep_tasks()?;
            rings.finish();
            records.close();
        }
        match records.take(Duration::from_millis(100)) {
            inbox::Item::Record(_, bytes) => {
                match decode(&bytes) {
                    Ok(record) => {
                        ledger.decoded(&record);
                        if record.header().boot_ns > end_ns {
                            continue;
                        }
                        enricher.enrich(&record);
                        for note in enricher.drain_notes() {
                            recorder.note(&note)?;
                        }
                    }
                    Err(reject) => ledger.rejected(&reject, &bytes),
                }
                recorder.record(&bytes)?;
            }
            inbox::Item::End => break,
            _ => (),
        }
    }
    let (written, bytes) = (recorder.records(), recorder.bytes());
    recorder.finish()?;
    let ledger = ledger.reconcile(&kernel.stats()?);
    if common.output == Output::Table {
        println!("{written} records, {bytes} bytes in {}\n{ledger}", options.file.display());
    } else {
        let closes = ledger.closes();
        let whole = serde_json::json!({ "records": written, "bytes": bytes, "closes": closes, "ledger": ledger });
        table::json(Output::Jsonl, &whole)?;
    }
    Ok(Exit::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_time_begins_where_it_is_told_and_runs_as_fast_as_it_is_told() {
        let options = Options {
            file: PathBuf::from("day.stk"),
            seconds: 200,
            faster: 432.0,
            beginning: Some("2026-01-05T00:00:00Z".parse().unwrap()),
        };
        let clock = options.clock().unwrap();
        let monday = 1_767_571_200_000_000_000;
        assert_eq!(clock.at(clock.boot_ns).unix_ns, monday);
        assert_eq!(clock.at(clock.boot_ns + 200_000_000_000).unix_ns, monday + 86_400_000_000_000);
        let before_1970 = Options { beginning: Some("1960-01-01T00:00:00Z".parse().unwrap()), ..options };
        assert!(before_1970.clock().is_err());
    }
}
