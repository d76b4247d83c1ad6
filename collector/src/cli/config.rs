//! `stockade config`

use clap::Subcommand;

use super::{Common, Exit, Output, table};

/// Check or show the configuration.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Says what is wrong with it, or nothing.
    Check,
    /// Every setting in force, defaults included.
    Show,
}

pub fn run(common: &Common, command: Command) -> anyhow::Result<Exit> {
    let config = common.config()?;
    match (command, common.output) {
        (Command::Check, _) => table::say("the configuration is fine")?,
        (Command::Show, Output::Table) => table::say(toml::to_string_pretty(&config)?.trim_end())?,
        (Command::Show, output) => table::json(output, &config)?,
    }
    Ok(Exit::Fine)
}
