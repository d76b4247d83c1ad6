//! `stockade demo`: a real workload, a real intrusion, a real denial, in its own cgroup and network namespace.
//!
//! ```text
//! stage: cgroups, network namespace, folders ─► shop: programs ─► handle: the agent, a process of its own
//!                          play: learn, controls, intrusion, kill, lapse ─► account: promises kept
//! ```

mod account;
pub mod handle;
pub mod play;
pub mod shop;
pub mod stage;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::cli::Exit;
use crate::config::Config;
use crate::loader::{Pins, mount_of_cgroup2};
use account::Account;
use handle::Agent;
use play::Play;
use stage::Stage;

/// How often the demo's clock is faster than real while it learns: a minute is a week.
pub const CLOCK_FACTOR: u64 = 10_080;
/// A denial's deadline in the demo.
const TTL: u64 = 30;
/// The quiet time that makes a baseline ready, on the demo's clock: 15 s of real time.
const QUIET: u64 = 15 * CLOCK_FACTOR;
/// How long it may take to become ready.
pub const LEARNING_PATIENCE: Duration = Duration::from_secs(110);

/// How to run the demo.
#[derive(Debug, Args)]
pub struct Options {
    /// Play the recorded run, even where the kernel part could run.
    #[arg(long)]
    recorded: bool,
    /// Keep the kernel's records in this file, for `stockade replay`.
    #[arg(long, value_name = "FILE")]
    record: Option<std::path::PathBuf>,
}

/// Runs the demo. [`Exit::Attention`] when a promised step failed.
///
/// # Errors
///
/// When the stage cannot be built.
pub fn run(options: &Options) -> anyhow::Result<Exit> {
    if let Some(why) = cannot_run() {
        println!("host     {why}");
        return recorded();
    }
    if options.recorded {
        return recorded();
    }
    let mount = mount_of_cgroup2().context("no cgroup v2 hierarchy is mounted")?;
    println!("scope    only a cgroup and a network namespace of the demo's own; nothing else can be denied");
    let mut stage = Stage::build(&mount)?;
    let played = play(&mut stage, options.record.as_deref());
    let mut account = match played {
        Ok(account) => account,
        Err(error) => {
            let mut account = Account::default();
            let log = std::fs::read_to_string(stage.layout.root.join("agent.log")).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(8).collect();
            last.iter().rev().for_each(|line| println!("agent    {line}"));
            account.promise("DEMO", false, format!("{error:#}"));
            account
        }
    };
    let left_pinned = disarm(&stage.layout.root);
    let mut left = stage.dismantle();
    left.extend(left_pinned);
    let programs = crate::loader::own_programs();
    account.promise(
        "CLEAN",
        left.is_empty() && programs == 0,
        format!(
            "left behind: {programs} programs, {} files, cgroups, namespaces or pins {}",
            left.len(),
            left.join(" ")
        ),
    );
    Ok(if account.close() { Exit::Fine } else { Exit::Attention })
}

fn play(stage: &mut Stage, record: Option<&Path>) -> anyhow::Result<Account> {
    let config = write_config(stage, record)?;
    let agent = Agent::start(&config, &stage.layout.root.join("agent.log"))?;
    let mut play = Play::begin(stage, agent)?;
    play.learn(CLOCK_FACTOR, LEARNING_PATIENCE)?;
    play.monitor()?;
    play.controls()?;
    if let Some(intrusion) = play.intrude()? {
        play.unlearn(&intrusion)?;
        play.kill_and_lapse(&intrusion)?;
    }
    Ok(play.account)
}

/// Writes the agent's configuration for a stage.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_config(stage: &Stage, record: Option<&Path>) -> anyhow::Result<std::path::PathBuf> {
    let root = &stage.layout.root;
    let bpffs = root.join("bpf");
    std::fs::create_dir_all(&bpffs)?;
    let mut config = Config::default();
    config.agent.state_dir = root.join("state");
    config.agent.socket = root.join("agent.sock");
    config.agent.clock_factor = CLOCK_FACTOR as f64;
    config.agent.record = record.map(Path::to_path_buf);
    config.scope.cgroup = Some(stage.watched.clone());
    config.kernel.bpffs = bpffs;
    config.kernel.window_age_ms = 500;
    config.policy.ttl_seconds = TTL;
    config.policy.quiet_seconds = QUIET;
    config.policy.test = true;
    let path = root.join("demo.toml");
    std::fs::write(&path, toml::to_string(&config)?)?;
    Ok(path)
}

/// Removes what the killed agent left pinned, by the command that people use. Returns what is left.
pub fn disarm(root: &Path) -> Vec<String> {
    let bpffs = root.join("bpf");
    if !Pins::is_mounted(&bpffs) {
        return Vec::new();
    }
    let own = std::env::current_exe().unwrap_or_default();
    let told = std::process::Command::new(own).args(["disarm", "--config"]).arg(root.join("demo.toml")).output();
    println!(
        "         {}",
        told.map(|told| String::from_utf8_lossy(&told.stdout).trim().to_owned()).unwrap_or_default()
    );
    let mut left: Vec<String> = Pins::at(&bpffs).names().into_iter().map(|name| format!("pin {name}")).collect();
    if let Err(error) = rustix::mount::unmount(&bpffs, rustix::mount::UnmountFlags::empty()) {
        left.push(format!("mount {}: {error}", bpffs.display()));
    }
    left
}

/// Why the kernel part cannot run here.
fn cannot_run() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root: the kernel part needs it (sudo stockade demo)".to_owned());
    }
    if crate::loader::OBJECT.is_empty() {
        return Some("this binary was built without kernel programs (cargo xtask bpf)".to_owned());
    }
    if mount_of_cgroup2().is_none() {
        return Some("no cgroup v2 hierarchy is mounted".to_owned());
    }
    if let Some(obstacle) = crate::loader::privilege::obstacle() {
        return Some(format!("the kernel part cannot run: {obstacle}"));
    }
    if crate::loader::bpf_works() {
        return None;
    }
    Some("this kernel refuses BPF programs; see `stockade doctor`".to_owned())
}

/// The recorded run that is shipped: learning, controls and the intrusion, up to the kill.
pub fn recorded_run() -> impl std::io::Read {
    static RUN: &[u8] = include_bytes!("../../data/demo.stk.gz");
    flate2::read::GzDecoder::new(RUN)
}

/// The configuration that it was recorded with.
pub fn recorded_config() -> Config {
    let mut config = Config::default();
    config.policy.ttl_seconds = TTL;
    config.policy.quiet_seconds = QUIET;
    config.policy.test = true;
    config
}

/// Plays a recorded run through the same pipeline, from decode to policy.
fn recorded() -> anyhow::Result<Exit> {
    println!(
        "recorded what follows was recorded earlier on another machine and is judged again here; nothing is denied"
    );
    let config = recorded_config();
    let replayed = crate::replay::run::replay_from(recorded_run(), &config, config.params(), true)?;
    println!("{}", crate::cli::replay_text(&replayed));
    let mut account = Account::default();
    account.promise(
        "FINDING",
        !replayed.findings.is_empty(),
        format!("{} findings from the recorded intrusion", replayed.findings.len()),
    );
    account.promise(
        "DECISION",
        !replayed.decisions.is_empty(),
        format!("{} decisions would have been made", replayed.decisions.len()),
    );
    account.tell("NOT SHOWN", "denial, kill -9 and lapse need the kernel part");
    Ok(if account.close() { Exit::Fine } else { Exit::Attention })
}
