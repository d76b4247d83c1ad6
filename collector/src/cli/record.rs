//! `stockade record`: kernel records to a file.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use super::decisions::seconds;
use super::{Common, Exit};
use crate::agent::{inbox, options_of};
use crate::decode::{Record, decode};
use crate::enrich::Enricher;
use crate::enrich::clock::Clock;
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
    /// For how long: `90s`, `10m`, `4h`.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds, default_value = "60s")]
    seconds: u64,
}

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
    let mut kernel = Kernel::load(&KernelOptions { bpffs: None, ..options_of(&config) })?;
    let (ctrl, bulk) = kernel.take_rings()?;
    let clock = Clock::now();
    let mut recorder = Recorder::new(BufWriter::new(file), &Info::of_this_host(clock))?;
    recorder.note(&Note::Seed(config.model.seed))?;
    let mut enricher = Enricher::new(clock, Noting::new(Live::new()));
    let mut ledger = Ledger::default();
    for exec in enricher.surroundings_mut().inner_mut().take_in() {
        let record = Record::Exec(Box::new(exec));
        enricher.enrich(&record);
        for note in enricher.drain_notes() {
            recorder.note(&note)?;
        }
        recorder.record(record.bytes())?;
    }
    let records = std::sync::Arc::new(Records::default());
    let rings = Rings::start(ctrl, bulk, IntoInbox(records.clone()))?;
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut rings = Some(rings);
    loop {
        if Instant::now() >= end
            && let Some(rings) = rings.take()
        {
            rings.finish();
            records.close();
        }
        match records.take(Duration::from_millis(100)) {
            inbox::Item::Record(_, bytes) => {
                match decode(&bytes) {
                    Ok(record) => {
                        ledger.decoded(&record);
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
    println!("{} records, {} bytes in {}", recorder.records(), recorder.bytes(), options.file.display());
    recorder.finish()?;
    println!("{}", ledger.reconcile(&kernel.stats()?));
    Ok(Exit::Fine)
}
