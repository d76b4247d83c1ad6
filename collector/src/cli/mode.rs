//! `stockade mode`

use clap::{Subcommand, ValueEnum};

use super::baseline;
use super::decisions::seconds;
use super::{Common, Exit};
use crate::api::protocol::Request;
use crate::policy::mode::Mode;
use crate::policy::would::WouldDeny;

/// Learning, monitoring, enforcing.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Modes of all workloads.
    List,
    /// Change a workload's mode.
    Set {
        /// As `stockade baseline status` names it.
        workload: String,
        /// New mode.
        mode: ModeName,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
        /// Falls back after this time: `10m`, `8h`.
        #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
        for_seconds: Option<u64>,
        /// Even if the baseline is not ready.
        #[arg(long)]
        force: bool,
    },
}

/// A mode by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ModeName {
    /// Everything is normal by definition.
    Learning,
    /// Judged; would-be denials are counted.
    Monitoring,
    /// Automatic decisions deny.
    Enforcing,
}

pub fn run(common: &Common, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::List => baseline::run(common, baseline::Command::Status),
        Command::Set { workload, mode, reason, for_seconds, force } => {
            let mode = match mode {
                ModeName::Learning => Mode::Learning,
                ModeName::Monitoring => Mode::Monitoring,
                ModeName::Enforcing => Mode::Enforcing,
            };
            let request = Request::SetMode { workload, mode, reason, for_seconds, force };
            let known: Option<WouldDeny> = common.client()?.ask(request)?;
            // It goes where people look, not into what programs read.
            if let Some(known) = known {
                eprintln!("while it was monitored: {known}");
            }
            Ok(Exit::Fine)
        }
    }
}
