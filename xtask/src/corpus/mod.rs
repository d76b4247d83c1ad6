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
#[path = "../../../trainer/src/labels.rs"]
#[expect(dead_code, reason = "the trainer uses all of it")]
mod labels;
mod list;
mod recording;
mod roots;
mod schedule;
mod services;
mod stage;
mod unseen;

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
    /// Carry out attacks and changes of the test days without recording anything, to see whether they do what they say.
    Rehearse(Rehearse),
    /// What was recorded: one line a day.
    List {
        /// Folder of recordings and labels, HOST/cycle-NN.stk.gz and .toml.
        #[arg(default_value = "datasets/corpus")]
        corpus: PathBuf,
    },
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
    /// Where the recordings go; without it, where the host's are.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// A lock file to share while a day is recorded, where others measure on the same machine. Days then begin at the same
    /// moments for every host, so that the lock is free in between.
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
}

/// What to rehearse.
#[derive(Args)]
pub struct Rehearse {
    /// A host of the corpus.
    host: String,
    /// Attacks and changes; without any, all that its test days hold.
    names: Vec<String>,
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
        Command::Rehearse(options) => rehearse(root, options),
        Command::List { corpus } => list::list(&root.join(corpus)),
        Command::Journal => journal::journal(root),
    }
}

fn record(root: &Path, options: &Record) -> anyhow::Result<()> {
    let host = prepared(options.host.as_deref().unwrap_or(HOSTS[0].name))?;
    bpf::build(root)?;
    must(cargo(root).args(["build", "--package", "collector", "--bin", "stockade"]))?;
    let stockade = run::target(root)?.join("debug/stockade");
    let to = options.to.as_deref().unwrap_or(Path::new(host.folder()));
    let folder = root.join(to).join(host.name);
    on_stage(root, host, |stage| record_days(stage, host, &stockade, &folder, options))
}

/// The host of that name, where it can be raised at all.
fn prepared(name: &str) -> anyhow::Result<&'static Profile> {
    if told(std::process::Command::new("id").arg("-u")).as_deref() != Some("0") {
        bail!("recording needs root: cgroups, namespaces and BPF");
    }
    let host = HOSTS
        .iter()
        .find(|host| host.name == name)
        .with_context(|| format!("there is no host {name}; there are {}", HOSTS.map(|host| host.name).join(", ")))?;
    services::check()?;
    Ok(host)
}

/// Raises the host, does something with it, and removes it whatever came of that.
fn on_stage(root: &Path, host: &Profile, act: impl FnOnce(&Stage) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let stage = Stage::build(root, host.name, host.number, host.seed)?;
    let done = act(&stage);
    let left = stage.dismantle();
    if !left.is_empty() {
        println!("corpus   left behind: {}", left.join(" "));
    }
    done
}

fn rehearse(root: &Path, options: &Rehearse) -> anyhow::Result<()> {
    let host = prepared(&options.host)?;
    let whats = schedule::of_test_days(host, &options.names)?;
    on_stage(root, host, |stage| {
        recording::make_tools(&stage.scenarios, &stage.world_folder().join("tools"))?;
        let running = Running::default();
        let world = World::start(stage, host.seed, host.base)?;
        let day = Day { stage, running: &running, world: &world, cycle: CYCLES, seed: host.seed, host_seed: host.seed };
        let done = recording::rehearse(&day, &whats);
        world.end();
        done
    })
}

fn record_days(stage: &Stage, host: &Profile, stockade: &Path, folder: &Path, options: &Record) -> anyhow::Result<()> {
    // A build meanwhile must not change the recorder between two days.
    let recorder = stage.world_folder().join("stockade");
    std::fs::copy(stockade, &recorder).context("cannot keep a copy of the recorder")?;
    recording::make_tools(&stage.scenarios, &stage.world_folder().join("tools"))?;
    let running = Running::default();
    let world = World::start(stage, host.seed, host.base)?;
    for cycle in options.cycles.0..=options.cycles.1 {
        let _shared = options.lock.as_deref().map(share).transpose()?;
        let seed = host.seed * 1000 + u64::from(cycle);
        let day = Day { stage, running: &running, world: &world, cycle, seed, host_seed: host.seed };
        let cycle = recording::record(&day, host, &recorder, folder)?;
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

/// Waits for the next moment at which days begin, until the lock can be had then.
fn share(lock: &Path) -> anyhow::Result<std::fs::File> {
    const EVERY_NS: u64 = (schedule::SECONDS + 20) * 1_000_000_000;
    let file = std::fs::File::create(lock).with_context(|| format!("cannot open {}", lock.display()))?;
    loop {
        let now = recording::boot_now();
        std::thread::sleep(std::time::Duration::from_nanos(EVERY_NS - now % EVERY_NS));
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => (),
            Err(error) => bail!("cannot share {}: {error}", lock.display()),
        }
    }
}
