//! Every chore of this repository.

mod bench;
mod bpf;
mod corpus;
mod datasets;
mod eval;
mod fuzz;
mod kafka;
mod notebooks;
mod run;
mod setup;
mod syscalls;
mod test;
mod tidy;
mod vm;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};

/// Every chore of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Find or install what a purpose needs; says what, how large and how long first.
    Setup(setup::Options),
    /// Build the kernel object.
    Bpf(bpf::Options),
    /// Set up, build and run `stockade` with the arguments after `--`.
    Run(run::Options),
    /// Set up and run every test; says what was skipped and why.
    Test,
    /// The tests on other kernels, in guests.
    Vm(vm::Options),
    /// Generate the syscall tables of every architecture.
    Syscalls(syscalls::Options),
    /// Check dependency arrows, file sizes and where some names may stand.
    Tidy,
    /// A real broker on this machine.
    #[command(subcommand)]
    Kafka(kafka::KafkaCommand),
    /// Record the corpus, or make journals of it.
    #[command(subcommand)]
    Corpus(corpus::Command),
    /// Every parser of outside bytes under a fuzzer.
    Fuzz(fuzz::Options),
    /// Measure.
    Bench(bench::Options),
    /// Public sets: list or fetch.
    #[command(subcommand)]
    Datasets(datasets::Datasets),
    /// What does it find, how soon, at how many false findings a day? From the recorded corpus.
    Eval(eval::Options),
    /// Run the notebooks.
    Notebooks(notebooks::Options),
}

fn main() -> ExitCode {
    match run_chore(Cli::parse().chore, &root()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_chore(chore: Chore, root: &Path) -> anyhow::Result<()> {
    match chore {
        Chore::Setup(options) => setup::setup(&options),
        Chore::Bpf(options) => bpf::bpf(root, &options),
        Chore::Run(options) => run::run(root, &options),
        Chore::Test => test::test(root),
        Chore::Vm(options) => vm::vm(root, &options),
        Chore::Syscalls(options) => syscalls::syscalls(root, &options),
        Chore::Tidy => tidy::tidy(root),
        Chore::Kafka(command) => kafka::run(command),
        Chore::Corpus(command) => corpus::corpus(root, &command),
        Chore::Fuzz(options) => fuzz::fuzz(root, &options),
        Chore::Bench(options) => bench::bench(root, &options),
        Chore::Datasets(what) => datasets::datasets(root, &what),
        Chore::Eval(options) => eval::eval(root, &options),
        Chore::Notebooks(options) => notebooks::notebooks(root, &options),
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    own.parent().map(Path::to_path_buf).unwrap_or(own)
}

/// The cargo that runs this, with what it told us about our own build taken away again.
fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Runs a command to its end.
fn must(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// What a command prints, trimmed; `None` when it fails or is not there.
fn told(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
