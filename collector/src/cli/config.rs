//! `stockade config`

use clap::Subcommand;

use super::{Common, Exit, Output};

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
        (Command::Check, _) => println!("the configuration is fine"),
        (Command::Show, Output::Table) => print!("{}", toml::to_string_pretty(&config)?),
        (Command::Show, Output::Json) => println!("{}", serde_json::to_string_pretty(&config)?),
        (Command::Show, Output::Jsonl) => println!("{}", serde_json::to_string(&config)?),
    }
    Ok(Exit::Fine)
}
