//! The command line: one file a command, every answer as a table or as JSON.

pub mod baseline;
mod config;
mod decisions;
mod disarm;
pub mod doctor;
mod events;
mod exit;
pub mod findings;
pub mod marks;
mod mode;
pub mod printable;
mod record;
pub mod replay;
mod run;
pub mod status;
mod table;
mod top;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use exit::Exit;
pub use replay::text as replay_text;

use crate::api::client::{Client, ClientError};
use crate::config::Config;

/// Watches workloads from inside the kernel, learns what is normal, fences off what is not.
#[derive(Debug, Parser)]
#[command(name = "stockade", version, after_help = exit::HELP)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// How to print: for people, or for machines.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Configuration file [default: /etc/stockade/stockade.toml, if it is there].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Socket of the agent [default: as configured].
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Jsonl,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent: watch, learn, report. Denies nothing until a workload is set to enforcing.
    Run,
    /// Show the whole path on a real workload and a real intrusion, in a cgroup and network namespace of its own.
    Demo(crate::demo::Options),
    /// What this kernel can do, what is off, why, and the remedy.
    Doctor,
    /// How the agent is: ledger, workloads, findings, feeds, cost.
    Status,
    /// Workloads by how much they do.
    Top,
    /// Events as they come.
    Events(events::Options),
    /// What was found.
    #[command(subcommand)]
    Findings(findings::Command),
    /// What people said about findings: that they are fine, or were attacks.
    #[command(subcommand)]
    Marks(marks::Command),
    /// What is denied.
    #[command(subcommand)]
    Decisions(decisions::Command),
    /// Learning, monitoring, enforcing.
    #[command(subcommand)]
    Mode(mode::Command),
    /// What was learnt.
    #[command(subcommand)]
    Baseline(baseline::Command),
    /// Write kernel records to a file, without judging them.
    Record(record::Options),
    /// Run a recorded file through the pipeline, without privileges.
    Replay(replay::Options),
    /// Remove every denial, with or without a running agent.
    Disarm,
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(config::Command),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What could not be done; [`Exit::of`] gives its exit code.
    pub fn run(self) -> anyhow::Result<Exit> {
        match self.carry_out() {
            Err(error) if error.is::<table::Unread>() => Ok(Exit::Fine),
            result => result,
        }
    }

    fn carry_out(self) -> anyhow::Result<Exit> {
        let common = self.common;
        match self.command {
            Command::Run => run::run(&common),
            Command::Demo(options) => crate::demo::run(&options),
            Command::Doctor => doctor::run(&common),
            Command::Status => status::run(&common),
            Command::Top => top::run(&common),
            Command::Events(options) => events::run(&common, &options),
            Command::Findings(command) => findings::run(&common, command),
            Command::Marks(command) => marks::run(&common, command),
            Command::Decisions(command) => decisions::run(&common, command),
            Command::Mode(command) => mode::run(&common, command),
            Command::Baseline(command) => baseline::run(&common, command),
            Command::Record(options) => record::run(&common, &options),
            Command::Replay(options) => replay::run(&common, &options),
            Command::Disarm => disarm::run(&common),
            Command::Config(command) => config::run(&common, command),
        }
    }
}

impl Common {
    /// The configuration.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config::load(self.config.as_deref())?;
        if let Some(socket) = &self.socket {
            config.agent.socket.clone_from(socket);
        }
        Ok(config)
    }

    /// A connection to the agent.
    ///
    /// # Errors
    ///
    /// When no agent answers.
    pub fn client(&self) -> anyhow::Result<Client> {
        let socket = self.config()?.agent.socket;
        Client::connect(&socket).map_err(|error: ClientError| error.into())
    }
}
