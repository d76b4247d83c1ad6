//! The recorded corpus: real services under load, benign changes and attacks, on this machine's kernel.
//!
//! ```text
//! stage: namespaces, overlay, cgroups ─► services ─► world outside ─► a day: schedule ─► changes, attacks
//!                                                     recording: `stockade record` ─► gzip + labels
//! ```

mod attacks;
mod changes;
mod day;
mod init;
mod journal;
mod labels;
mod list;
mod recording;
mod roots;
mod schedule;
mod services;
mod stage;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use self::day::{Day, World};
use self::schedule::{CYCLES, HOSTS, Profile};
use self::services::Running;
use self::stage::Stage;
use crate::{bpf, cargo, must, run, told};

/// The recorded corpus.
#[derive(Subcommand)]
pub enum Command {
    /// Record days of a host: needs root and the packages that datasets/README.md names.
    Record(Record),
    /// What was recorded: one line a day.
    List,
    /// Turn recordings into journals for the trainer: target/corpus/HOST/cycle-NN.parquet.
    Journal,
}

/// What to record.
#[derive(Args)]
pub struct Record {
    /// A host of the corpus; without one, the first.
    host: Option<String>,
    /// Which days: `3`, or `1..15`, both ends included.
    #[arg(long, value_name = "A..B", value_parser = days, default_value = "1..15")]
    cycles: (u32, u32),
    /// Where the recordings go.
    #[arg(long, value_name = "DIR", default_value = "datasets/corpus")]
    to: PathBuf,
}

fn days(text: &str) -> Result<(u32, u32), String> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 1 <= first && first <= last && last <= CYCLES => Ok((first, last)),
        _ => Err(format!("one day or A..B, from 1 to {CYCLES}")),
    }
}

/// Runs the command.
pub fn corpus(root: &Path, command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Record(options) => record(root, options),
        Command::List => list::list(&root.join("datasets/corpus")),
        Command::Journal => journal::journal(root),
    }
}

fn record(root: &Path, options: &Record) -> anyhow::Result<()> {
    if told(std::process::Command::new("id").arg("-u")).as_deref() != Some("0") {
        bail!("recording needs root: cgroups, namespaces and BPF");
    }
    let name = options.host.as_deref().unwrap_or(HOSTS[0].name);
    let host = HOSTS.iter().find(|host| host.name == name).with_context(|| {
        format!("there is no host {name}; there are {}", HOSTS.map(|host| host.name).join(", "))
    })?;
    bpf::build(root)?;
    must(cargo(root).args(["build", "--package", "collector", "--bin", "stockade"]))?;
    let stockade = run::target(root)?.join("debug/stockade");
    let stage = Stage::build(root, host.name, host.number, host.seed)?;
    let recorded = record_days(&stage, host, &stockade, &root.join(&options.to).join(host.name), options.cycles);
    let left = stage.dismantle();
    if !left.is_empty() {
        println!("corpus   left behind: {}", left.join(" "));
    }
    recorded
}

fn record_days(stage: &Stage, host: &Profile, stockade: &Path, folder: &Path, cycles: (u32, u32)) -> anyhow::Result<()> {
    recording::make_tools(&stage.scenarios, &stage.world_folder().join("tools"))?;
    let running = Running::default();
    let world = World::start(stage, host.seed, host.base)?;
    for cycle in cycles.0..=cycles.1 {
        let seed = host.seed * 1000 + u64::from(cycle);
        let day = Day { stage, running: &running, world: &world, cycle, seed, host_seed: host.seed };
        let cycle = recording::record(&day, host, stockade, folder)?;
        println!(
            "corpus   {} day {}: {} records, {} lost, {} spans, {} requests answered, {} not",
            cycle.host,
            cycle.cycle,
            cycle.records,
            cycle.lost,
            cycle.spans.len(),
            cycle.requests[0],
            cycle.requests[1]
        );
    }
    world.end();
    Ok(())
}
